package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// segment: github.com/segmentio/kafka-go. Its producer is not idempotent; its group reader does not tell what it owns.
type segment struct {
	bootstrap string
	client    *kafka.Client
}

func newSegment(bootstrap string) (Client, error) {
	address, err := net.ResolveTCPAddr("tcp", bootstrap)
	return &segment{bootstrap, &kafka.Client{Addr: address, Timeout: 30 * time.Second}}, err
}

func (s *segment) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (s *segment) Idempotent() bool { return false }

// partitioned sends a message where its WriterData says.
func (s *segment) writer(topic, codec string, async bool, done func([]kafka.Message, error)) *kafka.Writer {
	var compression kafka.Compression
	if codec != "none" {
		must(compression.UnmarshalText([]byte(codec)))
	}
	return &kafka.Writer{
		Addr: kafka.TCP(s.bootstrap), Topic: topic, Compression: compression, Async: async, Completion: done,
		Balancer:     kafka.BalancerFunc(func(row kafka.Message, _ ...int) int { return int(row.WriterData.(place).partition) }),
		RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond, MaxAttempts: 100, WriteBackoffMax: 500 * time.Millisecond,
	}
}

// place is which of the records sent this is, and where it goes.
type place struct {
	partition int32
	index     int
}

func (s *segment) Produce(topic, codec string, records []Record) error {
	var rows []kafka.Message
	for i, record := range records {
		row := kafka.Message{Key: record.Key, Value: record.Value, Time: time.UnixMilli(record.Timestamp), WriterData: place{record.Partition, i}}
		for _, header := range record.Headers {
			row.Headers = append(row.Headers, kafka.Header{Key: header.Key, Value: header.Value})
		}
		rows = append(rows, row)
	}
	writer := s.writer(topic, codec, false, func(rows []kafka.Message, err error) {
		if err == nil {
			for _, row := range rows {
				records[row.WriterData.(place).index].Offset = row.Offset
			}
		}
	})
	return errors.Join(writer.WriteMessages(ctx, rows...), writer.Close())
}

func fromSegment(row kafka.Message) Record {
	record := Record{Partition: int32(row.Partition), Offset: row.Offset, Key: row.Key, Value: row.Value, Timestamp: row.Time.UnixMilli()}
	for _, header := range row.Headers {
		record.Headers = append(record.Headers, Header{header.Key, header.Value})
	}
	return record
}

