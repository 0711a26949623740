#!/usr/bin/env python3
"""Side-by-side measurements of trigger/logical replicators.  See README.md."""
import argparse, atexit, json, multiprocessing as mp, os, shutil, signal, statistics as st
import subprocess, sys, tempfile, time
import psycopg2
from pgnode import Node, Sampler, cpu_s
from systems import SYSTEMS, Slony


class Ctx:
    def __init__(self, a):
        self.a, self.nodes, self.notes = a, [], []
        self.tmp = os.path.join(a.tmp, f"{a.system}-{a.cmd}-{a.port_base}")
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.port_base, self.fsync, self.sys = a.port_base, a.fsync, None
        self.t0 = time.time()
        atexit.register(self.close)

    def bin(self, x): return os.path.join(self.a.pgbin, x)

    def run(self, cmd, **kw):
        p = subprocess.run(cmd, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd="/", **kw)
        if p.returncode:
            raise RuntimeError(f"{cmd}: {p.stdout[-1000:]}{p.stderr[-1000:]}")
        return p.stdout

    def note(self, s):
        self.notes.append(s)
        self.say("NOTE " + s)

    def say(self, s):
        print(f"[{time.time() - self.t0:6.1f}s] {s}", file=sys.stderr, flush=True)

    def cluster(self, ids):
        """Nodes 1..n up, each with an empty database; replicator not installed."""
        ns = {}
        self.sys = SYSTEMS[self.a.system](self, ns)
        for i in ids:
            ns[i] = Node(self, i, self.sys.conf()).create()
        return ns

    def close(self):
        try:
            if self.sys:
                self.sys.stop_all()
        finally:
            for n in self.nodes:
                n.stop("immediate")
            if not self.a.keep:
                for n in self.nodes:
                    shutil.rmtree(n.dir, ignore_errors=True)


def spin_ms():
    """Fixed CPU work: tells whether a neighbour was eating the machine."""
    t = time.perf_counter()
    x = 0
    for i in range(2_000_000):
        x += i
    return round((time.perf_counter() - t) * 1000)


def med(xs): return st.median(xs) if xs else None
def r(x, n=3): return None if x is None else round(x, n)


def timed(f):
    t = time.perf_counter()
    f()
    return time.perf_counter() - t


# ------------------------------------------------------------ schema, checks
MARK = "create table bench_mark(id bigint primary key);"
ROWS = "create table rows(id bigint primary key, a int, b text, ts timestamptz default now());"
# ~100-byte rows
INS = ("insert into rows(id, a, b) select g, g % 1000, md5(g::text) || md5((g+1)::text) "
       "from generate_series(1, {n}) g")
KEY = {"rows": "id", "bench_mark": "id", "pgbench_accounts": "aid", "pgbench_branches": "bid",
       "pgbench_tellers": "tid", "pgbench_history": "hid", "wide": "id", "hb": "id"}
TPCB = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"]


def schema(nodes, ddl):
    for n in nodes:
        n.sql(ddl)


def pgbench_schema(node, scale, fill=True):
    node.pgbench("-i", "-q", "-s", scale, "-I", "dtGvp" if fill else "dtp")
    node.sql("alter table pgbench_history add hid bigserial primary key")


_mark = int(time.time())


def mark(origin):
    global _mark
    _mark += 1
    origin.sql("insert into bench_mark values (%s)", (_mark,))
    return _mark


def wait_mark(node, m, timeout=900, period=0.01):
    c = node.connect().cursor()
    end = time.time() + timeout
    while time.time() < end:
        c.execute("select 1 from bench_mark where id=%s", (m,))
        if c.fetchone():
            c.connection.close()
            return
        time.sleep(period)
    raise TimeoutError(f"node {node.num} did not receive the mark in {timeout} s")


def digest(node, table):
    return node.sql(f"select count(*), md5(string_agg(md5(t::text), '' order by {KEY[table]})) from {table} t")[0]


def verify(nodes, tables):
    for t in tables:
        d = {n.num: digest(n, t) for n in nodes}
        if len(set(d.values())) != 1:
            raise AssertionError(f"{t} differs: {d}")


