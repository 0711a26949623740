-- Schema, type, tables and sequences of a node: Slony-I's names, columns, keys and indexes to the letter,
-- because monitoring, foreign daemons and the error messages people search for name them.
-- Runs once, in the installing transaction; what Trunkline adds of its own is in additions.sql.

create schema @NAMESPACE@;
-- Applications write through triggers that run with the owner's rights, so all anybody else needs is the way in.
grant usage on schema @NAMESPACE@ to public;

-- ----- configuration, equal on every node through events

create table @NAMESPACE@.sl_node (
    no_id       pg_catalog.int4,
    no_active   pg_catalog.bool,
    no_comment  pg_catalog.text,
    no_failed   pg_catalog.bool,
    constraint "sl_node-pkey" primary key (no_id)
);
comment on table @NAMESPACE@.sl_node is 'Nodes of the cluster as this node knows them';
comment on column @NAMESPACE@.sl_node.no_active is 'False until ENABLE_NODE arrived, and again after a failover';
comment on column @NAMESPACE@.sl_node.no_comment is 'Free text; <event pending> while only a path or listen entry named the node';

create table @NAMESPACE@.sl_path (
    pa_server     pg_catalog.int4,
    pa_client     pg_catalog.int4,
    pa_conninfo   pg_catalog.text not null,
    pa_connretry  pg_catalog.int4,
    constraint "sl_path-pkey" primary key (pa_server, pa_client),
    constraint "pa_server-no_id-ref" foreign key (pa_server) references @NAMESPACE@.sl_node (no_id),
    constraint "pa_client-no_id-ref" foreign key (pa_client) references @NAMESPACE@.sl_node (no_id)
);
comment on table @NAMESPACE@.sl_path is 'How the daemon of pa_client connects to the database of pa_server; <event pending> means no usable way';

create table @NAMESPACE@.sl_listen (
    li_origin    pg_catalog.int4,
    li_provider  pg_catalog.int4,
    li_receiver  pg_catalog.int4,
    constraint "sl_listen-pkey" primary key (li_origin, li_provider, li_receiver),
    constraint "li_origin-no_id-ref" foreign key (li_origin) references @NAMESPACE@.sl_node (no_id),
    constraint "sl_listen-sl_path-ref" foreign key (li_provider, li_receiver)
        references @NAMESPACE@.sl_path (pa_server, pa_client)
);
comment on table @NAMESPACE@.sl_listen is 'li_receiver fetches the events of li_origin from li_provider; derived by RebuildListenEntries()';

create table @NAMESPACE@.sl_set (
    set_id       pg_catalog.int4,
    set_origin   pg_catalog.int4,
    set_locked   pg_catalog.int8,
    set_comment  pg_catalog.text,
    constraint "sl_set-pkey" primary key (set_id),
    constraint "set_origin-no_id-ref" foreign key (set_origin) references @NAMESPACE@.sl_node (no_id)
);
comment on table @NAMESPACE@.sl_set is 'Replication sets';
comment on column @NAMESPACE@.sl_set.set_locked is 'Null, or the snapshot xmax at the time of LOCK SET; known to the origin only';

create table @NAMESPACE@.sl_subscribe (
    sub_set       pg_catalog.int4,
    sub_provider  pg_catalog.int4,
    sub_receiver  pg_catalog.int4,
    sub_forward   pg_catalog.bool,
    sub_active    pg_catalog.bool,
    constraint "sl_subscribe-pkey" primary key (sub_receiver, sub_set),
    constraint "sl_subscribe-sl_path-ref" foreign key (sub_provider, sub_receiver)
        references @NAMESPACE@.sl_path (pa_server, pa_client),
    constraint "sub_set-set_id-ref" foreign key (sub_set) references @NAMESPACE@.sl_set (set_id)
);
comment on table @NAMESPACE@.sl_subscribe is 'Who gets a set from whom';

-- ----- objects of sets this node originates or subscribes to

create table @NAMESPACE@.sl_table (
    tab_id       pg_catalog.int4,
    tab_reloid   pg_catalog.oid not null,
    tab_relname  pg_catalog.name not null,
    tab_nspname  pg_catalog.name not null,
    tab_set      pg_catalog.int4,
    tab_idxname  pg_catalog.name not null,
    tab_altered  pg_catalog.bool not null,
    tab_comment  pg_catalog.text,
    constraint "sl_table-pkey" primary key (tab_id),
    constraint "tab_set-set_id-ref" foreign key (tab_set) references @NAMESPACE@.sl_set (set_id),
    constraint sl_table_tab_reloid_key unique (tab_reloid)
);
comment on table @NAMESPACE@.sl_table is 'Replicated tables of this node';
comment on column @NAMESPACE@.sl_table.tab_idxname is 'Unique index whose columns identify a row';

create table @NAMESPACE@.sl_sequence (
    seq_id       pg_catalog.int4,
    seq_reloid   pg_catalog.oid not null,
    seq_relname  pg_catalog.name not null,
    seq_nspname  pg_catalog.name not null,
    seq_set      pg_catalog.int4,
    seq_comment  pg_catalog.text,
    constraint "sl_sequence-pkey" primary key (seq_id),
    constraint "seq_set-set_id-ref" foreign key (seq_set) references @NAMESPACE@.sl_set (set_id),
    constraint sl_sequence_seq_reloid_key unique (seq_reloid)
);
comment on table @NAMESPACE@.sl_sequence is 'Replicated sequences of this node';

