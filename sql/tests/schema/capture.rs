//! Log rows in the original's form, whatever the writer does.

use crate::{Connection, node, replicate};

/// Both kinds of capture by functions written for a table.
const MODES: &[&str] = &["statement", "row"];

async fn table(name: &str, mode: &str) -> Connection {
    let connection = node(&format!("{name}_{mode}")).await;
    connection
        .run(
            "create table public.t (id int primary key, a text, b numeric(6, 2));
             create table public.two (a text, k1 int, b int, k2 text, primary key (k2, k1));
             grant all on public.t, public.two to app",
        )
        .await;
    replicate(&connection, 1, "public.t").await;
    replicate(&connection, 2, "public.two").await;
    for id in [1, 2] {
        let chosen = format!("select @NAMESPACE@.tl_capture_mode({id}, '{mode}')");
        assert_eq!(connection.value(&chosen).await, mode);
    }
    connection
}

#[tokio::test]
async fn rows_are_logged_in_slonys_form() {
    for mode in MODES {
        let connection = table("golden", mode).await;
        connection
            .run(
                r#"insert into public.t values (10, 'it''s a \ "x", {y}', 1.5), (12, '', null);
               update public.t set a = 'new' where id = 10;
               update public.t set a = a where id = 10;
               update public.t set id = 11, b = null where id = 10;
               delete from public.t;
               insert into public.two values ('a', 1, 2, 'k');
               update public.two set k1 = 2;
               delete from public.two;
               truncate public.t, public.two"#,
            )
            .await;
        assert_eq!(
            connection.log().await,
            [
                r#"1|I|0|{id,10,a,"it's a \\ \"x\", {y}",b,1.50}"#,
                r#"1|I|0|{id,12,a,"",b,NULL}"#,
                "1|U|1|{a,new,id,10}",
                "1|U|0|{id,10}",
                "1|U|2|{b,NULL,id,11,id,10}",
                "1|D|0|{id,12}",
                "1|D|0|{id,11}",
                "2|I|0|{a,a,k1,1,b,2,k2,k}",
                "2|U|1|{k1,2,k1,1,k2,k}",
                "2|D|0|{k1,2,k2,k}",
                "1|T|0|{}",
                "2|T|0|{}",
            ]
        );
        assert_eq!(
        connection
            .rows("select distinct log_origin, log_tablenspname, log_tablerelname, log_txid <= txid_current() from @NAMESPACE@.sl_log_1 order by 3")
            .await,
        ["1|public|t|t", "1|public|two|t"]
    );
    }
}

#[tokio::test]
async fn only_what_commits_is_logged_and_under_the_transactions_id() {
    for mode in MODES {
        let connection = table("savepoints", mode).await;
        connection
            .run(
                "begin; insert into public.t values (1); savepoint a; insert into public.t values (2); rollback to a;
             savepoint b; insert into public.t values (3); release b; insert into public.t values (4); commit;
             begin; insert into public.t values (5); rollback",
            )
            .await;
        assert_eq!(
            connection.log().await,
            [
                "1|I|0|{id,1,a,NULL,b,NULL}",
                "1|I|0|{id,3,a,NULL,b,NULL}",
                "1|I|0|{id,4,a,NULL,b,NULL}"
            ]
        );
        assert_eq!(
            connection
                .value("select count(distinct log_txid) from @NAMESPACE@.sl_log_1")
                .await,
            "1"
        );
    }
}

