"""admin.py BOOTSTRAP create TOPIC PARTITIONS [K=V...] | admin.py BOOTSTRAP offsets TOPIC | admin.py BOOTSTRAP fill TOPIC MEGABYTES

create makes a topic; offsets prints `start end` of partition 0; fill publishes that many megabytes to partition 0.
"""
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, what, topic = sys.argv[1:4]
if what == "create":
    config = dict(pair.split("=", 1) for pair in sys.argv[5:])
    new = NewTopic(topic, int(sys.argv[4]), 1, config=config)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([new]).values():
        future.result(30)
elif what == "offsets":
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none"})
    print(*consumer.get_watermark_offsets(TopicPartition(topic, 0), 10, cached=False))
else:
    bad = []
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "batch.size": 65536, "acks": "all"})
    for _ in range(int(sys.argv[4]) * 1000):
        producer.produce(topic, b"x" * 1000, partition=0, on_delivery=lambda e, _: bad.append(e) if e else None)
        producer.poll(0)
    sys.exit(1 if producer.flush(60) or bad else 0)
