// Soak.java send BOOTSTRAP TOPIC FIRST FILE | Soak.java read BOOTSTRAP TOPIC GROUP FILE
//
// As `soak.py`, by Apache Kafka's own client: runs until its standard input closes, adds acknowledged numbers or
// `partition offset number` to FILE.
import java.io.FileWriter;
import java.io.PrintWriter;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Soak {
    static final int PARTITIONS = 6;
    static final AtomicBoolean ended = new AtomicBoolean();

    public static void main(String[] words) throws Exception {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException gone) { }
            ended.set(true);
        });
        watch.setDaemon(true);
        watch.start();
        try (PrintWriter out = new PrintWriter(new FileWriter(words[4], true), true)) {
            if (words[0].equals("send")) {
                send(words[1], words[2], Long.parseLong(words[3]), out);
            } else {
                read(words[1], words[2], words[3], out);
            }
        }
    }

    static void send(String bootstrap, String topic, long number, PrintWriter out) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", true,
                "delivery.timeout.ms", 600000, "request.timeout.ms", 10000, "max.block.ms", 600000, "linger.ms", 5,
                "compression.type", "gzip", "reconnect.backoff.max.ms", 500);
        String padding = " " + "x".repeat(100);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (; !ended.get(); number++) {
                long sent = number;
                var record = new ProducerRecord<String, String>(topic, (int) (sent % PARTITIONS), null, sent + padding);
                producer.send(record, (place, error) -> {
                    if (error == null) {
                        synchronized (out) {
                            out.println(sent);
                        }
                    }
                });
                if (number % 2 == 0) {
                    Thread.sleep(1);
                }
            }
            producer.close(Duration.ofSeconds(60));
        }
    }

    static void read(String bootstrap, String topic, String group, PrintWriter out) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest",
                "session.timeout.ms", 10000, "auto.commit.interval.ms", 500, "reconnect.backoff.max.ms", 500);
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (!ended.get()) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    out.println(record.partition() + " " + record.offset() + " " + record.value().split(" ")[0]);
                }
            }
        }
    }
}
