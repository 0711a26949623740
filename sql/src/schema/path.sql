-- Paths: how the daemon of one node reaches the database of another.

-- Stores how p_pa_client connects to p_pa_server. Returns the event's number.
-- Locks: config lock. Event: STORE_PATH.
create or replace function @NAMESPACE@.storePath(
    p_pa_server integer,
    p_pa_client integer,
    p_pa_conninfo text,
    p_pa_connretry integer
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.storePath_int(p_pa_server, p_pa_client, p_pa_conninfo, p_pa_connretry);
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'STORE_PATH', p_pa_server::text, p_pa_client::text, p_pa_conninfo, p_pa_connretry::text
    );
end
$trunkline$;

-- The local part of storePath(); nodes not heard of yet are stored as pending. Returns 0.
create or replace function @NAMESPACE@.storePath_int(
    p_pa_server integer,
    p_pa_client integer,
    p_pa_conninfo text,
    p_pa_connretry integer
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_expectNode(p_pa_server);
    perform @NAMESPACE@.tl_expectNode(p_pa_client);
    insert into @NAMESPACE@.sl_path as p (pa_server, pa_client, pa_conninfo, pa_connretry)
    values (p_pa_server, p_pa_client, p_pa_conninfo, p_pa_connretry)
    on conflict (pa_server, pa_client)
    do update set pa_conninfo = excluded.pa_conninfo, pa_connretry = excluded.pa_connretry;
    perform @NAMESPACE@.RebuildListenEntries();
    return 0;
end
$trunkline$;

-- Makes sure that a path exists for a subscription that was heard of before the path. Nobody connects over it until
-- storePath() brings the connection string.
create or replace function @NAMESPACE@.tl_expectPath(p_pa_server integer, p_pa_client integer) returns void
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    insert into @NAMESPACE@.sl_path (pa_server, pa_client, pa_conninfo, pa_connretry)
    values (p_pa_server, p_pa_client, '<event pending>', 10)
    on conflict (pa_server, pa_client) do nothing
$trunkline$;

-- Forgets a path; refused while a subscription uses it. Returns the event's number.
-- Locks: config lock. Events: DROP_LISTEN for each listen entry over the path, DROP_PATH.
create or replace function @NAMESPACE@.dropPath(p_pa_server integer, p_pa_client integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set integer;
    v_listen record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select min(b.sub_set) into v_set
    from @NAMESPACE@.sl_subscribe b
    where b.sub_provider = p_pa_server and b.sub_receiver = p_pa_client;
    if v_set is not null then
        raise exception using
            errcode = 'object_in_use',
            message = format('Slony-I: Path cannot be dropped, subscription of set %s needs it', v_set);
    end if;
    for v_listen in
        select l.li_origin, l.li_provider, l.li_receiver
        from @NAMESPACE@.sl_listen l
        where l.li_provider = p_pa_server and l.li_receiver = p_pa_client
        order by l.li_origin
    loop
        perform @NAMESPACE@.dropListen(v_listen.li_origin, v_listen.li_provider, v_listen.li_receiver);
    end loop;
    perform @NAMESPACE@.dropPath_int(p_pa_server, p_pa_client);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'DROP_PATH', p_pa_server::text, p_pa_client::text);
end
$trunkline$;

-- The local part of dropPath(). Returns 1 if there was such a path, else 0.
create or replace function @NAMESPACE@.dropPath_int(p_pa_server integer, p_pa_client integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    delete from @NAMESPACE@.sl_listen l where l.li_provider = p_pa_server and l.li_receiver = p_pa_client;
    delete from @NAMESPACE@.sl_path p where p.pa_server = p_pa_server and p.pa_client = p_pa_client;
    if not found then
        return 0;
    end if;
    perform @NAMESPACE@.RebuildListenEntries();
    return 1;
end
$trunkline$;
