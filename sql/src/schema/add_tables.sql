-- Many tables or sequences added to a set at once: what setAddTable() and setAddSequence() do, for arrays of them.

-- Adds tables to a set that nobody subscribes to, in the order of the arrays. A key that is null is the primary key.
-- Returns the number of the last event. Like setAddTable() for each of them, but that all are refused if one of them is.
-- Behind the p_seq_places[n]-th table (0: before all) comes the n-th sequence.
-- With p_wait the tables are waited for as in tl_lockTables(); without, it is an error if one of them is not free now.
-- Locks: config lock; SHARE ROW EXCLUSIVE on the tables. Event: SET_ADD_TABLE for each, SET_ADD_SEQUENCE for each sequence.
create or replace function @NAMESPACE@.tl_addTables(
    p_set_id integer,
    p_tab_ids integer[],
    p_fqnames text[],
    p_keys text[],
    p_comments text[],
    p_wait boolean,
    p_seq_places integer[] default '{}',
    p_seq_ids integer[] default '{}',
    p_seq_fqnames text[] default '{}',
    p_seq_comments text[] default '{}'
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_tables text[];
    v_keys text[];
    v_sequence integer := 1;
    v_seqno bigint;
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_requireLocalSet(p_set_id, 'setAddTable(): ', 'has remote origin');
    perform @NAMESPACE@.tl_requireUnsubscribedSet(p_set_id);
    select array_agg(format('only %I.%I', f.nspname, f.relname) order by w.place) into v_tables
    from unnest(p_fqnames) with ordinality as w (fqname, place)
    cross join lateral @NAMESPACE@.tl_findRelation(w.fqname) f
    -- what else may be wrong with a name is said below
    where f.relkind = 'r';
    if v_tables is not null and p_wait then
        perform @NAMESPACE@.tl_lockTables(v_tables, 'share row exclusive');
    elsif v_tables is not null then
        execute format('lock table %s in share row exclusive mode nowait', array_to_string(v_tables, ', '));
    end if;
    select array_agg(@NAMESPACE@.determineIdxnameUnique(w.fqname, w.key::name)::text order by w.place) into v_keys
    from rows from (unnest(p_fqnames), unnest(p_keys)) with ordinality as w (fqname, key, place);
    perform @NAMESPACE@.tl_addTables_int(p_set_id, p_tab_ids, p_fqnames, v_keys, p_comments);
    for i in 0 .. cardinality(p_tab_ids) loop
        if i > 0 then
            v_seqno := @NAMESPACE@.createEvent(
                @CLUSTER@, 'SET_ADD_TABLE', p_set_id::text, p_tab_ids[i]::text, p_fqnames[i], v_keys[i], p_comments[i]
            );
        end if;
        while p_seq_places[v_sequence] = i loop
            v_seqno := @NAMESPACE@.setAddSequence(
                p_set_id, p_seq_ids[v_sequence], p_seq_fqnames[v_sequence], p_seq_comments[v_sequence]
            );
            v_sequence := v_sequence + 1;
        end loop;
    end loop;
    return v_seqno;
end
$trunkline$;

-- The local part of tl_addTables() and setAddTable() on the origin, and of the initial copy on a subscriber: checks the tables
-- and their identifying indexes, creates the triggers. Returns the number of tables, or 0 on a node that has no part in the set.
-- Locks: config lock; SHARE ROW EXCLUSIVE on the tables. Event: none.
create or replace function @NAMESPACE@.tl_addTables_int(
    p_set_id integer,
    p_tab_ids integer[],
    p_fqnames text[],
    p_idxnames text[],
    p_comments text[]
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_table record;
    v_column name;
begin
    lock table @NAMESPACE@.sl_config_lock;
    if not exists (select from @NAMESPACE@.sl_set s where s.set_id = p_set_id) then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: setAddTable_int(): set %s not found', p_set_id);
    end if;
    if not @NAMESPACE@.tl_holdsSet(p_set_id) then
        return 0;
    end if;
    for v_table in
        select w.tab_id, w.fqname, w.idxname, w.comment, f.reloid, f.relname, f.nspname, f.relkind,
               x.indexrelid, x.usable, x.indimmediate,
               (select array_agg(a.attname order by k.position)
                from unnest(x.indkey::int2[]) with ordinality as k (attnum, position)
                join pg_attribute a on a.attrelid = f.reloid and a.attnum = k.attnum
                where k.position <= x.key_columns and not a.attnotnull) as nullable
        from rows from (unnest(p_tab_ids), unnest(p_fqnames), unnest(p_idxnames), unnest(p_comments))
            with ordinality as w (tab_id, fqname, idxname, comment, place)
        cross join lateral @NAMESPACE@.tl_findRelation(w.fqname) f
        left join lateral (
            select i.indexrelid, i.indkey, i.indisunique and i.indpred is null and i.indexprs is null as usable, i.indimmediate,
                   -- columns behind INCLUDE are no key; PostgreSQL 10 has none
                   coalesce((to_jsonb(i) ->> 'indnkeyatts')::integer, i.indnatts::integer) as key_columns
            from pg_index i
            join pg_class c on c.oid = i.indexrelid
            where i.indrelid = f.reloid and c.relname = w.idxname::name
        ) x on true
        order by w.place
    loop
        if v_table.reloid is null then
            raise exception using
                errcode = 'undefined_table',
                message = format('Slony-I: setAddTable_int(): table %s not found', v_table.fqname),
                hint = 'Names are written `schema.table`; upper and lower case matter, also without quotes.';
        end if;
        if v_table.relkind <> 'r' then
            raise exception using
                errcode = 'wrong_object_type',
                message = format('Slony-I: setAddTable_int(): %s is not a regular table', v_table.fqname);
        end if;
        if v_table.indexrelid is null then
            raise exception using
                errcode = 'undefined_object',
                message = format(
                    'Slony-I: setAddTable_int(): table %s has no index %s', v_table.fqname, coalesce(v_table.idxname, '<NULL>')
                );
        end if;
        if not v_table.usable then
            raise exception using
                errcode = 'wrong_object_type',
                message = format('Slony-I: setAddTable_int(): table %s has no unique index %s', v_table.fqname, v_table.idxname),
                detail = 'An index over expressions, a part of the rows or with duplicates does not identify a row.';
        end if;
        if v_table.nullable is not null then
            foreach v_column in array v_table.nullable loop
                raise notice using message = format(
                    'Slony-I: setAddTable_int: table %s PK column %s nullable', v_table.fqname, v_column
                );
            end loop;
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('Slony-I: setAddTable_int: table %s not replicable!', v_table.fqname),
                hint = 'Declare the columns of the index NOT NULL, or name another unique index as key.';
        end if;
        -- While such a constraint is deferred two rows may have one key, and a logged change no longer says which one it means.
        if not v_table.indimmediate then
            raise warning using
                message = format('Slony-I: the key %s of table %s is deferrable', v_table.idxname, v_table.fqname),
                hint = 'Statements that pass key values from row to row cannot be replicated; name a unique index that is not deferrable as key.';
        end if;
        if exists (select from @NAMESPACE@.sl_table t where t.tab_id = v_table.tab_id) then
            raise exception using
                errcode = 'duplicate_object',
                message = format('Slony-I: setAddTable_int: table id %s has already been assigned!', v_table.tab_id);
        end if;
        insert into @NAMESPACE@.sl_table (
            tab_id, tab_reloid, tab_relname, tab_nspname, tab_set, tab_idxname, tab_altered, tab_comment
        ) values (
            v_table.tab_id, v_table.reloid, v_table.relname, v_table.nspname, p_set_id, v_table.idxname::name, false, v_table.comment
        );
    end loop;
    perform @NAMESPACE@.tl_create_triggers(p_tab_ids);
    return cardinality(p_tab_ids);
end
$trunkline$;

-- Adds sequences to a set that nobody subscribes to, in the order of the arrays. Returns the number of the last event.
-- Locks: config lock. Event: SET_ADD_SEQUENCE for each.
create or replace function @NAMESPACE@.tl_addSequences(
    p_set_id integer,
    p_seq_ids integer[],
    p_fqnames text[],
    p_comments text[]
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_seqno bigint;
begin
    for i in 1 .. cardinality(p_seq_ids) loop
        v_seqno := @NAMESPACE@.setAddSequence(p_set_id, p_seq_ids[i], p_fqnames[i], p_comments[i]);
    end loop;
    return v_seqno;
end
$trunkline$;
