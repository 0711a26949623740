//! Adding tables and sequences to sets.

use trunkline_grammar::{Command, Id, ObjectSelection};
use trunkline_sql::admin::{self, Locks, Partition, Relation, RelationKind};

use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};

/// What kind of member gets a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Table,
    Sequence,
}

impl Interpreter<'_> {
    pub(super) async fn set_add_table(&mut self, command: &Command) -> Result<(), Failure> {
        let Command::SetAddTable {
            set_id,
            origin,
            id,
            tables,
            key,
            comment,
            add_sequences,
        } = command
        else {
            return Ok(());
        };
        if self.add_many(command).await? {
            return Ok(());
        }
        let origin = self.origin_for_adding(*set_id, *origin).await?;
        let destination = self.destination(*set_id, origin).await?;
        self.begin_adding(origin).await?;
        self.prepare(&destination, origin).await?;
        let names = match tables {
            ObjectSelection::Name(name) => vec![name.clone()],
            ObjectSelection::Pattern(pattern) => self.tables_like(origin, pattern).await?,
        };
        let default = match tables {
            ObjectSelection::Name(name) => name,
            ObjectSelection::Pattern(_) => "replicated table",
        };
        let comment = comment.as_deref().unwrap_or(default);
        let mut wanted = *id;
        let mut added = 0;
        for name in names {
            let partitions = self.partitions_of(origin, &name, key.as_deref()).await?;
            let is_parent = !partitions.is_empty();
            let plain = Partition {
                name: name.clone(),
                key: key.clone(),
                comment: comment.to_owned(),
            };
            let parts = if is_parent { partitions } else { vec![plain] };
            for part in parts {
                if destination.has(&part.name) {
                    continue;
                }
                let index = self.row_identity(origin, &part.name, part.key.as_deref()).await?;
                let table = if is_parent {
                    self.partition_id(origin).await?
                } else {
                    self.next_id(Member::Table, wanted.take()).await?
                };
                let call =
                    admin::set_add_table(&self.cluster, destination.set, table, &part.name, &index, &part.comment);
                self.submit(Submission {
                    node: origin,
                    locks: Locks::None,
                    call,
                    leads: Leads::Yes,
                })
                .await?;
                added += 1;
            }
            if *add_sequences {
                for sequence in self.sequences_of(origin, &name).await? {
                    let written = admin::written_name(&sequence.schema, &sequence.name);
                    if destination.has(&written) {
                        continue;
                    }
                    self.add_sequence(origin, destination.set, None, &written, &format!("sequence for {name}"))
                        .await?;
                    added += 1;
                }
            }
        }
        self.arrive(destination, origin, added).await
    }

    pub(super) async fn set_add_sequence(&mut self, command: &Command) -> Result<(), Failure> {
        let Command::SetAddSequence {
            set_id,
            origin,
            id,
            sequences,
            comment,
        } = command
        else {
            return Ok(());
        };
        if self.add_many(command).await? {
            return Ok(());
        }
        if self.add_many(command).await? {
            return Ok(());
        }
        let origin = self.origin_for_adding(*set_id, *origin).await?;
        let destination = self.destination(*set_id, origin).await?;
        self.begin_adding(origin).await?;
        self.prepare(&destination, origin).await?;
        let (names, default) = self.sequences_selected(origin, sequences).await?;
        let comment = comment.as_deref().unwrap_or(default.as_str());
        let mut wanted = *id;
        let mut added = 0;
        for name in names.iter().filter(|name| !destination.has(name)) {
            self.add_sequence(origin, destination.set, wanted.take(), name, comment)
                .await?;
            added += 1;
        }
        self.arrive(destination, origin, added).await
    }

    /// The sequences that are meant, and the comment of those that are given none.
    pub(super) async fn sequences_selected(
        &mut self,
        origin: Id,
        sequences: &ObjectSelection,
    ) -> Result<(Vec<String>, String), Failure> {
        match sequences {
            ObjectSelection::Name(name) => Ok((vec![name.clone()], name.clone())),
            ObjectSelection::Pattern(pattern) => {
                let session = self.connections.session(origin).await?;
                let found = admin::matching_sequences(session, pattern).await?;
                if found.is_empty() {
                    self.report
                        .say(&format!("warning: no sequence on node {origin} matches '{pattern}'"));
                }
                Ok((found.iter().map(written).collect(), "replicated sequence".to_owned()))
            }
        }
    }

    /// The partitions of a partitioned table; none if it is not one.
    pub(super) async fn partitions_of(
        &mut self,
        origin: Id,
        name: &str,
        key: Option<&str>,
    ) -> Result<Vec<Partition>, Failure> {
        let installed = self
            .connections
            .rehearsal()
            .is_none_or(|rehearsal| rehearsal.is_installed(origin));
        let cluster = self.cluster.clone();
        let session = self.connections.session(origin).await?;
        let question = format!("partitions of {name} on node {origin}");
        let facts = match admin::read_name(name) {
            Some((schema, name)) => admin::relation_facts(session, &schema, &name).await,
            None => return Ok(Vec::new()),
        };
        let kind = facts.map_err(Failure::of_query(&question))?.map(|facts| facts.kind);
        if kind.as_deref() != Some("p") || !installed {
            return Ok(Vec::new());
        }
        let parts = admin::partitions(session, &cluster, name, key)
            .await
            .map_err(Failure::of_query(&question))?;
        if parts.is_empty() {
            return Err(Failure::Refused(format!(
                "{name} is partitioned and has no partition yet: its partitions are what is replicated; create one, new ones \
                 join by themselves later"
            )));
        }
        Ok(parts)
    }

    /// A number for a partition: beyond those that people give.
    pub(super) async fn partition_id(&mut self, origin: Id) -> Result<Id, Failure> {
        let number = if let Some(rehearsal) = self.connections.rehearsal() {
            rehearsal.forecast.next_partition(origin)
        } else {
            let call = admin::next_partition_id(&self.cluster);
            let answer = self.connections.run(origin, &call).await?;
            answer.and_then(|number| number.parse().ok())
        };
        number.ok_or_else(|| Failure::Refused("no number is left for a partition".to_owned()))
    }

    async fn add_sequence(
        &mut self,
        origin: Id,
        set: Id,
        id: Option<Id>,
        name: &str,
        comment: &str,
    ) -> Result<(), Failure> {
        let sequence = self.next_id(Member::Sequence, id).await?;
        let call = admin::set_add_sequence(&self.cluster, set, sequence, name, comment);
        self.report.quiet(true);
        let outcome = self
            .submit(Submission {
                node: origin,
                locks: Locks::None,
                call,
                leads: Leads::Yes,
            })
            .await;
        self.report.quiet(false);
        outcome
    }

    /// Name of the index that identifies the rows of a table.
    pub(super) async fn row_identity(&mut self, origin: Id, name: &str, key: Option<&str>) -> Result<String, Failure> {
        if !self.connections.rehearses() {
            let call = admin::row_identity(&self.cluster, name, key);
            return Ok(self.connections.run(origin, &call).await?.unwrap_or_default());
        }
        // From the catalogs: the stored function may not be there yet. What is wrong with the key is told with the call.
        let session = self.connections.session(origin).await?;
        let facts = match (key, admin::read_name(name)) {
            (Some(key), _) => return Ok(key.to_owned()),
            (None, Some((schema, name))) => admin::relation_facts(session, &schema, &name).await,
            (None, None) => Ok(None),
        };
        let facts = facts.map_err(Failure::of_query("primary key of a table"))?;
        let keys = facts.map(|facts| facts.keys).unwrap_or_default();
        let primary = keys.into_iter().find(|key| key.primary);
        Ok(primary.map(|key| key.name).unwrap_or_default())
    }

    /// The sequences that belong to columns of a table.
    async fn sequences_of(&mut self, origin: Id, name: &str) -> Result<Vec<Relation>, Failure> {
        let installed = self
            .connections
            .rehearsal()
            .is_none_or(|rehearsal| rehearsal.is_installed(origin));
        let session = self.connections.session(origin).await?;
        if installed {
            return Ok(admin::serial_sequences(session, &self.cluster, name).await?);
        }
        let Some((schema, name)) = admin::read_name(name) else {
            return Ok(Vec::new());
        };
        Ok(admin::sequences_of_table(session, &quoted(&schema, &name)).await?)
    }

    /// The origin that was given, or the set's.
    pub(super) async fn origin_for_adding(&mut self, set: Id, origin: Option<Id>) -> Result<Id, Failure> {
        let origin = match origin {
            Some(origin) => origin,
            None => self.find_origin(set).await?,
        };
        self.must_be_itself(origin).await?;
        Ok(origin)
    }

    /// Makes a SYNC on the origin and commits it, then begins the transaction that adds.
    ///
    /// The SYNC must be older than whatever the new triggers log; it is committed by itself, so that it is visible
    /// before the tables are locked, also inside a `try` block.
    pub(super) async fn begin_adding(&mut self, origin: Id) -> Result<(), Failure> {
        if self.block.parts() {
            self.report.say(&format!(
                "warning: this commits what the `try` block has done before on node {origin}; a failure later in the block \
                 does not undo it"
            ));
        }
        // A plan tells statement by statement what is executed together, with one SYNC.
        if !self.follows_an_addition {
            let call = admin::create_event_sync(&self.cluster);
            self.submit(Submission {
                node: origin,
                locks: Locks::Event,
                call,
                leads: Leads::Always,
            })
            .await?;
        }
        self.connections.commit(origin).await?;
        self.begin(origin).await?;
        self.connections.lock(origin, Locks::EventAndConfig).await
    }

    /// Asks the nodes of the preamble in order.
    async fn find_origin(&mut self, set: Id) -> Result<Id, Failure> {
        if let Some(rehearsal) = self.connections.rehearsal() {
            let origin = rehearsal.forecast.origin_of(set);
            return origin.ok_or_else(|| Failure::Refused(format!("unable to determine the origin for set {set}")));
        }
        for node in self.connections.nodes() {
            let Some(session) = self.connections.open_session(node) else {
                continue;
            };
            let question = format!("origin of set {set} as node {node} knows it");
            let installed = admin::schema_exists(session, &self.cluster).await;
            if !installed.map_err(Failure::of_query(&question))? {
                continue;
            }
            let origin = admin::set_origin(session, &self.cluster, set).await;
            if let Some(origin) = origin.map_err(Failure::of_query(&question))? {
                return Ok(origin);
            }
        }
        Err(Failure::Refused(format!(
            "unable to determine the origin for set {set}"
        )))
    }

    pub(super) async fn tables_like(&mut self, origin: Id, pattern: &str) -> Result<Vec<String>, Failure> {
        let session = self.connections.session(origin).await?;
        let found = admin::matching_tables(session, pattern).await?;
        if found.is_empty() {
            self.report
                .say(&format!("warning: no table on node {origin} matches '{pattern}'"));
        }
        let (plain, parents): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|relation| relation.kind == RelationKind::Plain);
        // A parent stands for its partitions, of which those that are no parents themselves hold the rows.
        let mut with_parts = Vec::new();
        for parent in parents {
            let name = quoted(&parent.schema, &parent.name);
            let parts = self.partitions_of(origin, &name, None).await?;
            with_parts.push((name, parts));
        }
        // A parent of parents first: it covers theirs.
        with_parts.sort_by_key(|(_, parts)| std::cmp::Reverse(parts.len()));
        let (mut covered, mut tops): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (name, parts) in with_parts {
            for part in parts {
                if !covered.contains(&part.name) {
                    covered.push(part.name);
                    if !tops.contains(&name) {
                        tops.push(name.clone());
                    }
                }
            }
        }
        let alone = |relation: &&Relation| {
            let name = (relation.schema.clone(), relation.name.clone());
            !covered
                .iter()
                .any(|part| admin::read_name(part).as_ref() == Some(&name))
        };
        Ok(tops
            .into_iter()
            .chain(plain.iter().filter(alone).map(written))
            .collect())
    }

    /// `wanted`, or one more than the highest number in use on any node of the preamble that is a node.
    pub(super) async fn next_id(&mut self, member: Member, wanted: Option<Id>) -> Result<Id, Failure> {
        if let Some(id) = wanted {
            return Ok(id);
        }
        let none_left = || Failure::Refused("no number is left; give `id`".to_owned());
        if let Some(rehearsal) = self.connections.rehearsal() {
            let next = match member {
                Member::Table => rehearsal.forecast.next_table(),
                Member::Sequence => rehearsal.forecast.next_sequence(),
            };
            return next.ok_or_else(none_left);
        }
        let mut highest = 0;
        for node in self.connections.nodes() {
            let cluster = self.cluster.clone();
            let session = self.connections.session(node).await?;
            let question = format!("highest number in use on node {node}");
            let installed = admin::schema_exists(session, &cluster).await;
            if !installed.map_err(Failure::of_query(&question))? {
                continue;
            }
            let found = match member {
                Member::Table => admin::highest_table_id(session, &cluster).await,
                Member::Sequence => admin::highest_sequence_id(session, &cluster).await,
            };
            highest = highest.max(found.map_err(Failure::of_query(&question))?);
        }
        highest.checked_add(1).ok_or_else(none_left)
    }
}

pub(super) fn quoted(schema: &str, name: &str) -> String {
    format!(
        "{}.{}",
        trunkline_sql::quote_ident(schema),
        trunkline_sql::quote_ident(name)
    )
}

pub(super) fn written(relation: &Relation) -> String {
    admin::written_name(&relation.schema, &relation.name)
}
