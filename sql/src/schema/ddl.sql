-- Scripts: statements that run on every node at the same place in the stream of changes. Also called by programs of their own,
-- inside transactions with ordinary writes.

-- Notes a statement for the other nodes; the caller executes it here, with session_replication_role local. p_nodes: null or empty for
-- all nodes, else their numbers separated by commas. Values of local sequences that changed since this session last looked go with
-- it, since the statement may use them. Returns its place in the stream.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.ddlCapture(p_statement pg_catalog.text, p_nodes pg_catalog.text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    v_nodes text[] := @NAMESPACE@.tl_nodes_of_list(p_nodes, format('ddlcapture(%s,%s)', p_statement, p_nodes));
    v_sequences text;
    v_action int8;
begin
    select string_agg(format('%s,%s,%s', v.seq_id, v.seq_origin, v.seq_last_value), ',' order by v.seq_id) into v_sequences
    from (
        select l.seq_id, l.seq_origin, @NAMESPACE@.seqtrack(l.seq_id, l.seq_last_value) as seq_last_value
        from @NAMESPACE@.sl_seqlastvalue l
        where l.seq_origin = v_local
    ) as v
    where v.seq_last_value is not null;
    v_action := nextval(@REGCLASS:sl_action_seq@);
    insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
    values (
        v_local, txid_current(), v_action, 'S',
        array[p_statement, array_to_string(v_nodes, ','), coalesce(v_sequences, '')]
    );
    return v_action;
end
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
