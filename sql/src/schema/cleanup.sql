-- What every node has goes; connections of other nodes are kept account of.

-- Deletes confirmations, events, sequence values and scripts which nobody needs any more, then moves the log switch on.
-- The interval protects young confirmations. Returns 0. The caller holds the config lock only if he wants to; it is taken here.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.cleanupEvent(p_interval interval) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_pair record;
    v_origin record;
    v_keep int8;
    v_snapshot txid_snapshot;
begin
    lock table @NAMESPACE@.sl_config_lock;

    -- 1. Confirmations of nodes that are gone, and those superseded by one that is old enough.
    delete from @NAMESPACE@.sl_confirm c
    where not exists (select from @NAMESPACE@.sl_node n where n.no_id = c.con_origin)
       or not exists (select from @NAMESPACE@.sl_node n where n.no_id = c.con_received);
    for v_pair in
        select c.con_origin as origin, c.con_received as receiver, max(c.con_seqno) as seqno
        from @NAMESPACE@.sl_confirm c
        where c.con_timestamp < now() - p_interval
        group by 1, 2
    loop
        delete from @NAMESPACE@.sl_confirm c
        where c.con_origin = v_pair.origin and c.con_received = v_pair.receiver and c.con_seqno < v_pair.seqno;
    end loop;

    -- 2. Events before the newest SYNC that all nodes have confirmed. A node alone keeps its newest event.
    for v_origin in
        select n.no_id as origin,
               (select min(c.con_seqno) from @NAMESPACE@.sl_confirm c where c.con_origin = n.no_id) as confirmed
        from @NAMESPACE@.sl_node n
    loop
        v_keep := null;
        if v_origin.confirmed is not null then
            select e.ev_seqno into v_keep
            from @NAMESPACE@.sl_event e
            where e.ev_origin = v_origin.origin and e.ev_seqno <= v_origin.confirmed and e.ev_type = 'SYNC'
            order by e.ev_seqno desc
            limit 1;
        end if;
        if v_keep is not null then
            delete from @NAMESPACE@.sl_event e where e.ev_origin = v_origin.origin and e.ev_seqno < v_keep;
        end if;
    end loop;
    if not exists (select from @NAMESPACE@.sl_node n where n.no_id <> v_local) then
        delete from @NAMESPACE@.sl_event e
        where e.ev_origin = v_local
          and e.ev_seqno < (select max(newest.ev_seqno) from @NAMESPACE@.sl_event newest where newest.ev_origin = v_local);
    end if;

    -- 3. Connections that are gone.
    perform @NAMESPACE@.cleanupNodelock();

    -- 4. Sequence values and scripts before the oldest SYNC kept.
    for v_origin in
        select n.no_id as origin from @NAMESPACE@.sl_node n
    loop
        select e.ev_seqno, e.ev_snapshot into v_keep, v_snapshot
        from @NAMESPACE@.sl_event e
        where e.ev_origin = v_origin.origin and e.ev_type = 'SYNC'
        order by e.ev_seqno
        limit 1;
        if found then
            delete from @NAMESPACE@.sl_seqlog q where q.seql_origin = v_origin.origin and q.seql_ev_seqno < v_keep;
            delete from @NAMESPACE@.sl_log_script l
            where l.log_origin = v_origin.origin and l.log_txid < txid_snapshot_xmin(v_snapshot);
        end if;
    end loop;

    -- 5. What unlockSet() had to leave.
    perform @NAMESPACE@.tl_dropIdleLocks();

    -- 6. The log.
    if @NAMESPACE@.logswitch_finish() = 0 then
        perform @NAMESPACE@.logswitch_start();
    end if;
    return 0;
end
$trunkline$;

-- Removes rows of sl_nodelock whose server process is gone. Returns how many.
create or replace function @NAMESPACE@.cleanupNodelock() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_lock record;
    v_removed int4 := 0;
begin
    for v_lock in
        select l.nl_nodeid, l.nl_conncnt, l.nl_backendpid
        from @NAMESPACE@.sl_nodelock l
        where not exists (
            select from pg_stat_get_activity(null) a where a.pid = l.nl_backendpid
        )
        for update
    loop
        raise notice 'Slony-I: cleanup stale sl_nodelock entry for pid=%', v_lock.nl_backendpid;
        delete from @NAMESPACE@.sl_nodelock where nl_nodeid = v_lock.nl_nodeid and nl_conncnt = v_lock.nl_conncnt;
        v_removed := v_removed + 1;
    end loop;
    return v_removed;
end
$trunkline$;

-- Called by another node's daemon on its connection to this database, so that it can be found and ended at a failover. Returns 0.
create or replace function @NAMESPACE@.registerNodeConnection(p_nodeid integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    insert into @NAMESPACE@.sl_nodelock (nl_nodeid, nl_backendpid) values (p_nodeid, pg_backend_pid());
    return 0;
end
$trunkline$;

-- Ends the connections of a node's daemon to this database and forgets them. Returns 0. The original only forgets them, by mistake.
-- A process is ended only if it is still connected to this database, and never our own.
create or replace function @NAMESPACE@.terminateNodeConnections(p_failed_node integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_lock record;
begin
    for v_lock in
        select l.nl_nodeid, l.nl_conncnt, l.nl_backendpid
        from @NAMESPACE@.sl_nodelock l
        where l.nl_nodeid = p_failed_node
        for update
    loop
        perform @NAMESPACE@.killBackend(v_lock.nl_backendpid, 'TERM');
        delete from @NAMESPACE@.sl_nodelock where nl_nodeid = v_lock.nl_nodeid and nl_conncnt = v_lock.nl_conncnt;
    end loop;
    return 0;
end
$trunkline$;

-- Signal `NULL`: 0 if the server process is connected to this database, else -1. Signal `TERM`: ends it, with the rights of the caller
-- (own role's processes, pg_signal_backend, superuser); 0, or -1 if there is none. Anything else is an error.
create or replace function @NAMESPACE@.killBackend(p_pid integer, p_signame pg_catalog.text) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if p_signame not in ('NULL', 'TERM') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('Slony-I: killBackend(): signal `%s` is not supported', p_signame),
            hint = 'Signals are `NULL` (does the process exist?) and `TERM`.';
    end if;
    if not exists (
        select from pg_stat_get_activity(p_pid) a
        where a.datid = (select d.oid from pg_database d where d.datname = current_database())
    ) then
        return -1;
    end if;
    if p_signame = 'TERM' and p_pid <> pg_backend_pid() then
        begin
            if not pg_terminate_backend(p_pid) then
                return -1;
            end if;
        exception when insufficient_privilege then
            raise warning 'cannot end server process %: %', p_pid, sqlerrm
                using hint = 'Grant pg_signal_backend, or the role of that connection, to ' || quote_ident(current_user) || '.';
            return -1;
        end;
    end if;
    return 0;
end
$trunkline$;
