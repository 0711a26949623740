-- Partitioned tables in sets. A parent holds no rows, so its partitions are the members; the comment of each names the parent it was
-- added for (`partition of schema.parent`), on every node of the set. A new partition of such a parent joins by itself.

-- The partitions that hold rows, of a partitioned table at any depth, with the index that identifies their rows: p_key is an index of
-- the parent or one that each partition has by that name; null means the primary keys. Empty if the table is not partitioned.
create or replace function @NAMESPACE@.tl_partitions(
    p_fqname pg_catalog.text,
    p_key pg_catalog.name,
    out part_fqname pg_catalog.text,
    out part_key pg_catalog.name,
    out part_comment pg_catalog.text
) returns setof record
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    with recursive parent (reloid, nspname, relname) as (
        select f.reloid, f.nspname, f.relname from @NAMESPACE@.tl_findRelation(p_fqname) f where f.relkind = 'p'
    ), part (reloid) as (
        select h.inhrelid from parent p join pg_inherits h on h.inhparent = p.reloid
        union all
        select h.inhrelid from part p join pg_inherits h on h.inhparent = p.reloid
    ), child_index (indexrelid) as (
        select x.indexrelid
        from parent p
        join pg_index x on x.indrelid = p.reloid
        join pg_class c on c.oid = x.indexrelid and c.relname = p_key
        union all
        select h.inhrelid from child_index i join pg_inherits h on h.inhparent = i.indexrelid
    )
    select format('%I.%I', n.nspname, c.relname),
           coalesce(
               (select i.relname from child_index k
                join pg_index x on x.indexrelid = k.indexrelid and x.indrelid = c.oid
                join pg_class i on i.oid = x.indexrelid),
               p_key
           ),
           format('partition of %I.%I', parent.nspname, parent.relname)
    from parent
    cross join part p
    join pg_class c on c.oid = p.reloid
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r'
    order by 1
$trunkline$;

-- A number for a partition that nobody gave one: beyond those people use, in a range of this node's own. Ids must be unique on
-- every node, whichever origin they come from.
create or replace function @NAMESPACE@.tl_next_partition_id() returns integer
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select (range.first + coalesce((
        select max(t.tab_id) - range.first + 1
        from @NAMESPACE@.sl_table t
        where t.tab_id between range.first and range.first + 999999
    ), 0))::integer
    from (select 1000000000 + (@NAMESPACE@.getLocalNodeId(@CLUSTER@) % 1000) * 1000000 as first) as range
$trunkline$;

-- Notes a statement of a script for some nodes without running it here.
create or replace function @NAMESPACE@.tl_note_statement(p_statement pg_catalog.text, p_nodes pg_catalog.text) returns void
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
    values (
        @NAMESPACE@.getLocalNodeId(@CLUSTER@), txid_current(), nextval(@REGCLASS:sl_action_seq@), 'S',
        array[p_statement, p_nodes, '']
    )
$trunkline$;

-- New partitions of replicated parents whose sets originate here, with what is needed to add them; cheap where there are none.
create or replace function @NAMESPACE@.tl_new_partitions(
    out part_set integer,
    out part_reloid pg_catalog.oid,
    out part_nspname pg_catalog.name,
    out part_relname pg_catalog.name,
    out part_key pg_catalog.name,
    out part_comment pg_catalog.text
) returns setof record
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    with parent as (
        select t.tab_set, t.tab_comment, min(i.relname::text)::name as sample_key, bool_and(x.indisprimary) as by_primary
        from @NAMESPACE@.sl_table t
        join @NAMESPACE@.sl_set s on s.set_id = t.tab_set and s.set_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
        join pg_class i on i.relname = t.tab_idxname
        join pg_index x on x.indexrelid = i.oid and x.indrelid = t.tab_reloid
        where t.tab_comment like 'partition of %'
        group by t.tab_set, t.tab_comment
    )
    select p.tab_set, c.oid, n.nspname, c.relname,
           -- the parent's index that the known partitions are identified by is not looked for: a primary key, or a name in common
           case when not p.by_primary then p.sample_key end,
           p.tab_comment
    from parent p
    cross join lateral @NAMESPACE@.tl_partitions(substr(p.tab_comment, 14), null) f
    join pg_class c on c.oid = to_regclass(f.part_fqname)
    join pg_namespace n on n.oid = c.relnamespace
    where not exists (select from @NAMESPACE@.sl_table t where t.tab_reloid = c.oid)
    order by c.oid
$trunkline$;

-- The statement that makes a partition on a node that has its parent but not it. Only plain attachments: columns come from the parent.
create or replace function @NAMESPACE@.tl_partition_definition(p_reloid pg_catalog.oid) returns pg_catalog.text
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select format(
        'create table if not exists %I.%I partition of %I.%I %s%s',
        n.nspname, c.relname, pn.nspname, pc.relname, pg_get_expr(c.relpartbound, c.oid),
        case when c.relkind = 'p' then ' partition by ' || pg_get_partkeydef(c.oid) else '' end
    )
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_inherits h on h.inhrelid = c.oid
    join pg_class pc on pc.oid = h.inhparent
    join pg_namespace pn on pn.oid = pc.relnamespace
    where c.oid = p_reloid and c.relispartition
$trunkline$;

