-- Everything of most of the time, summed up by kind.
SELECT event_type, app_type, sum(event_count) AS events, avg(CAST(event_count AS DOUBLE)) AS mean, min(window_start) AS first,
       max(window_end) AS last, count(*) AS windows
FROM events
WHERE window_start < TIMESTAMP '2026-01-28 00:00:00'
GROUP BY event_type, app_type
