-- The text of the log functions written for one table: for the rows of a statement, or for each row. Which a table has, and the triggers
-- that run them: capture_statement.sql.

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
