-- Apply for a daemon of the original that serves this node: it copies log rows into sl_log_1 or sl_log_2 with role replica, and the
-- trigger `apply_trigger` there (enabled for that role only) carries them out. Our own daemon applies in sets and stores log rows
-- with role local, so the trigger does not fire for it.

-- Carries out one log row. The row stays (to be forwarded) if this node forwards the table's set. Statements of scripts come on the
-- same way, without a table; they are kept in sl_log_script on every node.
-- SECURITY DEFINER as the original's. Statements run with the daemon's search_path, as scripts expect; only its own queries are qualified.
create or replace function @NAMESPACE@.logApply() returns trigger
    language plpgsql security definer
as $trunkline$
declare
    v_local integer;
    v_rows bigint;
begin
    if new.log_cmdtype operator(pg_catalog.=) any ('{S,s}'::pg_catalog."char"[]) then
        perform @NAMESPACE@.tl_apply_script(new.log_cmdtype, new.log_cmdargs);
        insert into @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq, log_cmdtype, log_cmdargs)
        values (new.log_origin, new.log_txid, new.log_actionseq, new.log_cmdtype, new.log_cmdargs);
        perform @NAMESPACE@.tl_count_applied('S');
        return null;
    end if;

    execute @NAMESPACE@.tl_statement_of_row(
        new.log_tablenspname, new.log_tablerelname, new.log_cmdtype, new.log_cmdupdncols, new.log_cmdargs
    );
    get diagnostics v_rows = row_count;
    if v_rows operator(pg_catalog.=) 0 and new.log_cmdtype operator(pg_catalog.=) any ('{U,D}'::pg_catalog."char"[]) then
        raise warning 'log row % (%) of table %.% found no row here', new.log_actionseq, new.log_cmdtype, new.log_tablenspname, new.log_tablerelname
            using hint = 'The table was changed on this node by something else; compare it with its origin.';
    end if;
    perform @NAMESPACE@.tl_count_applied(new.log_cmdtype);

    v_local := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if exists (
        select from @NAMESPACE@.sl_table t
        join @NAMESPACE@.sl_subscribe b on b.sub_set operator(pg_catalog.=) t.tab_set
        where t.tab_id operator(pg_catalog.=) new.log_tableid
          and b.sub_receiver operator(pg_catalog.=) v_local
          and b.sub_forward
    ) then
        return new;
    end if;
    return null;
end
$trunkline$;

-- The statement a log row stands for. Values are literals without a type, so the column's own input function reads them.
create or replace function @NAMESPACE@.tl_statement_of_row(
    p_schema pg_catalog.text,
    p_table pg_catalog.text,
    p_type pg_catalog."char",
    p_changed integer,
    p_args pg_catalog.text[]
) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table text := format('%I.%I', p_schema, p_table);
    v_names text := '';
    v_values text := '';
    v_key text := '';
    v_generated text[];
    v_key_start int4;
begin
    if p_type = 'T' then
        return format('truncate only %s cascade', v_table);
    end if;
    if p_type in ('I', 'U') then
        -- the server computes these itself; the column attgenerated does not exist before version 12, hence the detour
        select coalesce(array_agg(a.attname::text), '{}') into v_generated
        from pg_attribute a
        where a.attrelid = to_regclass(v_table) and a.attnum > 0 and not a.attisdropped
          and coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '';
    end if;
    if p_type = 'I' then
        for i in 1 .. cardinality(p_args) by 2 loop
            continue when p_args[i] = any (v_generated);
            v_names := v_names || format(', %I', p_args[i]);
            v_values := v_values || format(', %L', p_args[i + 1]);
        end loop;
        if v_names = '' then
            return format('insert into %s default values', v_table);
        end if;
        return format('insert into %s (%s) overriding system value values (%s)', v_table, substr(v_names, 3), substr(v_values, 3));
    end if;
    if p_type not in ('U', 'D') then
        raise exception using
            errcode = 'data_corrupted',
            message = format('log row of table %s has the unknown command `%s`', v_table, p_type);
    end if;

    v_key_start := case p_type when 'U' then 2 * p_changed + 1 else 1 end;
    for i in v_key_start .. cardinality(p_args) by 2 loop
        v_key := v_key || format(' and %I = %L', p_args[i], p_args[i + 1]);
    end loop;
    if v_key = '' then
        raise exception using
            errcode = 'data_corrupted',
            message = format('log row of table %s (%s) has no key', v_table, p_type);
    end if;
    if p_type = 'D' then
        return format('delete from only %s where%s', v_table, substr(v_key, 5));
    end if;
    for i in 1 .. v_key_start - 1 by 2 loop
        continue when p_args[i] = any (v_generated);
        v_values := v_values || format(', %I = %L', p_args[i], p_args[i + 1]);
    end loop;
    if v_values = '' then
        v_values := format(', %I = %I', p_args[v_key_start], p_args[v_key_start]);
    end if;
    return format('update only %s set %s where%s', v_table, substr(v_values, 3), substr(v_key, 5));
