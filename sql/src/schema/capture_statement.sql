-- Capture by functions written for one table: which tables, by which triggers, and the text of the functions.
--
-- Names, key and needed settings stand in them as constants, since looking each of them up costs as much as logging the row.
-- By statement, the default where it is safe (see tl_capture_decision()), the rows of a statement are logged together, by three triggers
-- with transition tables, `_C_logtrigger_i`, `_u` and `_d`: a row of many costs half as much. By row there is one trigger, `_C_logtrigger_r`.
-- `_C_logtrigger` is disabled then; it logs where nothing can be taken for granted, see tl_log_triggers_wanted().
-- What the functions, tl_log_<table>_<i|u|d|r>, take for granted is the table's shape, see tl_capture_shape(). They ask
-- tl_capture_fits() for it in an expression
-- the server evaluates once and again after every change of the table, so a function is never quietly wrong after an
-- ALTER TABLE or a new child: then it logs by looking everything up, until repair_log_triggers() has run.
-- Order, by statement: each function compares how many changes of the table the server has counted since it last logged with the number
-- of rows it logs. Other changes in between mean that statements were nested, see capture_order.sql.

-- How a table is captured, `row` or `statement`, and why.
create or replace function @NAMESPACE@.tl_capture_decision(p_tab_id integer, out mode pg_catalog.text, out reason pg_catalog.text)
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table record;
    v_wanted text := (select a.ca_mode from @NAMESPACE@.tl_capture a where a.ca_tab_id = p_tab_id);
begin
    select c.oid, c.relkind, x.indexrelid,
           (
               select concat_ws(' ', n.nspname, c.relname, string_agg(a.attname::text, ' '))
               from pg_attribute a
               join pg_namespace n on n.oid = c.relnamespace
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               group by n.nspname
           ) as names,
           coalesce((to_jsonb(c) ->> 'relispartition')::bool, false) as is_partition,
           exists (select from pg_inherits h where h.inhrelid = c.oid) as has_parent,
           exists (select from pg_inherits h where h.inhparent = c.oid) as has_children
    into v_table
    from @NAMESPACE@.sl_table t
    join pg_class c on c.oid = t.tab_reloid
    left join (pg_index x join pg_class i on i.oid = x.indexrelid) on x.indrelid = c.oid and i.relname = t.tab_idxname
    where t.tab_id = p_tab_id;
    mode := 'row';
    if v_table.oid is null or v_table.indexrelid is null then
        reason := 'the table or the index that identifies its rows is gone';
    elsif v_table.relkind <> 'r' then
        reason := 'a partitioned table has no rows of its own';
    elsif v_table.is_partition then
        reason := 'a partition: statements on the partitioned table fire only row triggers here';
    elsif v_table.has_parent then
        reason := 'an inheritance child: statements on its parent fire only row triggers here';
    elsif v_table.has_children then
        reason := 'an inheritance parent: rows of its children cannot be told from its own';
    elsif exists (
        select
        from pg_attribute a
        where a.attrelid = v_table.oid and a.attnum > 0 and not a.attisdropped
          and (
              (a.attname::text = any (@NAMESPACE@.tl_index_columns(v_table.indexrelid)) and not a.attnotnull)
              or to_jsonb(a) ->> 'attgenerated' = 'v'
          )
    ) then
        reason := 'a key column may be null, or a column is generated when read';
    elsif v_table.names ~ '[{]' then
        reason := 'a name has a brace, as what is filled into the text of log functions';
    elsif v_wanted = 'statement' then
        mode := 'statement';
        reason := 'chosen with tl_capture_mode()';
    elsif v_wanted = 'row' then
        reason := 'chosen with tl_capture_mode()';
    else
        mode := 'statement';
        reason := 'the default; nothing stands against it';
    end if;
end
$trunkline$;

