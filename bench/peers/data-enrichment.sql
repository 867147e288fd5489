-- Every event of four topics in one shape, joined with the users. The bytes of a record are a column, so lines are read as they are.
COPY (
    WITH app_events AS (
        SELECT json, from_json(json, '{"event_id": "VARCHAR", "user_id": "VARCHAR", "session_id": "VARCHAR", "event_type": "VARCHAR",
                                       "timestamp": "VARCHAR", "device_type": "VARCHAR", "country": "VARCHAR"}') AS e
        FROM read_json_objects('$events/app_events.ndjson', format = 'newline_delimited')
    ), clickstream AS (
        SELECT json, from_json(json, '{"event_id": "VARCHAR", "user_id": "VARCHAR", "session_id": "VARCHAR", "event_type": "VARCHAR",
                                       "timestamp": "VARCHAR", "device_type": "VARCHAR", "country": "VARCHAR"}') AS e
        FROM read_json_objects('$events/clickstream.ndjson', format = 'newline_delimited')
    ), cdc_records AS (
        SELECT json, from_json(json, '{"op": "VARCHAR", "ts_ms": "BIGINT", "source": {"ts_ms": "BIGINT"},
                                       "payload": {"op": "VARCHAR", "ts_ms": "BIGINT", "source": {"ts_ms": "BIGINT"}}}') AS e
        FROM read_json_objects('$events/cdc_changes.ndjson', format = 'newline_delimited')
    ), cdc_changes AS (
        SELECT json, coalesce(e.op, e.payload.op) AS op,
               coalesce(e.source.ts_ms, e.payload.source.ts_ms, e.ts_ms, e.payload.ts_ms) AS ts_ms
        FROM cdc_records
    ), external_data AS (
        SELECT json, from_json(json, '{"data_source": "VARCHAR", "timestamp": "VARCHAR", "location": "VARCHAR"}') AS e
        FROM read_json_objects('$events/external_data.ndjson', format = 'newline_delimited')
    ), events AS (
        SELECT e.event_id, e.user_id, e.session_id, e.event_type, CAST(e.timestamp AS TIMESTAMPTZ) AS event_time, e.device_type, e.country,
               NULL::VARCHAR AS location, CAST(json AS VARCHAR) AS payload FROM app_events
        UNION ALL
        SELECT e.event_id, e.user_id, e.session_id, e.event_type, CAST(e.timestamp AS TIMESTAMPTZ), e.device_type, e.country, NULL,
               CAST(json AS VARCHAR) FROM clickstream
        UNION ALL
        SELECT NULL, NULL, NULL,
               CASE op WHEN 'c' THEN 'INSERT' WHEN 'i' THEN 'INSERT' WHEN 'r' THEN 'INSERT' WHEN 'u' THEN 'UPDATE'
                       WHEN 'd' THEN 'DELETE' WHEN 't' THEN 'TRUNCATE' ELSE 'UNKNOWN' END,
               make_timestamptz(1000 * ts_ms), NULL, NULL, NULL, CAST(json AS VARCHAR)
        FROM cdc_changes WHERE op IS NOT NULL
        UNION ALL
        SELECT NULL, NULL, NULL, e.data_source, CAST(e.timestamp AS TIMESTAMPTZ), NULL, NULL, e.location, CAST(json AS VARCHAR)
        FROM external_data
    ), known AS (
        SELECT e.*, u.name AS user_name, u.country AS user_country, u.verified AS user_verified, u.device_type AS user_device_type,
               u.signup_date AS user_signup_date,
               coalesce(MAP {'purchase': 10.0, 'search': 3.0, 'click': 2.0, 'page_view': 1.0, 'scroll': 0.5, 'hover': 0.5,
                             'focus': 0.5}[e.event_type], 0.0) AS engagement_score,
               list_filter([
                   CASE WHEN e.user_id IS NOT NULL AND u.user_id IS NULL THEN 'unknown_user' END,
                   CASE WHEN NOT u.verified THEN 'unverified_account' END,
                   CASE WHEN e.device_type <> u.device_type THEN 'device_mismatch' END,
                   CASE WHEN e.country <> u.country THEN 'country_mismatch' END,
                   CASE WHEN e.event_time > now() + INTERVAL '5 minutes' THEN 'future_timestamp' END,
                   CASE WHEN e.event_time < now() - INTERVAL '24 hours' THEN 'stale_event' END
               ], lambda flag: flag IS NOT NULL) AS risk_flags
        FROM events AS e LEFT JOIN '$events/users.parquet' AS u ON e.user_id = u.user_id
    )
    SELECT event_id, user_id, session_id, event_type, event_time, device_type, country, location, payload, user_name, user_country,
           user_verified, user_device_type, user_signup_date, engagement_score,
           coalesce(event_type = 'purchase', false) OR engagement_score >= 5 AS is_high_value,
           risk_flags, len(risk_flags) AS risk_score, now() AS processing_time
    FROM known
) TO '$out/enriched_events.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);
