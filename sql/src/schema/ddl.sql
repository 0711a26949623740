-- Scripts (`execute script`): statements that travel in the stream of changes and run on every node at the same point of it.

-- Keeps one statement of a script for the other nodes and runs it here. p_nodes: comma separated node numbers, null or '' for all.
-- Called by slonik, and by people inside a transaction of their own.
-- Locks: those of the statement. Event: none, it travels with the next SYNC. Returns the row's log_actionseq.
create or replace function @NAMESPACE@.ddlCapture(p_statement text, p_nodes text) returns bigint
    language plpgsql
as $trunkline$
declare
    v_local integer;
    v_node text;
    v_listed boolean := false;
    v_sequences text;
    v_row record;
    v_value bigint;
    v_action bigint;
    v_role text;
begin
    v_local := pg_catalog.pg_sequence_last_value(@REGCLASS:sl_local_node_id@);
    if coalesce(p_nodes, '') operator(pg_catalog.<>) '' then
        foreach v_node in array pg_catalog.string_to_array(p_nodes, ',') loop
            if not exists (select 1 from @NAMESPACE@.sl_node where no_id operator(pg_catalog.=) pg_catalog.btrim(v_node)::pg_catalog.int4) then
                raise exception 'ddlcapture(%,%) - node % does not exist!', p_statement, p_nodes, v_node;
            end if;
            v_listed := v_listed or pg_catalog.btrim(v_node)::pg_catalog.int4 operator(pg_catalog.=) v_local;
        end loop;
        if not v_listed then
            raise exception 'ddlcapture(%,%) - origin node % not included in ONLY ON list!', p_statement, p_nodes, v_local
                using hint = 'a script runs on its event node first; name it in `execute only on`';
        end if;
    end if;

    -- Sequences of this origin: other nodes run the statement with the same values.
    for v_row in
        select s.seq_id, s.seq_reloid,
               @NAMESPACE@.slon_quote_brute(s.seq_nspname) operator(pg_catalog.||) '.' operator(pg_catalog.||) @NAMESPACE@.slon_quote_brute(s.seq_relname) as name
          from @NAMESPACE@.sl_sequence s join @NAMESPACE@.sl_set t on t.set_id operator(pg_catalog.=) s.seq_set
         where t.set_origin operator(pg_catalog.=) v_local
         order by s.seq_id
    loop
        v_value := @NAMESPACE@.sequenceLastValue(v_row.name);
        v_sequences := coalesce(v_sequences operator(pg_catalog.||) ',', '')
            operator(pg_catalog.||) pg_catalog.format('%s,%s,%s', v_row.seq_id, v_local, v_value);
    end loop;

    v_action := pg_catalog.nextval(@REGCLASS:sl_action_seq@);
    insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
    values (v_local, pg_catalog.txid_current(), v_action, 'S',
            array[p_statement, coalesce(p_nodes, ''), coalesce(v_sequences, '')]::pg_catalog.text[]);
    execute p_statement;
    return v_action;
end
$trunkline$;

-- Ends a script: brings names and log triggers up to date here, and on the other nodes when they get there.
-- Locks: config lock, and access exclusive on tables whose log trigger is outdated. Event: none. Returns the row's log_actionseq.
create or replace function @NAMESPACE@.ddlScript_complete(p_nodes text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_action bigint;
begin
    perform @NAMESPACE@.updateRelname();
    perform @NAMESPACE@.repair_log_triggers(true);
    v_action := nextval(@REGCLASS:sl_action_seq@);
    insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
    values (pg_sequence_last_value(@REGCLASS:sl_local_node_id@), txid_current(), v_action, 's',
            coalesce(string_to_array(nullif(p_nodes, ''), ','), '{}'));
    return v_action;
end
$trunkline$;

-- The same on a node that got the script from another. Locks: as above. Event: none. Returns 1.
create or replace function @NAMESPACE@.ddlScript_complete_int() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.updateRelname();
    perform @NAMESPACE@.repair_log_triggers(true);
    return 1;
end
$trunkline$;

-- Adds an empty table to a set from inside a script, so that each node does it at the same point of the stream.
-- p_idxname null: the primary key. Locks: access exclusive on the table. Event: none. Returns 1.
create or replace function @NAMESPACE@.add_empty_table_to_replication(p_set_id integer, p_tab_id integer, p_nspname text, p_tabname text, p_idxname text, p_comment text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local integer := pg_sequence_last_value(@REGCLASS:sl_local_node_id@);
    v_table text := @NAMESPACE@.slon_quote_brute(p_nspname) || '.' || @NAMESPACE@.slon_quote_brute(p_tabname);
    v_origin integer;
    v_rows boolean;
    v_index name;
begin
    select set_origin into v_origin from @NAMESPACE@.sl_set where set_id = p_set_id;
    if not found then
        raise exception 'add_empty_table_to_replication: set % not found', p_set_id;
    end if;
    execute 'lock table ' || v_table || ' in access exclusive mode';
    if v_origin = v_local then
        execute 'select exists (select 1 from ' || v_table || ')' into v_rows;
        if v_rows then
            raise exception 'table % contained tuples on origin node %', v_table, v_local
                using hint = 'a table with rows is added with `set add table`, which copies them';
        end if;
    elsif exists (select 1 from @NAMESPACE@.sl_subscribe where sub_set = p_set_id and sub_receiver = v_local) then
        execute 'truncate ' || v_table;
    else
        return 0;
    end if;
    v_index := @NAMESPACE@.determineIdxnameUnique(v_table, p_idxname::name);
    perform @NAMESPACE@.setAddTable_int(p_set_id, p_tab_id, v_table, v_index, p_comment);
    return 1;
end
$trunkline$;

-- Adds a new partition to the set of the table it inherits from, from inside a script. p_idxname null: the primary key.
-- Locks: access exclusive on the partition. Event: none. Returns 1.
create or replace function @NAMESPACE@.replicate_partition(p_tab_id integer, p_nspname text, p_tabname text, p_idxname text, p_comment text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text := @NAMESPACE@.slon_quote_brute(p_nspname) || '.' || @NAMESPACE@.slon_quote_brute(p_tabname);
    v_set integer;
begin
    select t.tab_set into v_set
      from pg_inherits i
      join @NAMESPACE@.sl_table t on t.tab_reloid = i.inhparent
     where i.inhrelid = v_table::regclass
     order by i.inhseqno
     limit 1;
    if not found then
        raise exception 'replicate_partition: table % is not a child of a replicated table', v_table
            using hint = 'add it to a set with add_empty_table_to_replication()';
    end if;
    return @NAMESPACE@.add_empty_table_to_replication(v_set, p_tab_id, p_nspname, p_tabname, p_idxname, p_comment);
end
$trunkline$;
