-- The order of the log where triggers and functions write to a table while a statement on the same table is under way.
--
-- Both kinds of log triggers run at the end of a statement, so the changes of a statement inside another are logged before those of
-- the outer one, although some of them were made later. Whoever logs a change and cannot rule that out says so with
-- tl_capture_doubt(). When the transaction commits, tl_settle_capture() looks at the log rows this transaction wrote for the table.
-- If any row was changed twice, or if a unique value can have passed from one row to another, it replaces them: a delete of every
-- row that was there before, then an insert of every row that is there now. That is right whatever the order was.

-- Registers the table for tl_settle_capture(), once per transaction: the setting `p_memory` says whether that was done.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_capture_doubt(p_tab_id integer, p_memory pg_catalog.text) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if current_setting(p_memory, true) = '-1' then
        return;
    end if;
    -- The application may have said `set constraints all immediate`.
    set constraints @NAMESPACE@.tl_settle_capture deferred;
    insert into @NAMESPACE@.tl_capture_doubt (cd_tab_id, cd_txid) values (p_tab_id, txid_current());
    perform set_config(p_memory, '-1', true);
end
$trunkline$;

-- Name of the setting in which the log functions of a table keep, for the length of a transaction, how many changes of the table
-- there were when they last logged; -1 once the table is registered for tl_settle_capture().
create or replace function @NAMESPACE@.tl_capture_memory(p_tab_id integer) returns pg_catalog.text
    language sql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select format('trunkline.c%s_%s', left(md5(@CLUSTER@), 8), p_tab_id)
$trunkline$;

-- Is a row that was changed inside a trigger possibly changed inside a statement on the same table? Called by the row trigger.
-- True if the table, or one it is a part of, has triggers of other origin or foreign keys that change further rows.
create or replace function @NAMESPACE@.tl_may_be_nested(p_table pg_catalog.oid) returns boolean
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return exists (
        with recursive parts (relation) as (
            select p_table
            union
            select h.inhparent from parts p join pg_inherits h on h.inhrelid = p.relation
        )
        select
        from parts p
        join pg_trigger g on g.tgrelid = p.relation and g.tgenabled <> 'D'
        join pg_proc f on f.oid = g.tgfoid
        where f.pronamespace <> quote_ident(@CLUSTER@)::regnamespace
          -- the checks of foreign keys only read; numbers of functions of the system never change
          and (not g.tgisinternal or f.proname in (
              'RI_FKey_cascade_del', 'RI_FKey_cascade_upd', 'RI_FKey_setnull_del', 'RI_FKey_setnull_upd',
              'RI_FKey_setdefault_del', 'RI_FKey_setdefault_upd'
          ))
    );
end
$trunkline$;

-- Puts the log rows of the transaction in order for the table registered. AFTER INSERT on tl_capture_doubt, deferred to the commit.
-- Fired earlier, by SET CONSTRAINTS inside a trigger, it registers the table again: statements are still under way.
-- SECURITY DEFINER: it runs when any application commits.
create or replace function @NAMESPACE@.tl_settle_capture() returns trigger
    language plpgsql security definer
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_memory text := @NAMESPACE@.tl_capture_memory(new.cd_tab_id);
begin
    delete from @NAMESPACE@.tl_capture_doubt d where d.cd_tab_id = new.cd_tab_id and d.cd_txid = txid_current();
    if pg_trigger_depth() > 1 then
        perform set_config(v_memory, '', true);
        perform @NAMESPACE@.tl_capture_doubt(new.cd_tab_id, v_memory);
        return null;
    end if;
    perform @NAMESPACE@.tl_order_log(new.cd_tab_id);
    perform set_config(
        v_memory,
        (
            select (pg_stat_get_xact_tuples_inserted(t.tab_reloid) + pg_stat_get_xact_tuples_updated(t.tab_reloid)
                + pg_stat_get_xact_tuples_deleted(t.tab_reloid))::text
            from @NAMESPACE@.sl_table t
            where t.tab_id = new.cd_tab_id
        ),
        true
    );
    return null;
end
$trunkline$;

drop trigger if exists tl_settle_capture on @NAMESPACE@.tl_capture_doubt;
create constraint trigger tl_settle_capture after insert on @NAMESPACE@.tl_capture_doubt
    deferrable initially deferred for each row execute procedure @NAMESPACE@.tl_settle_capture();
