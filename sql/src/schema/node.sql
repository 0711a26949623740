-- Nodes: made known, enabled, dropped.

-- Makes this database the node p_local_node_id of the cluster, once. Returns the number.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.initializeLocalNode(p_local_node_id integer, p_comment text) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    if (select s.last_value from @NAMESPACE@.sl_local_node_id s) <> -1 then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: This node is already initialized',
            hint = 'uninstall node removes the cluster schema from a database.';
    end if;
    if p_local_node_id is null or p_local_node_id < 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('Slony-I: %s is not a node number, it must not be negative', coalesce(p_local_node_id::text, '<NULL>'));
    end if;
    perform setval(@REGCLASS:sl_local_node_id@, p_local_node_id);
    perform @NAMESPACE@.storeNode_int(p_local_node_id, p_comment);
    -- A daemon of the original applies changes through these. They are quiet for ours, which stores log rows with role local.
    create trigger apply_trigger before insert on @NAMESPACE@.sl_log_1
        for each row execute procedure @NAMESPACE@.logApply(@CLUSTER@);
    create trigger apply_trigger before insert on @NAMESPACE@.sl_log_2
        for each row execute procedure @NAMESPACE@.logApply(@CLUSTER@);
    alter table @NAMESPACE@.sl_log_1 enable replica trigger apply_trigger;
    alter table @NAMESPACE@.sl_log_2 enable replica trigger apply_trigger;
    return p_local_node_id;
end
$trunkline$;

-- Stores a node, inactive, or changes its comment. Returns the event's number.
-- Locks: config lock. Event: STORE_NODE.
create or replace function @NAMESPACE@.storeNode(p_no_id integer, p_no_comment text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.storeNode_int(p_no_id, p_no_comment);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'STORE_NODE', p_no_id::text, p_no_comment);
end
$trunkline$;

-- The local part of storeNode(). Returns the node's number.
-- A number that was in use before may have left log rows behind; they belong to a former life and would be taken for the
-- new node's changes, so they go when the number is stored again.
create or replace function @NAMESPACE@.storeNode_int(p_no_id integer, p_no_comment text) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_node n set no_comment = p_no_comment where n.no_id = p_no_id;
    if not found then
        perform @NAMESPACE@.tl_purgeOrigin(p_no_id);
        insert into @NAMESPACE@.sl_node (no_id, no_active, no_comment, no_failed)
        values (p_no_id, false, p_no_comment, false);
    end if;
    return p_no_id;
end
$trunkline$;

