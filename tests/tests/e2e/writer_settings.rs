//! Writers whose session settings change how values look.

use trunkline_tests::Cluster;

const TABLE: &str = "create table s (id serial primary key, d date, t timestamp, tz timestamptz, i interval, f4 real, f8 double precision,
     b bytea, x text, r daterange, tr tstzrange, ad date[], af double precision[], ab bytea[], j jsonb, c composite_s)";
const COMPOSITE: &str = "create type composite_s as (d date, f double precision, b bytea, i interval)";

const SETTINGS: &[&str] = &[
    "set datestyle = 'German, DMY'",
    "set datestyle = 'SQL, DMY'",
    "set datestyle = 'Postgres, MDY'",
    "set bytea_output = 'escape'",
    "set intervalstyle = 'iso_8601'",
    "set intervalstyle = 'sql_standard'",
    "set intervalstyle = 'postgres_verbose'",
    "set extra_float_digits = -15",
    "set extra_float_digits = 0",
    "set timezone = 'Asia/Kathmandu'",
    "set timezone = 'America/St_Johns'",
    "set client_encoding = 'latin1'",
    "set standard_conforming_strings = off",
    "set lc_numeric = 'C'; set xmloption = 'document'; set quote_all_identifiers = on; set backslash_quote = on",
    "set search_path = ''",
    "set array_nulls = off",
    "set datestyle = 'German'; set bytea_output = 'escape'; set intervalstyle = 'sql_standard'; set extra_float_digits = -3;
     set timezone = 'Pacific/Apia'; set client_encoding = 'latin1'",
];

/// Values without letters beyond ASCII in the statement, so that they mean the same in every client encoding.
const INSERT: &str = "insert into public.s (d, t, tz, i, f4, f8, b, x, r, tr, ad, af, ab, j, c) values
     (make_date(2024, 2, 3), make_timestamp(2024, 2, 3, 4, 5, 6.789), make_timestamptz(2024, 10, 27, 1, 30, 0.000001, 'UTC'),
      make_interval(years => 1, months => -2, days => 3, hours => -4, secs => 5.6), 0.1::real / 3, 0.1::double precision / 3,
      pg_catalog.decode('00ff5c2741', 'hex'), pg_catalog.chr(233) || pg_catalog.chr(92) || pg_catalog.chr(255), pg_catalog.daterange(make_date(2024, 1, 2), make_date(2024, 3, 4)),
      pg_catalog.tstzrange(make_timestamptz(2024, 1, 2, 3, 4, 5, 'UTC'), null), array[make_date(2024, 2, 3), null],
      array[1.0::double precision / 3, 2.0::double precision / 3], array[pg_catalog.decode('00ff5c', 'hex')],
      pg_catalog.jsonb_build_object('a', 1.10), row(make_date(2024, 2, 3), 1.0::double precision / 3, pg_catalog.decode('5c00', 'hex'), make_interval(days => 1, hours => -1))::public.composite_s)";

#[tokio::test(flavor = "multi_thread")]
async fn session_settings_of_writers_do_not_reach_the_log() {
    let cluster = Cluster::new("settings", 3).await;
    cluster.run_on_all(COMPOSITE).await;
    cluster.run_on_all(TABLE).await;
    cluster.run(1, INSERT).await;
    cluster.establish().await;
    cluster
        .create_set(1, 1, &[r#""public"."s""#], &[r#""public"."s_id_seq""#])
        .await;
    cluster.subscribe(1, 1, 1, 2).await;
    cluster.subscribe(1, 1, 2, 3).await;
    for settings in SETTINGS {
        let writer = cluster.connect(1).await;
        // The driver always speaks UTF-8; statements and results here are plain ASCII, which latin1 shares.
        writer.run(settings).await;
        writer.run(INSERT).await;
        writer.run("update public.s set d = d + 1, t = t + make_interval(days => 1), tz = tz + make_interval(months => 1), i = i + i, f4 = f4 * 3, f8 = f8 / 7,
             b = b || b, x = x || pg_catalog.chr(252) where id = (select pg_catalog.max(id) from public.s)").await;
        writer
            .run(&format!(
                "{INSERT}; delete from public.s where id = (select pg_catalog.max(id) from public.s)"
            ))
            .await;
    }
    cluster.assert_all_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_whatever_the_writers_settings() {
    let cluster = Cluster::new("keysettings", 2).await;
    cluster
        .run_on_all("create table k (d date, f double precision, b bytea, tz timestamptz, i interval, v int, primary key (d, f, b, tz, i))")
        .await;
    cluster.establish().await;
    cluster.create_set(1, 1, &[r#""public"."k""#], &[]).await;
    cluster.subscribe(1, 1, 1, 2).await;
    for (number, settings) in SETTINGS.iter().enumerate() {
        let writer = cluster.connect(1).await;
        writer.run(settings).await;
        writer
            .run(&format!(
                "insert into public.k select make_date(2024, 2, 3), g / 3.0::double precision, pg_catalog.decode('5c00', 'hex'),
                 make_timestamptz(2024, 1, 1, 1, 1, 1, 'UTC'), make_interval(days => g, hours => -g), {number} from pg_catalog.generate_series({number} * 10 + 1, {number} * 10 + 10) g"
            ))
            .await;
        writer
            .run(&format!(
                "update public.k set v = -v where v = {number} and f > {number} * 10 / 3.0 + 1.5"
            ))
            .await;
        writer
            .run(&format!("update public.k set f = -f where v = {number}"))
            .await;
        writer
            .run(&format!(
                "delete from public.k where v = -{number} and i > make_interval(days => {number} * 10 + 9)"
            ))
            .await;
    }
    cluster.assert_all_equal().await;
}
