"""event-aggregation on Spark Structured Streaming: job.py BROKER TOPIC OUT CHECKPOINT"""

import sys

from pyspark.sql import SparkSession, functions as F

broker, topic, out, checkpoint = sys.argv[1:]
spark = SparkSession.builder.appName("event-aggregation").getOrCreate()
spark.sparkContext.setLogLevel("WARN")
schema = "event_id STRING, event_type STRING, user_id STRING, session_id STRING, timestamp STRING, app_type STRING, properties MAP<STRING, STRING>"
events = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", broker)
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .option("maxOffsetsPerTrigger", "500000")
    .load()
    .select(F.from_json(F.col("value").cast("string"), schema).alias("event"))
    .select("event.*")
    .withColumn("event_time", F.to_timestamp("timestamp"))
    .where("event_time IS NOT NULL")
)
aggregates = (
    events.withWatermark("event_time", "30 seconds")
    .groupBy(F.window("event_time", "1 minute"), "user_id", "event_type", "app_type")
    .agg(F.count(F.lit(1)).alias("event_count"), F.collect_set("session_id").alias("session_ids"))
    .select(
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "user_id",
        "event_type",
        "app_type",
        "event_count",
        "session_ids",
    )
)
query = (
    aggregates.writeStream.format("parquet")
    .outputMode("append")
    .option("path", out)
    .option("checkpointLocation", checkpoint)
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
spark.stop()
