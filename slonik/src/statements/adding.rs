//! Many members added to a set at once: a regular expression, or a list of statements that add one each.
//!
//! One SYNC, one transaction and a handful of statements on the origin, whatever the number of members. The events are the
//! same as one by one. Where it cannot be done so (a table is not free at this moment, something is wrong with one member, the
//! node's schema is the original's), everything is undone and the statements are executed one by one, which waits, and says what
//! is wrong with which.

use trunkline_grammar::{Command, Id, ObjectSelection, Statement, StatementKind};
use trunkline_sql::admin::{self, Locks, NewMember, Relation};

use super::joining::Destination;
use super::member::{Member, quoted, written};
use crate::failure::Failure;
use crate::interpreter::{Interpreter, Leads, Submission};

/// Most statements executed as one: writers of their tables are kept out for that long, a few hundredths of a second.
const MOST: usize = 100;

/// Members of one kind for one set.
struct Adding<'a> {
    member: Member,
    set: Id,
    origin: Option<Id>,
    /// Whether the tables' sequences come along.
    add_sequences: bool,
    /// Whether tables that are not free are waited for.
    waits: bool,
    wanted: Vec<Wanted<'a>>,
}

/// One statement's share.
struct Wanted<'a> {
    id: Option<Id>,
    selection: &'a ObjectSelection,
    key: Option<&'a str>,
    comment: Option<&'a str>,
}

impl<'a> Adding<'a> {
    /// The statement, if it adds members.
    fn of(command: &'a Command) -> Option<Self> {
        match command {
            Command::SetAddTable {
                set_id,
                origin,
                id,
                tables,
                key,
                comment,
                add_sequences,
            } => Some(Self {
                member: Member::Table,
                set: *set_id,
                origin: *origin,
                add_sequences: *add_sequences,
                waits: true,
                wanted: vec![Wanted {
                    id: *id,
                    selection: tables,
                    key: key.as_deref(),
                    comment: comment.as_deref(),
                }],
            }),
            Command::SetAddSequence {
                set_id,
                origin,
                id,
                sequences,
                comment,
            } => Some(Self {
                member: Member::Sequence,
                set: *set_id,
                origin: *origin,
                add_sequences: false,
                waits: true,
                wanted: vec![Wanted {
                    id: *id,
                    selection: sequences,
                    key: None,
                    comment: comment.as_deref(),
                }],
            }),
            _ => None,
        }
    }

    /// Whether the statement names one member.
    fn is_single(&self) -> bool {
        matches!(self.wanted.as_slice(), [one] if matches!(one.selection, ObjectSelection::Name(_)))
            && !self.add_sequences
    }

    /// Whether the other statement can be executed together with this one.
    fn goes_with(&self, other: &Self) -> bool {
        self.member == other.member && self.set == other.set && self.origin == other.origin
    }
}

/// How many of the statements, from the first on, add single members of one kind to one set.
pub(crate) fn statements_together(statements: &[Statement]) -> usize {
    fn single(statement: &Statement) -> Option<Adding<'_>> {
        match &statement.kind {
            StatementKind::Command(command) => Adding::of(command).filter(Adding::is_single),
            StatementKind::Try(_) => None,
        }
    }
    let Some(first) = statements.first().and_then(single) else {
        return 0;
    };
    statements
        .iter()
        .take(MOST)
        .take_while(|statement| single(statement).is_some_and(|other| first.goes_with(&other)))
        .count()
}

