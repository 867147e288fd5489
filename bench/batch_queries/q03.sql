-- Users of one country with the most events: a join, groups, the first hundred.
SELECT e.user_id, u.plan, sum(e.event_count) AS events
FROM events e JOIN users u ON u.user_id = e.user_id
WHERE u.country = 'DE' AND e.window_start < TIMESTAMP '2026-01-15 00:00:00'
GROUP BY e.user_id, u.plan
ORDER BY events DESC, e.user_id
LIMIT 100
