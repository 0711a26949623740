-- Replicated tables and sequences as the catalog knows them: keys, columns, oids, emptying before a copy.

-- Name of the unique index that identifies the rows of a table: the primary key's if p_idx_name is null, else that one checked.
-- Called by slonik. Locks: none. Event: none.
create or replace function @NAMESPACE@.determineIdxnameUnique(p_tab_fqname text, p_idx_name name) returns name
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_quoted text := @NAMESPACE@.slon_quote_input(p_tab_fqname);
    v_oid oid;
    v_index name;
begin
    select c.oid into v_oid
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where @NAMESPACE@.slon_quote_brute(n.nspname) || '.' || @NAMESPACE@.slon_quote_brute(c.relname) = v_quoted
       and c.relkind in ('r', 'p');
    if not found then
        raise exception 'Slony-I: determineIdxnameUnique(): table % not found', v_quoted
            using hint = 'give the name as schema.table; parts that are not in double quotes are taken as they are written, upper case included';
    end if;
    if p_idx_name is null then
        select x.relname into v_index
          from pg_index i join pg_class x on x.oid = i.indexrelid
         where i.indrelid = v_oid and i.indisprimary;
        if not found then
            raise exception 'Slony-I: table % has no primary key', v_quoted
                using hint = 'add one, or name a unique index over columns that are not null with `key`';
        end if;
    else
        select x.relname into v_index
          from pg_index i join pg_class x on x.oid = i.indexrelid
         where i.indrelid = v_oid and i.indisunique and x.relname = p_idx_name;
        if not found then
            raise exception 'Slony-I: table % has no unique index %', v_quoted, p_idx_name
                using hint = '`key` is the name of an index without its schema';
        end if;
    end if;
    return v_index;
end
$trunkline$;

-- Which columns of a table are in its key: one letter per column that is not dropped, in order, k or v, trailing v left out.
-- Third argument of the log trigger. Locks: none. Event: none.
create or replace function @NAMESPACE@.determineAttkindUnique(p_tab_fqname text, p_idx_name name) returns text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_quoted text := @NAMESPACE@.slon_quote_input(p_tab_fqname);
    v_oid oid;
    v_key int2[];
    v_kinds text;
begin
    select c.oid into v_oid
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where @NAMESPACE@.slon_quote_brute(n.nspname) || '.' || @NAMESPACE@.slon_quote_brute(c.relname) = v_quoted
       and c.relkind in ('r', 'p');
    if not found then
        raise exception 'Slony-I: table % not found', v_quoted;
    end if;
    select i.indkey::int2[] into v_key
      from pg_index i join pg_class x on x.oid = i.indexrelid
     where i.indrelid = v_oid and i.indisunique and x.relname = p_idx_name;
    if not found then
        raise exception 'Slony-I: table % has no unique index %', v_quoted, p_idx_name;
    end if;
    select string_agg(case when a.attnum = any (v_key) then 'k' else 'v' end, '' order by a.attnum) into v_kinds
      from pg_attribute a
     where a.attrelid = v_oid and a.attnum > 0 and not a.attisdropped;
    return rtrim(v_kinds, 'v');
end
$trunkline$;

-- Column list of a replicated table for COPY: ("c1","c2",...). Columns the server computes are left out: COPY refuses them.
-- Called by the daemons of other nodes on their provider. Locks: none. Event: none.
create or replace function @NAMESPACE@.copyFields(p_tab_id integer) returns text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_fields text;
begin
    select '(' || string_agg(@NAMESPACE@.slon_quote_brute(a.attname), ',' order by a.attnum) || ')' into v_fields
      from pg_attribute a join @NAMESPACE@.sl_table t on t.tab_reloid = a.attrelid
     where t.tab_id = p_tab_id and a.attnum > 0 and not a.attisdropped
       and not @NAMESPACE@.tl_is_generated(a.attrelid, a.attnum);
    return v_fields;
end
$trunkline$;