func (s *segment) Consume(topic string, ends map[int32]int64) ([]Record, error) {
	var records []Record
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for partition, end := range ends {
		reader := kafka.NewReader(kafka.ReaderConfig{
			Brokers: []string{s.bootstrap}, Topic: topic, Partition: int(partition), MaxWait: 500 * time.Millisecond,
		})
		for next := int64(0); next < end; {
			row, err := reader.ReadMessage(limit)
			if err != nil {
				return nil, err
			}
			records, next = append(records, fromSegment(row)), row.Offset+1
		}
		if err := reader.Close(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

type segmentMember struct {
	reader *kafka.Reader
	polled []kafka.Message
}

func (s *segment) Member(group, topic string) (Consumer, error) {
	return &segmentMember{reader: kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{s.bootstrap}, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
		SessionTimeout: 10 * time.Second, HeartbeatInterval: 500 * time.Millisecond, RebalanceTimeout: 10 * time.Second,
		JoinGroupBackoff: 500 * time.Millisecond, MaxAttempts: 100, ErrorLogger: kafka.LoggerFunc(log.Printf),
	})}, nil
}

func (m *segmentMember) Poll() ([]Record, error) {
	var records []Record
	limit, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	for len(records) < 200 {
		row, err := m.reader.FetchMessage(limit)
		if err != nil && limit.Err() != nil {
			break
		}
		if err != nil {
			return nil, err
		}
		records, m.polled = append(records, fromSegment(row)), append(m.polled, row)
	}
	return records, nil
}

func (m *segmentMember) Assigned() []int32 { return nil }

// Commit: the reader retries by itself; of a member that was rebalanced away the rest comes again.
func (m *segmentMember) Commit() error {
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_ = m.reader.CommitMessages(limit, m.polled...)
	m.polled = nil
	return nil
}

func (m *segmentMember) Close() error { return m.reader.Close() }

type segmentSender struct {
	writer    *kafka.Writer
	partition int32
	lock      sync.Mutex
	acked     []Acked
	faults    []error
}

func (s *segment) Sender(topic string, partition int32) (Sender, error) {
	sender := &segmentSender{partition: partition}
	sender.writer = s.writer(topic, "lz4", true, func(rows []kafka.Message, err error) {
		sender.lock.Lock()
		defer sender.lock.Unlock()
		for _, row := range rows {
			if err != nil {
				sender.faults = append(sender.faults, err)
			} else {
				sender.acked = append(sender.acked, Acked{row.WriterData.(place).index, row.Offset})
			}
		}
	})
	return sender, nil
}

func (s *segmentSender) Send(number int) {
	err := s.writer.WriteMessages(ctx, kafka.Message{Value: []byte(fmt.Sprint(number)), WriterData: place{s.partition, number}})
	if err != nil {
		s.lock.Lock()
		defer s.lock.Unlock()
		s.faults = append(s.faults, err)
	}
}

func (s *segmentSender) Finish() ([]Acked, []error) {
	must(s.writer.Close())
	return s.acked, s.faults
}

// first is the error of one topic, group or call.
func first(err error, more map[string]error) error {
	for _, other := range more {
		err = errors.Join(err, other)
	}
	return err
}

func (s *segment) CreateTopic(topic string, partitions int, config map[string]string) error {
	asked := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for name, value := range config {
		asked.ConfigEntries = append(asked.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	found, err := s.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{asked}})
	if err != nil {
		return err
	}
	return first(nil, found.Errors)
}

func (s *segment) ListTopics() ([]string, error) {
	found, err := s.client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, topic := range found.Topics {
		names = append(names, topic.Name)
	}
	return names, nil
}

func (s *segment) Partitions(topic string) (int, error) {
	found, err := s.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	return len(found.Topics[0].Partitions), found.Topics[0].Error
}

func (s *segment) DescribeConfig(topic string) (map[string]string, error) {
	found, err := s.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}},
	})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, entry := range found.Resources[0].ConfigEntries {
		values[entry.ConfigName] = entry.ConfigValue
	}
	return values, found.Resources[0].Error
}

func (s *segment) AlterConfig(topic string, config map[string]string) error {
	asked := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	for name, value := range config {
		asked.Configs = append(asked.Configs, kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value})
	}
	found, err := s.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{asked},
	})
	if err != nil {
		return err
	}
	return found.Resources[0].Error
}

func (s *segment) AddPartitions(topic string, count int) error {
	found, err := s.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(count)}},
	})
	if err != nil {
		return err
	}
	return first(nil, found.Errors)
}

func (s *segment) ListOffset(topic string, partition int32, spec int64) (int64, error) {
	found, err := s.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: int(partition), Timestamp: spec}}},
	})
	if err != nil {
		return 0, err
	}
	one := found.Topics[topic][0]
	switch spec {
	case earliest:
		return one.FirstOffset, one.Error
	case latest:
		return one.LastOffset, one.Error
	}
	for offset := range one.Offsets {
		return offset, one.Error
	}
	return -1, one.Error
}

func (s *segment) DeleteRecords(string, int32, int64) error { return lacks("deleting records") }

func (s *segment) ListGroups() ([]string, error) {
	found, err := s.client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, group := range found.Groups {
		names = append(names, group.GroupID)
	}
	return names, found.Error
}

func (s *segment) DescribeGroup(group string) (string, int, error) {
	found, err := s.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return "", 0, err
	}
	return found.Groups[0].GroupState, len(found.Groups[0].Members), found.Groups[0].Error
}

func (s *segment) Committed(group, topic string, partitions int) ([]int64, error) {
	asked := make([]int, partitions)
	for i := range asked {
		asked[i] = i
	}
	found, err := s.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: asked}})
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, partitions)
	for _, one := range found.Topics[topic] {
		offsets[one.Partition] = one.CommittedOffset
	}
	return offsets, found.Error
}

func (s *segment) DeleteGroup(group string) error {
	found, err := s.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return first(nil, found.Errors)
}

func (s *segment) DeleteTopic(topic string) error {
	found, err := s.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return first(nil, found.Errors)
}
