//! What the catalogs say against a call: tables, keys and sequences that are not there.

use trunkline_grammar::Id;
use trunkline_sql::admin::{self, Call, Value};

use crate::connections::Connections;

/// Most relations named in one line.
const NAMED: usize = 8;

/// Reasons why the call on `node` will fail, or what it causes elsewhere, read from the catalogs. A node that cannot be
/// asked gives none.
pub(crate) async fn examine(connections: &mut Connections, node: Id, call: &Call) -> Vec<String> {
    let found = match (call.stored_function(), call.arguments()) {
        (Some("setAddTable"), [_, _, Value::Text(name), Value::Text(key), ..]) => {
            table(connections, node, name, key).await
        }
        (Some("setAddSequence"), [_, _, Value::Text(name), ..]) => sequence(connections, node, name).await,
        (Some("subscribeSet"), [Value::Int(set), _, Value::Int(receiver), ..]) => {
            let (Ok(set), Ok(receiver)) = (Id::try_from(*set), Id::try_from(*receiver)) else {
                return Vec::new();
            };
            members_on(connections, node, set, receiver).await
        }
        _ => return Vec::new(),
    };
    found.unwrap_or_else(|error| {
        vec![format!(
            "the catalogs cannot be read: {}",
            trunkline_sql::error_text(&error)
        )]
    })
}

type Reasons = Result<Vec<String>, tokio_postgres::Error>;

async fn table(connections: &Connections, node: Id, written: &str, key: &str) -> Reasons {
    let (Some(session), Some((schema, name))) = (connections.open_session(node), admin::read_name(written)) else {
        return Ok(Vec::new());
    };
    let Some(facts) = admin::relation_facts(session, &schema, &name).await? else {
        return Ok(vec![format!(
            "table {schema}.{name} does not exist on node {node}; upper and lower case matter, also without quotes"
        )]);
    };
    if !matches!(facts.kind.as_str(), "r" | "p") {
        return Ok(vec![format!("{schema}.{name} is no table")]);
    }
    let known = if key.is_empty() {
        facts.keys.iter().find(|known| known.primary)
    } else {
        facts.keys.iter().find(|known| known.name == key)
    };
    let Some(known) = known else {
        return Ok(vec![if key.is_empty() {
            format!(
                "table {schema}.{name} has no primary key; name another unique index over columns that are not null with `key`"
            )
        } else {
            format!("table {schema}.{name} has no unique index {key} that identifies each of its rows")
        }]);
    };
    if known.nullable.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "{} of index {} of table {schema}.{name} may be null, so it does not identify each row; declare it not null",
        known.nullable.join(", "),
        known.name
    )])
}

async fn sequence(connections: &Connections, node: Id, written: &str) -> Reasons {
    let (Some(session), Some((schema, name))) = (connections.open_session(node), admin::read_name(written)) else {
        return Ok(Vec::new());
    };
    Ok(match admin::relation_facts(session, &schema, &name).await? {
        None => vec![format!("sequence {schema}.{name} does not exist on node {node}")],
        Some(facts) if facts.kind != "S" => vec![format!("{schema}.{name} is no sequence")],
        Some(_) => Vec::new(),
    })
}

/// The receiver must have every table and sequence of the set, or the copy can never be made.
async fn members_on(connections: &mut Connections, node: Id, set: Id, receiver: Id) -> Reasons {
    let Some(state) = connections
        .rehearsal()
        .and_then(|rehearsal| rehearsal.forecast.state(node))
    else {
        return Ok(Vec::new());
    };
    let members: Vec<(String, String)> = state
        .tables
        .values()
        .chain(state.sequences.values())
        .filter(|member| member.set == set)
        .map(|member| (member.schema.clone(), member.name.clone()))
        .collect();
    let Some(session) = connections.open_session(receiver) else {
        return Ok(Vec::new());
    };
    let missing = admin::missing_relations(session, &members).await?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let more = if missing.len() > NAMED { " and others" } else { "" };
    let shown: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
    Ok(vec![format!(
        "node {receiver} lacks {}{more}; create what set {set} holds there before it is copied",
        shown.join(", ")
    )])
}
