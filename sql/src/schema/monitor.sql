-- What each part of the daemon is doing.

-- Notes the state of one part; an older report does not overwrite a newer one. Returns 0.
create or replace function @NAMESPACE@.component_state(
    i_actor pg_catalog.text,
    i_pid integer,
    i_node integer,
    i_conn_pid integer,
    i_activity pg_catalog.text,
    i_starttime timestamp with time zone,
    i_event bigint,
    i_eventtype pg_catalog.text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    insert into @NAMESPACE@.sl_components (
        co_actor, co_pid, co_node, co_connection_pid, co_activity, co_starttime, co_event, co_eventtype
    ) values (
        i_actor, i_pid, i_node, i_conn_pid, i_activity, i_starttime, i_event, i_eventtype
    )
    on conflict (co_actor) do update
    set co_pid = excluded.co_pid,
        co_node = excluded.co_node,
        co_connection_pid = excluded.co_connection_pid,
        co_activity = excluded.co_activity,
        co_starttime = excluded.co_starttime,
        co_event = excluded.co_event,
        co_eventtype = excluded.co_eventtype
    where sl_components.co_starttime < excluded.co_starttime;
    return 0;
end
$trunkline$;
