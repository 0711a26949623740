-- A node that was failed over comes back: it forgets what it believed, and takes the cluster as it is now.

-- Keys of the rows of a set that the log says p_origin has changed: values of the key columns in the order of their names, the old ones
-- and the new ones of a changed key. A null key: the table was truncated, or its key could not be read. Transactions from p_first on;
-- with p_snapshot only those it does not see. A null table: there are more than p_most log rows, or a table is not what it was.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_loggedKeys(
    p_set integer,
    p_origin integer,
    p_first bigint,
    p_snapshot pg_catalog.text,
    p_most integer
) returns table (lk_tab_id integer, lk_key pg_catalog.text[])
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    with members as (
        select t.tab_id, array_agg(a.attname::text) as names
        from @NAMESPACE@.sl_table t
        join pg_index x on x.indrelid = t.tab_reloid
        join pg_class i on i.oid = x.indexrelid and i.relname = t.tab_idxname
        -- before version 11 there is no such column, and no column of an index that is not of its key
        cross join generate_series(0, coalesce((to_jsonb(x) ->> 'indnkeyatts')::int4, x.indnatts::int4) - 1) as k (place)
        join pg_attribute a on a.attrelid = t.tab_reloid and a.attnum = x.indkey[k.place]
        where t.tab_set = p_set
        group by t.tab_id
    ),
    logged as (
        (
            select l.log_tableid, l.log_cmdtype, l.log_cmdargs
            from @NAMESPACE@.sl_log_1 l
            where l.log_origin = p_origin and l.log_txid >= p_first
                and (p_snapshot is null or not txid_visible_in_snapshot(l.log_txid, p_snapshot::txid_snapshot))
                and l.log_tableid in (select m.tab_id from members m)
            limit p_most + 1
        )
        union all
        (
            select l.log_tableid, l.log_cmdtype, l.log_cmdargs
            from @NAMESPACE@.sl_log_2 l
            where l.log_origin = p_origin and l.log_txid >= p_first
                and (p_snapshot is null or not txid_visible_in_snapshot(l.log_txid, p_snapshot::txid_snapshot))
                and l.log_tableid in (select m.tab_id from members m)
            limit p_most + 1
        )
    )
    select null::int4, null::text[]
    where (select count(*) from logged) > p_most
        -- a table that was made anew, or lacks the index
        or exists (
            select from @NAMESPACE@.sl_table t where t.tab_set = p_set and t.tab_id not in (select m.tab_id from members m)
        )
    union all
    select distinct l.log_tableid, case when cardinality(either.key) = cardinality(m.names) then either.key end
    from logged l
    join members m on m.tab_id = l.log_tableid
    cross join lateral (
        -- A changed row has its new values first, those of its old key behind them; a column of the key that is not changed
        -- is named once.
        select array_agg(named.words[1] order by named.name collate "C") as new,
               array_agg(named.words[cardinality(named.words)] order by named.name collate "C") as old
        from (
            select pair.name, array_agg(pair.value order by pair.place) as words
            from (
                select u.word as name, lead(u.word) over (order by u.place) as value, u.place
                from unnest(l.log_cmdargs) with ordinality as u (word, place)
            ) pair
            where pair.place % 2 = 1 and pair.name = any (m.names)
            group by pair.name
        ) named
    ) key
    cross join lateral (values (key.new), (key.old)) as either (key)
    where (select count(*) from logged) <= p_most
$trunkline$;

