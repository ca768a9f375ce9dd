"""kafka-python."""
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import CommitFailedError, KafkaError

from story import Seen

NAME = "kafka-python"
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
IDEMPOTENT = True


class Client:
    def __init__(self, bootstrap):
        self.base = {"bootstrap_servers": bootstrap, "reconnect_backoff_max_ms": 500, "metadata_max_age_ms": 2000}
        self.admin = KafkaAdminClient(**self.base)

    def producer(self, codec):
        return KafkaProducer(
            **self.base, enable_idempotence=True, acks="all", compression_type=codec, linger_ms=5,
            delivery_timeout_ms=90000, max_block_ms=90000,
        )

    def produce(self, topic, codec, records):
        producer = self.producer(None if codec == "none" else codec)
        waiting = [
            producer.send(
                topic, record.value, record.key, headers=record.headers, partition=record.partition,
                timestamp_ms=record.timestamp,
            )
            for record in records
        ]
        producer.flush(60)
        offsets = [future.get(60).offset for future in waiting]
        producer.close()
        return offsets

    def consumer(self, group):
        return KafkaConsumer(
            **self.base, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, check_crcs=True,
            session_timeout_ms=10000, heartbeat_interval_ms=500, max_poll_records=500,
        )

    def consume(self, topic, ends):
        consumer, seen = self.consumer(None), []
        places = [TopicPartition(topic, partition) for partition in ends]
        consumer.assign(places)
        consumer.seek_to_beginning()
        while any(consumer.position(place) < ends[place.partition] for place in places):
            polled = consumer.poll(60000)
            assert polled, "nothing comes"
            seen.extend(flat(polled))
        consumer.close()
        return seen

    def member(self, group, topic):
        return Group(self.consumer(group), topic)

    def sender(self, topic, partition):
        return Sender(self.producer("lz4"), topic, partition)

    def create_topic(self, topic, partitions, config):
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config}})

    def list_topics(self):
        return self.admin.list_topics()

    def partitions(self, topic):
        (found,) = self.admin.describe_topics([topic])
        return len(found["partitions"])

    def describe_config(self, topic):
        found = self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def alter_config(self, topic, config):
        found = self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
        assert found["topic"][topic] == "OK", found

    def add_partitions(self, topic, count):
        self.admin.create_partitions({topic: count})

    def list_offset(self, topic, partition, spec):
        place = TopicPartition(topic, partition)
        asked = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST}.get(spec, spec)
        found = self.admin.list_partition_offsets({place: asked})[place]
        return found.offset if found is not None and found.offset >= 0 else None

    def delete_records(self, topic, partition, before):
        found = self.admin.delete_records({TopicPartition(topic, partition): before})
        assert found[TopicPartition(topic, partition)]["low_watermark"] == before, found

    def list_groups(self):
        return [group["group_id"] for group in self.admin.list_groups()]

    def describe_group(self, group):
        found = self.admin.describe_groups([group])[group]
        return found["group_state"], len(found["members"])

    def committed(self, group, topic, partitions):
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        found = self.admin.list_group_offsets({group: places})[group]
        return [found[place].offset for place in places]

    def delete_group(self, group):
        assert self.admin.delete_groups([group]) == {group: "OK"}, "a group is not deleted"

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])


def flat(polled):
    return [
        Seen(row.partition, row.offset, row.key, row.value, list(row.headers), row.timestamp)
        for rows in polled.values()
        for row in rows
    ]


class Group:
    def __init__(self, consumer, topic):
        self.consumer = consumer
        # A leader that joins before it knows the topic's partitions joins again once it does. If a poll then ends between
        # JoinGroup and SyncGroup, kafka-python 3.0.12 forgets that it was assigned anything. So: know them first, poll long.
        consumer.partitions_for_topic(topic)
        consumer.subscribe([topic])

    def poll(self):
        return flat(self.consumer.poll(1000))

    def assigned(self):
        return {place.partition for place in self.consumer.assignment()}

    def commit(self):
        try:
            self.consumer.commit()
        except CommitFailedError:
            pass  # rebalanced away meanwhile
        except KafkaError as fault:
            if not fault.retriable:
                raise

    def close(self):
        self.consumer.close()


class Sender:
    def __init__(self, producer, topic, partition):
        self.producer, self.topic, self.partition, self.waiting = producer, topic, partition, []

    def send(self, number):
        future = self.producer.send(self.topic, str(number).encode(), partition=self.partition)
        self.waiting.append((number, future))

    def finish(self):
        self.producer.flush(90)
        acked = [(number, future.value.offset) for number, future in self.waiting if future.succeeded()]
        return acked, [future.exception for _, future in self.waiting if not future.succeeded()]
