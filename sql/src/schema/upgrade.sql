-- Bringing the schema of an older version up to date, after the functions have been replaced.

-- Called by `update functions` with the version the node had. Locks: those of what it changes. Event: none. Returns p_old.
create or replace function @NAMESPACE@.upgradeSchema(p_old text) returns text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_major integer := split_part(p_old, '.', 1)::integer;
    v_minor integer := split_part(p_old, '.', 2)::integer;
begin
    if v_major < 2 then
        raise exception 'Upgrading from version % is not possible', p_old
            using hint = 'uninstall the node and subscribe it again';
    end if;
    if v_major = 2 and v_minor < 2 then
        if not @NAMESPACE@.check_unconfirmed_log() then
            raise exception 'cannot upgrade to the log format of version 2.2: there are unconfirmed rows in the log tables'
                using hint = 'stop the applications, let every subscriber catch up, then run `update functions` again';
        end if;
        raise exception 'Upgrading from version % is not possible', p_old
            using hint = 'bring the node to Slony-I 2.2.11 first, then run `update functions`';
    end if;
    perform @NAMESPACE@.upgradeSchemaAddTruncateTriggers();
    return p_old;
end
$trunkline$;

-- Gives replicated tables that lack them the two triggers on TRUNCATE (nodes of versions before 2.1).
-- Locks: access exclusive on those tables. Event: none. Returns how many tables got them.
create or replace function @NAMESPACE@.upgradeSchemaAddTruncateTriggers() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_row record;
    v_count integer := 0;
begin
    for v_row in
        select t.tab_id
          from @NAMESPACE@.sl_table t
         where not exists (select 1 from pg_trigger g
                            where g.tgrelid = t.tab_reloid
                              and g.tgname = @NAMESPACE@.tl_object_name('', '_truncatetrigger'))
         order by t.tab_id
    loop
        perform @NAMESPACE@.alterTableDropTriggers(v_row.tab_id);
        perform @NAMESPACE@.alterTableAddTriggers(v_row.tab_id);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$trunkline$;

-- Adds a column to a table if it is not there. Locks: access exclusive on the table if so. Event: none. Returns whether it did.
create or replace function @NAMESPACE@.add_missing_table_field(p_namespace text, p_table text, p_field text, p_type text) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if @NAMESPACE@.check_table_field_exists(p_namespace, p_table, p_field) then
        return false;
    end if;
    execute format('alter table %I.%I add column %I %s', p_namespace, p_table, p_field, p_type);
    return true;
end
$trunkline$;

-- Whether a table has a column. Locks: none. Event: none.
create or replace function @NAMESPACE@.check_table_field_exists(p_namespace text, p_table text, p_field text) returns boolean
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select exists (
        select 1
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = p_namespace and c.relname = p_table and a.attname = p_field
           and a.attnum > 0 and not a.attisdropped)
$trunkline$;

-- Whether every row of the log has been confirmed by every node. Locks: none. Event: none.
create or replace function @NAMESPACE@.check_unconfirmed_log() returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_row record;
    v_oldest bigint;
begin
    for v_row in
        select c.con_origin, min(c.newest) as confirmed
          from (select con_origin, con_received, max(con_seqno) as newest
                  from @NAMESPACE@.sl_confirm group by con_origin, con_received) c
         group by c.con_origin
    loop
        select txid_snapshot_xmin(ev_snapshot) into v_oldest
          from @NAMESPACE@.sl_event
         where ev_origin = v_row.con_origin and ev_seqno <= v_row.confirmed and ev_type = 'SYNC'
         order by ev_seqno desc limit 1;
        if exists (select 1 from @NAMESPACE@.sl_log_1 where log_origin = v_row.con_origin and log_txid >= coalesce(v_oldest, 0))
            or exists (select 1 from @NAMESPACE@.sl_log_2 where log_origin = v_row.con_origin and log_txid >= coalesce(v_oldest, 0))
        then
            return false;
        end if;
    end loop;
    return true;
end
$trunkline$;
