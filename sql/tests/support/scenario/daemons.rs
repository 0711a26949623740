//! The daemons of a scenario: they fetch events from those their node listens to, and do with them what a daemon does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{FIRST_EVENT, Rows, World, literal, message, text};

/// The newest confirmation of every pair of nodes.
const CONFIRMATIONS: &str =
    "select con_origin || ' ' || con_received, max(con_seqno) from @NAMESPACE@.sl_confirm group by 1";

/// One event as fetched from a provider.
struct Event {
    origin: i32,
    seqno: i64,
    kind: String,
    timestamp: String,
    snapshot: String,
    data: Vec<Option<String>>,
}

/// Outcome of offering an event to a node.
enum Outcome {
    Done,
    /// Not yet: something must happen first.
    Wait,
}

impl World {
    /// Plays the daemons until nothing moves any more.
    pub(super) async fn deliver(&mut self, receivers: &[i32]) {
        for round in 0.. {
            assert!(round < 200, "the daemons never come to rest");
            let mut moved = false;
            for receiver in receivers {
                if self.nodes[receiver].up && self.nodes[receiver].installed {
                    moved |= self.work(*receiver).await;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// One round of one node's daemon: what can be fetched and processed.
    async fn work(&mut self, local: i32) -> bool {
        let mut moved = false;
        let listens = self
            .query(
                local,
                &format!(
                    "select li_origin, li_provider from @NAMESPACE@.sl_listen join @NAMESPACE@.sl_path on pa_server = li_provider and pa_client = li_receiver \
                     join @NAMESPACE@.sl_node on no_id = li_origin where li_receiver = {local} and pa_conninfo <> '<event pending>' and no_active order by 1, 2"
                ),
            )
            .await;
        let mut heads: BTreeMap<i32, BTreeMap<String, i64>> = BTreeMap::new();
        let mut seen = self.confirmed_by(local).await;
        for row in listens {
            let (origin, provider): (i32, i32) = (text(&row[0]).parse().unwrap(), text(&row[1]).parse().unwrap());
            if !self.nodes.get(&provider).is_some_and(|node| node.up && node.installed) {
                continue;
            }
            if let Entry::Vacant(unknown) = heads.entry(provider) {
                let newest = "select ev_origin, max(ev_seqno) from @NAMESPACE@.sl_event group by 1";
                unknown.insert(pairs(&self.query(provider, newest).await));
            }
            let key = origin.to_string();
            let head = heads[&provider].get(&key).copied().unwrap_or(0);
            while seen.get(&key).copied().unwrap_or(0) < head {
                let Some(event) = self.fetch(provider, origin, seen.get(&key).copied().unwrap_or(0)).await else {
                    break;
                };
                match self.process(local, &event).await {
                    Outcome::Done => moved = true,
                    Outcome::Wait => break,
                }
                if event.kind == "DROP_NODE" {
                    // the list of whom to listen to is no longer true
                    return true;
                }
                seen = self.confirmed_by(local).await;
            }
        }
        let known = pairs(&self.query(local, CONFIRMATIONS).await);
        let mut news = known.clone();
        for provider in heads.keys() {
            for (pair, seqno) in pairs(&self.query(*provider, CONFIRMATIONS).await) {
                let newest = news.entry(pair).or_insert(-1);
                *newest = seqno.max(*newest);
            }
        }
        for (pair, seqno) in news {
            let (of, by) = pair.split_once(' ').unwrap();
            if by != local.to_string() && known.get(&pair).is_none_or(|known| *known < seqno) {
                let call = format!("select @NAMESPACE@.forwardConfirm({of}, {by}, {seqno}, 'now'::timestamp)");
                self.query(local, &call).await;
                moved = true;
            }
        }
        moved
    }

    /// What the node itself has confirmed, by origin.
    async fn confirmed_by(&self, local: i32) -> BTreeMap<String, i64> {
        let confirmed = format!(
            "select con_origin, max(con_seqno) from @NAMESPACE@.sl_confirm where con_received = {local} group by 1"
        );
        pairs(&self.query(local, &confirmed).await)
    }

    async fn fetch(&self, provider: i32, origin: i32, after: i64) -> Option<Event> {
        let rows = self
            .query(
                provider,
                &format!(
                    "select ev_seqno, ev_type, ev_timestamp, ev_snapshot, ev_data1, ev_data2, ev_data3, ev_data4, ev_data5, ev_data6, ev_data7, ev_data8 \
                     from @NAMESPACE@.sl_event where ev_origin = {origin} and ev_seqno > {after} order by ev_seqno limit 1"
                ),
            )
            .await;
        let row = rows.into_iter().next()?;
        Some(Event {
            origin,
            seqno: text(&row[0]).parse().unwrap(),
            kind: text(&row[1]).to_owned(),
            timestamp: text(&row[2]).to_owned(),
            snapshot: text(&row[3]).to_owned(),
            data: row[4..].to_vec(),
        })
    }

    /// What a daemon does with an event: effect, event row and confirmation in one transaction.
    async fn process(&mut self, local: i32, event: &Event) -> Outcome {
        let datum = |position: usize| event.data[position - 1].clone();
        let plain = |position: usize| datum(position).unwrap_or_else(|| "null".into());
        let number = |position: usize| plain(position).parse::<i32>().unwrap();
        let quoted = |position: usize| literal(datum(position).as_deref());
        let mut effects: Vec<String> = Vec::new();
        let mut uninstall = false;
        match event.kind.as_str() {
            "SYNC" => effects.push(format!(
                "update @NAMESPACE@.sl_setsync set ssy_seqno = {seqno}, ssy_snapshot = '{snapshot}', ssy_action_list = '' \
                 where ssy_origin = {origin} and ssy_seqno < {seqno} and ssy_snapshot::text <> '1:1:'",
                seqno = event.seqno,
                snapshot = event.snapshot,
                origin = event.origin
            )),
            "STORE_NODE" => effects.push(format!("select @NAMESPACE@.storeNode_int({}, {})", plain(1), quoted(2))),
            "ENABLE_NODE" => effects.push(format!("select @NAMESPACE@.enableNode_int({})", plain(1))),
            "DROP_NODE" => {
                for id in plain(1).split(',') {
                    effects.push(format!("select @NAMESPACE@.dropNode_int({id})"));
                    uninstall |= id == local.to_string();
                }
            }
            "CLONE_NODE" => effects.push(format!("select @NAMESPACE@.cloneNodePrepare_int({}, {}, {})", plain(1), plain(2), quoted(3))),
            "STORE_PATH" => effects.push(format!("select @NAMESPACE@.storePath_int({}, {}, {}, {})", plain(1), plain(2), quoted(3), plain(4))),
            "DROP_PATH" => effects.push(format!("select @NAMESPACE@.dropPath_int({}, {})", plain(1), plain(2))),
            "STORE_LISTEN" => effects.push(format!("select @NAMESPACE@.storeListen_int({}, {}, {})", plain(1), plain(2), plain(3))),
            "DROP_LISTEN" => effects.push(format!("select @NAMESPACE@.dropListen_int({}, {}, {})", plain(1), plain(2), plain(3))),
            "STORE_SET" => effects.push(format!("select @NAMESPACE@.storeSet_int({}, {}, {})", plain(1), plain(2), quoted(3))),
            "DROP_SET" => effects.push(format!("select @NAMESPACE@.dropSet_int({})", plain(1))),
            "MERGE_SET" => effects.push(format!("select @NAMESPACE@.mergeSet_int({}, {})", plain(1), plain(2))),
            "SET_DROP_TABLE" => effects.push(format!("select @NAMESPACE@.setDropTable_int({})", plain(1))),
            "SET_DROP_SEQUENCE" => effects.push(format!("select @NAMESPACE@.setDropSequence_int({})", plain(1))),
            "SET_MOVE_TABLE" => effects.push(format!("select @NAMESPACE@.setMoveTable_int({}, {})", plain(1), plain(2))),
            "SET_MOVE_SEQUENCE" => effects.push(format!("select @NAMESPACE@.setMoveSequence_int({}, {})", plain(1), plain(2))),
            "SET_ADD_TABLE" | "SET_ADD_SEQUENCE" => {}
            "SUBSCRIBE_SET" => {
                effects.push(format!("select @NAMESPACE@.subscribeSet_int({}, {}, {}, '{}', '{}')", plain(1), plain(2), plain(3), plain(4), plain(5)));
            }
            "ENABLE_SUBSCRIPTION" => {
                if number(3) == local && !self.copy_set(event, &mut effects).await {
                    return Outcome::Wait;
                }
                effects.push(format!("select @NAMESPACE@.enableSubscription({}, {}, {})", plain(1), plain(2), plain(3)));
            }
            "UNSUBSCRIBE_SET" => effects.push(format!("select @NAMESPACE@.unsubscribeSet_int({}, {})", plain(1), plain(2))),
            "MOVE_SET" => effects.push(format!("select @NAMESPACE@.moveSet_int({}, {}, {}, {})", plain(1), plain(2), plain(3), event.seqno)),
            "ACCEPT_SET" => {
                if number(2) != local {
                    let arrived = format!(
                        "select 1 from @NAMESPACE@.sl_event where ev_origin = {} and ev_seqno = {} and ev_type = 'MOVE_SET' and ev_data1 = '{}'",
                        plain(2),
                        plain(4),
                        plain(1)
                    );
                    if self.value(local, &arrived).await.is_none() {
                        return Outcome::Wait;
                    }
                    effects.push(format!(
                        "update @NAMESPACE@.sl_setsync set ssy_origin = {}, ssy_seqno = {}, ssy_snapshot = '{}', ssy_action_list = '' where ssy_setid = {}",
                        plain(3),
                        event.seqno,
                        event.snapshot,
                        plain(1)
                    ));
                }
            }
            "FAILOVER_NODE" => {
                let call = format!("select @NAMESPACE@.failedNode({}, {}, '{{{}}}')", plain(1), event.origin, plain(3));
                self.query(local, &call).await;
                let arrived = self.value(local, &format!("select max(ev_seqno) >= {} from @NAMESPACE@.sl_event where ev_origin = {}", plain(2), plain(1))).await;
                if arrived.as_deref() != Some("t") {
                    return Outcome::Wait;
                }
                effects.push(format!("select @NAMESPACE@.failoverSet_int({}, {}, {})", plain(1), event.origin, plain(2)));
            }
            other => panic!("event type {other}"),
        }
        self.query(
            local,
            "begin; lock table @NAMESPACE@.sl_config_lock; lock table @NAMESPACE@.sl_event_lock",
        )
        .await;
        for effect in &effects {
            if let Err(error) = self.try_query(local, effect).await {
                let line = format!(
                    "  node {local} cannot process {} #{} of node {}: {}",
                    event.kind,
                    event.seqno - FIRST_EVENT,
                    event.origin,
                    message(&error)
                );
                if !self
                    .transcript
                    .lines()
                    .rev()
                    .take_while(|line| !line.starts_with('>'))
                    .any(|known| known == line)
                {
                    self.note(&line);
                }
                self.query(local, "rollback").await;
                self.rewind(local).await;
                return Outcome::Wait;
            }
        }
        let data: Vec<String> = event.data.iter().map(|value| literal(value.as_deref())).collect();
        self.query(
            local,
            &format!(
                "insert into @NAMESPACE@.sl_event values ({origin}, {seqno}, '{}', '{}', '{}', {}); \
                 insert into @NAMESPACE@.sl_confirm values ({origin}, {local}, {seqno}, now()); commit",
                event.timestamp,
                event.snapshot,
                event.kind,
                data.join(", "),
                origin = event.origin,
                seqno = event.seqno
            ),
        )
        .await;
        if uninstall {
            self.query(
                local,
                "select @NAMESPACE@.uninstallNode(); drop schema @NAMESPACE@ cascade",
            )
            .await;
            self.nodes.get_mut(&local).unwrap().installed = false;
        }
        Outcome::Done
    }

    /// The configuration part of an initial copy; `false` while the provider lacks the set.
    async fn copy_set(&self, event: &Event, effects: &mut Vec<String>) -> bool {
        let datum = |position: usize| event.data[position - 1].clone().unwrap_or_default();
        let provider: i32 = datum(2).parse().unwrap();
        let set = datum(1);
        if !self.nodes.get(&provider).is_some_and(|node| node.up && node.installed) {
            return false;
        }
        if provider != event.origin {
            let confirmed = self
                .value(provider, &format!("select max(con_seqno) >= {} from @NAMESPACE@.sl_confirm where con_origin = {} and con_received = {provider}", event.seqno, event.origin))
                .await;
            if confirmed.as_deref() != Some("t") {
                return false;
            }
        }
        for row in self.query(provider, &format!("select seq_id, seq_nspname, seq_relname, seq_comment from @NAMESPACE@.sl_sequence where seq_set = {set} order by 1")).await {
            effects.push(format!(
                "select @NAMESPACE@.setAddSequence_int({set}, {}, '\"{}\".\"{}\"', {})",
                text(&row[0]),
                text(&row[1]),
                text(&row[2]),
                literal(row[3].as_deref())
            ));
        }
        for row in self
            .query(provider, &format!("select tab_id, tab_nspname, tab_relname, tab_idxname, tab_comment from @NAMESPACE@.sl_table where tab_set = {set} order by 1"))
            .await
        {
            effects.push(format!(
                "select @NAMESPACE@.setAddTable_int({set}, {}, '\"{}\".\"{}\"', {}, {})",
                text(&row[0]),
                text(&row[1]),
                text(&row[2]),
                literal(row[3].as_deref()),
                literal(row[4].as_deref())
            ));
        }
        let newest = self
            .query(
                provider,
                &format!("select ev_seqno, ev_snapshot from @NAMESPACE@.sl_event where ev_origin = {} and ev_type = 'SYNC' order by ev_seqno desc limit 1", event.origin),
            )
            .await;
        let (seqno, snapshot) = newest.first().map_or_else(
            || (event.seqno.to_string(), event.snapshot.clone()),
            |row| (text(&row[0]).to_owned(), text(&row[1]).to_owned()),
        );
        effects.push(format!("delete from @NAMESPACE@.sl_setsync where ssy_setid = {set}"));
        effects.push(format!(
            "insert into @NAMESPACE@.sl_setsync values ({set}, {}, {seqno}, '{snapshot}', '')",
            event.origin
        ));
        true
    }
}

/// Two columns as a map.
fn pairs(rows: &Rows) -> BTreeMap<String, i64> {
    rows.iter()
        .map(|row| (text(&row[0]).to_owned(), text(&row[1]).parse().unwrap()))
        .collect()
}
