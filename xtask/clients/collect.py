"""collect.py CLIENT BOOTSTRAP TOPIC GROUP MESSAGES: reads MESSAGES messages of TOPIC as a member of GROUP, from the start.

Prints the SHA-256 of every message followed by a newline. Exits 1 when offsets have a gap or come twice.
"""
import hashlib, sys, time

client, bootstrap, topic, group, messages = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
digest, count, expected, limit = hashlib.sha256(), 0, 0, time.time() + 280


def take(offset, value):
    global count, expected
    if offset != expected:
        sys.exit(f"offset {offset} where {expected} was expected")
    expected += 1
    count += 1
    digest.update(value + b"\n")


if client == "librdkafka":
    from confluent_kafka import Consumer

    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "reconnect.backoff.max.ms": 500, "check.crcs": True,
    })
    consumer.subscribe([topic])
    while count < messages and time.time() < limit:
        for message in consumer.consume(10000, 0.5):
            if message.error() is None:
                take(message.offset(), message.value())
    consumer.close()
else:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", reconnect_backoff_max_ms=500,
    )
    while count < messages and time.time() < limit:
        for batch in consumer.poll(timeout_ms=500).values():
            for message in batch:
                take(message.offset, message.value)
    consumer.close()
if count < messages:
    sys.exit(f"{count} of {messages} messages within the time")
print(digest.hexdigest())
