"""What a soak's round is made of; each part runs until its standard input closes, whatever happens to the broker meanwhile.

soak.py send BOOTSTRAP TOPIC FIRST FILE           numbers from FIRST on by librdkafka; acknowledged ones are added to FILE
soak.py send-own BOOTSTRAP TOPIC FIRST FILE BIN   the same by `foretold produce`, in runs that count when all of it is acknowledged
soak.py read BOOTSTRAP TOPIC GROUP FILE           as a member of GROUP; adds `partition offset number` to FILE
soak.py churn BOOTSTRAP PREFIX                    creates, fills and deletes topics with retention; at the end what is there must
                                                  be what was acknowledged
soak.py account SECONDS ACKED... -- READ...       waits so long until everything in ACKED is in READ; prints what is wrong
soak.py reread BOOTSTRAP TOPIC ACKED...           reads the topic from its start: everything in ACKED must be there, once
"""
import json, subprocess, sys, threading, time

PARTITIONS = 6
what, arguments = sys.argv[1], sys.argv[2:]
ended = threading.Event()


def watch():
    sys.stdin.buffer.read()
    ended.set()


def client(bootstrap, **more):
    return {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500, **{k.replace("_", "."): v for k, v in more.items()}}


def send(bootstrap, topic, first, path):
    from confluent_kafka import Producer

    number, out = int(first), open(path, "a", buffering=1)
    producer = Producer(client(bootstrap, enable_idempotence=True, linger_ms=2, message_timeout_ms=600000, compression_type="lz4"))

    def answered(error, message):
        if error is None:
            out.write(message.value().split()[0].decode() + "\n")

    while not ended.is_set():
        try:
            producer.produce(topic, b"%d %s" % (number, b"x" * 100), partition=number % PARTITIONS, on_delivery=answered)
            number += 1
        except BufferError:
            producer.poll(0.1)
        producer.poll(0.001 if number % 2 else 0)
    producer.flush(60)


def send_own(bootstrap, topic, first, path, binary):
    number, out = int(first), open(path, "a", buffering=1)
    while not ended.is_set():
        numbers = range(number, number + 300)
        lines = "".join(f"{n} {'x' * 100}\n" for n in numbers)
        words = [binary, "produce", topic, "--bootstrap", bootstrap, "--json", "--timeout", "120", "--compression", "zstd"]
        done = subprocess.run(words, input=lines, capture_output=True, text=True)
        if done.returncode == 0 and json.loads(done.stdout)["acknowledged"] == len(numbers):
            out.write("".join(f"{n}\n" for n in numbers))
        else:
            time.sleep(0.5)
        number += 300


def read(bootstrap, topic, group, path):
    from confluent_kafka import Consumer

    out = open(path, "a", buffering=1)
    consumer = Consumer(client(bootstrap, group_id=group, auto_offset_reset="earliest", check_crcs=True,
                               session_timeout_ms=10000, auto_commit_interval_ms=500, partition_assignment_strategy="range"))
    consumer.subscribe([topic])
    while not ended.is_set():
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                out.write(f"{message.partition()} {message.offset()} {message.value().split()[0].decode()}\n")
    consumer.close()


def churn(bootstrap, prefix):
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin, producer = AdminClient(client(bootstrap)), Producer(client(bootstrap, linger_ms=5, message_timeout_ms=60000))
    there, gone, retained, names = set(), set(), 0, []
    config = {"retention.bytes": "1048576", "segment.bytes": "1048576", "file.delete.delay.ms": "500"}

    def succeeds(futures):
        try:
            for future in futures.values():
                future.result(30)
            return True
        except Exception:
            return False

    while not ended.is_set():
        name = f"{prefix}-{len(names)}"
        names.append(name)
        if not succeeds(admin.create_topics([NewTopic(name, 2, config=config)], request_timeout=20)):
            ended.wait(0.5)
            continue
        there.add(name)
        for number in range(4000):
            try:
                producer.produce(name, b"y" * 1000, partition=number % 2)
            except BufferError:
                pass
            producer.poll(0)
        producer.flush(20)
        ended.wait(0.2)
        if len(there) > 3:
            oldest = min(there, key=names.index)
            there.discard(oldest)
            if succeeds(admin.delete_topics([oldest], request_timeout=20)):
                gone.add(oldest)
    # The broker is up and idle now.
    found, end = set(), time.time() + 60
    while time.time() < end:
        try:
            found = set(admin.list_topics(timeout=20).topics)
            break
        except Exception:
            time.sleep(0.5)
    if there - found or gone & found:
        sys.exit(f"created and not there: {there - found}; deleted and there: {gone & found}")
    consumer = Consumer(client(bootstrap, group_id="none"))
    while time.time() < end and not retained:
        retained = sum(consumer.get_watermark_offsets(TopicPartition(name, 0), 20, cached=False)[0] > 0 for name in there)
    succeeds(admin.delete_topics(sorted(name for name in names if name in found), request_timeout=20))
    print(json.dumps({"created": len(there) + len(gone), "deleted": len(gone), "retained": retained}))


def numbers_of(paths):
    return {int(line) for path in paths for line in open(path) if line.endswith("\n")}


def places_of(paths):
    for path in paths:
        for line in open(path):
            if not line.endswith("\n"):
                continue
            if line.startswith("{"):
                record = json.loads(line)
                yield record["partition"], record["offset"], int(record["value"].split()[0])
            else:
                yield tuple(map(int, line.split()))


def judged(acked, places):
    at, of, bad = {}, {}, []
    for partition, offset, number in places:
        if at.setdefault((partition, offset), number) != number:
            bad.append(f"{partition}:{offset} was {at[partition, offset]} and is {number}")
        if of.setdefault(number, (partition, offset)) != (partition, offset):
            bad.append(f"{number} is at {of[number]} and at {partition}:{offset}")
    return {"acknowledged": len(acked), "lost": sorted(acked - of.keys()), "received": len(of), "bad": bad}


def tell(seen):
    lost, bad = seen["lost"], seen["bad"]
    print(json.dumps({**seen, "lost": len(lost), "bad": len(bad), "first": [*lost[:3], *bad[:3]]}))
    sys.exit(1 if lost or bad else 0)


def account(seconds, *paths):
    split, end = paths.index("--"), time.time() + float(seconds)
    while True:
        seen = judged(numbers_of(paths[:split]), places_of(paths[split + 1:]))
        if not seen["lost"] or time.time() > end:
            tell(seen)
        time.sleep(1)


def reread(bootstrap, topic, *paths):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(client(bootstrap, group_id="none", enable_auto_commit=False, check_crcs=True))
    marks = [consumer.get_watermark_offsets(TopicPartition(topic, p), 20, cached=False) for p in range(PARTITIONS)]
    need, places, end = sum(high - low for low, high in marks), [], time.time() + 120
    consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in enumerate(marks)])
    while len(places) < need and time.time() < end:
        for message in consumer.consume(5000, 1):
            if message.error() is None:
                places.append((message.partition(), message.offset(), int(message.value().split()[0])))
    if len(places) < need:
        sys.exit(f"{len(places)} of {need} records within the time")
    tell(judged(numbers_of(paths), places))


if what in ("send", "send-own", "read", "churn"):
    threading.Thread(target=watch, daemon=True).start()
globals()[what.replace("-", "_")](*arguments)