-- Whether the server computes a column (PostgreSQL 12 and later). Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_is_generated(p_relation oid, p_column int2) returns boolean
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_generated boolean := false;
begin
    -- Dynamic, because the column of pg_attribute does not exist before 12.
    if current_setting('server_version_num')::integer >= 120000 then
        execute 'select attgenerated <> '''' from pg_attribute where attrelid = $1 and attnum = $2'
           into v_generated using p_relation, p_column;
    end if;
    return coalesce(v_generated, false);
end
$trunkline$;

-- Empties a table before its first copy: TRUNCATE, or DELETE where a foreign key forbids that. Called by the daemon.
-- Locks: access exclusive on the table. Event: none. Returns 1 if truncated, 0 if deleted.
create or replace function @NAMESPACE@.prepareTableForCopy(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text;
begin
    select @NAMESPACE@.slon_quote_brute(n.nspname) || '.' || @NAMESPACE@.slon_quote_brute(c.relname) into v_table
      from @NAMESPACE@.sl_table t
      join pg_class c on c.oid = t.tab_reloid
      join pg_namespace n on n.oid = c.relnamespace
     where t.tab_id = p_tab_id;
    if not found then
        raise exception 'Slony-I: prepareTableForCopy(): table % not found', p_tab_id;
    end if;
    begin
        execute 'truncate table only ' || v_table;
        return 1;
    exception when feature_not_supported or object_in_use or insufficient_privilege then
        raise notice 'Slony-I: truncate of % failed: % - doing delete', v_table, sqlerrm;
        execute 'delete from only ' || v_table;
        return 0;
    end;
end
$trunkline$;

-- After a copy: statistics. Indexes were kept up while copying. Called by the daemon.
-- Locks: those of ANALYZE. Event: none. Returns 1.
create or replace function @NAMESPACE@.finishTableAfterCopy(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text;
begin
    select @NAMESPACE@.slon_quote_brute(n.nspname) || '.' || @NAMESPACE@.slon_quote_brute(c.relname) into v_table
      from @NAMESPACE@.sl_table t
      join pg_class c on c.oid = t.tab_reloid
      join pg_namespace n on n.oid = c.relnamespace
     where t.tab_id = p_tab_id;
    if not found then
        raise exception 'Slony-I: finishTableAfterCopy(): table % not found', p_tab_id;
    end if;
    execute 'analyze ' || v_table;
    return 1;
end
$trunkline$;

-- The original hides a table's indexes from the server here by writing to pg_class, which only a superuser may and which a crash turns
-- into a damaged table. Kept for callers; nothing to do. Locks: none. Event: none. Returns 1.
create or replace function @NAMESPACE@.disable_indexes_on_table(i_oid oid) returns integer
    language sql
as $trunkline$ select 1 $trunkline$;

-- The counterpart. Locks: none. Event: none. Returns 1.
create or replace function @NAMESPACE@.enable_indexes_on_table(i_oid oid) returns integer
    language sql
as $trunkline$ select 1 $trunkline$;

-- TRUNCATE ONLY of a table given as in SQL. Locks: access exclusive on it. Event: none.
create or replace function @NAMESPACE@.TruncateOnlyTable(name) returns void
    language plpgsql
as $trunkline$
begin
    execute 'truncate only ' || @NAMESPACE@.slon_quote_input($1);
end
$trunkline$;

-- Reads names again by oid: after tables or sequences were renamed. Locks: config lock. Event: none. Returns how many changed.
create or replace function @NAMESPACE@.updateRelname() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tables integer;
    v_sequences integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_table t
       set tab_relname = c.relname, tab_nspname = n.nspname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.oid = t.tab_reloid and (t.tab_relname <> c.relname or t.tab_nspname <> n.nspname);
    get diagnostics v_tables = row_count;
    update @NAMESPACE@.sl_sequence s
       set seq_relname = c.relname, seq_nspname = n.nspname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.oid = s.seq_reloid and (s.seq_relname <> c.relname or s.seq_nspname <> n.nspname);
    get diagnostics v_sequences = row_count;
    return v_tables + v_sequences;
end
$trunkline$;

-- Reads oids again by name: after a restore from a dump. Called by `repair config` and `clone finish`.
-- p_only_on_node: act only there; -1 or null: everywhere. Locks: config lock. Event: none. Returns 1.
create or replace function @NAMESPACE@.updateReloid(p_set_id integer, p_only_on_node integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select last_value into v_local from @NAMESPACE@.sl_local_node_id;
    if p_only_on_node is not null and p_only_on_node > 0 and p_only_on_node <> v_local then
        return 1;
    end if;
    -- In two steps, since oids may have changed places and are unique.
    update @NAMESPACE@.sl_table t
       set tab_reloid = c.oid
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where t.tab_set = p_set_id and c.relname = t.tab_relname and n.nspname = t.tab_nspname
       and c.relkind in ('r', 'p') and t.tab_reloid <> c.oid
       and not exists (select 1 from @NAMESPACE@.sl_table o where o.tab_reloid = c.oid);
    update @NAMESPACE@.sl_table t
       set tab_reloid = c.oid
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where t.tab_set = p_set_id and c.relname = t.tab_relname and n.nspname = t.tab_nspname
       and c.relkind in ('r', 'p') and t.tab_reloid <> c.oid;
    update @NAMESPACE@.sl_sequence s
       set seq_reloid = c.oid
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where s.seq_set = p_set_id and c.relname = s.seq_relname and n.nspname = s.seq_nspname
       and c.relkind = 'S' and s.seq_reloid <> c.oid
       and not exists (select 1 from @NAMESPACE@.sl_sequence o where o.seq_reloid = c.oid);
    update @NAMESPACE@.sl_sequence s
       set seq_reloid = c.oid
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where s.seq_set = p_set_id and c.relname = s.seq_relname and n.nspname = s.seq_nspname
       and c.relkind = 'S' and s.seq_reloid <> c.oid;
    return 1;
end
$trunkline$;

-- Whether the daemon has to vacuum a table because autovacuum does not. Locks: none. Event: none.
create or replace function @NAMESPACE@.ShouldSlonyVacuumTable(i_nspname name, i_tblname name) returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_options text[];
begin
    select c.reloptions into v_options
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = i_nspname and c.relname = i_tblname and c.relkind = 'r';
    if not found then
        return false;
    end if;
    return current_setting('autovacuum') = 'off' or coalesce('autovacuum_enabled=false' = any (v_options), false)
        or coalesce('autovacuum_enabled=off' = any (v_options), false);
end
$trunkline$;

-- The tables the daemon has to vacuum. Locks: none. Event: none.
create or replace function @NAMESPACE@.TablesToVacuum() returns setof @NAMESPACE@.vactables
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_row @NAMESPACE@.vactables;
begin
    for v_row.nspname, v_row.relname in
        select w.nspname, w.relname
          from (values (@CLUSTER@::name, 'sl_event'::name), (@CLUSTER@, 'sl_confirm'), (@CLUSTER@, 'sl_setsync'),
                       (@CLUSTER@, 'sl_seqlog'), (@CLUSTER@, 'sl_archive_counter'), (@CLUSTER@, 'sl_components'),
                       (@CLUSTER@, 'sl_log_script'), ('pg_catalog', 'pg_listener'), ('pg_catalog', 'pg_statistic')
               ) as w (nspname, relname)
    loop
        if @NAMESPACE@.ShouldSlonyVacuumTable(v_row.nspname, v_row.relname) then
            return next v_row;
        end if;
    end loop;
end
$trunkline$;

-- Whether sl_table agrees with the catalog; warns of what does not. Called by the daemon when it starts.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.slon_node_health_check() returns boolean
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_row record;
    v_healthy boolean := true;
begin
    for v_row in
        select t.tab_id, t.tab_nspname, t.tab_relname, t.tab_reloid, n.nspname, c.relname
          from @NAMESPACE@.sl_table t
          left join pg_class c on c.oid = t.tab_reloid
          left join pg_namespace n on n.oid = c.relnamespace
         where c.oid is null or c.relname <> t.tab_relname or n.nspname <> t.tab_nspname
         order by t.tab_id
    loop
        if v_row.relname is null then
            raise warning 'table id[%], nsp[%], name[%] does not exist, or has another oid than %; after a restore run `repair config`',
                v_row.tab_id, v_row.tab_nspname, v_row.tab_relname, v_row.tab_reloid;
        else
            raise warning 'table id[%] is called %.% now, sl_table says %.%; run `select updateRelname()`',
                v_row.tab_id, v_row.nspname, v_row.relname, v_row.tab_nspname, v_row.tab_relname;
        end if;
        v_healthy := false;
    end loop;
    return v_healthy;
end
$trunkline$;
