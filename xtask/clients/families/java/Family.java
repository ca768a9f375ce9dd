import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * {@code Family NAME BOOTSTRAP}: the story of ../README.md with Apache Kafka's own client, whichever version of it is on the
 * class path.
 */
public class Family {
    /** Recent: retention takes nothing. */
    static final long BASE_TIME = System.currentTimeMillis() - 3_600_000;
    static final long PATIENCE_MS = 90_000;
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static String bootstrap;

    static Properties base() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("reconnect.backoff.max.ms", "500");
        properties.put("metadata.max.age.ms", "2000");
        return properties;
    }

    static KafkaProducer<byte[], byte[]> producer(String codec) {
        Properties properties = base();
        properties.put("compression.type", codec);
        properties.put("linger.ms", "5");
        properties.put("delivery.timeout.ms", "90000");
        properties.put("max.block.ms", "90000");
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String group) {
        Properties properties = base();
        if (group != null) properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("session.timeout.ms", "10000");
        properties.put("heartbeat.interval.ms", "500");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void until(String what, BooleanSupplier condition, Member... members) throws Exception {
        long deadline = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (!condition.getAsBoolean()) {
            for (Member member : members) member.check();
            check(System.nanoTime() < deadline, "waited " + PATIENCE_MS + " ms for: " + what);
            Thread.sleep(50);
        }
    }

    static String describe(ConsumerRecord<byte[], byte[]> row) {
        return describe(row.partition(), row.key(), row.value(), row.headers().toArray(), row.timestamp());
    }

    /** Everything of a record in one comparable text. */
    static String describe(int partition, byte[] key, byte[] value, Header[] headers, long timestamp) {
        String all = Arrays.stream(headers).map(h -> h.key() + "=" + Arrays.toString(h.value())).collect(Collectors.joining(";"));
        return partition + " " + timestamp + " " + Arrays.toString(key) + " [" + all + "] " + Arrays.toString(value);
    }

    static List<ProducerRecord<byte[], byte[]>> recordsFor(String topic, String codec) {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 240; i++) {
            byte[] key = i % 7 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
            byte[] value = i % 10 == 0 && key != null
                ? null
                : (codec + " value " + i + " ").repeat(i % 40 == 1 ? 1500 : 3).getBytes(StandardCharsets.UTF_8);
            List<Header> headers = i % 3 == 0 ? List.of() : List.of(
                new RecordHeader("trace", Integer.toString(i).getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("trace", "twice".getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("empty", new byte[0]),
                new RecordHeader("null", (byte[]) null));
            records.add(new ProducerRecord<>(topic, i % 3, BASE_TIME + i * 1000L, key, value, headers));
        }
        return records;
    }

    static List<Long> produce(String codec, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(codec)) {
            List<Future<RecordMetadata>> waiting = records.stream().map(producer::send).toList();
            List<Long> offsets = new ArrayList<>();
            for (Future<RecordMetadata> answer : waiting) offsets.add(answer.get().offset());
            return offsets;
        }
    }

    static void produceNumbers(String topic, int first, int last, int partitions) throws Exception {
        produce("none", IntStream.range(first, last).mapToObj(n -> new ProducerRecord<byte[], byte[]>(
            topic, n % partitions, BASE_TIME + n, null, Integer.toString(n).getBytes(StandardCharsets.UTF_8))).toList());
    }

    static List<ConsumerRecord<byte[], byte[]>> consume(String topic, Map<Integer, Long> ends) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null)) {
            List<TopicPartition> places = ends.keySet().stream().map(p -> new TopicPartition(topic, p)).toList();
            consumer.assign(places);
            consumer.seekToBeginning(places);
            List<ConsumerRecord<byte[], byte[]>> rows = new ArrayList<>();
            while (places.stream().anyMatch(place -> consumer.position(place) < ends.get(place.partition()))) {
                var polled = consumer.poll(Duration.ofSeconds(60));
                check(!polled.isEmpty(), "nothing comes");
                polled.forEach(rows::add);
            }
            return rows;
        }
    }

    /** A member of a group: polls and commits on a thread of its own until it is told to leave. */
    static class Member extends Thread {
        final List<ConsumerRecord<byte[], byte[]>> seen = new ArrayList<>();
        final String group, topic;
        volatile Set<Integer> owned = Set.of();
        volatile Throwable fault;
        volatile boolean leaving;

        Member(String group, String topic) {
            this.group = group;
            this.topic = topic;
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(group)) {
                consumer.subscribe(List.of(topic));
                while (!leaving) {
                    var polled = consumer.poll(Duration.ofMillis(200));
                    synchronized (seen) {
                        polled.forEach(seen::add);
                    }
                    owned = consumer.assignment().stream().map(TopicPartition::partition).collect(Collectors.toSet());
                    if (polled.isEmpty()) continue;
                    try {
                        consumer.commitSync(Duration.ofSeconds(60));
                    } catch (CommitFailedException | RetriableException passing) {
                        // Rebalanced away, or the broker was away too long: it comes again.
                    }
                }
            } catch (Throwable fault) {
                this.fault = fault;
            }
        }

        void check() throws Exception {
            if (fault != null) throw new Exception(fault);
        }

        void leave() throws Exception {
            leaving = true;
            join(PATIENCE_MS);
            check();
            Family.check(!isAlive(), "a member does not leave");
        }

        List<ConsumerRecord<byte[], byte[]>> rows() {
            synchronized (seen) {
                return new ArrayList<>(seen);
            }
        }
    }

    static Set<Integer> numbers(Member... members) {
        return Arrays.stream(members).flatMap(member -> member.rows().stream()).map(Family::number).collect(Collectors.toSet());
    }

    static int number(ConsumerRecord<byte[], byte[]> row) {
        return Integer.parseInt(new String(row.value(), StandardCharsets.UTF_8));
    }

    static Set<Integer> range(int first, int last) {
        return IntStream.range(first, last).boxed().collect(Collectors.toSet());
    }

    static String produceAndConsume(Admin admin, String topic) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1))).all().get();
        Map<Integer, List<String>> expected = new TreeMap<>(), found = new TreeMap<>();
        for (String codec : CODECS) {
            List<ProducerRecord<byte[], byte[]>> records = recordsFor(topic, codec);
            List<Long> offsets = produce(codec, records);
            for (int i = 0; i < records.size(); i++) {
                var record = records.get(i);
                List<String> place = expected.computeIfAbsent(record.partition(), p -> new ArrayList<>());
                check(offsets.get(i) == place.size(), codec + ": offset " + offsets.get(i) + " in place of " + place.size());
                place.add(describe(record.partition(), record.key(), record.value(), record.headers().toArray(), record.timestamp()));
            }
        }
        Map<Integer, Long> ends = new HashMap<>();
        expected.forEach((partition, rows) -> ends.put(partition, (long) rows.size()));
        for (var row : consume(topic, ends)) {
            List<String> place = found.computeIfAbsent(row.partition(), p -> new ArrayList<>());
            check(row.offset() == place.size(), "offset " + row.offset() + " in place of " + place.size());
            place.add(describe(row));
        }
        check(expected.equals(found), "records differ");
        return CODECS.size() + " codecs";
    }

    static String group(Admin admin, String topic, String name) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, 4, (short) 1))).all().get();
        Set<Integer> everything = range(0, 4);
        produceNumbers(topic, 0, 400, 4);
        Member first = new Member(name, topic);
        until("the first member has all", () -> first.owned.equals(everything), first);
        until("the first member reads all", () -> numbers(first).equals(range(0, 400)), first);
        Member second = new Member(name, topic);
        until("two members share", () -> {
            Set<Integer> union = new HashSet<>(first.owned);
            union.addAll(second.owned);
            return !first.owned.isEmpty() && !second.owned.isEmpty()
                && first.owned.size() + second.owned.size() == 4 && union.equals(everything);
        }, first, second);
        ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(name)).all().get().get(name);
        check(described.members().size() == 2 && described.state().toString().equals("Stable"), "group " + described);
        produceNumbers(topic, 400, 800, 4);
        until("two members read all", () -> numbers(first, second).equals(range(0, 800)), first, second);
        second.leave();
        until("the first member has all again", () -> first.owned.equals(everything), first);
        produceNumbers(topic, 800, 1000, 4);
        until("the one that is left reads all", () -> numbers(first, second).equals(range(0, 1000)), first);
        first.leave();
        var committed = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get();
        check(committed.size() == 4 && committed.values().stream().allMatch(at -> at.offset() == 250), "committed " + committed);
        Member third = new Member(name, topic);
        until("a third member has all", () -> third.owned.equals(everything), third);
        produceNumbers(topic, 1000, 1100, 4);
        until("a third member goes on", () -> numbers(third).size() >= 100, third);
        third.leave();
        check(numbers(third).equals(range(1000, 1100)), "a member did not begin at the committed offsets");
        return "3 members";
    }

    static Map<String, String> config(Admin admin, ConfigResource resource) throws Exception {
        Map<String, String> values = new HashMap<>();
        admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().forEach(e -> values.put(e.name(), e.value()));
        return values;
    }

    static long offset(Admin admin, String topic, int partition, OffsetSpec spec) throws Exception {
        TopicPartition place = new TopicPartition(topic, partition);
        return admin.listOffsets(Map.of(place, spec)).partitionResult(place).get().offset();
    }

    static boolean listed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroups().all().get().stream().map(ConsumerGroupListing::groupId).anyMatch(group::equals);
    }

    static String admin(Admin admin, String topic, String usedGroup) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1).configs(Map.of("retention.ms", "86400000")))).all().get();
        check(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 2, "two partitions");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        check("86400000".equals(config(admin, resource).get("retention.ms")), "retention.ms");
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "172800000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("max.message.bytes", "2000000"), AlterConfigOp.OpType.SET)))).all().get();
        Map<String, String> altered = config(admin, resource);
        check("172800000".equals(altered.get("retention.ms")) && "2000000".equals(altered.get("max.message.bytes")), "altered " + altered);

        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        check(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 5, "five partitions");

        produce("none", IntStream.range(0, 100)
            .mapToObj(i -> new ProducerRecord<byte[], byte[]>(topic, 1, BASE_TIME + i * 1000L, null, new byte[] {'x'})).toList());
        List<Long> offsets = new ArrayList<>();
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp(),
            OffsetSpec.forTimestamp(BASE_TIME + 40_001), OffsetSpec.forTimestamp(BASE_TIME + 1_000_000_000L))) {
            offsets.add(offset(admin, topic, 1, spec));
        }
        check(offsets.equals(List.of(0L, 100L, 99L, 41L, -1L)), "offsets " + offsets);

        TopicPartition place = new TopicPartition(topic, 1);
        long low = admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(30))).lowWatermarks().get(place).get().lowWatermark();
        check(low == 30 && offset(admin, topic, 1, OffsetSpec.earliest()) == 30, "the log start after deleting records: " + low);

        check(listed(admin, usedGroup), "a group is not listed");
        ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(usedGroup)).all().get().get(usedGroup);
        check(described.members().isEmpty() && described.state().toString().equals("Empty"), "group " + described);
        admin.deleteConsumerGroups(List.of(usedGroup)).all().get();
        check(!listed(admin, usedGroup), "a deleted group is listed");

        admin.deleteTopics(List.of(topic)).all().get();
        check(!admin.listTopics().names().get().contains(topic), "a deleted topic is listed");
        return "all";
    }

    /** The broker is killed while we produce and consume; whoever runs us says when it stays up. */
    static String failures(Admin admin, String topic, String name) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
        Member reader = new Member(name, topic);
        CountDownLatch calm = new CountDownLatch(1);
        Thread listener = new Thread(() -> {
            try {
                new BufferedReader(new InputStreamReader(System.in)).readLine();
            } catch (java.io.IOException ended) {
                // Nobody is there to say more.
            }
            calm.countDown();
        });
        listener.setDaemon(true);
        listener.start();
        System.out.println("failures");
        List<List<Future<RecordMetadata>>> waiting = List.of(new ArrayList<>(), new ArrayList<>());
        int sent = 0;
        try (KafkaProducer<byte[], byte[]> producer = producer("lz4")) {
            for (int after = 0; after < 100; sent++) {
                for (int partition = 0; partition < 2; partition++) {
                    byte[] value = Integer.toString(sent).getBytes(StandardCharsets.UTF_8);
                    waiting.get(partition).add(producer.send(new ProducerRecord<>(topic, partition, null, value)));
                }
                if (calm.getCount() == 0) after++;
                reader.check();
                Thread.sleep(10);
            }
        }
        for (int partition = 0; partition < 2; partition++) {
            long end = offset(admin, topic, partition, OffsetSpec.latest());
            List<ConsumerRecord<byte[], byte[]>> rows = consume(topic, Map.of(partition, end));
            check(rows.size() == sent && end == sent, rows.size() + " records of " + sent + ": twice or lost");
            for (int n = 0; n < sent; n++) {
                long acknowledged = waiting.get(partition).get(n).get().offset();
                check(acknowledged == n && number(rows.get(n)) == n, "partition " + partition + ": " + n + " was acknowledged at "
                    + acknowledged + ", offset " + n + " holds " + number(rows.get(n)));
            }
            int which = partition;
            Set<Integer> all = range(0, sent);
            until("the group has seen all", () -> reader.rows().stream().filter(row -> row.partition() == which)
                .map(Family::number).collect(Collectors.toSet()).equals(all), reader);
        }
        reader.leave();
        return 2 * sent + " records";
    }

    public static void main(String[] arguments) throws Exception {
        String run = arguments[0] + "-" + System.currentTimeMillis() % 1_000_000_000;
        bootstrap = arguments[1];
        Admin admin = Admin.create(base());
        Map<String, Callable<String>> steps = new java.util.LinkedHashMap<>();
        steps.put("produce", () -> produceAndConsume(admin, run + "-data"));
        steps.put("group", () -> group(admin, run + "-shared", run + "-group"));
        steps.put("admin", () -> admin(admin, run + "-admin", run + "-group"));
        steps.put("failures", () -> failures(admin, run + "-failures", run + "-reader"));
        List<String> told = new ArrayList<>();
        for (var step : steps.entrySet()) {
            long started = System.nanoTime();
            try {
                told.add(step.getKey() + " " + step.getValue().call());
            } catch (Throwable fault) {
                fault.printStackTrace();
                System.out.println("FAIL " + step.getKey() + ": " + fault);
                Runtime.getRuntime().halt(1);
            }
            System.out.printf("step %s %.1f s%n", step.getKey(), (System.nanoTime() - started) / 1e9);
        }
        System.out.println("ok " + String.join("; ", told));
        Runtime.getRuntime().halt(0);
    }
}
