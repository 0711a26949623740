//! Names that need quoting, wherever a name can stand.

use std::fmt::Write as _;

use trunkline_sql::quote_ident;
use trunkline_tests::{Cluster, full_name};

/// Schemas, tables, columns and sequences are all called like this.
const NAMES: &[&str] = &[
    "UPPER Case",
    "with.dots.in.it",
    "select",
    "it's \"quoted\"",
    "back\\slash % $1 @NAME ;",
    "tab\tand\nnewline",
    "-- /* no comment */",
    "Größe 漢字",
    "_underscore",
    "64 bytes are one too many, so this name has sixty-three of them",
    "ééééééééééééééééééééééééééééééx",
];

async fn names_survive(test: &str, cluster_name: &str) {
    let cluster = Cluster::named(test, cluster_name, 3).await;
    let (mut create, mut tables, mut sequences, mut change) = (String::new(), Vec::new(), Vec::new(), String::new());
    for name in NAMES {
        let n = quote_ident(name);
        let (table, sequence) = (full_name(name, name), full_name(name, "seq"));
        let _ = write!(
            create,
            "create schema {n}; create table {n}.{n} ({n} int primary key, \"a column\" text, \"order\" int);
             create sequence {n}.seq; create table {n}.named_key (a int, {n} int not null, b text);
             create unique index \"Unique {}\" on {n}.named_key ({n});",
            name.chars().take(20).collect::<String>().replace('"', "\"\"")
        );
        let _ = write!(change,
            "insert into {n}.{n} select i, 'x', nextval({}) from generate_series(1, 20) i; update {n}.{n} set \"a column\" = 'y' where {n} > 10;
             update {n}.{n} set {n} = {n} + 100 where {n} % 2 = 0; delete from {n}.{n} where {n} = 1;",
            trunkline_sql::quote_literal(&sequence)
        );
        tables.push(table);
        sequences.push(sequence);
    }
    cluster.run_on_all(&create).await;
    cluster.run(1, &change).await;
    cluster.establish().await;
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let sequences: Vec<&str> = sequences.iter().map(String::as_str).collect();
    cluster.create_set(1, 1, &tables, &sequences).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    for (name, table) in NAMES.iter().zip(&tables) {
        let key = quote_ident(name);
        cluster.run(1, &format!("insert into {table} select i, null, i from generate_series(1001, 1010) i; update {table} set {key} = -{key} where {key} > 1005; delete from {table} where {key} = 3")).await;
    }
    cluster.run(1, &format!("truncate {}", tables[3])).await;
    cluster.assert_all_equal().await;
    cluster.move_set(1, 1, 2).await;
    cluster
        .run(
            2,
            &change.replace("generate_series(1, 20)", "generate_series(5001, 5020)"),
        )
        .await;
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_quoting_are_replicated() {
    names_survive("quoted", "e2e").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_name_may_have_upper_case_and_accents() {
    names_survive("clustername", "Größe_$1_UPPER").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_name_may_have_62_bytes() {
    names_survive("longname", &format!("Long{}", "x".repeat(58))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_unique_index_with_a_quoted_name_is_the_key() {
    let cluster = Cluster::new("quotedkey", 2).await;
    let create = r#"create table "T" ("The Key" text not null, v int, "Other" int not null);
         create unique index "The ""Index""" on "T" ("The Key", "Other")"#;
    cluster.run_on_all(create).await;
    cluster.establish().await;
    cluster
        .slonik(
            r#"create set (id = 1, origin = 1);
               set add table (set id = 1, origin = 1, id = 1, fully qualified name = 'public."T"', key = 'The "Index"');"#,
        )
        .await
        .succeeds();
    cluster.subscribe(1, 1, 1, 2).await;
    cluster
        .run(
            1,
            r#"insert into "T" values ('a', 1, 1), ('a', 1, 2), (E'\\', 1, 3); update "T" set v = 2 where "Other" = 2;
               update "T" set "The Key" = 'b' where "Other" = 1; delete from "T" where "Other" = 3"#,
        )
        .await;
    cluster.assert_all_equal().await;
    assert_eq!(
        cluster.connect(2).await.rows(r#"select * from "T" order by 3"#).await,
        ["b|1|1", "a|2|2"]
    );
}
