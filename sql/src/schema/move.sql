-- Moving a set: another node becomes its origin, nothing is lost.

-- Hands a locked set over to one of its subscribers. This node accepts no more writes from here on; the new origin does when it has
-- processed the events. The SYNC between holds everything written before. Returns the number of the MOVE_SET.
-- Locks: config lock; on each table of the set what unlockSet() takes. Events: SYNC, MOVE_SET.
create or replace function @NAMESPACE@.moveSet(p_set_id integer, p_new_origin integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_set_locked bigint;
    v_holders text;
    v_active boolean;
    v_missing record;
    v_sync bigint;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    perform @NAMESPACE@.tl_requireLocalSet(p_set_id);
    select s.set_locked into v_set_locked from @NAMESPACE@.sl_set s where s.set_id = p_set_id;
    if v_set_locked is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: set %s is not locked', p_set_id),
            hint = 'lock set first.';
    end if;
    if exists (
        select from @NAMESPACE@.sl_set s
        where s.set_origin = v_local_node_id and s.set_comment = format('on its way into set %s', p_set_id)
    ) then
        raise exception using
            errcode = 'object_in_use',
            message = format('Slony-I: cannot move set %s, tables or sequences are on their way into it', p_set_id),
            hint = 'Let set add table end, or run it again; the set they are in is merged then.';
    end if;
    -- A receiver that has not copied yet would find the set gone from its provider, and never get it.
    perform @NAMESPACE@.tl_requireSubscribed(p_set_id, 'move');
    select string_agg(o.holder, ', ' order by o.holder) into v_holders from @NAMESPACE@.tl_writersBefore(v_set_locked) o;
    if v_holders is not null then
        raise exception using
            errcode = 'object_in_use',
            message = format(
                'Slony-I: cannot move set %s yet, transactions < %s are still in progress', p_set_id, v_set_locked
            ),
            detail = format('Held by %s.', v_holders);
    end if;
    select b.sub_active into v_active
    from @NAMESPACE@.sl_subscribe b
    where b.sub_set = p_set_id and b.sub_receiver = p_new_origin;
    if not found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: set %s is not subscribed by node %s', p_set_id, coalesce(p_new_origin::text, '<NULL>')
            );
    end if;
    if not v_active then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: subsctiption of node %s for set %s is inactive', p_new_origin, p_set_id);
    end if;
    -- the way from the new origin to this node is used in the other direction afterwards
    select c.step_provider, c.step_receiver into v_missing
    from @NAMESPACE@.tl_subscriptionChain(p_set_id, v_local_node_id, p_new_origin) c
    where not exists (
        select from @NAMESPACE@.sl_path p where p.pa_server = c.step_receiver and p.pa_client = c.step_provider
    )
    order by c.step
    limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: cannot move set %s to node %s, node %s has no path to node %s',
                p_set_id, p_new_origin, v_missing.step_provider, v_missing.step_receiver
            ),
            hint = format('store path (server = %s, client = %s, ...)', v_missing.step_receiver, v_missing.step_provider);
    end if;

    perform @NAMESPACE@.unlockSet(p_set_id);
    perform @NAMESPACE@.moveSet_int(p_set_id, v_local_node_id, p_new_origin, 0);
    v_sync := @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC');
    -- the set is not ours any more, so the SYNC has left out its sequences
    insert into @NAMESPACE@.sl_seqlog (seql_seqid, seql_origin, seql_ev_seqno, seql_last_value)
    select q.seq_id, v_local_node_id, v_sync, @NAMESPACE@.tl_sequenceValue(q.seq_nspname, q.seq_relname)
    from @NAMESPACE@.sl_sequence q
    where q.seq_set = p_set_id;
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'MOVE_SET', p_set_id::text, v_local_node_id::text, p_new_origin::text
    );
end
$trunkline$;

-- Who in this database holds a transaction with an id below the boundary: other databases of the server cannot write here.
-- pg_stat_activity shows the ids of other users' transactions to privileged roles only, pg_locks to everybody.
create or replace function @NAMESPACE@.tl_writersBefore(p_boundary bigint, out holder text) returns setof text
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    with old (xid) as (
        select (x.txid % 4294967296)::text
        from txid_snapshot_xip(txid_current_snapshot()) as x (txid)
        where x.txid < p_boundary
    )
    select format('pid %s of %s', a.pid, coalesce(a.usename, 'an unknown user'))
    from old o
    join pg_locks l on l.locktype = 'transactionid' and l.granted and l.transactionid::text = o.xid
    join pg_stat_activity a on a.pid = l.pid
    where a.datname = current_database() and l.mode = 'ExclusiveLock' and a.pid <> pg_backend_pid()
    union
    select format('prepared transaction `%s`', p.gid)
    from old o
    join pg_prepared_xacts p on p.transaction::text = o.xid
    where p.database = current_database()
$trunkline$;

