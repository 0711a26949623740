-- Fencing: an origin that must not be written to, because the cluster has another one by now, or may have.
--
-- A fenced set looks like a subscriber's: the triggers that refuse are enabled. The state is in the triggers and in tl_fence, so it
-- outlives daemon and server, and nothing but tl_unfence(), a change of the set's origin or uninstalling the node ends it.

-- Whether this node takes writes to a set: it is the origin and not fenced.
create or replace function @NAMESPACE@.tl_acceptsWrites(p_set_id integer) returns boolean
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select exists (
        select from @NAMESPACE@.sl_set s
        where s.set_id = p_set_id and s.set_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
    ) and not exists (
        select from @NAMESPACE@.tl_fence f where f.fe_set = p_set_id
    )
$trunkline$;

-- Fences a set off, or notes another reason. Nothing happens unless this node is the set's origin by its own account.
-- Returns true if it is fenced now. Waits for transactions that write to the tables, see tl_endWritersOf().
-- Locks: config lock; SHARE ROW EXCLUSIVE on each table of the set. Event: none.
create or replace function @NAMESPACE@.tl_fence_set(p_set_id integer, p_new_origin integer, p_reason text) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    if not exists (
        select from @NAMESPACE@.sl_set s
        where s.set_id = p_set_id and s.set_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
    ) then
        return false;
    end if;
    insert into @NAMESPACE@.tl_fence as f (fe_set, fe_new_origin, fe_reason, fe_at)
    values (p_set_id, p_new_origin, p_reason, now())
    on conflict (fe_set) do update
    set fe_new_origin = coalesce(excluded.fe_new_origin, f.fe_new_origin), fe_reason = excluded.fe_reason
    where (f.fe_new_origin, f.fe_reason) is distinct from (excluded.fe_new_origin, excluded.fe_reason);
    perform @NAMESPACE@.tl_configureSetTriggers(p_set_id);
    return true;
end
$trunkline$;

-- Lets writers in again. Returns true if the set was fenced.
-- Locks: config lock; SHARE ROW EXCLUSIVE on each table of the set. Event: none.
create or replace function @NAMESPACE@.tl_unfence(p_set_id integer) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    delete from @NAMESPACE@.tl_fence f where f.fe_set = p_set_id;
    if not found then
        return false;
    end if;
    perform @NAMESPACE@.tl_configureSetTriggers(p_set_id);
    return true;
end
$trunkline$;

-- Ends the sessions that hold a lock on a table of the set with which they may write to it: what they would still commit, nobody but
-- this node would have. Returns a line about each. Needs the rights of killBackend().
create or replace function @NAMESPACE@.tl_endWritersOf(p_set_id integer) returns setof text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_writer record;
begin
    for v_writer in
        select distinct l.pid, a.usename, a.application_name
        from @NAMESPACE@.sl_table t
        join pg_locks l on l.relation = t.tab_reloid
        left join pg_stat_activity a on a.pid = l.pid
        where t.tab_set = p_set_id
            and l.locktype = 'relation'
            and l.granted
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            and l.pid <> pg_backend_pid()
    loop
        if @NAMESPACE@.killBackend(v_writer.pid, 'TERM') = 0 then
            return next format(
                'pid %s of %s (%s)', v_writer.pid, coalesce(v_writer.usename, 'an unknown user'),
                coalesce(nullif(v_writer.application_name, ''), 'no application name')
            );
        end if;
    end loop;
end
$trunkline$;

-- For the triggers that refuse writes: where the set of a fenced table is to be written. Null if it is not fenced.
-- SECURITY DEFINER: the writer has no rights on our tables, and learns nothing from it but a node's number.
create or replace function @NAMESPACE@.tl_fenceNotice(p_reloid oid) returns text
    language sql stable security definer
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select case
        when f.fe_reason = 'isolated' then
            format('node %s reaches no other node of the cluster and keeps writers out of set %s until it does', n.id, f.fe_set)
        when f.fe_new_origin is null then
            format('node %s is no longer the origin of set %s (%s)', n.id, f.fe_set, f.fe_reason)
        else
            format('set %s originates on node %s now, node %s was %s', f.fe_set, f.fe_new_origin, n.id, f.fe_reason)
    end
    from @NAMESPACE@.sl_table t
    join @NAMESPACE@.tl_fence f on f.fe_set = t.tab_set
    cross join (select @NAMESPACE@.getLocalNodeId(@CLUSTER@) as id) n
    where t.tab_reloid = p_reloid
$trunkline$;
grant execute on function @NAMESPACE@.tl_fenceNotice(oid) to public;
