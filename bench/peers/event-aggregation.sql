-- One-minute windows: count and set of sessions.
COPY (
    SELECT time_bucket(INTERVAL '1 minute', timestamp) AS window_start, user_id, event_type, app_type,
           count(*) AS event_count, list_sort(list(DISTINCT session_id)) AS session_ids, now() AS processing_time
    FROM read_json('$events/app_events.ndjson', format = 'newline_delimited', columns = {
        user_id: 'VARCHAR', session_id: 'VARCHAR', event_type: 'VARCHAR', app_type: 'VARCHAR', timestamp: 'TIMESTAMPTZ'
    })
    GROUP BY ALL
) TO '$out/events_aggregated_realtime.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);
