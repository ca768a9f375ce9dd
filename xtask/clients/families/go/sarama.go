package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// sar: github.com/IBM/sarama.
type sar struct {
	bootstrap []string
	client    sarama.Client
	admin     sarama.ClusterAdmin
}

func newSarama(bootstrap string) (Client, error) {
	s := &sar{bootstrap: []string{bootstrap}}
	client, err := sarama.NewClient(s.bootstrap, s.config("none"))
	if err != nil {
		return nil, err
	}
	s.client = client
	s.admin, err = sarama.NewClusterAdminFromClient(client)
	return s, err
}

func (s *sar) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (s *sar) Idempotent() bool { return true }

func (s *sar) config(codec string) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.RefreshFrequency = 2 * time.Second
	config.Metadata.Retry.Max, config.Metadata.Retry.Backoff = 60, 250*time.Millisecond
	config.Producer.Idempotent, config.Net.MaxOpenRequests = true, 1
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Retry.Max, config.Producer.Retry.Backoff = 300, 100*time.Millisecond
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	must(config.Producer.Compression.UnmarshalText([]byte(codec)))
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Group.Rebalance.Retry.Max = 60
	config.Consumer.Return.Errors = true
	return config
}

func (s *sar) Produce(topic, codec string, records []Record) error {
	producer, err := sarama.NewSyncProducer(s.bootstrap, s.config(codec))
	if err != nil {
		return err
	}
	defer producer.Close()
	var sent []*sarama.ProducerMessage
	for _, record := range records {
		row := &sarama.ProducerMessage{Topic: topic, Partition: record.Partition, Timestamp: time.UnixMilli(record.Timestamp)}
		if record.Key != nil {
			row.Key = sarama.ByteEncoder(record.Key)
		}
		if record.Value != nil {
			row.Value = sarama.ByteEncoder(record.Value)
		}
		for _, header := range record.Headers {
			row.Headers = append(row.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value})
		}
		sent = append(sent, row)
	}
	if err := producer.SendMessages(sent); err != nil {
		return err
	}
	for i, row := range sent {
		records[i].Offset = row.Offset
	}
	return nil
}

func fromSarama(row *sarama.ConsumerMessage) Record {
	record := Record{Partition: row.Partition, Offset: row.Offset, Key: row.Key, Value: row.Value, Timestamp: row.Timestamp.UnixMilli()}
	for _, header := range row.Headers {
		record.Headers = append(record.Headers, Header{string(header.Key), header.Value})
	}
	return record
}

