-- The four permanent triggers of a replicated table: made, switched between origin and subscriber, repaired, removed.
--
-- Creating and switching takes SHARE ROW EXCLUSIVE on the table (it waits for writers, not for readers), removing ACCESS EXCLUSIVE.

-- Makes the triggers and switches them to this node's role for the table. Returns the table's id.
-- Locks: config lock; the table as above. Event: none.
create or replace function @NAMESPACE@.alterTableAddTriggers(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform @NAMESPACE@.tl_create_triggers(array[p_tab_id]);
    return p_tab_id;
end
$trunkline$;

-- Makes the triggers of several tables, in the order of the array: what is to be known of the tables is looked up for all of them at
-- once, and each table is sent one string of statements, its triggers made in this node's role for it.
-- Locks: config lock; the tables as above. Event: none.
create or replace function @NAMESPACE@.tl_create_triggers(p_tab_ids integer[]) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_log name := @NAMESPACE@.tl_object_name('', '_logtrigger');
    v_deny name := @NAMESPACE@.tl_object_name('', '_denyaccess');
    v_log_truncate name := @NAMESPACE@.tl_object_name('', '_truncatetrigger');
    v_deny_truncate name := @NAMESPACE@.tl_object_name('', '_truncatedeny');
    v_table record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    for v_table in
        with role as (
            select s.set_id, @NAMESPACE@.tl_acceptsWrites(s.set_id) as writes from @NAMESPACE@.sl_set s
        )
        select g.tab_id, g.reloid::regclass as relation, g.arguments, coalesce(r.writes, false) as writes
        from @NAMESPACE@.tl_log_trigger_arguments(p_tab_ids) g
        left join @NAMESPACE@.sl_table t on t.tab_id = g.tab_id
        left join role r on r.set_id = t.tab_set
        order by array_position(p_tab_ids, g.tab_id)
    loop
        if v_table.arguments is null then
            -- says what is missing
            perform @NAMESPACE@.tl_log_trigger_arguments(v_table.tab_id);
        end if;
        execute format(
            'create trigger %2$I after insert or update or delete on %1$s for each row execute procedure %6$I.logtrigger(%7$s);
             create trigger %3$I before insert or update or delete on %1$s for each row execute procedure %6$I.denyaccess(%8$L);
             create trigger %4$I before truncate on %1$s for each statement execute procedure %6$I.log_truncate(%9$L);
             create trigger %5$I before truncate on %1$s for each statement execute procedure %6$I.deny_truncate();
             alter table %1$s disable trigger %10$I, disable trigger %11$I',
            v_table.relation, v_log, v_deny, v_log_truncate, v_deny_truncate, @CLUSTER@,
            (select string_agg(format('%L', a.argument), ', ' order by a.position)
             from unnest(v_table.arguments) with ordinality as a (argument, position)),
            @CLUSTER@, v_table.tab_id,
            case when v_table.writes then v_deny else v_log end,
            case when v_table.writes then v_deny_truncate else v_log_truncate end
        );
        if v_table.writes then
            -- the log triggers whose functions are written for the table
            perform @NAMESPACE@.alterTableConfigureTriggers(v_table.tab_id);
        end if;
    end loop;
end
$trunkline$;

-- Removes the triggers, and the one of a locked set. A table that is gone already has none. Returns the table's id.
-- Locks: config lock; ACCESS EXCLUSIVE on the table. Event: none.
create or replace function @NAMESPACE@.alterTableDropTriggers(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select c.oid into v_table
    from @NAMESPACE@.sl_table t
    left join pg_class c on c.oid = t.tab_reloid
    where t.tab_id = p_tab_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: alterTableDropTriggers(): Table with id %s not found', p_tab_id);
    end if;
    if v_table is not null then
        execute format('drop trigger if exists %I on %s', @NAMESPACE@.tl_object_name('', '_logtrigger'), v_table);
        execute format('drop trigger if exists %I on %s', @NAMESPACE@.tl_object_name('', '_logtrigger_r'), v_table);
        perform @NAMESPACE@.tl_drop_statement_triggers(p_tab_id);
        execute format('drop trigger if exists %I on %s', @NAMESPACE@.tl_object_name('', '_denyaccess'), v_table);
        perform @NAMESPACE@.alterTableDropTruncateTrigger(v_table::text, p_tab_id);
        perform @NAMESPACE@.tl_unlockTable(v_table);
    else
        perform @NAMESPACE@.tl_drop_log_functions(p_tab_id);
    end if;
    delete from @NAMESPACE@.tl_capture a where a.ca_tab_id = p_tab_id;
    return p_tab_id;
end
$trunkline$;

-- Switches the triggers: where writes are accepted the two that log are enabled, elsewhere the two that refuse. Returns the table's id.
-- Locks: config lock; the table as above. Event: none.
create or replace function @NAMESPACE@.alterTableConfigureTriggers(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass;
    v_is_origin bool;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_table := @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableConfigureTriggers');
    select @NAMESPACE@.tl_acceptsWrites(t.tab_set) into v_is_origin
    from @NAMESPACE@.sl_table t
    where t.tab_id = p_tab_id;
    execute format(
        'alter table %s %s trigger %I',
        v_table, case when v_is_origin then 'disable' else 'enable' end, @NAMESPACE@.tl_object_name('', '_denyaccess')
    );
    perform @NAMESPACE@.tl_configure_log_triggers(p_tab_id, v_is_origin);
    perform @NAMESPACE@.alterTableConfigureTruncateTrigger(
        v_table::text,
        case when v_is_origin then 'enable' else 'disable' end,
        case when v_is_origin then 'disable' else 'enable' end
    );
    return p_tab_id;
end
$trunkline$;

-- The same for all tables of a set, one statement for each that is not captured and has no log functions of its own. Returns nothing.
-- Locks: the tables as above, of the caller's doing where the order matters. Event: none.
create or replace function @NAMESPACE@.tl_configure_triggers_of_set(p_set_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_log name := @NAMESPACE@.tl_object_name('', '_logtrigger');
    v_deny name := @NAMESPACE@.tl_object_name('', '_denyaccess');
    v_log_truncate name := @NAMESPACE@.tl_object_name('', '_truncatetrigger');
    v_deny_truncate name := @NAMESPACE@.tl_object_name('', '_truncatedeny');
    v_own name[] := array[@NAMESPACE@.tl_object_name('', '_logtrigger_i'), @NAMESPACE@.tl_object_name('', '_logtrigger_r')];
    v_writes boolean := @NAMESPACE@.tl_acceptsWrites(p_set_id);
    v_table record;
begin
    for v_table in
        select t.tab_id, c.oid::regclass as relation,
               v_writes or exists (select from pg_trigger g where g.tgrelid = c.oid and g.tgname = any (v_own)) as by_functions
        from @NAMESPACE@.sl_table t
        left join pg_class c on c.oid = t.tab_reloid
        where t.tab_set = p_set_id
        order by t.tab_id
    loop
        if v_table.by_functions or v_table.relation is null then
            perform @NAMESPACE@.alterTableConfigureTriggers(v_table.tab_id);
        else
            execute format(
                'alter table %1$s disable trigger %2$I, enable trigger %3$I, disable trigger %4$I, enable trigger %5$I',
                v_table.relation, v_log, v_deny, v_log_truncate, v_deny_truncate
            );
        end if;
    end loop;
end
$trunkline$;

-- Makes the two triggers for TRUNCATE, in the disposition of an origin's. The name may be quoted or not. Returns 1.
create or replace function @NAMESPACE@.alterTableAddTruncateTrigger(i_fqtable pg_catalog.text, i_tabid integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text := @NAMESPACE@.slon_quote_input(i_fqtable);
begin
    execute format(
        'create trigger %I before truncate on %s for each statement execute procedure %I.log_truncate(%L)',
        @NAMESPACE@.tl_object_name('', '_truncatetrigger'), v_table, @CLUSTER@, i_tabid
    );
    execute format(
        'create trigger %I before truncate on %s for each statement execute procedure %I.deny_truncate()',
        @NAMESPACE@.tl_object_name('', '_truncatedeny'), v_table, @CLUSTER@
    );
    execute format('alter table %s disable trigger %I', v_table, @NAMESPACE@.tl_object_name('', '_truncatedeny'));
    return 1;
end
$trunkline$;

-- Removes the two triggers for TRUNCATE. Returns 1.
create or replace function @NAMESPACE@.alterTableDropTruncateTrigger(i_fqtable pg_catalog.text, i_tabid integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text := @NAMESPACE@.slon_quote_input(i_fqtable);
begin
    execute format('drop trigger if exists %I on %s', @NAMESPACE@.tl_object_name('', '_truncatetrigger'), v_table);
    execute format('drop trigger if exists %I on %s', @NAMESPACE@.tl_object_name('', '_truncatedeny'), v_table);
    return 1;
end
$trunkline$;

-- Switches the two triggers for TRUNCATE; the states are the words of ALTER TABLE: enable, disable, enable always, enable replica.
-- Returns 1.
create or replace function @NAMESPACE@.alterTableConfigureTruncateTrigger(
    i_fqname pg_catalog.text,
    i_log_stat pg_catalog.text,
    i_deny_stat pg_catalog.text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if not (lower(i_log_stat) = any ('{enable,disable,enable always,enable replica}') and lower(i_deny_stat) = any ('{enable,disable,enable always,enable replica}')) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('the states of the truncate triggers are `enable`, `disable`, `enable always` or `enable replica`, not `%s` and `%s`', i_log_stat, i_deny_stat);
    end if;
    execute format(
        'alter table %s %s trigger %I, %s trigger %I',
        @NAMESPACE@.slon_quote_input(i_fqname),
        i_log_stat, @NAMESPACE@.tl_object_name('', '_truncatetrigger'),
        i_deny_stat, @NAMESPACE@.tl_object_name('', '_truncatedeny')
    );
    return 1;
end
$trunkline$;

-- Makes the log trigger anew, enabled if the table's origin is this node. The third argument is kept for callers of the original's
-- function: the trigger gets what the catalog says now. Returns 1.
-- Locks: ACCESS EXCLUSIVE on the table. Event: none.
create or replace function @NAMESPACE@.recreate_log_trigger(
    p_fq_table_name pg_catalog.text,
    p_tab_id pg_catalog.oid,
    p_tab_attkind pg_catalog.text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    execute format(
        'drop trigger if exists %I on %s',
        @NAMESPACE@.tl_object_name('', '_logtrigger'), @NAMESPACE@.slon_quote_input(p_fq_table_name)
    );
    perform @NAMESPACE@.tl_create_log_trigger(p_tab_id::int4);
    perform @NAMESPACE@.alterTableConfigureTriggers(p_tab_id::int4);
    return 1;
end
$trunkline$;

-- Makes log triggers anew whose arguments or functions no longer fit their table (key or columns changed), or which should be of the
-- other kind by now. With true only those of tables which
-- this transaction has locked as it must to change them: others cannot have changed here. Returns how many.
-- Locks: ACCESS EXCLUSIVE on the tables it repairs; the config lock if there are any. Event: none.
create or replace function @NAMESPACE@.repair_log_triggers(only_locked boolean) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table record;
    v_repaired int4 := 0;
begin
    for v_table in
        select t.tab_id, t.tab_reloid, g.tgargs
        from @NAMESPACE@.sl_table t
        join pg_trigger g on g.tgrelid = t.tab_reloid and g.tgname = @NAMESPACE@.tl_object_name('', '_logtrigger')
        where not only_locked
           or exists (
               select from pg_locks l
               where l.locktype = 'relation'
                 and l.database = (select d.oid from pg_database d where d.datname = current_database())
                 and l.relation = t.tab_reloid
                 and l.pid = pg_backend_pid()
                 and l.mode in ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock', 'ShareUpdateExclusiveLock')
                 and l.granted
           )
        order by t.tab_id
    loop
        if array_to_string(@NAMESPACE@.decode_tgargs(v_table.tgargs), chr(1))
            is distinct from array_to_string(@NAMESPACE@.tl_log_trigger_arguments(v_table.tab_id), chr(1))
        then
            perform @NAMESPACE@.recreate_log_trigger(v_table.tab_reloid::regclass::text, v_table.tab_id, null);
            v_repaired := v_repaired + 1;
        elsif @NAMESPACE@.tl_capture_outdated(v_table.tab_id) then
            perform @NAMESPACE@.alterTableConfigureTriggers(v_table.tab_id);
            v_repaired := v_repaired + 1;
        end if;
    end loop;
    return v_repaired;
end
$trunkline$;

-- Arguments of a trigger as stored in pg_trigger.tgargs: texts that each end in a zero byte. The first element has index 0.
-- SECURITY DEFINER as the original's; touches nothing.
create or replace function @NAMESPACE@.decode_tgargs(bytea) returns pg_catalog.text[]
    language plpgsql security definer
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_rest bytea := $1;
    v_end int4;
    v_args text[] := '{}';
begin
    for i in 0 .. length($1) loop
        v_end := position(decode('00', 'hex') in v_rest);
        exit when v_end = 0;
        v_args[i] := convert_from(substring(v_rest from 1 for v_end - 1), getdatabaseencoding());
        v_rest := substring(v_rest from v_end + 1);
    end loop;
    return v_args;
end
$trunkline$;
grant execute on function @NAMESPACE@.decode_tgargs(bytea) to public;

-- The relation of a replicated table; `p_caller` is for the message.
create or replace function @NAMESPACE@.tl_table_of_id(p_tab_id integer, p_caller pg_catalog.text) returns pg_catalog.regclass
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass;
begin
    select c.oid into v_table
    from @NAMESPACE@.sl_table t
    join pg_class c on c.oid = t.tab_reloid
    where t.tab_id = p_tab_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: %s(): Table with id %s not found', p_caller, p_tab_id),
            hint = 'Either sl_table has no such row, or the table it names was dropped or re-created; `repair config` finds it again by name.';
    end if;
    return v_table;
end
$trunkline$;

-- Makes the log trigger with the arguments that fit the table now.
create or replace function @NAMESPACE@.tl_create_log_trigger(p_tab_id integer) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_arguments text;
begin
    select string_agg(format('%L', a.argument), ', ' order by a.position) into v_arguments
    from unnest(@NAMESPACE@.tl_log_trigger_arguments(p_tab_id)) with ordinality as a (argument, position);
    execute format(
        'create trigger %I after insert or update or delete on %s for each row execute procedure %I.logtrigger(%s)',
        @NAMESPACE@.tl_object_name('', '_logtrigger'),
        @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableAddTriggers'),
        @CLUSTER@,
        v_arguments
    );
end
$trunkline$;

-- Arguments of the log trigger, see there.
create or replace function @NAMESPACE@.tl_log_trigger_arguments(p_tab_id integer) returns pg_catalog.text[]
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table regclass := @NAMESPACE@.tl_table_of_id(p_tab_id, 'alterTableAddTriggers');
    v_arguments text[];
begin
    select g.arguments into v_arguments from @NAMESPACE@.tl_log_trigger_arguments(array[p_tab_id]) g;
    if v_arguments is null then
        -- raises
        perform @NAMESPACE@.determineAttkindUnique(v_table::text, t.tab_idxname)
        from @NAMESPACE@.sl_table t
        where t.tab_id = p_tab_id;
    end if;
    return v_arguments;
end
$trunkline$;

-- The same for several tables; null where the table or the index that identifies its rows is gone.
create or replace function @NAMESPACE@.tl_log_trigger_arguments(
    p_tab_ids integer[],
    out tab_id integer,
    out reloid pg_catalog.oid,
    out arguments pg_catalog.text[]
) returns setof record
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
#variable_conflict use_column
declare
    -- Where all columns of all tables are of plain types of the system, none depends on search_path: the usual case.
    v_plain boolean := not exists (
        select
        from @NAMESPACE@.sl_table t
        join pg_attribute a on a.attrelid = t.tab_reloid and a.attnum > 0 and not a.attisdropped
        join pg_type y on y.oid = a.atttypid
        where t.tab_id = any (p_tab_ids)
          and (y.typtype <> 'b' or y.typelem <> 0 or y.typnamespace <> 'pg_catalog'::regnamespace or y.typname ~ '^reg')
    );
begin
    return query
    select w.tab_id, c.oid,
           array[
               @CLUSTER@,
               w.tab_id::text,
               (select rtrim(string_agg(case when a.attnum = any (k.attnums) then 'k' else 'v' end, '' order by a.attnum), 'v')
                from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
               case when not v_plain and @NAMESPACE@.tl_depends_on_path(c.oid) then 'search_path' else '' end
           ] || k.names || k.attnums::text[]
    from unnest(p_tab_ids) w (tab_id)
    left join @NAMESPACE@.sl_table t on t.tab_id = w.tab_id
    left join pg_class c on c.oid = t.tab_reloid
    left join lateral (
        select array_agg(a.attname::text order by p.position) as names, array_agg(a.attnum order by p.position) as attnums
        from pg_index x
        join pg_class i on i.oid = x.indexrelid and i.relname = t.tab_idxname
        -- indnkeyatts does not exist before version 11, hence the detour
        cross join lateral unnest(x.indkey::int2[]) with ordinality as p (attnum, position)
        join pg_attribute a on a.attrelid = c.oid and a.attnum = p.attnum and p.attnum > 0
        where x.indrelid = c.oid and x.indisunique
          and p.position <= coalesce((to_jsonb(x) ->> 'indnkeyatts')::int4, x.indnatts)
    ) k on true;
end
$trunkline$;

-- Does the text of some column depend on search_path? True for regclass and its kin, also inside arrays, domains, composites, ranges.
create or replace function @NAMESPACE@.tl_depends_on_path(p_table pg_catalog.oid) returns pg_catalog.bool
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    -- The usual case: plain types of the system.
    if not exists (
        select
        from pg_attribute a
        join pg_type y on y.oid = a.atttypid
        where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
          and (y.typtype <> 'b' or y.typelem <> 0 or y.typnamespace <> 'pg_catalog'::regnamespace or y.typname ~ '^reg')
    ) then
        return false;
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
                select t.typelem
                union all
                select t.typbasetype
                union all
                select r.rngsubtype from pg_range r where r.rngtypid = t.oid
                union all
                select a.atttypid from pg_attribute a
                where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped
            ) as inner_part (type)
            where inner_part.type <> 0
        )
        select exists (
            select from parts p
            join pg_type t on t.oid = p.type
            where t.typnamespace = 'pg_catalog'::regnamespace
              and t.typname in (
                  'regclass', 'regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator',
                  'regproc', 'regprocedure', 'regrole', 'regtype'
              )
        )
    );
end
$trunkline$;
