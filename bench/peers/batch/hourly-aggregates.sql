-- Each hour of the day on its own, one after the other, as the job does it: the same files in the same directory.
COPY (
  WITH one AS (
    SELECT date_trunc('hour', window_start) AS hour, * EXCLUDE (date) FROM events
    WHERE date = DATE '2026-01-15' AND window_start >= TIMESTAMP '$hour' AND window_start < TIMESTAMP '$hour' + INTERVAL 1 HOUR
  ), peaks AS (
    SELECT hour, event_type, app_type, max(events)::BIGINT AS peak_minute_events
    FROM (SELECT hour, window_start, event_type, app_type, sum(event_count) AS events FROM one GROUP BY ALL) GROUP BY ALL
  ), visits AS (
    SELECT hour, event_type, app_type, count(DISTINCT session_id) AS unique_sessions
    FROM (SELECT hour, event_type, app_type, unnest(session_ids) AS session_id FROM one) GROUP BY ALL
  ), totals AS (
    SELECT hour, event_type, app_type, sum(event_count)::BIGINT AS event_count, count(DISTINCT user_id) AS unique_users FROM one GROUP BY ALL
  )
  SELECT hour, event_type, app_type, event_count, unique_users, coalesce(unique_sessions, 0) AS unique_sessions,
         event_count::DOUBLE / unique_users AS avg_events_per_user, peak_minute_events
  FROM totals JOIN peaks USING (hour, event_type, app_type) LEFT JOIN visits USING (hour, event_type, app_type)
) TO '$out/date=2026-01-15/hourly-aggregates-$name.parquet' (FORMAT parquet, COMPRESSION zstd)
