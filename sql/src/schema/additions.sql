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
