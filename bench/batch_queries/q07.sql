-- The three busiest minutes of each kind: a rank.
SELECT event_type, minute, events, place
FROM (
  SELECT event_type, minute, events, row_number() OVER (PARTITION BY event_type ORDER BY events DESC, minute) AS place
  FROM (SELECT event_type, window_start AS minute, sum(event_count) AS events FROM events GROUP BY event_type, window_start) m
) r
WHERE place <= 3
