//! What the local catalog says about a replicated table: columns, types, key, triggers that fire on a replica.

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::{Cluster, quote_ident};

/// How values of a column travel to the server in bulk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Binary array of 16-bit integers.
    Int2,
    /// Binary array of 32-bit integers.
    Int4,
    /// Binary array of 64-bit integers.
    Int8,
    /// Binary `text[]`, assigned as it is: text, varchar, char(n).
    Text,
    /// An array literal of the column's own type, read by the type's input function.
    Literal,
    /// Binary `text[]` with a cast: arrays, domains, composites, types without a plain array type.
    Cast,
}

/// A column of the local table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Unquoted name.
    pub name: String,
    /// Qualified and quoted type name without modifiers.
    pub type_name: String,
    /// Qualified and quoted name of the type's array type, where there is one.
    pub array_type: Option<String>,
    /// How values travel in bulk.
    pub transport: Transport,
    /// Computed by the server: never written.
    pub generated: bool,
    /// `generated always as identity`: written on insert only.
    pub identity_always: bool,
    /// Whether equal values always have equal texts in the log, so that keys may be compared as text.
    pub text_is_canonical: bool,
    /// Equality operator of the identifying index (`operator(s.=)`), for key columns.
    pub equals: Option<String>,
}

/// A local table that changes are applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Local oid.
    pub oid: u32,
    /// Quoted `schema.name`.
    pub qualified: String,
    /// Columns in table order, dropped ones left out.
    pub columns: Vec<Column>,
    /// Positions in `columns` of the key of `sl_table.tab_idxname`, in table order; empty if the table is not in `sl_table`.
    pub key: Vec<usize>,
    /// Triggers of the user's own fire on the replica (`enable replica` or `enable always`).
    pub fires_triggers: bool,
    by_name: HashMap<String, usize>,
}

impl Relation {
    /// Assembles a relation.
    #[must_use]
    pub fn new(oid: u32, qualified: String, columns: Vec<Column>, fires_triggers: bool) -> Self {
        let by_name = columns
            .iter()
            .enumerate()
            .map(|(index, column)| (column.name.clone(), index))
            .collect();
        let key = (0..columns.len())
            .filter(|index| columns[*index].equals.is_some())
            .collect();
        Self {
            oid,
            qualified,
            columns,
            key,
            fires_triggers,
            by_name,
        }
    }

    /// Position of a column.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether changes of this table may be folded: it has a key whose text identifies the row, and nobody
    /// watches the order.
    #[must_use]
    pub fn is_foldable(&self) -> bool {
        !self.fires_triggers
            && !self.key.is_empty()
            && self
                .key
                .iter()
                .all(|position| self.columns[*position].text_is_canonical)
    }
}

/// Types whose text in the log is the same for equal values whatever the writer's settings: int2, int4, int8, text,
/// varchar, char(n), uuid, numeric, bool, date, timestamp, oid, name, "char". Enums are added by kind.
/// Not among them: timestamptz (the writer's zone), bytea, floats and intervals of nodes run by Slony's C trigger.
const CANONICAL: [u32; 14] = [21, 23, 20, 25, 1043, 1042, 2950, 1700, 16, 1082, 1114, 26, 19, 18];

