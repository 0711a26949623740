-- Forgetting what every node has, and whose connections are gone.

-- Removes confirmations, events, sequence values and scripts that no node needs any more, and turns the log tables over.
-- Called by every daemon each cleanup_interval, and by cron jobs. p_interval: age up to which confirmations are kept.
-- Locks: rows only, and those of the log switch; the caller holds the config lock. Event: none. Returns 0.
create or replace function @NAMESPACE@.cleanupEvent(p_interval interval) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local integer;
    v_row record;
    v_sync record;
begin
    select last_value into v_local from @NAMESPACE@.sl_local_node_id;

    -- Confirmations of nodes that are gone.
    delete from @NAMESPACE@.sl_confirm
     where con_origin not in (select no_id from @NAMESPACE@.sl_node)
        or con_received not in (select no_id from @NAMESPACE@.sl_node);

    -- Of each pair only the newest that is old enough is needed, and what is newer.
    for v_row in
        select con_origin, con_received, max(con_seqno) as newest
          from @NAMESPACE@.sl_confirm
         where con_timestamp < now() - p_interval
         group by con_origin, con_received
    loop
        delete from @NAMESPACE@.sl_confirm
         where con_origin = v_row.con_origin and con_received = v_row.con_received and con_seqno < v_row.newest;
    end loop;

    -- Events that everybody has confirmed, but for the newest SYNC among them: it says where the log is to be read from.
    for v_row in
        select c.con_origin, min(c.newest) as confirmed
          from (select con_origin, con_received, max(con_seqno) as newest
                  from @NAMESPACE@.sl_confirm group by con_origin, con_received) c
         where exists (select 1 from @NAMESPACE@.sl_node n where n.no_id = c.con_received)
         group by c.con_origin
    loop
        -- The newest confirmations may be younger than the interval; events younger than that are left for latecomers.
        select ev_seqno into v_sync
          from @NAMESPACE@.sl_event
         where ev_origin = v_row.con_origin and ev_seqno <= v_row.confirmed and ev_type = 'SYNC'
         order by ev_seqno desc limit 1;
        if found then
            delete from @NAMESPACE@.sl_event where ev_origin = v_row.con_origin and ev_seqno < v_sync.ev_seqno;
        end if;
    end loop;

    -- Events of nodes that are gone.
    delete from @NAMESPACE@.sl_event e
     where not exists (select 1 from @NAMESPACE@.sl_node n where n.no_id = e.ev_origin);

    -- A cluster of one node has nobody to confirm anything.
    if (select count(*) from @NAMESPACE@.sl_node) <= 1 then
        delete from @NAMESPACE@.sl_event
         where ev_origin = v_local
           and ev_seqno < (select max(ev_seqno) from @NAMESPACE@.sl_event where ev_origin = v_local);
    end if;

    perform @NAMESPACE@.cleanupNodelock();

    -- Sequence values and scripts behind the oldest SYNC left.
    for v_row in
        select distinct on (ev_origin) ev_origin, ev_seqno, txid_snapshot_xmin(ev_snapshot) as oldest
          from @NAMESPACE@.sl_event where ev_type = 'SYNC' order by ev_origin, ev_seqno
    loop
        delete from @NAMESPACE@.sl_seqlog where seql_origin = v_row.ev_origin and seql_ev_seqno < v_row.ev_seqno;
        delete from @NAMESPACE@.sl_log_script where log_origin = v_row.ev_origin and log_txid < v_row.oldest;
    end loop;

    if @NAMESPACE@.logswitch_finish() = 0 then
        perform @NAMESPACE@.logswitch_start();
    end if;
    return 0;
end
$trunkline$;

-- Removes the sl_nodelock rows whose backend is gone. Locks: those rows. Event: none. Returns how many.
create or replace function @NAMESPACE@.cleanupNodelock() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_row record;
    v_removed integer := 0;
begin
    for v_row in
        delete from @NAMESPACE@.sl_nodelock l
         where not exists (select 1 from pg_stat_activity a
                            where a.pid = l.nl_backendpid and a.datname = current_database())
        returning l.nl_nodeid, l.nl_backendpid
    loop
        raise notice 'Slony-I: cleanup stale sl_nodelock entry for pid=%', v_row.nl_backendpid;
        v_removed := v_removed + 1;
    end loop;
    return v_removed;
end
$trunkline$;

-- Notes that the daemon of a node is connected here. Called by the daemons of other nodes on each connection.
-- Locks: none. Event: none. Returns 0.
create or replace function @NAMESPACE@.registerNodeConnection(p_nodeid integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    insert into @NAMESPACE@.sl_nodelock (nl_nodeid, nl_backendpid) values (p_nodeid, pg_backend_pid());
    return 0;
end
$trunkline$;

-- Ends the connections that the daemon of a failed node has here. Backends this role may not end are named and left.
-- Locks: the sl_nodelock rows. Event: none. Returns 0.
create or replace function @NAMESPACE@.terminateNodeConnections(p_failed_node integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_row record;
begin
    for v_row in
        select l.nl_nodeid, l.nl_conncnt, l.nl_backendpid
          from @NAMESPACE@.sl_nodelock l
         where l.nl_nodeid = p_failed_node
           for update
    loop
        begin
            perform pg_terminate_backend(v_row.nl_backendpid)
               from pg_stat_activity a
              where a.pid = v_row.nl_backendpid and a.datname = current_database() and a.pid <> pg_backend_pid();
        exception when insufficient_privilege then
            raise warning 'Slony-I: connection pid % of failed node % cannot be ended: %',
                v_row.nl_backendpid, p_failed_node, sqlerrm;
        end;
        delete from @NAMESPACE@.sl_nodelock where nl_nodeid = v_row.nl_nodeid and nl_conncnt = v_row.nl_conncnt;
    end loop;
    return 0;
end
$trunkline$;

-- Signals a backend: 'NULL' asks whether it exists, 'TERM' ends it. Returns 0, or -1 if there is no such backend.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.killBackend(p_pid integer, p_signame text) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if not exists (select 1 from pg_stat_activity where pid = p_pid) then
        return -1;
    end if;
    if upper(p_signame) = 'TERM' then
        return case when pg_terminate_backend(p_pid) then 0 else -1 end;
    elsif upper(p_signame) <> 'NULL' then
        raise exception 'Slony-I: unsupported signal %', p_signame using hint = 'NULL and TERM are known';
    end if;
    return 0;
end
$trunkline$;
