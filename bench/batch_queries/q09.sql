-- Sessions of lists: an unnest and a join back.
SELECT event_type, count(DISTINCT session_id) AS sessions, count(*) AS mentions
FROM (SELECT event_type, unnest(session_ids) AS session_id FROM events WHERE window_start < TIMESTAMP '2026-01-06 00:00:00') s
GROUP BY event_type
