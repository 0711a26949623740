#!/usr/bin/env python3
"""How cost grows: the same backlog, then 10 times the rows, 100 times the tables, 10 times the subscribers.

The nodes are databases of one throwaway server, so that ten subscribers fit on one machine. Each case stops the subscribers'
slons, makes a backlog on the origin, starts them all, waits until every subscriber has it, and compares the content.
Prints a table for docs/src/growth.md, and one JSON line for each case.
"""
import argparse, json, os, signal, subprocess, sys, tempfile, time
from bench import MARK, Ctx, mark, spin_ms, timed, wait_mark
from pgnode import Node, Sampler, cpu_s
from systems import SYSTEMS


class Database:
    """A node: a database of the one server."""

    def __init__(self, server, num):
        self.server, self.num, self.pid, self.name = server, num, None, f"node{num}"
        server.sql(f"create database {self.name}", db="postgres")

    def dsn(self): return self.server.dsn(self.name)
    def connect(self): return self.server.connect(self.name)
    def sql(self, q, args=None): return self.server.sql(q, args, db=self.name)
    def val(self, q, args=None): return self.server.val(q, args, db=self.name)


def digest(node, tables):
    """Count and sum of hashes of all tables."""
    parts = " union all ".join(f"select count(*) n, sum(hashtext(t::text)::bigint) h from {t} t" for t in tables)
    return node.sql(f"select sum(n), sum(h) from ({parts}) x")[0]


def case(x, name, rows, tables, subscribers):
    server = Node(x, 1, {"max_connections": 400, "autovacuum": "off"}).create(db=None)
    nodes = {i: Database(server, i) for i in range(1, subscribers + 2)}
    x.sys = SYSTEMS[x.a.system](x, nodes)
    names = [f"t{i:05d}" for i in range(tables)]
    for n in nodes.values():
        n.sql(MARK)
        for at in range(0, tables, 200):
            n.sql("".join(f"create table {t}(id bigint primary key, a int, b text);" for t in names[at:at + 200]))
    # every subscriber talks to the origin only
    script = "init cluster (id=1, comment='1');\n" + "".join(
        f"store node (id={i}, comment='{i}', event node=1);\n" for i in nodes if i > 1) + "".join(
        f"store path (server=1, client={i}, conninfo='{nodes[1].dsn()}');\n"
        f"store path (server={i}, client=1, conninfo='{nodes[i].dsn()}');\n" for i in nodes if i > 1)
    x.sys.slonik(script)
    for i in nodes:
        x.sys.start_apply(i)
    created = x.sys.slonik("create set (id=1, origin=1, tables='^public\\.(t[0-9]+|bench_mark)$');\n")[0]
    subscribed = timed(lambda: x.sys.slonik(
        "".join(f"subscribe set (id=1, provider=1, receiver={i}, forward=no);\n" for i in nodes if i > 1)
        + "wait for event (origin=1, confirmed=all, wait on=1, timeout=0);\n"))
    others = [n for i, n in nodes.items() if i > 1]
    for n in others:
        wait_mark(n, mark(nodes[1]))
    for i in nodes:
        if i > 1:
            x.sys.stop_apply(i)
    each = rows // tables
    for at in range(0, tables, 50):
        nodes[1].sql("".join(f"insert into {t} select g, g % 1000, md5(g::text) || md5((g + 1)::text) "
                             f"from generate_series(1, {each}) g;" for t in names[at:at + 50]))
    m = mark(nodes[1])
    time.sleep(x.a.settle)
    server.sql("checkpoint", db="postgres")
    sampler = Sampler(x.sys.daemons, [])
    sampler.start()
    cpu = cpu_s(server.pid)
    t = time.perf_counter()
    for i in nodes:
        if i > 1:
            x.sys.start_apply(i)
    for n in others:
        wait_mark(n, m, timeout=x.a.timeout)
    elapsed = time.perf_counter() - t
    cpu = cpu_s(server.pid) - cpu
    peak = sampler.done()
    want = digest(nodes[1], names)
    for n in others:
        if digest(n, names) != want:
            raise AssertionError(f"{name}: node {n.num} differs")
    one = [timed(lambda: wait_mark(others[0], mark(nodes[1]))) for _ in range(5)]
    applied = each * tables * subscribers
    res = {"case": name, "rows": each * tables, "tables": tables, "subscribers": subscribers,
           "create_s": round(created, 2), "subscribe_s": round(subscribed, 2), "drain_s": round(elapsed, 2),
           "rows_per_s": round(applied / elapsed), "server_cpu_us_per_row": round(cpu * 1e6 / applied, 1),
           "origin_slon_mb": peak.get("slon1_hwm_mb", 0),
           "subscriber_slon_mb": max(v for k, v in peak.items() if k.endswith("_hwm_mb") and not k.startswith("slon1_")),
           "one_row_ms": round(sorted(one)[2] * 1000), "spin_ms": spin_ms(), "load": os.getloadavg()[0]}
    x.sys.stop_all()
    server.stop("immediate")
    x.nodes.clear()
    print(json.dumps(res), flush=True)
    return res


CASES = {"base": (1, 1, 1), "backlog": (10, 1, 1), "tables": (1, 100, 1), "subscribers": (1, 1, 10)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cases", default=",".join(CASES), help="of: " + ", ".join(CASES))
    p.add_argument("--system", choices=["trunkline", "slony"], default="trunkline")
    p.add_argument("--slon", default="target/release/slon")
    p.add_argument("--slonik", default="target/release/slonik")
    p.add_argument("--slon-args", default="")
    p.add_argument("--rows", type=int, default=100_000, help="rows of the backlog of the base")
    p.add_argument("--tables", type=int, default=10, help="tables of the base")
    p.add_argument("--settle", type=float, default=1, help="seconds between backlog and start")
    p.add_argument("--timeout", type=float, default=600)
    p.add_argument("--pgbin", default=subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip())
    p.add_argument("--tmp", default=os.path.join(tempfile.gettempdir(), "slonbench"))
    p.add_argument("--port-base", type=int, default=6151)
    p.add_argument("--fsync", choices=["on", "off"], default="on")
    p.add_argument("--keep", action="store_true")
    a = p.parse_args()
    a.cmd = "growth"
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: sys.exit(130))
    x = Ctx(a)
    rows = []
    for name in a.cases.split(","):
        r, t, s = CASES[name]
        rows.append(case(x, name, a.rows * r, a.tables * t, s))
    print("\n| | rows | tables | subscribers | drain | rows applied per second | server, per row | slon of a subscriber | slon of the origin | one row |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for v in rows:
        print(f"| {v['case']} | {v['rows']:,} | {v['tables']:,} | {v['subscribers']} | {v['drain_s']} s | {v['rows_per_s']:,} | "
              f"{v['server_cpu_us_per_row']} us | {v['subscriber_slon_mb']:.0f} MB | {v['origin_slon_mb']:.0f} MB | {v['one_row_ms']} ms |")


if __name__ == "__main__":
    main()
