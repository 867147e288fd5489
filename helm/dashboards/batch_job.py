"""The dashboard of one batch job: did it run, when does it run again, how long does it take?

A run's pod is gone before anybody can ask it: the operator says what came of it."""

from panels import BLUE, GREEN, RED, YELLOW, dashboard, graph, query, stat, steps, variable

J = 'namespace="$namespace", job="$job"'


def make() -> dict:
    working = [
        stat(
            "Last success",
            "Time since the last run that succeeded ended.",
            f"time() - max(dataplatform_batch_last_success_timestamp_seconds{{{J}}})",
            "s",
            steps((BLUE, None)),
            no_value="none yet",
        ),
        stat(
            "Next run in",
            "Time until the next run is due. Below zero: it is late.",
            f"max(dataplatform_batch_next_run_timestamp_seconds{{{J}}}) - time()",
            "s",
            steps((RED, None), (YELLOW, -900), (GREEN, 0)),
            no_value="no schedule",
        ),
        stat(
            "Last run took",
            "From the start of the last run to its end.",
            f"max(dataplatform_batch_last_run_duration_seconds{{{J}}})",
            "s",
            steps((BLUE, None)),
        ),
        stat(
            "Rows of the last run",
            "Rows that the last run wrote. None is right where its interval had no input.",
            f"max(dataplatform_batch_last_run_rows{{{J}}})",
            "short",
            steps((YELLOW, None), (BLUE, 1)),
        ),
        stat(
            "Failed runs, 7 days",
            "Runs that failed after their retries.",
            f'sum(increase(dataplatform_batch_runs_total{{{J}, result="failed"}}[7d])) or vector(0)',
            "none",
            steps((GREEN, None), (RED, 1)),
        ),
        stat(
            "Jobs that wait for input",
            "Batch jobs of all namespaces whose input is not complete. kubectl get bj says whether this is one.",
            'max(dataplatform_operator_jobs{kind="BatchJob", reason="InputIncomplete"}) or vector(0)',
            "none",
            steps((GREEN, None), (YELLOW, 1)),
        ),
    ]
    history = [
        graph(
            "Runs",
            "Runs that ended, by result.",
            [
                query(
                    f"sum by (result) (increase(dataplatform_batch_runs_total{{{J}}}[$__rate_interval]))", "{{result}}"
                )
            ],
            "none",
            width=24,
            bars=True,
        ),
        graph(
            "Duration",
            "How long the last run took, at each time. Runs that grow need more CPU, or a narrower interval.",
            [query(f"max(dataplatform_batch_last_run_duration_seconds{{{J}}})", "last run")],
            "s",
        ),
        graph(
            "Rows",
            "Rows that the last run wrote, at each time.",
            [query(f"max(dataplatform_batch_last_run_rows{{{J}}})", "last run")],
            "short",
        ),
        graph(
            "Age of the result",
            "Time since the last success: teeth as high as its step. Higher ones: a run failed or was missed.",
            [
                query(
                    f"time() - max(dataplatform_batch_last_success_timestamp_seconds{{{J}}})", "since the last success"
                )
            ],
            "s",
        ),
        graph(
            "Rows per second",
            "Speed of the last run: what each second of a pod gives.",
            [
                query(
                    f"max(dataplatform_batch_last_run_rows{{{J}}})"
                    f" / max(dataplatform_batch_last_run_duration_seconds{{{J}}})",
                    "last run",
                )
            ],
            "cps",
        ),
    ]
    return dashboard(
        "data-platform-batch-job",
        "data-platform / Batch job",
        "One batch job: did it run, when does it run again, how long does it take?",
        [
            variable("namespace", "Namespace", "label_values(dataplatform_batch_last_run_rows, namespace)"),
            variable("job", "Job", 'label_values(dataplatform_batch_last_run_rows{namespace="$namespace"}, job)'),
        ],
        [("Is it working?", working), ("How did it go?", history)],
        time="7d",
    )
