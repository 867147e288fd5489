-- Visits: a key's events without a gap of 30 minutes. event_id grows as offsets do, and orders events of one time.
COPY (
    WITH clicks AS (
        SELECT user_id, session_id, page_url, element_id, device_type, timestamp, event_id
        FROM read_json('$events/clickstream.ndjson', format = 'newline_delimited', columns = {
            event_id: 'VARCHAR', user_id: 'VARCHAR', session_id: 'VARCHAR', page_url: 'VARCHAR', element_id: 'VARCHAR',
            device_type: 'VARCHAR', timestamp: 'TIMESTAMPTZ'
        })
    ), begins AS (
        SELECT *, CASE WHEN timestamp - lag(timestamp) OVER visit < INTERVAL '30 minutes' THEN 0 ELSE 1 END AS begins
        FROM clicks WINDOW visit AS (PARTITION BY user_id, session_id ORDER BY timestamp, event_id)
    ), visits AS (
        SELECT *, sum(begins) OVER (PARTITION BY user_id, session_id ORDER BY timestamp, event_id
                                    ROWS UNBOUNDED PRECEDING) AS visit
        FROM begins
    )
    SELECT session_id, user_id,
           count(*) AS total_clicks,
           count(DISTINCT page_url) AS unique_pages,
           count(DISTINCT element_id) AS unique_elements,
           min(timestamp) AS session_start,
           max(timestamp) AS session_end,
           (epoch_us(max(timestamp)) - epoch_us(min(timestamp))) / 1000000.0 AS session_duration_sec,
           list(page_url ORDER BY timestamp, event_id) AS page_path,
           arg_min(page_url, (timestamp, event_id)) AS entry_page,
           arg_max(page_url, (timestamp, event_id)) AS exit_page,
           arg_min(device_type, (timestamp, event_id)) AS device_type,
           now() AS processing_time
    FROM visits GROUP BY user_id, session_id, visit
) TO '$out/clickstream_sessions.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);
