-- Sets: what is replicated together. Created, filled, emptied, merged, locked.

-- Raises unless the set exists, originates here and is not fenced off. The texts differ from statement to statement as in the original.
create or replace function @NAMESPACE@.tl_requireLocalSet(
    p_set_id integer,
    p_context text default '',
    p_remote text default 'does not originate on local node'
) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set_origin integer;
    v_fence record;
begin
    select s.set_origin into v_set_origin from @NAMESPACE@.sl_set s where s.set_id = p_set_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: %sset %s not found', p_context, coalesce(p_set_id::text, '<NULL>'));
    end if;
    if v_set_origin <> @NAMESPACE@.getLocalNodeId(@CLUSTER@) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: %sset %s %s', p_context, p_set_id, p_remote),
            hint = format('It originates on node %s.', v_set_origin);
    end if;
    select f.fe_reason, f.fe_new_origin into v_fence from @NAMESPACE@.tl_fence f where f.fe_set = p_set_id;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: %sset %s is fenced off on this node (%s)', p_context, p_set_id, v_fence.fe_reason),
            hint = coalesce(
                format('It originates on node %s.', v_fence.fe_new_origin),
                'tl_fence says since when; it is opened again when the node reaches the cluster.'
            );
    end if;
end
$trunkline$;

-- Raises unless both sets have the same subscribers with the same providers.
create or replace function @NAMESPACE@.tl_requireSameSubscribers(p_set_id integer, p_other_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_only_set text;
    v_only_other text;
begin
    select string_agg(format('%s->%s', b.sub_provider, b.sub_receiver), ', ' order by b.sub_receiver) into v_only_set
    from @NAMESPACE@.sl_subscribe b
    where b.sub_set = p_set_id and not exists (
        select from @NAMESPACE@.sl_subscribe o
        where o.sub_set = p_other_id and o.sub_provider = b.sub_provider and o.sub_receiver = b.sub_receiver
    );
    select string_agg(format('%s->%s', b.sub_provider, b.sub_receiver), ', ' order by b.sub_receiver) into v_only_other
    from @NAMESPACE@.sl_subscribe b
    where b.sub_set = p_other_id and not exists (
        select from @NAMESPACE@.sl_subscribe o
        where o.sub_set = p_set_id and o.sub_provider = b.sub_provider and o.sub_receiver = b.sub_receiver
    );
    if v_only_set is not null or v_only_other is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: subscriber lists of set %s and %s are different',
                case when v_only_set is not null then p_set_id else p_other_id end,
                case when v_only_set is not null then p_other_id else p_set_id end
            ),
            detail = format(
                'Subscriptions (provider->receiver) only of set %s: %s; only of set %s: %s',
                p_set_id, coalesce(v_only_set, 'none'), p_other_id, coalesce(v_only_other, 'none')
            );
    end if;
end
$trunkline$;

