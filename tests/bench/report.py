#!/usr/bin/env python3
"""Trunkline, Slony-I and native logical replication side by side: measures, prints the table of promises with ratios, writes
docs/src/performance.md.  See README.md."""
import argparse, json, os, platform, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SYSTEMS = ["trunkline", "slony", "native"]

# step: (subcommand, arguments when short, arguments when full, systems)
STEPS = {
    "drain": ("drain", "--rows 300000 --tx 40000 --settle 3", "", SYSTEMS),
    "latency": ("latency", "--secs 10 --variants=", "--variants=", SYSTEMS),
    "copy": ("copy", "--scale 10 --reps 2", "", SYSTEMS),
    "capture": ("capture", "--rows 200000 --secs 4 --reps 2", "", SYSTEMS),
    "switch": ("switch", "--reps 2 --variants=", "--variants=", SYSTEMS),
    "sets": ("sets", "--tables 300", "", SYSTEMS),
    "wide": ("wide", "--wide-rows 60", "", SYSTEMS),
    "idle": ("idle", "--secs 15", "", SYSTEMS),
    "failover": ("failover", "--reps 1", "--reps 3", ["trunkline", "slony"]),
}


def run_step(name, full, out, binaries, repetitions, port):
    """Runs one step for all its systems, interleaved, and appends the documents to `out`."""
    subcommand, short_arguments, full_arguments, systems = STEPS[name]
    for _ in range(repetitions):
        for system in systems:
            command = [sys.executable, os.path.join(HERE, "bench.py"), subcommand, "--system", system,
                       "--out", out, "--port-base", str(port), *(full_arguments if full else short_arguments).split()]
            if system == "trunkline":
                command += ["--slon", os.path.join(binaries, "slon"), "--slonik", os.path.join(binaries, "slonik")]
            print(f"--- {name} {system}", flush=True)
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name} {system} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
            else:
                print(done.stdout.splitlines()[-1], flush=True)


class Results:
    """Documents of a run, by subcommand and system."""

    def __init__(self, path):
        self.documents = {}
        with open(path) as lines:
            for line in lines:
                document = json.loads(line)
                self.documents.setdefault((document["cmd"], document["system"]), []).append(document)

    def median(self, command, system, *path):
        """Median over the repetitions of the value at `path`; None where it was not measured."""
        values = []
        for document in self.documents.get((command, system), []):
            value = document["result"]
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, (int, float)):
                values.append(value)
        return statistics.median(values) if values else None

    def first(self, command, system):
        documents = self.documents.get((command, system))
        return documents[0] if documents else None

    def extent(self, full_steps):
        """Sizes and repetitions in words; steps may have been taken by several runs (`--append`)."""
        taken = {}
        for (command, system), documents in self.documents.items():
            taken[command] = max(taken.get(command, 0), len(documents))
        full = [f"{command} ({taken[command]})" for command in taken if command in full_steps]
        short = [f"{command} ({taken[command]})" for command in taken if command not in full_steps]
        return "; ".join(f"{size}, repetitions in brackets: {', '.join(steps)}"
                         for size, steps in (("Full sizes", full), ("short", short)) if steps)

    def spread(self):
        documents = [d for many in self.documents.values() for d in many]
        spins = [d["env"][key] for d in documents for key in ("spin_ms_before", "spin_ms_after")]
        return min(spins), max(spins), min(d["env"]["date"] for d in documents), len(documents)


def number(value, unit=""):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}{unit}"
    if abs(value) >= 10:
        return f"{value:.0f}{unit}"
    return f"{value:.2g}{unit}"


def ratio(one, other):
    return None if one is None or not other else one / other