# ------------------------------------------------------------ 1 capture
def capture(x, a):
    ns = x.cluster([1, 2])
    plain = Node(x, 3, {}).create()            # wal_level=replica, nothing installed
    for n in (ns[1], plain):
        pgbench_schema(n, a.scale)
    pgbench_schema(ns[2], a.scale, fill=False)
    for n in (ns[1], ns[2], plain):
        n.sql(MARK + ROWS + "create table one(id bigserial primary key, a int, b text);")
    x.sys.init([1, 2])
    x.sys.create_set(TPCB + ["bench_mark", "rows", "one"])
    x.sys.subscribe(2)
    wait_mark(ns[2], mark(ns[1]))
    x.sys.capture_only()
    x.say("captured, nothing applying")
    csv = os.path.join(x.tmp, "rows.csv")
    c = plain.connect().cursor()
    with open(csv, "w") as f:
        c.copy_expert("copy (select g, g % 1000, md5(g::text) || md5((g+1)::text), now() "
                      f"from generate_series(1, {a.rows}) g) to stdout", f)
    one = os.path.join(x.tmp, "one.sql")       # one transaction, 50 single-row inserts
    with open(one, "w") as f:
        f.write("begin;\n" + "insert into one(a, b) values (1, 'some text of forty characters or thereabouts');\n" * 50
                + "commit;\n")
    m = {}

    def put(name, who, v): m.setdefault(name, {}).setdefault(who, []).append(v)

    def add(name, n, who, f):
        c0 = cpu_s(n.pid)
        put(name, who, timed(f))
        put(name[:-2] + "_cpu_s", who, cpu_s(n.pid) - c0)

    def rate(name, n, who, per_tx, *args):
        """per second, and server CPU per unit (the steadier figure on a noisy machine)"""
        c0, (per_s, count) = cpu_s(n.pid), n.pgbench("-n", *args, count=True)
        put(name, who, per_s * per_tx)
        put(name.rsplit("_", 1)[0].replace("_rows_per", "") + "_cpu_us", who,
            (cpu_s(n.pid) - c0) / count / per_tx * 1e6)

    def bulk(n, who):
        cur = n.connect().cursor()
        n.sql("checkpoint")

        def q(name, s):
            add(name, n, who, lambda: cur.execute(s))
        q("insert_select_s", INS.format(n=a.rows))
        q("update_s", "update rows set a = a + 1")
        q("delete_s", "delete from rows")
        n.sql("vacuum rows")
        with open(csv) as f:
            add("copy_s", n, who, lambda: cur.copy_expert("copy rows from stdin", f))
        cur.execute("delete from rows")
        n.sql("vacuum rows")
        q("loop_insert_s", f"do $$begin for i in 1..{a.rows // 5} loop "
          "insert into one(a, b) values (i, 'some text of forty characters or thereabouts'); end loop; end$$")
        cur.connection.close()

    def tps(n, who):
        for name, extra in (("tpcb_simple_tps", []), ("tpcb_prepared_tps", ["-M", "prepared"])):
            n.sql("checkpoint")
            rate(name, n, who, 1, "-c", 4, "-j", 2, "-T", a.secs, *extra)
        n.sql("checkpoint")
        rate("single_insert_rows_per_s", n, who, 50, "-c", 1, "-T", max(3, a.secs // 2), "-M", "prepared", "-f", one)

    for i in range(a.reps):
        order = [(plain, "plain"), (ns[1], "captured")]
        for n, who in (order if i % 2 == 0 else order[::-1]):
            bulk(n, who)
            tps(n, who)
            x.say(f"rep {i + 1} {who}: " + ", ".join(f"{k}={v[who][-1]:.1f}" for k, v in m.items()))
    res = {}
    for k, v in m.items():
        p, q = med(v["plain"]), med(v["captured"])
        res[k] = {"plain": r(p), "captured": r(q), "captured_over_plain": r(q / p), "raw": v}
    line = "captured/plain: " + ", ".join(f"{k} {v['captured_over_plain']:.2f}" for k, v in res.items())
    return res, line


# ------------------------------------------------------------ 2 drain, 8 wide
def one_drain(x, a, work, tables, nrows, settle):
    """Backlog with node 2's daemon off, then on; time until identical."""
    ns, s = x.sys.n, x.sys
    wait_mark(ns[2], mark(ns[1]))
    s.stop_apply(2)
    build = timed(work)
    m = mark(ns[1])
    time.sleep(settle)                         # let the origin cut its SYNC(s)
    ns[2].sql("checkpoint")
    cpu0 = {n.num: cpu_s(n.pid) for n in ns.values()}
    d0 = {k: cpu_s(p) for k, p in s.daemons().items()}
    sm = Sampler(s.daemons, list(ns.values()))
    sm.start()
    t = time.perf_counter()
    s.start_apply(2)
    wait_mark(ns[2], m, timeout=a.timeout)
    el = time.perf_counter() - t
    cpu = {f"node{k}_backends_cpu_s": r(cpu_s(ns[k].pid) - v, 2) for k, v in cpu0.items()}
    for k, p in s.daemons().items():
        cpu[f"{k}_cpu_s"] = r(cpu_s(p) - d0.get(k, 0), 2)
    mem = sm.done()
    verify([ns[1], ns[2]], tables)
    out = {"build_s": r(build, 2), "elapsed_s": r(el, 2), "rows": nrows, "rows_per_s": round(nrows / el),
           **cpu, "cpu_total_s": r(sum(cpu.values()), 2), "peak": mem}
    return out


def drain(x, a):
    ns = x.cluster([1, 2])
    pgbench_schema(ns[1], a.scale)
    pgbench_schema(ns[2], a.scale, fill=False)
    schema(ns.values(), MARK + ROWS)
    x.sys.init([1, 2])
    x.sys.create_set(TPCB + ["bench_mark", "rows"])
    x.sys.subscribe(2)
    n, o, res = a.rows, ns[1], {}

    def go(name, work, tables, nrows):
        if a.only and name not in a.only.split(","):
            work()
            return
        res[name] = one_drain(x, a, work, tables, nrows, a.settle)
        x.say(f"{name}: {json.dumps(res[name])}")

    go("null", lambda: o.sql("insert into bench_mark values (-1)"), ["bench_mark"], 1)
    go("insert", lambda: o.sql(INS.format(n=n)), ["rows"], n)
    go("update", lambda: o.sql("update rows set a = a + 1"), ["rows"], n)
    go("delete", lambda: o.sql("delete from rows"), ["rows"], n)
    go("tpcb", lambda: o.pgbench("-n", "-c", 4, "-j", 2, "-t", a.tx // 4, "-M", "prepared",
                                 opts="-c synchronous_commit=off"), TPCB, a.tx * 4)
    # without the few hot branch/teller rows: one account updated, one history row inserted
    go("simple", lambda: o.pgbench("-n", "-N", "-c", 4, "-j", 2, "-t", a.tx // 4, "-M", "prepared",
                                   opts="-c synchronous_commit=off"), TPCB, a.tx * 2)
    return res, ", ".join(f"{k} {v['elapsed_s']} s ({v['rows_per_s']} rows/s)" for k, v in res.items())


def wide(x, a):
    ns = x.cluster([1, 2])
    schema(ns.values(), MARK + "create table wide(id int primary key, t text, b bytea);")
    x.sys.init([1, 2])
    x.sys.create_set(["bench_mark", "wide"])
    x.sys.subscribe(2)
    res = {}
    # incompressible: one random hex string, rotated by a different amount for every row
    ns[1].sql(f"create table base as select string_agg(md5((random() + h)::text), '') v "
              f"from generate_series(1, {a.mb} * 32768) h")
    rot = "substr(v, g * 26 + 1) || substr(v, 1, g * 26)"
    for kind, col, expr in (("text", "t", rot), ("bytea", "b", f"decode({rot} || reverse({rot}), 'hex')")):
        if a.kind not in (kind, "both"):
            continue
        base = 0 if kind == "text" else 100000
        ns[1].sql(f"create table src_{kind} as select g, {expr} v from base, "
                  f"generate_series(1, {a.wide_rows}) g")

        def work():
            ns[1].sql(f"insert into wide(id, {col}) select g + {base}, v from src_{kind}")
        res[kind] = one_drain(x, a, work, ["wide"], a.wide_rows, a.settle)
        x.say(f"{kind}: {json.dumps(res[kind])}")
    return res, ", ".join(f"{k} {v['elapsed_s']} s, peaks {v['peak']}" for k, v in res.items())


# ------------------------------------------------------------ client processes
def _writer(dsns, table, base, rate, pin, stop, q, payload):
    """Single-row inserts at `rate`/s.  pin: stay on dsns[0]; else go to whichever accepts."""
    conns, cur, i, ok, errs = [None] * len(dsns), 0, 0, [], 0
    first_err = []
    nxt = time.time()
    while not stop.is_set():
        i += 1
        nxt += 1 / rate
        try:
            if conns[cur] is None:
                conns[cur] = psycopg2.connect(dsns[cur], connect_timeout=2)
                conns[cur].autocommit = True
            c = conns[cur].cursor()
            c.execute(f"insert into {table} values (%s, clock_timestamp(), %s)", (base + i, payload))
            ok.append((base + i, time.time(), cur))
        except psycopg2.Error as e:
            errs += 1
            if len(first_err) < 3 and str(e).strip() not in first_err:
                first_err.append(str(e).strip())
            if conns[cur] is not None and conns[cur].closed:
                conns[cur] = None
            if not pin:
                cur = (cur + 1) % len(dsns)
            nxt = max(nxt, time.time() + 0.005)
        d = nxt - time.time()
        if d > 0:
            time.sleep(d)
        elif d < -0.1:
            nxt = time.time()                  # never burst to catch up
    q.put((ok, errs, first_err))


class Writer:
    def __init__(self, nodes, base, rate, pin=False, table="hb"):
        self.stop_ev, self.q = mp.Event(), mp.Queue()
        self.p = mp.Process(target=_writer, daemon=True, args=(
            [n.dsn() for n in nodes], table, base, rate, pin, self.stop_ev, self.q, "x" * 40))
        self.p.start()

    def stop(self):
        self.stop_ev.set()
        out = self.q.get(timeout=60)
        self.p.join()
        return out


HB = "create table hb(id bigint primary key, ts timestamptz, pad text);"


def pct(xs, p):
    xs = sorted(xs)
    return xs[min(len(xs) - 1, int(p / 100 * len(xs)))]


# ------------------------------------------------------------ 3 latency
def latency(x, a):
    ns = x.cluster([1, 2])
    schema(ns.values(), MARK + HB)
    x.sys.init([1, 2])
    x.sys.create_set(["bench_mark", "hb"])
    x.sys.subscribe(2)
    res = {}
    variants = [("default", [])]
    if isinstance(x.sys, Slony):
        variants += [(v.strip() or "default", v.split()) for v in a.variants.split(",")]
    for k, (name, args) in enumerate(variants):
        if isinstance(x.sys, Slony):
            x.sys.restart_all(args)
        wait_mark(ns[2], mark(ns[1]))
        time.sleep(3)
        base = (k + 1) * 10_000_000
        cpu0 = {n.num: cpu_s(n.pid) for n in ns.values()}
        d0 = {kk: cpu_s(p) for kk, p in x.sys.daemons().items()}
        w = Writer([ns[1]], base, a.rate, pin=True)
        cur = ns[2].connect().cursor()
        last, seen = base, []
        end = time.time() + a.secs
        drain_until = None
        done = None
        while True:
            cur.execute("select coalesce(max(id), 0) from hb where id > %s", (last,))
            now, top = time.time(), cur.fetchone()[0]
            if top > last:
                seen.append((top, now))
                last = top
            if done is None and now > end:
                done, errs, _ = w.stop()
                drain_until = now + 60
            if done is not None and (last >= done[-1][0] or now > drain_until):
                break
            time.sleep(0.001)
        cur.connection.close()
        cpu = {f"node{n.num}_backends": r(cpu_s(n.pid) - cpu0[n.num], 2) for n in ns.values()}
        cpu.update({kk: r(cpu_s(p) - d0[kk], 2) for kk, p in x.sys.daemons().items() if kk in d0})
        delays, j = [], 0
        for top, now in seen:
            while j < len(done) and done[j][0] <= top:
                delays.append((now - done[j][1]) * 1000)
                j += 1
        lost = len(done) - len(delays)
        res[name] = {"n": len(delays), "not_seen": lost, "rate": round(len(done) / a.secs, 1),
                     **{f"p{p}_ms": r(pct(delays, p), 1) for p in (50, 95, 99)},
                     "max_ms": r(max(delays), 1), "mean_ms": r(st.mean(delays), 1),
                     "visible_steps": len(seen), "cpu_s": cpu}
        x.say(f"{name}: {json.dumps(res[name])}")
        verify(list(ns.values()), ["hb"])
    return res, "; ".join(f"{k}: p50 {v['p50_ms']} p95 {v['p95_ms']} p99 {v['p99_ms']} max {v['max_ms']} ms"
                          for k, v in res.items())


# ------------------------------------------------------------ 4 copy
def copy(x, a):
    ns = x.cluster([1, 2])
    pgbench_schema(ns[1], a.scale)
    pgbench_schema(ns[2], a.scale, fill=False)
    schema(ns.values(), MARK)
    x.sys.init([1, 2])
    x.sys.create_set(TPCB + ["bench_mark"])
    sub, low, low2 = [], [], []
    psql = x.bin("psql") + " -q -X -h 127.0.0.1 -U postgres -d bench -p "

    def pipe():
        x.run(["bash", "-o", "pipefail", "-c",
               f"{psql}{ns[1].port} -c 'copy pgbench_accounts to stdout' | "
               f"{psql}{ns[2].port} -c 'copy lb from stdin'"])
    for i in range(a.reps):
        ns[2].sql("drop table if exists lb; create table lb (like pgbench_accounts including all)")
        ns[2].sql("checkpoint")
        low.append(timed(pipe))
        ns[2].sql("drop table if exists lb; create table lb (like pgbench_accounts)")
        ns[2].sql("checkpoint")
        low2.append(timed(lambda: (pipe(), ns[2].sql("alter table lb add primary key (aid); analyze lb"))))
        ns[2].sql("drop table lb")
        if i:
            x.sys.unsubscribe(2)
            ns[2].sql("truncate " + ", ".join(TPCB + ["bench_mark"]))
        ns[2].sql("checkpoint")
        sm = Sampler(x.sys.daemons, list(ns.values()))
        sm.start()
        t = time.perf_counter()
        x.sys.subscribe(2)
        ret = time.perf_counter() - t
        wait_mark(ns[2], mark(ns[1]))
        sub.append(time.perf_counter() - t)
        mem = sm.done()
        x.say(f"rep {i + 1}: subscribe {sub[-1]:.1f} s (call returned {ret:.1f}), "
              f"pipe into PK {low[-1]:.1f} s, pipe then PK {low2[-1]:.1f} s")
    verify(list(ns.values()), TPCB)
    res = {"rows": a.scale * 100000, "subscribe_s": r(med(sub)), "pipe_with_pk_s": r(med(low)),
           "pipe_then_pk_s": r(med(low2)), "ratio_vs_pipe_with_pk": r(med(sub) / med(low)),
           "ratio_vs_pipe_then_pk": r(med(sub) / med(low2)), "peak": mem,
           "raw": {"subscribe": sub, "pipe_with_pk": low, "pipe_then_pk": low2}}
    return res, (f"subscribe {res['subscribe_s']} s = {res['ratio_vs_pipe_with_pk']}x COPY pipe with PK, "
                 f"{res['ratio_vs_pipe_then_pk']}x COPY pipe then PK")


# ------------------------------------------------------------ 5 switch
DENY = ("create or replace function deny() returns trigger language plpgsql as "
        "$$begin raise exception 'read only here'; end$$;")


def switch(x, a):
    if not hasattr(x.sys_class, "switch"):
        return {"skipped": "no switchover in this system"}, "skipped"
    ns = x.cluster([1, 2])
    schema(ns.values(), MARK + HB + ROWS)
    ns[1].sql(INS.format(n=10000))
    if a.system == "native":
        for n in ns.values():
            n.sql(DENY + "".join(f"create trigger deny before insert or update or delete on {t} for each row execute "
                                 f"function deny(); alter table {t} disable trigger deny;"
                                 for t in ("hb", "rows", "bench_mark")))
    x.sys.init([1, 2])
    x.sys.create_set(["bench_mark", "hb", "rows"])
    x.sys.subscribe(2)
    if a.system == "native":
        ns[2].sql("".join(f"alter table {t} enable trigger deny;" for t in ("hb", "rows", "bench_mark")))
    res, cur, base = {}, 1, 0
    variants = [("default", None)]
    if isinstance(x.sys, Slony):
        variants += [(v.strip(), v.split()) for v in a.variants.split(",") if v.strip()]
    for vname, args in variants:
        if args is not None:
            x.sys.restart_all(args)
            time.sleep(5)
        for load in (0, a.rate):
            runs = []
            for i in range(a.reps):
                old, new = cur, 3 - cur
                base += 100_000_000
                probes = {k: Writer([ns[k]], base + k * 10_000_000, 100, pin=True) for k in (1, 2)}
                lw = Writer([ns[old], ns[new]], base + 50_000_000, load) if load else None
                time.sleep(3)
                w0 = time.time()
                dt = x.sys.switch(old, new)
                w1 = time.time()
                time.sleep(2)
                got = {k: p.stop() for k, p in probes.items()}
                load_out = lw.stop() if lw else None
                last_old = max(t for _, t, _ in got[old][0])
                first_new = min(t for _, t, _ in got[new][0])
                steps = sorted(t for k in (1, 2) for _, t, _ in got[k][0] if w0 - 1 < t < w1 + 2)
                gaps = [(q - p) for p, q in zip(steps, steps[1:])]
                runs.append({"script_s": r(dt, 2), "outage_s": r(max(gaps), 3),
                             "last_old_to_first_new_s": r(first_new - last_old, 3),
                             "overlap": last_old > first_new})
                cur = new
                wait_mark(ns[3 - cur], mark(ns[cur]))
                x.say(f"{vname} load={load} {old}->{new}: {runs[-1]}  errors: {got[new][2][:1]} {got[old][2][:1]}")
                verify(list(ns.values()), ["hb", "rows"])
                have = {v[0] for v in ns[cur].sql("select id from hb")}
                runs[-1]["acked"] = sum(len(o[0]) for o in [*got.values()] + ([load_out] if load_out else []))
                runs[-1]["acked_lost"] = sum(1 for o in [*got.values()] + ([load_out] if load_out else [])
                                             for v in o[0] if v[0] not in have)
            res[f"{vname} load={load}"] = {
                "script_s": med([u["script_s"] for u in runs]), "outage_s": med([u["outage_s"] for u in runs]),
                "outage_max_s": max(u["outage_s"] for u in runs),
                "acked_lost": sum(u["acked_lost"] for u in runs), "runs": runs}
    return res, "; ".join(f"{k}: script {v['script_s']} s, outage {v['outage_s']} s" for k, v in res.items())


# ------------------------------------------------------------ 6 failover
def failover(x, a):
    if not hasattr(x.sys_class, "failover"):
        return {"skipped": "no failover in this system"}, "skipped"
    res = {}
    runs = []
    for rep in range(a.reps):
        ns = x.cluster([1, 2, 3])
        schema(ns.values(), MARK + HB + ROWS)
        ns[1].sql(INS.format(n=10000))
        x.sys.init([1, 2, 3])
        x.sys.create_set(["bench_mark", "hb", "rows"])
        x.sys.subscribe(2)
        x.sys.subscribe(3)
        for i in (2, 3):
            wait_mark(ns[i], mark(ns[1]))
        w = Writer([ns[1]], 0, a.rate, pin=True)
        probe = Writer([ns[2]], 10_000_000, 100, pin=True)
        time.sleep(10)
        t0 = time.time()
        pid = ns[1].pid
        os.kill(pid, signal.SIGQUIT)           # immediate shutdown, as pg_ctl stop -m immediate
        x.sys.stop_apply(1, kill=True)
        ns[1].stop("immediate")
        acked, _, _ = w.stop()
        t1 = time.time()
        state_at_failover = {i: ns[i].val("select count(*) from hb where id < 10000000") for i in (2, 3)}
        dt, out = x.sys.failover(1, 2)
        x.say(f"failover {dt:.1f} s\n{out[-2000:]}")
        time.sleep(2)
        got, perr, msgs = [], 0, []
        prov, t_prov, t_conv, end = None, None, None, time.time() + a.timeout
        m = None
        while time.time() < end:
            try:
                prov = x.sys.provider_of(3)
                if t_prov is None and prov == [(2, True)]:
                    t_prov = time.time()
                if m is None and ns[2].val("select count(*) from hb where id > 10000000"):
                    m = mark(ns[2])
                if m and ns[3].val("select count(*) from bench_mark where id=%s", (m,)):
                    t_conv = time.time()
                    break
            except psycopg2.Error:
                pass
            time.sleep(0.05)
        got, perr, msgs = probe.stop()
        on2 = {v[0] for v in ns[2].sql("select id from hb where id < 10000000")}
        same = None
        if t_conv:
            wait_mark(ns[3], mark(ns[2]))
            same = digest(ns[2], "hb") == digest(ns[3], "hb") and digest(ns[2], "rows") == digest(ns[3], "rows")
        first = got[0][1] if got else None
        late = [i for i, t, _ in acked if i not in on2]
        runs.append({
            "slonik_s": r(dt, 2), "kill_to_slonik_start_s": r(t1 - t0, 2),
            "kill_to_writable_s": r(first and first - t0, 2), "slonik_start_to_writable_s": r(first and first - t1, 2),
            "slonik_start_to_node3_provider2_s": r(t_prov and t_prov - t1, 2),
            "slonik_start_to_node3_converged_s": r(t_conv and t_conv - t1, 2),
            "acked": len(acked), "lost": len(late),
            "lost_seconds_of_writes": r((acked[-1][1] - min(t for i, t, _ in acked if i in set(late))) if late else 0, 2),
            "rows_on_2_3_before_failover": state_at_failover, "node2_equals_node3": same,
            "slonik_output_tail": out[-600:], "errors_seen_by_client": msgs})
        x.say(json.dumps(runs[-1], indent=1))
        x.sys.close()
        for n in ns.values():
            n.stop("immediate")
        x.nodes.clear()
    keys = [k for k in runs[0] if k.endswith("_s") or k in ("acked", "lost", "lost_seconds_of_writes")]
    res = {k: r(med([u[k] for u in runs if u[k] is not None]), 2) for k in keys}
    res["runs"] = runs
    return res, (f"writable {res['slonik_start_to_writable_s']} s after slonik start, lost {res['lost']} of {res['acked']} acked, "
                 f"node 3 following after {res.get('slonik_start_to_node3_converged_s')} s, "
                 f"2==3: {[u['node2_equals_node3'] for u in runs]}")


# ------------------------------------------------------------ 7 sets
def sets(x, a):
    ns = x.cluster([1, 2])
    tabs = [f"t{i:05d}" for i in range(a.tables)]
    schema(ns.values(), MARK + "".join(f"create table {t}(id int primary key, v text);" for t in tabs))
    ns[1].sql("".join(f"insert into {t} select g, 'x' from generate_series(1, 10) g;" for t in tabs))
    t_init = x.sys.init([1, 2])
    t_create = x.sys.create_set(["bench_mark"] + tabs)
    x.say(f"init {t_init:.1f} s, create set + {a.tables} tables {t_create:.1f} s")
    sm = Sampler(x.sys.daemons, list(ns.values()))
    sm.start()
    t = time.perf_counter()
    x.sys.subscribe(2)
    wait_mark(ns[2], mark(ns[1]))
    t_sub = time.perf_counter() - t
    mem = sm.done()
    missing = sum(1 for k in tabs if ns[2].val(f"select count(*) from {k}") != 10)
    # an idle SYNC with one changed row among many tables
    lat = []
    for _ in range(3):
        lat.append(timed(lambda: wait_mark(ns[2], mark(ns[1]))))
    res = {"tables": a.tables, "init_s": r(t_init), "create_set_add_tables_s": r(t_create), "subscribe_s": r(t_sub),
           "tables_wrong": missing, "one_row_after_s": [r(v, 2) for v in lat], "peak": mem}
    return res, f"init {t_init:.1f} s, create+add {a.tables} tables {t_create:.1f} s, subscribe to in-sync {t_sub:.1f} s"


# ------------------------------------------------------------ 8 idle
def idle(x, a):
    """Three nodes on which nothing has happened for a quarter of a minute: processor time of all servers and daemons."""
    ns = x.cluster([1, 2, 3])
    schema(ns.values(), MARK + ROWS)
    x.sys.init([1, 2, 3])
    x.sys.create_set(["bench_mark", "rows"])
    for i in (2, 3):
        x.sys.subscribe(i)
        wait_mark(ns[i], mark(ns[1]))
    time.sleep(15)

    def used():
        return (sum(cpu_s(n.pid) for n in ns.values()), sum(cpu_s(p) for p in x.sys.daemons().values()))

    t, (servers, daemons) = time.perf_counter(), used()
    time.sleep(a.secs)
    seconds = time.perf_counter() - t
    servers, daemons = (100 * (now - then) / seconds for now, then in zip(used(), (servers, daemons)))
    res = {"seconds": r(seconds, 1), "servers_percent": r(servers, 2), "daemons_percent": r(daemons, 2),
           "percent_of_a_core": r(servers + daemons, 2)}
    return res, f"{servers + daemons:.2f} % of a core: servers {servers:.2f}, daemons {daemons:.2f}"


# ------------------------------------------------------------ main
def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("cmd", choices=["capture", "drain", "latency", "copy", "switch", "failover", "sets", "wide", "idle"])
    p.add_argument("--system", choices=SYSTEMS, default="trunkline")
    p.add_argument("--slon", default=os.environ.get("SLON", "slon"))
    p.add_argument("--slonik", default=os.environ.get("SLONIK", "slonik"))
    p.add_argument("--slon-args", default="", help="options for every slon, e.g. '-s 10 -g 80'")
    p.add_argument("--variants", default="-s 10", help="latency/switch: further slon option sets, comma separated")
    p.add_argument("--pgbin", default=os.environ.get("PGBIN") or subprocess.run(
        ["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip())
    p.add_argument("--tmp", default=os.environ.get("BENCH_TMP", os.path.join(tempfile.gettempdir(), "slonbench")))
    p.add_argument("--port-base", type=int, default=int(os.environ.get("BENCH_PORT", 6101)))
    p.add_argument("--fsync", choices=["on", "off"], default="on")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--rows", type=int, default=500_000)
    p.add_argument("--scale", type=int, help="pgbench scale (capture/drain 10, copy 20)")
    p.add_argument("--secs", type=int, help="capture: seconds per pgbench run (10); latency: 30")
    p.add_argument("--tx", type=int, default=100_000, help="drain: TPC-B transactions in the backlog")
    p.add_argument("--only", help="drain: only these workloads, e.g. null,insert (the others run unmeasured)")
    p.add_argument("--rate", type=int, default=200, help="transactions/s for latency, switch, failover")
    p.add_argument("--settle", type=float, default=5, help="drain: pause between backlog and start")
    p.add_argument("--tables", type=int, default=1000)
    p.add_argument("--wide-rows", type=int, default=300)
    p.add_argument("--mb", type=int, default=4)
    p.add_argument("--kind", choices=["text", "bytea", "both"], default="both")
    p.add_argument("--timeout", type=float, default=600)
    p.add_argument("--keep", action="store_true", help="leave data directories and logs")
    p.add_argument("--out", help="append the JSON line to this file")
    a = p.parse_args()
    a.scale = a.scale or {"copy": 20}.get(a.cmd, 10)
    a.secs = a.secs or {"capture": 10}.get(a.cmd, 30)
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: sys.exit(130))
    x = Ctx(a)
    x.sys_class = SYSTEMS[a.system]
    env = {"spin_ms_before": spin_ms(), "load_before": os.getloadavg()[0]}
    res, line = globals()[a.cmd](x, a)
    env.update({"spin_ms_after": spin_ms(), "load_after": os.getloadavg()[0], "cores": os.cpu_count(),
                "fsync": a.fsync, "slon_args": a.slon_args, "wall_s": r(time.time() - x.t0, 1),
                "date": time.strftime("%Y-%m-%dT%H:%M:%S")})
    doc = {"cmd": a.cmd, "system": a.system, "version": x.sys.version() if isinstance(x.sys, Slony) else a.system,
           "env": env, "notes": x.notes, "result": res}
    print(json.dumps(doc, indent=1))
    if a.out:
        with open(a.out, "a") as f:
            f.write(json.dumps(doc) + "\n")
    print(f"SUMMARY {a.cmd} {a.system}: {line}", flush=True)


if __name__ == "__main__":
    main()
