#!/usr/bin/env bash
# confluent-kafka 2.16.1 (librdkafka): AdminClient.list_offsets succeeds with offset -1001 where a broker is away.
#
# A topic has a partition on each of two brokers, and one of the brokers is not there. The answer for its partition is no
# exception: the future has a result, whose offset is -1001 (librdkafka's "invalid"). Who subtracts it from a position gets a
# lag of a thousand or more, and who compares it with a position sees a topic that lost its records. Consumer.
# get_watermark_offsets raises an error for the same partition.
# What we do: an offset below zero is no answer, whatever the error code says (-1 only where a time was asked for).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
venv/bin/python - <<'PYTHON'
import ctypes
import glob
import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, OffsetSpec

# The mock cluster of the package's own library, with two brokers, one of which can be taken down.
library = ctypes.CDLL(glob.glob(f"{sys.prefix}/lib/python3*/site-packages/confluent_kafka.libs/librdkafka*")[0])
for name in ("rd_kafka_new", "rd_kafka_conf_new", "rd_kafka_mock_cluster_new"):
    getattr(library, name).restype = ctypes.c_void_p
library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
library.rd_kafka_conf_set(configuration, b"log_level", b"0", None, 0)
handle = ctypes.c_void_p(library.rd_kafka_new(0, configuration, None, 0))
cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(handle, 2))
library.rd_kafka_mock_topic_create(cluster, b"t", 2, 1)
for partition in range(2):
    library.rd_kafka_mock_partition_set_leader(cluster, b"t", partition, partition + 1)
servers = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()
admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})


def ends():
    asked = {TopicPartition("t", partition): OffsetSpec.latest() for partition in range(2)}
    answers = admin.list_offsets(asked, request_timeout=10)
    return {partition.partition: answer.result().offset for partition, answer in answers.items()}


both = ends()
library.rd_kafka_mock_broker_set_down(cluster, 2)
one = ends()
print(f"librdkafka {libversion()[0]}: ends with both brokers {both}, with one {one}")
consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "log_level": 0})
try:
    refused = f"{consumer.get_watermark_offsets(TopicPartition('t', 1), timeout=5)}"
except KafkaException as error:
    refused = error.args[0].name()
print(f"get_watermark_offsets: {refused}")
consumer.close()
assert both == {0: 0, 1: 0} and one == {0: 0, 1: -1001} and refused.startswith("_"), "it has changed"
PYTHON