-- Suffixes of the log triggers that are enabled where a table takes writes: `_i`, `_u` and `_d` if it is captured by statement, `_r` if it is
-- captured by row with a function written for it, none (the trigger of the original's name) if its rows have to be looked up.
create or replace function @NAMESPACE@.tl_log_triggers_wanted(p_tab_id integer) returns pg_catalog.text[]
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if (select d.mode = 'statement' from @NAMESPACE@.tl_capture_decision(p_tab_id) as d) then
        return '{_i,_u,_d}';
    elsif exists (
        select
        from @NAMESPACE@.sl_table t
        join pg_class c on c.oid = t.tab_reloid and c.relkind = 'r'
        join pg_namespace n on n.oid = c.relnamespace and n.nspname !~ '[{]'
        join pg_index x on x.indrelid = c.oid
        join pg_class i on i.oid = x.indexrelid and i.relname = t.tab_idxname
        where t.tab_id = p_tab_id and c.relname !~ '[{]'
          -- the key may not be null, no name has what is filled into the text, no column is generated when read
          and not exists (
              select
              from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                and (
                    (a.attname::text = any (@NAMESPACE@.tl_index_columns(x.indexrelid)) and not a.attnotnull)
                    or a.attname ~ '[{]'
                    or to_jsonb(a) ->> 'attgenerated' = 'v'
                )
          )
    ) then
        return '{_r}';
    end if;
    return array[''];
end
$trunkline$;

-- Chooses how changes of a table are captured on this node: `row`, `statement`, or `auto` for the default. The choice
-- is this node's own: make it on every node that may become the origin. Returns the mode in use. `statement` is refused where it
-- cannot be right.
-- Locks: config lock; ACCESS EXCLUSIVE on the table where triggers are removed. Event: none.
create or replace function @NAMESPACE@.tl_capture_mode(p_tab_id integer, p_mode pg_catalog.text) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_decision record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_table_of_id(p_tab_id, 'tl_capture_mode');
    if lower(p_mode) = any ('{row,statement}'::text[]) then
        insert into @NAMESPACE@.tl_capture (ca_tab_id, ca_mode) values (p_tab_id, lower(p_mode))
        on conflict (ca_tab_id) do update set ca_mode = excluded.ca_mode;
    elsif lower(p_mode) = 'auto' then
        delete from @NAMESPACE@.tl_capture a where a.ca_tab_id = p_tab_id;
    else
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('the mode of capture is `auto`, `row` or `statement`, not `%s`', p_mode);
    end if;
    select * into v_decision from @NAMESPACE@.tl_capture_decision(p_tab_id);
    if lower(p_mode) = 'statement' and v_decision.mode <> 'statement' then
        raise exception using
            errcode = 'feature_not_supported',
            message = format('table %s cannot be captured by statement: %s', @NAMESPACE@.tl_table_of_id(p_tab_id, 'tl_capture_mode'), v_decision.reason),
            hint = 'Leave it on `auto` or `row`.';
    end if;
    if v_decision.mode = 'row' then
        perform @NAMESPACE@.tl_drop_statement_triggers(p_tab_id);
    end if;
    perform @NAMESPACE@.alterTableConfigureTriggers(p_tab_id);
    return v_decision.mode;
end
$trunkline$;

-- Everything a table's log functions take for granted, as a hash.
create or replace function @NAMESPACE@.tl_capture_shape(p_table pg_catalog.oid, p_index pg_catalog.name) returns pg_catalog.text
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return (
        select md5(concat_ws(
            chr(10),
            n.nspname, c.relname, c.relkind, to_jsonb(c) ->> 'relispartition',
            exists (select from pg_inherits h where h.inhrelid = c.oid),
            exists (select from pg_inherits h where h.inhparent = c.oid),
            (
                select string_agg(
                    concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, to_jsonb(a) ->> 'attgenerated'),
                    ',' order by a.attnum
                )
                from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            ),
            (
                select string_agg(@NAMESPACE@.tl_index_columns(x.indexrelid)::text, ',')
                from pg_index x
                join pg_class i on i.oid = x.indexrelid and i.relname = p_index
                where x.indrelid = c.oid
            ),
            @NAMESPACE@.getLocalNodeId(@CLUSTER@)
        ))
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.oid = p_table
    );
end
$trunkline$;

-- Has the table still the shape its log functions were written for? Said to be immutable, which it is not, so that the server
-- evaluates it when it plans the expression; the constant of type regclass in the expression makes it plan again after every
-- change of the table.
create or replace function @NAMESPACE@.tl_capture_fits(p_table pg_catalog.regclass, p_tab_id integer, p_shape pg_catalog.text) returns boolean
    language plpgsql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return exists (
        select
        from @NAMESPACE@.sl_table t
        where t.tab_id = p_tab_id and t.tab_reloid = p_table and @NAMESPACE@.tl_capture_shape(t.tab_reloid, t.tab_idxname) = p_shape
    );
end
$trunkline$;

-- The text settings on which the values of some types depend, for the types of a table's columns and everything inside them. Types
-- that are not the system's, and composite types, which may get further parts, count as depending on all.
create or replace function @NAMESPACE@.tl_settings_of_table(p_table pg_catalog.oid) returns pg_catalog.text[]
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    -- The usual case: plain types of the system on which no setting has an influence.
    if not exists (
        select
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
          and t.oid <> all ('{int2,int4,int8,oid,text,varchar,bpchar,numeric,uuid,bool,json,jsonb}'::regtype[])
    ) then
        return '{}';
    end if;
    return (
        with recursive parts (type) as (
            select a.atttypid
            from pg_attribute a
            where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
            union
            select inner_part.type
            from parts p
            join pg_type t on t.oid = p.type
            cross join lateral (
                select t.typelem where t.typcategory = 'A'
                union all
                select t.typbasetype
                union all
                select r.rngsubtype from pg_range r where r.rngtypid = t.oid
                union all
                select m.rngsubtype from pg_range m where (to_jsonb(m) ->> 'rngmultitypid')::oid = t.oid
            ) as inner_part (type)
            where inner_part.type <> 0
        ), leaves as (
            select t.typname,
                   t.typnamespace = 'pg_catalog'::regnamespace or t.typtype in ('e', 'd', 'r', 'm') or t.typcategory = 'A' as known,
                   t.typtype = 'c' as composite
            from parts p
            join pg_type t on t.oid = p.type
        )
        select array(
            select distinct s.setting
            from leaves l
            cross join (values
                ('datestyle', '{date,timestamp,timestamptz}'::text[]),
                ('intervalstyle', '{interval}'),
                ('bytea_output', '{bytea}'),
                ('extra_float_digits', '{float4,float8,point,lseg,path,box,polygon,line,circle}'),
                ('lc_monetary', '{money}')
            ) as s (setting, types)
            where l.typname = any (s.types) or not l.known or l.composite
            order by s.setting
        )
    );