impl Interpreter<'_> {
    /// Executes statements that [`statements_together`] has found. False: nothing is done, they are to be executed one by one.
    pub(crate) async fn add_statements_together(&mut self, statements: &[Statement]) -> Result<bool, Failure> {
        let mut together: Option<Adding<'_>> = None;
        for statement in statements {
            let StatementKind::Command(command) = &statement.kind else {
                return Ok(false);
            };
            match (&mut together, Adding::of(command)) {
                (Some(adding), Some(more)) => adding.wanted.extend(more.wanted),
                (None, first) => together = first,
                (_, None) => return Ok(false),
            }
        }
        let Some(mut adding) = together else { return Ok(false) };
        // Who came half way would not be in a deadlock with one statement alone.
        adding.waits = false;
        self.add_together(&adding).await
    }

    /// Executes one statement that adds several members. False: nothing is done, they are to be added one by one.
    pub(super) async fn add_many(&mut self, command: &Command) -> Result<bool, Failure> {
        match Adding::of(command).filter(|adding| !adding.is_single()) {
            Some(adding) => self.add_together(&adding).await,
            None => Ok(false),
        }
    }

    async fn add_together(&mut self, adding: &Adding<'_>) -> Result<bool, Failure> {
        let origin = self.origin_for_adding(adding.set, adding.origin).await?;
        if !self.connections.rehearses() {
            let cluster = self.cluster.clone();
            let session = self.connections.session(origin).await?;
            let known = admin::adds_together(session, &cluster).await;
            if !known.map_err(Failure::of_query("can members be added together"))? {
                return Ok(false);
            }
        }
        let destination = self.destination(adding.set, origin).await?;
        self.begin_adding(origin).await?;
        self.prepare(&destination, origin).await?;
        match self.add_all(adding, &destination, origin).await {
            Ok(added) => {
                self.arrive(destination, origin, added).await?;
                Ok(true)
            }
            Err(failure) if self.connections.rehearses() => Err(failure),
            Err(_) => {
                self.report.quiet(false);
                self.connections.rollback(origin).await;
                Ok(false)
            }
        }
    }

    /// Adds everything in the open transaction; the answer is how many.
    async fn add_all(&mut self, adding: &Adding<'_>, destination: &Destination, origin: Id) -> Result<usize, Failure> {
        if adding.member == Member::Sequence {
            let sequences = self.wanted_sequences(adding, destination, origin).await?;
            return self.submit_sequences(origin, destination.set, &sequences).await;
        }
        let (tables, places) = self.wanted_tables(adding, destination, origin).await?;
        let mut sequences = Vec::new();
        if adding.add_sequences {
            let mut next = None;
            for (name, sequence) in self.sequences_of_all(origin, &places).await? {
                let name_of = written(&sequence);
                let place = places.iter().find(|(table, _)| *table == name);
                if destination.has(&name_of) {
                    continue;
                }
                let sequence = NewMember {
                    id: self.count_on(Member::Sequence, &mut next, None).await?,
                    name: name_of,
                    key: None,
                    comment: format!("sequence for {name}"),
                };
                sequences.push((place.map_or(0, |(_, place)| *place), sequence));
            }
        }
        self.submit_tables(origin, destination.set, &tables, &sequences, adding.waits)
            .await?;
        Ok(tables.len() + sequences.len())
    }

    /// The tables to be added, partitions in the place of their parents; and the names that were meant, each with the number of
    /// tables up to it.
    async fn wanted_tables(
        &mut self,
        adding: &Adding<'_>,
        destination: &Destination,
        origin: Id,
    ) -> Result<(Vec<NewMember>, Vec<(String, i32)>), Failure> {
        let mut meant: Vec<(&Wanted<'_>, String)> = Vec::new();
        for wanted in &adding.wanted {
            match wanted.selection {
                ObjectSelection::Name(name) => meant.push((wanted, name.clone())),
                ObjectSelection::Pattern(pattern) => {
                    let found = self.tables_like(origin, pattern).await?;
                    meant.extend(found.into_iter().map(|name| (wanted, name)));
                }
            }
        }
        let names: Vec<String> = meant.iter().map(|(_, name)| name.clone()).collect();
        let session = self.connections.session(origin).await?;
        let parents = admin::partitioned_tables(session, &names).await;
        let parents = parents.map_err(Failure::of_query("which of the tables are partitioned"))?;
        let (mut next, mut next_partition) = (None, None);
        let mut tables = Vec::with_capacity(meant.len());
        let mut places: Vec<(String, i32)> = Vec::with_capacity(meant.len());
        let place_of = |tables: &Vec<NewMember>| i32::try_from(tables.len()).unwrap_or(i32::MAX);
        for (wanted, name) in meant {
            let default = match wanted.selection {
                ObjectSelection::Name(name) => name,
                ObjectSelection::Pattern(_) => "replicated table",
            };
            let partitions = if parents.contains(&name) {
                self.partitions_of(origin, &name, wanted.key).await?
            } else {
                Vec::new()
            };
            if partitions.is_empty() {
                if !destination.has(&name) {
                    tables.push(NewMember {
                        id: self.count_on(Member::Table, &mut next, wanted.id).await?,
                        name: name.clone(),
                        key: wanted.key.map(ToOwned::to_owned),
                        comment: wanted.comment.unwrap_or(default).to_owned(),
                    });
                }
                places.push((name, place_of(&tables)));
                continue;
            }
            for part in partitions.into_iter().filter(|part| !destination.has(&part.name)) {
                let id = match next_partition {
                    Some(id) => id,
                    None => self.partition_id(origin).await?,
                };
                next_partition = id.checked_add(1);
                tables.push(NewMember {
                    id,
                    name: part.name,
                    key: part.key,
                    comment: part.comment,
                });
            }
            places.push((name, place_of(&tables)));
        }
        Ok((tables, places))
    }

    async fn wanted_sequences(
        &mut self,
        adding: &Adding<'_>,
        destination: &Destination,
        origin: Id,
    ) -> Result<Vec<NewMember>, Failure> {
        let mut next = None;
        let mut sequences = Vec::new();
        for wanted in &adding.wanted {
            let (names, default) = self.sequences_selected(origin, wanted.selection).await?;
            // A number that was given is that of the first.
            let mut id = wanted.id;
            for name in names.into_iter().filter(|name| !destination.has(name)) {
                sequences.push(NewMember {
                    id: self.count_on(Member::Sequence, &mut next, id.take()).await?,
                    name,
                    key: None,
                    comment: wanted.comment.unwrap_or(default.as_str()).to_owned(),
                });
            }
        }
        Ok(sequences)
    }

    /// `wanted`, or the next free number; `next` remembers it, since what was numbered so far is in no table yet.
    async fn count_on(&mut self, member: Member, next: &mut Option<Id>, wanted: Option<Id>) -> Result<Id, Failure> {
        let id = match (wanted, *next) {
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => self.next_id(member, None).await?,
        };
        let after = id.checked_add(1);
        // A number somebody gave counts only where it is beyond those in use.
        if wanted.is_none() || next.is_some_and(|known| known <= id) {
            *next = after;
        } else if next.is_none() {
            let free = self.next_id(member, None).await?;
            *next = after.map(|after| after.max(free));
        }
        Ok(id)
    }

    /// The sequences that belong to columns of the tables, each with the table's name.
    async fn sequences_of_all(
        &mut self,
        origin: Id,
        places: &[(String, i32)],
    ) -> Result<Vec<(String, Relation)>, Failure> {
        let tables: Vec<(String, String)> = places
            .iter()
            .filter_map(|(name, _)| {
                let (schema, relation) = admin::read_name(name)?;
                Some((name.clone(), quoted(&schema, &relation)))
            })
            .collect();
        let session = self.connections.session(origin).await?;
        admin::sequences_of_tables(session, &tables)
            .await
            .map_err(Failure::of_query("sequences of the tables' columns"))
    }

    async fn submit_tables(
        &mut self,
        origin: Id,
        set: Id,
        tables: &[NewMember],
        sequences: &[(i32, NewMember)],
        waits: bool,
    ) -> Result<(), Failure> {
        if tables.is_empty() && sequences.is_empty() {
            return Ok(());
        }
        if !self.connections.rehearses() {
            let call = admin::add_tables(&self.cluster, set, tables, sequences, waits);
            return self.submit_addition(origin, call).await;
        }
        let mut left = sequences.iter().peekable();
        for place in 0..=tables.len() {
            if let Some(table) = place.checked_sub(1).and_then(|at| tables.get(at)) {
                let index = self.row_identity(origin, &table.name, table.key.as_deref()).await?;
                let call = admin::set_add_table(&self.cluster, set, table.id, &table.name, &index, &table.comment);
                self.submit_addition(origin, call).await?;
            }
            let mut here = Vec::new();
            while let Some((_, sequence)) = left.next_if(|(at, _)| usize::try_from(*at).is_ok_and(|at| at <= place)) {
                here.push(sequence.clone());
            }
            self.report.quiet(true);
            self.submit_sequences(origin, set, &here).await?;
            self.report.quiet(false);
        }
        Ok(())
    }

    async fn submit_sequences(&mut self, origin: Id, set: Id, sequences: &[NewMember]) -> Result<usize, Failure> {
        if sequences.is_empty() {
            return Ok(0);
        }
        if !self.connections.rehearses() {
            let call = admin::add_sequences(&self.cluster, set, sequences);
            self.submit_addition(origin, call).await?;
            return Ok(sequences.len());
        }
        for sequence in sequences {
            let call = admin::set_add_sequence(&self.cluster, set, sequence.id, &sequence.name, &sequence.comment);
            self.submit_addition(origin, call).await?;
        }
        Ok(sequences.len())
    }

    async fn submit_addition(&mut self, origin: Id, call: admin::Call) -> Result<(), Failure> {
        self.submit(Submission {
            node: origin,
            locks: Locks::None,
            call,
            leads: Leads::Yes,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_grammar::{ParseOptions, parse_text};

    fn together(script: &str) -> usize {
        let text = format!("cluster name = c; node 1 admin conninfo = 'host=x'; {script}");
        let parsed = parse_text("s", text, &ParseOptions::default());
        parsed
            .script
            .map_or(0, |script| statements_together(&script.statements))
    }

    fn add(set: i32, id: usize) -> String {
        format!("set add table (set id = {set}, origin = 1, id = {id}, fully qualified name = 'public.t{id}');")
    }

    #[test]
    fn single_members_of_one_set_are_added_together_up_to_a_bound() {
        let list: String = (1..=3).map(|id| add(1, id)).collect();
        assert_eq!(together(&list), 3);
        assert_eq!(together(&format!("{list}{}", add(2, 9))), 3, "another set");
        assert_eq!(
            together(&format!("{list}sync (id = 1);{}", add(1, 9))),
            3,
            "something in between"
        );
        assert_eq!(together("sync (id = 1);"), 0);
        assert_eq!(
            together("set add table (set id = 1, origin = 1, tables = 'x');"),
            0,
            "a pattern is many by itself"
        );
        let many: String = (1..=300).map(|id| add(1, id)).collect();
        assert_eq!(together(&many), MOST);
    }
}
