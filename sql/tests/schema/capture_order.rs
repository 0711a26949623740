//! Random triggers, foreign keys and statements: the log, applied in its order to twins of the tables, must give equal tables.
//!
//! Replays with `TRUNKLINE_TEST_SEED`; `TRUNKLINE_TEST_ROUNDS` makes it longer.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{Connection, node, replicate, superuser};

/// Applies the log to the tables of schema `twin`, strictly: a row to change or delete must be there. Empties the log.
const REPLAY: &str = r"
create schema twin;
create function twin.replay() returns void language plpgsql as $$
declare
    r record;
    n bigint;
    c int;
    statement text;
begin
    for r in select * from @NAMESPACE@.tl_log order by log_actionseq loop
        c := 2 * r.log_cmdupdncols;
        statement := case r.log_cmdtype
            when 'I' then (
                select format('insert into twin.%I (%s) values (%s)', r.log_tablerelname,
                    string_agg(quote_ident(r.log_cmdargs[i]), ', ' order by i), string_agg(quote_nullable(r.log_cmdargs[i + 1]), ', ' order by i))
                from generate_series(1, cardinality(r.log_cmdargs), 2) i
            )
            when 'U' then (
                select format('update only twin.%I set %s where %s', r.log_tablerelname,
                    coalesce(string_agg(format('%I = %L', r.log_cmdargs[i], r.log_cmdargs[i + 1]), ', ') filter (where i <= c),
                        format('%I = %1$I', r.log_cmdargs[1])),
                    string_agg(format('%I = %L', r.log_cmdargs[i], r.log_cmdargs[i + 1]), ' and ') filter (where i > c))
                from generate_series(1, cardinality(r.log_cmdargs), 2) i
            )
            when 'D' then (
                select format('delete from only twin.%I where %s', r.log_tablerelname,
                    string_agg(format('%I = %L', r.log_cmdargs[i], r.log_cmdargs[i + 1]), ' and '))
                from generate_series(1, cardinality(r.log_cmdargs), 2) i
            )
            else format('truncate only twin.%I', r.log_tablerelname)
        end;
        execute statement;
        get diagnostics n = row_count;
        if n <> 1 and r.log_cmdtype <> 'T' then
            raise exception 'row missing: %', statement;
        end if;
    end loop;
    truncate @NAMESPACE@.sl_log_1, @NAMESPACE@.sl_log_2;
end $$;
";

/// The tables of a round; `p` is partitioned, its partitions are replicated.
const TABLES: &[&str] = &["a", "b", "c", "p"];

/// One round: a schema, random triggers, random transactions.
struct Round {
    random: StdRng,
    merge: bool,
    /// The role may let the server run programs.
    copy: bool,
    /// Row triggers on a partitioned table.
    partition_triggers: bool,
    history: Vec<String>,
    triggers: usize,
}

impl Round {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    fn key(&mut self) -> i32 {
        self.random.random_range(1..=24)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// A WHERE clause that hits some rows.
    fn some_rows(&mut self) -> String {
        let key = self.key();
        match self.random.random_range(0..5) {
            0 | 1 => format!("id = {key}"),
            2 => format!("id between {key} and {}", key + 5),
            3 => format!("id % 5 = {}", key % 5),
            _ => format!("v > {key}"),
        }
    }

