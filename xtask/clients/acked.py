"""acked.py send BOOTSTRAP FIRST SECONDS FILE | acked.py read BOOTSTRAP FILE FIRST

send: publishes numbered records (acks=all, idempotent, 8 partitions of topic `acked`) and appends the number of each
acknowledged one to FILE; whatever is unanswered at the end is nobody's promise. read: every number in FILE from FIRST on
must be in the topic, none twice; prints acked=N lost=N read=N. It begins where the last read ended (FILE.ends; what was
readable then must be there still), with FIRST 0 at the start of the topic.
"""
import json, os, signal, sys, time

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

path, first = sys.argv[3], int(sys.argv[4])
acked = {number for number in map(int, open(path)) if number >= first}
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "check.crcs": True})
marks = [consumer.get_watermark_offsets(TopicPartition("acked", p), 20) for p in range(PARTITIONS)]
starts = json.load(open(path + ".ends")) if first else [low for low, _ in marks]
if any(start > high for start, (_, high) in zip(starts, marks)):
    sys.exit(f"ends {[high for _, high in marks]} before those read once, {starts}")
need, seen, twice, limit = sum(high - start for start, (_, high) in zip(starts, marks)), set(), 0, time.time() + 120
consumer.assign([TopicPartition("acked", p, start) for p, start in enumerate(starts)])
read = 0
while read < need and time.time() < limit:
    for message in consumer.consume(5000, 1):
        if message.error() is None:
            number = int(message.value().split()[0])
            twice += number in seen
            seen.add(number)
            read += 1
lost = len(acked - seen)
json.dump([high for _, high in marks], open(path + ".ends", "w"))
print(f"acked={len(acked)} lost={lost} twice={twice} read={read} of {need}")
sys.exit(1 if lost or twice or read < need else 0)