create table @NAMESPACE@.sl_setsync (
    ssy_setid        pg_catalog.int4,
    ssy_origin       pg_catalog.int4,
    ssy_seqno        pg_catalog.int8,
    ssy_snapshot     pg_catalog.txid_snapshot,
    ssy_action_list  pg_catalog.text,
    constraint "sl_setsync-pkey" primary key (ssy_setid),
    constraint "ssy_setid-set_id-ref" foreign key (ssy_setid) references @NAMESPACE@.sl_set (set_id),
    constraint "ssy_origin-no_id-ref" foreign key (ssy_origin) references @NAMESPACE@.sl_node (no_id)
);
comment on table @NAMESPACE@.sl_setsync is 'Position of this subscriber in each of its sets';
comment on column @NAMESPACE@.sl_setsync.ssy_action_list is 'log_actionseq values after ssy_snapshot which the initial copy already contains';

-- ----- events, confirmations, log

create table @NAMESPACE@.sl_event (
    ev_origin     pg_catalog.int4,
    ev_seqno      pg_catalog.int8,
    ev_timestamp  pg_catalog.timestamptz,
    ev_snapshot   pg_catalog.txid_snapshot,
    ev_type       pg_catalog.text,
    ev_data1      pg_catalog.text,
    ev_data2      pg_catalog.text,
    ev_data3      pg_catalog.text,
    ev_data4      pg_catalog.text,
    ev_data5      pg_catalog.text,
    ev_data6      pg_catalog.text,
    ev_data7      pg_catalog.text,
    ev_data8      pg_catalog.text,
    constraint "sl_event-pkey" primary key (ev_origin, ev_seqno)
);
comment on table @NAMESPACE@.sl_event is 'Events of all nodes, own and received';

create table @NAMESPACE@.sl_confirm (
    con_origin     pg_catalog.int4,
    con_received   pg_catalog.int4,
    con_seqno      pg_catalog.int8,
    con_timestamp  pg_catalog.timestamptz default pg_catalog.timeofday()::pg_catalog.timestamptz
);
comment on table @NAMESPACE@.sl_confirm is 'con_received has processed all events of con_origin up to con_seqno';
create index sl_confirm_idx1 on @NAMESPACE@.sl_confirm (con_origin, con_received, con_seqno);
create index sl_confirm_idx2 on @NAMESPACE@.sl_confirm (con_received, con_seqno);

create table @NAMESPACE@.sl_seqlog (
    seql_seqid       pg_catalog.int4,
    seql_origin      pg_catalog.int4,
    seql_ev_seqno    pg_catalog.int8,
    seql_last_value  pg_catalog.int8
);
comment on table @NAMESPACE@.sl_seqlog is 'Sequence values as of an event';
create index sl_seqlog_idx on @NAMESPACE@.sl_seqlog (seql_origin, seql_ev_seqno, seql_seqid);

create table @NAMESPACE@.sl_log_1 (
    log_origin        pg_catalog.int4,
    log_txid          pg_catalog.int8,
    log_tableid       pg_catalog.int4,
    log_actionseq     pg_catalog.int8,
    log_tablenspname  pg_catalog.text,
    log_tablerelname  pg_catalog.text,
    log_cmdtype       pg_catalog."char",
    log_cmdupdncols   pg_catalog.int4,
    log_cmdargs       pg_catalog.text[]
);
comment on table @NAMESPACE@.sl_log_1 is 'Row changes, first of the two log tables that take turns';
create index sl_log_1_idx1 on @NAMESPACE@.sl_log_1 (log_origin, log_txid, log_actionseq);

create table @NAMESPACE@.sl_log_2 (
    log_origin        pg_catalog.int4,
    log_txid          pg_catalog.int8,
    log_tableid       pg_catalog.int4,
    log_actionseq     pg_catalog.int8,
    log_tablenspname  pg_catalog.text,
    log_tablerelname  pg_catalog.text,
    log_cmdtype       pg_catalog."char",
    log_cmdupdncols   pg_catalog.int4,
    log_cmdargs       pg_catalog.text[]
);
comment on table @NAMESPACE@.sl_log_2 is 'Row changes, second of the two log tables that take turns';
create index sl_log_2_idx1 on @NAMESPACE@.sl_log_2 (log_origin, log_txid, log_actionseq);

create table @NAMESPACE@.sl_log_script (
    log_origin     pg_catalog.int4,
    log_txid       pg_catalog.int8,
    log_actionseq  pg_catalog.int8,
    log_cmdtype    pg_catalog."char",
    log_cmdargs    pg_catalog.text[]
);
comment on table @NAMESPACE@.sl_log_script is 'Statements of EXECUTE SCRIPT (S) and their end marks (s)';
create index sl_log_script_idx1 on @NAMESPACE@.sl_log_script (log_origin, log_txid, log_actionseq);

