-- What each part of the daemon is doing, for monitoring.

-- Stores the state of one part of the daemon, if it is newer than what is known. Called by the daemon, a few times a second at
-- most. Locks: the row in sl_components. Event: none.
create or replace function @NAMESPACE@.component_state(i_actor text, i_pid integer, i_node integer, i_conn_pid integer, i_activity text, i_starttime timestamptz, i_event bigint, i_eventtype text) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    insert into @NAMESPACE@.sl_components as c
           (co_actor, co_pid, co_node, co_connection_pid, co_activity, co_starttime, co_event, co_eventtype)
    values (i_actor, i_pid, i_node, i_conn_pid, i_activity, i_starttime, i_event, i_eventtype)
        on conflict (co_actor) do update
       set co_pid = excluded.co_pid, co_node = excluded.co_node, co_connection_pid = excluded.co_connection_pid,
           co_activity = excluded.co_activity, co_starttime = excluded.co_starttime, co_event = excluded.co_event,
           co_eventtype = excluded.co_eventtype
     where c.co_starttime < excluded.co_starttime;
    return 1;
end
$trunkline$;
