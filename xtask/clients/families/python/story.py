"""The story that each client family lives through, told once for the clients written in Python (see ../README.md).

A client module gives `NAME`, `CODECS`, `IDEMPOTENT` and a class `Client(bootstrap)` with the calls used below. What a client
cannot do it raises `Lacks` for; that is printed, and is no failure.
"""
import collections
import sys
import threading
import time

Record = collections.namedtuple("Record", "partition key value headers timestamp")
Seen = collections.namedtuple("Seen", "partition offset key value headers timestamp")
# Recent: retention takes nothing.
BASE_TIME = int(time.time()) * 1000 - 3_600_000
PATIENCE = 90.0


class Lacks(Exception):
    """The client has no such call."""


class Member(threading.Thread):
    """A member of a group: polls and commits on a thread of its own until it is told to leave.

    `consumer` has poll() -> [Seen], assigned() -> set of partitions, commit() and close().
    """

    def __init__(self, make):
        super().__init__(daemon=True)
        self.make, self.seen, self.owned, self.fault, self.leaving = make, [], set(), None, False
        self.start()

    def run(self):
        try:
            consumer = self.make()
            while not self.leaving:
                polled = consumer.poll()
                self.seen.extend(polled)
                self.owned = consumer.assigned()
                if polled:
                    consumer.commit()
            consumer.close()
        except Exception as fault:  # told by whoever waits for this member
            self.fault = fault

    def leave(self):
        self.leaving = True
        self.join(PATIENCE)
        self.check()
        assert not self.is_alive(), "a member does not leave"

    def check(self):
        if self.fault is not None:
            raise self.fault


