-- Capture: the functions behind the triggers on replicated tables.
--
-- They run inside the applications' transactions, with any search_path, any settings and any rights, so every name and every
-- operator is qualified and nothing but pg_catalog, the schema of hstore and our own schema is ever looked at. Those that write
-- to the log are SECURITY DEFINER, as the original's: an application needs no right on our tables. They take no values
-- from the caller but the row itself.

-- Logs a changed row. AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, arguments:
--   0 '_C'   1 tab_id   2 attkind (as the original; unused here but compared by repair_log_triggers)
--   3 'search_path' if the table has columns whose text depends on it (regclass and its kin), else ''
--   4.. names of the columns of the identifying index, then as many attribute numbers of these columns
-- A trigger of the original, with three arguments, works as well: the columns are then looked up for every row.
-- A name alone is not enough: after `rename column id to old_id, add column id` it is another column's. So the name of each number is
-- checked, for a microsecond; where it differs (also after a restore, which renumbers) the catalog is asked for every row until
-- repair_log_triggers() has run.
--
-- The whole row goes through hstore, whatever columns it has at that moment: a column added by a plain ALTER TABLE is logged at once.
-- Log table: bit 0 of sl_log_status. A transaction may read it just before a switch and write just after: logswitch_finish() waits for
-- all transactions that had begun before the switch, and the row changed here has already given this one its id.
create or replace function @NAMESPACE@.logTrigger() returns trigger
    language plpgsql security definer
as $trunkline$
declare
    v_old @HSTORE@.hstore;
    v_args pg_catalog.text[];
    v_keys pg_catalog.text[];
    v_type pg_catalog."char";
    v_columns integer := 0;
    v_key_columns integer := (tg_nargs operator(pg_catalog.-) 4) operator(pg_catalog./) 2;
    v_fits boolean;
    v_settings pg_catalog.text[];
    v_status bigint;
