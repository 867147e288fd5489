-- Three tables: clicks of sessions beside events of the same user and day.
SELECT u.country, sum(e.events) AS events, sum(s.clicks) AS clicks
FROM (SELECT user_id, CAST(window_start AS DATE) AS day, sum(event_count) AS events FROM events GROUP BY user_id, CAST(window_start AS DATE)) e
JOIN (SELECT user_id, CAST(session_start AS DATE) AS day, sum(total_clicks) AS clicks FROM sessions GROUP BY user_id, CAST(session_start AS DATE)) s
  ON s.user_id = e.user_id AND s.day = e.day
JOIN users u ON u.user_id = e.user_id
GROUP BY u.country