func (s *sar) Consume(topic string, ends map[int32]int64) ([]Record, error) {
	consumer, err := sarama.NewConsumer(s.bootstrap, s.config("none"))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	var records []Record
	for partition, end := range ends {
		if end == 0 {
			continue
		}
		one, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		for limit := time.After(patience); ; {
			select {
			case row := <-one.Messages():
				records = append(records, fromSarama(row))
				if row.Offset+1 < end {
					continue
				}
			case fault := <-one.Errors():
				return nil, fault
			case <-limit:
				return nil, errors.New("nothing comes")
			}
			break
		}
		if err := one.Close(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// saramaMember hands over what the claims of its sessions bring.
type saramaMember struct {
	group   sarama.ConsumerGroup
	cancel  context.CancelFunc
	rows    chan *sarama.ConsumerMessage
	lock    sync.Mutex
	session sarama.ConsumerGroupSession
	owned   []int32
	fault   error
	polled  []*sarama.ConsumerMessage
}

func (s *sar) Member(group, topic string) (Consumer, error) {
	made, err := sarama.NewConsumerGroup(s.bootstrap, group, s.config("none"))
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancel(ctx)
	member := &saramaMember{group: made, cancel: cancel, rows: make(chan *sarama.ConsumerMessage, 256), owned: []int32{}}
	go func() {
		for range made.Errors() {
			// What the client mends by itself; what it does not, Consume answers.
		}
	}()
	go func() {
		for inner.Err() == nil {
			err := made.Consume(inner, []string{topic}, member)
			member.lock.Lock()
			member.owned = []int32{}
			member.lock.Unlock()
			if err != nil && inner.Err() == nil {
				// As its examples do: what the group cannot go on with is tried again.
				time.Sleep(250 * time.Millisecond)
			}
		}
	}()
	return member, nil
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	m.owned = []int32{}
	for _, partitions := range session.Claims() {
		m.owned = append(m.owned, partitions...)
	}
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case row, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case m.rows <- row:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *saramaMember) Poll() ([]Record, error) {
	var records []Record
	for limit := time.After(200 * time.Millisecond); len(records) < 200; {
		select {
		case row := <-m.rows:
			records = append(records, fromSarama(row))
			m.polled = append(m.polled, row)
			continue
		case <-limit:
		}
		break
	}
	return records, m.fault
}

func (m *saramaMember) Assigned() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.owned
}

func (m *saramaMember) Commit() error {
	m.lock.Lock()
	session := m.session
	m.lock.Unlock()
	for _, row := range m.polled {
		session.MarkMessage(row, "")
	}
	m.polled = nil
	session.Commit()
	return nil
}

func (m *saramaMember) Close() error {
	m.cancel()
	return m.group.Close()
}

type saramaSender struct {
	producer  sarama.AsyncProducer
	topic     string
	partition int32
	acked     []Acked
	faults    []error
	done      sync.WaitGroup
}

func (s *sar) Sender(topic string, partition int32) (Sender, error) {
	producer, err := sarama.NewAsyncProducer(s.bootstrap, s.config("lz4"))
	if err != nil {
		return nil, err
	}
	sender := &saramaSender{producer: producer, topic: topic, partition: partition}
	sender.done.Add(2)
	go func() {
		defer sender.done.Done()
		for row := range producer.Successes() {
			sender.acked = append(sender.acked, Acked{row.Metadata.(int), row.Offset})
		}
	}()
	go func() {
		defer sender.done.Done()
		for fault := range producer.Errors() {
			sender.faults = append(sender.faults, fault)
		}
	}()
	return sender, nil
}

func (s *saramaSender) Send(number int) {
	s.producer.Input() <- &sarama.ProducerMessage{
		Topic: s.topic, Partition: s.partition, Value: sarama.StringEncoder(fmt.Sprint(number)), Metadata: number,
	}
}

func (s *saramaSender) Finish() ([]Acked, []error) {
	s.producer.AsyncClose()
	s.done.Wait()
	return s.acked, s.faults
}

func (s *sar) CreateTopic(topic string, partitions int, config map[string]string) error {
	values := map[string]*string{}
	for name, value := range config {
		values[name] = &value
	}
	return s.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1, ConfigEntries: values}, false)
}

func (s *sar) ListTopics() ([]string, error) {
	found, err := s.admin.ListTopics()
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names, err
}

func (s *sar) Partitions(topic string) (int, error) {
	found, err := s.admin.DescribeTopics([]string{topic})
	if err != nil {
		return 0, err
	}
	return len(found[0].Partitions), nil
}

func (s *sar) DescribeConfig(topic string) (map[string]string, error) {
	found, err := s.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	values := map[string]string{}
	for _, entry := range found {
		values[entry.Name] = entry.Value
	}
	return values, err
}

func (s *sar) AlterConfig(topic string, config map[string]string) error {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range config {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	return s.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
}

func (s *sar) AddPartitions(topic string, count int) error {
	return s.admin.CreatePartitions(topic, int32(count), nil, false)
}

func (s *sar) ListOffset(topic string, partition int32, spec int64) (int64, error) {
	if err := s.client.RefreshMetadata(topic); err != nil {
		return 0, err
	}
	return s.client.GetOffset(topic, partition, spec)
}

func (s *sar) DeleteRecords(topic string, partition int32, before int64) error {
	return s.admin.DeleteRecords(topic, map[int32]int64{partition: before})
}

func (s *sar) ListGroups() ([]string, error) {
	found, err := s.admin.ListConsumerGroups()
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names, err
}

func (s *sar) DescribeGroup(group string) (string, int, error) {
	found, err := s.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return "", 0, err
	}
	if found[0].Err != sarama.ErrNoError {
		return "", 0, found[0].Err
	}
	return found[0].State, len(found[0].Members), nil
}

func (s *sar) Committed(group, topic string, partitions int) ([]int64, error) {
	asked := make([]int32, partitions)
	for i := range asked {
		asked[i] = int32(i)
	}
	found, err := s.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: asked})
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, partitions)
	for i := range offsets {
		offsets[i] = found.GetBlock(topic, int32(i)).Offset
	}
	return offsets, nil
}

func (s *sar) DeleteGroup(group string) error { return s.admin.DeleteConsumerGroup(group) }

func (s *sar) DeleteTopic(topic string) error { return s.admin.DeleteTopic(topic) }