begin
    -- One expression tells the usual case: role origin, no event made, settings under which the text of every value is exact
    -- and portable. (One, and everything volatile besides it inside the INSERT: PL/pgSQL takes a snapshot for each expression
    -- with a stable or volatile function, which costs more than the function.)
    v_status := case
        when pg_catalog.current_setting('session_replication_role')
            operator(pg_catalog.||) coalesce(pg_catalog.current_setting('trunkline.event_in', true), '')
            operator(pg_catalog.||) pg_catalog.current_setting('extra_float_digits')
            operator(pg_catalog.||) pg_catalog.current_setting('datestyle')
            operator(pg_catalog.||) pg_catalog.current_setting('intervalstyle')
            operator(pg_catalog.||) pg_catalog.current_setting('bytea_output')
            operator(pg_catalog.||) pg_catalog.current_setting('lc_monetary')
            operator(pg_catalog.||) tg_argv[3]
            operator(pg_catalog.=) any (@USUAL_SETTINGS@)
        then pg_catalog.pg_sequence_last_value(@REGCLASS:sl_log_status@)
    end;
    if v_status is null then
        if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.<>) 'origin' then
            return null;
        end if;
        v_settings := @NAMESPACE@.tl_settings_for_logging(tg_argv[3]);
        v_status := pg_catalog.pg_sequence_last_value(@REGCLASS:sl_log_status@);
    end if;

    if tg_op operator(pg_catalog.=) 'INSERT' then
        v_type := 'I'::pg_catalog."char";
        v_args := @HSTORE@.hstore_to_array(@HSTORE@.hstore(new));
        if pg_catalog.array_position(v_args, null) is not null
            and pg_catalog.current_setting('server_version_num') operator(pg_catalog.>=) '180000'
        then
            v_args := @NAMESPACE@.tl_without_virtual_columns(tg_relid, v_args);
        end if;
    else
        v_old := @HSTORE@.hstore(old);
        v_keys := @HSTORE@.hstore_to_array(@HSTORE@.slice(v_old, tg_argv[4:3 operator(pg_catalog.+) v_key_columns]));
        -- not all of them there, one of them null, or a trigger that names none
        v_fits := pg_catalog.cardinality(v_keys) operator(pg_catalog.=) (2 operator(pg_catalog.*) v_key_columns)
            and v_key_columns operator(pg_catalog.>) 0
            and pg_catalog.array_position(v_keys, null) is null;
        for i in 4 .. 3 operator(pg_catalog.+) v_key_columns loop
            exit when not v_fits;
            -- 1259 is pg_class itself
            v_fits := (pg_catalog.pg_identify_object_as_address(1259, tg_relid, tg_argv[i operator(pg_catalog.+) v_key_columns]::integer))
                .object_names[3] operator(pg_catalog.=) tg_argv[i];
        end loop;
        if v_fits is not true then
            v_keys := @NAMESPACE@.tl_key_of_row(tg_relid, tg_argv[1]::integer, tg_op, v_old);
        end if;
        if tg_op operator(pg_catalog.=) 'UPDATE' then
            v_type := 'U'::pg_catalog."char";
            v_args := @HSTORE@.hstore_to_array(@HSTORE@.hstore(new) operator(@HSTORE@.-) v_old);
            v_columns := pg_catalog.cardinality(v_args) operator(pg_catalog./) 2;
            v_args := v_args operator(pg_catalog.||) v_keys;
        else
            v_type := 'D'::pg_catalog."char";
            v_args := v_keys;
        end if;
    end if;

    if (v_status operator(pg_catalog.&) 1) operator(pg_catalog.=) 0 then
        insert into @NAMESPACE@.sl_log_1 (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        ) values (
            pg_catalog.pg_sequence_last_value(@REGCLASS:sl_local_node_id@), pg_catalog.txid_current(), tg_argv[1]::integer,
            pg_catalog.nextval(@REGCLASS:sl_action_seq@), tg_table_schema, tg_table_name, v_type, v_columns, v_args
        );
    else
        insert into @NAMESPACE@.sl_log_2 (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        ) values (
            pg_catalog.pg_sequence_last_value(@REGCLASS:sl_local_node_id@), pg_catalog.txid_current(), tg_argv[1]::integer,
            pg_catalog.nextval(@REGCLASS:sl_action_seq@), tg_table_schema, tg_table_name, v_type, v_columns, v_args
        );
    end if;
    if v_settings is not null then
        perform @NAMESPACE@.tl_settings_restore(v_settings);
    end if;
    if pg_catalog.pg_trigger_depth() operator(pg_catalog.>) 1 and @NAMESPACE@.tl_may_be_nested(tg_relid) then
        perform @NAMESPACE@.tl_capture_doubt(tg_argv[1]::integer, @NAMESPACE@.tl_capture_memory(tg_argv[1]::integer));
    end if;
    return null;
end
$trunkline$;
grant execute on function @NAMESPACE@.logTrigger() to public;

-- Called by the log trigger when the settings of the session are not the usual ones, or an event was made in this transaction.
-- Sets what would change the text of values to what the log needs and returns names and old values, or null if all was harmless.
-- Done with set_config(name, value, true): an error or rollback anywhere undoes it, and the trigger puts the values back at once.
-- bytea_output and intervalstyle are readable in every form, but the log is compared and hashed, too.
create or replace function @NAMESPACE@.tl_settings_for_logging(p_paths pg_catalog.text) returns pg_catalog.text[]
    language plpgsql
as $trunkline$
declare
    v_changed pg_catalog.text[];
