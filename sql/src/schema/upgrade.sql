-- Upgrades of a schema from an older version.

-- Brings the tables of an older schema up to date; called by `update functions` after the functions were replaced. Returns the old
-- version. Schemas from 2.2 on have the same tables; older ones keep their log in another form.
create or replace function @NAMESPACE@.upgradeSchema(p_old pg_catalog.text) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if string_to_array(substring(p_old from '^[0-9]+[.][0-9]+'), '.')::int4[] < '{2,2}'::int4[] then
        raise exception using
            errcode = 'feature_not_supported',
            message = format('the cluster schema is of version %s, which cannot be upgraded directly', p_old),
            hint = 'Upgrade the cluster to Slony-I 2.2 with its own tools first.';
    end if;
    return p_old;
end
$trunkline$;

-- Gives replicated tables the triggers for TRUNCATE that very old schemas did not have. Returns 1.
create or replace function @NAMESPACE@.upgradeSchemaAddTruncateTriggers() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table record;
begin
    for v_table in
        select t.tab_id, t.tab_reloid::regclass::text as fqname
        from @NAMESPACE@.sl_table t
        where not exists (
            select from pg_trigger g
            where g.tgrelid = t.tab_reloid and g.tgname = @NAMESPACE@.tl_object_name('', '_truncatetrigger')
        )
    loop
        perform @NAMESPACE@.alterTableAddTruncateTrigger(v_table.fqname, v_table.tab_id);
        perform @NAMESPACE@.alterTableConfigureTriggers(v_table.tab_id);
    end loop;
    return 1;
end
$trunkline$;

-- Does a table have a column?
create or replace function @NAMESPACE@.check_table_field_exists(
    p_namespace pg_catalog.text,
    p_table pg_catalog.text,
    p_field pg_catalog.text
) returns boolean
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select exists (
        select from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid
        where n.nspname = p_namespace and c.relname = p_table and a.attname = p_field and a.attnum > 0 and not a.attisdropped
    )
$trunkline$;

-- Adds a column unless it is there. True if it was added.
create or replace function @NAMESPACE@.add_missing_table_field(
    p_namespace pg_catalog.text,
    p_table pg_catalog.text,
    p_field pg_catalog.text,
    p_type pg_catalog.text
) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if @NAMESPACE@.check_table_field_exists(p_namespace, p_table, p_field) then
        return false;
    end if;
    raise notice 'Upgrade table %.% - add field %', p_namespace, p_table, p_field;
    -- The type is an expression (`numeric(5,2)`), not a name; whoever may run this may run ALTER TABLE himself.
    execute format('alter table %I.%I add column %I ', p_namespace, p_table, p_field) || p_type;
    return true;
end
$trunkline$;

-- Are there log rows that some node has not confirmed yet? Looks at each origin's newest SYNC that everybody has.
create or replace function @NAMESPACE@.check_unconfirmed_log() returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_node record;
    v_snapshot txid_snapshot;
begin
    for v_node in
        select n.no_id as origin,
               (
                   select min(newest.seqno)
                   from (
                       select max(c.con_seqno) as seqno
                       from @NAMESPACE@.sl_confirm c
                       where c.con_origin = n.no_id
                       group by c.con_received
                   ) as newest
               ) as confirmed
        from @NAMESPACE@.sl_node n
    loop
        -- a node alone has nobody to confirm
        continue when v_node.confirmed is null;
        select e.ev_snapshot into v_snapshot
        from @NAMESPACE@.sl_event e
        where e.ev_origin = v_node.origin and e.ev_type = 'SYNC' and e.ev_seqno <= v_node.confirmed
        order by e.ev_seqno desc
        limit 1;
        if exists (
            select from (
                select l.log_txid from @NAMESPACE@.sl_log_1 l
                where l.log_origin = v_node.origin and l.log_txid >= coalesce(txid_snapshot_xmin(v_snapshot), 0)
                union all
                select l.log_txid from @NAMESPACE@.sl_log_2 l
                where l.log_origin = v_node.origin and l.log_txid >= coalesce(txid_snapshot_xmin(v_snapshot), 0)
            ) as recent
            where v_snapshot is null or not txid_visible_in_snapshot(recent.log_txid, v_snapshot)
        ) then
            return true;
        end if;
    end loop;
    return false;
end
$trunkline$;
