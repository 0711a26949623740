-- What Trunkline keeps beside Slony's tables. Prefix tl_, private to the node, never replicated.
-- Runs at installation and again with every update of the functions, so everything here is "if not exists".

create table if not exists @NAMESPACE@.tl_trouble (
    tr_actor     pg_catalog.text primary key,
    tr_node      pg_catalog.int4,
    tr_message   pg_catalog.text not null,
    tr_since     pg_catalog.timestamptz not null,
    tr_last      pg_catalog.timestamptz not null,
    tr_attempts  pg_catalog.int8 not null
);
comment on table @NAMESPACE@.tl_trouble is 'What a part of this node''s daemon is stuck on now; the daemon writes and clears it, slonik and slonctl show it';

-- Long values in the log are compressed by lz4 where the server has it (PostgreSQL 14, built with it): a tenth of the time of
-- the usual method. Locks: ACCESS EXCLUSIVE on the log tables, the first time only.
do $trunkline$
declare
    v_log name;
begin
    if pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 140000 then
        return;
    end if;
    for v_log in
        select c.relname
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'log_cmdargs'
        where n.nspname = @CLUSTER@ and c.relname in ('sl_log_1', 'sl_log_2')
          and pg_catalog.to_jsonb(a) ->> 'attcompression' is distinct from 'l'
    loop
        execute pg_catalog.format('alter table %I.%I alter column log_cmdargs set compression lz4', @CLUSTER@, v_log);
    end loop;
exception
    when feature_not_supported then
        null;
end
$trunkline$;

create table if not exists @NAMESPACE@.tl_daemon (
    da_node         pg_catalog.int4 primary key,
    da_host         pg_catalog.text,
    da_pid          pg_catalog.int4,
    da_backend_pid  pg_catalog.int4,
    da_version      pg_catalog.text,
    da_started      pg_catalog.timestamptz
);
comment on table @NAMESPACE@.tl_daemon is 'The daemon that serves this node; written together with its sl_nodelock row';

create table if not exists @NAMESPACE@.tl_sequence_seen (
    ss_seqid       pg_catalog.int4 primary key,
    ss_last_value  pg_catalog.int8
);
comment on table @NAMESPACE@.tl_sequence_seen is 'Value of each local sequence when createEvent() last wrote it to sl_seqlog';

create table if not exists @NAMESPACE@.tl_failover (
    fo_failed        pg_catalog.int4,
    fo_seqno         pg_catalog.int8,
    fo_snapshot      pg_catalog.text,
    fo_successor     pg_catalog.int4,
    fo_sets          pg_catalog.int4[],
    fo_failed_nodes  pg_catalog.int4[],
    fo_at            pg_catalog.timestamptz,
    fo_next_xid      pg_catalog.int8,
    fo_open_xids     pg_catalog.int8[],
    primary key (fo_failed, fo_at)
);
comment on table @NAMESPACE@.tl_failover is 'Failovers this node took part in; survives DROP NODE of the failed node';
comment on column @NAMESPACE@.tl_failover.fo_seqno is 'Newest event of the failed node that the survivors had';
comment on column @NAMESPACE@.tl_failover.fo_snapshot is 'Snapshot of the newest SYNC up to fo_seqno: what the survivors have of the failed node''s changes';
comment on column @NAMESPACE@.tl_failover.fo_successor is 'Node that took the sets over, perhaps to hand them on';
comment on column @NAMESPACE@.tl_failover.fo_next_xid is 'Rows whose xmin is less were on this node before the takeover, unless it is one of fo_open_xids';
comment on column @NAMESPACE@.tl_failover.fo_open_xids is 'Transactions and subtransactions that were open on this server then, without epoch';

create table if not exists @NAMESPACE@.tl_fence (
    fe_set         pg_catalog.int4 primary key,
    fe_new_origin  pg_catalog.int4,
    fe_reason      pg_catalog.text,
    fe_at          pg_catalog.timestamptz
);
comment on table @NAMESPACE@.tl_fence is 'Sets which this node, their origin by its own account, must not write to';
comment on column @NAMESPACE@.tl_fence.fe_reason is '`failed over`, `dropped`: for good; `isolated`: until a peer is reached; or what an operator says';

