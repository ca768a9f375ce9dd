package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz: github.com/twmb/franz-go.
type franz struct {
	bootstrap string
	admin     *kadm.Client
}

var ctx = context.Background()

func newFranz(bootstrap string) (Client, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	return &franz{bootstrap, kadm.NewClient(client)}, err
}

func (f *franz) Codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
func (f *franz) Idempotent() bool { return true }

func (f *franz) client(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(f.bootstrap), kgo.MetadataMaxAge(2 * time.Second), kgo.MetadataMinAge(250 * time.Millisecond),
	}, more...)...)
}

func (f *franz) producer(codec string, more ...kgo.Opt) (*kgo.Client, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	return f.client(append(more,
		kgo.ProducerBatchCompression(codecs[codec]), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
	)...)
}

func (f *franz) Produce(topic, codec string, records []Record) error {
	client, err := f.producer(codec)
	if err != nil {
		return err
	}
	defer client.Close()
	var sent []*kgo.Record
	for _, record := range records {
		row := &kgo.Record{Topic: topic, Partition: record.Partition, Key: record.Key, Value: record.Value, Timestamp: time.UnixMilli(record.Timestamp)}
		for _, header := range record.Headers {
			row.Headers = append(row.Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
		}
		sent = append(sent, row)
	}
	if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		return err
	}
	for i, row := range sent {
		records[i].Offset = row.Offset
	}
	return nil
}

func fromFranz(row *kgo.Record) Record {
	record := Record{Partition: row.Partition, Offset: row.Offset, Key: row.Key, Value: row.Value, Timestamp: row.Timestamp.UnixMilli()}
	for _, header := range row.Headers {
		record.Headers = append(record.Headers, Header{header.Key, header.Value})
	}
	return record
}

func (f *franz) Consume(topic string, ends map[int32]int64) ([]Record, error) {
	starts, left := map[int32]kgo.Offset{}, map[int32]bool{}
	for partition, end := range ends {
		if end > 0 {
			starts[partition], left[partition] = kgo.NewOffset().AtStart(), true
		}
	}
	client, err := f.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var records []Record
	for len(left) > 0 {
		fetches := client.PollFetches(limit)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(row *kgo.Record) {
			records = append(records, fromFranz(row))
			if row.Offset+1 >= ends[row.Partition] {
				delete(left, row.Partition)
			}
		})
	}
	return records, nil
}

type franzMember struct {
	client *kgo.Client
	lock   sync.Mutex
	owned  map[int32]bool
}

func (f *franz) Member(group, topic string) (Consumer, error) {
	member := &franzMember{owned: map[int32]bool{}}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			member.lock.Lock()
			defer member.lock.Unlock()
			for _, partition := range changed[topic] {
				if owns {
					member.owned[partition] = true
				} else {
					delete(member.owned, partition)
				}
			}
		}
	}
	client, err := f.client(
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	)
	member.client = client
	return member, err
}

func (m *franzMember) Poll() ([]Record, error) {
	m.client.AllowRebalance()
	limit, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	var records []Record
	fetches := m.client.PollFetches(limit)
	fetches.EachRecord(func(row *kgo.Record) { records = append(records, fromFranz(row)) })
	return records, nil
}

func (m *franzMember) Assigned() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	owned := []int32{}
	for partition := range m.owned {
		owned = append(owned, partition)
	}
	return owned
}

// Commit: a member that was rebalanced away, or whose broker is down for longer than the client retries, comes again.
func (m *franzMember) Commit() error {
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := m.client.CommitUncommittedOffsets(limit)
	var refused *kerr.Error
	if errors.As(err, &refused) && !refused.Retriable && !isRebalance(refused.Code) {
		return err
	}
	return nil
}

// isRebalance: ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS.
func isRebalance(code int16) bool { return code == 22 || code == 25 || code == 27 }

func (m *franzMember) Close() error {
	m.client.CloseAllowingRebalance()
	return nil
}

type franzSender struct {
	client    *kgo.Client
	topic     string
	partition int32
	lock      sync.Mutex
	acked     []Acked
	faults    []error
}

