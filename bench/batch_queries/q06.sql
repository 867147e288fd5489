-- Share of purchases by day.
SELECT CAST(window_start AS DATE) AS day,
       sum(CASE WHEN event_type = 'purchase' THEN event_count ELSE 0 END) * 1.0 / sum(event_count) AS share
FROM events
GROUP BY CAST(window_start AS DATE)