alter table @NAMESPACE@.tl_capture_doubt enable always trigger tl_settle_capture;

-- Puts the log in order now for everything registered so far: a script is to follow.
create or replace function @NAMESPACE@.tl_settle_captures() returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    set constraints @NAMESPACE@.tl_settle_capture immediate;
    set constraints @NAMESPACE@.tl_settle_capture deferred;
end
$trunkline$;

-- Puts the log rows of this transaction for one table in an order in which they can be applied; nothing happens where any order
-- can. Returns the number of log rows written. Reads the table by the rows' keys, so the owner of this function needs SELECT on it.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_order_log(p_tab_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
    set row_security to off
as $trunkline$
declare
    v_origin int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_txid int8 := txid_current();
    v_table regclass;
    v_index oid;
    v_key text[];
    v_match text;
    v_begin int8;
    v_log text;
    v_settings text[];
    v_rows bigint;
begin
    select c.oid, x.indexrelid, @NAMESPACE@.tl_index_columns(x.indexrelid) into v_table, v_index, v_key
    from @NAMESPACE@.sl_table t
    join pg_class c on c.oid = t.tab_reloid
    join pg_index x on x.indrelid = c.oid
    join pg_class i on i.oid = x.indexrelid and i.relname = t.tab_idxname
    where t.tab_id = p_tab_id;
    if not found then
        -- no longer replicated, or dropped by this transaction
        return 0;
    end if;

    -- What a TRUNCATE has emptied need not be repeated, and what is ahead of a script was put in order before it.
    select max(l.log_actionseq) into v_begin
    from @NAMESPACE@.tl_log l
    where l.log_origin = v_origin and l.log_txid = v_txid and l.log_tableid = p_tab_id and l.log_cmdtype = 'T';
    delete from @NAMESPACE@.sl_log_1 l
    where l.log_origin = v_origin and l.log_txid = v_txid and l.log_tableid = p_tab_id and l.log_actionseq < v_begin and l.log_cmdtype <> 'T';
    delete from @NAMESPACE@.sl_log_2 l
    where l.log_origin = v_origin and l.log_txid = v_txid and l.log_tableid = p_tab_id and l.log_actionseq < v_begin and l.log_cmdtype <> 'T';
    v_begin := greatest(
        v_begin,
        (select max(s.log_actionseq) from @NAMESPACE@.sl_log_script s where s.log_origin = v_origin and s.log_txid = v_txid),
        0
    );

    if not exists (
        select from pg_index x
        where x.indrelid = v_table and x.indexrelid <> v_index and (x.indisunique or x.indisexclusion)
    ) and not exists (
        -- rows of its children are among the log rows
        select from pg_inherits h where h.inhparent = v_table
    ) and not exists (
        select
        from @NAMESPACE@.tl_log l
        cross join lateral @NAMESPACE@.tl_keys_of_log_row(l.log_cmdtype, l.log_cmdupdncols, l.log_cmdargs, v_key) as k
        where l.log_origin = v_origin and l.log_txid = v_txid and l.log_tableid = p_tab_id and l.log_actionseq > v_begin
        group by k.key
        having count(distinct l.log_actionseq) > 1
    ) then
        return 0;
    end if;

    -- A key column was renamed by this transaction: no row could be found again, so the rows stay as they are.
    if exists (
        select
        from @NAMESPACE@.tl_log l
        cross join lateral @NAMESPACE@.tl_keys_of_log_row(l.log_cmdtype, l.log_cmdupdncols, l.log_cmdargs, v_key) as k
        where l.log_origin = v_origin and l.log_txid = v_txid and l.log_tableid = p_tab_id and l.log_actionseq > v_begin
          and not k.key operator(@HSTORE@.?&) v_key
    ) then
        return 0;
    end if;

    select string_agg(
        format('"trunkline row".%I operator(%I.%s) (k.key operator(%s.->) %L::text)::%s', a.attname, n.nspname, o.oprname, @NAMESPACE@.tl_hstore(), a.attname,
            format_type(a.atttypid, null)),
        ' and '
    ) into v_match
    from pg_index x
    cross join lateral unnest(x.indkey::int2[], x.indclass::oid[]) with ordinality as c (attnum, opclass, position)
    join pg_attribute a on a.attrelid = x.indrelid and a.attnum = c.attnum
    join pg_opclass p on p.oid = c.opclass
    join pg_amop m on m.amopfamily = p.opcfamily and m.amopmethod = p.opcmethod and m.amopstrategy = 3
        and m.amoplefttype = p.opcintype and m.amoprighttype = p.opcintype
    join pg_operator o on o.oid = m.amopopr
    join pg_namespace n on n.oid = o.oprnamespace
    where x.indexrelid = v_index and a.attname::text = any (v_key);

    v_log := case when (pg_sequence_last_value(@REGCLASS:sl_log_status@) & 1) = 0 then 'sl_log_1' else 'sl_log_2' end;
    v_settings := @NAMESPACE@.tl_settings_for_logging('search_path');
    execute format(
        $order$
        with changed as (
            select l.log_actionseq, k.key, k.change
            from %1$I.tl_log l
            cross join lateral %1$I.tl_keys_of_log_row(l.log_cmdtype, l.log_cmdupdncols, l.log_cmdargs, $5) as k
            where l.log_origin = $1 and l.log_txid = $2 and l.log_tableid = $3 and l.log_actionseq > $4
        ), removed_1 as (
            delete from %1$I.sl_log_1 l
            where l.log_origin = $1 and l.log_txid = $2 and l.log_tableid = $3 and l.log_actionseq > $4
        ), removed_2 as (
            delete from %1$I.sl_log_2 l
            where l.log_origin = $1 and l.log_txid = $2 and l.log_tableid = $3 and l.log_actionseq > $4
        ), touched as (
            select c.key, sum(c.change) as change from changed c group by c.key
        ), present as (
            select distinct on ("trunkline row".ctid)
                   %2$s.slice(%2$s.hstore("trunkline row"), $5) as key,
                   %2$s.hstore_to_array(%2$s.hstore("trunkline row")) as args
            from touched k
            join only %3$s as "trunkline row" on %4$s
        ), written as (
            select 1 as phase, 'D'::"char" as command, %2$s.hstore_to_array(k.key) as args
            from touched k
            left join present p on p.key operator(%2$s.=) k.key
            where (p.key is not null)::int4 - k.change > 0
            union all
            select 2, 'I', %1$I.tl_without_virtual_columns($8, p.args)
            from present p
            join touched k on p.key operator(%2$s.=) k.key
            order by phase
            offset 0
        )
        insert into %1$I.%5$I (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        )
        select $1, $2, $3, nextval($9), $6, $7, w.command, 0, w.args
        from written w
        $order$,
        @CLUSTER@, @NAMESPACE@.tl_hstore(), v_table, v_match, v_log
    )
    using v_origin, v_txid, p_tab_id, v_begin, v_key,
        (select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = v_table),
        (select c.relname::text from pg_class c where c.oid = v_table),
        v_table::oid, @REGCLASS:sl_action_seq@;
    get diagnostics v_rows = row_count;
    if v_settings is not null then
        perform @NAMESPACE@.tl_settings_restore(v_settings);
    end if;
    return v_rows;
end
$trunkline$;

-- Keys of the rows a log row takes away (-1) and brings (+1).
create or replace function @NAMESPACE@.tl_keys_of_log_row(
    p_command pg_catalog."char",
    p_columns integer,
    p_args pg_catalog.text[],
    p_key pg_catalog.text[]
) returns table (key @HSTORE@.hstore, change integer)
    language plpgsql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if p_command = 'I' then
        return query select @HSTORE@.slice(@HSTORE@.hstore(p_args), p_key), 1;
    elsif p_command in ('U', 'D') then
        key := @HSTORE@.hstore(p_args[2 * p_columns + 1:]);
        change := -1;
        return next;
        if p_command = 'U' then
            key := key operator(@HSTORE@.||) @HSTORE@.slice(@HSTORE@.hstore(p_args[1:2 * p_columns]), p_key);
            change := 1;
            return next;
        end if;
    end if;
end
$trunkline$;

-- Both log tables.
create or replace view @NAMESPACE@.tl_log as
select * from @NAMESPACE@.sl_log_1
union all
select * from @NAMESPACE@.sl_log_2;

-- The quoted schema of the extension hstore.
create or replace function @NAMESPACE@.tl_hstore() returns pg_catalog.text
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'hstore'
$trunkline$;
