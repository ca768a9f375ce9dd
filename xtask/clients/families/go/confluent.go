package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// confluent: librdkafka through github.com/confluentinc/confluent-kafka-go, with cooperative rebalances.
type confluent struct {
	bootstrap string
	admin     *kafka.AdminClient
}

func newConfluent(bootstrap string) (Client, error) {
	c := &confluent{bootstrap: bootstrap}
	var err error
	c.admin, err = kafka.NewAdminClient(c.config(nil))
	return c, err
}

func (c *confluent) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (c *confluent) Idempotent() bool { return true }

func (c *confluent) config(more kafka.ConfigMap) *kafka.ConfigMap {
	config := kafka.ConfigMap{
		"bootstrap.servers": c.bootstrap, "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 1000,
		"log_level": 0,
	}
	for name, value := range more {
		config[name] = value
	}
	return &config
}

func (c *confluent) producer(codec string) (*kafka.Producer, error) {
	return kafka.NewProducer(c.config(kafka.ConfigMap{
		"enable.idempotence": true, "compression.type": codec, "linger.ms": 5, "message.timeout.ms": 90000,
	}))
}

func (c *confluent) Produce(topic, codec string, records []Record) error {
	producer, err := c.producer(codec)
	if err != nil {
		return err
	}
	defer producer.Close()
	answers := make(chan kafka.Event, len(records))
	for i, record := range records {
		row := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: record.Partition},
			Key:            record.Key, Value: record.Value, Timestamp: time.UnixMilli(record.Timestamp), Opaque: i,
		}
		for _, header := range record.Headers {
			row.Headers = append(row.Headers, kafka.Header{Key: header.Key, Value: header.Value})
		}
		if err := producer.Produce(row, answers); err != nil {
			return err
		}
	}
	for range records {
		row := (<-answers).(*kafka.Message)
		if row.TopicPartition.Error != nil {
			return row.TopicPartition.Error
		}
		records[row.Opaque.(int)].Offset = int64(row.TopicPartition.Offset)
	}
	return nil
}

func fromConfluent(row *kafka.Message) Record {
	record := Record{
		Partition: row.TopicPartition.Partition, Offset: int64(row.TopicPartition.Offset),
		Key: row.Key, Value: row.Value, Timestamp: row.Timestamp.UnixMilli(),
	}
	for _, header := range row.Headers {
		record.Headers = append(record.Headers, Header{header.Key, header.Value})
	}
	return record
}

func (c *confluent) consumer(group string) (*kafka.Consumer, error) {
	return kafka.NewConsumer(c.config(kafka.ConfigMap{
		"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": false, "session.timeout.ms": 10000,
		"heartbeat.interval.ms": 500, "partition.assignment.strategy": "cooperative-sticky", "check.crcs": true,
	}))
}

func (c *confluent) Consume(topic string, ends map[int32]int64) ([]Record, error) {
	consumer, err := c.consumer("nobody")
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	var places []kafka.TopicPartition
	left := map[int32]bool{}
	for partition, end := range ends {
		if end > 0 {
			places, left[partition] = append(places, kafka.TopicPartition{Topic: &topic, Partition: partition}), true
		}
	}
	if err := consumer.Assign(places); err != nil {
		return nil, err
	}
	var records []Record
	for len(left) > 0 {
		row, err := consumer.ReadMessage(patience)
		if err != nil {
			return nil, err
		}
		records = append(records, fromConfluent(row))
		if records[len(records)-1].Offset+1 >= ends[row.TopicPartition.Partition] {
			delete(left, row.TopicPartition.Partition)
		}
	}
	return records, nil
}

type confluentMember struct{ consumer *kafka.Consumer }

func (c *confluent) Member(group, topic string) (Consumer, error) {
	consumer, err := c.consumer(group)
	if err != nil {
		return nil, err
	}
	return &confluentMember{consumer}, consumer.Subscribe(topic, nil)
}

func (m *confluentMember) Poll() ([]Record, error) {
	var records []Record
	for end := time.Now().Add(200 * time.Millisecond); len(records) < 200 && time.Now().Before(end); {
		switch event := m.consumer.Poll(100).(type) {
		case *kafka.Message:
			if event.TopicPartition.Error != nil {
				return nil, event.TopicPartition.Error
			}
			records = append(records, fromConfluent(event))
		case kafka.Error:
			if event.IsFatal() {
				return nil, event
			}
		}
	}
	return records, nil
}

func (m *confluentMember) Assigned() []int32 {
	owned := []int32{}
	places, err := m.consumer.Assignment()
	must(err)
	for _, place := range places {
		owned = append(owned, place.Partition)
	}
	return owned
}

// Commit: a member that is rebalanced away or whose broker is down comes again; nothing to commit is nothing wrong.
func (m *confluentMember) Commit() error {
	_, err := m.consumer.Commit()
	var refused kafka.Error
	if errors.As(err, &refused) && !refused.IsFatal() {
		return nil
	}
	return err
}

func (m *confluentMember) Close() error { return m.consumer.Close() }

type confluentSender struct {
	producer  *kafka.Producer
	topic     string
	partition int32
	answers   chan kafka.Event
	lock      sync.Mutex
	sent      int
	acked     []Acked
	faults    []error
}

