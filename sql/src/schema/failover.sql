-- Failover: origins are lost, survivors take their sets over.

-- Prepares a survivor: its daemon lets go of the failed node. A candidate for the succession is checked first. Returns the
-- failed node's number.
-- Locks: config lock. Event: none; asks the daemon to start anew.
create or replace function @NAMESPACE@.preFailover(p_failed_node integer, p_is_candidate boolean) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_set record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if p_is_candidate then
        for v_set in
            select s.set_id, b.sub_active, b.sub_forward, b.sub_set is not null as subscribed
            from @NAMESPACE@.sl_set s
            left join @NAMESPACE@.sl_subscribe b on b.sub_set = s.set_id and b.sub_receiver = v_local_node_id
            where s.set_origin = p_failed_node
                -- a set that nobody has is lost with its origin, whoever takes over
                and (
                    b.sub_set is not null
                    or exists (select from @NAMESPACE@.sl_subscribe o where o.sub_set = s.set_id)
                    or not exists (
                        select
                        from @NAMESPACE@.sl_subscribe o
                        join @NAMESPACE@.sl_set x on x.set_id = o.sub_set
                        where x.set_origin = p_failed_node
                    )
                )
            order by s.set_id
        loop
            if not v_set.subscribed then
                raise exception using
                    errcode = 'object_not_in_prerequisite_state',
                    message = format(
                        'Slony-I: cannot failover - node %s is not subscribed to set %s', v_local_node_id, v_set.set_id
                    );
            end if;
            if v_set.sub_active is not true then
                raise exception using
                    errcode = 'object_not_in_prerequisite_state',
                    message = format('Slony-I: cannot failover - subscription for set %s is not active', v_set.set_id);
            end if;
            -- a set without other receivers needs no log to be forwarded
            if v_set.sub_forward is not true and exists (
                select from @NAMESPACE@.sl_subscribe o
                where o.sub_set = v_set.set_id and o.sub_receiver <> v_local_node_id
            ) then
                raise exception using
                    errcode = 'object_not_in_prerequisite_state',
                    message = format(
                        'Slony-I: cannot failover - node %s is not a forwarder of set %s', v_local_node_id, v_set.set_id
                    );
            end if;
        end loop;
    end if;
    perform @NAMESPACE@.terminateNodeConnections(p_failed_node);
    perform @NAMESPACE@.tl_cutPathsTo(p_failed_node);
    perform @NAMESPACE@.tl_notifyRestart();
    return p_failed_node;
end
$trunkline$;

-- On every survivor before preFailover(), the receiver first: ends a subscription whose first copy is not done, since what is missing
-- would have to come from the failed node. Its tables keep what they have. False on a receiver that has the copy meanwhile.
-- Locks: config lock; on the receiver ACCESS EXCLUSIVE on tables that are copied already. Event: UNSUBSCRIBE_SET on the receiver.
create or replace function @NAMESPACE@.tl_endUnfinishedCopy(p_sub_set integer, p_sub_receiver integer) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_active boolean;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select b.sub_active into v_active
    from @NAMESPACE@.sl_subscribe b
    where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
    if not found then
        return true;
    end if;
    if p_sub_receiver <> @NAMESPACE@.getLocalNodeId(@CLUSTER@) then
        delete from @NAMESPACE@.sl_subscribe b where b.sub_set = p_sub_set and b.sub_receiver = p_sub_receiver;
        perform @NAMESPACE@.RebuildListenEntries();
        return true;
    end if;
    if v_active then
        return false;
    end if;
    perform @NAMESPACE@.unsubscribeSet(p_sub_set, p_sub_receiver, true);
    return true;
end
$trunkline$;

