//! Every built-in data type, through the copy and through the log.

use std::fmt::Write as _;

use trunkline_tests::Cluster;

/// Types with values, as SQL expressions; the third field is the first major version that has the type or value.
const TYPES: &[(&str, &[&str], i32)] = &[
    ("boolean", &["true", "false"], 10),
    ("smallint", &["-32768", "32767", "0"], 10),
    ("integer", &["-2147483648", "2147483647"], 10),
    ("bigint", &["-9223372036854775808", "9223372036854775807"], 10),
    (
        "real",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "1e-45",
            "0.1",
            "3.4028235e38",
            "1.1754944e-38",
        ],
        10,
    ),
    (
        "double precision",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "5e-324",
            "0.1",
            "1.7976931348623157e308",
            "0.30000000000000004",
        ],
        10,
    ),
    (
        "numeric",
        &[
            "'NaN'",
            "1e100",
            "-1e-100",
            "1.10",
            "1.1000",
            "0",
            "(repeat('9', 3000) || '.' || repeat('1', 3000))::numeric",
        ],
        10,
    ),
    ("numeric", &["'Infinity'", "'-Infinity'"], 14),
    ("numeric(12, 3)", &["1.5", "-999999999.999"], 10),
    ("money", &["'$1,234.56'", "'-$0.01'"], 10),
    (
        "text",
        &[
            "''",
            "' '",
            "E'back\\\\slash \\\\n \\\\N \\\\.'",
            "E'tab\\tline\\nreturn\\rbell\\x07'",
            "'quote '' double \" dollar $1 $$ percent %'",
            "'NULL'",
            "'null'",
            "'{}'",
            "'{\"a\",NULL}'",
            "'=>'",
            "'\"a\"=>\"b\"'",
            "'été Größe 漢字 🐘 e\u{301} \u{200f}'",
            "repeat('long ', 20000)",
        ],
        10,
    ),
    ("varchar(20)", &["''", "'trailing  '"], 10),
    ("char(5)", &["''", "'ab'", "'abcde'"], 10),
    ("\"char\"", &["'a'", "''", "'\"'"], 10),
    ("name", &["'a name'", "''"], 10),
    (
        "bytea",
        &["''", "'\\x00ff5c27'", "decode(repeat('00', 5000), 'hex')"],
        10,
    ),
    (
        "date",
        &[
            "'2024-02-29'",
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'5874897-12-31'",
        ],
        10,
    ),
    ("time", &["'00:00'", "'24:00'", "'23:59:59.999999'"], 10),
    (
        "time with time zone",
        &["'12:00+05:30'", "'00:00:00.000001-15:59:59'"],
        10,
    ),
    (
        "timestamp",
        &[
            "'2024-03-31 02:30:00.123456'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:00 BC'",
        ],
        10,
    ),
    (
        "timestamp with time zone",
        &[
            "'2024-10-27 02:30:00.000001+02'",
            "'infinity'",
            "'-infinity'",
            "'0001-01-01 00:00:00+00 BC'",
            "'294276-12-31 23:59:59+00'",
        ],
        10,
    ),
    (
        "interval",
        &[
            "'1 year -2 months 3 days -04:05:06.789'",
            "'0'",
            "'-178000000 years'",
            "'1 mon -1 day'",
        ],
        10,
    ),
    ("interval", &["'infinity'"], 17),
    (
        "uuid",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        ],
        10,
    ),
    (
        "json",
        &[
            "'{\"b\": 1,  \"a\": [null, \"\\u00e9\\\\\"], \"a\": 2}'",
            "'null'",
            "'\"\"'",
        ],
        10,
    ),
    (
        "jsonb",
        &[
            "'{\"b\": 1.10, \"a\": [null, \"é\\\\ \\\"\"]}'",
            "'null'",
            "'[]'",
            "'1e400'",
        ],
        10,
    ),
    ("inet", &["'192.168.0.1/24'", "'::ffff:1.2.3.4'", "'fe80::1/64'"], 10),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"], 10),
    ("macaddr", &["'08:00:2b:01:02:03'"], 10),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"], 10),
    ("bit(7)", &["B'1010101'"], 10),
    ("bit varying", &["B''", "B'1'", "B'10101010101010101'"], 10),
    ("point", &["'(1.5,-2e-300)'", "'(NaN,Infinity)'"], 10),
    ("line", &["'{1,-1,0.1}'"], 10),
    ("lseg", &["'[(0,0),(0.1,1)]'"], 10),
    ("box", &["'((0,0),(1,1))'"], 10),
    ("path", &["'[(0,0),(1,1),(2,0)]'", "'((0,0),(1,1),(2,0))'"], 10),
    ("polygon", &["'((0,0),(1,1),(2,0))'"], 10),
    ("circle", &["'<(0.1,0.2),3>'"], 10),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'", "'[3,]'"], 10),
    ("int8range", &["'[1,9223372036854775806]'"], 10),
    ("numrange", &["'[1.10,1.1000]'", "'(,NaN)'"], 10),
    ("tsrange", &["'[\"2024-01-01 00:00:00\",infinity]'"], 10),
    ("tstzrange", &["'[\"2024-01-01 00:00:00+00\",)'"], 10),
    ("daterange", &["'[2024-01-01,2024-02-01)'"], 10),
    ("int4multirange", &["'{}'", "'{[1,3),[7,9)}'"], 14),
    (
        "tstzmultirange",
        &["'{[\"2024-01-01 00:00:00+00\",\"2024-01-02 00:00:00+00\")}'"],
        14,
    ),
    ("tsvector", &["'''a b'':1A,2 c:3'", "''"], 10),
    ("tsquery", &["'a & !(b | c:AB*)'", "'''it''''s'''"], 10),
    ("pg_lsn", &["'FFFFFFFF/FFFFFFFF'"], 10),
    ("txid_snapshot", &["'10:20:10,14,15'"], 10),
    ("pg_snapshot", &["'10:20:10,14,15'"], 13),
    ("xid8", &["'18446744073709551615'"], 13),
    ("oid", &["4294967295"], 10),
    ("regtype", &["'integer'", "'text[]'"], 10),
    ("jsonpath", &["'$.\"a b\"[*] ? (@ > 1)'"], 12),
    ("hstore", &["''", "'a=>NULL,\"b \\\" c\"=>\"d => \\\\ e\"'"], 10),
    ("mood", &["'happy'", "'so so'", "'it''s \"quoted\"'"], 10),
    ("positive", &["1", "2147483647"], 10),
    ("label", &["'not empty'"], 10),
    (
        "pair",
        &[
            "row(1, 'a')",
            "row(null, '')",
            "row(null, null)",
            "row(-1, E'\"\\\\ (,) ''')",
        ],
        10,
    ),
    ("floatrange", &["'[0.1,0.2]'"], 10),
];

