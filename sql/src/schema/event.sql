-- Making events, and what goes with them: confirmations and sequence values.

-- Makes an event of this node and returns its number.
-- Locks: sl_event_lock until commit. It is taken here too, before the snapshot is read, so that a caller who forgot it
-- (a cron job) still gets numbers, snapshots and commits in one order; a repeatable read caller must hold it before his
-- first statement.
-- A transaction must not both log rows and make an event: its own rows can count as visible in the event's snapshot and
-- would then be lost on the subscribers. Refused here; the other order is refused by the log trigger, which sees the setting.
-- With a SYNC the values of local sequences that changed since the last look go to sl_seqlog. With ENABLE_SUBSCRIPTION all of
-- them go, because a new subscriber starts from there and older rows may have been cleaned up.
-- Rings the channel "_C_Event": the only notification besides the daemon's own, never in an application's transaction.
create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text,
    ev_data3 pg_catalog.text,
    ev_data4 pg_catalog.text,
    ev_data5 pg_catalog.text,
    ev_data6 pg_catalog.text,
    ev_data7 pg_catalog.text,
    ev_data8 pg_catalog.text
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
#variable_conflict use_variable
declare
    v_node int4 := @NAMESPACE@.getLocalNodeId(p_cluster_name);
    v_txid int8 := txid_current_if_assigned();
    v_seqno int8;
begin
    if v_txid is not null and (
        exists (select from @NAMESPACE@.sl_log_1 l where l.log_origin = v_node and l.log_txid = v_txid)
        or exists (select from @NAMESPACE@.sl_log_2 l where l.log_origin = v_node and l.log_txid = v_txid)
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'createEvent called in a data transaction',
            detail = 'This transaction has changed replicated tables; its rows could be lost on the subscribers.',
            hint = 'Commit the changes first, then make the event in a transaction of its own.';
    end if;
    lock table @NAMESPACE@.sl_event_lock in access exclusive mode;
    if strpos(coalesce(current_setting('trunkline.event_in', true), ''), @CLUSTER@ || chr(10)) = 0 then
        perform set_config('trunkline.event_in', coalesce(current_setting('trunkline.event_in', true), '') || @CLUSTER@ || chr(10), true);
    end if;

    v_seqno := nextval(@REGCLASS:sl_event_seq@);
    insert into @NAMESPACE@.sl_event (
        ev_origin, ev_seqno, ev_timestamp, ev_snapshot, ev_type,
        ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8
    ) values (
        v_node, v_seqno, now(), txid_current_snapshot(), p_event_type,
        ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8
    );

    if p_event_type in ('SYNC', 'ENABLE_SUBSCRIPTION') then
        -- pg_sequence_last_value() is ten times as fast as reading the sequence, but null before the first nextval()
        -- and after a restart.
        with known as (
            select q.seq_id,
                   coalesce(
                       pg_sequence_last_value(c.oid::regclass),
                       @NAMESPACE@.sequenceLastValue(format('%I.%I', n.nspname, c.relname))
                   ) as last_value
            from @NAMESPACE@.sl_sequence q
            join @NAMESPACE@.sl_set s on s.set_id = q.seq_set
            join pg_class c on c.oid = q.seq_reloid and c.relkind = 'S'
            join pg_namespace n on n.oid = c.relnamespace
            where s.set_origin = v_node
        ), changed as (
            select c.seq_id, c.last_value
            from known c
            left join @NAMESPACE@.tl_sequence_seen seen on seen.ss_seqid = c.seq_id
            where p_event_type = 'ENABLE_SUBSCRIPTION' or seen.ss_last_value is distinct from c.last_value
        ), logged as (
            insert into @NAMESPACE@.sl_seqlog (seql_seqid, seql_origin, seql_ev_seqno, seql_last_value)
            select h.seq_id, v_node, v_seqno, h.last_value
            from changed h
        )
        insert into @NAMESPACE@.tl_sequence_seen (ss_seqid, ss_last_value)
        select h.seq_id, h.last_value
        from changed h
        on conflict (ss_seqid) do update set ss_last_value = excluded.ss_last_value;
    end if;

    -- pg_notify() refuses names longer than 63 bytes; the statement cuts them, as LISTEN does.
    -- With a long cluster name the word comes first, else the cut would leave the name of the restart channel.
    execute format('notify %I',
        (case when octet_length(@CLUSTER@) <= 57 then @CLUSTER@ || '_Event' else 'Event_' || @CLUSTER@ end)::name);
    return v_seqno;
end
$trunkline$;

-- The shorter forms; data not given are null.
create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, null, null, null, null, null, null, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, null, null, null, null, null, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, ev_data2, null, null, null, null, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text,
    ev_data3 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, ev_data2, ev_data3, null, null, null, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text,
    ev_data3 pg_catalog.text,
    ev_data4 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, ev_data2, ev_data3, ev_data4, null, null, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text,
    ev_data3 pg_catalog.text,
    ev_data4 pg_catalog.text,
    ev_data5 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, null, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text,
    ev_data3 pg_catalog.text,
    ev_data4 pg_catalog.text,
    ev_data5 pg_catalog.text,
    ev_data6 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, null, null) $trunkline$;

