#!/usr/bin/env bash
# Bytewax 0.21.1, Apache Beam 2.77.0, Pathway 0.33.0 (Python): session windows and events exactly one gap apart.
#
# Three events of one key, at 0, 30 and 61 minutes; the gap is 30 minutes. Bytewax puts the first two into one session
# (Spark does, too); Beam and Pathway make three sessions. With times cut to whole seconds or minutes such events are common,
# and the number of visits differs by them when a job moves from one to the other.
# What to do: know it when results are compared. Ours are two sessions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check bytewax==0.21.1 apache-beam==2.77.0 pathway==0.33.0
cat >by_bytewax.py <<'PYTHON'
from datetime import datetime, timedelta, timezone
import bytewax.operators as operators
import bytewax.operators.windowing as windowing
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

begin = datetime(2026, 2, 16, tzinfo=timezone.utc)
events = [("u", begin + timedelta(minutes=minutes)) for minutes in (0, 30, 61)]
clock = windowing.EventClock(ts_getter=lambda event: event, wait_for_system_duration=timedelta(hours=10))
sessions, flow = [], Dataflow("sessions")
stream = operators.input("in", flow, TestingSource(events))
gap = windowing.SessionWindower(gap=timedelta(minutes=30))
operators.output("out", windowing.collect_window("collect", stream, clock, gap).down, TestingSink(sessions))
run_main(flow)
print(sorted(len(events) for _, (_, events) in sessions))
PYTHON
cat >by_beam.py <<'PYTHON'
import logging
import apache_beam as beam
from apache_beam.transforms.window import Sessions, TimestampedValue

logging.disable(logging.CRITICAL)
with beam.Pipeline() as pipeline:
    events = pipeline | beam.Create([0, 30 * 60, 61 * 60])
    stamped = events | beam.Map(lambda second: TimestampedValue(("u", second), second))
    sessions = stamped | beam.WindowInto(Sessions(30 * 60)) | beam.GroupByKey()
    sessions | beam.Map(lambda session: print(len(list(session[1]))))
PYTHON
cat >by_pathway.py <<'PYTHON'
import pathway

events = pathway.debug.table_from_markdown("minute\n0\n30\n61")
window = pathway.temporal.session(max_gap=30)
sessions = events.windowby(events.minute, window=window).reduce(events=pathway.reducers.count())
pathway.debug.compute_and_print(sessions, include_id=False)
PYTHON
bytewax=$(venv/bin/python by_bytewax.py | tr -d '[], \n')
beam=$(venv/bin/python by_beam.py 2>/dev/null | sort | tr -d '\n')
pathway=$(venv/bin/python by_pathway.py 2>/dev/null | grep -E '^[0-9]' | sort | tr -d ' \n')
echo "events of each session: Bytewax $bytewax, Beam $beam, Pathway $pathway"
[[ $bytewax == 12 && $beam == 111 && $pathway == 111 ]] || { echo "it has changed"; exit 1; }