-- Raises while a subscriber still copies the set: what it copies must not change under it.
create or replace function @NAMESPACE@.tl_requireSubscribed(p_set_id integer, p_refused text) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if @NAMESPACE@.isSubscriptionInProgress(p_set_id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: set %s has subscriptions in progress - cannot %s', p_set_id, p_refused),
            hint = 'Wait until the subscribers have confirmed their initial copy.';
    end if;
end
$trunkline$;

-- Whether a table's or sequence's set is of interest here: this node is its origin or a subscriber.
create or replace function @NAMESPACE@.tl_holdsSet(p_set_id integer) returns boolean
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select exists (
        select from @NAMESPACE@.sl_set s
        where s.set_id = p_set_id and s.set_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
    ) or exists (
        select from @NAMESPACE@.sl_subscribe b
        where b.sub_set = p_set_id and b.sub_receiver = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
    )
$trunkline$;

-- Creates an empty set with this node as origin. Returns the event's number.
-- Locks: config lock. Event: STORE_SET.
create or replace function @NAMESPACE@.storeSet(p_set_id integer, p_set_comment text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    insert into @NAMESPACE@.sl_set (set_id, set_origin, set_comment)
    values (p_set_id, v_local_node_id, p_set_comment);
    perform @NAMESPACE@.addPartialLogIndices();
    return @NAMESPACE@.createEvent(@CLUSTER@, 'STORE_SET', p_set_id::text, v_local_node_id::text, p_set_comment);
end
$trunkline$;

-- The local part of storeSet() on the other nodes; an origin not heard of yet is stored as pending. Returns the set's number.
-- A set known here with another origin was dropped there and made anew, but the old origin's DROP_SET has not arrived: events of
-- different nodes come in any order. Refused until it has, because that DROP_SET would take the new set with it.
create or replace function @NAMESPACE@.storeSet_int(p_set_id integer, p_set_origin integer, p_set_comment text) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set_origin integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select s.set_origin into v_set_origin from @NAMESPACE@.sl_set s where s.set_id = p_set_id;
    if v_set_origin <> p_set_origin then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: storeSet_int(): set %s still originates on node %s here', p_set_id, v_set_origin),
            hint = format('It can be stored with origin %s when the DROP_SET of node %s has arrived.', p_set_origin, v_set_origin);
    end if;
    if found then
        update @NAMESPACE@.sl_set s set set_comment = p_set_comment where s.set_id = p_set_id;
    else
        perform @NAMESPACE@.tl_expectNode(p_set_origin);
        insert into @NAMESPACE@.sl_set (set_id, set_origin, set_comment)
        values (p_set_id, p_set_origin, p_set_comment);
    end if;
    perform @NAMESPACE@.addPartialLogIndices();
    return p_set_id;
end
$trunkline$;

-- Drops a set with its subscriptions; the tables lose their triggers everywhere and keep their rows. Returns the event's number.
-- Locks: config lock; ACCESS EXCLUSIVE on each table of the set. Event: DROP_SET.
create or replace function @NAMESPACE@.dropSet(p_set_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_requireLocalSet(p_set_id);
    perform @NAMESPACE@.dropSet_int(p_set_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'DROP_SET', p_set_id::text);
end
$trunkline$;

-- The local part of dropSet(). Returns the set's number.
create or replace function @NAMESPACE@.dropSet_int(p_set_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_forgetSetObjects(p_set_id);
    delete from @NAMESPACE@.sl_subscribe b where b.sub_set = p_set_id;
    delete from @NAMESPACE@.sl_setsync y where y.ssy_setid = p_set_id;
    delete from @NAMESPACE@.tl_fence f where f.fe_set = p_set_id;
    delete from @NAMESPACE@.sl_set s where s.set_id = p_set_id;
    perform @NAMESPACE@.RebuildListenEntries();
    perform @NAMESPACE@.addPartialLogIndices();
    return p_set_id;
end
$trunkline$;

-- Takes the triggers off the set's tables here and forgets its tables and sequences.
create or replace function @NAMESPACE@.tl_forgetSetObjects(p_set_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tab_id integer;
begin
    for v_tab_id in
        select t.tab_id from @NAMESPACE@.sl_table t where t.tab_set = p_set_id order by t.tab_id
    loop
        perform @NAMESPACE@.alterTableDropTriggers(v_tab_id);
    end loop;
    delete from @NAMESPACE@.tl_own_changes o
    using @NAMESPACE@.sl_table t
    where t.tab_id = o.oc_tab_id and t.tab_set = p_set_id;
    delete from @NAMESPACE@.tl_own_change o
    using @NAMESPACE@.sl_table t
    where t.tab_id = o.ow_tab_id and t.tab_set = p_set_id;
    delete from @NAMESPACE@.sl_table t where t.tab_set = p_set_id;
    delete from @NAMESPACE@.tl_copied o where o.co_set = p_set_id;
    delete from @NAMESPACE@.tl_sequence_seen n
    using @NAMESPACE@.sl_sequence q
    where q.seq_id = n.ss_seqid and q.seq_set = p_set_id;
    delete from @NAMESPACE@.sl_sequence q where q.seq_set = p_set_id;
end
$trunkline$;

-- Makes the tables and sequences of p_add_id part of p_set_id, whose subscribers must be the same. The SYNC brings both sets
-- to one position first. Returns the number of the MERGE_SET.
-- Locks: config lock. Events: SYNC, MERGE_SET.
create or replace function @NAMESPACE@.mergeSet(p_set_id integer, p_add_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    if p_set_id = p_add_id then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'Slony-I: merged set ids cannot be identical';
    end if;
    perform @NAMESPACE@.tl_requireLocalSet(p_set_id);
    perform @NAMESPACE@.tl_requireLocalSet(p_add_id);
    perform @NAMESPACE@.tl_requireSameSubscribers(p_set_id, p_add_id);
    perform @NAMESPACE@.tl_requireSubscribed(p_add_id, 'merge');
    perform @NAMESPACE@.tl_requireSubscribed(p_set_id, 'merge');
    perform @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC');
    perform @NAMESPACE@.mergeSet_int(p_set_id, p_add_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'MERGE_SET', p_set_id::text, p_add_id::text);
end
$trunkline$;

-- The local part of mergeSet(). Returns p_set_id.
create or replace function @NAMESPACE@.mergeSet_int(p_set_id integer, p_add_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_table t set tab_set = p_set_id where t.tab_set = p_add_id;
    update @NAMESPACE@.sl_sequence q set seq_set = p_set_id where q.seq_set = p_add_id;
    delete from @NAMESPACE@.sl_subscribe b where b.sub_set = p_add_id;
    delete from @NAMESPACE@.sl_setsync y where y.ssy_setid = p_add_id;
    delete from @NAMESPACE@.sl_set s where s.set_id = p_add_id;
    return p_set_id;
end
$trunkline$;

-- Whether a subscriber of the set has not yet confirmed the event that makes it copy the set.
create or replace function @NAMESPACE@.isSubscriptionInProgress(p_add_id integer) returns boolean
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select exists (
        select
        from @NAMESPACE@.sl_event e
        where e.ev_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
            and e.ev_type = 'ENABLE_SUBSCRIPTION'
            and e.ev_data1 = p_add_id::text
            and e.ev_seqno > (
                select max(c.con_seqno)
                from @NAMESPACE@.sl_confirm c
                where c.con_origin = e.ev_origin and c.con_received = e.ev_data3::integer
            )
            and exists (
                select from @NAMESPACE@.sl_subscribe b
                where b.sub_set = p_add_id and b.sub_receiver = e.ev_data3::integer
            )
    )
$trunkline$;

-- Takes the lock trigger off a table, if it is there.
create or replace function @NAMESPACE@.tl_unlockTable(p_reloid oid) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_trigger record;
begin
    for v_trigger in
        select g.tgname, n.nspname, c.relname
        from pg_trigger g
        join pg_class c on c.oid = g.tgrelid
        join pg_namespace n on n.oid = c.relnamespace
        where g.tgrelid = p_reloid and g.tgname = @NAMESPACE@.tl_object_name('', '_lockedset')
    loop
        execute format('drop trigger %I on %I.%I', v_trigger.tgname, v_trigger.nspname, v_trigger.relname);
    end loop;
end
$trunkline$;

-- Takes a lock on tables, given as LOCK TABLE takes them. Applications write to several of them in an order of their own: who meets us
-- half way would be in a deadlock with us, and a second later one of both would fail. So only the first table is waited for, while none is held yet;
-- if another one is not free, everything is let go and that one is waited for first. The wait ends well before the server looks for
-- deadlocks and is made anew with more patience; meanwhile nobody queues behind us for longer than that.
-- Where several tables are written to all the time this need not ever succeed. After three seconds the tables are therefore taken one
-- after the other, each waited for while the ones before it are held: writers queue behind us then, and a deadlock is the server's to
-- end. If that hits us ten times, as it must when the caller already holds a lock that the writers wait for, the error is the caller's.
-- Gives up for good when the caller's lock_timeout has passed (0: never).
create or replace function @NAMESPACE@.tl_lockTables(p_tables text[], p_mode text) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tables text[] := p_tables;
    v_at integer;
    v_start timestamptz := clock_timestamp();
    -- in milliseconds
    v_caller_timeout integer := (select s.setting::integer from pg_settings s where s.name = 'lock_timeout');
    v_deadlock_timeout integer := (select s.setting::integer from pg_settings s where s.name = 'deadlock_timeout');
    v_most integer := greatest(v_deadlock_timeout * 8 / 10, 1);
    v_patience integer := least(50, v_most);
    v_queue boolean := false;
    v_deadlocks integer := 0;
begin
    if coalesce(cardinality(v_tables), 0) = 0 then
        return;
    end if;
    loop
        -- Leaving the block by an error gives the locks back, and the setting as well.
        begin
            perform set_config('lock_timeout', v_patience::text, true);
            v_at := 1;
            execute format('lock table %s in %s mode', v_tables[1], p_mode);
            while v_at < cardinality(v_tables) loop
                v_at := v_at + 1;
                execute format(
                    'lock table %s in %s mode%s', v_tables[v_at], p_mode, case when v_queue then '' else ' nowait' end
                );
            end loop;
            perform set_config('lock_timeout', v_caller_timeout::text, true);
            return;
        exception
            when lock_not_available or deadlock_detected then
                if v_caller_timeout > 0
                    and clock_timestamp() > v_start + v_caller_timeout * interval '1 millisecond'
                then
                    raise;
                end if;
                if sqlstate = '40P01' then
                    v_deadlocks := v_deadlocks + 1;
                    if v_deadlocks >= 10 then
                        raise;
                    end if;
                end if;
        end;
        if not v_queue and clock_timestamp() > v_start + interval '3 seconds' then
            v_queue := true;
            v_patience := greatest(3 * v_deadlock_timeout, 1);
            continue;
        end if;
        if v_queue or v_at = 1 then
            -- Not in step with an application that retries as well.
            perform pg_sleep((0.01 + 0.04 * random()));
        end if;
        if v_at > 1 then
            v_tables := v_tables[v_at:v_at] || v_tables[:v_at - 1] || v_tables[v_at + 1:];
        elsif not v_queue then
            v_patience := least(v_patience * 2, v_most);
        end if;
    end loop;
end
$trunkline$;

-- Takes a lock on all tables of the sets, see tl_lockTables().
create or replace function @NAMESPACE@.tl_lockTablesOfSets(p_set_ids integer[], p_mode text) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tables text[];
begin
    select array_agg(format('only %I.%I', t.tab_nspname, t.tab_relname) order by t.tab_id)
    into v_tables
    from @NAMESPACE@.sl_table t
    where t.tab_set = any (p_set_ids)
        -- What this session holds already is not asked for again. Before PostgreSQL 17 NOWAIT is refused as soon as somebody queues
        -- for the table, be it behind ourselves: a move under load would never end, and keep writers out all the while.
        and not exists (
            select from pg_locks l
            where l.pid = pg_backend_pid() and l.granted and l.locktype = 'relation' and l.relation = t.tab_reloid
                and l.database = (select d.oid from pg_database d where d.datname = current_database())
                and (
                    l.mode = 'AccessExclusiveLock'
                    or p_mode = 'share row exclusive' and l.mode in ('ShareRowExclusiveLock', 'ExclusiveLock')
                )
        );
    perform @NAMESPACE@.tl_lockTables(v_tables, p_mode);
end
$trunkline$;

-- The same for one set.
create or replace function @NAMESPACE@.tl_lockTablesOfSet(p_set_id integer, p_mode text) returns void
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select @NAMESPACE@.tl_lockTablesOfSets(array[p_set_id], p_mode)
$trunkline$;

-- Keeps writers out of the set's tables until unlockSet() or moveSet(). Returns the set's number.
-- Waits for every transaction that writes to one of them; readers are not disturbed.
-- Locks: config lock; SHARE ROW EXCLUSIVE on each table. Event: none.
create or replace function @NAMESPACE@.lockSet(p_set_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.tl_lockSets(array[p_set_id]);
    return p_set_id;
end
$trunkline$;

-- The same for several sets: all tables of all of them are locked in one step, or none. Returns how many sets.
-- Locks: config lock; SHARE ROW EXCLUSIVE on each table. Event: none.
create or replace function @NAMESPACE@.tl_lockSets(p_set_ids integer[]) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set_id integer;
    v_table record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    foreach v_set_id in array p_set_ids loop
        perform @NAMESPACE@.tl_requireLocalSet(v_set_id);
        if exists (select from @NAMESPACE@.sl_set s where s.set_id = v_set_id and s.set_locked is not null) then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('Slony-I: set %s is already locked', v_set_id),
                hint = 'If another script left it so, `unlock set` opens it and `move set` goes on.';
        end if;
    end loop;
    perform @NAMESPACE@.tl_lockTablesOfSets(p_set_ids, 'share row exclusive');
    for v_table in
        select t.tab_nspname, t.tab_relname, g.oid is not null as there
        from @NAMESPACE@.sl_table t
        left join pg_trigger g on g.tgrelid = t.tab_reloid and g.tgname = @NAMESPACE@.tl_object_name('', '_lockedset')
        where t.tab_set = any (p_set_ids)
        order by t.tab_id
    loop
        if v_table.there then
            -- unlockSet() had to leave it
            execute format(
                'alter table only %I.%I enable trigger %I',
                v_table.tab_nspname, v_table.tab_relname, @NAMESPACE@.tl_object_name('', '_lockedset')
            );
            continue;
        end if;
        execute format(
            'create trigger %I before insert or update or delete on %I.%I for each row execute procedure %I.lockedset(%L)',
            @NAMESPACE@.tl_object_name('', '_lockedset'), v_table.tab_nspname, v_table.tab_relname, @CLUSTER@, @CLUSTER@
        );
    end loop;
    update @NAMESPACE@.sl_set s
    set set_locked = txid_snapshot_xmax(txid_current_snapshot())
    where s.set_id = any (p_set_ids);
    return cardinality(p_set_ids);
end
$trunkline$;

-- Lets writers in again. Returns the set's number.
-- The lock triggers go, for which nobody may be using the tables, not even reading. A reader that stays (a dump) is not waited for,
-- else it would keep the writers out: the triggers are then only disabled, and go with the next unlock or cleanup that has the tables
-- for itself.
-- Locks: config lock; ACCESS EXCLUSIVE on each table, or SHARE ROW EXCLUSIVE. Event: none.
create or replace function @NAMESPACE@.unlockSet(p_set_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_caller_timeout text := current_setting('lock_timeout');
    v_table record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_requireLocalSet(p_set_id);
    if exists (select from @NAMESPACE@.sl_set s where s.set_id = p_set_id and s.set_locked is null) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: set %s is not locked', p_set_id);
    end if;
    begin
        perform set_config('lock_timeout', '300ms', true);
        perform @NAMESPACE@.tl_lockTablesOfSet(p_set_id, 'access exclusive');
        perform @NAMESPACE@.tl_unlockTable(t.tab_reloid)
        from (select o.tab_reloid from @NAMESPACE@.sl_table o where o.tab_set = p_set_id order by o.tab_id) t;
        perform set_config('lock_timeout', v_caller_timeout, true);
    exception
        when lock_not_available or deadlock_detected then
            perform set_config('lock_timeout', v_caller_timeout, true);
            perform @NAMESPACE@.tl_lockTablesOfSet(p_set_id, 'share row exclusive');
            for v_table in
                select t.tab_nspname, t.tab_relname
                from @NAMESPACE@.sl_table t
                join pg_trigger g on g.tgrelid = t.tab_reloid and g.tgname = @NAMESPACE@.tl_object_name('', '_lockedset')
                where t.tab_set = p_set_id
                order by t.tab_id
            loop
                execute format(
                    'alter table only %I.%I disable trigger %I',
                    v_table.tab_nspname, v_table.tab_relname, @NAMESPACE@.tl_object_name('', '_lockedset')
                );
            end loop;
    end;
    update @NAMESPACE@.sl_set s set set_locked = null where s.set_id = p_set_id;
    return p_set_id;
end
$trunkline$;

-- Drops the disabled lock triggers that unlockSet() had to leave, where nobody uses the table now. Returns how many.
-- Locks: the caller holds the config lock; ACCESS EXCLUSIVE on such a table, without waiting. Event: none.
create or replace function @NAMESPACE@.tl_dropIdleLocks() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table record;
    v_dropped integer := 0;
begin
    for v_table in
        select t.tab_reloid, t.tab_nspname, t.tab_relname
        from @NAMESPACE@.sl_table t
        join pg_trigger g on g.tgrelid = t.tab_reloid and g.tgname = @NAMESPACE@.tl_object_name('', '_lockedset')
        where g.tgenabled = 'D'
        order by t.tab_id
    loop
        begin
            execute format('lock table only %I.%I in access exclusive mode nowait', v_table.tab_nspname, v_table.tab_relname);
            perform @NAMESPACE@.tl_unlockTable(v_table.tab_reloid);
            v_dropped := v_dropped + 1;
        exception
            when lock_not_available then null;
        end;
    end loop;
    return v_dropped;
end
$trunkline$;
