COPY (
  WITH ranked AS (
    SELECT *, row_number() OVER (PARTITION BY event_type, app_type ORDER BY event_count DESC, hour) AS place
    FROM hours WHERE CAST(hour AS DATE) = DATE '2026-01-15'
  ), events_of_day AS (
    SELECT event_type, app_type, sum(event_count)::BIGINT AS total_events, count(DISTINCT hour) AS active_hours,
           max(CASE WHEN place = 1 THEN date_part('hour', hour) END)::BIGINT AS peak_hour, max(event_count) AS peak_hour_events
    FROM ranked GROUP BY ALL
  ), sessions_of_day AS (
    SELECT count(*) AS sessions, sum(total_clicks)::BIGINT AS total_clicks, avg(total_clicks) AS avg_clicks_per_session,
           avg(unique_pages) AS avg_pages_per_session, quantile_cont(session_duration_sec, 0.5) AS median_session_duration,
           quantile_cont(session_duration_sec, 0.95) AS p95_session_duration, quantile_cont(session_duration_sec, 0.99) AS p99_session_duration,
           avg(CASE WHEN unique_pages = 1 THEN 1 ELSE 0 END) AS bounce_rate
    FROM sessions WHERE date = DATE '2026-01-15'
  )
  SELECT DATE '2026-01-15' AS event_date, * FROM events_of_day, sessions_of_day
) TO '$out' (FORMAT parquet, PARTITION_BY (event_date), COMPRESSION zstd, OVERWRITE_OR_IGNORE)