-- Blanks the paths to a node, so that nobody connects to it any more. Returns how many there were.
create or replace function @NAMESPACE@.tl_cutPathsTo(p_server integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_count integer;
begin
    update @NAMESPACE@.sl_path p
    set pa_conninfo = '<event pending>'
    where p.pa_server = p_server and p.pa_conninfo <> '<event pending>';
    get diagnostics v_count = row_count;
    return v_count;
end
$trunkline$;

-- On the node that leads: marks the failed nodes and tells everybody which event of the failed origin was its last.
-- Returns the event's number.
-- Locks: config lock. Event: FAILOVER_NODE; asks the daemon to start anew.
create or replace function @NAMESPACE@.failedNode2(
    p_failed_node integer,
    p_backup_node integer,
    p_ev_seqno bigint,
    p_failed_nodes integer[]
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    if not exists (
        select from @NAMESPACE@.sl_event e where e.ev_origin = p_failed_node and e.ev_seqno = p_ev_seqno
    ) then
        raise exception using
            errcode = 'undefined_object',
            message = format(
                'Slony-I: event %s,%s not found', coalesce(p_failed_node::text, '<NULL>'), coalesce(p_ev_seqno::text, '<NULL>')
            );
    end if;
    update @NAMESPACE@.sl_node n set no_failed = true where n.no_id = any (p_failed_nodes) and not n.no_failed;
    perform @NAMESPACE@.RebuildListenEntries();
    perform @NAMESPACE@.tl_notifyRestart();
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'FAILOVER_NODE', p_failed_node::text, p_ev_seqno::text, array_to_string(p_failed_nodes, ',')
    );
end
$trunkline$;

-- On the other survivors when FAILOVER_NODE arrives, in a transaction of its own: routes around the failed nodes, so that what is
-- missing of the failed origin comes from the node that leads. Returns the failed node's number.
-- Locks: config lock. Event: none; asks the daemon to start anew if something changed.
create or replace function @NAMESPACE@.failedNode(
    p_failed_node integer,
    p_backup_node integer,
    p_failed_nodes integer[]
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if @NAMESPACE@.tl_routeAround(p_failed_node, p_backup_node, p_failed_nodes) then
        perform @NAMESPACE@.tl_notifyRestart();
    end if;
    return p_failed_node;
end
$trunkline$;

-- The effect of failedNode() without the restart, for daemons that follow a change of the configuration while they run.
-- Returns whether anything changed.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.tl_routeAround(
    p_failed_node integer,
    p_backup_node integer,
    p_failed_nodes integer[]
) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_count integer;
    v_changed integer := 0;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    update @NAMESPACE@.sl_node n set no_failed = true where n.no_id = any (p_failed_nodes) and not n.no_failed;
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    v_changed := v_changed + @NAMESPACE@.tl_replaceProvider(p_failed_node, p_backup_node);
    -- its own subscriptions even where another failed node is the provider: that one's turn may come later
    perform @NAMESPACE@.tl_expectPath(p_backup_node, v_local_node_id)
    where v_local_node_id <> p_backup_node and exists (
        select
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        where s.set_origin = p_failed_node and b.sub_receiver = v_local_node_id and b.sub_provider = any (p_failed_nodes)
    );
    update @NAMESPACE@.sl_subscribe b
    set sub_provider = p_backup_node
    from @NAMESPACE@.sl_set s
    where s.set_id = b.sub_set
        and s.set_origin = p_failed_node
        and b.sub_receiver = v_local_node_id
        and b.sub_receiver <> p_backup_node
        and b.sub_provider = any (p_failed_nodes);
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
    v_changed := v_changed + @NAMESPACE@.tl_cutPathsTo(p_failed_node);
    if v_changed > 0 then
        perform @NAMESPACE@.RebuildListenEntries();
    end if;
    return v_changed > 0;
end
$trunkline$;

-- With preFailover(), where several nodes fail together: their receivers get the sets of origins that live from these origins at once.
-- Else the news of the failover, which is an event of such an origin perhaps, could not reach them. Returns how many subscriptions changed.
-- Locks: config lock. Event: none; preFailover() asks the daemon to start anew.
create or replace function @NAMESPACE@.tl_leaveProviders(p_failed_nodes integer[]) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_count integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_subscribe b
    set sub_provider = s.set_origin
    from @NAMESPACE@.sl_set s, @NAMESPACE@.sl_node o, @NAMESPACE@.sl_path p
    where s.set_id = b.sub_set
        and o.no_id = s.set_origin and not o.no_failed and o.no_id <> all (p_failed_nodes)
        and p.pa_server = s.set_origin and p.pa_client = b.sub_receiver and p.pa_conninfo <> '<event pending>'
        and b.sub_provider = any (p_failed_nodes)
        and b.sub_receiver <> all (p_failed_nodes);
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform @NAMESPACE@.RebuildListenEntries();
    end if;
    return v_count;
end
$trunkline$;

-- Gives the receivers of a failed node another provider: the node that leads; for a set of an origin that lives and that the leading
-- node cannot pass on, that origin. A failed origin's sets which the leading node does not have wait for the node that takes them over.
-- Returns how many subscriptions changed.
create or replace function @NAMESPACE@.tl_replaceProvider(p_failed_node integer, p_backup_node integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_subscription record;
    v_changed integer := 0;
begin
    for v_subscription in
        select b.sub_set, b.sub_receiver,
               case
                   when s.set_origin = p_failed_node or f.sub_set is not null then p_backup_node
                   when not o.no_failed then s.set_origin
               end as provider
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        join @NAMESPACE@.sl_node o on o.no_id = s.set_origin
        join @NAMESPACE@.sl_node r on r.no_id = b.sub_receiver
        left join @NAMESPACE@.sl_subscribe f
            on f.sub_set = b.sub_set and f.sub_receiver = p_backup_node and f.sub_forward and f.sub_active
        where b.sub_provider = p_failed_node and b.sub_receiver <> p_backup_node and not r.no_failed
        order by b.sub_set, b.sub_receiver
    loop
        continue when v_subscription.provider is null or v_subscription.provider = v_subscription.sub_receiver;
        -- a missing path must not hold up the failover: it can be stored afterwards
        perform @NAMESPACE@.tl_expectPath(v_subscription.provider, v_subscription.sub_receiver);
        update @NAMESPACE@.sl_subscribe b
        set sub_provider = v_subscription.provider
        where b.sub_set = v_subscription.sub_set and b.sub_receiver = v_subscription.sub_receiver;
        v_changed := v_changed + 1;
    end loop;
    return v_changed;
end
$trunkline$;

-- On the node that leads, when all survivors have confirmed the FAILOVER_NODE: takes the sets over. Returns 0.
-- Locks: config lock; ACCESS EXCLUSIVE on each table of the sets. Event: none; asks the daemon to start anew.
create or replace function @NAMESPACE@.failedNode3(
    p_failed_node integer,
    p_backup_node integer,
    p_seq_no bigint
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.failoverSet_int(p_failed_node, p_backup_node, p_seq_no);
    perform @NAMESPACE@.tl_notifyRestart();
    return 0;
end
$trunkline$;

-- Makes p_backup_node the origin of all sets of the failed node, and notes it in tl_failover, with the transactions that come
-- after it on this node. Returns the failed node's number.
-- A survivor that knows events of the failed origin that the leading node did not know has changes nobody else will ever
-- get; it gives up its subscriptions and must be subscribed again.
-- Locks: config lock; on the new origin ACCESS EXCLUSIVE on each table of the sets. Event: UNSUBSCRIBE_SET in that case.
create or replace function @NAMESPACE@.failoverSet_int(
    p_failed_node integer,
    p_backup_node integer,
    p_last_seqno bigint
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_newest bigint;
    v_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);

    select max(e.ev_seqno) into v_newest from @NAMESPACE@.sl_event e where e.ev_origin = p_failed_node;
    if v_newest > p_last_seqno then
        for v_set_id in
            select s.set_id
            from @NAMESPACE@.sl_set s
            join @NAMESPACE@.sl_subscribe b on b.sub_set = s.set_id and b.sub_receiver = v_local_node_id
            where s.set_origin = p_failed_node
            order by s.set_id
        loop
            raise warning using
                message = format(
                    'Slony-I: node %s has changes of failed node %s that node %s lacks, it must be subscribed to set %s again',
                    v_local_node_id, p_failed_node, p_backup_node, v_set_id
                ),
                detail = format(
                    'Newest event of node %s here: %s; failover at event %s.', p_failed_node, v_newest, p_last_seqno
                );
            perform @NAMESPACE@.unsubscribeSet(v_set_id, v_local_node_id, true);
        end loop;
        delete from @NAMESPACE@.sl_event e where e.ev_origin = p_failed_node and e.ev_seqno > p_last_seqno;
    end if;

    insert into @NAMESPACE@.tl_failover (fo_failed, fo_seqno, fo_snapshot, fo_successor, fo_sets, fo_failed_nodes, fo_at)
    select p_failed_node, p_last_seqno,
           (
               select e.ev_snapshot::text
               from @NAMESPACE@.sl_event e
               where e.ev_origin = p_failed_node and e.ev_type = 'SYNC' and e.ev_seqno <= p_last_seqno
               order by e.ev_seqno desc
               limit 1
           ),
           p_backup_node,
           array(select s.set_id from @NAMESPACE@.sl_set s where s.set_origin = p_failed_node order by s.set_id),
           coalesce(
               (
                   select string_to_array(e.ev_data3, ',')::integer[]
                   from @NAMESPACE@.sl_event e
                   where e.ev_origin = p_backup_node and e.ev_type = 'FAILOVER_NODE' and e.ev_data1 = p_failed_node::text
                   order by e.ev_seqno desc
                   limit 1
               ),
               array(select n.no_id from @NAMESPACE@.sl_node n where n.no_failed order by n.no_id)
           ),
           clock_timestamp()
    where not exists (
        select from @NAMESPACE@.tl_failover o
        where o.fo_failed = p_failed_node and o.fo_seqno = p_last_seqno and o.fo_successor = p_backup_node
    );

    for v_set_id in
        select s.set_id from @NAMESPACE@.sl_set s where s.set_origin = p_failed_node order by s.set_id
    loop
        delete from @NAMESPACE@.sl_subscribe b where b.sub_set = v_set_id and b.sub_receiver = p_backup_node;
        perform @NAMESPACE@.tl_expectPath(p_backup_node, b.sub_receiver)
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_node p on p.no_id = b.sub_provider and p.no_failed
        join @NAMESPACE@.sl_node r on r.no_id = b.sub_receiver and not r.no_failed
        where b.sub_set = v_set_id;
        update @NAMESPACE@.sl_subscribe b
        set sub_provider = p_backup_node
        from @NAMESPACE@.sl_node p, @NAMESPACE@.sl_node r
        where b.sub_set = v_set_id
            and p.no_id = b.sub_provider and p.no_failed
            and r.no_id = b.sub_receiver and not r.no_failed;
        perform @NAMESPACE@.tl_changeOrigin(v_set_id, p_backup_node);
        -- No ACCEPT_SET follows a failover. Without a SYNC of the new origin, which may have been idle since this node came back to the
        -- cluster, the set begins at the newest event of it: it takes over only when everybody has confirmed its FAILOVER_NODE.
        update @NAMESPACE@.sl_setsync y
        set ssy_seqno = e.ev_seqno, ssy_snapshot = e.ev_snapshot
        from (
            select n.ev_seqno, n.ev_snapshot
            from @NAMESPACE@.sl_event n
            where n.ev_origin = p_backup_node and n.ev_snapshot is not null
            order by n.ev_seqno desc
            limit 1
        ) e
        where y.ssy_setid = v_set_id and y.ssy_origin = p_backup_node and y.ssy_seqno = 0;
        if v_local_node_id = p_backup_node then
            perform @NAMESPACE@.tl_configureSetTriggers(v_set_id);
        end if;
    end loop;

    -- the failed node may also have given on sets of others
    perform @NAMESPACE@.tl_replaceProvider(p_failed_node, p_backup_node);
    perform @NAMESPACE@.tl_expectPath(s.set_origin, p_backup_node)
    from @NAMESPACE@.sl_subscribe b
    join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
    where b.sub_receiver = p_backup_node and b.sub_provider = p_failed_node;
    update @NAMESPACE@.sl_subscribe b
    set sub_provider = s.set_origin
    from @NAMESPACE@.sl_set s
    where s.set_id = b.sub_set and b.sub_receiver = p_backup_node and b.sub_provider = p_failed_node;
    update @NAMESPACE@.sl_node n set no_active = false where n.no_id = p_failed_node;
    perform @NAMESPACE@.RebuildListenEntries();
    perform @NAMESPACE@.addPartialLogIndices();

    -- Until here this node's rows of the sets were the failed node's: nobody could write them, and the tables that are opened
    -- with this transaction's end are locked. Subtransactions are in pg_locks and in no snapshot.
    update @NAMESPACE@.tl_failover o
    set fo_next_xid = txid_snapshot_xmax(txid_current_snapshot()),
        fo_open_xids = array(
            select distinct l.transactionid::text::bigint
            from pg_locks l
            where l.locktype = 'transactionid' and l.granted
            order by 1
        )
    where o.fo_failed = p_failed_node and o.fo_seqno = p_last_seqno and o.fo_successor = p_backup_node
        and o.fo_next_xid is null;
    return p_failed_node;
end
$trunkline$;

-- Ends this node's subscriptions to sets of a failed origin. Returns the number of the last event, null if there were none.
-- Locks: config lock; ACCESS EXCLUSIVE on each table of the sets. Event: UNSUBSCRIBE_SET for each set.
create or replace function @NAMESPACE@.unsubscribe_abandoned_sets(p_failed_node integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_set_id integer;
    v_seqno bigint;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    for v_set_id in
        select b.sub_set
        from @NAMESPACE@.sl_subscribe b
        join @NAMESPACE@.sl_set s on s.set_id = b.sub_set
        where b.sub_receiver = v_local_node_id and s.set_origin = p_failed_node
        order by b.sub_set
    loop
        v_seqno := @NAMESPACE@.unsubscribeSet(v_set_id, v_local_node_id, true);
    end loop;
    return v_seqno;
end
$trunkline$;
