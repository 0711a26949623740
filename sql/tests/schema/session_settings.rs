//! The text of values in the log does not depend on the writer's settings, and the settings are his again afterwards.

use crate::{Connection, node, replicate};

const SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "SQL, DMY"),
    ("datestyle", "German, DMY"),
    ("datestyle", "Postgres, MDY"),
    ("intervalstyle", "sql_standard"),
    ("intervalstyle", "iso_8601"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("extra_float_digits", "0"),
    ("search_path", "apps, public"),
];

#[tokio::test]
async fn text_does_not_depend_on_the_writers_settings() {
    let connection = node("settings").await;
    connection
        .run(
            "create schema apps; create table apps.named (a int);
             create table public.t (id int primary key, ts timestamp, i interval, b bytea, f float8, r regclass, ts_range tsrange, fs float4[], m money);
             set timezone to 'UTC'",
        )
        .await;
    replicate(&connection, 1, "public.t").await;
    for mode in ["statement", "row"] {
        text_is_the_same(&connection, mode).await;
    }
}

async fn text_is_the_same(connection: &Connection, mode: &str) {
    connection
        .run(&format!(
            "select @NAMESPACE@.tl_capture_mode(1, '{mode}'); truncate @NAMESPACE@.sl_log_1"
        ))
        .await;
    let write = "insert into public.t values (1, timestamp '2024-03-04 05:06:07', make_interval(months => -1, days => 2, hours => 3, secs => 5.5), decode('00ff5c', 'hex'),
                     0.1::float8 + 0.2::float8, 'apps.named', tsrange(timestamp '2024-03-04', null), array[0.1::float4 / 3], '-1234.5'::numeric::money);
                 update public.t set f = f + 1; delete from public.t";
    connection
        .run("set timezone to 'UTC'; set extra_float_digits to 3")
        .await;
    connection.run(write).await;
    let expected = connection.log().await;
    assert_eq!(expected.len(), 3);
    assert!(expected[0].contains("0.30000000000000004"), "{expected:?}");
    assert!(expected[0].contains("apps.named"), "{expected:?}");
    connection.run("reset extra_float_digits; set timezone to 'UTC'").await;
    for (name, value) in SETTINGS {
        connection
            .run(&format!(
                "truncate @NAMESPACE@.sl_log_1; set {name} to {}",
                if *name == "search_path" {
                    (*value).to_owned()
                } else {
                    format!("'{value}'")
                }
            ))
            .await;
        connection.run(write).await;
        let log = connection.log().await;
        assert_eq!(log, expected, "{name} = {value}");
        assert_eq!(connection.value(&format!("show {name}")).await, *value);
        // also after an error between change and restoration
        connection.run(&format!("reset {name}; set timezone to 'UTC'")).await;
    }
}
