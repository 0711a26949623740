-- Cloning: a copy of a subscriber's database becomes a node without a copy over the network.

-- Announces that a copy of the provider's database will become node p_no_id. Returns the event's number.
-- Locks: config lock. Event: CLONE_NODE.
create or replace function @NAMESPACE@.cloneNodePrepare(
    p_no_id integer,
    p_no_provider integer,
    p_no_comment text
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    if exists (select from @NAMESPACE@.sl_node n where n.no_id = p_no_id and n.no_active) then
        raise exception using
            errcode = 'duplicate_object',
            message = format('Slony-I: node %s is a node of the cluster already', p_no_id),
            hint = 'Give the copy another number, or drop the node first.';
    end if;
    perform @NAMESPACE@.cloneNodePrepare_int(p_no_id, p_no_provider, p_no_comment);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'CLONE_NODE', p_no_id::text, p_no_provider::text, p_no_comment);
end
$trunkline$;

-- The local part of cloneNodePrepare(): the new node stands beside its model, with the same subscriptions, paths that
-- wait for their connection strings, and confirmations that hold back the cleanup until it comes. Returns 0.
create or replace function @NAMESPACE@.cloneNodePrepare_int(
    p_no_id integer,
    p_no_provider integer,
    p_no_comment text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_provider record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select n.no_active, n.no_failed into v_provider from @NAMESPACE@.sl_node n where n.no_id = p_no_provider;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: unknown node ID %s', coalesce(p_no_provider::text, '<NULL>'));
    end if;
    perform @NAMESPACE@.storeNode_int(p_no_id, p_no_comment);
    update @NAMESPACE@.sl_node n
    set no_active = v_provider.no_active, no_failed = v_provider.no_failed
    where n.no_id = p_no_id;

    insert into @NAMESPACE@.sl_path (pa_server, pa_client, pa_conninfo, pa_connretry)
    select p.pa_server, p_no_id, '<event pending>', p.pa_connretry
    from @NAMESPACE@.sl_path p
    where p.pa_client = p_no_provider and p.pa_server <> p_no_id
    union all
    select p_no_id, p.pa_client, '<event pending>', p.pa_connretry
    from @NAMESPACE@.sl_path p
    where p.pa_server = p_no_provider and p.pa_client <> p_no_id
    on conflict (pa_server, pa_client) do nothing;

    insert into @NAMESPACE@.sl_subscribe (sub_set, sub_provider, sub_receiver, sub_forward, sub_active)
    select b.sub_set, b.sub_provider, p_no_id, b.sub_forward, b.sub_active
    from @NAMESPACE@.sl_subscribe b
    where b.sub_receiver = p_no_provider;

    insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno, con_timestamp)
    select c.con_origin, p_no_id, c.con_seqno, c.con_timestamp
    from @NAMESPACE@.sl_confirm c
    where c.con_received = p_no_provider and c.con_origin <> p_no_id;
    -- As for every new node: nobody forgets events it may still need, and its own first ones wait for everybody.
    insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno)
    select pair.con_origin, pair.con_received, 0
    from @NAMESPACE@.sl_node n
    cross join lateral (values (n.no_id, p_no_id), (p_no_id, n.no_id)) as pair (con_origin, con_received)
    where n.no_id <> p_no_id and n.no_active and v_provider.no_active
        and not exists (
            select from @NAMESPACE@.sl_confirm c
            where c.con_origin = pair.con_origin and c.con_received = pair.con_received
        );
    perform @NAMESPACE@.RebuildListenEntries();
    return 0;
end
$trunkline$;

-- Run on the copy: gives it its own number and makes it forget what belonged to its model. Returns 0.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.cloneNodeFinish(p_no_id integer, p_no_provider integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    if not exists (select from @NAMESPACE@.sl_node n where n.no_id = p_no_id) then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: node %s not found', coalesce(p_no_id::text, '<NULL>')),
            hint = 'Copy the database after clone prepare.';
    end if;
    perform setval(@REGCLASS:sl_local_node_id@, p_no_id);
    perform @NAMESPACE@.resetSession();
    -- object numbers change when a dump is restored
    for v_set_id in
        select distinct b.sub_set from @NAMESPACE@.sl_subscribe b where b.sub_receiver = p_no_id order by b.sub_set
    loop
        perform @NAMESPACE@.updateReloid(v_set_id, p_no_id);
    end loop;
    perform @NAMESPACE@.RebuildListenEntries();

    -- the copy holds what its model had received, and all the model's own events
    delete from @NAMESPACE@.sl_confirm c where c.con_received = p_no_id;
    insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno, con_timestamp)
    select c.con_origin, p_no_id, max(c.con_seqno), max(c.con_timestamp)
    from @NAMESPACE@.sl_confirm c
    where c.con_received = p_no_provider and c.con_origin <> p_no_id
    group by c.con_origin
    union all
    select p_no_provider, p_no_id, coalesce(max(e.ev_seqno), 0), now()
    from @NAMESPACE@.sl_event e
    where e.ev_origin = p_no_provider;

    delete from @NAMESPACE@.sl_nodelock;
    delete from @NAMESPACE@.sl_components;
    delete from @NAMESPACE@.tl_daemon;
    delete from @NAMESPACE@.tl_trouble;
    delete from @NAMESPACE@.tl_sequence_seen;
    return 0;
end
$trunkline$;
