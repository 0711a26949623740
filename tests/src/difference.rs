//! Are all nodes equal, and if not: where they differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use trunkline_sql::compare::{self, ReplicatedTable};

use crate::{Cluster, Connection};

/// Rows shown per table and side.
const SHOWN_ROWS: usize = 5;
/// Characters shown of a row.
const SHOWN_CHARACTERS: usize = 300;

impl Cluster {
    /// Waits until everything committed so far is applied, then compares every table and sequence of every active
    /// subscription with its origin and panics with the first differences.
    pub async fn assert_all_equal(&self) {
        self.caught_up().await;
        self.assert_equal_now().await;
    }

    /// The comparison alone. Panics also when there is no active subscription: then nothing would have been shown.
    pub async fn assert_equal_now(&self) {
        let mut connections = BTreeMap::new();
        for node in self.nodes() {
            let connection = self.connect(node.id).await;
            connection.run(compare::SETTINGS).await;
            connections.insert(node.id, connection);
        }
        let first = &connections[&self.nodes()[0].id];
        let subscriptions = compare::active_subscriptions(first, self.name())
            .await
            .expect("sl_subscribe can be read");
        assert!(!subscriptions.is_empty(), "no active subscription, nothing to compare");
        let mut complaint = String::new();
        let mut compared = 0;
        for subscription in subscriptions {
            let (origin, receiver) = (&connections[&subscription.origin], &connections[&subscription.receiver]);
            let between = format!(
                "node {} and its subscriber {}",
                subscription.origin, subscription.receiver
            );
            let tables = compare::replicated_tables(origin, self.name())
                .await
                .expect("sl_table can be read");
            for table in tables.iter().filter(|table| table.set == subscription.set) {
                compared += 1;
                table_difference(table, &between, origin, receiver, &mut complaint).await;
            }
            let sequences = compare::replicated_sequences(origin, self.name())
                .await
                .expect("sl_sequence can be read");
            for sequence in sequences.iter().filter(|sequence| sequence.set == subscription.set) {
                compared += 1;
                let at_origin = compare::sequence_value(origin, sequence)
                    .await
                    .expect("the sequence can be read");
                let at_receiver = compare::sequence_value(receiver, sequence)
                    .await
                    .expect("the sequence can be read");
                if at_origin != at_receiver {
                    let _ = writeln!(
                        complaint,
                        "sequence {}.{} differs between {between}: {at_origin} and {at_receiver}",
                        sequence.schema, sequence.name
                    );
                }
            }
        }
        assert!(compared > 0, "the subscribed sets are empty, nothing to compare");
        assert!(complaint.is_empty(), "{complaint}");
    }
}

async fn table_difference(
    table: &ReplicatedTable,
    between: &str,
    origin: &Connection,
    receiver: &Connection,
    complaint: &mut String,
) {
    let name = format!("{}.{}", table.schema, table.name);
    let read = |result: Result<compare::TableChecksum, tokio_postgres::Error>| {
        result.unwrap_or_else(|error| panic!("cannot read {name}: {error:?}"))
    };
    let at_origin = read(compare::table_checksum(origin, table).await);
    let at_receiver = read(compare::table_checksum(receiver, table).await);
    if at_origin == at_receiver {
        return;
    }
    let _ = writeln!(
        complaint,
        "table {name} differs between {between}: {} and {} rows",
        at_origin.rows, at_receiver.rows
    );
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    for row in compare::row_texts(origin, table).await.expect("the table can be read") {
        *balance.entry(row).or_default() += 1;
    }
    for row in compare::row_texts(receiver, table)
        .await
        .expect("the table can be read")
    {
        *balance.entry(row).or_default() -= 1;
    }
    for (side, sign) in [("only on the origin", 1), ("only on the subscriber", -1)] {
        let rows: Vec<&String> = balance
            .iter()
            .filter(|(_, n)| **n * sign > 0)
            .map(|(row, _)| row)
            .collect();
        for row in rows.iter().take(SHOWN_ROWS) {
            let short: String = row.chars().take(SHOWN_CHARACTERS).collect();
            let _ = writeln!(complaint, "  {side}: {short}");
        }
        if rows.len() > SHOWN_ROWS {
            let _ = writeln!(complaint, "  {side}: {} rows more", rows.len() - SHOWN_ROWS);
        }
    }
}