-- Notes which rows of these sets, its own, this node has changed without the failover of p_seqno and p_snapshot knowing: the copy after
-- its return need look at no others but those the new origin has changed since. Notes nothing of tables of which that is not certain,
-- nothing at all if there are more than p_most of them; the copy compares all rows then. To be called before tl_forgetFormerLife().
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.tl_noteOwnChanges(
    p_sets integer[],
    p_seqno bigint,
    p_snapshot pg_catalog.text,
    p_most integer
) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local integer;
    v_first bigint := txid_snapshot_xmin(p_snapshot::txid_snapshot);
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    delete from @NAMESPACE@.tl_own_changes o;
    delete from @NAMESPACE@.tl_own_change o;
    -- After a crash with `synchronous_commit` off this node may have less than the survivors. After a dump was restored its log may
    -- say nothing of what the dump has; the event was then written by a transaction that has nothing to do with its snapshot.
    if not exists (
        select from @NAMESPACE@.sl_event e
        where e.ev_origin = v_local and e.ev_type = 'SYNC' and e.ev_seqno <= p_seqno
            and e.ev_snapshot::text = p_snapshot
            and ((e.xmin::text::int8 - txid_snapshot_xmin(e.ev_snapshot)) & 4294967295) < 1000000
    ) then
        return;
    end if;
    if not @NAMESPACE@.tl_logReachesBackTo(v_first) or exists (
        select from @NAMESPACE@.sl_log_script l
        where l.log_origin = v_local and l.log_txid >= v_first
            and not txid_visible_in_snapshot(l.log_txid, p_snapshot::txid_snapshot)
    ) then
        return;
    end if;
    insert into @NAMESPACE@.tl_own_change (ow_tab_id, ow_key)
    select k.lk_tab_id, k.lk_key
    from @NAMESPACE@.sl_set s
    cross join lateral @NAMESPACE@.tl_loggedKeys(s.set_id, v_local, v_first, p_snapshot, p_most) as k
    where s.set_id = any (p_sets) and s.set_origin = v_local;
    if exists (select from @NAMESPACE@.tl_own_change o where o.ow_tab_id is null) then
        delete from @NAMESPACE@.tl_own_change o;
        return;
    end if;
    insert into @NAMESPACE@.tl_own_changes (oc_tab_id, oc_reloid, oc_seqno, oc_snapshot)
    select t.tab_id, t.tab_reloid, p_seqno, p_snapshot
    from @NAMESPACE@.sl_set s
    join @NAMESPACE@.sl_table t on t.tab_set = s.set_id
    where s.set_id = any (p_sets) and s.set_origin = v_local
        and t.tab_id not in (select o.ow_tab_id from @NAMESPACE@.tl_own_change o where o.ow_key is null);
    delete from @NAMESPACE@.tl_own_change o where o.ow_key is null;
end
$trunkline$;

-- Does the log still have all rows of transactions from p_first on, whoever's they are?
create or replace function @NAMESPACE@.tl_logReachesBackTo(p_first bigint) returns boolean
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select coalesce(
        (select r.reg_text::int8 <= p_first from @NAMESPACE@.sl_registry r where r.reg_key = 'logswitch.emptied'), false
    )
$trunkline$;

-- Keys of the rows of a set that this node, its origin since the failover of p_failed with p_seqno and p_snapshot, has changed since
-- then, as tl_loggedKeys() gives them; a null key also of tables that were not in the set then. A null table: the log cannot tell.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_changesSinceTakeover(
    p_set integer,
    p_failed integer,
    p_seqno bigint,
    p_snapshot pg_catalog.text,
    p_most integer
) returns table (lk_tab_id integer, lk_key pg_catalog.text[])
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local integer := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_next bigint;
    v_open bigint[];
    v_first bigint;
begin
    -- The transaction that took over wrote both rows, and nothing has changed them since: the set has had no other origin.
    select o.fo_next_xid, o.fo_open_xids
    into v_next, v_open
    from @NAMESPACE@.tl_failover o
    join @NAMESPACE@.sl_set s on s.set_id = p_set and s.set_origin = v_local
    where o.fo_failed = p_failed and o.fo_seqno = p_seqno and o.fo_snapshot = p_snapshot
        and o.fo_successor = v_local and p_set = any (o.fo_sets)
        and o.xmin::text::int8 = any (o.fo_open_xids) and s.xmin::text::int8 = any (o.fo_open_xids);
    -- The ids of open transactions come without their upper half; all of them are near the next one.
    select least(v_next, min(v_next - (((v_next - x.xid + 2147483648) & 4294967295) - 2147483648)))
    into v_first
    from unnest(v_open) as x (xid);
    if v_next is null or not @NAMESPACE@.tl_logReachesBackTo(v_first) or exists (
        select from @NAMESPACE@.sl_log_script l where l.log_origin = v_local and l.log_txid >= v_first
    ) then
        return query select null::int4, null::text[];
        return;
    end if;
    return query
    select k.lk_tab_id, k.lk_key from @NAMESPACE@.tl_loggedKeys(p_set, v_local, v_first, null, p_most) as k
    union all
    select t.tab_id, null::text[]
    from @NAMESPACE@.sl_table t
    cross join lateral (select ((t.xmin::text::int8 - v_next + 2147483648) & 4294967295) - 2147483648 as age) was
    where t.tab_set = p_set and was.age >= 0 and t.xmin::text::int8 <> all (v_open);