-- The subscriptions over which a node gets a set, from the node upwards to the origin (step 1 is the node's own).
create or replace function @NAMESPACE@.tl_subscriptionChain(
    p_set_id integer,
    p_origin integer,
    p_receiver integer,
    out step integer,
    out step_provider integer,
    out step_receiver integer
) returns setof record
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    with recursive chain (step, provider, receiver, seen) as (
        select 1, b.sub_provider, b.sub_receiver, array[b.sub_receiver]
        from @NAMESPACE@.sl_subscribe b
        where b.sub_set = p_set_id and b.sub_receiver = p_receiver
        union all
        select c.step + 1, b.sub_provider, b.sub_receiver, c.seen || b.sub_receiver
        from chain c
        join @NAMESPACE@.sl_subscribe b on b.sub_set = p_set_id and b.sub_receiver = c.provider
        where c.provider <> p_origin and b.sub_receiver <> all (c.seen)
    )
    select c.step, c.provider, c.receiver from chain c order by c.step
$trunkline$;

-- The move on one node: turns round the subscriptions between the two origins, changes the origin and, on both of them, the triggers.
-- On the new origin it first makes SYNC and ACCEPT_SET: what it did before the ACCEPT_SET is no data of the set.
-- Returns the set's number.
-- Locks: config lock; on the two origins ACCESS EXCLUSIVE on each table of the set. Events: on the new origin SYNC, ACCEPT_SET.
create or replace function @NAMESPACE@.moveSet_int(
    p_set_id integer,
    p_old_origin integer,
    p_new_origin integer,
    p_wait_seqno bigint
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_step record;
    v_last integer := p_new_origin;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if v_local_node_id = p_new_origin then
        perform @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC');
        perform @NAMESPACE@.createEvent(
            @CLUSTER@, 'ACCEPT_SET', p_set_id::text, p_old_origin::text, p_new_origin::text, p_wait_seqno::text
        );
    end if;

    for v_step in
        select c.step_provider, c.step_receiver
        from @NAMESPACE@.tl_subscriptionChain(p_set_id, p_old_origin, p_new_origin) c
        order by c.step
    loop
        v_last := v_step.step_receiver;
        exit when v_step.step_provider = p_old_origin;
        update @NAMESPACE@.sl_subscribe b
        set sub_provider = v_step.step_receiver
        where b.sub_set = p_set_id and b.sub_receiver = v_step.step_provider;
    end loop;
    delete from @NAMESPACE@.sl_subscribe b where b.sub_set = p_set_id and b.sub_receiver = p_new_origin;
    insert into @NAMESPACE@.sl_subscribe (sub_set, sub_provider, sub_receiver, sub_forward, sub_active)
    values (p_set_id, v_last, p_old_origin, true, true);
    perform @NAMESPACE@.tl_changeOrigin(p_set_id, p_new_origin);
    if v_local_node_id in (p_old_origin, p_new_origin) then
        perform @NAMESPACE@.tl_configureSetTriggers(p_set_id);
    end if;
    perform @NAMESPACE@.RebuildListenEntries();
    perform @NAMESPACE@.addPartialLogIndices();
    return p_set_id;
end
$trunkline$;

-- Gives a set another origin on this node and restarts the position of a subscriber: at the newest SYNC known of the new
-- origin, or before everything if none is. The caller has put the subscriptions in order.
create or replace function @NAMESPACE@.tl_changeOrigin(p_set_id integer, p_new_origin integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
begin
    update @NAMESPACE@.sl_set s set set_origin = p_new_origin where s.set_id = p_set_id;
    delete from @NAMESPACE@.tl_fence f where f.fe_set = p_set_id;
    -- the next SYNC of a new origin names all its sequences, whatever was noted when it had them before
    delete from @NAMESPACE@.tl_sequence_seen n
    using @NAMESPACE@.sl_sequence q
    where q.seq_id = n.ss_seqid and q.seq_set = p_set_id;
    delete from @NAMESPACE@.sl_setsync y where y.ssy_setid = p_set_id;
    insert into @NAMESPACE@.sl_setsync (ssy_setid, ssy_origin, ssy_seqno, ssy_snapshot, ssy_action_list)
    select b.sub_set, p_new_origin, coalesce(newest.ev_seqno, 0), coalesce(newest.ev_snapshot, '1:1:'), ''
    from @NAMESPACE@.sl_subscribe b
    left join (
        select e.ev_seqno, e.ev_snapshot
        from @NAMESPACE@.sl_event e
        where e.ev_origin = p_new_origin and e.ev_type = 'SYNC'
        order by e.ev_seqno desc
        limit 1
    ) newest on true
    where b.sub_set = p_set_id and b.sub_receiver = v_local_node_id;
end
$trunkline$;

-- Sets the triggers of all tables of a set to this node's part in it.
create or replace function @NAMESPACE@.tl_configureSetTriggers(p_set_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.tl_lockTablesOfSet(p_set_id, 'share row exclusive');
    perform @NAMESPACE@.tl_configure_triggers_of_set(p_set_id);
end
$trunkline$;
