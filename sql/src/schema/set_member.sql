-- Members of sets: tables and sequences added, dropped, moved to another set.

-- Finds a relation by a name as users write it, `schema.relation`: case is kept, parts may be quoted, a schema is required.
create or replace function @NAMESPACE@.tl_findRelation(p_fqname text, out reloid oid, out relname name, out nspname name, out relkind "char")
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_parts text[] := parse_ident(@NAMESPACE@.slon_quote_input(p_fqname), true);
begin
    if cardinality(v_parts) <> 2 then
        return;
    end if;
    select c.oid, c.relname, n.nspname, c.relkind into reloid, relname, nspname, relkind
    from pg_namespace n
    join pg_class c on c.relnamespace = n.oid
    where n.nspname = v_parts[1]::name and c.relname = v_parts[2]::name;
end
$trunkline$;

-- Refuses to add tables to a set that has subscribers: they would not copy them.
-- Locks: none; the caller has the config lock. Event: none.
create or replace function @NAMESPACE@.tl_requireUnsubscribedSet(p_set_id integer) returns void
    language plpgsql stable
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if exists (select from @NAMESPACE@.sl_subscribe b where b.sub_set = p_set_id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'Slony-I: cannot add table to currently subscribed set %s - must attach to an unsubscribed set', p_set_id
            ),
            hint = 'Create a new set, add the table, subscribe the same nodes and merge the sets.';
    end if;
end
$trunkline$;

-- Adds a table to a set that nobody subscribes to. Returns the event's number.
-- Locks: config lock; ACCESS EXCLUSIVE on the table. Event: SET_ADD_TABLE.
create or replace function @NAMESPACE@.setAddTable(
    p_set_id integer,
    p_tab_id integer,
    p_fqname text,
    p_tab_idxname name,
    p_tab_comment text
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_requireLocalSet(p_set_id, 'setAddTable(): ', 'has remote origin');
    perform @NAMESPACE@.tl_requireUnsubscribedSet(p_set_id);
    perform @NAMESPACE@.setAddTable_int(p_set_id, p_tab_id, p_fqname, p_tab_idxname, p_tab_comment);
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'SET_ADD_TABLE', p_set_id::text, p_tab_id::text, p_fqname, p_tab_idxname::text, p_tab_comment
    );
end
$trunkline$;

