//! Is this server fit to be a node? Everything is looked at before anything is created, and all reasons are told at once.

use std::fmt;

use tokio_postgres::{GenericClient, SimpleQueryMessage};

use crate::{Cluster, quote_ident};

/// Oldest server supported.
const OLDEST: i32 = 100_000;
/// First server version nobody has tested.
const UNTESTED: i32 = 190_000;

/// What the examination is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A schema is to be created.
    NewNode,
    /// The functions of an existing schema are to be replaced.
    NewFunctions,
}

/// Where `hstore` is or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hstore {
    /// Installed; `usable` if the installing role has USAGE on the schema.
    Installed { schema: String, usable: bool },
    /// Not installed, but this role can create it in an existing schema.
    CreateIn { schema: String },
    /// Not installed, but this role can create it in a schema made for it.
    CreateWithSchema { schema: String },
    /// Not installed; the server offers it, this role may not create it.
    NotAllowed { trusted: bool },
    /// The server does not have it.
    Unavailable,
}

/// Schema made for `hstore` where `public` is not there or not ours.
const HSTORE_SCHEMA: &str = "trunkline_hstore";

impl Hstore {
    /// Name of the schema to refer to.
    pub(crate) fn schema(&self) -> &str {
        match self {
            Self::Installed { schema, .. } | Self::CreateIn { schema } | Self::CreateWithSchema { schema } => schema,
            Self::NotAllowed { .. } | Self::Unavailable => "public",
        }
    }

    /// Statements that create it, if it is not there yet.
    pub(crate) fn creation(&self) -> Option<String> {
        match self {
            Self::CreateIn { schema } => Some(format!("create extension hstore schema {};\n", quote_ident(schema))),
            Self::CreateWithSchema { schema } => {
                let schema = quote_ident(schema);
                Some(format!(
                    "create schema if not exists {schema};\ngrant usage on schema {schema} to public;\ncreate extension hstore schema {schema};\n"
                ))
            }
            Self::Installed { .. } | Self::NotAllowed { .. } | Self::Unavailable => None,
        }
    }
}

/// What the server told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent answers of the server")]
pub(crate) struct Facts {
    pub(crate) schema_exists: bool,
    version: i32,
    version_text: String,
    encoding: String,
    database: String,
    role: String,
    may_create: bool,
    may_set_role: bool,
    pub(crate) read_only: bool,
    in_recovery: bool,
    datestyle: String,
    lc_monetary: String,
    pub(crate) hstore: Hstore,
}

/// Values of `lc_monetary` under which money has one and the same text.
const PORTABLE_MONEY: &[&str] = &["C", "POSIX", "C.UTF-8", "C.utf8", "en_US.UTF-8", "en_US.utf8"];

impl Facts {
    /// Things that do not stand in the way but should be known.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.version >= UNTESTED {
            warnings.push(format!(
                "PostgreSQL {} is newer than the versions this release was tested with (10 to 18)",
                self.version_text
            ));
        }
        warnings
    }

    /// Combinations of role and output settings that sessions of this server usually have and under which every value has an
    /// exact, portable text; spelled as the log trigger concatenates them. Others take its longer way, to the same result.
    pub(crate) fn usual_settings(&self) -> Vec<String> {
        // Before version 12 only 3 is exact, from then on 1 (the default) to 3 are.
        let float_digits: &[&str] = if self.version >= 120_000 {
            &["1", "3", "2"]
        } else {
            &["3"]
        };
        let mut date_styles = vec!["ISO, MDY", "ISO, DMY", "ISO, YMD"];
        date_styles.sort_by_key(|style| *style != self.datestyle);
        let mut money = vec!["C"];
        if self.lc_monetary != "C" && PORTABLE_MONEY.contains(&self.lc_monetary.as_str()) {
            money.insert(0, &self.lc_monetary);
        }
        let mut usual = Vec::new();
        for digits in float_digits {
            for locale in &money {
                for style in &date_styles {
                    usual.push(format!("origin{digits}{style}postgreshex{locale}"));
                }
            }
        }
        usual
    }

    /// Facts of a server that is fit.
    #[cfg(test)]
    pub(crate) fn for_test(hstore: &str) -> Self {
        Self {
            schema_exists: false,
            version: 150_000,
            version_text: "15".to_owned(),
            encoding: "UTF8".to_owned(),
            database: "d".to_owned(),
            role: "r".to_owned(),
            may_create: true,
            may_set_role: true,
            read_only: false,
            in_recovery: false,
            datestyle: "ISO, DMY".to_owned(),
            lc_monetary: "de_DE.UTF-8".to_owned(),
            hstore: Hstore::Installed {
                schema: hstore.to_owned(),
                usable: true,
            },
        }
    }
}

