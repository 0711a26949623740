//! Where a user's own trigger fires: what `store trigger` and `drop trigger` of Slony-I 1.x meant, in PostgreSQL's terms.

use tokio_postgres::Client;

use crate::Cluster;

/// Where a trigger fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firing {
    /// On the origin, and on subscribers when changes are applied (`enable always`).
    Everywhere,
    /// On the origin only (`enable`).
    OriginOnly,
}

/// A statement for every node that sets where a trigger fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerScript {
    /// The statement. It does nothing on a node whose table lacks the trigger: in Slony-I 1.x some nodes had it and others
    /// had not, and a statement that fails on a node stops its replication.
    pub sql: String,
    /// The table, as it is written in SQL.
    pub table: String,
    /// Whether the node that was asked has the trigger.
    pub present: bool,
}

/// Makes the statement; None: this node knows no replicated table with that number.
pub async fn trigger_script(
    client: &Client,
    cluster: &Cluster,
    table: i32,
    trigger: &str,
    firing: Firing,
) -> Result<Option<TriggerScript>, tokio_postgres::Error> {
    let sql = cluster.sql(
        "select
            pg_catalog.format('do %L;', pg_catalog.format(
                'begin
    if exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid operator(pg_catalog.=) pg_catalog.to_regclass(%1$L)
            and t.tgname operator(pg_catalog.=) %2$L and not t.tgisinternal
    ) then
        alter table %1$s %3$s trigger %2$I;
    end if;
end',
                named.qualified, $2::text, $3::text
            )),
            named.qualified,
            exists (
                select from pg_catalog.pg_trigger t
                where t.tgrelid = pg_catalog.to_regclass(named.qualified) and t.tgname = $2::text and not t.tgisinternal
            )
        from (
            select pg_catalog.format('%I.%I', tab_nspname, tab_relname) as qualified
            from @NAMESPACE@.sl_table
            where tab_id = $1
        ) named",
    );
    let clause = match firing {
        Firing::Everywhere => "enable always",
        Firing::OriginOnly => "enable",
    };
    let row = client.query_opt(&sql, &[&table, &trigger, &clause]).await?;
    row.map(|row| {
        Ok(TriggerScript {
            sql: row.try_get(0)?,
            table: row.try_get(1)?,
            present: row.try_get(2)?,
        })
    })
    .transpose()
}
