"""Batch jobs and queries of data-platform beside DuckDB, in turns: see bench/batch.

    batch.py --program PROGRAM --work FOLDER [--scale S] [--threads N] [--rounds N] [NAME...]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import duckdb

import result

HERE = os.path.dirname(os.path.abspath(__file__))
MEMORY = "1GiB"
DAY = "2026-01-15"
# Name -> (arguments behind the job's name, its table).
JOBS = {
    "hourly-aggregates": (["--from", DAY, "--to", "2026-01-16"], "hourly_aggregates"),
    "daily-summaries": (["--target-date", DAY], "daily_summaries"),
    "user-segmentation": (["--target-date", "2026-01-30"], "user_segments"),
}
# What each of them is, in a few words.
SHORT = {
    "hourly-aggregates": "24 hours",
    "daily-summaries": "one day",
    "user-segmentation": "30 days",
    "q01": "sums by kind",
    "q02": "a selective filter",
    "q03": "a join, the first hundred",
    "q04": "EXISTS",
    "q05": "a join of three tables",
    "q06": "shares by day",
    "q07": "ranks",
    "q08": "distinct users by day",
    "q09": "lists",
    "q10": "NOT IN",
}


def data(folder, scale):
    """Writes the tables, in the layout that the jobs of this platform write."""
    done = os.path.join(folder, "done")
    if os.path.exists(done):
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    aggregates, sessions = int(50_000_000 * scale), int(10_000_000 * scale)
    users = max(1_000, sessions // 20)
    print(f"==> writing {aggregates:,} event aggregates and {sessions:,} sessions of {users:,} users", file=sys.stderr)
    database = duckdb.connect()
    start = "TIMESTAMP '2026-01-01 00:00:00'"
    kinds = "['page_view', 'click', 'search', 'scroll', 'purchase', 'login', 'share', 'error'][1 + CAST(hash(i, 1) % 8 AS INTEGER)]"
    apps = "['web', 'mobile', 'api'][1 + CAST(hash(i, 2) % 3 AS INTEGER)]"
    # Few users do much: the square of a random number.
    user = f"'user_' || lpad(CAST(CAST(pow((hash(i, 3) % 1000003) / 1000003.0, 2) * {users - 1} AS BIGINT) AS VARCHAR), 8, '0')"
    database.execute(
        f"""
        COPY (
          SELECT *, window_start + INTERVAL 1 MINUTE AS window_end, CAST(window_start AS DATE) AS date FROM (
            SELECT {start} + to_seconds(60 * CAST(i * 43200 // {aggregates} AS BIGINT)) AS window_start,
                   {user} AS user_id, {kinds} AS event_type, {apps} AS app_type,
                   1 + CAST(hash(i, 4) % 9 AS BIGINT) AS event_count,
                   list_transform(range(1 + CAST(hash(i, 5) % 3 AS INTEGER)),
                                  lambda n: 'session_' || CAST((hash(i, 6) % 100000) * 3 + n AS VARCHAR)) AS session_ids
            FROM range({aggregates}) t(i))
        ) TO '{folder}/events_aggregated_realtime' (FORMAT parquet, PARTITION_BY (date), COMPRESSION zstd)
        """
    )
    database.execute(
        f"""
        COPY (
          SELECT *, session_start + to_microseconds(CAST(session_duration_sec * 1000000 AS BIGINT)) AS session_end,
                 CAST(session_start AS DATE) AS date FROM (
            SELECT {start} + to_seconds(CAST(i * 2592000 // {sessions} AS BIGINT)) AS session_start, {user} AS user_id,
                   'session_' || CAST(i AS VARCHAR) AS session_id,
                   1 + CAST(hash(i, 7) % 40 AS BIGINT) AS total_clicks, 1 + CAST(hash(i, 8) % 12 AS BIGINT) AS unique_pages,
                   (hash(i, 9) % 3600000) / 1000.0::DOUBLE AS session_duration_sec
            FROM range({sessions}) t(i))
        ) TO '{folder}/clickstream_sessions' (FORMAT parquet, PARTITION_BY (date), COMPRESSION zstd)
        """
    )
    # What the jobs that write such tables tell beside them: by it directories of other days are not opened.
    for table, times in (("events_aggregated_realtime", ["window_start"]), ("clickstream_sessions", ["session_start"])):
        os.makedirs(f"{folder}/_dataplatform/{table}")
        with open(f"{folder}/_dataplatform/{table}/schema.json", "w", encoding="utf-8") as file:
            json.dump({"columns": [{"name": "date", "type": "date", "directory": True, "utcDateOf": times}]}, file)
    os.makedirs(f"{folder}/users")
    database.execute(
        f"""
        COPY (
          SELECT 'user_' || lpad(CAST(i AS VARCHAR), 8, '0') AS user_id,
                 ['DE', 'FR', 'GB', 'IT', 'JP', 'US', 'BR', 'IN'][1 + CAST(hash(i, 10) % 8 AS INTEGER)] AS country,
                 ['free', 'basic', 'pro'][1 + CAST(hash(i, 11) % 3 AS INTEGER)] AS plan,
                 DATE '2024-01-01' + CAST(hash(i, 12) % 700 AS INTEGER) AS signup
          FROM range({users}) t(i)
        ) TO '{folder}/users/users.parquet' (FORMAT parquet, COMPRESSION zstd)
        """
    )
    # The hours of one day, for the summaries of days.
    os.makedirs(f"{folder}/hourly_aggregates")
    database.execute(
        f"""
        COPY (
          SELECT date_trunc('hour', window_start) AS hour, event_type, app_type, sum(event_count)::BIGINT AS event_count
          FROM read_parquet('{folder}/events_aggregated_realtime/*/*.parquet') WHERE date = DATE '{DAY}' GROUP BY ALL
        ) TO '{folder}/hourly_aggregates/hours.parquet' (FORMAT parquet)
        """
    )
    open(done, "w").close()


def measured(command, environment, output=None):
    """CPU-seconds, seconds and greatest memory in MB of a process, and what it printed.

    By a small process between, or this one's memory would count as the child's.
    """
    figures = os.path.join(tempfile.gettempdir(), f"bench-batch-{os.getpid()}")
    timed = ["/usr/bin/time", "-f", "%U %S %e %M", "-o", figures, *command]
    with open(output, "wb") if output else open(os.devnull, "wb") as out:
        ended = subprocess.run(timed, stdout=out, stderr=subprocess.PIPE, env={**os.environ, **environment})
    said = ended.stderr.decode(errors="replace")
    if ended.returncode:
        sys.exit(f"{' '.join(command)}\nended with {ended.returncode}:\n{said[-2000:]}")
    with open(figures, encoding="utf-8") as file:
        user, system, seconds, kilobytes = map(float, file.read().split())
    os.remove(figures)
    return user + system, seconds, kilobytes / 1024, said


def by_duckdb(name, sql, args, answer):
    command = [sys.executable, os.path.join(HERE, "batch_peer.py"), sql, args.data, answer, str(args.threads), MEMORY]
    cpu, seconds, memory, said = measured(command, {})
    ready = json.loads(said.splitlines()[-1])
    return cpu - ready["cpu"], seconds - ready["seconds"], memory


def without_comments(file):
    """The text of a query as one argument, which may not begin as an option does."""
    with open(file, encoding="utf-8") as lines:
        return "".join(line for line in lines if not line.startswith("--"))


def by_us(name, sql, args, answer):
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: args.threads]))
    pinned = ["taskset", "-c", cores, args.program]
    quiet = {"LOG_LEVEL": "error", "KAFKA_BOOTSTRAP_SERVER": ""}
    if name not in JOBS:
        tables = [("events", "events_aggregated_realtime"), ("sessions", "clickstream_sessions"), ("users", "users")]
        named = [part for table, path in tables for part in ("--table", f"{table}={args.data}/{path}")]
        command = pinned + ["query", without_comments(sql), "--format", "parquet", "--outputs", args.data] + named
        return measured(command, quiet, answer)[:3]
    place = os.path.join(args.work, "job")
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(f"{place}/o")
    for table in os.listdir(args.data):
        if table not in (JOBS[name][1], "_dataplatform") and os.path.isdir(f"{args.data}/{table}"):
            os.symlink(f"{args.data}/{table}", f"{place}/o/{table}")
    inputs = 1 if name == "hourly-aggregates" else 2
    sets = [part for at in range(inputs) for part in ("--set", f"spec.inputs[{at}].completeBy=clock")]
    command = pinned + ["run", name, *JOBS[name][0], "--http", "off", *sets]
    figures = measured(command, {**quiet, "OUTPUTS_DIR": f"{place}/o", "CHECKPOINT_DIR": f"{place}/c"})[:3]
    shutil.rmtree(answer, ignore_errors=True)
    shutil.move(f"{place}/o/{JOBS[name][1]}", answer)
    return figures


def compare(name, ours, theirs):
    """Ends with an error unless both have the same rows: doubles to nine digits, since sums of them hang on their order. Gives their
    number. The other columns tell the rows apart."""
    database = duckdb.connect()
    of = lambda path: f"read_parquet('{path}{'/**/*.parquet' if os.path.isdir(path) else ''}', hive_partitioning = true)"
    keys, doubles = [], []
    for column, kind, *_ in database.sql(f"DESCRIBE FROM {of(theirs)}").fetchall():
        if kind in ("DOUBLE", "FLOAT", "HUGEINT") or kind.startswith("DECIMAL"):
            doubles.append(f'CAST("{column}" AS DOUBLE)')
        else:
            keys.append(f'epoch_us("{column}")' if kind.startswith("TIMESTAMP") else f'CAST("{column}" AS VARCHAR)')
    named = [f"{expression} AS c{at}" for at, expression in enumerate(keys + doubles)]
    for table, path in (("ours", ours), ("theirs", theirs)):
        order = f"OVER (ORDER BY {', '.join(keys)})" if keys else "OVER ()"
        database.execute(f"CREATE TABLE {table} AS SELECT row_number() {order} AS place, {', '.join(named)} FROM {of(path)}")
    listed = ", ".join(f"c{at}" for at in range(len(keys))) or "place"
    far = [f"abs(o.c{at} - t.c{at}) > 1e-9 * greatest(abs(o.c{at}), abs(t.c{at}))" for at in range(len(keys), len(named))]
    far = " OR ".join(far + [f"(o.c{at} IS NULL) <> (t.c{at} IS NULL)" for at in range(len(keys), len(named))]) or "false"
    for what, query in (
        ("too much", f"SELECT {listed} FROM ours EXCEPT ALL SELECT {listed} FROM theirs"),
        ("too little", f"SELECT {listed} FROM theirs EXCEPT ALL SELECT {listed} FROM ours"),
        ("other numbers", f"SELECT o.*, t.* FROM ours o JOIN theirs t ON o.place = t.place WHERE {far}"),
    ):
        rows = database.execute(f"FROM ({query}) LIMIT 3").fetchall()
        if rows:
            sys.exit(f"{name}: {what}: {rows}")
    return database.execute("SELECT count(*) FROM ours").fetchone()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--program", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--scale", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    queries = {file.removesuffix(".sql"): f"{HERE}/batch_queries/{file}" for file in sorted(os.listdir(f"{HERE}/batch_queries"))}
    all_names = {**{job: f"{HERE}/peers/batch/{job}.sql" for job in JOBS}, **queries}
    unknown = [name for name in args.names if name not in all_names]
    if unknown:
        sys.exit(f"bench/batch: there is no {', '.join(unknown)}; there are {', '.join(all_names)}")
    args.data = os.path.join(args.work, f"data-{args.scale:g}")
    data(args.data, args.scale)
    measured_rows = []
    print("| | rows | data-platform CPU-s | s | MB | DuckDB CPU-s | s | MB | CPU | seconds | memory |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in args.names or all_names:
        ours, theirs = os.path.join(args.work, "ours"), os.path.join(args.work, "theirs")
        pairs = []
        for _ in range(args.rounds):
            for path in (ours, theirs):
                shutil.rmtree(path, ignore_errors=True)
                if os.path.exists(path):
                    os.remove(path)
            pairs.append((by_us(name, all_names[name], args, ours), by_duckdb(name, all_names[name], args, theirs)))
            rows = compare(name, ours, theirs)
        for side, system in enumerate((result.OURS, "DuckDB")):
            for figure, (words, unit) in enumerate((("CPU-seconds", "s"), ("seconds", "s"), ("memory", "MB"))):
                measured_rows += [(f"{name}, {SHORT[name]}", system, words, unit, pair[side][figure]) for pair in pairs]
        of = lambda side, figure: statistics.median(pair[side][figure] for pair in pairs)
        figures = [f"{of(side, 0):.2f} | {of(side, 1):.2f} | {of(side, 2):.0f}" for side in (0, 1)]
        ratio = lambda figure: statistics.median(pair[0][figure] / max(pair[1][figure], 1e-3) for pair in pairs)
        print(f"| {name} | {rows:,} | {figures[0]} | {figures[1]} | {ratio(0):.2f} | {ratio(1):.2f} | {ratio(2):.2f} |", flush=True)
    # A page of a few of them would look as if the others had not been measured.
    if not args.names:
        version = subprocess.run([args.program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
        command = f"SCALE={args.scale:g} THREADS={args.threads} ROUNDS={args.rounds} bench/batch"
        versions = {result.OURS: version, "DuckDB": duckdb.__version__}
        result.write("batch", measured_rows, "Batch jobs and queries", command, versions)


main()