/// One reason why a server cannot be a node, with the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    problem: String,
    remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// Asks the server. One round trip; leaves nothing behind but a transaction-local custom setting.
pub(crate) async fn examine<C: GenericClient>(client: &C, cluster: &Cluster) -> Result<Facts, tokio_postgres::Error> {
    // `SimpleQuery`, because the answer of the block travels in a setting local to the implicit transaction.
    let statement = EXAMINE.replace("@SCHEMA@", &crate::quote_literal(&cluster.schema()));
    let messages = client.simple_query(&statement).await?;
    let row = messages.into_iter().filter_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    // The last row is the answer: the statements before return none.
    let row = row.last();
    let text = |name: &str| {
        row.as_ref()
            .and_then(|r| r.try_get(name).ok().flatten())
            .unwrap_or_default()
            .to_owned()
    };
    let flag = |name: &str| text(name) == "t";
    let hstore = if flag("hstore_installed") {
        Hstore::Installed {
            schema: text("hstore_schema"),
            usable: flag("hstore_usable"),
        }
    } else if !flag("hstore_available") {
        Hstore::Unavailable
    } else if !(flag("superuser") || (flag("hstore_trusted") && flag("may_create"))) {
        Hstore::NotAllowed {
            trusted: flag("hstore_trusted"),
        }
    } else if flag("public_usable") {
        Hstore::CreateIn {
            schema: "public".to_owned(),
        }
    } else {
        Hstore::CreateWithSchema {
            schema: HSTORE_SCHEMA.to_owned(),
        }
    };
    Ok(Facts {
        schema_exists: flag("schema_exists"),
        version: text("version").parse().unwrap_or_default(),
        version_text: text("version_text"),
        encoding: text("encoding"),
        database: text("database"),
        role: text("role"),
        may_create: flag("may_create"),
        may_set_role: flag("may_set_role"),
        read_only: flag("read_only"),
        in_recovery: flag("in_recovery"),
        datestyle: text("datestyle"),
        lc_monetary: text("lc_monetary"),
        hstore,
    })
}

/// The right to set `session_replication_role` is tried, not deduced: managed services have ways of their own to grant it.
/// Setting a parameter to the value it has changes nothing but is checked all the same.
const EXAMINE: &str = "\
do $trunkline$
begin
    perform pg_catalog.set_config('trunkline.may_set_role', 'no', true);
    begin
        perform pg_catalog.set_config('session_replication_role', pg_catalog.current_setting('session_replication_role'), true);
        perform pg_catalog.set_config('trunkline.may_set_role', 'yes', true);
    exception when insufficient_privilege then
        null;
    end;
    -- One broken control file of any extension makes these views fail; then creating it will tell.
    perform pg_catalog.set_config('trunkline.hstore', 'unknown', true);
    if not exists (select from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'hstore') then
        begin
            perform pg_catalog.set_config('trunkline.hstore', coalesce((
                select case when pg_catalog.bool_or(coalesce((pg_catalog.to_jsonb(v) operator(pg_catalog.->>) 'trusted')::boolean, false))
                    then 'trusted' else 'available' end
                from pg_catalog.pg_available_extension_versions v
                where v.name operator(pg_catalog.=) 'hstore'
                group by v.name
            ), 'unavailable'), true);
        exception when others then
            null;
        end;
    end if;
end
$trunkline$;
select pg_catalog.current_setting('server_version_num') as version,
       pg_catalog.current_setting('server_version') as version_text,
       pg_catalog.current_setting('server_encoding') as encoding,
       pg_catalog.current_database() as database,
       current_user as role,
       pg_catalog.current_setting('trunkline.may_set_role') operator(pg_catalog.=) 'yes' as may_set_role,
       pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'on' as read_only,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       pg_catalog.current_setting('datestyle') as datestyle,
       pg_catalog.current_setting('lc_monetary') as lc_monetary,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') as may_create,
       (select r.rolsuper from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) current_user) as superuser,
       exists (select from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) @SCHEMA@) as schema_exists,
       e.oid is not null as hstore_installed,
       n.nspname as hstore_schema,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') as hstore_usable,
       pg_catalog.current_setting('trunkline.hstore') operator(pg_catalog.<>) 'unavailable' as hstore_available,
       pg_catalog.current_setting('trunkline.hstore') operator(pg_catalog.=) 'trusted' as hstore_trusted,
       coalesce((select pg_catalog.has_schema_privilege(p.oid, 'CREATE') and pg_catalog.has_schema_privilege(p.oid, 'USAGE')
                 from pg_catalog.pg_namespace p where p.nspname operator(pg_catalog.=) 'public'), false) as public_usable
