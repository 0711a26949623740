-- Two log tables take turns: one is written, the other is emptied by TRUNCATE once everybody has its rows.
-- sl_log_status: 0 and 2 write sl_log_1, 1 and 3 write sl_log_2; 2 and 3: the other one still holds rows to be read.
--
-- The status is a sequence, so a switch is seen at once by everybody, also by transactions that run already. One of them may have
-- read it just before and write to the old table just after. All such transactions have an id (capture gives them one before it
-- reads the status) and hold the lock on it, so it is enough to note the highest one after the switch and to wait until none of up
-- to there runs: sl_registry key `logswitch.boundary`, reg_int4 the status it belongs to, reg_text the id after the highest.
-- (The xmax of a snapshot would not do: it is the id after the last *finished* one, and says nothing of those running.)
--
-- How far back the log reaches is told by sl_registry key `logswitch.emptied`: all rows of transactions with this id and later are
-- there. What it will become with the switch that is going on is kept in `logswitch.passing`, reg_int4 the status that belongs to.

-- Starts a switch. Returns 2 if sl_log_2 is written from now on, 1 if sl_log_1. An error while one is going on.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.logswitch_start() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_status int8;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    if v_status in (2, 3) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Previous logswitch still in progress',
            hint = 'The old log table is truncated by logswitch_finish() when every node has confirmed its rows.';
    end if;
    if v_status = 0 then
        perform setval(@REGCLASS:sl_log_status@, 3);
    else
        perform setval(@REGCLASS:sl_log_status@, 2);
    end if;
    perform @NAMESPACE@.registry_set_timestamp('logswitch.laststart', now());
    perform @NAMESPACE@.tl_remember_switch((3 - v_status)::int4);
    if v_status = 0 then
        raise notice 'Slony-I: Logswitch to sl_log_2 initiated';
        return 2;
    end if;
    raise notice 'Slony-I: Logswitch to sl_log_1 initiated';
    return 1;
end
$trunkline$;

-- Ids of the transactions of this database, running or prepared, other than our own. Not from a snapshot: it looks at the locks, now.
create or replace function @NAMESPACE@.tl_running_transactions() returns setof bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_own int8 := txid_current();
    v_database oid := (select d.oid from pg_database d where d.datname = current_database());
begin
    -- The locks show the low 32 bits; every running id is less than half their range away from ours.
    return query
    select v_own + ((running.xid - v_own + 2147483648) & 4294967295) - 2147483648
    from (
        select l.transactionid::text::int8 as xid
        from pg_locks l
        cross join lateral pg_stat_get_activity(l.pid) a
        where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
          and l.pid <> pg_backend_pid() and a.datid = v_database
        union all
        select p.transaction::text::int8 from pg_prepared_xacts p where p.database = current_database()
    ) as running;
end
$trunkline$;

-- Notes which transactions may have read the status before it became this one.
create or replace function @NAMESPACE@.tl_remember_switch(p_status integer) returns void
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    insert into @NAMESPACE@.sl_registry (reg_key, reg_int4, reg_text)
    select 'logswitch.boundary', p_status, (coalesce(max(r.xid), 0) + 1)::text
    from @NAMESPACE@.tl_running_transactions() as r (xid)
    on conflict (reg_key) do update set reg_int4 = excluded.reg_int4, reg_text = excluded.reg_text;

    -- No transaction with this id or a later one writes to the old table: those that run are below the boundary, those that have
    -- finished below the snapshot's xmax.
    insert into @NAMESPACE@.sl_registry (reg_key, reg_int4, reg_text)
    select 'logswitch.passing', p_status, greatest(r.reg_text::int8, txid_snapshot_xmax(txid_current_snapshot()))::text
    from @NAMESPACE@.sl_registry r
    where r.reg_key = 'logswitch.boundary'
    on conflict (reg_key) do update set reg_int4 = excluded.reg_int4, reg_text = excluded.reg_text
$trunkline$;

-- Notes that rows have gone from the log: it reaches back to transaction p_from. Null: to those that have yet to begin.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_noteLogEmptied(p_from bigint) returns void
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    insert into @NAMESPACE@.sl_registry (reg_key, reg_text)
    select 'logswitch.emptied', greatest(p_from, e.reg_text::int8, case when p_from is null then f.next end)::text
    from (select greatest(max(r.xid) + 1, txid_current() + 1) as next from @NAMESPACE@.tl_running_transactions() as r (xid)) f
    left join @NAMESPACE@.sl_registry e on e.reg_key = 'logswitch.emptied'
    on conflict (reg_key) do update set reg_text = excluded.reg_text
$trunkline$;

-- What has gone from a log before this was noted nobody knows.
insert into @NAMESPACE@.sl_registry (reg_key, reg_text)
select 'logswitch.emptied', txid_current() + 1
where not exists (select from @NAMESPACE@.sl_registry r where r.reg_key = 'logswitch.emptied');