end
$trunkline$;

-- Forgets events, confirmations, log, subscriptions and paths of this node's former life, in the transaction that gives it the
-- cluster's configuration anew. Tables, sequences and sets stay, and with them the triggers that keep writers out: the caller has
-- fenced the sets this node originated. What nobody else has must have been saved before.
-- Locks: config lock; ACCESS EXCLUSIVE on the log tables. Event: none.
create or replace function @NAMESPACE@.tl_forgetFormerLife() returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_open integer;
    v_status bigint;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select s.set_id into v_open
    from @NAMESPACE@.sl_set s
    join @NAMESPACE@.sl_table t on t.tab_set = s.set_id
    where @NAMESPACE@.tl_acceptsWrites(s.set_id)
    order by s.set_id
    limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('set %s can still be written on this node', v_open),
            hint = 'Fence it first: select tl_fence_set(set, new origin, reason).';
    end if;
    truncate @NAMESPACE@.sl_log_1, @NAMESPACE@.sl_log_2;
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    -- a switch that was going on is over: both tables are empty
    perform setval(@REGCLASS:sl_log_status@, v_status & 1);
    delete from @NAMESPACE@.sl_registry where reg_key in ('logswitch.boundary', 'logswitch.passing');
    perform @NAMESPACE@.tl_noteLogEmptied(null);
    delete from @NAMESPACE@.sl_log_script;
    delete from @NAMESPACE@.sl_seqlog;
    delete from @NAMESPACE@.sl_event;
    delete from @NAMESPACE@.sl_confirm;
    delete from @NAMESPACE@.sl_setsync;
    delete from @NAMESPACE@.sl_subscribe;
    delete from @NAMESPACE@.sl_listen;
    delete from @NAMESPACE@.sl_path;
    delete from @NAMESPACE@.tl_sequence_seen;
    -- the events of others before the new beginning are gone, so nobody may take them from here
    delete from @NAMESPACE@.tl_origin_start;
    delete from @NAMESPACE@.tl_trouble;
    update @NAMESPACE@.sl_node n set no_active = false, no_failed = false;
end
$trunkline$;

-- A table or sequence of a set that is gone belongs to another one now (merge set): this node groups it so as well, and writers stay
-- kept out of it. The set is made known where it is not; its origin must be known.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.tl_followMember(p_id integer, p_sequence boolean, p_set integer, p_origin integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    insert into @NAMESPACE@.sl_set (set_id, set_origin, set_comment)
    select p_set, p_origin, ''
    where not exists (select from @NAMESPACE@.sl_set s where s.set_id = p_set);
    if p_sequence then
        update @NAMESPACE@.sl_sequence q set seq_set = p_set where q.seq_id = p_id;
    else
        update @NAMESPACE@.sl_table t set tab_set = p_set where t.tab_id = p_id;
    end if;
end
$trunkline$;

-- Gives the sets this node knows the origins they have now (parallel arrays), forgets the others, and nodes that are gone. The tables
-- of the sets look like a subscriber's afterwards; those of sets that are gone are ordinary tables.
-- Locks: config lock; SHARE ROW EXCLUSIVE on each table, ACCESS EXCLUSIVE on those of sets that are gone. Event: none.
create or replace function @NAMESPACE@.tl_takeOverSets(p_sets integer[], p_origins integer[], p_nodes integer[]) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    for v_set in
        select s.set_id, now.set_origin
        from @NAMESPACE@.sl_set s
        left join unnest(p_sets, p_origins) as now (set_id, set_origin) on now.set_id = s.set_id
        order by s.set_id
    loop
        if v_set.set_origin is null then
            perform @NAMESPACE@.tl_forgetSetObjects(v_set.set_id);
            delete from @NAMESPACE@.tl_fence f where f.fe_set = v_set.set_id;
            delete from @NAMESPACE@.sl_set s where s.set_id = v_set.set_id;
        else
            update @NAMESPACE@.sl_set s set set_locked = null where s.set_id = v_set.set_id;
            perform @NAMESPACE@.tl_changeOrigin(v_set.set_id, v_set.set_origin);
            perform @NAMESPACE@.tl_configureSetTriggers(v_set.set_id);
        end if;
    end loop;
    delete from @NAMESPACE@.sl_node n where n.no_id <> all (p_nodes);
end
$trunkline$;
