CREATE TABLE events (
  event_type STRING, user_id STRING, session_id STRING, `timestamp` TIMESTAMP_LTZ(3), app_type STRING,
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '30' SECOND
) WITH (
  'connector' = 'kafka', 'topic' = '@TOPIC@', 'properties.bootstrap.servers' = '@BROKER@', 'properties.group.id' = 'bench-flink',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.ignore-parse-errors' = 'true'
);
CREATE TABLE aggregates (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), user_id STRING, event_type STRING, app_type STRING, event_count BIGINT,
  session_ids ARRAY<STRING>
) WITH (
  'connector' = 'filesystem', 'path' = '@TABLE@', 'format' = 'parquet', 'parquet.utc-timezone' = 'true',
  'sink.rolling-policy.rollover-interval' = '10 s', 'sink.rolling-policy.check-interval' = '5 s'
);
INSERT INTO aggregates
SELECT window_start, window_end, user_id, event_type, app_type, COUNT(*), ARRAY_AGG(DISTINCT session_id)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(`timestamp`), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, user_id, event_type, app_type;
