"""Replicators under test behind one small interface.

  conf()                     postgresql.conf settings every node needs
  init(ids)                  make the nodes know each other, start daemons
  create_set(tables)         node 1 publishes the tables
  subscribe(rcv)             initial copy; returns when rcv is in sync
  unsubscribe(rcv)
  stop_apply(n)/start_apply(n)   the subscriber's daemon off / on
  stop_all()                 all daemons off (capture goes on)
  daemons()                  {name: pid} of daemons for CPU and memory
"""
import os, signal, subprocess, time
from pgnode import kill_tree

CLUSTER = "bench"


class System:
    def __init__(self, ctx, nodes):
        self.ctx, self.n = ctx, nodes          # nodes: {id: Node}

    def conf(self): return {}
    def daemons(self): return {}
    def stop_all(self): pass
    def close(self): self.stop_all()
    def version(self): return ""


class Slony(System):
    """Slony-I: slon and slonik, given by path."""
    procs = None

    def __init__(self, ctx, nodes):
        super().__init__(ctx, nodes)
        self.procs, self.logs = {}, {}

    def version(self):
        return subprocess.run([self.ctx.a.slon, "-v"], capture_output=True, text=True).stdout.strip()

    # -- slonik
    def slonik(self, body, timeout=900, check=True):
        pre = f"cluster name = {CLUSTER};\n" + "".join(
            f"node {i} admin conninfo = '{n.dsn()}';\n" for i, n in self.n.items())
        t = time.time()
        p = subprocess.run([self.ctx.a.slonik], input=pre + body, capture_output=True, text=True, timeout=timeout)
        dt = time.time() - t
        with open(os.path.join(self.ctx.tmp, "slonik.log"), "a") as f:
            f.write(f"---- rc={p.returncode} {dt:.2f}s\n{body[:2000]}\n{p.stdout}{p.stderr}\n")
        if check and p.returncode:
            raise RuntimeError(f"slonik rc={p.returncode}: {p.stdout[-1500:]}{p.stderr[-1500:]}")
        return dt, p.stdout + p.stderr

    # -- slon
    def start_apply(self, i, args=None):
        log = open(os.path.join(self.ctx.tmp, f"slon{i}.log"), "ab")
        cmd = [self.ctx.a.slon] + (self.ctx.a.slon_args.split() if args is None else args) \
            + [CLUSTER, self.n[i].dsn()]
        self.procs[i] = subprocess.Popen(cmd, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop_apply(self, i, kill=False):
        p = self.procs.pop(i, None)
        if not p:
            return
        if kill:
            kill_tree(p.pid)
            p.wait()
            return
        p.send_signal(signal.SIGTERM)
        try:
            p.wait(30)
        except subprocess.TimeoutExpired:
            self.ctx.note(f"slon {i} ignored SIGTERM for 30 s; SIGKILLed")
            kill_tree(p.pid)
            p.wait()

    def restart_all(self, args):
        for i in list(self.procs):
            self.stop_apply(i)
        for i in self.n:
            self.start_apply(i, args)

    def stop_all(self):
        for i in list(self.procs):
            self.stop_apply(i)

    def daemons(self):
        return {f"slon{i}": p.pid for i, p in self.procs.items()}

    capture_only = stop_all

    # -- administration
    def init(self, ids):
        s = "init cluster (id=1, comment='node 1');\n"
        s += "".join(f"store node (id={i}, comment='node {i}', event node=1);\n" for i in ids if i != 1)
        s += "".join(f"store path (server={a}, client={b}, conninfo='{self.n[a].dsn()}');\n"
                     for a in ids for b in ids if a != b)
        dt, _ = self.slonik(s)
        for i in ids:
            self.start_apply(i)
        return dt

    def create_set(self, tables, seqs=()):
        s = "create set (id=1, origin=1, comment='bench');\n"
        s += "".join(f"set add table (set id=1, origin=1, id={k}, fully qualified name='public.{t}', comment='t');\n"
                     for k, t in enumerate(tables, 1))
        s += "".join(f"set add sequence (set id=1, origin=1, id={k}, fully qualified name='public.{t}', comment='s');\n"
                     for k, t in enumerate(seqs, 1))
        return self.slonik(s)[0]

    def subscribe(self, rcv, provider=1):
        return self.slonik(
            f"subscribe set (id=1, provider={provider}, receiver={rcv}, forward=yes);\n"
            "wait for event (origin=1, confirmed=all, wait on=1, timeout=0);\n"
            f"sync (id=1);\nwait for event (origin=1, confirmed={rcv}, wait on=1, timeout=0);\n")[0]

    def unsubscribe(self, rcv):
        self.slonik(f"unsubscribe set (id=1, receiver={rcv});\n"
                    f"wait for event (origin={rcv}, confirmed=all, wait on={rcv}, timeout=0);\n")

    def switch(self, old, new):
        return self.slonik(
            f"lock set (id=1, origin={old});\n"
            f"wait for event (origin={old}, confirmed={new}, wait on={old}, timeout=0);\n"
            f"move set (id=1, old origin={old}, new origin={new});\n"
            f"wait for event (origin={old}, confirmed={new}, wait on={old}, timeout=0);\n")[0]

    def failover(self, dead, backup):
        return self.slonik(f"failover (id={dead}, backup node={backup});\n", check=False)

    def provider_of(self, rcv):
        return self.n[rcv].sql(f"select sub_provider, sub_active from _{CLUSTER}.sl_subscribe "
                               "where sub_set=1 and sub_receiver=%s", (rcv,))


class Native(System):
    """Built-in logical replication: publication, subscription."""

    # default wal_retrieve_retry_interval (5 s) delays every worker restart by up to 5 s
    def conf(self): return {"wal_level": "logical", "wal_retrieve_retry_interval": "100ms"}
    def version(self): return "built-in logical replication"
    def init(self, ids): return 0.0

    def create_set(self, tables, seqs=()):
        t = time.time()
        self.n[1].sql("create publication bench for table " + ", ".join(tables))
        return time.time() - t

    def subscribe(self, rcv, provider=1):
        t = time.time()
        self.n[rcv].sql(f"create subscription bench{rcv} connection '{self.n[provider].dsn()}' publication bench")
        while self.n[rcv].val("select count(*) from pg_subscription_rel where srsubstate<>'r'"):
            time.sleep(0.05)
        return time.time() - t

    def unsubscribe(self, rcv):
        self.n[rcv].sql(f"drop subscription bench{rcv}")

    def stop_apply(self, i):
        self.n[i].sql(f"alter subscription bench{i} disable")
        while self.n[1].val("select count(*) from pg_replication_slots where active and slot_name=%s", (f"bench{i}",)):
            time.sleep(0.05)

    def start_apply(self, i, args=None):
        self.n[i].sql(f"alter subscription bench{i} enable")

    def stop_all(self): pass

    def capture_only(self):
        for i in self.n:
            if i != 1:
                self.stop_apply(i)

    # No switchover exists; this is what a careful hand-written script does
    # (sequences not handled). Readiness: deny_writes() trigger on every table.
    def switch(self, old, new):
        o, n = self.n[old], self.n[new]
        t = time.time()
        tabs = [r[0] for r in o.sql("select tablename from pg_publication_tables where pubname='bench'")]
        n.sql("create publication bench for table " + ", ".join(tabs)
              if not n.val("select count(*) from pg_publication where pubname='bench'") else "select 1")
        o.sql("".join(f"alter table {x} enable trigger deny;" for x in tabs))
        lsn = o.val("select pg_current_wal_insert_lsn()")
        while not o.val("select bool_and(confirmed_flush_lsn >= %s::pg_lsn) from pg_replication_slots", (lsn,)):
            time.sleep(0.01)
        sub = n.val("select subname from pg_subscription")
        n.sql(f"drop subscription {sub}")
        o.sql(f"create subscription bench{old}_{int(t * 1000)} connection '{n.dsn()}' publication bench with (copy_data=false)")
        n.sql("".join(f"alter table {x} disable trigger deny;" for x in tabs))
        return time.time() - t


class Trunkline(Slony):
    """Our slon and slonik: the same scripts and command lines, other programs."""

    def version(self):
        out = subprocess.run([self.ctx.a.slon, "--version"], capture_output=True, text=True).stdout.strip()
        return f"Trunkline ({out})"


SYSTEMS = {"trunkline": Trunkline, "slony": Slony, "native": Native}