-- Ends a switch, if all rows of the old table are with everybody and nobody can still write to it. Returns 0 if there is no switch,
-- -1 if it must go on, 1 after truncating sl_log_2, 2 after truncating sl_log_1.
-- Locks: config lock; ACCESS EXCLUSIVE on the old log table, without waiting. Event: none.
create or replace function @NAMESPACE@.logswitch_finish() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_status int8;
    v_boundary int8;
    v_origin record;
    v_pending bool := false;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    if v_status in (0, 1) then
        return 0;
    end if;

    select r.reg_text::int8 into v_boundary
    from @NAMESPACE@.sl_registry r
    where r.reg_key = 'logswitch.boundary' and r.reg_int4 = v_status;
    if not found then
        perform @NAMESPACE@.tl_remember_switch(v_status::int4);
        raise notice 'Slony-I: log switch to sl_log_% still in progress - transactions older than the switch may be running', v_status - 1;
        return -1;
    end if;
    if exists (select from @NAMESPACE@.tl_running_transactions() as r (xid) where r.xid < v_boundary) then
        raise notice 'Slony-I: log switch to sl_log_% still in progress - transactions older than the switch are running', v_status - 1;
        return -1;
    end if;

    -- A node's rows are needed as long as its oldest SYNC kept does not have them. Our own rows before our first SYNC
    -- have not been announced to anybody.
    for v_origin in
        select n.no_id as origin, oldest.ev_snapshot as snapshot
        from @NAMESPACE@.sl_node n
        cross join lateral (
            select e.ev_snapshot
            from @NAMESPACE@.sl_event e
            where e.ev_origin = n.no_id and e.ev_type = 'SYNC'
            order by e.ev_seqno
            limit 1
        ) as oldest
    loop
        v_pending := v_pending or case v_status
            when 2 then exists (
                select from @NAMESPACE@.sl_log_2 l
                where l.log_origin = v_origin.origin
                  and l.log_txid >= txid_snapshot_xmin(v_origin.snapshot)
                  and not txid_visible_in_snapshot(l.log_txid, v_origin.snapshot)
            )
            else exists (
                select from @NAMESPACE@.sl_log_1 l
                where l.log_origin = v_origin.origin
                  and l.log_txid >= txid_snapshot_xmin(v_origin.snapshot)
                  and not txid_visible_in_snapshot(l.log_txid, v_origin.snapshot)
            )
        end;
    end loop;
    if not exists (
        select from @NAMESPACE@.sl_event e
        where e.ev_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@) and e.ev_type = 'SYNC'
    ) then
        v_pending := v_pending or case v_status
            when 2 then exists (select from @NAMESPACE@.sl_log_2 l where l.log_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@))
            else exists (select from @NAMESPACE@.sl_log_1 l where l.log_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@))
        end;
    end if;
    if v_pending then
        raise notice 'Slony-I: log switch to sl_log_% still in progress - sl_log_% not truncated', v_status - 1, 4 - v_status;
        return -1;
    end if;

    begin
        if v_status = 2 then
            lock table @NAMESPACE@.sl_log_2 in access exclusive mode nowait;
        else
            lock table @NAMESPACE@.sl_log_1 in access exclusive mode nowait;
        end if;
    exception when lock_not_available then
        raise notice 'Slony-I: could not lock sl_log_% - sl_log_% not truncated', 4 - v_status, 4 - v_status;
        return -1;
    end;

    perform @NAMESPACE@.tl_noteLogEmptied(
        (select r.reg_text::int8 from @NAMESPACE@.sl_registry r where r.reg_key = 'logswitch.passing' and r.reg_int4 = v_status)
    );
    delete from @NAMESPACE@.sl_registry where reg_key in ('logswitch.boundary', 'logswitch.passing');
    if v_status = 2 then
        raise notice 'Slony-I: log switch to sl_log_1 complete - truncate sl_log_2';
        truncate @NAMESPACE@.sl_log_2;
        perform setval(@REGCLASS:sl_log_status@, 0);
        perform @NAMESPACE@.addPartialLogIndices();
        return 1;
    end if;
    raise notice 'Slony-I: log switch to sl_log_2 complete - truncate sl_log_1';
    truncate @NAMESPACE@.sl_log_1;
    perform setval(@REGCLASS:sl_log_status@, 1);
    perform @NAMESPACE@.addPartialLogIndices();
    return 2;
end
$trunkline$;

-- One partial index per set origin on the log table that is not written now; indexes of nodes that originate nothing any more go.
-- Returns how many were made or dropped, 0 during a switch, when both tables are in use.
-- Locks: config lock; SHARE (ACCESS EXCLUSIVE to drop) on the unused log table. Event: none.
create or replace function @NAMESPACE@.addPartialLogIndices() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_status int8;
    v_log name;
    v_origin record;
    v_index record;
    v_wanted name[] := '{}';
    v_changes int4 := 0;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    if v_status in (2, 3) then
        return 0;
    end if;
    v_log := case v_status when 0 then 'sl_log_2' else 'sl_log_1' end;
    for v_origin in
        select distinct s.set_origin as node,
               @NAMESPACE@.tl_object_name('PartInd', format('_%s-node-%s', v_log, s.set_origin)) as index_name
        from @NAMESPACE@.sl_set s
        order by 1
    loop
        v_wanted := v_wanted || v_origin.index_name;
        if not exists (
            select from pg_index x
            join pg_class i on i.oid = x.indexrelid
            join pg_class t on t.oid = x.indrelid
            where t.relnamespace = (select n.oid from pg_namespace n where n.nspname = @CLUSTER@) and t.relname = v_log and i.relname = v_origin.index_name
        ) then
            execute format(
                'create index %I on %I.%I (log_txid) where (log_origin = %s)', v_origin.index_name, @CLUSTER@, v_log, v_origin.node
            );
            v_changes := v_changes + 1;
        end if;
    end loop;
    for v_index in
        select i.relname
        from pg_index x
        join pg_class i on i.oid = x.indexrelid
        join pg_class t on t.oid = x.indrelid
        where t.relnamespace = (select n.oid from pg_namespace n where n.nspname = @CLUSTER@)
          and t.relname = v_log
          and i.relname like 'PartInd%'
          and i.relname <> all (v_wanted)
    loop
        execute format('drop index %I.%I', @CLUSTER@, v_index.relname);
        v_changes := v_changes + 1;
    end loop;
    return v_changes;
end
$trunkline$;
