"""The dashboard of one streaming job: does it work, how far behind is it, why is there no output, what does it cost?"""

from panels import (
    BLUE,
    DATASOURCE,
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
    variable,
    words,
)

J = 'namespace="$namespace", job="$job"'
ALL = f"{{{J}}}"
RATE = "$__rate_interval"


def quantiles(metric: str) -> list[dict]:
    """Half, 95 % and 99 % of a histogram."""
    return queries(
        *((quantile(share, metric, ALL), legend) for share, legend in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %")))
    )


def make() -> dict:
    working = [
        stat(
            "State",
            "Whether the job reads and commits. Why it does not stands in kubectl get sj -o wide.",
            f"max(dataplatform_job_ready{{{J}}})",
            "none",
            steps((RED, None), (GREEN, 1)),
            mappings=words(v1=("running", GREEN), v0=("not ready", RED)),
            no_value="no pod",
        ),
        stat(
            "Waiting in Kafka",
            "Records that Kafka has and the job has not committed.",
            f"max(dataplatform_consumer_lag_records_sum{{{J}}})",
            "short",
            steps((BLUE, None)),
        ),
        stat(
            "Last commit",
            "Time since the last commit. A job that reads commits once per trigger interval.",
            f"time() - max(dataplatform_last_checkpoint_timestamp_seconds{{{J}}})",
            "s",
            steps((GREEN, None), (YELLOW, 120), (RED, 600)),
        ),
        stat(
            "Watermark behind",
            "How far the watermark is behind the clock: windows that ended before it are written.",
            f"max(dataplatform_watermark_lag_seconds{{{J}}})",
            "s",
            steps((GREEN, None), (YELLOW, 600), (RED, 3600)),
        ),
        stat(
            "Bad records, 1 h",
            "Share of the records of the last hour that could not be read.",
            f"sum(increase(dataplatform_records_dead_lettered_total{{{J}}}[1h]))"
            f" / sum(increase(dataplatform_records_read_total{{{J}}}[1h])) or vector(0)",
            "percentunit",
            steps((GREEN, None), (YELLOW, 0.01), (RED, 0.05)),
            decimals=2,
        ),
        stat(
            "Lost offsets",
            "Records that Kafka removed before the job read them, since its log began. They are missing in the result.",
            f"sum(dataplatform_lost_offsets_total{{{J}}}) or vector(0)",
            "short",
            steps((GREEN, None), (RED, 1)),
        ),
    ]
    behind = [
        graph(
            "In and out",
            "Records read from Kafka, and rows written to outputs.",
            queries(
                (f"sum by (source) (rate(dataplatform_records_read_total{{{J}}}[{RATE}]))", "read: {{source}}"),
                (f"sum by (output) (rate(dataplatform_rows_written_total{{{J}}}[{RATE}]))", "written: {{output}}"),
            ),
            "cps",
        ),
        graph(
            "Waiting in Kafka, by partition",
            "The ten partitions with most records that wait. One that stands out has a hot key or a slow broker.",
            [
                query(
                    f"topk(10, max by (topic, partition) (dataplatform_consumer_lag_records{{{J}}}))",
                    "{{topic}} {{partition}}",
                )
            ],
            "short",
        ),
        graph(
            "Age of what waits",
            "How long the first record may have waited that is not committed, at most, in the ten worst partitions.",
            [
                query(
                    f"topk(10, max by (topic, partition) (dataplatform_consumer_lag_seconds{{{J}}}))",
                    "{{topic}} {{partition}}",
                )
            ],
            "s",
        ),
        graph(
            "From event to commit",
            "From the latest event of a micro-batch to its commit: what readers wait for, besides the window.",
            quantiles("dataplatform_event_latency_seconds"),
            "s",
        ),
        graph(
            "Time for a micro-batch",
            "From planning a micro-batch to its publication, and the part of it that is the commit.",
            queries(
                (
                    quantile(0.95, "dataplatform_batch_duration_seconds", ALL),
                    "whole, 95 %",
                ),
                (
                    quantile(0.5, "dataplatform_batch_duration_seconds", ALL),
                    "whole, half",
                ),
                (
                    quantile(0.95, "dataplatform_checkpoint_duration_seconds", ALL),
                    "commit, 95 %",
                ),
            ),
            "s",
        ),
    ]
    output = [
        bars(
            "Who holds the watermark?",
            "How far each partition's watermark is behind the clock, the ten furthest. The first one decides for all.",
            [
                query(
                    "topk(10, time() - max by (topic, partition) ("
                    f"dataplatform_partition_watermark_timestamp_seconds{{{J}}} > 0))",
                    "{{topic}} {{partition}}",
                )
            ],
            "s",
            steps((GREEN, None), (YELLOW, 600), (RED, 3600)),
            width=8,
        ),
        graph(
            "Watermark behind",
            "How far the job's watermark is behind the clock. Where the line rises as time passes, it stands still.",
            [query(f"max(dataplatform_watermark_lag_seconds{{{J}}})", "behind the clock")],
            "s",
            width=8,
        ),
        graph(
            "Open windows",
            "Windows that wait for the watermark, and the groups in them.",
            queries(
                (f"max(dataplatform_open_windows{{{J}}})", "windows"),
                (f"max(dataplatform_state_groups{{{J}}})", "groups"),
            ),
            "short",
            width=8,
        ),
        graph(
            "Left out, by reason",
            "Records that are not part of the result. Late: behind the watermark; future: too far ahead of the clock; "
            "filtered: by the query.",
            [query(f"sum by (reason) (rate(dataplatform_records_dropped_total{{{J}}}[{RATE}]))", "{{reason}}")],
            "cps",
            width=8,
            stacked=True,
        ),
        graph(
            "Late, by output",
            "Records that came when their windows were closed: all of them (left out), or some of them (partly).",
            queries(
                (
                    f'sum by (output) (rate(dataplatform_output_records_total{{{J}, fate="late"}}[{RATE}]))',
                    "{{output}}",
                ),
                (
                    f"sum by (output) (rate(dataplatform_output_partly_late_records_total{{{J}}}[{RATE}]))",
                    "partly: {{output}}",
                ),
            ),
            "cps",
            width=8,
        ),
        graph(
            "Bad records, by reason",
            "Records that could not be read. They are in the dead letter table with their original bytes.",
            [
                query(
                    f"sum by (reason) (rate(dataplatform_records_dead_lettered_total{{{J}}}[{RATE}]))"
                    " or on () vector(0)",
                    "{{reason}}",
                )
            ],
            "cps",
            width=8,
            stacked=True,
        ),
    ]
    cost = [
        graph(
            "Processor time",
            "Processor cores that the process uses.",
            [query(f"sum(rate(process_cpu_seconds_total{{{J}}}[{RATE}]))", "cores")],
            "none",
            width=8,
        ),
        graph(
            "Memory",
            "What the process uses, its parts for windows and queues, and its limit, above which it is killed.",
            [query(f"max by (kind) (dataplatform_memory_bytes{{{J}}})", "{{kind}}")],
            "bytes",
            width=8,
            dashed=["limit"],
        ),
        graph(
            "Starts",
            "Starts of the process and, inside of it, of the job from its log after an error.",
            queries(
                (f"sum(changes(process_start_time_seconds{{{J}}}[{RATE}])) or vector(0)", "process"),
                (f"sum(increase(dataplatform_reloads_total{{{J}}}[{RATE}])) or vector(0)", "job"),
            ),
            "none",
            width=8,
            bars=True,
        ),
        graph(
            "Bytes read and written",
            "Bytes of the records' values, and of the files.",
            queries(
                (f"sum(rate(dataplatform_read_bytes_total{{{J}}}[{RATE}]))", "read"),
                (f"sum by (output) (rate(dataplatform_written_bytes_total{{{J}}}[{RATE}]))", "written: {{output}}"),
            ),
            "Bps",
            width=8,
        ),
        graph(
            "Mean size of files",
            "Bytes in a file of each output. Small files make readers slow: a longer interval makes larger ones.",
            [
                query(
                    f"sum by (output) (increase(dataplatform_written_bytes_total{{{J}}}[1h])) "
                    f"/ sum by (output) (increase(dataplatform_files_written_total{{{J}}}[1h]))",
                    "{{output}}",
                )
            ],
            "bytes",
            width=8,
        ),
        graph(
            "Commits",
            "Commits to the job log.",
            [query(f"sum(rate(dataplatform_checkpoints_total{{{J}}}[{RATE}]))", "commits")],
            "ops",
            width=8,
        ),
        graph(
            "Small files",
            "Files of the tables that are small enough to be merged (sink.maintenance), as last counted: "
            "in folders and Delta tables.",
            [query(f'max by (output) (dataplatform_output_files{{{J}, size="small"}})', "{{output}}")],
            "short",
            width=8,
        ),
    ]
    starts = {
        "name": "Starts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": YELLOW,
        "expr": f"changes(process_start_time_seconds{{{J}}}[1m]) > 0",
        "titleFormat": "The process started",
    }
    return dashboard(
        "data-platform-streaming-job",
        "data-platform / Streaming job",
        "One streaming job: is it working, how far behind is it, why is there no output, what does it cost?",
        [
            variable("namespace", "Namespace", "label_values(dataplatform_job_info, namespace)"),
            variable("job", "Job", 'label_values(dataplatform_job_info{namespace="$namespace"}, job)'),
        ],
        [
            ("Is it working?", working),
            ("How far behind is it?", behind),
            ("Why is there no output?", output),
            ("What does it cost?", cost),
        ],
        annotations=[starts],
    )
