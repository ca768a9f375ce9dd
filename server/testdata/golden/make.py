#!/usr/bin/env python3
"""Makes golden data directories: what one version of Foretold leaves on disk, and what it said was in there.

    make.py PROGRAM NAME

writes NAME-stopped.tar.gz (stopped by SIGTERM), NAME-killed.tar.gz (kill -9 under a journal not yet checkpointed) and
NAME-cut.tar.gz (as killed; the newest topic's segments are empty, as a power cut leaves them). Each holds `data/`, a data
directory, and `expected/`, the answers of the program that wrote it: `topics.json`, `group-NAME.json`, `TOPIC.jsonl`.
`server/tests/golden.rs` opens them with today's program. Needs confluent-kafka. Run it once a release; never replace a file.
"""
import json, os, shutil, signal, subprocess, sys, tempfile
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

program, name = os.path.abspath(sys.argv[1]), sys.argv[2]
here = os.path.dirname(os.path.abspath(__file__))
work = tempfile.mkdtemp()
data, expected = os.path.join(work, "data"), os.path.join(work, "expected")
os.mkdir(expected)
CREATED = 1_760_000_000_000  # of the first record; the others follow a second apart


def start():
    settings = ["log.journal.bytes=33554432", "log.journal.file.bytes=1048576", "log.retention.ms=-1",
                "offsets.topic.num.partitions=4", "offsets.retention.minutes=2147483647"]
    command = [program, "dev", "--listen", "127.0.0.1:0", "--data", data]
    for setting in settings:
        command += ["--set", setting]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ready = dict(word.split("=", 1) for word in child.stdout.readline().split()[1:])
    return child, ready["bootstrap"]


def run(bootstrap, *arguments):
    return subprocess.check_output([program, *arguments, "--bootstrap", bootstrap], text=True)


def publish(bootstrap, topic, numbers, **options):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.num.messages": 7, **options})
    for number in numbers:
        producer.produce(topic, key=None if number % 5 == 0 else f"key {number}",
                         value=None if number % 11 == 10 else f"{topic} {number} " + "text " * (number % 40),
                         headers=[("number", str(number)), ("empty", b"")] if number % 3 == 0 else None,
                         timestamp=CREATED + 1000 * number, partition=number % 2)
    assert producer.flush(20) == 0


def commit(bootstrap, group, topic, offsets):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    places = [TopicPartition(topic, partition, offset, f"metadata of {partition}") for partition, offset in offsets.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def expect(bootstrap):
    topics = json.loads(run(bootstrap, "topic", "describe", "--json", *TOPICS))
    with open(os.path.join(expected, "topics.json"), "w") as file:
        json.dump(topics, file, indent=1)
    for topic in TOPICS:
        with open(os.path.join(expected, topic + ".jsonl"), "w") as file:
            file.write(run(bootstrap, "consume", topic, "--from", "earliest", "--until-end", "--json"))
    for group in GROUPS:
        with open(os.path.join(expected, f"group-{group}.json"), "w") as file:
            file.write(run(bootstrap, "group", "describe", group, "--json"))


def pack(suffix):
    for leftover in ("pid", ".lock"):
        path = os.path.join(data, leftover)
        os.path.exists(path) and os.remove(path)
    subprocess.check_call(["tar", "-C", work, "--owner=0", "--group=0", "-czf",
                           os.path.join(here, f"{name}-{suffix}.tar.gz"), "--sparse", "data", "expected"])


CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TOPICS = [f"codec-{codec}" for codec in CODECS] + ["segments", "cut-off", "page-cache", "stamped", "recoded", "idle"]
GROUPS = ["readers", "readers-2"]

child, bootstrap = start()
admin = AdminClient({"bootstrap.servers": bootstrap})
settings = {
    "segments": {"segment.bytes": "1048576"}, "page-cache": {"durability": "page-cache"}, "gone": {},
    "stamped": {"message.timestamp.type": "LogAppendTime"}, "recoded": {"compression.type": "zstd"},
    "idle": {"max.message.bytes": "12345", "retention.ms": "604800001"},
}
new = [NewTopic(topic, num_partitions=2, replication_factor=1, config=settings.get(topic, {})) for topic in TOPICS + ["gone"]]
for created in admin.create_topics(new).values():
    created.result()
for codec in CODECS:
    publish(bootstrap, f"codec-{codec}", range(200), **{"compression.type": codec, "enable.idempotence": codec == "lz4"})
producer = Producer({"bootstrap.servers": bootstrap, "batch.num.messages": 50})
for number in range(3000):
    producer.produce("segments", value=f"{number} " + "long " * 280, timestamp=CREATED + number, partition=number % 2)
assert producer.flush(30) == 0
for topic in ["cut-off", "page-cache", "stamped", "recoded", "gone"]:
    publish(bootstrap, topic, range(100))
for cut in admin.delete_records([TopicPartition("cut-off", 0, 33), TopicPartition("cut-off", 1, 50)]).values():
    cut.result()
admin.delete_topics(["gone"])["gone"].result()
commit(bootstrap, "readers", "codec-gzip", {0: 17, 1: 100})
commit(bootstrap, "readers-2", "segments", {0: 0, 1: 1499})
expect(bootstrap)
child.send_signal(signal.SIGTERM)
assert child.wait() == 0
pack("stopped")

child, bootstrap = start()
admin = AdminClient({"bootstrap.servers": bootstrap})
TOPICS.append("newest")
admin.create_topics([NewTopic("newest", num_partitions=2, replication_factor=1)])["newest"].result()
for topic in ["codec-none", "codec-zstd", "stamped", "page-cache"]:
    publish(bootstrap, topic, range(200, 260), **{"compression.type": "zstd" if topic == "codec-zstd" else "none"})
publish(bootstrap, "newest", range(120), **{"enable.idempotence": True})
commit(bootstrap, "readers", "newest", {0: 60, 1: 3})
expect(bootstrap)
child.kill()
child.wait()
pack("killed")

for partition in ("newest-0", "newest-1"):
    for file in os.listdir(os.path.join(data, partition)):
        if file.endswith((".log", ".index", ".timeindex")):
            os.truncate(os.path.join(data, partition, file), 0)
pack("cut")
shutil.rmtree(work)