from (select) as one
left join pg_catalog.pg_extension e on e.extname operator(pg_catalog.=) 'hstore'
left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.extnamespace
";

/// All reasons against this server, empty if it will do.
pub(crate) fn refusals(facts: &Facts, purpose: Purpose) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |problem: String, remedy: String| refusals.push(Refusal { problem, remedy });
    let role = quote_ident(&facts.role);
    let database = quote_ident(&facts.database);
    if facts.version < OLDEST {
        refuse(
            format!("PostgreSQL {} is too old", facts.version_text),
            "use PostgreSQL 10 or newer".to_owned(),
        );
    }
    if matches!(facts.encoding.as_str(), "SQL_ASCII" | "MULE_INTERNAL") {
        refuse(
            format!(
                "database {database} has the encoding {}, whose text cannot be converted to UTF-8",
                facts.encoding
            ),
            "re-create the database with encoding UTF8 (or any other that PostgreSQL can convert)".to_owned(),
        );
    }
    if facts.in_recovery {
        refuse(
            "the server is a standby (in recovery) and accepts no writes".to_owned(),
            "give the conninfo of the primary server, for example with `target_session_attrs=read-write`".to_owned(),
        );
    } else if facts.read_only {
        refuse(
            "transactions are read only here".to_owned(),
            format!(
                "run `alter role {role} set default_transaction_read_only to off` or look for the setting in the conninfo, the database or the server"
            ),
        );
    }
    if purpose == Purpose::NewNode && !facts.may_create {
        refuse(
            format!("role {role} may not create a schema in database {database}"),
            format!("run as its owner or a superuser: `grant create on database {database} to {role}`"),
        );
    }
    if !facts.may_set_role {
        let remedy = if facts.version >= 150_000 {
            format!("run as a superuser: `grant set on parameter session_replication_role to {role}`")
        } else {
            format!(
                "before PostgreSQL 15 only superusers may (`alter role {role} superuser`); on Amazon RDS run `grant rds_superuser to {role}`, elsewhere use the administrator's role of the service"
            )
        };
        refuse(
            format!("role {role} may not set `session_replication_role`, which every replica needs"),
            remedy,
        );
    }
    match &facts.hstore {
        Hstore::Installed { schema, usable: false } => {
            let schema = quote_ident(schema);
            refuse(
                format!("role {role} may not use schema {schema}, where extension `hstore` is installed"),
                format!("run as its owner: `grant usage on schema {schema} to {role}`"),
            );
        }
        Hstore::NotAllowed { trusted } => refuse(
            format!("extension `hstore` is not installed in database {database} and role {role} may not create it"),
            if *trusted {
                format!("run as a superuser: `create extension hstore`, or `grant create on database {database} to {role}`")
            } else {
                format!("run in database {database} as a superuser: `create extension hstore`")
            },
        ),
        Hstore::Unavailable => refuse(
            "the server does not have the extension `hstore`".to_owned(),
            "install PostgreSQL's contrib package (Debian: part of `postgresql-NN`, RHEL: `postgresqlNN-contrib`), then try again".to_owned(),
        ),
        Hstore::Installed { usable: true, .. } | Hstore::CreateIn { .. } | Hstore::CreateWithSchema { .. } => {}
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_told_at_once() {
        let facts = Facts {
            may_create: false,
            may_set_role: false,
            encoding: "SQL_ASCII".to_owned(),
            hstore: Hstore::Unavailable,
            ..Facts::for_test("public")
        };
        let text: Vec<String> = refusals(&facts, Purpose::NewNode)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(text.len(), 4, "{text:#?}");
        assert!(
            text[2].contains("`grant set on parameter session_replication_role to \"r\"`"),
            "{text:#?}"
        );
        assert_eq!(refusals(&facts, Purpose::NewFunctions).len(), 3);
        assert!(refusals(&Facts::for_test("public"), Purpose::NewNode).is_empty());
    }

    #[test]
    fn only_exact_settings_are_usual() {
        let facts = Facts {
            version: 110_000,
            ..Facts::for_test("public")
        };
        assert_eq!(
            facts.usual_settings(),
            [
                "origin3ISO, DMYpostgreshexC",
                "origin3ISO, MDYpostgreshexC",
                "origin3ISO, YMDpostgreshexC"
            ]
        );
    }
}