-- Adds new partitions of replicated parents to their sets, here and, as a script, on the subscribers: there each is made if it is
-- missing (an attached table of that name is taken as it is) and emptied. Rows it holds here are logged as if they were inserted
-- now. Returns how many were added. The daemon of the origin calls it every few seconds, and every script at its end.
-- Locks: config lock and SHARE ROW EXCLUSIVE on the partition, if there is a new one. Event: none.
create or replace function @NAMESPACE@.tl_adopt_partitions() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
    set datestyle to 'ISO'
    set intervalstyle to 'postgres'
    set bytea_output to 'hex'
    set extra_float_digits to 3
    set lc_monetary to 'C'
as $trunkline$
declare
    v_local int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_part record;
    v_step record;
    v_nodes text;
    v_id int4;
    v_fqname text;
    v_log int8;
    v_row record;
    v_args text[];
    v_virtual boolean := current_setting('server_version_num')::integer >= 180000;
    v_count int4 := 0;
begin
    if not exists (select from @NAMESPACE@.tl_new_partitions()) then
        return 0;
    end if;
    lock table @NAMESPACE@.sl_config_lock;
    for v_part in select p.* from @NAMESPACE@.tl_new_partitions() p loop
        v_fqname := format('%I.%I', v_part.part_nspname, v_part.part_relname);
        execute format('lock table only %s in share row exclusive mode', v_fqname);
        select v_local || coalesce(string_agg(',' || b.sub_receiver, '' order by b.sub_receiver), '') into v_nodes
        from @NAMESPACE@.sl_subscribe b
        where b.sub_set = v_part.part_set;
        v_id := @NAMESPACE@.tl_next_partition_id();
        perform @NAMESPACE@.setAddTable_int(
            v_part.part_set, v_id, v_fqname, @NAMESPACE@.determineIdxnameUnique(v_fqname, v_part.part_key), v_part.part_comment
        );
        -- from the top: a level between may be new as well
        for v_step in
            with recursive upward (reloid, level) as (
                values (v_part.part_reloid, 0)
                union all
                select h.inhparent, u.level + 1 from upward u join pg_inherits h on h.inhrelid = u.reloid
            )
            select @NAMESPACE@.tl_partition_definition(u.reloid) as definition from upward u order by u.level desc
        loop
            if v_step.definition is not null then
                perform @NAMESPACE@.tl_note_statement(v_step.definition, v_nodes);
            end if;
        end loop;
        perform @NAMESPACE@.tl_note_statement(
            format(
                'select %s.add_empty_table_to_replication(%s, %s, %L, %L, %L, %L)', quote_ident(@CLUSTER@),
                v_part.part_set, v_id, v_part.part_nspname, v_part.part_relname, v_part.part_key, v_part.part_comment
            ),
            v_nodes
        );
        -- bit 0 of the status is the log table that is written; this transaction has its id, so a log switch waits for it
        select last_value & 1 into v_log from @NAMESPACE@.sl_log_status;
        for v_row in execute format('select * from only %s', v_fqname) loop
            v_args := @HSTORE@.hstore_to_array(@HSTORE@.hstore(v_row));
            if v_virtual then
                v_args := @NAMESPACE@.tl_without_virtual_columns(v_part.part_reloid, v_args);
            end if;
            if v_log = 0 then
                insert into @NAMESPACE@.sl_log_1 (
                    log_origin, log_txid, log_tableid, log_actionseq,
                    log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
                ) values (
                    v_local, txid_current(), v_id, nextval(@REGCLASS:sl_action_seq@),
                    v_part.part_nspname, v_part.part_relname, 'I', 0, v_args
                );
            else
                insert into @NAMESPACE@.sl_log_2 (
                    log_origin, log_txid, log_tableid, log_actionseq,
                    log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
                ) values (
                    v_local, txid_current(), v_id, nextval(@REGCLASS:sl_action_seq@),
                    v_part.part_nspname, v_part.part_relname, 'I', 0, v_args
                );
            end if;
        end loop;
        insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
        values (v_local, txid_current(), nextval(@REGCLASS:sl_action_seq@), 's', string_to_array(v_nodes, ','));
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$trunkline$;

-- Members of local sets that were added as a partition and whose table is gone: there is none of that number, and none of that name
-- either, which a restored dump would have.
create or replace function @NAMESPACE@.tl_dropped_partitions() returns setof integer
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select t.tab_id
    from @NAMESPACE@.sl_table t
    join @NAMESPACE@.sl_set s on s.set_id = t.tab_set and s.set_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
    where t.tab_comment like 'partition of %'
      and not exists (select from pg_class c where c.oid = t.tab_reloid)
      and not exists (
          select from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = t.tab_nspname and c.relname = t.tab_relname
      )
    order by t.tab_id
$trunkline$;

-- Takes partitions that were dropped here out of their sets on all nodes: what is not there any more can be neither locked, moved nor
-- copied. Tables of subscribers keep their rows. Returns how many. The daemon of the origin calls it every few seconds.
-- Locks: event lock and config lock, if there is one. Event: SET_DROP_TABLE for each.
create or replace function @NAMESPACE@.tl_forget_partitions() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_id int4;
    v_count int4 := 0;
begin
    if not exists (select from @NAMESPACE@.tl_dropped_partitions()) then
        return 0;
    end if;
    lock table @NAMESPACE@.sl_event_lock, @NAMESPACE@.sl_config_lock;
    for v_id in select d.tab_id from @NAMESPACE@.tl_dropped_partitions() as d (tab_id) loop
        perform @NAMESPACE@.setDropTable(v_id);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$trunkline$;
