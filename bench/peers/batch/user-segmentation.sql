COPY (
  WITH e AS (
    SELECT user_id, sum(event_count) AS total_events, count(DISTINCT event_type) AS event_types,
           count(DISTINCT app_type) AS app_types, min(window_start) AS first_seen, max(window_end) AS last_seen
    FROM events WHERE window_start < TIMESTAMP '2026-01-31 00:00:00' GROUP BY user_id
  ), s AS (
    SELECT user_id, count(*) AS session_count, sum(total_clicks) AS total_clicks, avg(total_clicks) AS avg_clicks_per_session,
           avg(unique_pages) AS avg_pages_per_session, avg(session_duration_sec) AS avg_session_duration_sec,
           min(session_start) AS first_seen, max(session_end) AS last_seen
    FROM sessions WHERE session_start < TIMESTAMP '2026-01-31 00:00:00' GROUP BY user_id
  ), users AS (
    SELECT coalesce(e.user_id, s.user_id) AS user_id, coalesce(total_events, 0)::BIGINT AS total_events,
           coalesce(session_count, 0) AS session_count, coalesce(total_clicks, 0)::BIGINT AS total_clicks,
           coalesce(event_types, 0) AS event_types, coalesce(app_types, 0) AS app_types,
           avg_clicks_per_session, avg_pages_per_session, avg_session_duration_sec,
           least(e.first_seen, s.first_seen) AS first_seen, greatest(e.last_seen, s.last_seen) AS last_seen
    FROM e FULL JOIN s ON s.user_id = e.user_id
  ), scored AS (
    SELECT *, (0.5::DOUBLE * total_events + 0.3::DOUBLE * total_clicks + 0.2::DOUBLE * session_count) / 100 AS engagement_score FROM users
  )
  SELECT user_id,
         CASE WHEN engagement_score > 100 THEN 'VIP' WHEN engagement_score > 50 THEN 'Active' WHEN engagement_score > 20 THEN 'Regular' ELSE 'Inactive' END AS user_segment,
         engagement_score,
         CASE WHEN session_count > 50 THEN 'Very High' WHEN session_count > 20 THEN 'High' WHEN session_count > 5 THEN 'Medium' ELSE 'Low' END AS session_frequency,
         CASE WHEN event_types > 4 THEN 'Diverse' WHEN event_types > 2 THEN 'Selected' ELSE 'Limited' END AS content_interest,
         CASE WHEN app_types > 1 THEN 'Multi-device' ELSE 'Single-device' END AS device_preference,
         total_events, session_count, total_clicks, avg_clicks_per_session, avg_pages_per_session, avg_session_duration_sec,
         first_seen, last_seen
  FROM scored
) TO '$out/segments.parquet' (FORMAT parquet, COMPRESSION zstd)
