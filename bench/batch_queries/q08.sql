-- Distinct users by day and application.
SELECT CAST(window_start AS DATE) AS day, app_type, count(DISTINCT user_id) AS users
FROM events
GROUP BY CAST(window_start AS DATE), app_type
