-- Who this node is, which version it answers, session name, registry, quoting.

-- Number of this node. The argument is the schema's name ('_C'), as every caller of the original passes it.
-- Runs with the owner's rights (as the original's does): monitoring roles have no right on the sequence.
-- Another cluster's name is an error and not looked up, since the owner's rights must not read foreign objects.
create or replace function @NAMESPACE@.getLocalNodeId(p_cluster pg_catalog.name) returns integer
    language plpgsql security definer
as $trunkline$
declare
    v_node bigint;
begin
    if p_cluster is null or p_cluster operator(pg_catalog.<>) @CLUSTER@::pg_catalog.name then
        raise exception using
            errcode = 'undefined_table',
            message = pg_catalog.format('relation "%s.sl_local_node_id" does not exist', p_cluster),
            hint = pg_catalog.format('the argument is the name of the cluster''s schema, here %L', @CLUSTER@);
    end if;
    -- null while the sequence has never been set
    v_node := pg_catalog.pg_sequence_last_value(@REGCLASS:sl_local_node_id@);
    if v_node is null or v_node operator(pg_catalog.=) -1 then
        raise exception 'Slony-I: Node is uninitialized - cluster %', @CLUSTER@;
    end if;
    return v_node;
end
$trunkline$;
grant execute on function @NAMESPACE@.getLocalNodeId(pg_catalog.name) to public;

-- Version of the original whose protocol this node speaks; its daemons refuse any other answer.
create or replace function @NAMESPACE@.getModuleVersion() returns pg_catalog.text
    language sql security definer
    set search_path to pg_catalog, pg_temp
as $trunkline$ select '2.2.11'::text $trunkline$;
grant execute on function @NAMESPACE@.getModuleVersion() to public;

-- The same, as the schema's version.
create or replace function @NAMESPACE@.slonyVersion() returns pg_catalog.text
    language sql
as $trunkline$ select '2.2.11'::pg_catalog.text $trunkline$;

-- First number of the version.
create or replace function @NAMESPACE@.slonyVersionMajor() returns integer
    language sql
as $trunkline$ select 2 $trunkline$;

-- Second number of the version.
create or replace function @NAMESPACE@.slonyVersionMinor() returns integer
    language sql
as $trunkline$ select 2 $trunkline$;

-- Third number of the version.
create or replace function @NAMESPACE@.slonyVersionPatchlevel() returns integer
    language sql
as $trunkline$ select 11 $trunkline$;

-- Trunkline's own version; that this function exists tells that the node has our schema.
create or replace function @NAMESPACE@.tl_version() returns pg_catalog.text
    language sql
as $trunkline$ select @VERSION@::pg_catalog.text $trunkline$;

-- The original compares its C module with the schema here. There is no module, so they cannot differ.
create or replace function @NAMESPACE@.checkmoduleversion() returns pg_catalog.text
    language sql
as $trunkline$ select null::pg_catalog.text $trunkline$;

-- Names the session in pg_stat_activity.
create or replace function @NAMESPACE@.store_application_name(i_name pg_catalog.text) returns pg_catalog.text
    language plpgsql
as $trunkline$
begin
    perform pg_catalog.set_config('application_name', i_name, false);
    return i_name;
end
$trunkline$;

-- Forgets what the session remembers about sequences (seqtrack); the node may have become another one.
create or replace function @NAMESPACE@.resetSession() returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    perform set_config('trunkline.seqtrack_generation',
        (coalesce(nullif(current_setting('trunkline.seqtrack_generation', true), ''), '0')::int8 + 1)::text, false);
    return null;
end
$trunkline$;

-- Quotes one identifier, always.
create or replace function @NAMESPACE@.slon_quote_brute(p_tab_fqname pg_catalog.text) returns pg_catalog.text
    language plpgsql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    return '"' || replace(p_tab_fqname, '"', '""') || '"';
end
$trunkline$;

-- Quotes the parts of a.b that are not quoted yet. The first dot outside a leading quoted part separates; everything behind
-- it is one name. Text that begins like a quoted name but does not go on like one is returned as it is, for the parser to refuse.
create or replace function @NAMESPACE@.slon_quote_input(p_tab_fqname pg_catalog.text) returns pg_catalog.text
    language plpgsql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_end int4 := 1;
    v_head text;
    v_tail text;
