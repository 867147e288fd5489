-- A selective filter over all columns' statistics.
SELECT sum(event_count) AS events
FROM events
WHERE window_start >= TIMESTAMP '2026-01-10 00:00:00' AND window_start < TIMESTAMP '2026-01-11 00:00:00'
  AND event_type = 'purchase' AND event_count BETWEEN 3 AND 6
