//! What a node's catalog says about a table that is to be compared.

use tokio_postgres::Client;

use crate::quote_ident;

/// A column of a table that is to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeColumn {
    /// Unquoted name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// Qualified and quoted type name, for casts.
    pub type_name: String,
    /// Holds no null for certain: declared not null, and (version 18) not with a constraint that rows were never checked against.
    pub not_null: bool,
    /// Computed by the server and stored: not written, but compared.
    pub generated: bool,
    /// Equality operator of the identifying index, qualified; None: not a column of the key.
    pub equals: Option<String>,
}

/// A table as one node has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableShape {
    /// Unquoted schema.
    pub schema: String,
    /// Unquoted name.
    pub name: String,
    /// Columns with values of their own, in table order.
    pub columns: Vec<ShapeColumn>,
    /// Positions of the key's columns, in the order of the index; empty if the node lacks the index.
    pub key: Vec<usize>,
    /// Whether ranges of the key can be read through the index by plain comparisons.
    pub walkable: bool,
    /// The planner's guess of the number of rows; negative: unknown.
    pub rows: f32,
    /// Bytes on disk, with values stored out of line, without indexes.
    pub bytes: i64,
    /// How far the order of the rows on disk follows the first column of the key, -1 to 1; None: not known.
    pub correlation: Option<f32>,
}

impl TableShape {
    /// Quoted `schema.name`.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ShapeColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Names of the key's columns, in the order of the index.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|position| self.columns[*position].name.as_str())
    }

    /// Reads the shape of a table; None if the node has no such table. `index` is the name of the identifying index.
    ///
    /// # Errors
    /// Any database error.
    pub async fn read(
        client: &Client,
        server_version: i32,
        schema: &str,
        name: &str,
        index: &str,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let (generated, virtual_column) = if server_version >= 120_000 {
            ("a.attgenerated <> ''", "a.attgenerated = 'v'")
        } else {
            ("false", "false")
        };
        let key_columns = if server_version >= 110_000 {
            "x.indnkeyatts"
        } else {
            "x.indnatts"
        };
        let sql = format!(
            "select a.attname::pg_catalog.text, a.atttypid,
                    pg_catalog.format('%I.%I', tn.nspname, t.typname),
                    a.attnotnull and not exists (select from pg_catalog.pg_constraint nn where nn.conrelid = c.oid
                        and nn.contype = 'n' and nn.conkey[1] = a.attnum and not nn.convalidated),
                    {generated},
                    k.place, k.equals, coalesce(k.plain, false), coalesce(k.descending, false),
                    c.reltuples, pg_catalog.pg_table_size(c.oid),
                    (select s.correlation from pg_catalog.pg_stats s
                      where s.schemaname = $1 and s.tablename = $2 and s.attname = a.attname and not s.inherited)
               from pg_catalog.pg_namespace n
               join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               join pg_catalog.pg_type t on t.oid = a.atttypid
               join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
               left join lateral (
                    select p.ord as place,
                           pg_catalog.format('operator(%I.%s)', opn.nspname, op.oprname) as equals,
                           am.amname = 'btree' and oc.opcdefault and ocn.nspname = 'pg_catalog' as plain,
                           (x.indoption[p.ord] & 1) = 1 as descending
                      from pg_catalog.pg_index x
                      join pg_catalog.pg_class ic on ic.oid = x.indexrelid and ic.relname = $3
                      join pg_catalog.pg_am am on am.oid = ic.relam
                     cross join lateral pg_catalog.generate_series(0, {key_columns} - 1) as p (ord)
                      join pg_catalog.pg_opclass oc on oc.oid = x.indclass[p.ord]
                      join pg_catalog.pg_namespace ocn on ocn.oid = oc.opcnamespace
                      join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3
                                                and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
                      join pg_catalog.pg_operator op on op.oid = ao.amopopr
                      join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace
                     where x.indrelid = c.oid and x.indkey[p.ord] = a.attnum
                     limit 1) k on true
              where n.nspname = $1 and c.relname = $2 and not {virtual_column}
              order by a.attnum"
        );
        let rows = client.query(&sql, &[&schema, &name, &index]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let mut shape = Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: Vec::with_capacity(rows.len()),
            key: Vec::new(),
            walkable: true,
            rows: first.try_get(9)?,
            bytes: first.try_get(10)?,
            correlation: None,
        };
        let mut places: Vec<(i32, usize)> = Vec::new();
        let mut directions = Vec::new();
        for (position, row) in rows.iter().enumerate() {
            let place: Option<i32> = row.try_get(5)?;
            if let Some(place) = place {
                places.push((place, position));
                directions.push(row.try_get::<_, bool>(8)?);
                shape.walkable &= row.try_get::<_, bool>(7)?;
                if place == 0 {
                    shape.correlation = row.try_get(11)?;
                }
            }
            shape.columns.push(ShapeColumn {
                name: row.try_get(0)?,
                type_oid: row.try_get(1)?,
                type_name: row.try_get(2)?,
                not_null: row.try_get(3)?,
                generated: row.try_get(4)?,
                equals: row.try_get(6)?,
            });
        }
        places.sort_unstable();
        shape.key = places.into_iter().map(|(_, position)| position).collect();
        shape.walkable &= !shape.key.is_empty() && directions.windows(2).all(|pair| pair[0] == pair[1]);
        Ok(Some(shape))
    }
}
