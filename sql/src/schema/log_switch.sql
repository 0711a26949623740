-- The two log tables take turns: while one is written, the other is read empty and truncated.
--
-- sl_log_status: bit 0 is the table written (0: sl_log_1, 1: sl_log_2), bit 1 says that a switch is going on and the other
-- table still holds rows.

-- Begins a switch: new rows go to the other table. Returns 2 (now sl_log_2) or 1 (now sl_log_1).
-- Locks: none beyond the registry row. Event: none.
--
-- A transaction may have read the status before and write its row after. Its id is known by then, so everything is
-- safe once all ids given out so far have ended; the boundary is kept in the registry. Only a snapshot taken after setval() can
-- name it: in other isolation levels logswitch_finish() takes it at its first attempt.
create or replace function @NAMESPACE@.logswitch_start() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_status integer;
    v_boundary text;
begin
    lock table @NAMESPACE@.sl_registry in share row exclusive mode;
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    if v_status not in (0, 1) then
        raise exception 'Previous logswitch still in progress'
            using hint = 'it ends when every node has confirmed what the old log table holds and no transaction writes there; call logswitch_finish()';
    end if;
    perform setval(@REGCLASS:sl_log_status@, case v_status when 0 then 3 else 2 end);
    if current_setting('transaction_isolation') = 'read committed' then
        v_boundary := txid_snapshot_xmax(txid_current_snapshot())::text;
    end if;
    perform @NAMESPACE@.registry_set_text('logswitch.boundary', v_boundary);
    perform @NAMESPACE@.registry_set_timestamp('logswitch.laststart', now());
    raise notice 'Slony-I: Logswitch to sl_log_% initiated', case v_status when 0 then 2 else 1 end;
    return case v_status when 0 then 2 else 1 end;
end
$trunkline$;

-- Ends a switch if the old log table holds nothing that a node still needs. Returns -1 in progress and not finished, 0 no switch in
-- progress, 1 sl_log_2 truncated, 2 sl_log_1 truncated.
-- Locks: the old log table in access exclusive mode, not waited for. Event: none.
create or replace function @NAMESPACE@.logswitch_finish() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_status integer;
    v_old text;
    v_new text;
    v_boundary bigint;
    v_needed boolean;
begin
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    if v_status not in (2, 3) then
        return 0;
    end if;
    v_old := case v_status when 2 then 'sl_log_2' else 'sl_log_1' end;
    v_new := case v_status when 2 then 'sl_log_1' else 'sl_log_2' end;

    select reg_text::bigint into v_boundary from @NAMESPACE@.sl_registry where reg_key = 'logswitch.boundary';
    if v_boundary is null then
        perform @NAMESPACE@.registry_set_text('logswitch.boundary', txid_snapshot_xmax(txid_current_snapshot())::text);
        return -1;
    end if;
    if txid_snapshot_xmin(txid_current_snapshot()) < v_boundary then
        raise notice 'Slony-I: log switch to % still in progress - transactions older than % have not ended', v_new, v_boundary;
        return -1;
    end if;

    begin
        execute format('lock table %I.%I in access exclusive mode nowait', @CLUSTER@, v_old);
    exception when lock_not_available then
        raise notice 'Slony-I: could not lock %, it is in use - %  not truncated', v_old, v_old;
        return -1;
    end;

    -- Of each origin whatever lies behind its oldest SYNC still wanted has been confirmed by everybody. Rows of an origin without
    -- any SYNC left (a dropped node) are wanted by nobody.
    execute format(
        'select exists (
             select 1
               from (select distinct on (ev_origin) ev_origin, txid_snapshot_xmin(ev_snapshot) as oldest
                       from %1$I.sl_event where ev_type = ''SYNC'' order by ev_origin, ev_seqno) e
              where exists (select 1 from %1$I.%2$I l where l.log_origin = e.ev_origin and l.log_txid >= e.oldest))',
        @CLUSTER@, v_old) into v_needed;
    if v_needed then
        raise notice 'Slony-I: log switch to % still in progress - % not truncated', v_new, v_old;
        return -1;
    end if;

    execute format('truncate %I.%I', @CLUSTER@, v_old);
    perform setval(@REGCLASS:sl_log_status@, case v_status when 2 then 0 else 1 end);
    perform @NAMESPACE@.registry_set_text('logswitch.boundary', null);
    perform @NAMESPACE@.addPartialLogIndices();
    return case v_status when 2 then 1 else 2 end;
end
$trunkline$;

-- Gives each origin of a set an index of its own on the log table that is not written, and drops those of origins that are none any
-- more. Not during a switch. Locks: the log table not written. Event: none. Returns the number of indexes made.
create or replace function @NAMESPACE@.addPartialLogIndices() returns integer
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
declare
    v_status integer;
    v_table regclass;
    v_suffix text;
    v_made integer := 0;
    v_row record;
begin
    select last_value into v_status from @NAMESPACE@.sl_log_status;
    if v_status not in (0, 1) then
        return 0;
    end if;
    v_table := case v_status when 0 then @REGCLASS:sl_log_2@ else @REGCLASS:sl_log_1@ end;
    v_suffix := case v_status when 0 then '_sl_log_2-node-' else '_sl_log_1-node-' end;
    for v_row in
        select c.relname
          from pg_class c
          join pg_index i on i.indexrelid = c.oid
         where i.indrelid = v_table
           and left(c.relname, 7) = 'PartInd'
           and c.relname not in (select @NAMESPACE@.tl_object_name('PartInd', v_suffix || s.set_origin)
                                   from @NAMESPACE@.sl_set s)
    loop
        execute format('drop index %I.%I', @CLUSTER@, v_row.relname);
    end loop;
    for v_row in
        select distinct s.set_origin, @NAMESPACE@.tl_object_name('PartInd', v_suffix || s.set_origin) as index_name
          from @NAMESPACE@.sl_set s
         where not exists (
                   select 1 from pg_class c join pg_index i on i.indexrelid = c.oid
                    where i.indrelid = v_table
                      and c.relname = @NAMESPACE@.tl_object_name('PartInd', v_suffix || s.set_origin))
         order by 1
    loop
        execute format('create index %I on %s using btree (log_txid) where (log_origin = %s)',
            v_row.index_name, v_table, v_row.set_origin);
        v_made := v_made + 1;
    end loop;
    return v_made;
end
$trunkline$;