begin
    if pg_catalog.strpos(coalesce(pg_catalog.current_setting('trunkline.event_in', true), ''), @CLUSTER@ operator(pg_catalog.||) pg_catalog.chr(10))
        operator(pg_catalog.>) 0
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: log trigger called in an event transaction',
            detail = 'This transaction has made an event; changes of replicated tables in it could be lost on the subscribers.',
            hint = 'Commit first, then change the data in a transaction of its own.';
    end if;
    if pg_catalog.left(pg_catalog.current_setting('datestyle'), 3) operator(pg_catalog.<>) 'ISO' then
        v_changed := v_changed operator(pg_catalog.||) array['datestyle', pg_catalog.current_setting('datestyle')];
        perform pg_catalog.set_config('datestyle', 'ISO', true);
    end if;
    if pg_catalog.current_setting('intervalstyle') operator(pg_catalog.<>) 'postgres' then
        v_changed := v_changed operator(pg_catalog.||) array['intervalstyle', pg_catalog.current_setting('intervalstyle')];
        perform pg_catalog.set_config('intervalstyle', 'postgres', true);
    end if;
    if pg_catalog.current_setting('bytea_output') operator(pg_catalog.<>) 'hex' then
        v_changed := v_changed operator(pg_catalog.||) array['bytea_output', pg_catalog.current_setting('bytea_output')];
        perform pg_catalog.set_config('bytea_output', 'hex', true);
    end if;
    -- 3 is exact everywhere; from version 12 on 1 and 2 mean the same.
    if pg_catalog.current_setting('extra_float_digits') operator(pg_catalog.<>) '3'
        and (
            pg_catalog.current_setting('extra_float_digits') operator(pg_catalog.<>) all ('{1,2}'::pg_catalog.text[])
            or pg_catalog.current_setting('server_version_num') operator(pg_catalog.<) '120000'
        )
    then
        v_changed := v_changed operator(pg_catalog.||) array['extra_float_digits', pg_catalog.current_setting('extra_float_digits')];
        perform pg_catalog.set_config('extra_float_digits', '3', true);
    end if;
    -- These write money alike.
    if pg_catalog.current_setting('lc_monetary') operator(pg_catalog.<>) all ('{C,POSIX,C.UTF-8,C.utf8,en_US.UTF-8,en_US.utf8}'::pg_catalog.text[]) then
        v_changed := v_changed operator(pg_catalog.||) array['lc_monetary', pg_catalog.current_setting('lc_monetary')];
        perform pg_catalog.set_config('lc_monetary', 'C', true);
    end if;
    if p_paths operator(pg_catalog.=) 'search_path' then
        v_changed := v_changed operator(pg_catalog.||) array['search_path', pg_catalog.current_setting('search_path')];
        perform pg_catalog.set_config('search_path', 'pg_catalog', true);
    end if;
    return v_changed;
end
$trunkline$;

-- Puts back what tl_settings_for_logging() changed.
create or replace function @NAMESPACE@.tl_settings_restore(p_changed pg_catalog.text[]) returns void
    language plpgsql
as $trunkline$
begin
    for i in 1 .. pg_catalog.cardinality(p_changed) by 2 loop
        perform pg_catalog.set_config(p_changed[i], p_changed[i operator(pg_catalog.+) 1], true);
    end loop;
end
$trunkline$;

-- Removes virtual generated columns (PostgreSQL 18), which a trigger sees as null, from the names and values of a row.
create or replace function @NAMESPACE@.tl_without_virtual_columns(p_table pg_catalog.oid, p_args pg_catalog.text[]) returns pg_catalog.text[]
    language plpgsql
as $trunkline$
declare
    v_virtual pg_catalog.text[];
    v_args pg_catalog.text[] := '{}';
begin
    if pg_catalog.current_setting('server_version_num') operator(pg_catalog.<) '180000' then
        return p_args;
    end if;
    select pg_catalog.array_agg(a.attname::pg_catalog.text) into v_virtual
    from pg_catalog.pg_attribute a
    where a.attrelid operator(pg_catalog.=) p_table
      and a.attgenerated operator(pg_catalog.=) 'v'
      and not a.attisdropped;
    if v_virtual is null then
        return p_args;
    end if;
    for i in 1 .. pg_catalog.cardinality(p_args) by 2 loop
        if p_args[i] operator(pg_catalog.<>) all (v_virtual) then
            v_args := v_args operator(pg_catalog.||) p_args[i:i operator(pg_catalog.+) 1];
        end if;
    end loop;
    return v_args;
end
$trunkline$;

