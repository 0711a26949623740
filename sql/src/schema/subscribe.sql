-- Subscriptions: who gets a set from whom.

-- Raises unless the provider can give the set to the receiver: it is the origin or an active, forwarding subscriber, and
-- does not itself depend on the receiver.
create or replace function @NAMESPACE@.tl_requireProvider(p_sub_set integer, p_sub_provider integer, p_sub_receiver integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if exists (select from @NAMESPACE@.sl_set s where s.set_id = p_sub_set and s.set_origin = p_sub_provider) then
        return;
    end if;
    if not exists (
        select from @NAMESPACE@.sl_subscribe b
        where b.sub_set = p_sub_set and b.sub_receiver = p_sub_provider and b.sub_forward and b.sub_active
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: subscribeSet(): provider %s is not an active forwarding node for replication set %s',
                p_sub_provider, p_sub_set
            );
    end if;
    if exists (
        with recursive upward (node) as (
            values (p_sub_provider)
            union
            select b.sub_provider
            from upward u
            join @NAMESPACE@.sl_subscribe b on b.sub_set = p_sub_set and b.sub_receiver = u.node
        )
        select from upward u where u.node = p_sub_receiver
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: subscribeSet(): provider %s gets set %s from node %s itself', p_sub_provider, p_sub_set, p_sub_receiver
            );
    end if;
end
$trunkline$;

-- Raises unless both nodes are known.
create or replace function @NAMESPACE@.tl_requireNodes(p_sub_provider integer, p_sub_receiver integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if not exists (select from @NAMESPACE@.sl_node n where n.no_id = p_sub_receiver) then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: subscribeSet() receiver %s does not exist', coalesce(p_sub_receiver::text, '<NULL>'));
    end if;
    if not exists (select from @NAMESPACE@.sl_node n where n.no_id = p_sub_provider) then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: subscribeSet() provider %s does not exist', coalesce(p_sub_provider::text, '<NULL>'));
    end if;
end
$trunkline$;

-- Subscribes a node to a set of this origin, or changes provider or forwarding of a subscription. Returns the number of the
-- event to wait for: the ENABLE_SUBSCRIPTION, which the receiver confirms after its copy, or the SUBSCRIBE_SET of a change.
-- Locks: config lock. Events: SUBSCRIBE_SET, and ENABLE_SUBSCRIPTION of a new subscription.
create or replace function @NAMESPACE@.subscribeSet(
    p_sub_set integer,
    p_sub_provider integer,
    p_sub_receiver integer,
    p_sub_forward boolean,
    p_omit_copy boolean
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_set_origin integer;
    v_other record;
    v_known boolean;
    v_forward boolean := coalesce(p_sub_forward, false);
    v_omit_copy boolean := coalesce(p_omit_copy, false);
    v_seqno bigint;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    perform @NAMESPACE@.tl_requireNodes(p_sub_provider, p_sub_receiver);
    select s.set_origin into v_set_origin from @NAMESPACE@.sl_set s where s.set_id = p_sub_set;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: subscribeSet(): set %s not found', coalesce(p_sub_set::text, '<NULL>'));
    end if;
    if v_set_origin = p_sub_receiver then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'Slony-I: subscribeSet(): set origin and receiver cannot be identical';
    end if;
    if p_sub_provider = p_sub_receiver then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'Slony-I: subscribeSet(): set provider and receiver cannot be identical';
    end if;
    if v_set_origin <> v_local_node_id then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: subscribeSet() must be called on origin',
            hint = format('Set %s originates on node %s.', p_sub_set, v_set_origin);
    end if;
    perform @NAMESPACE@.tl_requireProvider(p_sub_set, p_sub_provider, p_sub_receiver);

    -- All sets of one origin come to a receiver from one provider: one stream of events, one position.
    v_known := exists (
        select from @NAMESPACE@.sl_subscribe b where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver
    );
    if not v_forward and exists (
        select from @NAMESPACE@.sl_subscribe b where b.sub_set = p_sub_set and b.sub_provider = p_sub_receiver
    ) then
        raise exception using
            errcode = 'object_in_use',
            message = format(
                'Slony-I: subscribeSet(): node %s provides set %s to other nodes and must forward', p_sub_receiver, p_sub_set
            ),
            hint = 'Keep forward = yes, or give its receivers another provider first.';
    end if;
    select b.sub_set, b.sub_provider into v_other
    from @NAMESPACE@.sl_subscribe b
    join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
    where b.sub_receiver = p_sub_receiver
        and b.sub_set <> p_sub_set
        and s.set_origin = v_set_origin
        and b.sub_provider <> p_sub_provider
    order by b.sub_set
    limit 1;
    if found and v_known then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: subscribeSet(): also data provider for set %s use resubscribe instead', v_other.sub_set);
    end if;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: subscribeSet(): wrong provider %s - existing subscription from origin %s users provider %s',
                p_sub_provider, v_set_origin, v_other.sub_provider
            );
    end if;

    v_seqno := @NAMESPACE@.createEvent(
        @CLUSTER@, 'SUBSCRIBE_SET', p_sub_set::text, p_sub_provider::text, p_sub_receiver::text,
        case when v_forward then 't' else 'f' end, case when v_omit_copy then 't' else 'f' end
    );
    perform @NAMESPACE@.subscribeSet_int(p_sub_set, p_sub_provider, p_sub_receiver, v_forward, v_omit_copy);
    if v_known then
        return v_seqno;
    end if;
    return (
        select max(e.ev_seqno) from @NAMESPACE@.sl_event e where e.ev_origin = v_local_node_id and e.ev_seqno >= v_seqno
    );
end
$trunkline$;

-- The local part of subscribeSet(). Returns the set's number.
-- A new subscription is inactive until ENABLE_SUBSCRIPTION, which the origin makes here, right behind the SUBSCRIBE_SET. A change takes
-- the receiver's other sets of the same origin along.
create or replace function @NAMESPACE@.subscribeSet_int(
    p_sub_set integer,
    p_sub_provider integer,
    p_sub_receiver integer,
    p_sub_forward boolean,
    p_omit_copy boolean
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_set_origin integer;
    v_active boolean;
    v_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    select s.set_origin into v_set_origin from @NAMESPACE@.sl_set s where s.set_id = p_sub_set;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: subscribeSet_int(): set %s not found', p_sub_set);
    end if;

    select b.sub_active into v_active
    from @NAMESPACE@.sl_subscribe b
    where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
    if not found then
        perform @NAMESPACE@.tl_expectPath(p_sub_provider, p_sub_receiver);
        insert into @NAMESPACE@.sl_subscribe (sub_set, sub_provider, sub_receiver, sub_forward, sub_active)
        values (p_sub_set, p_sub_provider, p_sub_receiver, p_sub_forward, false);
        if v_set_origin = v_local_node_id then
            perform @NAMESPACE@.createEvent(
                @CLUSTER@, 'ENABLE_SUBSCRIPTION', p_sub_set::text, p_sub_provider::text, p_sub_receiver::text,
                case when p_sub_forward then 't' else 'f' end, case when p_omit_copy then 't' else 'f' end
            );
            perform @NAMESPACE@.enableSubscription(p_sub_set, p_sub_provider, p_sub_receiver);
        end if;
        perform @NAMESPACE@.RebuildListenEntries();
        return p_sub_set;
    end if;

    if p_sub_receiver = v_local_node_id and not v_active then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: subscribeSet_int(): set %s is not active, cannot change provider', p_sub_set);
    end if;
    for v_set_id in
        select b.sub_set
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        where b.sub_receiver = p_sub_receiver and b.sub_set <> p_sub_set and s.set_origin = v_set_origin
        order by b.sub_set
    loop
        if p_sub_provider <> v_set_origin and not exists (
            select from @NAMESPACE@.sl_subscribe b
            where b.sub_set = v_set_id and b.sub_receiver = p_sub_provider and b.sub_forward
        ) then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format(
                    'Slony-I: subscribeSet_int(): node %s is not a forwarding subscriber for set %s', p_sub_provider, v_set_id
                );
        end if;
        update @NAMESPACE@.sl_subscribe b
        set sub_provider = p_sub_provider
        where b.sub_set = v_set_id and b.sub_receiver = p_sub_receiver;
    end loop;
    update @NAMESPACE@.sl_subscribe b
    set sub_provider = p_sub_provider, sub_forward = p_sub_forward
    where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
    perform @NAMESPACE@.RebuildListenEntries();
    return p_sub_set;
end
$trunkline$;

-- Marks a subscription active: on the receiver when its copy is done, elsewhere when the event arrives. Returns the set's number.
-- One that is gone stays gone: its UNSUBSCRIBE_SET, an event of the receiver, may have been here before this event of the origin.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.enableSubscription_int(
    p_sub_set integer,
    p_sub_provider integer,
    p_sub_receiver integer
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_subscribe b
    set sub_active = true
    where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
    if found then
        perform @NAMESPACE@.tl_expectPath(p_sub_provider, p_sub_receiver);
        perform @NAMESPACE@.RebuildListenEntries();
    elsif p_sub_receiver = @NAMESPACE@.getLocalNodeId(@CLUSTER@) then
        -- the daemon is about to commit a copy: its tables must not become a subscriber's without a subscription
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: enableSubscription(): the subscription of node %s to set %s was ended while the set was copied',
                p_sub_receiver, p_sub_set
            );
    end if;
    return p_sub_set;
end
$trunkline$;

-- The same under the name the daemons call.
create or replace function @NAMESPACE@.enableSubscription(
    p_sub_set integer,
    p_sub_provider integer,
    p_sub_receiver integer
) returns integer
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select @NAMESPACE@.enableSubscription_int(p_sub_set, p_sub_provider, p_sub_receiver)
$trunkline$;

-- Ends the subscription of this node; its tables become ordinary ones and keep their rows. Returns the event's number.
-- Refused while other nodes get the set from here; by force their subscriptions end as well.
-- Locks: config lock; ACCESS EXCLUSIVE on each table of the set. Event: UNSUBSCRIBE_SET.
create or replace function @NAMESPACE@.unsubscribeSet(p_sub_set integer, p_sub_receiver integer, p_force boolean) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if p_sub_receiver is distinct from v_local_node_id then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: unsubscribeSet() must be called on receiver',
            hint = format('This is node %s.', v_local_node_id);
    end if;
    if p_force is not true and exists (
        select from @NAMESPACE@.sl_subscribe b where b.sub_set = p_sub_set and b.sub_provider = p_sub_receiver
    ) then
        raise exception using
            errcode = 'object_in_use',
            message = format('Slony-I: Cannot unsubscribe set %s while being provider', p_sub_set);
    end if;
    if exists (select from @NAMESPACE@.sl_set s where s.set_id = p_sub_set and s.set_origin = v_local_node_id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: unsubscribeSet(): set %s originates on this node', p_sub_set),
            hint = 'drop set ends the replication of a set.';
    end if;

    perform @NAMESPACE@.tl_forgetSetObjects(p_sub_set);
    delete from @NAMESPACE@.sl_setsync y where y.ssy_setid = p_sub_set;
    delete from @NAMESPACE@.sl_subscribe b
    where b.sub_set = p_sub_set and p_sub_receiver in (b.sub_receiver, b.sub_provider);
    perform @NAMESPACE@.RebuildListenEntries();
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'UNSUBSCRIBE_SET', p_sub_set::text, p_sub_receiver::text, null, null, null, null,
        @NAMESPACE@.tl_endedSubscriptions(p_sub_set, p_sub_receiver)
    );
end
$trunkline$;

-- For ev_data7 of an UNSUBSCRIBE_SET, which Slony leaves empty: the newest SUBSCRIBE_SET of each origin that it ends, as
-- `origin:number, ..`; null if there is none. Those that are not here any more have been confirmed by everybody.
create or replace function @NAMESPACE@.tl_endedSubscriptions(p_sub_set integer, p_sub_receiver integer) returns text
    language sql
    stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select string_agg(n.ev_origin || ':' || n.seqno, ',' order by n.ev_origin)
    from (
        select e.ev_origin, max(e.ev_seqno) as seqno
        from @NAMESPACE@.sl_event e
        where e.ev_type = 'SUBSCRIBE_SET' and e.ev_data1 = p_sub_set::text and e.ev_data3 = p_sub_receiver::text
        group by e.ev_origin
    ) n
$trunkline$;

-- Behind unsubscribeSet_int(): notes which SUBSCRIBE_SETs it ends that are not here yet, so that they do not bring the subscription
-- back when they arrive. p_ended is ev_data7 of the event. Returns how many there are.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_noteUnsubscription(
    p_sub_set integer,
    p_sub_receiver integer,
    p_ended text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_count integer;
begin
    delete from @NAMESPACE@.tl_unsubscribed u
    where u.un_set = p_sub_set and u.un_receiver = p_sub_receiver
        or exists (
            select from @NAMESPACE@.sl_event e where e.ev_origin = u.un_origin and e.ev_seqno >= u.un_seqno
        );
    insert into @NAMESPACE@.tl_unsubscribed (un_set, un_receiver, un_origin, un_seqno)
    select p_sub_set, p_sub_receiver, o.origin, o.seqno
    from (
        select split_part(w.word, ':', 1)::integer as origin, split_part(w.word, ':', 2)::bigint as seqno
        from unnest(string_to_array(p_ended, ',')) w (word)
    ) o
    where not exists (
        select from @NAMESPACE@.sl_event e where e.ev_origin = o.origin and e.ev_seqno >= o.seqno
    );
    get diagnostics v_count = row_count;
    return v_count;
end
$trunkline$;

-- Behind subscribeSet_int() for event p_ev_seqno of p_ev_origin: takes the subscription back if its receiver has ended it before the
-- event came here. Returns whether it did.
-- Locks: config lock, which subscribeSet_int() has. Event: none.
create or replace function @NAMESPACE@.tl_honourUnsubscription(
    p_sub_set integer,
    p_sub_receiver integer,
    p_ev_origin integer,
    p_ev_seqno bigint
) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if not exists (
        select from @NAMESPACE@.tl_unsubscribed u
        where u.un_set = p_sub_set and u.un_receiver = p_sub_receiver and u.un_origin = p_ev_origin
            and u.un_seqno >= p_ev_seqno
    ) then
        return false;
    end if;
    delete from @NAMESPACE@.sl_subscribe b where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
    perform @NAMESPACE@.RebuildListenEntries();
    return true;
end
$trunkline$;

-- The local part of unsubscribeSet() on the other nodes. A node that got the set from the one that left has no provider any
-- more and leaves as well, which makes an event of its own. Returns the set's number.
-- Event: UNSUBSCRIBE_SET, perhaps.
create or replace function @NAMESPACE@.unsubscribeSet_int(p_sub_set integer, p_sub_receiver integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    delete from @NAMESPACE@.sl_subscribe b where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
    if exists (
        select from @NAMESPACE@.sl_subscribe b
        where b.sub_set = p_sub_set and b.sub_provider = p_sub_receiver and b.sub_receiver = v_local_node_id
    ) then
        perform @NAMESPACE@.unsubscribeSet(p_sub_set, v_local_node_id, true);
    end if;
    perform @NAMESPACE@.RebuildListenEntries();
    return p_sub_set;
end
$trunkline$;

-- Gives a receiver another provider for all its sets of this origin. Returns the number of the last event, null if it has none.
-- Locks: config lock. Event: SUBSCRIBE_SET for each set.
create or replace function @NAMESPACE@.resubscribeNode(p_origin integer, p_provider integer, p_receiver integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_subscription record;
    v_seqno bigint;
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_requireNodes(p_provider, p_receiver);
    if p_origin is distinct from @NAMESPACE@.getLocalNodeId(@CLUSTER@) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: subscribeSet() must be called on origin';
    end if;
    for v_subscription in
        select b.sub_set, b.sub_forward
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        where b.sub_receiver = p_receiver and s.set_origin = p_origin
        order by b.sub_set
    loop
        if p_provider = p_receiver then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = 'Slony-I: subscribeSet(): set provider and receiver cannot be identical';
        end if;
        perform @NAMESPACE@.tl_requireProvider(v_subscription.sub_set, p_provider, p_receiver);
        v_seqno := @NAMESPACE@.createEvent(
            @CLUSTER@, 'SUBSCRIBE_SET', v_subscription.sub_set::text, p_provider::text, p_receiver::text,
            case when v_subscription.sub_forward then 't' else 'f' end, 'f'
        );
        perform @NAMESPACE@.subscribeSet_int(
            v_subscription.sub_set, p_provider, p_receiver, v_subscription.sub_forward, false
        );
    end loop;
    return v_seqno;
end
$trunkline$;

-- On the receiver: takes the new provider at once instead of when the event arrives, which may come over the old one. Returns 0.
-- Locks: config lock. Event: none; asks the daemon to start anew if something changed.
create or replace function @NAMESPACE@.reshapeSubscription(
    p_sub_origin integer,
    p_sub_provider integer,
    p_sub_receiver integer
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_subscribe b
    set sub_provider = p_sub_provider
    from @NAMESPACE@.sl_set s
    where s.set_id = b.sub_set
        and s.set_origin = p_sub_origin
        and b.sub_receiver = p_sub_receiver
        and b.sub_provider <> p_sub_provider;
    if found then
        perform @NAMESPACE@.RebuildListenEntries();
        perform @NAMESPACE@.tl_notifyRestart();
    end if;
    return 0;
end
$trunkline$;

-- Gives a receiver another provider for all its sets of an origin that cannot be asked any more; called on every node that can be
-- reached, since no event will tell them. Where the new provider gets a set from that receiver, it takes the receiver's place: it
-- gets the set from the receiver's former provider. Returns 0.
-- Locks: config lock. Event: none; asks the daemon to start anew if a subscription of this node changed.
create or replace function @NAMESPACE@.tl_rerouteSubscription(
    p_sub_origin integer,
    p_sub_provider integer,
    p_sub_receiver integer
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_subscription record;
    v_below integer;
    v_changed integer[] := '{}';
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    for v_subscription in
        select b.sub_set, b.sub_provider
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        where s.set_origin = p_sub_origin and b.sub_receiver = p_sub_receiver and b.sub_provider <> p_sub_provider
        order by b.sub_set
    loop
        if not exists (
            select from @NAMESPACE@.sl_subscribe b
            where b.sub_set = v_subscription.sub_set and b.sub_receiver = p_sub_provider and b.sub_forward and b.sub_active
        ) then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format(
                    'Slony-I: subscribeSet(): provider %s is not an active forwarding node for replication set %s',
                    p_sub_provider, v_subscription.sub_set
                );
        end if;
        select c.step_receiver into v_below
        from @NAMESPACE@.tl_subscriptionChain(v_subscription.sub_set, p_sub_origin, p_sub_provider) c
        where c.step_provider = p_sub_receiver;
        if found then
            perform @NAMESPACE@.tl_expectPath(v_subscription.sub_provider, v_below);
            update @NAMESPACE@.sl_subscribe b
            set sub_provider = v_subscription.sub_provider
            where b.sub_set = v_subscription.sub_set and b.sub_receiver = v_below;
            v_changed := v_changed || v_below;
        end if;
        perform @NAMESPACE@.tl_expectPath(p_sub_provider, p_sub_receiver);
        update @NAMESPACE@.sl_subscribe b
        set sub_provider = p_sub_provider
        where b.sub_set = v_subscription.sub_set and b.sub_receiver = p_sub_receiver;
        v_changed := v_changed || p_sub_receiver;
    end loop;
    if cardinality(v_changed) > 0 then
        perform @NAMESPACE@.RebuildListenEntries();
    end if;
    if v_local_node_id = any (v_changed) then
        perform @NAMESPACE@.tl_notifyRestart();
    end if;
    return 0;
end
$trunkline$;

-- Asks this node's daemon to read its configuration anew.
create or replace function @NAMESPACE@.tl_notifyRestart() returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    execute format('notify %I', (@CLUSTER@ || '_Restart')::name);
end
$trunkline$;
