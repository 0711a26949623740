//! Are all nodes equal, and is everything there that was acknowledged?

use std::collections::BTreeSet;

use trunkline_sql::compare::{self, TableChecksum};

use super::cluster::DemoCluster;
use super::load::Written;
use super::{DemoError, cluster_name, connect};

/// The evidence.
pub(super) struct Proof {
    /// Per replicated table or sequence that differs: what the three nodes have.
    pub(super) differences: Vec<String>,
    /// Is node n equal to the origin?
    pub(super) equal: [bool; 3],
    /// Tables and sequences compared.
    pub(super) compared: usize,
    /// Writes acknowledged.
    pub(super) acknowledged: i64,
    /// Those that are neither there nor listed by `slonctl lost`.
    pub(super) lost: i64,
    /// Those that died with the killed origin, and are listed.
    pub(super) listed: i64,
}

impl Proof {
    /// Reads everything on all nodes. Node 2 is the origin by now.
    /// `lost` are the writes that the killed origin alone had, by client and number.
    pub(super) async fn gather(
        demo: &DemoCluster,
        written: &Written,
        lost: &BTreeSet<(i32, i64)>,
    ) -> Result<Self, DemoError> {
        let cluster = cluster_name()?;
        let compare_error = DemoError::statement("comparing the nodes");
        let mut sessions = Vec::new();
        for node in 1..=3 {
            let session = connect(&demo.conninfo(node)).await?;
            session.batch_execute(compare::SETTINGS).await.map_err(&compare_error)?;
            sessions.push(session);
        }
        let mut proof = Self {
            differences: Vec::new(),
            equal: [true; 3],
            compared: 0,
            acknowledged: 0,
            lost: 0,
            listed: 0,
        };
        let origin = &sessions[1];
        for table in compare::replicated_tables(origin, &cluster)
            .await
            .map_err(&compare_error)?
        {
            let mut sums: Vec<TableChecksum> = Vec::new();
            for session in &sessions {
                sums.push(compare::table_checksum(session, &table).await.map_err(&compare_error)?);
            }
            let found: Vec<String> = sums
                .iter()
                .map(|sum| format!("{} rows (sum {})", sum.rows, sum.sum))
                .collect();
            proof.compare(&format!("table {}.{}", table.schema, table.name), &found);
        }
        for sequence in compare::replicated_sequences(origin, &cluster)
            .await
            .map_err(&compare_error)?
        {
            let mut values = Vec::new();
            for session in &sessions {
                let value = compare::sequence_value(session, &sequence)
                    .await
                    .map_err(&compare_error)?;
                values.push(value.to_string());
            }
            proof.compare(&format!("sequence {}.{}", sequence.schema, sequence.name), &values);
        }
        for (client, numbers) in (0_i32..).zip(written.numbers()) {
            let rows = origin
                .query("select number from client_write where client = $1", &[&client])
                .await;
            let there: BTreeSet<i64> = rows.map_err(&compare_error)?.iter().map(|row| row.get(0)).collect();
            for number in numbers {
                proof.acknowledged += 1;
                let listed = !there.contains(&number) && lost.contains(&(client, number));
                proof.listed += i64::from(listed);
                proof.lost += i64::from(!listed && !there.contains(&number));
            }
        }
        Ok(proof)
    }

    fn compare(&mut self, what: &str, found: &[String]) {
        self.compared += 1;
        let mut differs = false;
        for (node, text) in found.iter().enumerate() {
            if *text != found[1] {
                self.equal[node] = false;
                differs = true;
            }
        }
        if differs {
            self.differences.push(format!("{what}: {}", found.join(", ")));
        }
    }

    /// Everything compared, everything equal, nothing lost.
    pub(super) fn holds(&self) -> bool {
        // Five tables and a sequence: comparing nothing would prove nothing.
        self.compared == super::script::TABLES.len() + 1
            && self.equal.iter().all(|equal| *equal)
            && self.acknowledged > 0
            && self.lost == 0
    }
}
