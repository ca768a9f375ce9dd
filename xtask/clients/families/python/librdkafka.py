"""librdkafka through confluent-kafka."""
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from story import Seen

NAME = "librdkafka"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
IDEMPOTENT = True


class Client:
    def __init__(self, bootstrap):
        self.base = {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 1000}
        self.admin = AdminClient(self.base)

    def producer(self, codec):
        return Producer({**self.base, "enable.idempotence": True, "compression.type": codec, "linger.ms": 5, "message.timeout.ms": 90000})

    def produce(self, topic, codec, records):
        producer, offsets, faults = self.producer(codec), [None] * len(records), []

        def answered(place):
            def take(fault, message):
                if fault is not None:
                    faults.append(fault)
                else:
                    offsets[place] = message.offset()

            return take

        for place, record in enumerate(records):
            producer.produce(
                topic, record.value, record.key, record.partition,
                on_delivery=answered(place), timestamp=record.timestamp, headers=record.headers,
            )
        assert producer.flush(60) == 0, "not all is answered"
        assert not faults, faults[0]
        return offsets

    def consumer(self, group, **more):
        return Consumer({
            **self.base, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "session.timeout.ms": 10000, "heartbeat.interval.ms": 500, "check.crcs": True, **more,
        })

    def consume(self, topic, ends):
        consumer, left, seen = self.consumer("nobody", **{"enable.partition.eof": True}), {p for p, end in ends.items() if end}, []
        consumer.assign([TopicPartition(topic, p, 0) for p in ends])
        while left:
            message = consumer.poll(60)
            assert message is not None, "nothing comes"
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                continue
            seen.append(seen_of(message))
            if message.offset() + 1 >= ends[message.partition()]:
                left.discard(message.partition())
        consumer.close()
        return seen

    def member(self, group, topic):
        return Group(self.consumer(group), topic)

    def sender(self, topic, partition):
        return Sender(self.producer("lz4"), topic, partition)

    def create_topic(self, topic, partitions, config):
        wait(self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]))

    def list_topics(self):
        return self.admin.list_topics(timeout=30).topics

    def partitions(self, topic):
        return len(self.list_topics()[topic].partitions)

    def describe_config(self, topic):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return {name: entry.value for name, entry in wait(self.admin.describe_configs([resource])).items()}

    def alter_config(self, topic, config):
        entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
        wait(self.admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]))

    def add_partitions(self, topic, count):
        wait(self.admin.create_partitions([NewPartitions(topic, count)]))

    def list_offset(self, topic, partition, spec):
        named = {"earliest": OffsetSpec.earliest(), "latest": OffsetSpec.latest()}
        asked = named[spec] if spec in named else OffsetSpec.for_timestamp(spec)
        offset = wait(self.admin.list_offsets({TopicPartition(topic, partition): asked})).offset
        return offset if offset >= 0 else None

    def delete_records(self, topic, partition, before):
        assert wait(self.admin.delete_records([TopicPartition(topic, partition, before)])).low_watermark == before, "low watermark"

    def list_groups(self):
        return [group.group_id for group in self.admin.list_consumer_groups().result(30).valid]

    def describe_group(self, group):
        found = wait(self.admin.describe_consumer_groups([group]))
        return found.state.name.capitalize(), len(found.members)

    def committed(self, group, topic, partitions):
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in range(partitions)])
        found = wait(self.admin.list_consumer_group_offsets([asked])).topic_partitions
        return [place.offset for place in sorted(found, key=lambda place: place.partition)]

    def delete_group(self, group):
        wait(self.admin.delete_consumer_groups([group]))

    def delete_topic(self, topic):
        wait(self.admin.delete_topics([topic]))


def wait(futures):
    (future,) = futures.values()
    return future.result(60)


def seen_of(message):
    return Seen(message.partition(), message.offset(), message.key(), message.value(), message.headers() or [], message.timestamp()[1])


class Group:
    def __init__(self, consumer, topic):
        self.consumer, self.topic = consumer, topic
        consumer.subscribe([topic])

    def poll(self):
        messages = self.consumer.consume(500, 0.2)
        return [seen_of(message) for message in messages if message.error() is None]

    def assigned(self):
        return {place.partition for place in self.consumer.assignment()}

    def commit(self):
        try:
            self.consumer.commit(asynchronous=False)
        except Exception as fault:
            # A member that is rebalanced away or whose broker is down comes again; nothing to commit is nothing wrong.
            if not (fault.args[0].retriable() or fault.args[0].code() in PASSING):
                raise

    def close(self):
        self.consumer.close()


PASSING = {
    KafkaError._NO_OFFSET, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD, KafkaError._ALL_BROKERS_DOWN,
    KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.REQUEST_TIMED_OUT,
}


class Sender:
    def __init__(self, producer, topic, partition):
        self.producer, self.topic, self.partition = producer, topic, partition
        self.acked, self.faults = [], []

    def send(self, number):
        def answered(fault, message):
            if fault is None:
                self.acked.append((number, message.offset()))
            else:
                self.faults.append(fault)

        self.producer.produce(self.topic, str(number).encode(), partition=self.partition, on_delivery=answered)
        self.producer.poll(0)

    def finish(self):
        assert self.producer.flush(90) == 0, "not all is answered"
        return self.acked, self.faults