end
$trunkline$;

-- Text of the log function of a table for a command: i, u or d; or r, for every row of all three.
create or replace function @NAMESPACE@.tl_log_function_text(p_tab_id integer, p_command pg_catalog.text) returns pg_catalog.text
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table record;
    v_key text[];
    v_plain bool;
    v_key_pairs text;
    v_columns text;
    v_usual text;
    v_pairs text := '(select "trunkline old" as o, {key} as key, pg_catalog.row_number() over () as position from old_rows as "trunkline old") o
        join (select "trunkline new" as n, pg_catalog.row_number() over () as position from new_rows as "trunkline new") n on n.position operator(pg_catalog.=) o.position';
    v_column_pairs text := '(select "trunkline old".*, {key} as "trunkline key", pg_catalog.row_number() over () as "trunkline position" from old_rows as "trunkline old") o
        join (select n.*, pg_catalog.row_number() over () as "trunkline position" from new_rows n) n
            on n."trunkline position" operator(pg_catalog.=) o."trunkline position"';
    v_changes text;
    v_single text;
    v_known text;
    v_looked_up text;
    v_insert text := 'insert into {schema}.{log} (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        ) select {node}, pg_catalog.txid_current(), {id}, pg_catalog.nextval({sequence}), {nspname}::pg_catalog.text, {relname}::pg_catalog.text, {command}, ';
    v_by_name text := 'insert into {schema}.{log} (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        ) select {node}, pg_catalog.txid_current(), {id}, pg_catalog.nextval({sequence}), tg_table_schema, tg_table_name, {command}, ';
    v_body text;
