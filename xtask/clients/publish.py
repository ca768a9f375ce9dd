"""publish.py CLIENT BOOTSTRAP TOPIC FILE BLOCK: publishes FILE in blocks of BLOCK bytes, idempotent, acks=all.

CLIENT is librdkafka or kafka-python. Exits 0 when every block was acknowledged, whatever happened to the broker meanwhile.
"""
import sys

client, bootstrap, topic, path, block = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])


def blocks():
    with open(path, "rb") as f:
        while data := f.read(block):
            yield data


failed, sent = [], 0
if client == "librdkafka":
    from confluent_kafka import Producer

    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 5,
        "message.timeout.ms": 240000, "reconnect.backoff.max.ms": 500, "queue.buffering.max.kbytes": 65536,
    })

    def answered(error, _message):
        if error is not None:
            failed.append(str(error))

    for data in blocks():
        while True:
            try:
                producer.produce(topic, data, partition=0, callback=answered)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        producer.poll(0)
    left = producer.flush(240)
    if left:
        failed.append(f"{left} messages unanswered")
else:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", compression_type="gzip", linger_ms=5,
        delivery_timeout_ms=240000, reconnect_backoff_max_ms=500, max_block_ms=240000,
    )
    waiting = []
    for data in blocks():
        waiting.append(producer.send(topic, data, partition=0))
        sent += 1
    producer.flush(timeout=240)
    for future in waiting:
        if not future.succeeded():
            failed.append(repr(future.exception))
print(f"sent={sent} failed={len(failed)} {failed[:1]}")
sys.exit(1 if failed else 0)