    fn schema(&mut self) -> String {
        let mut parts = Vec::new();
        for name in ["a", "b", "c"] {
            let unique = self.pick(&["", "", ", unique (u)", ", unique (u) deferrable initially deferred"]);
            let action = self.pick(&["cascade", "set null", "no action"]);
            let deferrable = self.pick(&["", "deferrable initially deferred"]);
            let parent = self.pick(&["a", name]);
            parts.push(format!(
                "create table public.{name} (id int primary key, v int, u int, t char(8) default 'x', r int{unique});"
            ));
            if self.chance(60) {
                parts.push(format!(
                    "alter table public.{name} add foreign key (r) references public.{parent} (id) on delete {action} on update cascade {deferrable};"
                ));
            }
        }
        parts.push(
            "create table public.p (id int, v int, u int, t char(8) default 'x', r int) partition by list (v);"
                .to_owned(),
        );
        // A key of the partitioned table would have to contain `v`; so an id may occur once in each partition.
        let values = |part: i32| {
            (0..40)
                .filter(|v| v % 3 == part)
                .map(|v| v.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        for (part, values) in [
            ("p0", values(0)),
            ("p1", values(1)),
            ("p2", values(2)),
            ("p9", "40, null".to_owned()),
        ] {
            parts.push(format!(
                "create table public.{part} partition of public.p for values in ({values}); alter table public.{part} add primary key (id);"
            ));
        }
        for name in ["a", "b", "c", "p0", "p1", "p2", "p9"] {
            parts.push(format!(
                "create table twin.{name} (like public.{name} including indexes);"
            ));
        }
        parts.join("\n")
    }

    /// What a trigger or function does to a table; `id` is an expression for a key.
    fn deed(&mut self, own: &str, id: &str) -> String {
        let table = if self.chance(60) { own } else { self.pick(TABLES) };
        let other = self.pick(&["", " + 1", " + 2", " % 7", " - 3"]);
        let on_conflict = if table == "p" {
            ""
        } else {
            "on conflict (id) do nothing"
        };
        match self.random.random_range(0..7) {
            0 => format!("update public.{table} set v = (v + 1) % 40 where id = {id}{other};"),
            1 => format!("update public.{table} set t = 'y' where id = {id}{other};"),
            2 => format!("update public.{table} set id = id + 40 where id = {id}{other};"),
            3 => format!("delete from public.{table} where id = {id}{other};"),
            4 => format!("insert into public.{table} (id, v) values ({id} + 100, 1) {on_conflict};"),
            5 => format!("update public.{table} set u = u + 1 where id % 4 = ({id}{other}) % 4;"),
            _ => format!(
                "delete from public.{table} where id = {id}{other}; insert into public.{table} (id, v, u) values ({id}{other}, 2, {id} + 50) {on_conflict};"
            ),
        }
    }

    fn trigger(&mut self) -> String {
        self.triggers += 1;
        let number = self.triggers;
        let table = if self.partition_triggers {
            self.pick(TABLES)
        } else {
            self.pick(&TABLES[..3])
        };
        let name = format!("{}{number}", self.pick(&["A", "_", "_I", "_J", "m", "zz"]));
        let event = self.pick(&[
            "insert",
            "update",
            "delete",
            "insert or update",
            "insert or update or delete",
        ]);
        let kinds: &[&str] = if table == "p" {
            &["after row", "before statement", "after statement"]
        } else {
            &[
                "after row",
                "after row",
                "before row",
                "before statement",
                "after statement",
                "deferred",
            ]
        };
        let kind = self.pick(kinds);
        let by_row = kind.ends_with("row") || kind == "deferred";
        let id = if by_row { "k" } else { "7" };
        let mut deed = self.deed(table, id);
        if kind == "deferred" {
            // At the commit depth is no bound.
            let count = "coalesce(nullif(current_setting('test.deferred', true), ''), '0')::int";
            deed = format!(
                "if {count} < 5 then perform set_config('test.deferred', ({count} + 1)::text, true); {deed} end if;"
            );
        }
        let depth = self.pick(&[2, 3, 4]);
        let key = if by_row {
            "if tg_op = 'DELETE' then k := old.id; else k := new.id; end if;"
        } else {
            ""
        };
        let when = if kind == "deferred" {
            format!(
                "create constraint trigger \"{name}\" after {event} on public.{table} deferrable initially deferred for each row"
            )
        } else {
            let (time, level) = kind.split_once(' ').unwrap();
            format!("create trigger \"{name}\" {time} {event} on public.{table} for each {level}")
        };
        format!(
            "create function public.f{number}() returns trigger language plpgsql as $$ declare k int; begin
               {key} if pg_trigger_depth() < {depth} then {deed} end if;
               if tg_op = 'DELETE' then return old; end if; return new; end $$;
             {when} execute procedure public.f{number}()"
        )
    }

    fn statement(&mut self) -> String {
        let table = self.pick(TABLES);
        let rows = self.some_rows();
        let (key, other) = (self.key(), self.key());
        let shift = self.pick(&[1, 7, 25, -1, -25]);
        let conflict = if table == "p" {
            String::new()
        } else {
            match self.random.random_range(0..4) {
                0 => String::new(),
                1 | 2 => format!("on conflict (id) do update set v = excluded.v, t = 'c', u = {key}"),
                _ => "on conflict (id) do nothing".to_owned(),
            }
        };
        match self.random.random_range(0..17) {
            0 | 1 => format!("insert into public.{table} (id, v, u) values ({key}, {other}, {key}) {conflict}"),
            2 => format!(
                "insert into public.{table} (id, v, u) select g, g % 30, g from generate_series({key}, {}) g {conflict}",
                key + 6
            ),
            3 => format!("update public.{table} set v = (v + {other}) % 40 where {rows}"),
            4 => format!("update public.{table} set id = id + ({shift}) where {rows}"),
            5 => format!("update public.{table} set u = (select min(u) from public.{table}) where id = {key}"),
            6 | 7 => format!("delete from public.{table} where {rows}"),
            8 => format!("update public.{table} set r = {key} where {rows}"),
            9 => format!(
                "with d as (delete from public.{table} where {rows} returning *) insert into public.{table} (id, v, u, t) select id, (v + 1) % 40, u, t from d"
            ),
            10 => format!(
                "with d as (delete from public.{table} where {rows} returning *), i as (insert into public.{table} (id, v) values ({}, 3) returning id)
                 update public.{table} set id = id + ({shift}) where id in (select id + 1 from d)",
                key + 200
            ),
            11 => {
                let second = self.pick(TABLES);
                format!(
                    "with x as (update public.{table} set t = 'w' where {rows} returning id), y as (delete from public.{second} where id = {other} returning id)
                     insert into public.{second} (id, v) select id + 300, 4 from x where not exists (select from public.{second} s where s.id = x.id + 300)"
                )
            }
            // Only by statement: row triggers cannot know that a function called by a statement writes to its table, too.
            12 => format!("update public.a set v = public.deed(id) where {rows}"),
            13 => format!("insert into public.a (id, v) values ({}, 5) returning public.deed(id)", key + 400),
            14 if self.merge => format!(
                "merge into public.{table} x using (select g as id, (g + {other}) % 9 as m from generate_series({key}, {}) g) s on x.id = s.id
                 when matched and m < 3 then delete when matched then update set v = (x.v + 1) % 40, u = m
                 when not matched and m < 5 then insert (id, v) values (s.id - 1, m) when not matched then insert (id, v, u) values (s.id, m, m)",
                key + 6
            ),
            15 if self.chance(15) => format!("truncate public.{table} cascade"),
            16 => self.pick(&["set constraints all immediate", "set constraints all deferred"]).to_owned(),
            // Not from the client: a COPY that a trigger refuses at its start leaves the driver out of step with the server.
            _ if self.copy => format!(
                "copy public.{table} (id, v, u) from program $c$printf '{key}\\t{other}\\t{key}\\n{}\\t7\\t{other}\\n'$c$",
                key + 1
            ),
            _ => format!("insert into public.{table} (id, v, u) values ({key}, {other}, {key}), ({}, 7, {other})", key + 1),
        }
    }
}

/// A random transaction, with savepoints; errors roll back to one, or everything.
async fn transaction(round: &mut Round, connection: &Connection) {
    let statements = round.random.random_range(1..=6);
    let isolation = round.pick(&["read committed", "read committed", "repeatable read"]);
    connection.run(&format!("begin isolation level {isolation}")).await;
    round.history.push(format!("begin isolation level {isolation};"));
    for _ in 0..statements {
        let statement = round.statement();
        let keep = round.chance(85);
        connection.run("savepoint s").await;
        let done = connection.try_rows(&statement).await.is_ok();
        round.history.push(format!(
            "savepoint s; {statement}; -- {}",
            if done { "done" } else { "refused" }
        ));
        if done && keep {
            connection.run("release savepoint s").await;
        } else {
            connection.run("rollback to savepoint s").await;
            round.history.push("rollback to savepoint s;".to_owned());
        }
    }
    let end = if round.chance(90) { "commit" } else { "rollback" };
    let done = connection.try_rows(end).await.is_ok();
    round.history.push(format!("{end}; -- {done}"));
    if !done {
        connection.run("rollback").await;
    }
}

/// The difference between tables and twins, or what stopped the replay.
async fn difference(connection: &Connection) -> Option<String> {
    if let Err(error) = connection.try_rows("select twin.replay()").await {
        return Some(trunkline_sql::error_text(&error).clone());
    }
    for table in ["a", "b", "c", "p0", "p1", "p2", "p9"] {
        let rows = connection
            .rows(&format!(
                "select 'missing', x.* from (table only public.{table} except table twin.{table}) x
                 union all select 'surplus', x.* from (table twin.{table} except table only public.{table}) x"
            ))
            .await;
        if !rows.is_empty() {
            return Some(format!("table {table}: {}", rows.join("; ")));
        }
    }
    None
}

/// Plays one round in a database that is a node; Err holds what differed and how it came to that.
async fn play(connection: &Connection, seed: u64) -> Result<(), String> {
    let version = connection.version().await;
    let mut round = Round {
        random: StdRng::seed_from_u64(seed),
        merge: version >= 150_000,
        copy: version >= 110_000,
        partition_triggers: version >= 110_000,
        history: Vec::new(),
        triggers: 0,
    };
    let schema = round.schema();
    connection.run(&schema).await;
    round.history.push(schema);
    for (id, name) in (1..).zip(["a", "b", "c", "p0", "p1", "p2", "p9"]) {
        replicate(connection, id, &format!("public.{name}")).await;
        // The others are captured as by default: by statement, and partitions by row.
        if !name.starts_with('p') && name != "a" && round.chance(25) {
            connection
                .run(&format!("select @NAMESPACE@.tl_capture_mode({id}, 'row')"))
                .await;
            round.history.push(format!("-- {name} by row"));
        }
    }
    let deed = round.deed("a", "k").replace("public.p ", "public.a ");
    let function = format!(
        "create function public.deed(k int) returns int language plpgsql as $$ begin {deed} return (k + 1) % 40; end $$"
    );
    connection.run(&function).await;
    round.history.push(function);
    let mut outcome = Ok(());
    for step in 0..14 {
        if step % 3 == 0 && round.chance(80) {
            let trigger = round.trigger();
            connection.run(&trigger).await;
            round.history.push(trigger);
        }
        transaction(&mut round, connection).await;
        if let Some(difference) = difference(connection).await {
            outcome = Err(format!("seed {seed}: {difference}\n{}", round.history.join("\n")));
            break;
        }
    }
    for id in 1..=7 {
        connection.run(&format!("select @NAMESPACE@.setDropTable({id})")).await;
    }
    connection
        .run("drop table public.a, public.b, public.c, public.p cascade; drop table twin.a, twin.b, twin.c, twin.p0, twin.p1, twin.p2, twin.p9;
              do $$ declare f regprocedure; begin for f in select oid from pg_catalog.pg_proc where pronamespace = 'public'::regnamespace
                and (proname ~ '^f[0-9]+$' or proname = 'deed') loop execute 'drop function ' || f; end loop; end $$;
              truncate @NAMESPACE@.sl_log_1, @NAMESPACE@.sl_log_2")
        .await;
    outcome
}

async fn prepared_node(name: &str) -> Connection {
    // A grant is the server's, and two at once get into each other's way.
    static GRANT: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let connection = node(name).await;
    if connection.version().await >= 110_000 {
        GRANT
            .get_or_init(|| async {
                superuser(name)
                    .await
                    .run("grant pg_execute_server_program to keeper")
                    .await;
            })
            .await;
    }
    connection.run(REPLAY).await;
    connection
}

fn first_seed() -> u64 {
    let seed = std::env::var("TRUNKLINE_TEST_SEED").map_or_else(
        |_| u64::from(rand::random::<u32>()),
        |seed| seed.parse().expect("a number"),
    );
    println!("replay with TRUNKLINE_TEST_SEED={seed}");
    seed
}

fn rounds() -> u64 {
    std::env::var("TRUNKLINE_TEST_ROUNDS").map_or(12, |rounds| rounds.parse().expect("a number"))
}

#[tokio::test]
async fn whatever_triggers_do_the_log_gives_the_same_tables() {
    let seed = first_seed();
    let connection = prepared_node("capture_order").await;
    for seed in seed..seed + rounds() {
        if let Err(difference) = play(&connection, seed).await {
            panic!("{difference}");
        }
    }
}

/// Without the look at the order the same rounds must not pass, or they would prove nothing.
#[tokio::test]
async fn a_log_that_is_not_put_in_order_is_noticed() {
    let connection = prepared_node("capture_disorder").await;
    connection
        .run("create or replace function @NAMESPACE@.tl_order_log(p_tab_id integer) returns bigint language sql as 'select 0::bigint'")
        .await;
    for seed in 1..=40 {
        if play(&connection, seed).await.is_err() {
            return;
        }
    }
    panic!("forty rounds and no difference");
}