begin
    select t.tab_reloid as oid, n.nspname, c.relname, x.indexrelid, @NAMESPACE@.tl_capture_shape(c.oid, t.tab_idxname) as shape
    into strict v_table
    from @NAMESPACE@.sl_table t
    join pg_class c on c.oid = t.tab_reloid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_index x on x.indrelid = c.oid
    join pg_class i on i.oid = x.indexrelid and i.relname = t.tab_idxname
    where t.tab_id = p_tab_id;
    v_key := @NAMESPACE@.tl_index_columns(v_table.indexrelid);

    -- A cast to text gives the same as the type's output function for these; for others (char, boolean, inet) it does not.
    select bool_and(a.atttypid = any ('{int2,int4,int8,oid,text,varchar,numeric,uuid,date,timestamp,timestamptz}'::regtype[])),
           'array[' || string_agg(format('%L, "trunkline old".%I::pg_catalog.text', a.attname, a.attname), ', ' order by a.attnum) || ']'
    into v_plain, v_key_pairs
    from pg_attribute a
    where a.attrelid = v_table.oid and a.attname::text = any (v_key);
    if not v_plain then
        v_key_pairs := format('%1$s.hstore_to_array(%1$s.slice(%1$s.hstore("trunkline old"), %2$L::pg_catalog.text[]))', @NAMESPACE@.tl_hstore(), v_key);
    end if;

    v_usual := @NAMESPACE@.tl_usual_settings(v_table.oid);

    if p_command = 'r' then
        v_body := @NAMESPACE@.tl_row_function_template();
        v_columns := coalesce(@NAMESPACE@.tl_column_texts(v_table.oid), format('%1$s.hstore_to_array(%1$s.hstore("trunkline new"))', @NAMESPACE@.tl_hstore()));
    elsif p_command = 'i' then
        v_columns := @NAMESPACE@.tl_column_texts(v_table.oid);
        v_known := v_insert || '0, ' || case when v_columns is null then '{hstore}.hstore_to_array({hstore}.hstore("trunkline new"))' else '{columns}' end
            || ' from new_rows as "trunkline new"';
        v_looked_up := v_by_name || '0, {schema}.tl_without_virtual_columns(tg_relid, {hstore}.hstore_to_array({hstore}.hstore("trunkline new"))) from new_rows as "trunkline new"';
    elsif p_command = 'd' then
        v_known := v_insert || '0, {key} from old_rows as "trunkline old"';
        v_looked_up := v_by_name || '0, {schema}.tl_key_of_row(tg_relid, {id}, tg_op, {hstore}.hstore("trunkline old")) from old_rows as "trunkline old"';
    else
        v_body := 'pg_catalog.cardinality(r.changed) operator(pg_catalog./) 2, r.changed operator(pg_catalog.||) r.key
        from (
            select {hstore}.hstore_to_array({hstore}.hstore(n.n) operator({hstore}.-) {hstore}.hstore(o.o)) as changed, o.key as key
            from {rows}
            offset 0
        ) as r';
        -- One row needs no numbers to find its other half. Without the `limit` the server expects so much work of the first large
        -- statement that it compiles the plan (`jit`); whole rows of tables that have lost a column it only takes out of a
        -- query with a `limit` of its own. Where none is lost there is less to start: one query below, with everything volatile in it.
        v_single := v_insert || replace(v_body, '{rows}', '(select "trunkline old" as o, {key} as key from old_rows as "trunkline old" limit 1) o,
                (select "trunkline new" as n from new_rows as "trunkline new" limit 1) n
            where not exists (select from new_rows limit 1 offset 1)');
        if not exists (select from pg_attribute a where a.attrelid = v_table.oid and a.attisdropped) then
            v_single := replace(v_insert, 'pg_catalog.nextval({sequence})', 'r.number')
                || 'pg_catalog.cardinality(r.changed) operator(pg_catalog./) 2, r.changed operator(pg_catalog.||) r.key
        from (
            select pg_catalog.nextval({sequence}) as number,
                   {hstore}.hstore_to_array({hstore}.hstore("trunkline new") operator({hstore}.-) {hstore}.hstore("trunkline old")) as changed,
                   {key} as key
            from old_rows as "trunkline old", new_rows as "trunkline new"
            where not exists (select from new_rows limit 1 offset 1)
            limit 1
        ) as r';
        end if;
        v_changes := @NAMESPACE@.tl_changed_columns(v_table.oid);
        if v_plain and v_changes is not null then
            v_known := v_insert || replace(replace(replace(
                v_body, '{hstore}.hstore_to_array({hstore}.hstore(n.n) operator({hstore}.-) {hstore}.hstore(o.o))', '{changes}'),
                'o.key as key', 'o."trunkline key" as key'),
                '{rows}', v_column_pairs
            );
        else
            v_known := v_insert || replace(v_body, '{rows}', v_pairs);
        end if;
        v_looked_up := v_by_name || replace(v_body, '{rows}', replace(
            v_pairs, '{key}', '{schema}.tl_key_of_row(tg_relid, {id}, tg_op, {hstore}.hstore("trunkline old"))'
        ));
    end if;

    v_body := coalesce(case when p_command = 'r' then v_body end, '
#variable_conflict use_variable
declare
    v_first boolean;
    v_rows bigint;
    v_now bigint;
    v_settings pg_catalog.text[];
    v_noted pg_catalog.text;
    v_memory pg_catalog.text;
    v_jit pg_catalog.text;
begin
    -- Few expressions: PL/pgSQL prepares each of them anew in every transaction, and takes a snapshot for each that has a
    -- volatile function in it.
    v_first := case when {fits} and {usual} then {status} end;
    if v_first is null then
        if pg_catalog.current_setting(''session_replication_role'') operator(pg_catalog.<>) ''origin'' then
            return null;
        end if;
        v_settings := {schema}.tl_settings_for_logging({path});
        v_first := ({status}) is true;
        if {fits} is not true then
            if v_first then
                {looked up 1};
            else
                {looked up 2};
            end if;
            get diagnostics v_rows = row_count;
            v_first := null;
            if v_rows operator(pg_catalog.>) 0
                and exists (select from pg_catalog.pg_inherits h where h.inhparent operator(pg_catalog.=) tg_relid)
            then
                -- Rows of children are among them.
                perform {schema}.tl_capture_doubt({id}, {memory});
            end if;
        end if;
    end if;
    if v_first then
        {known 1}
    elsif not v_first then
        {known 2}
    end if;
    -- The first change of the table that this transaction logs: nothing to compare with.
    if (
        case
            when v_settings is not null {or many}or pg_catalog.current_setting({memory}, true) operator(pg_catalog.<>) '''' then false
            else pg_catalog.set_config({memory}, ({now})::pg_catalog.text, true) is not null
        end
    ) then
        return null;
    end if;
    if v_settings is not null then
        perform {schema}.tl_settings_restore(v_settings);
    end if;
    v_now := {now};
    v_noted := case
        when v_rows operator(pg_catalog.=) 0
            or coalesce(pg_catalog.current_setting({memory}, true), '''') operator(pg_catalog.=) any (array['''', (v_now operator(pg_catalog.-) v_rows)::pg_catalog.text])
        then pg_catalog.set_config({memory}, v_now::pg_catalog.text, true)
    end;
    if v_noted is null then
        perform {schema}.tl_capture_doubt({id}, {memory});
    end if;
    {discard}
    return null;
end
');
    if p_command = 'u' then
        v_known := v_single || ';
        get diagnostics v_rows = row_count;
        if not found then
            v_memory := pg_catalog.current_setting(''work_mem'');
            v_jit := pg_catalog.current_setting(''jit'', true);
            v_noted := case when pg_catalog.pg_size_bytes(v_memory) operator(pg_catalog.<) 67108864 then pg_catalog.set_config(''work_mem'', ''64MB'', true) end
                operator(pg_catalog.||) case when v_jit operator(pg_catalog.=) ''on'' then pg_catalog.set_config(''jit'', ''off'', true) end;
            ' || v_known || ';
            get diagnostics v_rows = row_count;
            v_noted := pg_catalog.set_config(''work_mem'', v_memory, true)
                operator(pg_catalog.||) case when v_jit operator(pg_catalog.=) ''on'' then pg_catalog.set_config(''jit'', ''on'', true) end;
        end if;';
        v_body := replace(replace(v_body, '{or many}', ''), '{discard}', '');
    elsif p_command <> 'r' then
        v_known := v_known || ';
        get diagnostics v_rows = row_count;';
        -- The plan made for millions of rows is kept, and may be one that the server compiles each time it runs (`jit`): not for
        -- the single rows that follow.
        v_body := replace(v_body, '{or many}', 'or v_rows operator(pg_catalog.>) 1000000 ');
        v_body := replace(v_body, '{discard}', 'if v_rows operator(pg_catalog.>) 1000000 then
        discard plans;
    end if;');
    end if;
    if p_command <> 'r' then
        v_body := replace(v_body, '{known 1}', replace(v_known, '{log}', 'sl_log_1'));
        v_body := replace(v_body, '{known 2}', replace(v_known, '{log}', 'sl_log_2'));
        v_body := replace(v_body, '{looked up 1}', replace(v_looked_up, '{log}', 'sl_log_1'));
        v_body := replace(v_body, '{looked up 2}', replace(v_looked_up, '{log}', 'sl_log_2'));
    end if;
    v_body := replace(v_body, '{fits}', '{schema}.tl_capture_fits({regclass}, {id}, {shape})');
    v_body := replace(v_body, '{usual}', v_usual);
    v_body := replace(v_body, '{path}', quote_literal(case when @NAMESPACE@.tl_depends_on_path(v_table.oid) then 'search_path' else '' end));
    v_body := replace(v_body, '{node}', @NAMESPACE@.getLocalNodeId(@CLUSTER@)::text);
    v_body := replace(v_body, '{id}', p_tab_id::text);
    v_body := replace(v_body, '{regclass}', format('%L::pg_catalog.regclass', v_table.oid));
    v_body := replace(v_body, '{shape}', quote_literal(v_table.shape));
    v_body := replace(v_body, '{memory}', quote_literal(@NAMESPACE@.tl_capture_memory(p_tab_id)));
    v_body := replace(v_body, '{command}', format('%L::pg_catalog."char"', upper(p_command)));
    v_body := replace(v_body, '{hstore}', @NAMESPACE@.tl_hstore());
    v_body := replace(v_body, '{sequence}', format('%L::pg_catalog.regclass', format('%I.sl_action_seq', @CLUSTER@)));
    v_body := replace(v_body, '{status}', format(
        '(pg_catalog.pg_sequence_last_value(%L::pg_catalog.regclass) operator(pg_catalog.&) 1) operator(pg_catalog.=) 0',
        format('%I.sl_log_status', @CLUSTER@)
    ));
    v_body := replace(v_body, '{now}', 'pg_catalog.pg_stat_get_xact_tuples_inserted(tg_relid) operator(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_updated(tg_relid)
        operator(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_deleted(tg_relid)');
    v_body := replace(v_body, '{schema}', quote_ident(@CLUSTER@));
    -- names last: they may contain anything
    v_body := replace(v_body, '{nspname}', quote_literal(v_table.nspname));
    v_body := replace(v_body, '{relname}', quote_literal(v_table.relname));
    v_body := replace(v_body, '{key}', v_key_pairs);
    v_body := replace(v_body, '{columns}', coalesce(v_columns, ''));
    return replace(v_body, '{changes}', coalesce(v_changes, ''));
end
$trunkline$;

-- Text of the log function for every row, still to be filled in.
create or replace function @NAMESPACE@.tl_row_function_template() returns pg_catalog.text
    language plpgsql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_insert text := 'insert into {schema}.{log} (
                log_origin, log_txid, log_tableid, log_actionseq,
                log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
            ) values ({node}, pg_catalog.txid_current(), {id}, pg_catalog.nextval({sequence}), ';
    v_names text := '{nspname}::pg_catalog.text, {relname}::pg_catalog.text, ';
    v_body text := '
#variable_conflict use_variable
declare
    "trunkline new" alias for new;
    "trunkline old" alias for old;
    v_first boolean;
    v_settings pg_catalog.text[];
    v_changed pg_catalog.text[];
    v_key pg_catalog.text[];
begin
    v_first := case when {fits} and {usual} then {status} end;
    if v_first is null then
        if pg_catalog.current_setting(''session_replication_role'') operator(pg_catalog.<>) ''origin'' then
            return null;
        end if;
        v_settings := {schema}.tl_settings_for_logging({path});
        v_first := ({status}) is true;
        if {fits} is not true then
            if tg_op operator(pg_catalog.=) ''INSERT'' then
                v_changed := {schema}.tl_without_virtual_columns(tg_relid, {hstore}.hstore_to_array({hstore}.hstore("trunkline new")));
            else
                v_key := {schema}.tl_key_of_row(tg_relid, {id}, tg_op, {hstore}.hstore("trunkline old"));
                if tg_op operator(pg_catalog.=) ''UPDATE'' then
                    v_changed := {changed};
                end if;
            end if;
            {looked up}
            v_first := null;
        end if;
    end if;
    if v_first is null then
        null;
    elsif tg_op operator(pg_catalog.=) ''UPDATE'' then
        v_changed := {changed};
        {update}
    elsif tg_op operator(pg_catalog.=) ''INSERT'' then
        {insert}
    else
        {delete}
    end if;
    if v_settings is not null or pg_catalog.pg_trigger_depth() operator(pg_catalog.>) 1 then
        if v_settings is not null then
            perform {schema}.tl_settings_restore(v_settings);
        end if;
        if pg_catalog.pg_trigger_depth() operator(pg_catalog.>) 1 and {schema}.tl_may_be_nested(tg_relid) then
            perform {schema}.tl_capture_doubt({id}, {memory});
        end if;
    end if;
    return null;
end
';
    v_case record;
begin
    for v_case in
        select w.place, v_insert || w.names || w.expressions || ')' as statement
        from (values
            ('{update}', v_names, '''U''::pg_catalog."char", pg_catalog.cardinality(v_changed) operator(pg_catalog./) 2, v_changed operator(pg_catalog.||) {key}'),
            ('{insert}', v_names, '''I''::pg_catalog."char", 0, {columns}'),
            ('{delete}', v_names, '''D''::pg_catalog."char", 0, {key}'),
            ('{looked up}', 'tg_table_schema, tg_table_name, ', 'tg_op::pg_catalog."char",
                case when tg_op operator(pg_catalog.=) ''UPDATE'' then pg_catalog.cardinality(v_changed) operator(pg_catalog./) 2 else 0 end,
                v_changed operator(pg_catalog.||) v_key')
        ) as w (place, names, expressions)
    loop
        v_body := replace(v_body, v_case.place, format(
            'if v_first then
            %s;
        else
            %s;
        end if;',
            replace(v_case.statement, '{log}', 'sl_log_1'), replace(v_case.statement, '{log}', 'sl_log_2')
        ));
    end loop;
    return replace(v_body, '{changed}', '{hstore}.hstore_to_array({hstore}.hstore("trunkline new") operator({hstore}.-) {hstore}.hstore("trunkline old"))');
end
$trunkline$;

-- Names and values of all columns of a row "trunkline new", as an expression; null where some type's output function is not the system's.
-- Half the price of an hstore.
create or replace function @NAMESPACE@.tl_column_texts(p_table pg_catalog.oid) returns pg_catalog.text
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select case when bool_and(f.pronamespace = 'pg_catalog'::regnamespace) and count(*) between 1 and 100 then
        'array[' || string_agg(
            format(
                case
                    -- a cast to text gives the same as the output function and is cheaper
                    when a.atttypid = any ('{int2,int4,int8,oid,text,varchar,numeric,uuid,date,timestamp,timestamptz}'::regtype[])
                    then '%L, "trunkline new".%I::pg_catalog.text'
                    else '%L, pg_catalog.%3$I("trunkline new".%2$I)::pg_catalog.text'
                end,
                a.attname, a.attname, f.proname
            ),
            ', ' order by a.attnum
        ) || ']'
    end
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    join pg_proc f on f.oid = t.typoutput
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
$trunkline$;

-- Names and new values of the columns that an update of many rows changed, as an expression over n and o, the new and the old row; null
-- where a column's type has no equality that means equal text. Twice as fast as the difference of two hstores, but only worth its
-- start for more than one row.
create or replace function @NAMESPACE@.tl_changed_columns(p_table pg_catalog.oid) returns pg_catalog.text
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select case when bool_and(c.comparison is not null) and count(*) <= 100 then
        'coalesce('
        || string_agg(
            format(
                'case when %s or (n.%I is null and o.%I is null) then null else array[%L, n.%I::pg_catalog.text] end',
                c.comparison, a.attname, a.attname, a.attname, a.attname
            ),
            ' operator(pg_catalog.||) ' order by a.attnum
        )
        || ', ''{}''::pg_catalog.text[])'
    end
    from pg_attribute a
    cross join lateral (
        select case
            when a.atttypid = any ('{int2,int4,int8,oid,uuid,date,timestamp,timestamptz}'::regtype[]) then
                format('n.%I operator(pg_catalog.=) o.%I', a.attname, a.attname)
            -- 1.0 and 1.00, 0 and -0 are equal
            when a.atttypid = any ('{text,varchar,numeric,float4,float8}'::regtype[]) then
                format('n.%I::pg_catalog.text collate pg_catalog."C" operator(pg_catalog.=) o.%I::pg_catalog.text collate pg_catalog."C"', a.attname, a.attname)
        end as comparison
    ) as c
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
$trunkline$;

-- The condition under which rows of a table can be logged without more ado: role origin, no event made in this transaction, and the
-- settings on which its values depend as they are needed. An expression for the body of a log function.
create or replace function @NAMESPACE@.tl_usual_settings(p_table pg_catalog.oid) returns pg_catalog.text
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_setting text;
    v_expression text := 'pg_catalog.current_setting(''session_replication_role'') operator(pg_catalog.||) coalesce(pg_catalog.current_setting(''trunkline.event_in'', true), '''')';
    v_usual text[] := '{origin}';
    v_values text[];
begin
    if @NAMESPACE@.tl_depends_on_path(p_table) then
        return 'false';
    end if;
    foreach v_setting in array @NAMESPACE@.tl_settings_of_table(p_table) loop
        v_values := case v_setting
            when 'datestyle' then array['ISO, MDY', 'ISO, DMY', 'ISO, YMD']
            when 'intervalstyle' then array['postgres']
            when 'bytea_output' then array['hex']
            -- from version 12 on 1 (the default) to 3 are exact, before that only 3
            when 'extra_float_digits' then
                case when current_setting('server_version_num')::int4 >= 120000 then array['1', '3', '2'] else array['3'] end
            else array['C', 'POSIX', 'C.UTF-8', 'C.utf8', 'en_US.UTF-8', 'en_US.utf8']
        end;
        v_expression := v_expression || format(' operator(pg_catalog.||) pg_catalog.current_setting(%L)', v_setting);
        v_usual := array(select u || v from unnest(v_usual) as u cross join unnest(v_values) as v);
    end loop;
    return format('%s operator(pg_catalog.=) any (%L::pg_catalog.text[])', v_expression, v_usual);
end
$trunkline$;

-- Writes the log functions of a table that it needs as it is now. Returns how many had to be changed. The server need not compile them to see that they are right:
-- it would for each of a thousand tables.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_write_log_functions(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
    set check_function_bodies to off
as $trunkline$
declare
    v_command text;
    v_text text;
    v_changed int4 := 0;
begin
    foreach v_command in array @NAMESPACE@.tl_log_commands(p_tab_id) loop
        v_text := @NAMESPACE@.tl_log_function_text(p_tab_id, v_command);
        if not exists (
            select from pg_proc f
            where f.pronamespace = quote_ident(@CLUSTER@)::regnamespace and f.proname = format('tl_log_%s_%s', p_tab_id, v_command)::name and f.prosrc = v_text
        ) then
            execute format(
                'create or replace function %I.%I() returns trigger language plpgsql security definer as %L',
                @CLUSTER@, format('tl_log_%s_%s', p_tab_id, v_command), v_text
            );
            v_changed := v_changed + 1;
        end if;
    end loop;
    return v_changed;
end
$trunkline$;

-- The commands, as of tl_log_function_text(), for which a table has log functions written for it; none if its rows have to be looked up.
create or replace function @NAMESPACE@.tl_log_commands(p_tab_id integer) returns pg_catalog.text[]
    language sql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select array(select substr(w.suffix, 2) from unnest(@NAMESPACE@.tl_log_triggers_wanted(p_tab_id)) as w (suffix) where w.suffix <> '')
$trunkline$;

-- Makes the trigger of row level that runs a function written for the table, where it is missing, and writes the function.
-- Locks: SHARE ROW EXCLUSIVE on the table. Event: none.
create or replace function @NAMESPACE@.tl_create_row_trigger(p_tab_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableConfigureTriggers');
    v_trigger name := @NAMESPACE@.tl_object_name('', '_logtrigger_r');
begin
    perform @NAMESPACE@.tl_write_log_functions(p_tab_id);
    if not exists (select from pg_trigger g where g.tgrelid = v_table and g.tgname = v_trigger) then
        execute format(
            'create trigger %I after insert or update or delete on %s for each row execute procedure %I.%I()',
            v_trigger, v_table, @CLUSTER@, format('tl_log_%s_r', p_tab_id)
        );
    end if;
end
$trunkline$;

-- Makes the triggers of statement level where they are missing, and writes their functions. A fourth trigger, never enabled, is
-- there for its kind alone: while it exists the server refuses to make the table a partition or an inheritance child, which would
-- let rows past the other three. Its name, which stands in the refusal, says what to do.
-- Locks: SHARE ROW EXCLUSIVE on the table. Event: none.
create or replace function @NAMESPACE@.tl_create_statement_triggers(p_tab_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableConfigureTriggers');
    v_trigger record;
begin
    perform @NAMESPACE@.tl_write_log_functions(p_tab_id);
    for v_trigger in
        select w.command, w.event, w.rows, @NAMESPACE@.tl_object_name('', '_logtrigger_' || w.command) as name
        from (values
            ('i', 'insert', 'new table as new_rows'),
            ('u', 'update', 'old table as old_rows new table as new_rows'),
            ('d', 'delete', 'old table as old_rows')
        ) as w (command, event, rows)
        where not exists (
            select from pg_trigger g
            where g.tgrelid = v_table and g.tgname = @NAMESPACE@.tl_object_name('', '_logtrigger_' || w.command)
        )
    loop
        execute format(
            'create trigger %I after %s on %s referencing %s for each statement execute procedure %I.%I()',
            v_trigger.name, v_trigger.event, v_table, v_trigger.rows, @CLUSTER@, format('tl_log_%s_%s', p_tab_id, v_trigger.command)
        );
    end loop;
    if not exists (
        select from pg_trigger g where g.tgrelid = v_table and g.tgname = @NAMESPACE@.tl_object_name('', '_see_tl_capture_mode')
    ) then
        execute format(
            'create trigger %I after delete on %s referencing old table as old_rows for each row execute procedure %I.tl_log_%s_d()',
            @NAMESPACE@.tl_object_name('', '_see_tl_capture_mode'), v_table, @CLUSTER@, p_tab_id
        );
        execute format('alter table %s disable trigger %I', v_table, @NAMESPACE@.tl_object_name('', '_see_tl_capture_mode'));
    end if;
end
$trunkline$;

-- Removes the triggers of statement level and their functions.
-- Locks: ACCESS EXCLUSIVE on the table if it has any. Event: none.
create or replace function @NAMESPACE@.tl_drop_statement_triggers(p_tab_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableDropTriggers');
    v_trigger name;
begin
    for v_trigger in
        select g.tgname
        from pg_trigger g
        where g.tgrelid = v_table
          and g.tgname = any (array[
              @NAMESPACE@.tl_object_name('', '_logtrigger_i'), @NAMESPACE@.tl_object_name('', '_logtrigger_u'),
              @NAMESPACE@.tl_object_name('', '_logtrigger_d'), @NAMESPACE@.tl_object_name('', '_see_tl_capture_mode')
          ])
    loop
        execute format('drop trigger %I on %s', v_trigger, v_table);
    end loop;
    perform @NAMESPACE@.tl_drop_log_functions(p_tab_id);
end
$trunkline$;

-- Removes the log functions of a table that no trigger runs.
create or replace function @NAMESPACE@.tl_drop_log_functions(p_tab_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_function name;
begin
    for v_function in
        select f.proname
        from pg_proc f
        where f.pronamespace = quote_ident(@CLUSTER@)::regnamespace
          and f.proname in (
              format('tl_log_%s_i', p_tab_id)::name, format('tl_log_%s_u', p_tab_id)::name,
              format('tl_log_%s_d', p_tab_id)::name, format('tl_log_%s_r', p_tab_id)::name
          )
          and not exists (
              select from pg_depend d
              where d.refclassid = 'pg_proc'::regclass and d.refobjid = f.oid and d.classid = 'pg_trigger'::regclass
          )
    loop
        execute format('drop function %I.%I()', @CLUSTER@, v_function);
    end loop;
end
$trunkline$;

-- Enables the log triggers of the kind the table is captured by and disables the others. A node that takes no writes has none
-- enabled. Nothing is removed: that would take a stronger lock in the middle of a move, out of the order in which tables are locked.
-- Locks: SHARE ROW EXCLUSIVE on the table. Event: none.
create or replace function @NAMESPACE@.tl_configure_log_triggers(p_tab_id integer, p_writes boolean) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableConfigureTriggers');
    v_wanted text[] := case when p_writes then @NAMESPACE@.tl_log_triggers_wanted(p_tab_id) else '{}' end;
    v_trigger record;
begin
    if '_i' = any (v_wanted) then
        perform @NAMESPACE@.tl_create_statement_triggers(p_tab_id);
    elsif '_r' = any (v_wanted) then
        perform @NAMESPACE@.tl_create_row_trigger(p_tab_id);
    end if;
    for v_trigger in
        select g.tgname as name, w.suffix = any (v_wanted) as enabled
        from unnest('{_i,_u,_d,_r}'::text[]) as w (suffix)
        join pg_trigger g on g.tgname = @NAMESPACE@.tl_object_name('', '_logtrigger' || w.suffix)
        where g.tgrelid = v_table
          and (g.tgenabled = 'O') <> (w.suffix = any (v_wanted))
    loop
        execute format('alter table %s %s trigger %I', v_table, case when v_trigger.enabled then 'enable' else 'disable' end, v_trigger.name);
    end loop;
    execute format(
        'alter table %s %s trigger %I',
        v_table, case when '' = any (v_wanted) then 'enable' else 'disable' end, @NAMESPACE@.tl_object_name('', '_logtrigger')
    );
end
$trunkline$;

-- Do the enabled log triggers of a table differ from what they would be if made now?
create or replace function @NAMESPACE@.tl_capture_outdated(p_tab_id integer) returns boolean
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'repair_log_triggers');
    v_used text[];
    v_wanted text[];
begin
    select array_agg(w.suffix) into v_used
    from unnest('{"",_i,_u,_d,_r}'::text[]) as w (suffix)
    join pg_trigger g on g.tgname = @NAMESPACE@.tl_object_name('', '_logtrigger' || w.suffix)
    where g.tgrelid = v_table and g.tgenabled = 'O';
    if v_used is null then
        return false;
    end if;
    v_wanted := @NAMESPACE@.tl_log_triggers_wanted(p_tab_id);
    if not (v_used @> v_wanted and v_used <@ v_wanted) then
        return true;
    end if;
    return exists (
        select from unnest(@NAMESPACE@.tl_log_commands(p_tab_id)) as command
        where not exists (
            select from pg_proc f
            where f.pronamespace = quote_ident(@CLUSTER@)::regnamespace and f.proname = format('tl_log_%s_%s', p_tab_id, command)::name
              and f.prosrc = @NAMESPACE@.tl_log_function_text(p_tab_id, command)
        )
    );
end
$trunkline$;

-- Writes all log functions anew, after the functions they call have been replaced. Returns how many tables were concerned.
-- Locks: none. Event: none.
create or replace function @NAMESPACE@.tl_renew_log_functions() returns bigint
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select count(*)
    from @NAMESPACE@.sl_table t
    cross join lateral (
        select case when exists (
            select
            from unnest(@NAMESPACE@.tl_log_triggers_wanted(t.tab_id)) as w (suffix)
            join pg_trigger g on g.tgname = @NAMESPACE@.tl_object_name('', '_logtrigger' || w.suffix)
            where g.tgrelid = t.tab_reloid and w.suffix <> ''
        ) then @NAMESPACE@.tl_write_log_functions(t.tab_id) else 0 end as changed
    ) as w
    where w.changed > 0
$trunkline$;
