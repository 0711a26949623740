-- What a table is and what is done to it: identifying index, columns, the initial copy, names and oids, vacuum.

-- The name of the index that identifies rows: the one given, if it is a unique index of the table, or the primary key's.
-- An index on expressions or on a part of the rows identifies nothing and is refused, which the original does not do.
create or replace function @NAMESPACE@.determineIdxnameUnique(p_tab_fqname pg_catalog.text, p_idx_name pg_catalog.name) returns pg_catalog.name
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_quoted text := @NAMESPACE@.slon_quote_input(p_tab_fqname);
    v_table oid := @NAMESPACE@.tl_relation_of_name(p_tab_fqname);
    v_index record;
begin
    if v_table is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('Slony-I: determineIdxnameUnique(): table %s not found', v_quoted);
    end if;
    select c.relname, x.indexprs is null and x.indpred is null and x.indisvalid as identifies into v_index
    from pg_index x
    join pg_class c on c.oid = x.indexrelid
    where x.indrelid = v_table
      and case when p_idx_name is null then x.indisprimary else x.indisunique and c.relname = p_idx_name end;
    if not found then
        if p_idx_name is null then
            raise exception using
                errcode = 'undefined_object',
                message = format('Slony-I: table %s has no primary key', v_quoted),
                hint = 'Add a primary key, or name a unique index on columns that are not null with `key = ''name''`.';
        end if;
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: table %s has no unique index %s', v_quoted, p_idx_name);
    end if;
    if not v_index.identifies then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('Slony-I: unique index %s of table %s cannot identify rows', v_index.relname, v_quoted),
            hint = 'The index must be valid, on plain columns and without a WHERE clause.';
    end if;
    return v_index.relname;
end
$trunkline$;

-- One letter per column in order, k if the index contains it, else v; v at the end are dropped. `vkvk` for (a, k1, b, k2).
create or replace function @NAMESPACE@.determineAttkindUnique(p_tab_fqname pg_catalog.text, p_idx_name pg_catalog.name) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_quoted text := @NAMESPACE@.slon_quote_input(p_tab_fqname);
    v_table oid := @NAMESPACE@.tl_relation_of_name(p_tab_fqname);
    v_key text[];
begin
    if p_idx_name is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'Slony-I: index name must be specified';
    end if;
    if v_table is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('Slony-I: determineAttkindUnique(): table %s not found', v_quoted);
    end if;
    select @NAMESPACE@.tl_index_columns(x.indexrelid) into v_key
    from pg_index x
    join pg_class c on c.oid = x.indexrelid
    where x.indrelid = v_table and x.indisunique and c.relname = p_idx_name;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: table %s has no unique index %s', v_quoted, quote_ident(p_idx_name));
    end if;
    return (
        select rtrim(string_agg(case when a.attname::text = any (v_key) then 'k' else 'v' end, '' order by a.attnum), 'v')
        from pg_attribute a
        where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped
    );
end
$trunkline$;

-- The table of a name as people give it (`a.b`, each part quoted or not), or null. Without a schema: the first in the search path
-- of the function, which is empty but for the system's, so a name must have one.
create or replace function @NAMESPACE@.tl_relation_of_name(p_fqname pg_catalog.text) returns pg_catalog.oid
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return (
        select c.oid from pg_class c where c.oid = to_regclass(@NAMESPACE@.slon_quote_input(p_fqname)) and c.relkind in ('r', 'p')
    );
end
$trunkline$;

-- The columns of a replicated table as a list for COPY: ("a","b"). Generated columns are left out, COPY refuses them.
create or replace function @NAMESPACE@.copyFields(p_tab_id integer) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return '(' || (
        select string_agg(@NAMESPACE@.slon_quote_brute(a.attname), ',' order by a.attnum)
        from @NAMESPACE@.sl_table t
        join pg_attribute a on a.attrelid = t.tab_reloid
        where t.tab_id = p_tab_id
          and a.attnum > 0
          and not a.attisdropped
          -- the column attgenerated does not exist before version 12, hence the detour
          and coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
    ) || ')';
end
$trunkline$;

-- Empties a table before the initial copy: TRUNCATE, or DELETE where a foreign key or a right stands in the way. Returns 1 after a
-- TRUNCATE, 0 after a DELETE. Indexes stay in use: suspending them means writing to the system catalog as superuser.
create or replace function @NAMESPACE@.prepareTableForCopy(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'prepareTableForCopy');
begin
    begin
        execute format('truncate only %s', v_table);
        return 1;
    exception when feature_not_supported or insufficient_privilege or wrong_object_type then
        raise notice 'truncate of % failed (%) - doing delete', v_table, sqlerrm;
    end;
    execute format('delete from only %s', v_table);
    return 0;
end
$trunkline$;

-- After the initial copy: statistics. Returns 1.
create or replace function @NAMESPACE@.finishTableAfterCopy(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'finishTableAfterCopy');
begin
    execute format('analyze %s', v_table);
    return 1;
end
$trunkline$;

-- The original hides the indexes from COPY by writing to pg_class, which takes a superuser and breaks on unique violations later.
-- Kept so that callers find it. Returns 0: nothing done.
create or replace function @NAMESPACE@.disable_indexes_on_table(i_oid pg_catalog.oid) returns integer
    language sql
as $trunkline$ select 0 $trunkline$;

-- The counterpart. SECURITY DEFINER as the original's, though there is nothing to do: it must not lose that when replaced.
create or replace function @NAMESPACE@.enable_indexes_on_table(i_oid pg_catalog.oid) returns integer
    language sql security definer
as $trunkline$ select 0 $trunkline$;

