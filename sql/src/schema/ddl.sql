-- Scripts: statements that run on every node at the same place in the stream of changes. Also called by programs of their own,
-- inside transactions with ordinary writes.

-- Runs a statement here and notes it for the other nodes. p_nodes: null or empty for all nodes, else their numbers separated by
-- commas, this one among them. Values of local sequences that changed since this session last looked go with it, since the
-- statement may use them. Returns its place in the stream.
--
-- The place is taken after the statement has run, when it holds its locks: who wrote to its tables before has an earlier one,
-- who writes after its commit a later one. Statements that change or read rows would not lock out other writers, and rows of a
-- transaction that is still open would be missed here but not on the other nodes; so such tables of our sets are locked, too.
-- Carries no settings of its own: the statement runs with its caller's search_path, and a `set` in it lasts.
-- Locks: what the statement takes; SHARE ROW EXCLUSIVE on each table of a local set that it reads or writes. Event: none.
create or replace function @NAMESPACE@.ddlCapture(p_statement pg_catalog.text, p_nodes pg_catalog.text) returns bigint
    language plpgsql
as $trunkline$
declare
    v_local pg_catalog.int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_nodes pg_catalog.text[] := @NAMESPACE@.tl_nodes_of_list(p_nodes, pg_catalog.format('ddlcapture(%s,%s)', p_statement, p_nodes));
    v_sequences pg_catalog.text := @NAMESPACE@.tl_changed_sequences();
    v_outer_role pg_catalog.text := pg_catalog.current_setting('role');
    v_role pg_catalog.text := pg_catalog.current_setting('trunkline.script_role', true);
    v_tables pg_catalog.text;
    v_action bigint;
begin
    if pg_catalog.cardinality(v_nodes) operator(pg_catalog.>) 0
        and v_local::pg_catalog.text operator(pg_catalog.<>) all (v_nodes)
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = pg_catalog.format(
                'Slony-I: ddlcapture(%s,%s) - origin node %s not included in ONLY ON list!', p_statement, p_nodes, v_local
            ),
            hint = 'A script runs on its event node as well; name that node in the list, or another event node.';
    end if;

    perform @NAMESPACE@.tl_settle_captures();

    -- What the statement names is locked before it runs, so that it need not run twice. Everything is taken back after the look.
    begin
        execute 'prepare trunkline_look as ' operator(pg_catalog.||) p_statement;
        v_tables := @NAMESPACE@.tl_unguarded_tables();
        raise exception using errcode = 'TL000', message = 'looked';
    exception
        when sqlstate 'TL000' then null;
        -- no statement that can be prepared, or a wrong one: running it will tell
        when others then v_tables := null;
    end;
    if exists (select from pg_catalog.pg_prepared_statements p where p.name operator(pg_catalog.=) 'trunkline_look') then
        deallocate trunkline_look;
    end if;

    loop
        if v_tables is not null then
            execute pg_catalog.format('lock table %s in share row exclusive mode', v_tables);
        end if;
        begin
            if v_role operator(pg_catalog.<>) '' then
                perform pg_catalog.set_config('role', v_role, true);
            end if;
            execute p_statement;
            -- A role that the script has taken is good for its statements, not for our tables.
            if pg_catalog.current_setting('role') operator(pg_catalog.<>) v_outer_role then
                perform pg_catalog.set_config('trunkline.script_role', pg_catalog.current_setting('role'), true);
                perform pg_catalog.set_config('role', v_outer_role, true);
            elsif v_role operator(pg_catalog.<>) '' then
                perform pg_catalog.set_config('trunkline.script_role', '', true);
            end if;
            v_tables := @NAMESPACE@.tl_unguarded_tables();
            exit when v_tables is null;
            -- A function has touched them: once more, with locks.
            raise exception using errcode = 'TL000', message = 'unguarded';
        exception
            when sqlstate 'TL000' then null;
        end;
    end loop;

    v_action := pg_catalog.nextval(@REGCLASS:sl_action_seq@);
    insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
    values (
        v_local, pg_catalog.txid_current(), v_action, 'S',
        array[p_statement, pg_catalog.array_to_string(v_nodes, ','), coalesce(v_sequences, '')]
    );
    return v_action;
end
$trunkline$;

-- Values of local sequences that changed since this session last looked, as `seqid,origin,value` triples; null if none did.
create or replace function @NAMESPACE@.tl_changed_sequences() returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return (
        select string_agg(format('%s,%s,%s', v.seq_id, v.seq_origin, v.seq_last_value), ',' order by v.seq_id)
        from (
            select l.seq_id, l.seq_origin, @NAMESPACE@.seqtrack(l.seq_id, l.seq_last_value) as seq_last_value
            from @NAMESPACE@.sl_seqlastvalue l
            where l.seq_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
        ) as v
        where v.seq_last_value is not null
    );
end
$trunkline$;