func (c *confluent) Sender(topic string, partition int32) (Sender, error) {
	producer, err := c.producer("lz4")
	sender := &confluentSender{producer: producer, topic: topic, partition: partition, answers: make(chan kafka.Event, 1024)}
	go func() {
		for event := range sender.answers {
			row := event.(*kafka.Message)
			sender.lock.Lock()
			if row.TopicPartition.Error != nil {
				sender.faults = append(sender.faults, row.TopicPartition.Error)
			} else {
				sender.acked = append(sender.acked, Acked{row.Opaque.(int), int64(row.TopicPartition.Offset)})
			}
			sender.lock.Unlock()
		}
	}()
	return sender, err
}

func (s *confluentSender) Send(number int) {
	must(s.producer.Produce(&kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &s.topic, Partition: s.partition}, Value: []byte(fmt.Sprint(number)), Opaque: number,
	}, s.answers))
	s.sent++
}

func (s *confluentSender) Finish() ([]Acked, []error) {
	answered := func() bool {
		s.lock.Lock()
		defer s.lock.Unlock()
		return len(s.acked)+len(s.faults) == s.sent
	}
	until("all is answered", answered)
	return s.acked, s.faults
}

// one is the result of a call about one topic.
func one(results []kafka.TopicResult, err error) error {
	if err == nil && results[0].Error.Code() != kafka.ErrNoError {
		return results[0].Error
	}
	return err
}

func (c *confluent) CreateTopic(topic string, partitions int, config map[string]string) error {
	return one(c.admin.CreateTopics(ctx, []kafka.TopicSpecification{
		{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1, Config: config},
	}))
}

func (c *confluent) ListTopics() ([]string, error) {
	found, err := c.admin.GetMetadata(nil, true, 30000)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range found.Topics {
		names = append(names, name)
	}
	return names, nil
}

func (c *confluent) Partitions(topic string) (int, error) {
	found, err := c.admin.DescribeTopics(ctx, kafka.NewTopicCollectionOfTopicNames([]string{topic}))
	if err != nil {
		return 0, err
	}
	described := found.TopicDescriptions[0]
	if described.Error.Code() != kafka.ErrNoError {
		return 0, described.Error
	}
	return len(described.Partitions), nil
}

func (c *confluent) DescribeConfig(topic string) (map[string]string, error) {
	found, err := c.admin.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: topic}})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for name, entry := range found[0].Config {
		values[name] = entry.Value
	}
	return values, nil
}

func (c *confluent) AlterConfig(topic string, config map[string]string) error {
	resource := kafka.ConfigResource{Type: kafka.ResourceTopic, Name: topic}
	resource.Config = kafka.StringMapToIncrementalConfigEntries(config, map[string]kafka.AlterConfigOpType{})
	found, err := c.admin.IncrementalAlterConfigs(ctx, []kafka.ConfigResource{resource})
	if err == nil && found[0].Error.Code() != kafka.ErrNoError {
		return found[0].Error
	}
	return err
}

func (c *confluent) AddPartitions(topic string, count int) error {
	return one(c.admin.CreatePartitions(ctx, []kafka.PartitionsSpecification{{Topic: topic, IncreaseTo: count}}))
}

func (c *confluent) ListOffset(topic string, partition int32, spec int64) (int64, error) {
	asked := kafka.OffsetSpec(spec)
	place := kafka.TopicPartition{Topic: &topic, Partition: partition}
	found, err := c.admin.ListOffsets(ctx, map[kafka.TopicPartition]kafka.OffsetSpec{place: asked})
	if err != nil {
		return 0, err
	}
	for _, info := range found.ResultInfos {
		if info.Error.Code() != kafka.ErrNoError {
			return 0, info.Error
		}
		return max(int64(info.Offset), -1), nil
	}
	return 0, errors.New("no offset")
}

func (c *confluent) DeleteRecords(topic string, partition int32, before int64) error {
	found, err := c.admin.DeleteRecords(ctx, []kafka.TopicPartition{{Topic: &topic, Partition: partition, Offset: kafka.Offset(before)}})
	if err != nil {
		return err
	}
	return found.DeleteRecordsResults[0].TopicPartition.Error
}

func (c *confluent) ListGroups() ([]string, error) {
	found, err := c.admin.ListConsumerGroups(ctx)
	var names []string
	for _, group := range found.Valid {
		names = append(names, group.GroupID)
	}
	return names, err
}

func (c *confluent) DescribeGroup(group string) (string, int, error) {
	found, err := c.admin.DescribeConsumerGroups(ctx, []string{group})
	if err != nil {
		return "", 0, err
	}
	described := found.ConsumerGroupDescriptions[0]
	if described.Error.Code() != kafka.ErrNoError {
		return "", 0, described.Error
	}
	return described.State.String(), len(described.Members), nil
}

func (c *confluent) Committed(group, topic string, partitions int) ([]int64, error) {
	var places []kafka.TopicPartition
	for partition := range partitions {
		places = append(places, kafka.TopicPartition{Topic: &topic, Partition: int32(partition)})
	}
	found, err := c.admin.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group, Partitions: places}})
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, partitions)
	for _, place := range found.ConsumerGroupsTopicPartitions[0].Partitions {
		offsets[place.Partition] = int64(place.Offset)
	}
	return offsets, nil
}

func (c *confluent) DeleteGroup(group string) error {
	found, err := c.admin.DeleteConsumerGroups(ctx, []string{group})
	if err == nil && found.ConsumerGroupResults[0].Error.Code() != kafka.ErrNoError {
		return found.ConsumerGroupResults[0].Error
	}
	return err
}

func (c *confluent) DeleteTopic(topic string) error {
	return one(c.admin.DeleteTopics(ctx, []string{topic}))
}
