-- A node that was failed over comes back: it forgets what it believed, and takes the cluster as it is now.

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
    delete from @NAMESPACE@.sl_registry where reg_key = 'logswitch.boundary';
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