def rows(results):
    """Lines of the table: what, three figures, ratios, what is required, whether it is kept."""
    for work, required, native in (
        ("insert", 3, None), ("update", 3, None), ("delete", 3, None), ("tpcb", 6, 1), ("simple", 2, 2)
    ):
        ours, slony, built_in = (results.median("drain", system, work, "rows_per_s") for system in SYSTEMS)
        names = {"tpcb": "TPC-B", "simple": "pgbench -N"}
        text = f">= {required} x Slony" + (f", {'>' if native == 1 else '>= 2 x'} native" if native else "")
        kept = None
        if ours and slony and (built_in or not native):
            kept = ours >= required * slony and (not native or ours > native * built_in)
        yield (f"`drain` {names.get(work, work)}, rows/s", ours, slony, built_in,
               f"{number(ratio(ours, slony))} x Slony, {number(ratio(ours, built_in))} x native", text, kept)
    figures = [results.median("drain", system, "null", "elapsed_s") for system in SYSTEMS]
    yield ("start of the daemon to the first row applied, s", *figures, f"1/{number(ratio(figures[1], figures[0]))} of Slony",
           "< 0.5 s", None if figures[0] is None else figures[0] < 0.5)
    for percentile, limit in ((50, 20), (99, 100)):
        figures = [results.median("latency", system, "default", f"p{percentile}_ms") for system in SYSTEMS]
        yield (f"`latency` 200 tx/s, p{percentile}, ms", *figures, f"1/{number(ratio(figures[1], figures[0]))} of Slony",
               f"<= {limit} ms", figures[0] is not None and figures[0] <= limit)
    figures = [results.median("copy", system, "ratio_vs_pipe_with_pk") for system in SYSTEMS]
    yield ("`copy` first subscription over COPY into the table with its key", *figures, "",
           "<= 1.5 x", figures[0] is not None and figures[0] <= 1.5)
    for key, what, limit, more in (
        ("insert_select_s", "bulk insert", 2.3, False), ("update_s", "bulk update", 2.7, False),
        ("delete_s", "bulk delete", 7, False), ("tpcb_simple_tps", "TPC-B, simple", 0.85, True),
        ("tpcb_prepared_tps", "TPC-B, prepared", 0.85, True)
    ):
        figures = [results.median("capture", system, key, "captured_over_plain") for system in SYSTEMS]
        kept = None if figures[0] is None else (figures[0] >= limit if more else figures[0] <= limit)
        yield (f"`capture` {what}, captured over plain", *figures, "", f"{'>=' if more else '<='} {limit} x", kept)
    figures = [results.median("switch", system, "default load=200", "outage_s") for system in SYSTEMS]
    yield ("`switch` write outage at 200 tx/s, s", *figures, f"1/{number(ratio(figures[1], figures[0]))} of Slony", "<= 0.3 s",
           figures[0] is not None and figures[0] <= 0.3)
    tables = results.median("sets", "trunkline", "tables") or 1000
    for key, what, limit in (("create_set_add_tables_s", "create and add", 6), ("subscribe_s", "subscribe", 8)):
        figures = [results.median("sets", system, key) for system in SYSTEMS]
        yield (f"`sets` {tables:.0f} tables, {what}, s", *figures, "", f"<= {limit} s for 1000",
               figures[0] is not None and figures[0] <= limit * tables / 1000)
    for kind in ("text", "bytea"):
        figures = [results.median("wide", system, kind, "elapsed_s") for system in SYSTEMS]
        count = results.median("wide", "trunkline", kind, "rows") or 300
        memory = results.median("wide", "trunkline", kind, "peak", "slon2_hwm_mb")
        yield (f"`wide` {count:.0f} rows of 4 MB, {kind}, s", *figures, f"slon {number(memory, ' MB')}",
               "<= 50 s for 300, slon <= 128 MB",
               figures[0] is not None and figures[0] <= 50 * count / 300 and (memory or 0) <= 128)
    figures = [results.median("idle", system, "percent_of_a_core") for system in SYSTEMS]
    yield ("idle cluster of 3 nodes, all processes, % of a core", *figures, "", "< 2 %",
           None if figures[0] is None else figures[0] < 2)
    for key, what, limit in (("kill_to_writable_s", "kill to accepted write", 2),
                             ("slonik_start_to_node3_converged_s", "third node following", 4)):
        figures = [results.median("failover", system, key) for system in SYSTEMS]
        yield (f"`failover` {what}, s", *figures, "", f"<= {limit} s", None if figures[0] is None else figures[0] <= limit)


def table(results):
    lines = ["| what | Trunkline | Slony-I | native | ratio | required | kept |", "|---|---|---|---|---|---|---|"]
    for what, ours, slony, native, compared, required, kept in rows(results):
        if ours is None:
            continue
        verdict = {True: "yes", False: "**no**", None: ""}[kept]
        lines.append(f"| {what} | {number(ours)} | {number(slony)} | {number(native)} | {compared} | {required} | {verdict} |")
    return "\n".join(lines)


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as lines:
        memory = int(next(lines).split()[1]) / 1024 / 1024
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GB, {platform.system()} {platform.release()}"