-- ----- private to the node

create table @NAMESPACE@.sl_nodelock (
    nl_nodeid      pg_catalog.int4,
    nl_conncnt     serial,
    nl_backendpid  pg_catalog.int4,
    constraint "sl_nodelock-pkey" primary key (nl_nodeid, nl_conncnt)
);
comment on table @NAMESPACE@.sl_nodelock is 'Row (own node, 0) is the lock of the daemon that serves this node; the others are connections of other nodes';

create table @NAMESPACE@.sl_registry (
    reg_key        pg_catalog.text primary key,
    reg_int4       pg_catalog.int4,
    reg_text       pg_catalog.text,
    reg_timestamp  pg_catalog.timestamptz
);
comment on table @NAMESPACE@.sl_registry is 'Keys and values private to this node';

create table @NAMESPACE@.sl_apply_stats (
    as_origin             pg_catalog.int4,
    as_num_insert         pg_catalog.int8,
    as_num_update         pg_catalog.int8,
    as_num_delete         pg_catalog.int8,
    as_num_truncate       pg_catalog.int8,
    as_num_script         pg_catalog.int8,
    as_num_total          pg_catalog.int8,
    as_duration           pg_catalog.interval,
    as_apply_first        pg_catalog.timestamptz,
    as_apply_last         pg_catalog.timestamptz,
    as_cache_prepare      pg_catalog.int8,
    as_cache_hit          pg_catalog.int8,
    as_cache_evict        pg_catalog.int8,
    as_cache_prepare_max  pg_catalog.int8
);
comment on table @NAMESPACE@.sl_apply_stats is 'Running totals of what was applied, per origin';
create index sl_apply_stats_idx1 on @NAMESPACE@.sl_apply_stats (as_origin);

create table @NAMESPACE@.sl_components (
    co_actor           pg_catalog.text not null primary key,
    co_pid             pg_catalog.int4 not null,
    co_node            pg_catalog.int4 not null,
    co_connection_pid  pg_catalog.int4 not null,
    co_activity        pg_catalog.text,
    co_starttime       pg_catalog.timestamptz not null,
    co_event           pg_catalog.int8,
    co_eventtype       pg_catalog.text
);
comment on table @NAMESPACE@.sl_components is 'What each part of the daemon is doing';

create table @NAMESPACE@.sl_config_lock (dummy pg_catalog.int4);
comment on table @NAMESPACE@.sl_config_lock is 'Locked, never written: one change of the configuration at a time';

create table @NAMESPACE@.sl_event_lock (dummy pg_catalog.int4);
comment on table @NAMESPACE@.sl_event_lock is 'Locked, never written: events get number, snapshot and commit in one order';

create table @NAMESPACE@.sl_archive_counter (
    ac_num        pg_catalog.int8,
    ac_timestamp  pg_catalog.timestamptz
);
comment on table @NAMESPACE@.sl_archive_counter is 'Number of the last log shipping file';
insert into @NAMESPACE@.sl_archive_counter (ac_num, ac_timestamp)
values (0, pg_catalog.timestamptz '1970-01-01 00:00:00+00');

-- ----- sequences that hold state: read with last_value, set with setval

create sequence @NAMESPACE@.sl_local_node_id minvalue -1;
comment on sequence @NAMESPACE@.sl_local_node_id is 'Number of this node; -1 until it is initialised';
select pg_catalog.setval(@REGCLASS:sl_local_node_id@, -1);

create sequence @NAMESPACE@.sl_event_seq;
comment on sequence @NAMESPACE@.sl_event_seq is 'Event numbers of this node; must only ever grow';
select pg_catalog.setval(@REGCLASS:sl_event_seq@, 5000000000);

create sequence @NAMESPACE@.sl_action_seq;
comment on sequence @NAMESPACE@.sl_action_seq is 'Order of the log rows; gaps are normal';

create sequence @NAMESPACE@.sl_log_status minvalue 0 maxvalue 3;
comment on sequence @NAMESPACE@.sl_log_status is 'Bit 0: active log table (0 sl_log_1, 1 sl_log_2); bit 1: a switch is in progress';
select pg_catalog.setval(@REGCLASS:sl_log_status@, 0);

-- ----- type and aggregate

create type @NAMESPACE@.vactables as (nspname pg_catalog.name, relname pg_catalog.name);
comment on type @NAMESPACE@.vactables is 'Result of TablesToVacuum()';

-- Step of the aggregate below.
create function @NAMESPACE@.agg_text_sum(txt_before pg_catalog.text, txt_new pg_catalog.text) returns pg_catalog.text
    language plpgsql
    set search_path to pg_catalog, pg_temp
as $trunkline$
begin
    if txt_before is null then
        return txt_new;
    end if;
    return txt_before || ',' || txt_new;
end
$trunkline$;

create aggregate @NAMESPACE@.string_agg(pg_catalog.text) (
    sfunc = @NAMESPACE@.agg_text_sum,
    stype = pg_catalog.text
);
comment on aggregate @NAMESPACE@.string_agg(pg_catalog.text) is 'Comma separated list';
