-- Users by plan that had a long session.
SELECT u.plan, count(*) AS users
FROM users u
WHERE EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.user_id AND s.session_duration_sec > 3500)
GROUP BY u.plan