-- The local part of setAddTable() on the origin, and of the initial copy on a subscriber: checks the table and its
-- identifying index, creates the triggers. Returns the table's number, or 0 on a node that has no part in the set.
create or replace function @NAMESPACE@.setAddTable_int(
    p_set_id integer,
    p_tab_id integer,
    p_fqname text,
    p_tab_idxname name,
    p_tab_comment text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if @NAMESPACE@.tl_addTables_int(
        p_set_id, array[p_tab_id], array[p_fqname], array[p_tab_idxname::text], array[p_tab_comment]
    ) = 0 then
        return 0;
    end if;
    return p_tab_id;
end
$trunkline$;

-- Takes a table out of its set on all nodes. Returns the event's number.
-- Locks: config lock; ACCESS EXCLUSIVE on the table. Event: SET_DROP_TABLE.
create or replace function @NAMESPACE@.setDropTable(p_tab_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select t.tab_set into v_set_id from @NAMESPACE@.sl_table t where t.tab_id = p_tab_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: setDropTable_int(): table %s not found', p_tab_id);
    end if;
    perform @NAMESPACE@.tl_requireLocalSet(v_set_id, 'setDropTable(): ', 'has remote origin');
    perform @NAMESPACE@.setDropTable_int(p_tab_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'SET_DROP_TABLE', p_tab_id::text);
end
$trunkline$;

-- The local part of setDropTable(). Returns the table's number, or 0 on a node that does not replicate it.
create or replace function @NAMESPACE@.setDropTable_int(p_tab_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    if not exists (select from @NAMESPACE@.sl_table t where t.tab_id = p_tab_id) then
        return 0;
    end if;
    perform @NAMESPACE@.alterTableDropTriggers(p_tab_id);
    delete from @NAMESPACE@.sl_table t where t.tab_id = p_tab_id;
    return p_tab_id;
end
$trunkline$;

-- Adds a sequence to a set that nobody subscribes to. Returns the event's number.
-- Locks: config lock. Event: SET_ADD_SEQUENCE.
create or replace function @NAMESPACE@.setAddSequence(
    p_set_id integer,
    p_seq_id integer,
    p_fqname text,
    p_seq_comment text
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    perform @NAMESPACE@.tl_requireLocalSet(
        p_set_id, 'setAddSequence(): ', 'has remote origin - submit to origin node'
    );
    if exists (select from @NAMESPACE@.sl_subscribe b where b.sub_set = p_set_id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('Slony-I: cannot add sequence to currently subscribed set %s', p_set_id),
            hint = 'Create a new set, add the sequence, subscribe the same nodes and merge the sets.';
    end if;
    perform @NAMESPACE@.setAddSequence_int(p_set_id, p_seq_id, p_fqname, p_seq_comment);
    return @NAMESPACE@.createEvent(
        @CLUSTER@, 'SET_ADD_SEQUENCE', p_set_id::text, p_seq_id::text, p_fqname, p_seq_comment
    );
end
$trunkline$;

-- The local part of setAddSequence(), and of the initial copy on a subscriber. On the origin the value is noted with the
-- newest SYNC, so that a subscriber finds one even if the sequence never moves again. Returns the sequence's number, or 0 on a
-- node that has no part in the set.
create or replace function @NAMESPACE@.setAddSequence_int(
    p_set_id integer,
    p_seq_id integer,
    p_fqname text,
    p_seq_comment text
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_local_node_id integer;
    v_sequence record;
begin
    lock table @NAMESPACE@.sl_config_lock;
    v_local_node_id := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
    if not exists (select from @NAMESPACE@.sl_set s where s.set_id = p_set_id) then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: setAddSequence_int(): set %s not found', p_set_id);
    end if;
    if not @NAMESPACE@.tl_holdsSet(p_set_id) then
        return 0;
    end if;

    select f.* into v_sequence from @NAMESPACE@.tl_findRelation(p_fqname) f;
    if v_sequence.reloid is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('Slony-I: setAddSequence_int(): sequence %s not found', p_fqname),
            hint = 'Names are written `schema.sequence`; upper and lower case matter, also without quotes.';
    end if;
    if v_sequence.relkind <> 'S' then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('Slony-I: setAddSequence_int(): %s is not a sequence', p_fqname);
    end if;
    if exists (select from @NAMESPACE@.sl_sequence q where q.seq_id = p_seq_id) then
        raise exception using
            errcode = 'duplicate_object',
            message = format('Slony-I: setAddSequence_int(): sequence ID %s has already been assigned', p_seq_id);
    end if;
    insert into @NAMESPACE@.sl_sequence (seq_id, seq_reloid, seq_relname, seq_nspname, seq_set, seq_comment)
    values (p_seq_id, v_sequence.reloid, v_sequence.relname, v_sequence.nspname, p_set_id, p_seq_comment);
    -- a sequence that had this number before may have been seen with the same value
    delete from @NAMESPACE@.tl_sequence_seen n where n.ss_seqid = p_seq_id;

    if exists (select from @NAMESPACE@.sl_set s where s.set_id = p_set_id and s.set_origin = v_local_node_id) then
        insert into @NAMESPACE@.sl_seqlog (seql_seqid, seql_origin, seql_ev_seqno, seql_last_value)
        values (
            p_seq_id,
            v_local_node_id,
            coalesce((
                select max(e.ev_seqno) from @NAMESPACE@.sl_event e
                where e.ev_origin = v_local_node_id and e.ev_type = 'SYNC'
            ), 0),
            @NAMESPACE@.tl_sequenceValue(v_sequence.nspname, v_sequence.relname)
        );
    end if;
    return p_seq_id;
end
$trunkline$;

-- The last value of a sequence.
create or replace function @NAMESPACE@.tl_sequenceValue(p_nspname name, p_relname name) returns bigint
    language sql
    set search_path to pg_catalog, pg_temp
as $trunkline$
    select @NAMESPACE@.sequenceLastValue(
        @NAMESPACE@.slon_quote_brute(p_nspname::text) || '.' || @NAMESPACE@.slon_quote_brute(p_relname::text)
    )
$trunkline$;

-- Takes a sequence out of its set on all nodes. Returns the event's number.
-- Locks: config lock. Event: SET_DROP_SEQUENCE.
create or replace function @NAMESPACE@.setDropSequence(p_seq_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select q.seq_set into v_set_id from @NAMESPACE@.sl_sequence q where q.seq_id = p_seq_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: setDropSequence_int(): sequence %s not found', p_seq_id);
    end if;
    perform @NAMESPACE@.tl_requireLocalSet(
        v_set_id, 'setDropSequence(): ', 'has origin at another node - submit this to that node'
    );
    perform @NAMESPACE@.setDropSequence_int(p_seq_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'SET_DROP_SEQUENCE', p_seq_id::text);
end
$trunkline$;

-- The local part of setDropSequence(); the values noted for the sequence go too. Returns the sequence's number, or 0 on a
-- node that does not replicate it.
create or replace function @NAMESPACE@.setDropSequence_int(p_seq_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    delete from @NAMESPACE@.sl_sequence q where q.seq_id = p_seq_id;
    if not found then
        return 0;
    end if;
    delete from @NAMESPACE@.sl_seqlog l where l.seql_seqid = p_seq_id;
    delete from @NAMESPACE@.tl_sequence_seen n where n.ss_seqid = p_seq_id;
    return p_seq_id;
end
$trunkline$;

-- Moves a table to another set of this node with the same subscribers. The SYNC brings both sets to one position first.
-- Returns the number of the SET_MOVE_TABLE.
-- Locks: config lock. Events: SYNC, SET_MOVE_TABLE.
create or replace function @NAMESPACE@.setMoveTable(p_tab_id integer, p_new_set_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_old_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select t.tab_set into v_old_set_id from @NAMESPACE@.sl_table t where t.tab_id = p_tab_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: table %s not found', p_tab_id);
    end if;
    perform @NAMESPACE@.tl_requireMove(v_old_set_id, p_new_set_id, '');
    perform @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC');
    perform @NAMESPACE@.setMoveTable_int(p_tab_id, p_new_set_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'SET_MOVE_TABLE', p_tab_id::text, p_new_set_id::text);
end
$trunkline$;

-- Raises unless something can go from one set to the other.
create or replace function @NAMESPACE@.tl_requireMove(p_old_set_id integer, p_new_set_id integer, p_context text) returns void
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if p_old_set_id = p_new_set_id then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('Slony-I: %sset ids cannot be identical', p_context);
    end if;
    perform @NAMESPACE@.tl_requireLocalSet(p_new_set_id, p_context);
    perform @NAMESPACE@.tl_requireLocalSet(p_old_set_id);
    perform @NAMESPACE@.tl_requireSameSubscribers(p_old_set_id, p_new_set_id);
    perform @NAMESPACE@.tl_requireSubscribed(p_old_set_id, 'move');
    perform @NAMESPACE@.tl_requireSubscribed(p_new_set_id, 'move');
end
$trunkline$;

-- The local part of setMoveTable(). Returns the table's number.
create or replace function @NAMESPACE@.setMoveTable_int(p_tab_id integer, p_new_set_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_table t set tab_set = p_new_set_id where t.tab_id = p_tab_id;
    return p_tab_id;
end
$trunkline$;

-- Moves a sequence to another set of this node with the same subscribers. Returns the event's number.
-- Locks: config lock. Event: SET_MOVE_SEQUENCE.
create or replace function @NAMESPACE@.setMoveSequence(p_seq_id integer, p_new_set_id integer) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_old_set_id integer;
begin
    lock table @NAMESPACE@.sl_config_lock;
    select q.seq_set into v_old_set_id from @NAMESPACE@.sl_sequence q where q.seq_id = p_seq_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: setMoveSequence(): sequence %s not found', p_seq_id);
    end if;
    perform @NAMESPACE@.tl_requireMove(v_old_set_id, p_new_set_id, 'setMoveSequence(): ');
    perform @NAMESPACE@.setMoveSequence_int(p_seq_id, p_new_set_id);
    return @NAMESPACE@.createEvent(@CLUSTER@, 'SET_MOVE_SEQUENCE', p_seq_id::text, p_new_set_id::text);
end
$trunkline$;

-- The local part of setMoveSequence(). Returns the sequence's number.
create or replace function @NAMESPACE@.setMoveSequence_int(p_seq_id integer, p_new_set_id integer) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    lock table @NAMESPACE@.sl_config_lock;
    update @NAMESPACE@.sl_sequence q set seq_set = p_new_set_id where q.seq_id = p_seq_id;
    return p_seq_id;
end
$trunkline$;