/// Looks up local tables by unquoted schema and name; absent ones are left out of the result.
///
/// # Errors
/// Any database error.
pub async fn describe(
    client: &Client,
    cluster: &Cluster,
    server_version: i32,
    names: &[(&str, &str)],
) -> Result<HashMap<(String, String), Relation>, tokio_postgres::Error> {
    let generated = if server_version >= 120_000 {
        "a.attgenerated <> ''"
    } else {
        "false"
    };
    let sql = cluster.sql(&format!(
        "select n.nspname::text, c.relname::text, c.oid, a.attname::text,
                exists (select 1 from pg_catalog.pg_trigger g
                         where g.tgrelid = c.oid and g.tgenabled in ('A', 'R') and not g.tgisinternal),
                a.atttypid, t.typtype::text, tn.nspname::text, t.typname::text,
                an.nspname::text, at.typname::text, t.typdelim::text, t.typelem <> 0 and t.typlen = -1,
                {generated}, a.attidentity::text = 'a', k.operator_schema, k.operator_name
           from unnest($1::text[], $2::text[]) as w (nspname, relname)
           join pg_catalog.pg_namespace n on n.nspname = w.nspname
           join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.relname
                                     and c.relkind in ('r', 'p')
           join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           join pg_catalog.pg_type t on t.oid = a.atttypid
           join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
           left join pg_catalog.pg_type at on at.oid = t.typarray
           left join pg_catalog.pg_namespace an on an.oid = at.typnamespace
           left join lateral (
                select opn.nspname::text as operator_schema, op.oprname::text as operator_name
                  from @NAMESPACE@.sl_table st
                  join pg_catalog.pg_class ic on ic.relname = st.tab_idxname and ic.relnamespace = c.relnamespace
                  join pg_catalog.pg_index i on i.indexrelid = ic.oid and i.indrelid = c.oid
                 cross join lateral pg_catalog.generate_series(0, i.indnatts - 1) as p (ord)
                  join pg_catalog.pg_opclass oc on oc.oid = i.indclass[p.ord]
                  join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3
                                            and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
                  join pg_catalog.pg_operator op on op.oid = ao.amopopr
                  join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace
                 where st.tab_reloid = c.oid and i.indkey[p.ord] = a.attnum
                 limit 1) k on true
          order by c.oid, a.attnum"
    ));
    let (schemas, tables): (Vec<&str>, Vec<&str>) = names.iter().copied().unzip();
    let mut found: HashMap<(String, String), (u32, bool, Vec<Column>)> = HashMap::new();
    for row in client.query(&sql, &[&schemas, &tables]).await? {
        let type_oid: u32 = row.try_get(5)?;
        let kind: String = row.try_get(6)?;
        let (type_schema, type_name): (String, String) = (row.try_get(7)?, row.try_get(8)?);
        let (array_schema, array_name): (Option<String>, Option<String>) = (row.try_get(9)?, row.try_get(10)?);
        let delimiter: String = row.try_get(11)?;
        let is_array: bool = row.try_get(12)?;
        let (operator_schema, operator_name): (Option<String>, Option<String>) = (row.try_get(15)?, row.try_get(16)?);
        let array_type = array_schema
            .zip(array_name)
            .map(|(s, n)| format!("{}.{}", quote_ident(&s), quote_ident(&n)));
        let transport = match type_oid {
            21 => Transport::Int2,
            23 => Transport::Int4,
            20 => Transport::Int8,
            25 | 1042 | 1043 => Transport::Text,
            // Composites would be spread over several columns by unnest().
            _ if is_array || matches!(kind.as_str(), "c" | "d" | "p") || delimiter != "," || array_type.is_none() => {
                Transport::Cast
            }
            _ => Transport::Literal,
        };
        let column = Column {
            name: row.try_get(3)?,
            type_name: format!("{}.{}", quote_ident(&type_schema), quote_ident(&type_name)),
            array_type,
            transport,
            generated: row.try_get(13)?,
            identity_always: row.try_get(14)?,
            text_is_canonical: kind == "e" || CANONICAL.contains(&type_oid),
            equals: operator_schema
                .zip(operator_name)
                .map(|(s, n)| format!("operator({}.{n})", quote_ident(&s))),
        };
        let name: (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (oid, fires): (u32, bool) = (row.try_get(2)?, row.try_get(4)?);
        found
            .entry(name)
            .or_insert_with(|| (oid, fires, Vec::new()))
            .2
            .push(column);
    }
    Ok(found
        .into_iter()
        .map(|((schema, name), (oid, fires, columns))| {
            let qualified = format!("{}.{}", quote_ident(&schema), quote_ident(&name));
            ((schema, name), Relation::new(oid, qualified, columns, fires))
        })
        .collect())
}
