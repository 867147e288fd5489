#!/usr/bin/env python3
"""Figures of a benchmark, and the file of its result that bench/report reads.

    result.py process FIGURES CASE SYSTEM RECORDS TIME     what /usr/bin/time -f '%U %S %e %M' wrote to TIME, also as a line to read
    result.py figure FIGURES CASE SYSTEM FIGURE UNIT VALUE...
    result.py write NAME FIGURES TITLE COMMAND [PROGRAM=VERSION...]

The first two append to FIGURES, the last one makes bench/results/NAME.json of it:

    name, title, command, date, commit, note     the note is BENCH_NOTE, for what else the machine had to do
    machine    {cpu, cores, memory_gb, kernel}
    versions   {program: version}
    rows       [{case, system, figure, unit, values, median}], the values in the order of the rounds
    series     [{case, system, figure, unit, points: [[second, value], ...]}], if figures over time were taken

Environment: BENCH_RESULTS (bench/results) is where it is written, BENCH_NOTE.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = "data-platform"


def machine():
    def first(path, word):
        lines = Path(path).read_text(encoding="utf-8").splitlines() if os.path.exists(path) else []
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(word)), "")

    kilobytes = first("/proc/meminfo", "MemTotal").split()
    return {
        "cpu": first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(kilobytes[0]) / 1024**2) if kilobytes else None,
        "kernel": f"{platform.system()} {platform.release()}",
    }


def commit():
    """The last commit that changed the program's sources, with a + if they are not what it has."""

    def git(*arguments):
        return subprocess.run(["git", "-C", HERE, *arguments], capture_output=True, text=True)

    sources = (":/Cargo.lock", ":/crds", ":/runner", ":/operator", ":/page")
    head = git("log", "-1", "--format=%h", "--", *sources).stdout.strip()
    same = git("diff", "--quiet", "HEAD", "--", *sources).returncode == 0
    return head + ("" if same else "+") if head else None


def text_of(result):
    """JSON with one row a line, so that a change of one figure is one line of a diff."""
    lists = {key: result.pop(key) for key in ("rows", "series") if key in result}
    text = json.dumps(result, indent=2, ensure_ascii=False)[:-2]
    for key, rows in lists.items():
        text += (
            f',\n  "{key}": [\n' + ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in rows) + "\n  ]"
        )
    return text + "\n}\n"


def write(name, rows, title, command, versions, series=None):
    """Makes the file of a result of `(case, system, figure, unit, value)`; those with the same names are rounds of one figure."""
    rounds = {}
    for *names, value in rows:
        rounds.setdefault(tuple(names), []).append(round(value, 4))
    result = {
        "name": name,
        "title": title,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "note": os.environ.get("BENCH_NOTE", ""),
        "machine": machine(),
        "versions": versions,
        "rows": [
            {
                "case": case,
                "system": system,
                "figure": figure,
                "unit": unit,
                "values": values,
                "median": round(statistics.median(values), 4),
            }
            for (case, system, figure, unit), values in rounds.items()
        ],
    }
    if series:
        result["series"] = series
    folder = Path(os.environ.get("BENCH_RESULTS") or HERE / "results")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text_of(result), encoding="utf-8")


def of_process(case, system, records, time):
    """Figures of a process that took `time`: user, system and wall seconds, greatest resident set in kilobytes."""
    user, kernel, seconds, kilobytes = map(float, time.split())
    rows = [
        (case, system, "CPU-seconds", "s", user + kernel),
        (case, system, "seconds", "s", seconds),
        (case, system, "memory", "MB", kilobytes / 1024),
    ]
    return rows + [(case, system, "records per CPU-second", "", records / (user + kernel))] * bool(records)


def main():
    match sys.argv[1:]:
        case ["process", figures, case, system, records, time]:
            # A program that ended with an error has a line before.
            rows = of_process(case, system, int(records), Path(time).read_text(encoding="utf-8").splitlines()[-1])
            words = {
                "CPU-seconds": "8.2f CPU-s",
                "seconds": "7.2f s",
                "memory": "6.0f MB",
                "records per CPU-second": "9,.0f records/CPU-s",
            }
            shown = ((value, *words[figure].split(" ")) for *_, figure, _, value in rows)
            print(f"{system:<34}", *(f"{format(value, form)} {unit} " for value, form, unit in shown))
        case ["figure", figures, case, system, figure, unit, *values]:
            rows = [(case, system, figure, unit, float(value)) for value in values]
        case ["write", name, figures, title, command, *versions]:
            with open(figures, encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
            write(name, rows, title, command, dict(version.split("=", 1) for version in versions))
            return 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    with open(figures, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