begin
    if left(p_tab_fqname, 1) = '"' then
        loop
            v_end := v_end + 1;
            if v_end > length(p_tab_fqname) then
                return p_tab_fqname;
            end if;
            if substr(p_tab_fqname, v_end, 1) = '"' then
                exit when substr(p_tab_fqname, v_end + 1, 1) <> '"';
                v_end := v_end + 1;
            end if;
        end loop;
        if v_end = length(p_tab_fqname) or substr(p_tab_fqname, v_end + 1, 1) <> '.' then
            return p_tab_fqname;
        end if;
        v_head := left(p_tab_fqname, v_end);
        v_tail := substr(p_tab_fqname, v_end + 2);
    else
        v_end := strpos(p_tab_fqname, '.');
        if v_end = 0 then
            return @NAMESPACE@.slon_quote_brute(p_tab_fqname);
        end if;
        v_head := @NAMESPACE@.slon_quote_brute(left(p_tab_fqname, v_end - 1));
        v_tail := substr(p_tab_fqname, v_end + 1);
    end if;
    if not (length(v_tail) >= 2 and left(v_tail, 1) = '"' and right(v_tail, 1) = '"') then
        v_tail := @NAMESPACE@.slon_quote_brute(v_tail);
    end if;
    return v_head || '.' || v_tail;
end
$trunkline$;

-- Stores a number under a key; null removes the key.
create or replace function @NAMESPACE@.registry_set_int4(p_key pg_catalog.text, p_value integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if p_value is null then
        delete from @NAMESPACE@.sl_registry where reg_key = p_key;
    else
        insert into @NAMESPACE@.sl_registry (reg_key, reg_int4) values (p_key, p_value)
        on conflict (reg_key) do update set reg_int4 = excluded.reg_int4;
    end if;
    return p_value;
end
$trunkline$;

-- Reads a number; a missing key is stored with the default.
create or replace function @NAMESPACE@.registry_get_int4(p_key pg_catalog.text, p_default integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_value int4;
begin
    select reg_int4 into v_value from @NAMESPACE@.sl_registry where reg_key = p_key;
    if not found then
        v_value := p_default;
        perform @NAMESPACE@.registry_set_int4(p_key, p_default);
    end if;
    return v_value;
end
$trunkline$;

-- Stores a text under a key; null removes the key.
create or replace function @NAMESPACE@.registry_set_text(p_key pg_catalog.text, p_value pg_catalog.text) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if p_value is null then
        delete from @NAMESPACE@.sl_registry where reg_key = p_key;
    else
        insert into @NAMESPACE@.sl_registry (reg_key, reg_text) values (p_key, p_value)
        on conflict (reg_key) do update set reg_text = excluded.reg_text;
    end if;
    return p_value;
end
$trunkline$;

-- Reads a text; a missing key is stored with the default.
create or replace function @NAMESPACE@.registry_get_text(p_key pg_catalog.text, p_default pg_catalog.text) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_value text;
begin
    select reg_text into v_value from @NAMESPACE@.sl_registry where reg_key = p_key;
    if not found then
        v_value := p_default;
        perform @NAMESPACE@.registry_set_text(p_key, p_default);
    end if;
    return v_value;
end
$trunkline$;

-- Stores a point in time under a key; null removes the key.
create or replace function @NAMESPACE@.registry_set_timestamp(p_key pg_catalog.text, p_value timestamp with time zone)
    returns timestamp without time zone
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if p_value is null then
        delete from @NAMESPACE@.sl_registry where reg_key = p_key;
    else
        insert into @NAMESPACE@.sl_registry (reg_key, reg_timestamp) values (p_key, p_value)
        on conflict (reg_key) do update set reg_timestamp = excluded.reg_timestamp;
    end if;
    return p_value;
end
$trunkline$;

-- Reads a point in time; a missing key is stored with the default.
create or replace function @NAMESPACE@.registry_get_timestamp(p_key pg_catalog.text, p_default timestamp with time zone)
    returns timestamp without time zone
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_value timestamptz;
begin
    select reg_timestamp into v_value from @NAMESPACE@.sl_registry where reg_key = p_key;
    if not found then
        v_value := p_default;
        perform @NAMESPACE@.registry_set_timestamp(p_key, p_default);
    end if;
    return v_value;
end
$trunkline$;

-- Name of an object that carries the cluster's schema in its own, like the trigger `_C_logtrigger`: prefix, schema, suffix.
-- Where that exceeds the 63 bytes of an identifier the schema's part is cut and keeps eight digits of its hash, so that
-- two long cluster names stay distinct and the suffix stays whole.
create or replace function @NAMESPACE@.tl_object_name(p_prefix pg_catalog.text, p_suffix pg_catalog.text) returns pg_catalog.name
    language plpgsql immutable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_schema text := @CLUSTER@;
    v_room int4 := 63 - octet_length(p_prefix) - octet_length(p_suffix);
begin
    if octet_length(v_schema) > v_room then
        while octet_length(v_schema) > v_room - 9 loop
            v_schema := left(v_schema, -1);
        end loop;
        v_schema := v_schema || '_' || left(md5(@CLUSTER@), 8);
    end if;
    return p_prefix || v_schema || p_suffix;
end
$trunkline$;
