-- Capture by functions written for one table: which tables, and by which triggers. The text of the functions: capture_function.sql.
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
