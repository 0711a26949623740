//! What a scenario shows of the nodes' tables.

use super::{World, numbers, relative};

impl World {
    /// Writes the rows of a table, nodes with equal rows together.
    pub(super) async fn show(&mut self, what: &str) {
        let (table, on) = what.split_once('/').unwrap_or((what, ""));
        let ids: Vec<i32> = if on.is_empty() {
            self.nodes
                .iter()
                .filter(|(_, node)| node.installed && node.up)
                .map(|(id, _)| *id)
                .collect()
        } else {
            numbers(&on.replace(',', " "))
        };
        let mut groups: Vec<(Vec<i32>, Vec<String>)> = Vec::new();
        for id in ids {
            let lines: Vec<String> = self
                .query(id, table_query(table))
                .await
                .into_iter()
                .map(|row| {
                    row.into_iter()
                        .map(|value| value.map_or_else(|| "null".into(), |value| relative(&value)))
                        .collect::<Vec<_>>()
                        .join(" | ")
                })
                .collect();
            match groups.iter_mut().find(|(_, known)| *known == lines) {
                Some((members, _)) => members.push(id),
                None => groups.push((vec![id], lines)),
            }
        }
        for (members, lines) in groups {
            let members = members.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            self.note(&format!("  {table} on {members}:"));
            for line in lines {
                self.note(&format!("    {line}"));
            }
        }
    }
}

/// How a table is shown: only what does not depend on time, transaction numbers and object ids.
fn table_query(table: &str) -> &'static str {
    match table {
        "sl_node" => "select no_id, no_active, no_failed, no_comment from @NAMESPACE@.sl_node order by 1",
        "sl_path" => {
            "select pa_server || '->' || pa_client, pa_conninfo, pa_connretry from @NAMESPACE@.sl_path order by pa_server, pa_client"
        }
        "sl_listen" => {
            "select 'receiver ' || li_receiver, string_agg(li_origin || ' from ' || li_provider, ', ' order by li_origin, li_provider) \
             from @NAMESPACE@.sl_listen group by li_receiver order by li_receiver"
        }
        "sl_set" => {
            "select set_id, set_origin, case when set_locked is null then 'unlocked' else 'locked' end, set_comment from @NAMESPACE@.sl_set order by 1"
        }
        "sl_table" => {
            "select tab_id, tab_nspname, tab_relname, tab_set, tab_idxname, tab_altered, tab_comment, tab_reloid = (select c.oid from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace where c.relname = tab_relname and n.nspname = tab_nspname) from @NAMESPACE@.sl_table order by 1"
        }
        "sl_sequence" => {
            "select seq_id, seq_nspname, seq_relname, seq_set, seq_comment, seq_reloid = (select c.oid from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace where c.relname = seq_relname and n.nspname = seq_nspname) from @NAMESPACE@.sl_sequence order by 1"
        }
        "sl_subscribe" => {
            "select 'set ' || sub_set, sub_provider || '->' || sub_receiver, sub_forward, sub_active from @NAMESPACE@.sl_subscribe order by sub_set, sub_provider, sub_receiver"
        }
        "sl_setsync" => {
            "select ssy_setid, ssy_origin, ssy_seqno, case when ssy_snapshot::text = '1:1:' then '1:1:' else coalesce((select 'snapshot of ' || ev_type || ' ' || ev_seqno - 5000000000 \
             from @NAMESPACE@.sl_event where ev_origin = ssy_origin and ev_seqno = ssy_seqno and ev_snapshot::text = ssy_snapshot::text), 'some snapshot') end, coalesce(ssy_action_list, '') \
             from @NAMESPACE@.sl_setsync where ssy_setid in (select sub_set from @NAMESPACE@.sl_subscribe \
             where sub_receiver = (select last_value from @NAMESPACE@.sl_local_node_id)) order by 1"
        }
        // without what our UNSUBSCRIBE_SET says in a column that Slony leaves empty
        "sl_event" => {
            "select ev_origin, ev_seqno, ev_type, concat_ws(', ', ev_data1, ev_data2, coalesce(ev_data3, case when ev_type in ('STORE_SET') then 'null' end), ev_data4, ev_data5, ev_data6, case when ev_type <> 'UNSUBSCRIBE_SET' then ev_data7 end, ev_data8) \
             from @NAMESPACE@.sl_event order by 1, 2"
        }
        "events" => {
            "select ev_origin, ev_seqno, ev_type, concat_ws(', ', ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, case when ev_type <> 'UNSUBSCRIBE_SET' then ev_data7 end, ev_data8) \
             from @NAMESPACE@.sl_event where ev_origin = (select last_value from @NAMESPACE@.sl_local_node_id) order by 1, 2"
        }
        "sl_confirm" => {
            "select con_origin || ' by ' || con_received, max(con_seqno) from @NAMESPACE@.sl_confirm group by con_origin, con_received order by con_origin, con_received"
        }
        // without the rows at 0, of which a clone gets more here than from Slony-I
        "confirmed" => {
            "select con_origin || ' by ' || con_received, max(con_seqno) from @NAMESPACE@.sl_confirm where con_seqno > 0 group by con_origin, con_received order by con_origin, con_received"
        }
        "sl_seqlog" => {
            "select distinct seql_seqid, seql_origin, seql_ev_seqno, seql_last_value from @NAMESPACE@.sl_seqlog order by 1, 2, 3, 4"
        }
        "triggers" => {
            // The three triggers of capture by statement, or the one with a function for the table, count as the original's where they are enabled.
            "select tgrelid::regclass, string_agg(tgname || ' ' || case when tgname like '%logtrigger' and 3 = (\
                 select sum(case when s.tgname ~ 'r$' then 3 else 1 end) from pg_trigger s where s.tgrelid = g.tgrelid and s.tgname ~ 'logtrigger_[iudr]$' and s.tgenabled = 'O' and g.tgenabled = 'D' \
             ) then 'O' else tgenabled::text end, ', ' order by tgname) \
             from pg_trigger g where not tgisinternal and tgname !~ '(logtrigger_[iudr]|see_tl_capture_mode)$' \
             and tgrelid::regclass::text not similar to '%(sl_log|tl_capture)%' group by tgrelid order by tgrelid::regclass::text"
        }
        "identity" => "select last_value from @NAMESPACE@.sl_local_node_id",
        other => panic!("no table {other}"),
    }
}
