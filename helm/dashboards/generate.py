#!/usr/bin/env python3
"""Writes the chart's Grafana dashboards from the descriptions beside this file.

generate.py            write them
generate.py --check    write nothing; end with 1 and name each file that differs
"""

import json
import sys
from pathlib import Path

# Nothing but the dashboards is to be left behind.
sys.dont_write_bytecode = True

import all_jobs  # noqa: E402
import batch_job  # noqa: E402
import streaming_job  # noqa: E402

TARGET = Path(__file__).resolve().parent.parent / "data-platform/dashboards"
DASHBOARDS = {"platform": all_jobs.make, "streaming-job": streaming_job.make, "batch-job": batch_job.make}


def main() -> int:
    arguments = sys.argv[1:]
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    status = 0
    for name, make in DASHBOARDS.items():
        path = TARGET / f"{name}.json"
        text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        if arguments and (not path.exists() or path.read_text() != text):
            print(f"{path.name} differs from its description: run helm/sync", file=sys.stderr)
            status = 1
        elif not arguments:
            path.write_text(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