-- Makes sure that a node exists that an event named before its own STORE_NODE arrived.
create or replace function @NAMESPACE@.tl_expectNode(p_no_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if not exists (select from @NAMESPACE@.sl_node n where n.no_id = p_no_id) then
        perform @NAMESPACE@.storeNode_int(p_no_id, '<event pending>');
    end if;
end
$trunkline$;

-- Deletes what is left of the data an origin logged: rows, scripts, sequence values.
create or replace function @NAMESPACE@.tl_purgeOrigin(p_no_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    delete from @NAMESPACE@.sl_log_1 l where l.log_origin = p_no_id;
    delete from @NAMESPACE@.sl_log_2 l where l.log_origin = p_no_id;
    delete from @NAMESPACE@.sl_log_script l where l.log_origin = p_no_id;
    delete from @NAMESPACE@.sl_seqlog l where l.seql_origin = p_no_id;
end
$trunkline$;

-- Lets a stored node take part. Returns the event's number.
-- Locks: config lock. Event: ENABLE_NODE.
create or replace function @NAMESPACE@.enableNode(p_no_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_active boolean;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    select n.no_active into v_active from @NAMESPACE@.sl_node n where n.no_id = p_no_id;
    if not found then
        raise exception using errcode = 'undefined_object', message = format('Slony-I: node %s not found', p_no_id);
    end if;
    if v_active then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: node %s is already active', p_no_id);
    end if;
    perform @NAMESPACE@.enableNode_int(p_no_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'ENABLE_NODE', p_no_id::text);
end
$trunkline$;

-- The local part of enableNode(): from now on the node confirms everybody's events and everybody confirms its own, so
-- both start at 0 and hold back the cleanup. Confirmations and events of a former node of that number, which neighbours may have passed
-- on after it was dropped, are no longer true. Nothing happens to an active node. Returns the node's number.
create or replace function @NAMESPACE@.enableNode_int(p_no_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_active boolean;
    v_subscription record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    select n.no_active into v_active from @NAMESPACE@.sl_node n where n.no_id = p_no_id for update;
    if not found then
        raise exception using errcode = 'undefined_object', message = format('Slony-I: node %s not found', p_no_id);
    end if;
    if v_active then
        return p_no_id;
    end if;
    update @NAMESPACE@.sl_node n set no_active = true where n.no_id = p_no_id;
    delete from @NAMESPACE@.sl_confirm c where c.con_origin = p_no_id or c.con_received = p_no_id;
    delete from @NAMESPACE@.sl_event e where e.ev_origin = p_no_id and p_no_id <> v_local_node_id;
    insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno)
    select pair.con_origin, pair.con_received, 0
    from @NAMESPACE@.sl_node n
    cross join lateral (values (n.no_id, p_no_id), (p_no_id, n.no_id)) as pair (con_origin, con_received)
    where n.no_id <> p_no_id and n.no_active;
    for v_subscription in
        select b.sub_set, b.sub_provider, b.sub_receiver
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        where b.sub_receiver = p_no_id and s.set_origin = v_local_node_id
        order by b.sub_set
    loop
        perform @NAMESPACE@.enableSubscription(
            v_subscription.sub_set, v_subscription.sub_provider, v_subscription.sub_receiver
        );
    end loop;
    return p_no_id;
end
$trunkline$;

-- Nodes cannot be disabled; the names exist because the original has them.
create or replace function @NAMESPACE@.disableNode(p_no_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    raise exception using errcode = 'feature_not_supported', message = 'Slony-I: disableNode() not implemented';
end
$trunkline$;

create or replace function @NAMESPACE@.disableNode_int(p_no_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    raise exception using errcode = 'feature_not_supported', message = 'Slony-I: disableNode_int() not implemented';
end
$trunkline$;

-- Takes nodes out of the cluster; refused while one of them gives data to a node that stays and is not failed. Returns the event's number.
-- The event names receivers before their providers, so that every node can drop them one after the other.
-- Locks: config lock. Event: DROP_NODE.
create or replace function @NAMESPACE@.dropNode(p_no_ids integer[]) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_left integer[] := p_no_ids;
    v_ordered integer[] := '{}';
    v_next integer;
    v_no_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if v_local_node_id = any (p_no_ids) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: DROP_NODE cannot initiate on the dropped node',
            hint = 'Name a node that stays as event node.';
    end if;
    if coalesce(cardinality(p_no_ids), 0) = 0 then
        raise exception using errcode = 'undefined_object', message = 'Slony-I: unknown node ID <NULL>';
    end if;
    foreach v_no_id in array p_no_ids loop
        if not exists (select from @NAMESPACE@.sl_node n where n.no_id = v_no_id) then
            raise exception using
                errcode = 'undefined_object',
                message = format('Slony-I: unknown node ID %s', coalesce(v_no_id::text, '<NULL>'));
        end if;
    end loop;

    while cardinality(v_left) > 0 loop
        select u.no_id into v_next
        from unnest(v_left) with ordinality as u (no_id, place)
        order by exists (
            select from @NAMESPACE@.sl_subscribe b where b.sub_provider = u.no_id and b.sub_receiver = any (v_left)
        ), u.place
        limit 1;
        v_ordered := v_ordered || v_next;
        v_left := array_remove(v_left, v_next);
    end loop;

    delete from @NAMESPACE@.sl_subscribe b where b.sub_receiver = any (v_ordered);
    foreach v_no_id in array v_ordered loop
        -- one that was failed over gets nothing any more, and comes back with subscriptions of its own
        if exists (
            select
            from @NAMESPACE@.sl_subscribe b
            join @NAMESPACE@.sl_node r on r.no_id = b.sub_receiver and not r.no_failed
            where b.sub_provider = v_no_id
        ) then
            raise exception using
                errcode = 'object_in_use',
                message = format('Slony-I: Node %s is still configured as a data provider', v_no_id);
        end if;
        if exists (select from @NAMESPACE@.sl_set s where s.set_origin = v_no_id) then
            raise exception using
                errcode = 'object_in_use',
                message = format('Slony-I: Node %s is still origin of one or more sets', v_no_id);
        end if;
    end loop;
    foreach v_no_id in array v_ordered loop
        perform @NAMESPACE@.dropNode_int(v_no_id);
    end loop;
    return @NAMESPACE@.createEvent(@CLUSTER@, 'DROP_NODE', array_to_string(v_ordered, ','));
end
$trunkline$;

-- The local part of dropNode(): forgets everything about the node; on the dropped node itself only marks it inactive,
-- its daemon then removes the schema. Returns the node's number.
-- Log rows go at once if every node that stays has confirmed all events of the dropped one; a node that lags may still be
-- fetching them, then they go with the next log switch or when the number is stored again.
create or replace function @NAMESPACE@.dropNode_int(p_no_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if p_no_id = v_local_node_id then
        update @NAMESPACE@.sl_node n set no_active = false where n.no_id = p_no_id;
        perform @NAMESPACE@.RebuildListenEntries();
        return p_no_id;
    end if;

    -- Failed receivers never come back, so they must not keep a provider that is dropped with them.
    delete from @NAMESPACE@.sl_subscribe b
    where b.sub_receiver = p_no_id
        or b.sub_provider = p_no_id
            and exists (select from @NAMESPACE@.sl_node n where n.no_id = b.sub_receiver and n.no_failed);
    delete from @NAMESPACE@.sl_listen l
    where l.li_origin = p_no_id or l.li_provider = p_no_id or l.li_receiver = p_no_id;
    delete from @NAMESPACE@.sl_path p where p.pa_server = p_no_id or p.pa_client = p_no_id;

    if not exists (
        select from @NAMESPACE@.sl_node n
        where n.no_active and not n.no_failed and n.no_id not in (p_no_id, v_local_node_id)
            and coalesce((
                select max(c.con_seqno) from @NAMESPACE@.sl_confirm c
                where c.con_origin = p_no_id and c.con_received = n.no_id
            ), 0) < coalesce((
                select max(e.ev_seqno) from @NAMESPACE@.sl_event e where e.ev_origin = p_no_id
            ), 0)
    ) then
        perform @NAMESPACE@.tl_purgeOrigin(p_no_id);
    end if;
    delete from @NAMESPACE@.sl_confirm c where c.con_origin = p_no_id or c.con_received = p_no_id;
    delete from @NAMESPACE@.sl_event e where e.ev_origin = p_no_id;
    delete from @NAMESPACE@.tl_origin_start o where o.os_origin = p_no_id;
    delete from @NAMESPACE@.tl_trouble t where t.tr_node = p_no_id;
    delete from @NAMESPACE@.tl_heard h where h.he_origin = p_no_id;
    delete from @NAMESPACE@.tl_unsubscribed u where p_no_id in (u.un_receiver, u.un_origin);
    delete from @NAMESPACE@.sl_node n where n.no_id = p_no_id;
    perform @NAMESPACE@.RebuildListenEntries();
    return p_no_id;
end
$trunkline$;

-- The farewell of a node; dropping the schema afterwards takes the triggers of the user's tables with it. Returns 0.
create or replace function @NAMESPACE@.uninstallNode() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    raise notice using message = format('Slony-I: Please drop schema "%s"', replace(@CLUSTER@, '"', '""'));
    return 0;
end
$trunkline$;
