"""aiokafka: its calls are awaited on one event loop in a thread of its own."""
import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, KafkaError

from story import Lacks, Seen

NAME = "aiokafka"
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
IDEMPOTENT = True

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(call):
    return asyncio.run_coroutine_threadsafe(call, loop).result(120)


async def started(make):
    """What is made in the loop and started there."""
    made = make()
    await made.start()
    return made


class Client:
    def __init__(self, bootstrap):
        self.base = {"bootstrap_servers": bootstrap, "metadata_max_age_ms": 2000}
        self.admin = wait(started(lambda: AIOKafkaAdminClient(**self.base)))

    def producer(self, codec):
        return wait(started(lambda: AIOKafkaProducer(
            **self.base, enable_idempotence=True, acks="all", compression_type=codec, linger_ms=5, request_timeout_ms=90000,
        )))

    def produce(self, topic, codec, records):
        producer = self.producer(None if codec == "none" else codec)

        async def run():
            waiting = [
                await producer.send(
                    topic, record.value, record.key, record.partition, record.timestamp, record.headers,
                )
                for record in records
            ]
            return [(await future).offset for future in waiting]

        offsets = wait(run())
        wait(producer.stop())
        return offsets

    def consumer(self, group, *topics):
        return wait(started(lambda: AIOKafkaConsumer(
            *topics, **self.base, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, check_crcs=True,
            session_timeout_ms=10000, heartbeat_interval_ms=500, max_poll_records=500,
        )))

    def consume(self, topic, ends):
        consumer = self.consumer(None)
        places = [TopicPartition(topic, partition) for partition in ends]

        async def run():
            seen = []
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            while True:
                positions = [await consumer.position(place) for place in places]
                if all(position >= ends[place.partition] for place, position in zip(places, positions)):
                    return seen
                polled = await consumer.getmany(timeout_ms=60000)
                assert polled, "nothing comes"
                seen.extend(flat(polled))

        seen = wait(run())
        wait(consumer.stop())
        return seen

    def member(self, group, topic):
        return Group(self.consumer(group, topic))

    def sender(self, topic, partition):
        return Sender(self.producer("lz4"), topic, partition)

    def create_topic(self, topic, partitions, config):
        found = wait(self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)]))
        assert found.topic_errors[0][1] == 0, found

    def list_topics(self):
        return wait(self.admin.list_topics())

    def partitions(self, topic):
        (found,) = wait(self.admin.describe_topics([topic]))
        return len(found["partitions"])

    def describe_config(self, topic):
        (found,) = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        (resource,) = found.resources
        return {entry[0]: entry[1] for entry in resource[4]}

    def alter_config(self, topic, config):
        (found,) = wait(self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)]))
        assert found.resources[0][0] == 0, found

    def add_partitions(self, topic, count):
        found = wait(self.admin.create_partitions({topic: NewPartitions(count)}))
        assert found.topic_errors[0][1] == 0, found

    def list_offset(self, topic, partition, spec):
        consumer, place = self.consumer(None), TopicPartition(topic, partition)

        async def run():
            if spec == "earliest":
                return (await consumer.beginning_offsets([place]))[place]
            if spec == "latest":
                return (await consumer.end_offsets([place]))[place]
            found = (await consumer.offsets_for_times({place: spec}))[place]
            return found and found.offset

        offset = wait(run())
        wait(consumer.stop())
        return offset

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        assert wait(self.admin.delete_records({place: RecordsToDelete(before)}))[place] == before, "low watermark"

    def list_groups(self):
        return [group[0] for group in wait(self.admin.list_consumer_groups())]

    def describe_group(self, group):
        (found,) = wait(self.admin.describe_consumer_groups([group]))
        (described,) = found.groups
        assert described[0] == 0, described
        return described[2], len(described[5])

    def committed(self, group, topic, partitions):
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        found = wait(self.admin.list_consumer_group_offsets(group, partitions=places))
        return [found[place].offset for place in places]

    def delete_group(self, _group):
        raise Lacks("deleting groups")

    def delete_topic(self, topic):
        found = wait(self.admin.delete_topics([topic]))
        assert found.topic_error_codes[0][1] == 0, found


def flat(polled):
    return [
        Seen(row.partition, row.offset, row.key, row.value, list(row.headers), row.timestamp)
        for rows in polled.values()
        for row in rows
    ]


class Group:
    def __init__(self, consumer):
        self.consumer = consumer

    def poll(self):
        return flat(wait(self.consumer.getmany(timeout_ms=200)))

    def assigned(self):
        return {place.partition for place in self.consumer.assignment()}

    def commit(self):
        try:
            wait(self.consumer.commit())
        except CommitFailedError:
            pass  # rebalanced away meanwhile
        except KafkaError as fault:
            if not fault.retriable:
                raise

    def close(self):
        wait(self.consumer.stop())


class Sender:
    def __init__(self, producer, topic, partition):
        self.producer, self.topic, self.partition, self.waiting = producer, topic, partition, []

    def send(self, number):
        future = wait(self.producer.send(self.topic, str(number).encode(), partition=self.partition))
        self.waiting.append((number, future))

    def finish(self):
        wait(self.producer.flush())
        acked = [(number, future.result().offset) for number, future in self.waiting if future.exception() is None]
        return acked, [future.exception() for _, future in self.waiting if future.exception() is not None]
