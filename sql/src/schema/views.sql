-- The public views. After the functions, which they call.

-- Lag of every other node behind this one: its newest confirmation of our events against our newest event.
-- A pair whose confirmed event has been cleaned up already does not appear.
create or replace view @NAMESPACE@.sl_status as
select newest.ev_origin as st_origin,
       confirmed.con_received as st_received,
       newest.ev_seqno as st_last_event,
       newest.ev_timestamp as st_last_event_ts,
       confirmed.con_seqno as st_last_received,
       confirmed.con_timestamp as st_last_received_ts,
       received.ev_timestamp as st_last_received_event_ts,
       newest.ev_seqno operator(pg_catalog.-) confirmed.con_seqno as st_lag_num_events,
       pg_catalog.now() operator(pg_catalog.-) received.ev_timestamp as st_lag_time
from (
    select e.ev_origin, e.ev_seqno, e.ev_timestamp
    from @NAMESPACE@.sl_event e
    where e.ev_origin operator(pg_catalog.=) (select @NAMESPACE@.getLocalNodeId(@CLUSTER@))
    order by e.ev_seqno desc
    limit 1
) as newest
join (
    select distinct on (c.con_received) c.con_origin, c.con_received, c.con_seqno, c.con_timestamp
    from @NAMESPACE@.sl_confirm c
    where c.con_origin operator(pg_catalog.=) (select @NAMESPACE@.getLocalNodeId(@CLUSTER@))
    order by c.con_received, c.con_seqno desc, c.con_timestamp desc
) as confirmed on confirmed.con_origin operator(pg_catalog.=) newest.ev_origin
join @NAMESPACE@.sl_event received
    on received.ev_origin operator(pg_catalog.=) confirmed.con_origin
    and received.ev_seqno operator(pg_catalog.=) confirmed.con_seqno;
comment on view @NAMESPACE@.sl_status is 'How far each other node is behind this one';

-- Nodes that could take over a set: direct, forwarding subscribers of it and of all other sets of its origin.
create or replace view @NAMESPACE@.sl_failover_targets as
select s.set_id, s.set_origin, b.sub_receiver as backup_id
from @NAMESPACE@.sl_set s
join @NAMESPACE@.sl_subscribe b
    on b.sub_set operator(pg_catalog.=) s.set_id
    and b.sub_provider operator(pg_catalog.=) s.set_origin
    and b.sub_forward
where not exists (
    select from @NAMESPACE@.sl_set other
    where other.set_origin operator(pg_catalog.=) s.set_origin
      and not exists (
          select from @NAMESPACE@.sl_subscribe o
          where o.sub_set operator(pg_catalog.=) other.set_id
            and o.sub_provider operator(pg_catalog.=) s.set_origin
            and o.sub_receiver operator(pg_catalog.=) b.sub_receiver
            and o.sub_forward
      )
);
comment on view @NAMESPACE@.sl_failover_targets is 'Sets and the nodes that could become their origin';

-- Current value of every replicated sequence that exists here.
create or replace view @NAMESPACE@.sl_seqlastvalue as
select q.seq_id,
       q.seq_set,
       q.seq_reloid,
       s.set_origin as seq_origin,
       @NAMESPACE@.sequenceLastValue(pg_catalog.format('%I.%I', n.nspname, c.relname)) as seq_last_value
from @NAMESPACE@.sl_sequence q
join @NAMESPACE@.sl_set s on s.set_id operator(pg_catalog.=) q.seq_set
join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) q.seq_reloid
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace;
comment on view @NAMESPACE@.sl_seqlastvalue is 'Values of the replicated sequences on this node';

-- How changes of each table are captured, and why: `row` or `statement`, as decided for the table as it is now, and whether the triggers
-- in place are of another kind or were written for another shape of the table (repair_log_triggers() mends that).
create or replace view @NAMESPACE@.tl_capture_modes as
select t.tab_id,
       t.tab_nspname,
       t.tab_relname,
       coalesce(a.ca_mode, 'auto') as wanted,
       d.mode,
       d.reason,
       @NAMESPACE@.tl_capture_outdated(t.tab_id) as outdated
from @NAMESPACE@.sl_table t
left join @NAMESPACE@.tl_capture a on a.ca_tab_id operator(pg_catalog.=) t.tab_id
cross join lateral @NAMESPACE@.tl_capture_decision(t.tab_id) as d;