end
$trunkline$;

-- Runs a script's statement with role local (`S`), or what follows its end (`s`), if it is meant for this node.
create or replace function @NAMESPACE@.tl_apply_script(p_type pg_catalog."char", p_args pg_catalog.text[]) returns void
    language plpgsql
as $trunkline$
declare
    v_local pg_catalog.text := @NAMESPACE@.getLocalNodeId(@CLUSTER@)::pg_catalog.text;
    v_sequences pg_catalog.text[];
    v_role pg_catalog.text := pg_catalog.current_setting('session_replication_role');
begin
    if p_type operator(pg_catalog.=) 's' then
        if pg_catalog.cardinality(p_args) operator(pg_catalog.=) 0 or v_local operator(pg_catalog.=) any (p_args) then
            perform @NAMESPACE@.ddlScript_complete_int();
        end if;
        return;
    end if;
    if coalesce(p_args[2], '') operator(pg_catalog.<>) ''
        and v_local operator(pg_catalog.<>) all (pg_catalog.string_to_array(p_args[2], ','))
    then
        return;
    end if;
    if coalesce(p_args[3], '') operator(pg_catalog.<>) '' then
        v_sequences := pg_catalog.string_to_array(p_args[3], ',');
        for i in 1 .. pg_catalog.cardinality(v_sequences) by 3 loop
            perform @NAMESPACE@.sequenceSetValue(
                v_sequences[i]::integer, v_sequences[i operator(pg_catalog.+) 1]::integer, null,
                v_sequences[i operator(pg_catalog.+) 2]::bigint, true
            );
        end loop;
    end if;
    perform pg_catalog.set_config('session_replication_role', 'local', true);
    execute p_args[1];
    perform pg_catalog.set_config('session_replication_role', v_role, true);
end
$trunkline$;

-- Counts what this transaction has applied, for logApplySaveStats(): numbers of I, U, D, T, S in a setting of the transaction.
create or replace function @NAMESPACE@.tl_count_applied(p_type pg_catalog."char") returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_counts int8[] := coalesce(nullif(current_setting('trunkline.applied', true), ''), '{0,0,0,0,0}')::int8[];
    v_index int4 := strpos('IUDTS', p_type::text);
begin
    v_counts[v_index] := v_counts[v_index] + 1;
    perform set_config('trunkline.applied', v_counts::text, true);
end
$trunkline$;

-- The original bounds its cache of prepared statements with this. There is none here; the number is remembered and the previous one
-- returned, as callers expect.
create or replace function @NAMESPACE@.logApplySetCacheSize(p_size integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_previous int4 := coalesce(nullif(current_setting('trunkline.apply_cache_size', true), ''), '100')::int4;
begin
    perform set_config('trunkline.apply_cache_size', p_size::text, false);
    return v_previous;
end
$trunkline$;

-- Adds what this transaction has applied to the totals of the origin. Returns 0.
create or replace function @NAMESPACE@.logApplySaveStats(p_cluster pg_catalog.name, p_origin integer, p_duration interval) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_counts int8[] := coalesce(nullif(current_setting('trunkline.applied', true), ''), '{0,0,0,0,0}')::int8[];
    v_total int8 := v_counts[1] + v_counts[2] + v_counts[3] + v_counts[4] + v_counts[5];
begin
    perform set_config('trunkline.applied', '', true);
    update @NAMESPACE@.sl_apply_stats
    set as_num_insert = as_num_insert + v_counts[1],
        as_num_update = as_num_update + v_counts[2],
        as_num_delete = as_num_delete + v_counts[3],
        as_num_truncate = as_num_truncate + v_counts[4],
        as_num_script = as_num_script + v_counts[5],
        as_num_total = as_num_total + v_total,
        as_duration = as_duration + p_duration,
        as_apply_last = now()
    where as_origin = p_origin;
    if not found then
        insert into @NAMESPACE@.sl_apply_stats (
            as_origin, as_num_insert, as_num_update, as_num_delete, as_num_truncate, as_num_script, as_num_total,
            as_duration, as_apply_first, as_apply_last,
            as_cache_prepare, as_cache_hit, as_cache_evict, as_cache_prepare_max
        ) values (
            p_origin, v_counts[1], v_counts[2], v_counts[3], v_counts[4], v_counts[5], v_total,
            p_duration, now(), now(), 0, 0, 0, 0
        );
    end if;
    return 0;
end
$trunkline$;
