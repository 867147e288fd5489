"""One line of bench/latency: how long the events of a table were on their way.

    latency.py TABLE TRIGGER TRIGGER_MS FROM TO CPU_TICKS RESIDENT_MB FIGURES

FROM and TO in nanoseconds since 1970; its figures are added to the file FIGURES, see bench/result.py.
"""

import json
import sys
from pathlib import Path

import pyarrow.compute as compute
import pyarrow.parquet as parquet


def main():
    table, trigger = Path(sys.argv[1]), sys.argv[2]
    trigger_ms, begin, end, ticks, resident = map(int, sys.argv[3:8])
    ways, commits = [], set()
    for path in sorted(table.rglob("*.parquet")):
        published = path.stat().st_ctime_ns
        written = parquet.read_table(path, columns=["written"], partitioning=None)["written"]
        written = compute.cast(compute.cast(written, "timestamp[us]"), "int64").to_numpy()
        counted = written[(written * 1000 >= begin) & (written * 1000 < end)]
        ways.extend((published - counted * 1000) / 1e6)
        if begin <= published < end:
            # <job>-<log>-<version>-<number>.parquet
            commits.add(path.stem.rsplit("-", 2)[1])
    ways.sort()
    commits = len(commits)
    if not ways:
        sys.exit(f"{trigger}: no rows")
    seconds = (end - begin) / 1e9
    p50, p99 = ways[len(ways) // 2], ways[len(ways) * 99 // 100]
    keeps_up = commits >= 0.9 * seconds * 1000 / trigger_ms and p99 < 2 * trigger_ms + 200
    print(
        f"{trigger:<8} {len(ways) / seconds:>10,.0f} {commits:>8} {p50:>5.0f} ms {p99:>5.0f} ms"
        f" {p50 - trigger_ms / 2:>8.0f} ms {p99 - trigger_ms:>8.0f} ms"
        f" {ticks * 10 / seconds:>10.0f} {resident:>6} MB {'yes' if keeps_up else 'no'}"
    )
    figures = {
        ("p50 beyond the trigger", "ms"): p50 - trigger_ms / 2,
        ("p99 beyond the trigger", "ms"): p99 - trigger_ms,
        ("commits", "a second"): commits / seconds,
        ("processor", "millicores"): ticks * 10 / seconds,
        ("memory", "MB"): resident,
    }
    with open(sys.argv[8], "a", encoding="utf-8") as file:
        for (figure, unit), value in figures.items():
            file.write(json.dumps([f"trigger {trigger}", "data-platform", figure, unit, value]) + "\n")


main()