-- Key columns and old values of a row whose trigger does not name the key as it is now: a column was renamed or dropped without a
-- script, or the trigger is the original's. Takes the key from the catalog. Also called for a null in the key, which is an error:
-- a subscriber could not find the row.
create or replace function @NAMESPACE@.tl_key_of_row(
    p_table pg_catalog.oid,
    p_tab_id integer,
    p_op pg_catalog.text,
    p_old @HSTORE@.hstore
) returns pg_catalog.text[]
    language plpgsql
as $trunkline$
declare
    v_columns pg_catalog.text[];
    v_key pg_catalog.text[] := '{}';
begin
    select @NAMESPACE@.tl_index_columns(x.indexrelid) into v_columns
    from @NAMESPACE@.sl_table t
    join pg_catalog.pg_index x on x.indrelid operator(pg_catalog.=) p_table
    join pg_catalog.pg_class i on i.oid operator(pg_catalog.=) x.indexrelid and i.relname operator(pg_catalog.=) t.tab_idxname
    where t.tab_id operator(pg_catalog.=) p_tab_id;
    if v_columns is null then
        raise exception using
            errcode = 'undefined_object',
            message = pg_catalog.format('Slony-I: cannot log the %s: the index that identifies rows of table %s is gone', p_op, p_table::pg_catalog.regclass),
            hint = pg_catalog.format('Re-create the unique index named in %s.sl_table for tab_id %s, or remove the table with `set drop table` and add it again.',
                pg_catalog.quote_ident(@CLUSTER@), p_tab_id);
    end if;
    for i in 1 .. pg_catalog.cardinality(v_columns) loop
        if (p_old operator(@HSTORE@.->) v_columns[i]) is null then
            raise exception using
                errcode = 'null_value_not_allowed',
                message = pg_catalog.format('Slony-I: old key column %s.%s IS NULL on %s', p_table::pg_catalog.regclass, v_columns[i], p_op),
                hint = 'Rows of a replicated table need a value in every column of the identifying index: set the columns not null.';
        end if;
        v_key := v_key operator(pg_catalog.||) array[v_columns[i], p_old operator(@HSTORE@.->) v_columns[i]];
    end loop;
    return v_key;
end
$trunkline$;

-- Names of the columns an index is made of, in its order; without the additional ones of INCLUDE. Expressions are null.
create or replace function @NAMESPACE@.tl_index_columns(p_index pg_catalog.oid) returns pg_catalog.text[]
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return (
        select array_agg(a.attname::text order by k.position)
        from pg_index x
        -- indnkeyatts does not exist before version 11, hence the detour
        cross join lateral unnest(x.indkey::int2[]) with ordinality as k (attnum, position)
        left join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum and k.attnum > 0
        where x.indexrelid = p_index
          and k.position <= coalesce((to_jsonb(x) ->> 'indnkeyatts')::int4, x.indnatts)
    );
end
$trunkline$;

-- Refuses changes on a subscriber. BEFORE INSERT OR UPDATE OR DELETE FOR EACH ROW, argument '_C'. The daemon works with role
-- replica and does not fire it; role local is the administrator's way around it. SECURITY DEFINER as the original's.
create or replace function @NAMESPACE@.denyAccess() returns trigger
    language plpgsql security definer
as $trunkline$
declare
    v_fence text;
begin
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.=) 'origin' then
        v_fence := @NAMESPACE@.tl_fenceNotice(tg_relid);
        raise exception using
            errcode = 'read_only_sql_transaction',
            message = case
                when v_fence is null then
                    pg_catalog.format('Slony-I: Table %s is replicated and cannot be modified on a subscriber node - role=0', tg_table_name)
                else
                    pg_catalog.format('Slony-I: Table %s cannot be modified here: %s', tg_table_name, v_fence)
            end,
            hint = 'Write on the origin of its set.',
            schema = tg_table_schema,
            table = tg_table_name;
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end
$trunkline$;
grant execute on function @NAMESPACE@.denyAccess() to public;

-- Refuses changes while a set is locked. BEFORE INSERT OR UPDATE OR DELETE FOR EACH ROW, argument '_C'; the trigger exists only then.
create or replace function @NAMESPACE@.lockedSet() returns trigger
    language plpgsql