create or replace function @NAMESPACE@.createEvent(
    p_cluster_name pg_catalog.name,
    p_event_type pg_catalog.text,
    ev_data1 pg_catalog.text,
    ev_data2 pg_catalog.text,
    ev_data3 pg_catalog.text,
    ev_data4 pg_catalog.text,
    ev_data5 pg_catalog.text,
    ev_data6 pg_catalog.text,
    ev_data7 pg_catalog.text
) returns bigint
    language sql
as $trunkline$ select @NAMESPACE@.createEvent(p_cluster_name, p_event_type, ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, null) $trunkline$;

-- Makes a SYNC unless this node made one within the interval; for cron jobs on nodes without a daemon. Returns 1 or 0.
-- Locks: sl_event_lock if it makes one.
create or replace function @NAMESPACE@.generate_sync_event(p_interval interval) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_node int4 := @NAMESPACE@.getLocalNodeId(@CLUSTER@);
begin
    if exists (
        select from @NAMESPACE@.sl_event e
        where e.ev_origin = v_node and e.ev_type = 'SYNC' and e.ev_timestamp > now() - p_interval
    ) then
        return 0;
    end if;
    perform @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC');
    return 1;
end
$trunkline$;

-- Stores a confirmation heard from another node if it is news; returns the highest number known.
create or replace function @NAMESPACE@.forwardConfirm(
    p_con_origin integer,
    p_con_received integer,
    p_con_seqno bigint,
    p_con_timestamp timestamp without time zone
) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_known int8;
begin
    select c.con_seqno into v_known
    from @NAMESPACE@.sl_confirm c
    where c.con_origin = p_con_origin and c.con_received = p_con_received
    order by c.con_seqno desc
    limit 1;
    if v_known >= p_con_seqno then
        return v_known;
    end if;
    insert into @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno, con_timestamp)
    values (p_con_origin, p_con_received, p_con_seqno, p_con_timestamp);
    return p_con_seqno;
end
$trunkline$;

-- The value, or null if it is the one of this session's previous call for that sequence. Kept for callers of the original's
-- function; createEvent() has a table instead. An aborted transaction forgets what it had noted.
create or replace function @NAMESPACE@.seqtrack(p_seqid integer, p_seqval bigint) returns bigint
    language plpgsql strict
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_setting text := format('trunkline.seqtrack_%s_%s', @REGCLASS:sl_event_seq@::oid, replace(p_seqid::text, '-', '_'));
    v_value text := coalesce(current_setting('trunkline.seqtrack_generation', true), '') || ':' || p_seqval::text;
begin
    if current_setting(v_setting, true) = v_value then
        return null;
    end if;
    perform set_config(v_setting, v_value, false);
    return p_seqval;
end
$trunkline$;

-- Reads a sequence by name, whether it has been used yet or not.
create or replace function @NAMESPACE@.sequenceLastValue(p_seqname pg_catalog.text) returns bigint
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_value int8;
begin
    execute 'select last_value from ' || @NAMESPACE@.slon_quote_input(p_seqname) into v_value;
    return v_value;
end
$trunkline$;

-- Sets a replicated sequence on a subscriber and, if the value belongs to an event, keeps it for forwarding.
create or replace function @NAMESPACE@.sequenceSetValue(
    p_seq_id integer,
    p_seq_origin integer,
    p_ev_seqno bigint,
    p_last_value bigint,
    p_ignore_missing boolean
) returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_sequence regclass;
begin
    select c.oid into v_sequence
    from @NAMESPACE@.sl_sequence q
    join pg_class c on c.oid = q.seq_reloid
    where q.seq_id = p_seq_id;
    if not found then
        if p_ignore_missing then
            return null;
        end if;
        raise exception using
            errcode = 'undefined_object',
            message = format('Slony-I: sequenceSetValue(): sequence %s not found', p_seq_id),
            hint = 'Its entry in sl_sequence is missing or names a sequence that was dropped; see updateReloid().';
    end if;
    perform setval(v_sequence, p_last_value);
    if p_ev_seqno is not null then
        insert into @NAMESPACE@.sl_seqlog (seql_seqid, seql_origin, seql_ev_seqno, seql_last_value)
        values (p_seq_id, p_seq_origin, p_ev_seqno, p_last_value);
    end if;
    return p_seq_id;
end
$trunkline$;
