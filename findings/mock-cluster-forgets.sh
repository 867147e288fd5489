#!/usr/bin/env bash
# confluent-kafka 2.12.2 (librdkafka's mock cluster, test.mock.num.brokers): acknowledged records that are gone.
#
# The mock cluster keeps at most 5 MiB of a partition and drops the oldest records beyond it, whatever the topic's settings.
# Producers are told that everything was written; a consumer that begins at the beginning begins in the middle, without an
# error, since that is what retention looks like. A test that writes 20 MB and counts loses three quarters.
# What to do: many partitions and short runs, or a real broker.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.12.2
venv/bin/python - <<'PYTHON'
from confluent_kafka import Consumer, Producer, TopicPartition

producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
acknowledged = []
for number in range(200):
    producer.produce("t", b"%6d" % number + b"x" * 100_000, partition=0, on_delivery=lambda error, _: acknowledged.append(error))
    producer.flush()
assert acknowledged == [None] * 200

consumer = Consumer({
    "bootstrap.servers": f"{broker.host}:{broker.port}", "group.id": "g", "auto.offset.reset": "earliest",
    "enable.partition.eof": True, "log_level": 0,
})
consumer.assign([TopicPartition("t", 0, 0)])
read = []
for _ in range(1000):
    message = consumer.poll(1)
    if message is not None and message.error():
        break
    if message is not None:
        read.append(message.offset())
consumer.close()
print(f"acknowledged {len(acknowledged)}, read {len(read)}: offsets {read[0]} to {read[-1]}")
assert len(read) < 60 and read[0] > 140 and read[-1] == 199, "it has changed"
PYTHON