as $trunkline$
begin
    raise exception using
        errcode = 'lock_not_available',
        message = pg_catalog.format('Slony-I: Table %s is currently locked against updates because of MOVE_SET operation in progress', tg_table_name),
        hint = 'Try again in a moment, on the new origin if the set has moved.',
        schema = tg_table_schema,
        table = tg_table_name;
end
$trunkline$;

-- Logs a TRUNCATE, one row per table. BEFORE TRUNCATE FOR EACH STATEMENT, argument tab_id. SECURITY DEFINER to write to the log.
-- A locked set is refused here, too (the original lets it pass): the row lock in sl_set is either free to take, or LOCK SET or
-- MOVE SET is at work on the set at this moment.
create or replace function @NAMESPACE@.log_truncate() returns trigger
    language plpgsql security definer
as $trunkline$
declare
    -- Before the log table is chosen: logswitch_finish() must know this transaction by its id.
    v_txid bigint;
    v_locked bigint;
begin
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.<>) 'origin' then
        return null;
    end if;
    if pg_catalog.strpos(coalesce(pg_catalog.current_setting('trunkline.event_in', true), ''), @CLUSTER@ operator(pg_catalog.||) pg_catalog.chr(10))
        operator(pg_catalog.>) 0
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'Slony-I: log trigger called in an event transaction',
            hint = 'Commit first, then truncate in a transaction of its own.';
    end if;
    v_txid := pg_catalog.txid_current();
    select s.set_locked into v_locked
    from @NAMESPACE@.sl_table t
    join @NAMESPACE@.sl_set s on s.set_id operator(pg_catalog.=) t.tab_set
    where t.tab_id operator(pg_catalog.=) tg_argv[0]::integer
    for share of s skip locked;
    if not found or v_locked is not null then
        raise exception using
            errcode = 'lock_not_available',
            message = pg_catalog.format('Slony-I: Table %s is currently locked against updates because of MOVE_SET operation in progress', tg_table_name),
            hint = 'Try again in a moment, on the new origin if the set has moved.',
            schema = tg_table_schema,
            table = tg_table_name;
    end if;
    if (pg_catalog.pg_sequence_last_value(@REGCLASS:sl_log_status@) operator(pg_catalog.&) 1) operator(pg_catalog.=) 0 then
        insert into @NAMESPACE@.sl_log_1 (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        ) values (
            pg_catalog.pg_sequence_last_value(@REGCLASS:sl_local_node_id@), v_txid, tg_argv[0]::integer,
            pg_catalog.nextval(@REGCLASS:sl_action_seq@), tg_table_schema, tg_table_name, 'T', 0, '{}'
        );
    else
        insert into @NAMESPACE@.sl_log_2 (
            log_origin, log_txid, log_tableid, log_actionseq,
            log_tablenspname, log_tablerelname, log_cmdtype, log_cmdupdncols, log_cmdargs
        ) values (
            pg_catalog.pg_sequence_last_value(@REGCLASS:sl_local_node_id@), v_txid, tg_argv[0]::integer,
            pg_catalog.nextval(@REGCLASS:sl_action_seq@), tg_table_schema, tg_table_name, 'T', 0, '{}'
        );
    end if;
    return null;
end
$trunkline$;

-- Refuses TRUNCATE on a subscriber. BEFORE TRUNCATE FOR EACH STATEMENT.
create or replace function @NAMESPACE@.deny_truncate() returns trigger
    language plpgsql
as $trunkline$
declare
    v_fence text;
begin
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.=) 'origin' then
        v_fence := @NAMESPACE@.tl_fenceNotice(tg_relid);
        raise exception using
            errcode = 'read_only_sql_transaction',
            message = case
                when v_fence is null then 'truncation of replicated table forbidden on subscriber node'
                else pg_catalog.format('Slony-I: Table %s cannot be truncated here: %s', tg_table_name, v_fence)
            end,
            detail = pg_catalog.format('Table %I.%I.', tg_table_schema, tg_table_name),
            hint = 'Truncate on the origin of its set.',
            schema = tg_table_schema,
            table = tg_table_name;
    end if;
    return null;
end
$trunkline$;