func (f *franz) Sender(topic string, partition int32) (Sender, error) {
	client, err := f.producer("lz4", kgo.RecordDeliveryTimeout(patience))
	return &franzSender{client: client, topic: topic, partition: partition}, err
}

func (s *franzSender) Send(number int) {
	row := &kgo.Record{Topic: s.topic, Partition: s.partition, Value: []byte(fmt.Sprint(number))}
	s.client.Produce(ctx, row, func(row *kgo.Record, err error) {
		s.lock.Lock()
		defer s.lock.Unlock()
		if err != nil {
			s.faults = append(s.faults, err)
		} else {
			s.acked = append(s.acked, Acked{number, row.Offset})
		}
	})
}

func (s *franzSender) Finish() ([]Acked, []error) {
	must(s.client.Flush(ctx))
	return s.acked, s.faults
}

func (f *franz) CreateTopic(topic string, partitions int, config map[string]string) error {
	values := map[string]*string{}
	for name, value := range config {
		values[name] = &value
	}
	_, err := f.admin.CreateTopic(ctx, int32(partitions), 1, values, topic)
	return err
}

func (f *franz) ListTopics() ([]string, error) {
	found, err := f.admin.ListTopics(ctx)
	return found.Names(), err
}

func (f *franz) Partitions(topic string) (int, error) {
	found, err := f.admin.ListTopics(ctx, topic)
	return len(found[topic].Partitions), err
}

func (f *franz) DescribeConfig(topic string) (map[string]string, error) {
	found, err := f.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	one, err := found.On(topic, nil)
	values := map[string]string{}
	for _, config := range one.Configs {
		values[config.Key] = config.MaybeValue()
	}
	return values, err
}

func (f *franz) AlterConfig(topic string, config map[string]string) error {
	var changes []kadm.AlterConfig
	for name, value := range config {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	found, err := f.admin.AlterTopicConfigs(ctx, changes, topic)
	if err != nil {
		return err
	}
	return found[0].Err
}

func (f *franz) AddPartitions(topic string, count int) error {
	found, err := f.admin.UpdatePartitions(ctx, count, topic)
	if err != nil {
		return err
	}
	return found.Error()
}

func (f *franz) ListOffset(topic string, partition int32, spec int64) (int64, error) {
	var found kadm.ListedOffsets
	var err error
	switch spec {
	case earliest:
		found, err = f.admin.ListStartOffsets(ctx, topic)
	case latest:
		found, err = f.admin.ListEndOffsets(ctx, topic)
	default:
		// Where no record is as young, franz-go answers the end.
		found, err = f.admin.ListOffsetsAfterMilli(ctx, spec, topic)
		if one, ok := found.Lookup(topic, partition); ok && one.Timestamp == -1 {
			return -1, err
		}
	}
	one, _ := found.Lookup(topic, partition)
	return one.Offset, errors.Join(err, one.Err)
}

func (f *franz) DeleteRecords(topic string, partition int32, before int64) error {
	var places kadm.Offsets
	places.AddOffset(topic, partition, before, -1)
	found, err := f.admin.DeleteRecords(ctx, places)
	if err != nil {
		return err
	}
	return found.Error()
}

func (f *franz) ListGroups() ([]string, error) {
	found, err := f.admin.ListGroups(ctx)
	return found.Groups(), err
}

func (f *franz) DescribeGroup(group string) (string, int, error) {
	found, err := f.admin.DescribeGroups(ctx, group)
	if err != nil {
		return "", 0, err
	}
	return found[group].State, len(found[group].Members), found[group].Err
}

func (f *franz) Committed(group, topic string, partitions int) ([]int64, error) {
	found, err := f.admin.FetchOffsets(ctx, group)
	offsets := make([]int64, partitions)
	for partition := range offsets {
		one, _ := found.Lookup(topic, int32(partition))
		offsets[partition] = one.At
	}
	return offsets, err
}

func (f *franz) DeleteGroup(group string) error {
	_, err := f.admin.DeleteGroup(ctx, group)
	return err
}

func (f *franz) DeleteTopic(topic string) error {
	_, err := f.admin.DeleteTopic(ctx, topic)
	return err
}