create table if not exists @NAMESPACE@.tl_origin_start (
    os_origin  pg_catalog.int4 primary key,
    os_seqno   pg_catalog.int8 not null
);
comment on table @NAMESPACE@.tl_origin_start is 'This node has had all events of the origin behind this number: others may take them from here';

create table if not exists @NAMESPACE@.tl_heard (
    he_origin         pg_catalog.int4 primary key,
    he_seqno          pg_catalog.int8 not null,
    he_waiting_since  pg_catalog.timestamptz not null,
    he_at             pg_catalog.timestamptz not null
);
comment on table @NAMESPACE@.tl_heard is 'Events of an origin that have come here and wait to be processed for seconds: what is known of them when the origin is gone';
comment on column @NAMESPACE@.tl_heard.he_seqno is 'The newest of them; no more than history once sl_event has it';
comment on column @NAMESPACE@.tl_heard.he_waiting_since is 'When the oldest of them was made, by the origin''s clock';

create table if not exists @NAMESPACE@.tl_unsubscribed (
    un_set       pg_catalog.int4 not null,
    un_receiver  pg_catalog.int4 not null,
    un_origin    pg_catalog.int4 not null,
    un_seqno     pg_catalog.int8 not null,
    primary key (un_set, un_receiver, un_origin)
);
comment on table @NAMESPACE@.tl_unsubscribed is 'Subscriptions that their receiver has ended before the origin''s SUBSCRIBE_SET, up to this number, came here';

create table if not exists @NAMESPACE@.tl_keep_rows (
    kr_set  pg_catalog.int4 primary key,
    kr_at   pg_catalog.timestamptz not null default pg_catalog.now()
);
comment on table @NAMESPACE@.tl_keep_rows is 'Sets this node had before it failed: their next copy keeps the rows that are equal and transfers the others';

create table if not exists @NAMESPACE@.tl_own_changes (
    oc_tab_id    pg_catalog.int4 primary key,
    oc_reloid    pg_catalog.oid not null,
    oc_seqno     pg_catalog.int8 not null,
    oc_snapshot  pg_catalog.text not null
);
comment on table @NAMESPACE@.tl_own_changes is 'Tables this node had before it failed, of which tl_own_change names every row that it logged and no survivor had';
comment on column @NAMESPACE@.tl_own_changes.oc_snapshot is 'What the survivors had; with oc_seqno it says which failover it was (fo_snapshot, fo_seqno of tl_failover)';

create table if not exists @NAMESPACE@.tl_own_change (
    ow_tab_id  pg_catalog.int4,
    ow_key     pg_catalog.text[]
);
comment on table @NAMESPACE@.tl_own_change is 'A row of those tables: values of the key columns in the order of their names';

create table if not exists @NAMESPACE@.tl_copied (
    co_set     pg_catalog.int4 not null,
    co_tab_id  pg_catalog.int4 primary key,
    co_reloid  pg_catalog.oid not null,
    co_at      pg_catalog.timestamptz not null
);
comment on table @NAMESPACE@.tl_copied is 'Tables that the copy of a set still going on has filled already: if it breaks off, the next attempt transfers what differs';

create table if not exists @NAMESPACE@.tl_missing_index (
    mi_index       pg_catalog.text primary key,
    mi_table       pg_catalog.text not null,
    mi_definition  pg_catalog.text not null,
    mi_reason      pg_catalog.text not null,
    mi_at          pg_catalog.timestamptz not null
);
comment on table @NAMESPACE@.tl_missing_index is 'Indexes that the first copy of a table took away and could not build after the data; one that is there again counts no more';

create table if not exists @NAMESPACE@.tl_capture (
    ca_tab_id  pg_catalog.int4 primary key,
    ca_mode    pg_catalog.text not null check (ca_mode operator(pg_catalog.=) any ('{row,statement}'))
);
comment on table @NAMESPACE@.tl_capture is 'How changes of a table are captured where that was chosen with tl_capture_mode(); the others decide by themselves';

create table if not exists @NAMESPACE@.tl_capture_doubt (
    cd_tab_id  pg_catalog.int4 not null,
    cd_txid    pg_catalog.int8 not null
);
comment on table @NAMESPACE@.tl_capture_doubt is 'Tables whose log rows of the running transaction must be put in order before it commits; always empty for others';