def write_page(results, path, full_steps):
    least, most, date, count = results.spread()
    postgres = subprocess.run(["pg_config", "--version"], capture_output=True, text=True).stdout.strip()
    versions = [results.first("drain", system) for system in SYSTEMS]
    versions = ", ".join(document["version"].splitlines()[0] for document in versions if document)
    cpu = ["| backlog | rows/s | provider's server | subscriber's server | slon |", "|---|---|---|---|---|"]
    for work in ("insert", "update", "delete", "tpcb", "simple"):
        figures = [results.median("drain", "trunkline", work, key)
                   for key in ("rows_per_s", "node1_backends_cpu_s", "node2_backends_cpu_s", "slon2_cpu_s", "rows")]
        if None not in figures:
            per_row = [f"{figure * 1e6 / figures[4]:.2f}" for figure in figures[1:4]]
            cpu.append(f"| {work} | {figures[0]:,.0f} | {' | '.join(per_row)} |")
    text = f"""# Performance

Written by `make bench` from runs of {date[:10]}; do not edit. All three systems ran on the same machine, one after
the other. A figure stands here only if its run ended with count and checksum of every table being equal; a run that did not leaves a gap.

{table(results)}

`-`: not measured, or there is no such thing. "captured over plain" and the copy are ratios of times or rates measured in the same
run, so they compare across machines; rows and seconds do not.

## Processor time per row

Microseconds of processor time for each row of a backlog, by who spends it. The subscriber's server stores every row twice: in
its table, and in its log for subscribers of its own (`forward = yes`).

{chr(10).join(cpu)}

## Conditions

* {machine()}; {postgres}; {versions}.
* One provider and one subscriber (a third node for `failover`), each a server of its own on 127.0.0.1, `fsync` on, 512 MB of shared
  buffers, `max_wal_size` 8 GB, otherwise stock. slon without options; subscriptions with `forward = yes`. Native: publication and
  subscription with `wal_retrieve_retry_interval = 100ms`.
* {results.extent(full_steps)}; {count} measurements. A fixed piece of processor work took
  {least} to {most} ms beside them: the wider that range, the busier the neighbours were.
* `drain`: the subscriber's slon is stopped, a backlog made, slon started; seconds until the last row is visible. `latency`: from
  the client's COMMIT to the row being seen by a poll every millisecond. `copy`: `subscribe set` until in sync, over `psql COPY | psql
  COPY`. `switch`: `lock set`, wait, `move set`, wait. `sets`: as many `set add table` statements in one script. `wide`: incompressible
  values. What each one does in detail stands in `tests/bench/README.md`.
"""
    with open(path, "w") as page:
        page.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="full sizes, three repetitions: about an hour")
    parser.add_argument("--full-steps", default="", help="steps of an earlier run with full sizes, for the page: comma separated")
    parser.add_argument("--steps", default=",".join(STEPS), help="which steps, comma separated")
    parser.add_argument("--results", default=os.path.join(ROOT, "target", "bench", "results.jsonl"))
    parser.add_argument("--append", action="store_true", help="add to the results of an earlier run")
    parser.add_argument("--report-only", action="store_true", help="measure nothing, write the page from the results")
    parser.add_argument("--binaries", default=os.path.join(ROOT, "target", "release"))
    parser.add_argument("--port", type=int, default=6101, help="first of three ports")
    parser.add_argument("--page", default=os.path.join(ROOT, "docs", "src", "performance.md"))
    arguments = parser.parse_args()
    os.makedirs(os.path.dirname(arguments.results), exist_ok=True)
    if not arguments.report_only:
        if not arguments.append and os.path.exists(arguments.results):
            os.rename(arguments.results, arguments.results + time.strftime(".%Y%m%d%H%M%S"))
        for step in arguments.steps.split(","):
            run_step(step, arguments.full, arguments.results, arguments.binaries, 3 if arguments.full else 1, arguments.port)
    results = Results(arguments.results)
    print(table(results))
    write_page(results, arguments.page, set((arguments.steps if arguments.full else arguments.full_steps).split(",")))
    print(f"written: {arguments.page}")


if __name__ == "__main__":
    main()
