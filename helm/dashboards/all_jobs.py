"""The dashboard of the whole platform: every job on one line, and the operator."""

from panels import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    bars,
    dashboard,
    graph,
    quantile,
    queries,
    query,
    stat,
    steps,
    table,
    variable,
    words,
)

# Jobs that do not work, or that somebody should look at.
UNWELL = 'health=~"Stalled|Retrying|Degraded", reason!="StatusUnknown"'

N = 'namespace=~"$namespace"'
BY = "by (namespace, job)"
OPERATOR = "dataplatform_operator"

YES_NO = words(v1=("yes", GREEN), v0=("no", RED))


def make() -> dict:
    working = [
        stat(
            "Streaming jobs that run",
            "Jobs whose runner says that it reads and commits.",
            f"sum(max {BY} (dataplatform_job_ready{{{N}}})) or vector(0)",
            "none",
            steps((BLUE, None)),
        ),
        stat(
            "Not ready",
            "Jobs whose runner says that it does not read and commit. The table below names them.",
            f"count(max {BY} (dataplatform_job_ready{{{N}}}) == 0) or vector(0)",
            "none",
            steps((GREEN, None), (RED, 1)),
        ),
        stat(
            "Jobs that need somebody",
            "Jobs of all namespaces that do not work, by what the operator knows. kubectl get sj,bj -A names them.",
            f"sum(max by (kind, reason, health) ({OPERATOR}_jobs{{{UNWELL}}})) or vector(0)",
            "none",
            steps((GREEN, None), (RED, 1)),
        ),
        stat(
            "Failed batch runs, 24 h",
            "Runs that failed after their retries, within the last day.",
            f'sum(increase(dataplatform_batch_runs_total{{{N}, result="failed"}}[24h])) or vector(0)',
            "none",
            steps((GREEN, None), (RED, 1)),
        ),
        stat(
            "Records read",
            "Records that all streaming jobs read from Kafka.",
            f"sum(rate(dataplatform_records_read_total{{{N}}}[$__rate_interval])) or vector(0)",
            "cps",
            steps((BLUE, None)),
        ),
        stat(
            "Records waiting",
            "Records that Kafka has and jobs have not committed.",
            f"sum(max {BY} (dataplatform_consumer_lag_records_sum{{{N}}})) or vector(0)",
            "short",
            steps((BLUE, None)),
        ),
        table(
            "Streaming jobs",
            "Each streaming job, now. The name leads to its dashboard.",
            [
                {
                    "name": "Ready",
                    "expression": f"max {BY} (dataplatform_job_ready{{{N}}})",
                    "unit": "none",
                    "mappings": YES_NO,
                    "thresholds": steps((RED, None), (GREEN, 1)),
                },
                {
                    "name": "Read",
                    "expression": f"sum {BY} (rate(dataplatform_records_read_total{{{N}}}[$__rate_interval]))",
                    "unit": "cps",
                },
                {
                    "name": "Rows out",
                    "expression": f"sum {BY} (rate(dataplatform_rows_written_total{{{N}}}[$__rate_interval]))",
                    "unit": "cps",
                },
                {
                    "name": "Waiting",
                    "expression": f"max {BY} (dataplatform_consumer_lag_records_sum{{{N}}})",
                    "unit": "short",
                },
                {
                    "name": "Watermark behind",
                    "expression": f"max {BY} (dataplatform_watermark_lag_seconds{{{N}}})",
                    "unit": "s",
                    "thresholds": steps((GREEN, None), (YELLOW, 600), (RED, 3600)),
                },
                {
                    "name": "Last commit",
                    "expression": f"time() - max {BY} (dataplatform_last_checkpoint_timestamp_seconds{{{N}}})",
                    "unit": "s",
                },
                {
                    "name": "Bad, 1 h",
                    "expression": f"sum {BY} (increase(dataplatform_records_dead_lettered_total{{{N}}}[1h]))",
                    "unit": "short",
                    "thresholds": steps((GREEN, None), (YELLOW, 1)),
                },
                {
                    "name": "Memory",
                    "expression": f'max {BY} (dataplatform_memory_bytes{{{N}, kind="rss"}})',
                    "unit": "bytes",
                },
            ],
            link="data-platform-streaming-job",
        ),
        table(
            "Batch jobs",
            "Each batch job and its last run. The name leads to its dashboard.",
            [
                {
                    "name": "Last success",
                    "expression": f"time() - max {BY} (dataplatform_batch_last_success_timestamp_seconds{{{N}}})",
                    "unit": "s",
                },
                {
                    "name": "Duration",
                    "expression": f"max {BY} (dataplatform_batch_last_run_duration_seconds{{{N}}})",
                    "unit": "s",
                },
                {"name": "Rows", "expression": f"max {BY} (dataplatform_batch_last_run_rows{{{N}}})", "unit": "short"},
                {
                    "name": "Next run in",
                    "expression": f"max {BY} (dataplatform_batch_next_run_timestamp_seconds{{{N}}}) - time()",
                    "unit": "s",
                    "thresholds": steps((RED, None), (GREEN, 0)),
                },
                {
                    "name": "Failed, 24 h",
                    "expression": f'sum {BY} (increase(dataplatform_batch_runs_total{{{N}, result="failed"}}[24h]))',
                    "unit": "short",
                    "thresholds": steps((GREEN, None), (RED, 1)),
                },
            ],
            link="data-platform-batch-job",
            height=7,
        ),
    ]
    amount = [
        graph(
            "Records read, busiest jobs",
            "Records that the ten busiest jobs read from Kafka.",
            [
                query(
                    f"topk(10, sum {BY} (rate(dataplatform_records_read_total{{{N}}}[$__rate_interval])))",
                    "{{namespace}}/{{job}}",
                )
            ],
            "cps",
            stacked=True,
        ),
        graph(
            "Records waiting, most first",
            "Records that Kafka has and the job has not committed, for the ten jobs with most of them.",
            [query(f"topk(10, max {BY} (dataplatform_consumer_lag_records_sum{{{N}}}))", "{{namespace}}/{{job}}")],
            "short",
        ),
        graph(
            "Processor time, dearest jobs",
            "Processor cores that the ten dearest jobs use.",
            [
                query(
                    f"topk(10, sum {BY} (rate(process_cpu_seconds_total{{{N}}}[$__rate_interval]) "
                    "and on (namespace, job) dataplatform_job_info))",
                    "{{namespace}}/{{job}}",
                )
            ],
            "none",
            stacked=True,
        ),
        graph(
            "Memory, dearest jobs",
            "Memory that the ten dearest jobs use.",
            [query(f'topk(10, sum {BY} (dataplatform_memory_bytes{{{N}, kind="rss"}}))', "{{namespace}}/{{job}}")],
            "bytes",
            stacked=True,
        ),
    ]
    operator = [
        bars(
            "Jobs by state",
            "Jobs of all namespaces by the reason of their condition Ready, as the operator knows it.",
            [query(f"max by (kind, reason) ({OPERATOR}_jobs) > 0", "{{kind}} {{reason}}")],
            "none",
            steps((BLUE, None)),
            width=8,
        ),
        stat(
            "Pods that lead",
            "One pod of the operator leads; the others stand by.",
            f"sum({OPERATOR}_leader) or vector(0)",
            "none",
            steps((RED, None), (GREEN, 1)),
            width=4,
        ),
        stat(
            "Operator version",
            "Versions of the operator that run.",
            f"count by (version) ({OPERATOR}_build_info)",
            "none",
            steps((BLUE, None)),
            width=4,
        ),
        graph(
            "Work done",
            "Jobs that the operator looked at, by what came of it.",
            [
                query(
                    f"sum by (kind, result) (rate({OPERATOR}_reconcile_total[$__rate_interval]))", "{{kind}} {{result}}"
                )
            ],
            "ops",
            width=8,
        ),
        graph(
            "Time for one job",
            "Time from a job's turn to the end of the work on it: half of them, and all but one in a hundred.",
            queries(
                (
                    quantile(0.5, f"{OPERATOR}_reconcile_duration_seconds"),
                    "half",
                ),
                (
                    quantile(0.99, f"{OPERATOR}_reconcile_duration_seconds"),
                    "99 %",
                ),
            ),
            "s",
            width=8,
        ),
        graph(
            "Errors",
            "Work that failed and is tried again, by reason; and watches of the API server that began anew.",
            queries(
                (
                    f"sum by (kind, reason) (rate({OPERATOR}_reconcile_errors_total[$__rate_interval]))"
                    " or on () vector(0)",
                    "{{kind}} {{reason}}",
                ),
                (f"sum(rate({OPERATOR}_watch_restarts_total[$__rate_interval])) or vector(0)", "watches begun anew"),
            ),
            "ops",
            width=8,
        ),
        graph(
            "Writes to the API server",
            "Objects that the operator wrote, by kind. Where nothing changes it writes nothing.",
            [query(f"sum by (resource) (rate({OPERATOR}_api_writes_total[$__rate_interval]))", "{{resource}}")],
            "ops",
            width=8,
        ),
    ]
    # The version is a word in a label: it is shown instead of the number.
    operator[2]["options"]["textMode"] = "name"
    operator[2]["targets"][0]["legendFormat"] = "{{version}}"
    return dashboard(
        "data-platform",
        "data-platform / All jobs",
        "Is it working? Every job on one line, what they do in sum, and the operator.",
        [variable("namespace", "Namespace", "label_values(dataplatform_job_info, namespace)", many=True)],
        [("Is it working?", working), ("How much, and what does it cost?", amount), ("Operator", operator)],
    )
