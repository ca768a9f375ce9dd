"""millions.py produce BOOTSTRAP TOPIC FIRST COUNT | millions.py read CLIENT BOOTSTRAP TOPIC COUNT FETCH_BYTES

produce: record number n carries n as text and padding; FIRST must be the topic's end. read: every offset of partition 0
from 0 to COUNT must be there once, in order, with its own number; FETCH_BYTES is the (odd) budget of one fetch.
"""
import sys, time

mode = sys.argv[1]
if mode == "produce":
    from confluent_kafka import Producer

    bootstrap, topic, first, count = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    bad = []
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 120000,
        "queue.buffering.max.messages": 200000, "compression.type": "none",
    })
    answered = lambda error, _: bad.append(str(error)) if error is not None else None
    padding = b" " + b"." * 80
    for n in range(first, first + count):
        while True:
            try:
                producer.produce(topic, b"%d" % n + padding[: n % 80], partition=0, on_delivery=answered)
                break
            except BufferError:
                producer.poll(0.05)
        if n % 1000 == 0:
            producer.poll(0)
    if producer.flush(120) or bad:
        sys.exit(f"not all delivered: {bad[:1]}")
    sys.exit(0)

client, bootstrap, topic, count, fetch = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
expected, limit = 0, time.time() + 170


def take(offset, value):
    global expected
    if offset != expected or int(value.split(b" ")[0].split(b".")[0]) != offset:
        sys.exit(f"offset {offset} with {value[:20]!r} where {expected} was expected")
    expected += 1


if client == "librdkafka":
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "check.crcs": True,
        "fetch.message.max.bytes": fetch, "fetch.max.bytes": max(fetch, 1000000), "auto.offset.reset": "error",
    })
    consumer.assign([TopicPartition(topic, 0, 0)])
    while expected < count and time.time() < limit:
        for message in consumer.consume(10000, 1):
            if message.error() is not None:
                sys.exit(str(message.error()))
            take(message.offset(), message.value())
else:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, max_partition_fetch_bytes=fetch,
        max_poll_records=5000,
    )
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), 0)
    while expected < count and time.time() < limit:
        for batch in consumer.poll(timeout_ms=1000).values():
            for message in batch:
                take(message.offset, message.value)
if expected < count:
    sys.exit(f"{expected} of {count} records within the time")
print(f"{count} records")