-- Truncates one table, not its children.
create or replace function @NAMESPACE@.TruncateOnlyTable(pg_catalog.name) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    execute 'truncate only ' || @NAMESPACE@.slon_quote_input($1::text);
end
$trunkline$;

-- Corrects names in sl_table and sl_sequence after a rename; the oids are right. Returns 1 if something was wrong, else 0.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.updateRelname() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tables int8;
    v_sequences int8;
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_table t
    set tab_relname = c.relname, tab_nspname = n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = t.tab_reloid and (c.relname <> t.tab_relname or n.nspname <> t.tab_nspname);
    get diagnostics v_tables = row_count;
    update @NAMESPACE@.sl_sequence q
    set seq_relname = c.relname, seq_nspname = n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = q.seq_reloid and (c.relname <> q.seq_relname or n.nspname <> q.seq_nspname);
    get diagnostics v_sequences = row_count;
    return case when v_tables + v_sequences > 0 then 1 else 0 end;
end
$trunkline$;

-- Corrects oids in sl_table and sl_sequence after a restore; the names are right. The set number is ignored, as in the original; the
-- second argument restricts it to one node (-1 or null: every node). Returns 1 if something was wrong, else 0; -1 on other nodes.
-- Locks: config lock. Event: none.
create or replace function @NAMESPACE@.updateReloid(p_set_id integer, p_only_on_node integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tables int8;
    v_sequences int8;
begin
    lock table @NAMESPACE@.sl_config_lock;
    if p_only_on_node > 0 and p_only_on_node <> @NAMESPACE@.getLocalNodeId(@CLUSTER@) then
        return -1;
    end if;
    -- The oids are unique: first out of each other's way. Zero to minus n cannot be oids of anything, huge ones are not used.
    update @NAMESPACE@.sl_table t
    set tab_reloid = (4294967295 - t.tab_id)::oid
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relname = t.tab_relname and n.nspname = t.tab_nspname and c.relkind in ('r', 'p') and c.oid <> t.tab_reloid;
    get diagnostics v_tables = row_count;
    update @NAMESPACE@.sl_table t
    set tab_reloid = c.oid
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relname = t.tab_relname and n.nspname = t.tab_nspname and c.relkind in ('r', 'p') and t.tab_reloid = (4294967295 - t.tab_id)::oid;
    update @NAMESPACE@.sl_sequence q
    set seq_reloid = (4294967295 - q.seq_id)::oid
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relname = q.seq_relname and n.nspname = q.seq_nspname and c.relkind = 'S' and c.oid <> q.seq_reloid;
    get diagnostics v_sequences = row_count;
    update @NAMESPACE@.sl_sequence q
    set seq_reloid = c.oid
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relname = q.seq_relname and n.nspname = q.seq_nspname and c.relkind = 'S' and q.seq_reloid = (4294967295 - q.seq_id)::oid;
    return case when v_tables + v_sequences > 0 then 1 else 0 end;
end
$trunkline$;

-- Do names and oids in sl_table and sl_sequence fit the catalog? Warns of each that does not.
create or replace function @NAMESPACE@.slon_node_health_check() returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_object record;
    v_healthy bool := true;
begin
    for v_object in
        select 'table' as kind, t.tab_id as id, t.tab_nspname as nspname, t.tab_relname as relname
        from @NAMESPACE@.sl_table t
        where not exists (
            select from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.oid = t.tab_reloid and c.relname = t.tab_relname and n.nspname = t.tab_nspname
        )
        union all
        select 'sequence', q.seq_id, q.seq_nspname, q.seq_relname
        from @NAMESPACE@.sl_sequence q
        where not exists (
            select from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.oid = q.seq_reloid and c.relname = q.seq_relname and n.nspname = q.seq_nspname
        )
        order by 1 desc, 2
    loop
        raise warning '% [id,nsp,name]=[%,%,%] - sl_% does not match pg_class/pg_namespace',
            v_object.kind, v_object.id, v_object.nspname, v_object.relname, v_object.kind;
        v_healthy := false;
    end loop;
    if not v_healthy then
        raise warning 'Mismatch found between sl_table or sl_sequence and pg_class. The slonik command REPAIR CONFIG may set it right.';
    end if;
    return v_healthy;
end
$trunkline$;

-- Must the daemon vacuum this table, because autovacuum leaves it alone?
create or replace function @NAMESPACE@.ShouldSlonyVacuumTable(i_nspname pg_catalog.name, i_tblname pg_catalog.name) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_options text[];
begin
    select c.reloptions into v_options
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = i_nspname and c.relname = i_tblname and c.relkind = 'r';
    if not found then
        return false;
    end if;
    return not current_setting('autovacuum')::bool
        or coalesce((
            select not o.option_value::bool from pg_options_to_table(v_options) o where o.option_name = 'autovacuum_enabled'
        ), false);
end
$trunkline$;

-- The tables the daemon must vacuum.
create or replace function @NAMESPACE@.TablesToVacuum() returns setof @NAMESPACE@.vactables
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return query
    select v.nspname, v.relname
    from (
        select @CLUSTER@::name, ours.relname::name
        from unnest(array[
            'sl_event', 'sl_confirm', 'sl_setsync', 'sl_seqlog', 'sl_archive_counter', 'sl_components', 'sl_log_script',
            'tl_sequence_seen', 'tl_trouble', 'tl_capture_doubt'
        ]) as ours (relname)
        union all
        values ('pg_catalog'::name, 'pg_listener'::name), ('pg_catalog'::name, 'pg_statistic'::name)
    ) as v (nspname, relname)
    where @NAMESPACE@.ShouldSlonyVacuumTable(v.nspname, v.relname);
end
$trunkline$;
