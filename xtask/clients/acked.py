"""acked.py send BOOTSTRAP FIRST SECONDS FILE | acked.py read BOOTSTRAP FILE

send: publishes numbered records (acks=all, idempotent, 8 partitions of topic `acked`) and appends the number of each
acknowledged one to FILE; whatever is unanswered at the end is nobody's promise. read: every number in FILE must be in
the topic exactly once per acknowledgement; prints acked=N lost=N read=N.
"""
import os, signal, sys, time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 8
mode, bootstrap = sys.argv[1:3]
if mode == "send":
    number, end, path = int(sys.argv[3]), time.time() + float(sys.argv[4]), sys.argv[5]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic("acked", PARTITIONS, 1)]).values():
        try:
            future.result(20)
        except Exception as error:
            if "exists" not in str(error):
                raise
    out = open(path, "a", buffering=1)
    signal.signal(signal.SIGTERM, lambda *_: (out.flush(), os._exit(0)))
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 20000,
        "compression.type": "lz4",
    })

    def answered(error, message):
        if error is None:
            out.write(message.value().split()[0].decode() + "\n")

    while time.time() < end:
        try:
            producer.produce("acked", b"%d %s" % (number, b"x" * 200), partition=number % PARTITIONS, on_delivery=answered)
            number += 1
        except BufferError:
            producer.poll(0.05)
        producer.poll(0)
        if number % 20 == 0:
            time.sleep(0.001)
    out.flush()
    os._exit(0)

acked = [int(line) for line in open(sys.argv[3])]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "check.crcs": True})
ends = {p: consumer.get_watermark_offsets(TopicPartition("acked", p), 20) for p in range(PARTITIONS)}
need, seen, twice, limit = sum(high - low for low, high in ends.values()), set(), 0, time.time() + 60
consumer.assign([TopicPartition("acked", p, low) for p, (low, _) in ends.items()])
read = 0
while read < need and time.time() < limit:
    for message in consumer.consume(5000, 1):
        if message.error() is None:
            number = int(message.value().split()[0])
            twice += number in seen
            seen.add(number)
            read += 1
lost = len(set(acked) - seen)
print(f"acked={len(acked)} lost={lost} twice={twice} read={read} of {need}")
sys.exit(1 if lost or twice or read < need else 0)