def until(what, condition, members=()):
    """Waits for a condition; looks at the members' faults meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        for member in members:
            member.check()
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for: {what}"
        time.sleep(0.05)


def records_for(codec):
    """Keys, headers and values of every kind, some large; three partitions."""
    for i in range(240):
        key = None if i % 7 == 0 else f"key-{i}".encode()
        value = f"{codec} value {i} ".encode() * (1500 if i % 40 == 1 else 3)
        if i % 10 == 0 and key is not None:
            value = None
        headers = [] if i % 3 == 0 else [("trace", f"{i}".encode()), ("trace", b"twice"), ("empty", b"")]
        yield Record(i % 3, key, value, headers, BASE_TIME + i * 1000)


def produce_and_consume(client, topic, codecs):
    client.create_topic(topic, 3, {})
    expected = collections.defaultdict(list)
    for codec in codecs:
        records = list(records_for(codec))
        offsets = client.produce(topic, codec, records)
        for record, offset in zip(records, offsets, strict=True):
            place = expected[record.partition]
            assert offset == len(place), f"{codec}: offset {offset} in place of {len(place)}"
            place.append(Seen(record.partition, offset, *record[1:]))
    compare(expected, client.consume(topic, {p: len(rows) for p, rows in expected.items()}))
    return f"{len(codecs)} codecs"


def compare(expected, consumed):
    found = collections.defaultdict(list)
    for seen in consumed:
        found[seen.partition].append(seen)
    for partition, rows in expected.items():
        assert len(rows) == len(found[partition]), f"{len(found[partition])} records in place of {len(rows)}"
        for ours, theirs in zip(rows, found[partition]):
            assert ours == theirs, f"{str(theirs)[:300]} in place of {str(ours)[:300]}"


def plain(numbers, partitions):
    return [Record(n % partitions, None, f"{n}".encode(), [], BASE_TIME + n) for n in numbers]


def group(client, topic, name):
    client.create_topic(topic, 4, {})

    def produce(first, last):
        client.produce(topic, "none", plain(range(first, last), 4))

    def seen_by(*members):
        return {int(seen.value) for member in members for seen in member.seen}

    everything = {0, 1, 2, 3}
    produce(0, 400)
    first = Member(lambda: client.member(name, topic))
    until("the first member has all", lambda: first.owned == everything, [first])
    until("the first member reads all", lambda: seen_by(first) == set(range(400)), [first])
    second = Member(lambda: client.member(name, topic))
    both = [first, second]
    until(
        "two members share",
        lambda: first.owned and second.owned and not first.owned & second.owned and first.owned | second.owned == everything,
        both,
    )
    attempt(lambda: described(client, name, "Stable", 2))
    produce(400, 800)
    until("two members read all", lambda: seen_by(*both) == set(range(800)), both)
    second.leave()
    until("the first member has all again", lambda: first.owned == everything, [first])
    produce(800, 1000)
    until("the one that is left reads all", lambda: seen_by(*both) == set(range(1000)), [first])
    first.leave()
    assert client.committed(name, topic, 4) == [250] * 4, f"committed {client.committed(name, topic, 4)}"
    third = Member(lambda: client.member(name, topic))
    until("a third member has all", lambda: third.owned == everything, [third])
    produce(1000, 1100)
    until("a third member goes on", lambda: len(seen_by(third)) >= 100, [third])
    third.leave()
    assert seen_by(third) == set(range(1000, 1100)), "a member did not begin at the committed offsets"
    return "3 members"


def described(client, name, state, members):
    found = client.describe_group(name)
    assert found == (state, members), f"group {found} in place of {(state, members)}"


def attempt(call):
    """Makes the call unless the client lacks it."""
    try:
        return call()
    except Lacks:
        return None


def admin(client, topic, used_group):
    lacks = []

    def step(call):
        try:
            call()
        except Lacks as lack:
            lacks.append(str(lack))

    client.create_topic(topic, 2, {"retention.ms": "86400000"})

    def config():
        found = client.describe_config(topic)
        assert found["retention.ms"] == "86400000", f"retention.ms {found['retention.ms']}"
        client.alter_config(topic, {"retention.ms": "172800000", "max.message.bytes": "2000000"})
        found = client.describe_config(topic)
        assert (found["retention.ms"], found["max.message.bytes"]) == ("172800000", "2000000"), "an altered config"

    def partitions():
        client.add_partitions(topic, 5)
        until("five partitions", lambda: client.partitions(topic) == 5)

    def offsets():
        client.produce(topic, "none", [Record(1, None, b"x", [], BASE_TIME + i * 1000) for i in range(100)])
        found = [client.list_offset(topic, 1, spec) for spec in ("earliest", "latest", BASE_TIME + 40_001, BASE_TIME + 10**9)]
        assert found == [0, 100, 41, None], f"offsets {found}"

    def delete_records():
        client.delete_records(topic, 1, 30)
        assert client.list_offset(topic, 1, "earliest") == 30, "the log start after deleting records"

    def groups():
        assert used_group in client.list_groups(), "a group is not listed"
        described(client, used_group, "Empty", 0)
        client.delete_group(used_group)
        assert used_group not in client.list_groups(), "a deleted group is listed"

    def delete():
        client.delete_topic(topic)
        until("the topic is gone", lambda: topic not in client.list_topics())

    assert client.partitions(topic) == 2, "two partitions"
    for call in (config, partitions, offsets, delete_records, groups, delete):
        step(call)
    return "all" if not lacks else "lacks " + ", ".join(sorted(set(lacks)))


def failures(client, topic, name, idempotent):
    """The broker is killed while we produce and consume; whoever runs us says when it stays up."""
    client.create_topic(topic, 2, {})
    senders = [client.sender(topic, partition) for partition in range(2)]
    reader = Member(lambda: client.member(name, topic))
    calm = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), calm.set()), daemon=True).start()
    print("failures", flush=True)
    sent, after = 0, 0
    while after < 100:
        for sender in senders:
            sender.send(sent)
        sent += 1
        after += calm.is_set()
        reader.check()
        time.sleep(0.01)
    for partition, sender in enumerate(senders):
        acked, faults = sender.finish()
        assert not (idempotent and faults), f"{len(faults)} of {sent} not acknowledged: {faults[0]}"
        end = client.list_offset(topic, partition, "latest")
        rows = client.consume(topic, {partition: end})
        assert [row.offset for row in rows] == list(range(end)), "offsets are not one after the other"
        values = [int(row.value) for row in rows]
        for number, offset in acked:
            assert offset is None or values[offset] == number, f"partition {partition}: {number} was acknowledged at {offset}, which holds {values[offset]}"
        missing = {number for number, _ in acked} - set(values)
        assert not missing, f"partition {partition}: {len(missing)} acknowledged records are lost, {min(missing)} first"
        firsts = list(dict.fromkeys(values))
        assert firsts == sorted(firsts), f"partition {partition} is out of order"
        assert not idempotent or len(values) == sent, f"{len(values)} records of {sent}: twice or lost"
        until(
            "the group has seen all",
            lambda: {seen.offset for seen in reader.seen if seen.partition == partition} >= set(range(end)),
            [reader],
        )
    reader.leave()
    return f"{2 * sent} records"


def live(module, bootstrap):
    client, told = module.Client(bootstrap), []
    run = f"{module.NAME}-{int(time.time() * 1000) % 10**9}"
    steps = [
        ("produce", lambda: produce_and_consume(client, f"{run}-data", module.CODECS)),
        ("group", lambda: group(client, f"{run}-shared", f"{run}-group")),
        ("admin", lambda: admin(client, f"{run}-admin", f"{run}-group")),
        ("failures", lambda: failures(client, f"{run}-failures", f"{run}-reader", module.IDEMPOTENT)),
    ]
    for name, step in steps:
        started = time.monotonic()
        try:
            told.append(f"{name} {step()}")
        except Exception as fault:
            import traceback

            traceback.print_exc()
            print(f"FAIL {name}: {fault!r}"[:600], flush=True)
            sys.stdout.flush()
            # Threads of a client that hangs do not keep us.
            import os

            os._exit(1)
        print(f"step {name} {time.monotonic() - started:.1f} s", flush=True)
    print("ok " + "; ".join(told), flush=True)
    import os

    os._exit(0)
