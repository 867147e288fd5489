-- Users who never bought anything, by country, with how long they stayed.
SELECT u.country, count(*) AS sessions, sum(s.session_duration_sec) AS seconds
FROM sessions s JOIN users u ON u.user_id = s.user_id
WHERE u.user_id NOT IN (SELECT user_id FROM events WHERE event_type = 'purchase' AND event_count > 8)
GROUP BY u.country
HAVING count(*) > 10
