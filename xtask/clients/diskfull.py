"""diskfull.py BOOTSTRAP MOUNT: what a node on a small file system (MOUNT) does for clients when that is full.

1. An idempotent producer fills it until nothing more is acknowledged.
2. Somebody else takes what is left, to the last block.
3. Meanwhile group offsets are committed and read back, a topic is created and another deleted, records are read.
4. Room is made (the other's file goes, old records are deleted) and the same producer resumes, without a restart.
5. Everything acknowledged is read back, once.

Prints one line of what was seen.
"""
import os, sys, time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, mount = sys.argv[1:3]
HOG = os.path.join(mount, "somebody-elses")
PARTITIONS = 4
PAD = os.urandom(40_000)


def free_mib():
    stat = os.statvfs(mount)
    return stat.f_bavail * stat.f_frsize >> 20


def step(text):
    print(f"    {time.time() - began:5.1f} s: {text}", file=sys.stderr, flush=True)


def within(seconds, what, done):
    limit = time.time() + seconds
    while not done():
        if time.time() > limit:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.05)


began = time.time()
admin = AdminClient({"bootstrap.servers": bootstrap})
short = {"segment.bytes": str(4 << 20), "file.delete.delay.ms": "60000"}
for future in admin.create_topics(
    [NewTopic("full", PARTITIONS, 1, config=short), NewTopic("doomed", 1, 1)]
).values():
    future.result(20)
group = {"bootstrap.servers": bootstrap, "group.id": "progress", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
reader = Consumer(group)
spots = [TopicPartition("full", p) for p in range(PARTITIONS)]

producer = Producer({
    "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 300000,
    "queue.buffering.max.kbytes": 8192, "retry.backoff.ms": 100, "retry.backoff.max.ms": 500,
})
acked, failed, last_ack = {}, [], [time.time()]


def answered(error, message):
    if error is None:
        acked[int(message.value()[:12])] = (message.partition(), message.offset())
        last_ack[0] = time.time()
    else:
        failed.append(error)


number = 0


def send(seconds, count):
    global number
    limit, last = time.time() + seconds, number + count
    while time.time() < limit and number < last:
        try:
            producer.produce("full", b"%012d" % number + PAD, partition=number % PARTITIONS, on_delivery=answered)
            number += 1
            producer.poll(0)
        except BufferError:
            producer.poll(0.05)
            if time.time() - last_ack[0] > 2:
                return


send(60, 1_000_000)
step(f"refused with {len(acked)} acknowledged, {len(failed)} failed, {free_mib()} MiB free")
if failed or time.time() - last_ack[0] < 2:
    sys.exit(f"the producer does not wait: {failed[:1]}, {free_mib()} MiB free")

with open(HOG, "wb") as hog:
    chunk = bytes(1 << 20)
    try:
        while True:
            hog.write(chunk)
            hog.flush()
    except OSError:
        pass
    try:
        while True:
            hog.write(bytes(4096))
            hog.flush()
    except OSError:
        pass
step(f"somebody took the rest: {free_mib()} MiB free")

for round in range(50):
    for spot in spots:
        spot.offset = round + 1
    reader.commit(offsets=spots, asynchronous=False)
step("offsets committed")
for committed in reader.committed(spots, 20):
    if committed.offset != 50:
        sys.exit(f"committed 50, told {committed}")
for future in admin.create_topics([NewTopic("born-without-space", 3, 1)]).values():
    future.result(20)
step("topic created")
for future in admin.delete_topics(["doomed"]).values():
    future.result(20)
step("topic deleted")
reader.assign([TopicPartition("full", 0, 0)])
within(20, "a read", lambda: any(m.error() is None for m in reader.consume(10, 1)))
step("records read")
if len(failed):
    sys.exit(f"a waiting producer heard {failed[0]}")

os.remove(HOG)
before = len(acked)
lows = {}
for p in range(PARTITIONS):
    low, high = reader.get_watermark_offsets(TopicPartition("full", p), 20)
    lows[p] = low + (high - low) * 9 // 10
deleted = admin.delete_records([TopicPartition("full", p, lows[p]) for p in range(PARTITIONS)])
for future in deleted.values():
    future.result(20)
step(f"old records deleted: {free_mib()} MiB free")
within(30, "room", lambda: producer.poll(0) or len(acked) > before)
step(f"acknowledged again: {free_mib()} MiB free")
send(10, 50)
left = producer.flush(60)
if left or failed:
    sys.exit(f"{left} records are unanswered, {failed[:1]}")
step("all answered")

need = {number: spot for number, spot in acked.items() if spot[1] >= lows[spot[0]]}
reader.assign([TopicPartition("full", p, lows[p]) for p in range(PARTITIONS)])
seen, twice, limit = {}, 0, time.time() + 60
while len(seen) < len(need) and time.time() < limit:
    for message in reader.consume(1000, 0.5):
        if message.error() is None:
            value = int(message.value()[:12])
            twice += value in seen
            seen[value] = (message.partition(), message.offset())
lost = [n for n, spot in need.items() if seen.get(n) != spot]
print(f"acked={len(acked)} kept={len(need)} lost={len(lost)} twice={twice}, waited {before} to {len(acked)}")
sys.exit(1 if lost or twice else 0)