-- Tables of local sets that this transaction has read or changed without a lock that keeps other writers out, ready for LOCK
-- TABLE; null if there is none.
create or replace function @NAMESPACE@.tl_unguarded_tables() returns pg_catalog.text
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    with held as (
        select l.relation,
               bool_or(l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) as guarded,
               bool_or(l.mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')) as touched
        from pg_locks l
        where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.granted
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
        group by l.relation
    )
    select string_agg(format('only %I.%I', n.nspname, c.relname), ', ' order by t.tab_id)
    from held h
    join @NAMESPACE@.sl_table t on t.tab_reloid = h.relation
    join @NAMESPACE@.sl_set s on s.set_id = t.tab_set
    join pg_class c on c.oid = h.relation
    join pg_namespace n on n.oid = c.relnamespace
    where h.touched and not h.guarded and s.set_origin = @NAMESPACE@.getLocalNodeId(@CLUSTER@)
$trunkline$;

-- Ends a script: an end mark for the other nodes, and here what follows a change of tables. Returns the mark's place in the stream.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.ddlScript_complete(p_nodes pg_catalog.text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_nodes text[] := @NAMESPACE@.tl_nodes_of_list(p_nodes, format('ddlScript_complete(%s)', p_nodes));
    v_action int8;
begin
    if cardinality(v_nodes) = 0 or v_local::text = any (v_nodes) then
        perform @NAMESPACE@.ddlScript_complete_int();
        perform @NAMESPACE@.tl_adopt_partitions();
    end if;
    v_action := nextval(@REGCLASS:sl_action_seq@);
    insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
    values (v_local, txid_current(), v_action, 's', v_nodes);
    return v_action;
end
$trunkline$;

-- What follows a script on every node: names and log triggers of tables it may have changed. Returns how many triggers were remade.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.ddlScript_complete_int() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.updateRelname();
    return @NAMESPACE@.repair_log_triggers(true);
end
$trunkline$;

-- The node numbers of a list like `1,2`; none for null or an empty text. Every node must be known.
create or replace function @NAMESPACE@.tl_nodes_of_list(p_nodes pg_catalog.text, p_caller pg_catalog.text) returns pg_catalog.text[]
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_nodes text[] := '{}';
    v_node text;
begin
    if btrim(coalesce(p_nodes, '')) = '' then
        return v_nodes;
    end if;
    foreach v_node in array string_to_array(p_nodes, ',') loop
        v_node := btrim(v_node);
        if not exists (select from @NAMESPACE@.sl_node n where n.no_id::text = v_node) then
            raise exception using
                errcode = 'undefined_object',
                message = format('%s - node %s does not exist!', p_caller, v_node),
                hint = 'The list holds node numbers separated by commas; empty means all nodes.';
        end if;
        v_nodes := v_nodes || v_node;
    end loop;
    return v_nodes;
end
$trunkline$;

-- Adds an empty table to a set, subscribers and all; called inside a script, so it runs on every node. On the origin the table must be
-- empty, on subscribers it is emptied, on other nodes nothing happens. A null index means the primary key. Returns the table's id.
-- Locks: config lock; ACCESS EXCLUSIVE on the table. Event: none.
create or replace function @NAMESPACE@.add_empty_table_to_replication(
    p_set_id integer,
    p_tab_id integer,
    p_nspname pg_catalog.text,
    p_tabname pg_catalog.text,
    p_idxname pg_catalog.text,
    p_comment pg_catalog.text
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_table text := @NAMESPACE@.tl_quote_once(p_nspname) || '.' || @NAMESPACE@.tl_quote_once(p_tabname);
    v_origin int4;
    v_filled bool;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select s.set_origin into v_origin from @NAMESPACE@.sl_set s where s.set_id = p_set_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('add_empty_table_to_replication: set %s not found', p_set_id);
    end if;
    if v_origin <> v_local
        and not exists (
            select from @NAMESPACE@.sl_subscribe b where b.sub_set = p_set_id and b.sub_receiver = v_local
        )
    then
        return p_tab_id;
    end if;
    execute format('lock table only %s', v_table);
    if v_origin = v_local then
        execute format('select exists (select from only %s)', v_table) into v_filled;
        if v_filled then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('add_empty_table_to_replication: table %s contained tuples on origin node %s', v_table, v_local),
                hint = 'A table with rows is added with `set add table` to a new set, which is subscribed and merged.';
        end if;
        raise notice 'add_empty_table_to_replication: table % empty on origin - OK', v_table;
    else
        execute format('truncate only %s', v_table);
        raise notice 'add_empty_table_to_replication: table % truncated on subscriber', v_table;
    end if;
    perform @NAMESPACE@.setAddTable_int(
        p_set_id, p_tab_id, v_table, @NAMESPACE@.determineIdxnameUnique(v_table, p_idxname::name), p_comment
    );
    return p_tab_id;
end
$trunkline$;

-- Adds an empty inheritance child or partition to the set of its replicated parent; inside a script, as above. Returns the table's id.
create or replace function @NAMESPACE@.replicate_partition(
    p_tab_id integer,
    p_nspname pg_catalog.text,
    p_tabname pg_catalog.text,
    p_idxname pg_catalog.text,
    p_comment pg_catalog.text
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text := @NAMESPACE@.tl_quote_once(p_nspname) || '.' || @NAMESPACE@.tl_quote_once(p_tabname);
    v_set int4;
begin
    select t.tab_set into v_set
    from pg_inherits h
    join @NAMESPACE@.sl_table t on t.tab_reloid = h.inhparent
    where h.inhrelid = to_regclass(v_table)
    order by h.inhseqno
    limit 1;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('replicate_partition: No parent table found for %s.%s!', p_nspname, p_tabname),
            hint = 'The parent must be a replicated table; use add_empty_table_to_replication() to name the set instead.';
    end if;
    return @NAMESPACE@.add_empty_table_to_replication(v_set, p_tab_id, p_nspname, p_tabname, p_idxname, p_comment);
end
$trunkline$;

-- Quotes a name unless its caller did.
create or replace function @NAMESPACE@.tl_quote_once(p_name pg_catalog.text) returns pg_catalog.text
    language sql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select case
        when length(p_name) >= 2 and left(p_name, 1) = '"' and right(p_name, 1) = '"' then p_name
        else '"' || replace(p_name, '"', '""') || '"'
    end
$trunkline$;
