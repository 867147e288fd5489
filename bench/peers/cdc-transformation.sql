-- The flat form and Debezium's envelope, bare and wrapped, become the same columns; then operations by table and minute.
CREATE TEMP TABLE changes AS
WITH records AS (
    SELECT CASE WHEN op IS NULL THEN payload ELSE {
               op: op, before: before, after: after, source: source, ts_ms: ts_ms
           } END AS envelope, db, schema, "table", txId, lsn
    FROM read_json('$events/cdc_changes.ndjson', format = 'newline_delimited', columns = {
        op: 'VARCHAR', before: 'JSON', after: 'JSON', ts_ms: 'BIGINT',
        source: 'STRUCT(ts_ms BIGINT, snapshot VARCHAR, db VARCHAR, schema VARCHAR, "table" VARCHAR, txId VARCHAR, lsn VARCHAR)',
        db: 'VARCHAR', schema: 'VARCHAR', "table": 'VARCHAR', txId: 'VARCHAR', lsn: 'VARCHAR',
        payload: 'STRUCT(op VARCHAR, before JSON, after JSON, source STRUCT(ts_ms BIGINT, snapshot VARCHAR, db VARCHAR, schema VARCHAR,
                  "table" VARCHAR, txId VARCHAR, lsn VARCHAR), ts_ms BIGINT)'
    })
    WHERE op IS NOT NULL OR payload.op IS NOT NULL
)
SELECT envelope.op AS operation,
       CASE envelope.op WHEN 'c' THEN 'INSERT' WHEN 'i' THEN 'INSERT' WHEN 'r' THEN 'INSERT' WHEN 'u' THEN 'UPDATE'
                        WHEN 'd' THEN 'DELETE' WHEN 't' THEN 'TRUNCATE' ELSE 'UNKNOWN' END AS operation_type,
       nullif(coalesce(envelope.source.db, db), '') AS database,
       nullif(CASE WHEN envelope.source IS NULL THEN schema ELSE envelope.source.schema END, '') AS schema_name,
       nullif(coalesce(envelope.source."table", "table"), '') AS table_name,
       nullif(CAST(CASE WHEN envelope.op = 'd' THEN envelope.before WHEN envelope.op IN ('c', 'i', 'r', 'u') THEN envelope.after END
                   AS VARCHAR), 'null') AS record_data,
       nullif(CAST(envelope.before AS VARCHAR), 'null') AS old_record,
       nullif(CAST(envelope.after AS VARCHAR), 'null') AS new_record,
       make_timestamptz(1000 * coalesce(envelope.source.ts_ms, envelope.ts_ms)) AS event_time,
       coalesce(envelope.source.txId, txId) AS transaction_id,
       coalesce(envelope.source.lsn, lsn) AS log_sequence_number,
       envelope.op = 'r' OR coalesce(envelope.source.snapshot, 'false') <> 'false' AS is_snapshot
FROM records;
COPY (SELECT *, now() AS processing_time FROM changes)
TO '$out/cdc_transformed.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);
COPY (
    SELECT time_bucket(INTERVAL '1 minute', event_time) AS window_start,
           time_bucket(INTERVAL '1 minute', event_time) + INTERVAL '1 minute' AS window_end, database, schema_name, table_name,
           count(*) FILTER (WHERE operation_type = 'INSERT') AS insert_count,
           count(*) FILTER (WHERE operation_type = 'UPDATE') AS update_count,
           count(*) FILTER (WHERE operation_type = 'DELETE') AS delete_count,
           count(*) AS total_operations, now() AS processing_time
    FROM changes GROUP BY ALL
) TO '$out/cdc_operation_summaries.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);