const DEFINITIONS: &str = r#"create extension if not exists hstore;
create type mood as enum ('happy', 'so so', 'it''s "quoted"');
create domain positive as integer check (value > 0);
create domain label as varchar(40) not null default 'unnamed' check (value <> '');
create type pair as (a integer, b text);
create type floatrange as range (subtype = float8)"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_type_survives_copy_and_log() {
    let cluster = Cluster::new("types", 3).await;
    let origin = cluster.connect(1).await;
    let version = origin.server_major().await;
    let mut types: Vec<(&str, &[&str])> = TYPES
        .iter()
        .filter(|(_, _, since)| *since <= version)
        .map(|(name, values, _)| (*name, *values))
        .collect();
    if origin.try_run("select '<a/>'::xml").await.is_ok() {
        types.push(("xml", &["'<a b=\"c\">é &amp; <![CDATA[ ]]> </a>'", "'just text'"]));
    } else {
        println!("this server is built without libxml, xml is left out");
    }

    let mut create = format!("{DEFINITIONS};\n");
    let (mut insert, mut names) = (String::new(), Vec::new());
    for (number, (name, values)) in types.iter().enumerate() {
        let table = format!("t{number:02}");
        // A domain that is not null cannot take nulls, neither by itself nor as an array's element here.
        let null = if *name == "label" { values[0] } else { "null" };
        // Arrays of domains exist since PostgreSQL 11.
        let element = match *name {
            "positive" if version < 11 => "integer",
            "label" if version < 11 => "text",
            other => other,
        };
        let _ = writeln!(
            create,
            "create table {table} (id serial primary key, v {name}, a {element}[], aa {element}[][]);"
        );
        for value in values.iter().chain([&null]) {
            let _ = writeln!(
                insert,
                "insert into {table} (v, a, aa) values (({value})::{name}, array[{value}, {null}, {value}]::{element}[], \
                 array[array[{value}], array[{null}]]::{element}[][]), (({value})::{name}, '{{}}', null);"
            );
        }
        names.push(format!(r#""public"."{table}""#));
    }
    cluster.run_on_all(&create).await;
    origin.run(&insert).await;
    cluster.establish().await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.create_set(1, 1, &names, &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    cluster.assert_equal_now().await;

    origin.run(&insert).await;
    cluster.assert_all_equal().await;

    // Every value becomes every other value, and null, and comes back. (`min` and friends do not exist for all types.)
    for number in 0..types.len() {
        let table = format!("t{number:02}");
        origin
            .run(&format!(
                "update {table} t set v = o.v, a = o.a from {table} o where o.id = (t.id + 1) % (select count(*) from {table}) + 1"
            ))
            .await;
        origin
            .run(&format!(
                "update {table} set aa = null where id % 2 = 0; update {table} set v = v"
            ))
            .await;
        origin.run(&format!("delete from {table} where id % 5 = 0")).await;
    }
    cluster.assert_all_equal().await;
}