#[tokio::test]
async fn an_application_needs_no_right_and_its_search_path_is_not_trusted() {
    for mode in MODES {
        let connection = table("hostile", mode).await;
        connection
            .run("create schema evil; grant all on schema evil to app")
            .await;
        let app = Connection::open(&format!("hostile_{mode}"), "app").await;
        assert!(
            app.refusal("select * from @NAMESPACE@.sl_log_1")
                .await
                .contains("permission denied")
        );
        app.run(
        "create function evil.bad(text, text) returns bool language plpgsql as $$ begin raise exception 'hijacked as %', current_user; end $$;
         create operator evil.= (leftarg = text, rightarg = text, procedure = evil.bad);
         create operator evil.<> (leftarg = text, rightarg = text, procedure = evil.bad);
         create operator evil.|| (leftarg = text, rightarg = text, procedure = evil.bad);
         create function evil.bad(bigint, int) returns bool language plpgsql as $$ begin raise exception 'hijacked as %', current_user; end $$;
         create operator evil.= (leftarg = bigint, rightarg = int, procedure = evil.bad);
         create operator evil.& (leftarg = bigint, rightarg = int, procedure = evil.bad);
         create function evil.current_setting(text) returns text language plpgsql as $$ begin raise exception 'hijacked as %', current_user; end $$;
         create type evil.text as (x int); create type evil.oid as (x int); create domain evil.int4 as int check (false);
         create table evil.sl_log_1 (a int)",
    )
    .await;
        for settings in ["set search_path to evil, pg_catalog, public", "set datestyle to german"] {
            app.run(settings).await;
            app.run(
                "insert into public.t values (1); update public.t set id = 2; delete from public.t; truncate public.t",
            )
            .await;
        }
        assert_eq!(connection.log().await.len(), 8);
        connection
        .run("begin; update @NAMESPACE@.sl_set set set_origin = 2 where false; commit;
              alter table public.t disable trigger all; do $$ declare t record; begin for t in select tgname from pg_catalog.pg_trigger
              where tgrelid = 'public.t'::regclass and tgname like '%deny%' loop execute format('alter table public.t enable trigger %I', t.tgname); end loop; end $$")
        .await;
        assert_eq!(
            app.refusal("insert into public.t values (1)").await,
            "Slony-I: Table t is replicated and cannot be modified on a subscriber node - role=0"
        );
        assert_eq!(
            app.refusal("truncate public.t").await,
            "truncation of replicated table forbidden on subscriber node"
        );
        connection
            .run("set session_replication_role to local; insert into public.t values (7); truncate public.t")
            .await;
        assert_eq!(
            connection.log().await.len(),
            8,
            "role local neither logs nor is refused"
        );
    }
}

#[tokio::test]
async fn columns_come_and_go_without_a_script() {
    for mode in MODES {
        let connection = table("altered", mode).await;
        connection
            .run(
                "alter table public.t add column c timestamptz[], drop column b;
             insert into public.t values (1, 'x', '{2020-01-01 00:00:00+00}');
             alter table public.t rename column id to key;
             update public.t set a = 'y';
             alter table public.t add column id int;
             update public.t set id = 5;
             delete from public.t",
            )
            .await;
        connection.run("set timezone to 'UTC'").await;
        assert_eq!(
            connection.log().await[1..],
            ["1|U|1|{a,y,key,1}", "1|U|1|{id,5,key,1}", "1|D|0|{key,1}"]
        );
        assert_eq!(
            connection.value("select @NAMESPACE@.repair_log_triggers(false)").await,
            "1"
        );
        assert_eq!(
            connection.value("select @NAMESPACE@.repair_log_triggers(false)").await,
            "0"
        );
    }
}

#[tokio::test]
async fn a_key_that_changed_is_found_again_and_nulls_in_it_are_refused() {
    for mode in MODES {
        let connection = table("keys", mode).await;
        connection
        .run("alter table public.two drop constraint two_pkey; alter table public.two alter k1 drop not null; alter table public.two add primary key (k2)")
        .await;
        connection
            .run("insert into public.two values ('a', null, 1, 'k'); delete from public.two")
            .await;
        assert_eq!(connection.log().await[1], "2|D|0|{k2,k}");
        connection
        .run("alter table public.two drop constraint two_pkey; alter table public.two alter k2 drop not null; create unique index two_pkey on public.two (k2);
              insert into public.two values ('a', null, 1, null)")
        .await;
        assert_eq!(
            connection.refusal("delete from public.two").await,
            "Slony-I: old key column two.k2 IS NULL on DELETE"
                .replace("two.k2", "public.two.k2")
                .replace("public.", "")
        );
        connection.run("drop index public.two_pkey").await;
        assert!(connection.refusal("delete from public.two").await.contains("is gone"));
    }
}

#[tokio::test]
async fn generated_columns() {
    let connection = table("generated", "statement").await;
    if connection.version().await >= 120_000 {
        connection
            .run("create table public.g (id int primary key, s int generated always as (id + 1) stored, n text)")
            .await;
        replicate(&connection, 3, "public.g").await;
        connection.run("insert into public.g (id) values (1)").await;
        assert_eq!(connection.log().await, ["3|I|0|{id,1,s,2,n,NULL}"]);
        assert_eq!(
            connection.value("select @NAMESPACE@.copyFields(3)").await,
            "(\"id\",\"n\")"
        );
    }
    if connection.version().await >= 180_000 {
        connection.run("alter table public.g add column v int generated always as (id * 2) virtual; insert into public.g (id, n) values (2, 'x')").await;
        assert_eq!(connection.log().await[1], "3|I|0|{n,x,s,3,id,2}");
    }
}

#[tokio::test]
async fn a_locked_set_refuses_truncate_too() {
    let connection = table("locked", "statement").await;
    let message = "is currently locked against updates because of MOVE_SET operation in progress";
    connection.run("select @NAMESPACE@.lockSet(1)").await;
    assert!(connection.refusal("truncate public.t").await.contains(message));
    assert!(
        connection
            .refusal("insert into public.t values (1)")
            .await
            .contains(message)
    );
    connection
        .run("select @NAMESPACE@.unlockSet(1); truncate public.t; insert into public.t values (1)")
        .await;
    assert_eq!(connection.log().await.len(), 2);
}

#[tokio::test]
async fn triggers_of_the_original_with_three_arguments_work() {
    let connection = table("three", "statement").await;
    connection
        .run("create table public.old (id int primary key, v text);
              insert into @NAMESPACE@.sl_table values (9, 'public.old'::regclass, 'old', 'public', 1, 'old_pkey', false, '');
              create trigger log after insert or update or delete on public.old for each row execute procedure @NAMESPACE@.logTrigger(@CLUSTER@, '9', 'k');
              insert into public.old values (1, 'x'); update public.old set v = 'y'; delete from public.old")
        .await;
    assert_eq!(
        connection.log().await,
        ["9|I|0|{v,x,id,1}", "9|U|1|{v,y,id,1}", "9|D|0|{id,1}"]
    );
}

/// The log triggers of a table that are enabled, without the name of the cluster.
async fn enabled(connection: &Connection, table: &str) -> Vec<String> {
    connection
        .rows(&format!(
            "select substr(tgname, strpos(tgname, 'logtrigger')) from pg_catalog.pg_trigger
              where tgrelid = '{table}'::regclass and tgname like '%logtrigger%' and tgenabled = 'O' order by 1"
        ))
        .await
}

#[tokio::test]
async fn partitions_are_captured_by_functions_of_their_own_and_keys_that_may_be_null_are_not() {
    let connection = node("partitions_by_row").await;
    connection
        .run(
            "create table public.p (id int, v text) partition by list (id);
             create table public.p1 partition of public.p for values in (1, 3); alter table public.p1 add primary key (id);
             create table public.p2 partition of public.p for values in (2); alter table public.p2 add primary key (id);
             create table public.loose (id int primary key, v text)",
        )
        .await;
    for (id, table) in (1..).zip(["p1", "p2", "loose"]) {
        replicate(&connection, id, &format!("public.{table}")).await;
    }
    assert_eq!(enabled(&connection, "public.p1").await, ["logtrigger_r"]);
    connection
        .run(
            "alter table public.loose drop constraint loose_pkey; alter table public.loose alter id drop not null;
             create unique index loose_pkey on public.loose (id); select @NAMESPACE@.repair_log_triggers(false)",
        )
        .await;
    assert_eq!(enabled(&connection, "public.loose").await, ["logtrigger"]);
    connection
        .run("insert into public.p values (1, 'a'), (2, 'b'); update public.p set v = 'c'; update public.p set id = 3 where id = 1; delete from public.p")
        .await;
    assert_eq!(
        connection.log().await,
        [
            "1|I|0|{id,1,v,a}",
            "2|I|0|{id,2,v,b}",
            "1|U|1|{v,c,id,1}",
            "2|U|1|{v,c,id,2}",
            "1|U|1|{id,3,id,1}",
            "1|D|0|{id,3}",
            "2|D|0|{id,2}",
        ]
    );
}

#[tokio::test]
async fn a_table_captured_by_row_before_such_functions_existed_gets_them_when_its_triggers_are_repaired() {
    let connection = table("older", "row").await;
    assert_eq!(enabled(&connection, "public.t").await, ["logtrigger_r"]);
    // as it was
    connection
        .run(
            "do $$ declare t record; begin for t in select tgname from pg_catalog.pg_trigger
                where tgrelid = 'public.t'::regclass and tgname like '%logtrigger%' order by 1 loop
                execute format(case when right(t.tgname, 2) = '_r' then 'drop trigger %I on public.t' else 'alter table public.t enable trigger %I' end, t.tgname);
              end loop; end $$;
             drop function @NAMESPACE@.tl_log_1_r()",
        )
        .await;
    let outdated = "select outdated from @NAMESPACE@.tl_capture_modes order by tab_id";
    assert_eq!(connection.rows(outdated).await, ["t", "f"]);
    connection.run("insert into public.t values (1)").await;
    let repair = "select @NAMESPACE@.repair_log_triggers(false)";
    assert_eq!(connection.value(repair).await, "1");
    assert_eq!(connection.rows(outdated).await, ["f", "f"]);
    assert_eq!(enabled(&connection, "public.t").await, ["logtrigger_r"]);
    connection.run("insert into public.t values (2)").await;
    assert_eq!(
        connection.log().await,
        ["1|I|0|{a,NULL,b,NULL,id,1}", "1|I|0|{id,2,a,NULL,b,NULL}"]
    );
    connection
        .run("select @NAMESPACE@.tl_capture_mode(1, 'statement')")
        .await;
    assert_eq!(
        enabled(&connection, "public.t").await,
        ["logtrigger_d", "logtrigger_i", "logtrigger_u"]
    );
    connection
        .run("select @NAMESPACE@.setDropTable(1); select @NAMESPACE@.setDropTable(2)")
        .await;
    assert_eq!(
        connection
            .rows("select proname from pg_catalog.pg_proc where proname ~ '^tl_log_[0-9]'")
            .await,
        Vec::<String>::new()
    );
}
