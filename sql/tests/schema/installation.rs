//! Who may install, what is refused, what is left behind.

use std::process::Command;

use trunkline_sql::install::{self, InstallError};
use trunkline_sql::{Cluster, Session, SessionOptions};

use crate::{Connection, database, node, replicate, server, superuser};

#[tokio::test]
async fn an_ordinary_owner_installs_and_keeps_his_settings() {
    database("inst").await;
    superuser("inst").await.run("create schema elsewhere; create extension hstore schema elsewhere; grant usage on schema elsewhere to keeper").await;
    let mut connection = Connection::open("inst", "keeper").await;
    connection
        .run("set search_path to x, public; set standard_conforming_strings to off")
        .await;
    let cluster = connection.cluster.clone();
    install::install(&mut connection.session, &cluster).await.unwrap();
    assert_eq!(connection.value("show search_path").await, "x, public");
    assert_eq!(connection.value("show standard_conforming_strings").await, "off");
    assert_eq!(
        connection.value("select @NAMESPACE@.getModuleVersion()").await,
        "2.2.11"
    );
    assert_eq!(
        connection.refusal("select @NAMESPACE@.getLocalNodeId(@CLUSTER@)").await,
        format!("Slony-I: Node is uninitialized - cluster {}", cluster.schema())
    );
    assert!(
        connection
            .refusal("select @NAMESPACE@.getLocalNodeId('_other')")
            .await
            .contains("does not exist")
    );
    let again = install::install(&mut connection.session, &cluster).await.unwrap_err();
    assert!(matches!(again, InstallError::SchemaExists { .. }), "{again}");
    let everybodys = connection
        .value("select count(*) from pg_catalog.pg_proc p, lateral (select 1 where not pg_catalog.has_function_privilege('app', p.oid, 'execute')) x
                where p.pronamespace = (select oid from pg_catalog.pg_namespace where nspname = @CLUSTER@)")
        .await;
    assert_eq!(everybodys, "0");
    install::install_functions(&*connection.session, &cluster)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unsuitable_database_is_refused_with_all_reasons_and_untouched() {
    database("unfit").await;
    let conninfo = format!("{} dbname=unfit user=app", server::shared().conninfo());
    let mut session = Session::connect(&conninfo, &SessionOptions::default()).await.unwrap();
    let refusal = install::install(&mut session, &Cluster::new("c").unwrap())
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "`grant create on database \"unfit\" to \"app\"`",
        "may not set `session_replication_role`",
        "extension `hstore` is not installed in database \"unfit\"",
    ] {
        assert!(refusal.contains(part), "{part} is missing in\n{refusal}");
    }
    assert_eq!(refusal.lines().count(), 3, "{refusal}");
    let admin = superuser("unfit").await;
    assert_eq!(
        admin
            .rows("select 1 from pg_catalog.pg_namespace where nspname = '_c'")
            .await,
        Vec::<String>::new()
    );

    admin
        .run("create database ascii template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'")
        .await;
    let mut ascii = superuser("ascii").await;
    let refusal = install::install(&mut ascii.session, &Cluster::new("c").unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("SQL_ASCII"), "{refusal}");
    ascii.run("set default_transaction_read_only to on").await;
    let refusal = install::install(&mut ascii.session, &Cluster::new("c").unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("read only"), "{refusal}");
}

#[tokio::test]
async fn hstore_gets_a_schema_of_its_own_where_public_is_missing() {
    database("nopublic").await;
    superuser("nopublic").await.run("drop schema public").await;
    let mut connection = superuser("nopublic").await;
    let cluster = connection.cluster.clone();
    install::install(&mut connection.session, &cluster).await.unwrap();
    assert_eq!(
        connection
            .value("select extnamespace::regnamespace from pg_catalog.pg_extension where extname = 'hstore'")
            .await,
        "trunkline_hstore"
    );
}

#[tokio::test]
async fn uninstall_leaves_no_trigger_and_works_inside_a_transaction() {
    let connection = node("uninst").await;
    connection.run("create table public.t (id int primary key)").await;
    replicate(&connection, 1, "public.t").await;
    assert_eq!(
        connection
            .value("select count(*) from pg_catalog.pg_trigger where tgrelid = 'public.t'::regclass")
            .await,
        "8"
    );
    let cluster = connection.cluster.clone();
    connection.run("begin").await;
    install::uninstall(&*connection.session, &cluster).await.unwrap();
    connection.run("rollback").await;
    assert_eq!(
        connection
            .value("select count(*) from pg_catalog.pg_trigger where tgrelid = 'public.t'::regclass")
            .await,
        "8"
    );
    install::uninstall(&*connection.session, &cluster).await.unwrap();
    assert_eq!(
        connection
            .value("select count(*) from pg_catalog.pg_trigger where tgrelid = 'public.t'::regclass")
            .await,
        "0"
    );
    let gone = install::uninstall(&*connection.session, &cluster).await.unwrap_err();
    assert!(matches!(gone, InstallError::SchemaMissing { .. }), "{gone}");
}

#[tokio::test]
async fn long_cluster_names_keep_their_objects_apart() {
    database("longname").await;
    let mut connection = superuser("longname").await;
    connection.run("create table public.t (id int primary key)").await;
    for last in ["ä", "b"] {
        connection.cluster = Cluster::new(&format!("{}{last}", "ö".repeat(30))).unwrap();
        let cluster = connection.cluster.clone();
        install::install(&mut connection.session, &cluster).await.unwrap();
        connection
            .run("select @NAMESPACE@.initializeLocalNode(1, 'one'), @NAMESPACE@.storeSet(1, 'set')")
            .await;
        replicate(&connection, 1, "public.t").await;
    }
    let names = connection
        .rows("select octet_length(tgname), tgname like '%logtrigger' from pg_catalog.pg_trigger where tgrelid = 'public.t'::regclass and tgname like '%logtrigger'")
        .await;
    assert_eq!(names.len(), 2, "{names:?}");
    connection.run("insert into public.t values (1)").await;
    assert_eq!(connection.log().await, ["1|I|0|{id,1}"]);
}

#[tokio::test]
async fn a_dump_restores_as_plain_sql() {
    let dump = server::find_binaries().join("pg_dump");
    if !dump.exists() {
        eprintln!("not tested: there is no {}", dump.display());
        return;
    }
    let connection = node("dumped").await;
    connection
        .run("create table public.t (id int primary key, v text); create sequence public.s")
        .await;
    replicate(&connection, 1, "public.t").await;
    connection
        .run("select @NAMESPACE@.setAddSequence(1, 1, 'public.s', 's')")
        .await;
    connection.run("insert into public.t values (1, 'before')").await;
    database("restored").await;
    let output = Command::new(dump)
        .args([
            "--no-owner",
            "--inserts",
            "-d",
            &format!("{} dbname=dumped", server::shared().conninfo()),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // newer versions put commands of psql into the text
    let text = String::from_utf8(output.stdout).unwrap();
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('\\')).collect();
    let copy = superuser("restored").await;
    copy.session.batch_execute(&text.join("\n")).await.unwrap();
    copy.run("reset all").await;
    assert_eq!(copy.value("select @NAMESPACE@.getLocalNodeId(@CLUSTER@)").await, "1");
    assert_eq!(copy.value("select @NAMESPACE@.slon_node_health_check()").await, "f");
    copy.run("select @NAMESPACE@.updateReloid(1, -1)").await;
    assert_eq!(copy.value("select @NAMESPACE@.slon_node_health_check()").await, "t");
    copy.run("update public.t set v = 'after'").await;
    copy.run("select @NAMESPACE@.createEvent(@CLUSTER@, 'SYNC')").await;
    assert_eq!(copy.log().await, ["1|I|0|{id,1,v,before}", "1|U|1|{v,after,id,1}"]);
}
