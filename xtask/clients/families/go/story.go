// The story that each client family lives through, told once for the clients written in Go (see ../README.md).
//
//	family CLIENT BOOTSTRAP
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const patience = 90 * time.Second

// baseTime is recent: retention takes nothing.
var baseTime = time.Now().Unix()*1000 - 3_600_000

// Header is one header of a record; a slice keeps their order.
type Header struct {
	Key   string
	Value []byte
}

// Record is what is sent and, with its offset, what comes back.
type Record struct {
	Partition  int32
	Offset     int64
	Key, Value []byte
	Headers    []Header
	Timestamp  int64
}

// Client is a client family. What it cannot do it answers with errLacks.
type Client interface {
	// Codecs that the client can write; whether its producer is idempotent; whether a member tells what it owns.
	Codecs() []string
	Idempotent() bool
	// Produce sends all to the partitions that the records name, and sets the offsets it was told (-1: it is not told).
	Produce(topic, codec string, records []Record) error
	// Consume reads partitions from the beginning up to their ends.
	Consume(topic string, ends map[int32]int64) ([]Record, error)
	Member(group, topic string) (Consumer, error)
	Sender(topic string, partition int32) (Sender, error)

	CreateTopic(topic string, partitions int, config map[string]string) error
	ListTopics() ([]string, error)
	Partitions(topic string) (int, error)
	DescribeConfig(topic string) (map[string]string, error)
	AlterConfig(topic string, config map[string]string) error
	AddPartitions(topic string, count int) error
	// ListOffset answers -1 for a time after the last record.
	ListOffset(topic string, partition int32, spec int64) (int64, error)
	DeleteRecords(topic string, partition int32, before int64) error
	ListGroups() ([]string, error)
	DescribeGroup(group string) (state string, members int, err error)
	Committed(group, topic string, partitions int) ([]int64, error)
	DeleteGroup(group string) error
	DeleteTopic(topic string) error
}

// What ListOffset is asked for beside times.
const (
	latest   = int64(-1)
	earliest = int64(-2)
)

// Consumer is a member of a group.
type Consumer interface {
	// Poll waits a short while.
	Poll() ([]Record, error)
	// Assigned is nil where the client does not tell.
	Assigned() []int32
	Commit() error
	Close() error
}

// Sender produces to one partition without waiting for each answer.
type Sender interface {
	Send(number int)
	// Finish waits for all answers.
	Finish() (acked []Acked, faults []error)
}

// Acked is a number and the offset its record was acknowledged at, -1 where the client does not tell.
type Acked struct {
	Number int
	Offset int64
}

type lacks string

func (l lacks) Error() string { return string(l) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(fmt.Errorf(format, arguments...))
	}
}

// Member polls and commits in a goroutine of its own until it is told to leave.
type Member struct {
	lock  sync.Mutex
	seen  []Record
	owned []int32
	fault error
	leave chan struct{}
	done  chan struct{}
}

func join(client Client, group, topic string) *Member {
	member := &Member{leave: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(member.done)
		if err := member.run(client, group, topic); err != nil {
			member.lock.Lock()
			member.fault = err
			member.lock.Unlock()
		}
	}()
	return member
}

func (m *Member) run(client Client, group, topic string) error {
	consumer, err := client.Member(group, topic)
	if err != nil {
		return err
	}
	for {
		select {
		case <-m.leave:
			return consumer.Close()
		default:
		}
		polled, err := consumer.Poll()
		if err != nil {
			return err
		}
		m.lock.Lock()
		m.seen = append(m.seen, polled...)
		m.owned = consumer.Assigned()
		m.lock.Unlock()
		if len(polled) > 0 {
			if err := consumer.Commit(); err != nil {
				return err
			}
		}
	}
}

func (m *Member) check() {
	m.lock.Lock()
	defer m.lock.Unlock()
	must(m.fault)
}

func (m *Member) left() {
	close(m.leave)
	select {
	case <-m.done:
		m.check()
	case <-time.After(patience):
		panic(errors.New("a member does not leave"))
	}
}

func (m *Member) records() []Record {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.seen[:len(m.seen):len(m.seen)]
}

// owns tells what a member owns; nil: nobody knows.
func (m *Member) owns() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.owned
}

func until(what string, condition func() bool, members ...*Member) {
	deadline := time.Now().Add(patience)
	for !condition() {
		for _, member := range members {
			member.check()
		}
		check(time.Now().Before(deadline), "waited %v for: %s", patience, what)
		time.Sleep(50 * time.Millisecond)
	}
}

func recordsFor(codec string) []Record {
	records := make([]Record, 240)
	for i := range records {
		record := Record{Partition: int32(i % 3), Timestamp: baseTime + int64(i)*1000}
		if i%7 != 0 {
			record.Key = []byte(fmt.Sprintf("key-%d", i))
		}
		if i%10 != 0 || record.Key == nil {
			times := 3
			if i%40 == 1 {
				times = 1500
			}
			record.Value = bytes.Repeat([]byte(fmt.Sprintf("%s value %d ", codec, i)), times)
		}
		if i%3 != 0 {
			record.Headers = []Header{{"trace", []byte(strconv.Itoa(i))}, {"trace", []byte("twice")}, {"empty", []byte{}}}
		}
		records[i] = record
	}
	return records
}

func produceAndConsume(client Client, topic string) string {
	must(client.CreateTopic(topic, 3, nil))
	expected := map[int32][]Record{}
	ends := map[int32]int64{}
	for _, codec := range client.Codecs() {
		records := recordsFor(codec)
		must(client.Produce(topic, codec, records))
		for _, record := range records {
			place := int64(len(expected[record.Partition]))
			check(record.Offset == place || record.Offset == -1, "%s: offset %d in place of %d", codec, record.Offset, place)
			record.Offset = place
			expected[record.Partition] = append(expected[record.Partition], record)
			ends[record.Partition] = place + 1
		}
	}
	found := map[int32][]Record{}
	for _, record := range got(client.Consume(topic, ends)) {
		found[record.Partition] = append(found[record.Partition], record)
	}
	for partition, rows := range expected {
		check(len(rows) == len(found[partition]), "%d records in place of %d", len(found[partition]), len(rows))
		for i, ours := range rows {
			theirs := found[partition][i]
			check(same(ours, theirs), "%.300s in place of %.300s", fmt.Sprint(theirs), fmt.Sprint(ours))
		}
	}
	return fmt.Sprintf("%d codecs", len(client.Codecs()))
}

// same tells null from empty for keys and values.
func same(a, b Record) bool {
	if (a.Key == nil) != (b.Key == nil) || (a.Value == nil) != (b.Value == nil) || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i, header := range a.Headers {
		if header.Key != b.Headers[i].Key || !bytes.Equal(header.Value, b.Headers[i].Value) {
			return false
		}
	}
	return a.Offset == b.Offset && a.Timestamp == b.Timestamp && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

func numbered(first, last, partitions int) []Record {
	var records []Record
	for n := first; n < last; n++ {
		value := []byte(strconv.Itoa(n))
		records = append(records, Record{Partition: int32(n % partitions), Value: value, Timestamp: baseTime + int64(n)})
	}
	return records
}

func numbers(members ...*Member) map[int]bool {
	found := map[int]bool{}
	for _, member := range members {
		for _, record := range member.records() {
			found[got(strconv.Atoi(string(record.Value)))] = true
		}
	}
	return found
}

func group(client Client, topic, name string) string {
	must(client.CreateTopic(topic, 4, nil))
	produce := func(first, last int) { must(client.Produce(topic, "none", numbered(first, last, 4))) }
	hasAll := func(member *Member) func() bool {
		return func() bool { owned := member.owns(); return owned == nil || len(owned) == 4 }
	}
	produce(0, 400)
	first := join(client, name, topic)
	until("the first member reads all", func() bool { return len(numbers(first)) == 400 }, first)
	until("the first member has all", hasAll(first), first)
	second := join(client, name, topic)
	share := func() bool {
		a, b := first.owns(), second.owns()
		if a == nil || b == nil {
			state, members, err := client.DescribeGroup(name)
			return err == nil && state == "Stable" && members == 2
		}
		union := map[int32]bool{}
		for _, partition := range append(append([]int32{}, a...), b...) {
			union[partition] = true
		}
		return len(a) > 0 && len(b) > 0 && len(a)+len(b) == 4 && len(union) == 4
	}
	until("two members share", share, first, second)
	state, members, err := client.DescribeGroup(name)
	if !isLacks(err) {
		must(err)
		check(state == "Stable" && members == 2, "group %s of %d", state, members)
	}
	produce(400, 800)
	until("two members read all", func() bool { return len(numbers(first, second)) == 800 }, first, second)
	second.left()
	until("the first member has all again", hasAll(first), first)
	produce(800, 1000)
	until("the one that is left reads all", func() bool { return len(numbers(first, second)) == 1000 }, first)
	first.left()
	committed := got(client.Committed(name, topic, 4))
	check(reflect.DeepEqual(committed, []int64{250, 250, 250, 250}), "committed %v", committed)
	third := join(client, name, topic)
	produce(1000, 1100)
	until("a third member goes on", func() bool { return len(numbers(third)) >= 100 }, third)
	third.left()
	for number := range numbers(third) {
		check(number >= 1000, "a member did not begin at the committed offsets, but saw %d", number)
	}
	return "3 members"
}

func isLacks(err error) bool {
	var l lacks
	return errors.As(err, &l)
}

func admin(client Client, topic, usedGroup string) string {
	missing := map[string]bool{}
	// Stops a step at what the client lacks.
	step := func(body func()) {
		defer func() {
			if fault := recover(); fault != nil {
				err, ok := fault.(error)
				if !ok || !isLacks(err) {
					panic(fault)
				}
				missing[err.Error()] = true
			}
		}()
		body()
	}
	must(client.CreateTopic(topic, 2, map[string]string{"retention.ms": "86400000"}))
	check(got(client.Partitions(topic)) == 2, "two partitions")
	step(func() {
		found := got(client.DescribeConfig(topic))
		check(found["retention.ms"] == "86400000", "retention.ms %s", found["retention.ms"])
		must(client.AlterConfig(topic, map[string]string{"retention.ms": "172800000", "max.message.bytes": "2000000"}))
		found = got(client.DescribeConfig(topic))
		check(found["retention.ms"] == "172800000" && found["max.message.bytes"] == "2000000", "an altered config")
	})
	step(func() {
		must(client.AddPartitions(topic, 5))
		until("five partitions", func() bool { return got(client.Partitions(topic)) == 5 })
	})
	step(func() {
		var records []Record
		for i := range int64(100) {
			records = append(records, Record{Partition: 1, Value: []byte("x"), Timestamp: baseTime + i*1000})
		}
		must(client.Produce(topic, "none", records))
		for _, row := range [][2]int64{{earliest, 0}, {latest, 100}, {baseTime + 40_001, 41}, {baseTime + 1_000_000_000, -1}} {
			found := got(client.ListOffset(topic, 1, row[0]))
			check(found == row[1], "offset %d in place of %d for %d", found, row[1], row[0])
		}
	})
	step(func() {
		must(client.DeleteRecords(topic, 1, 30))
		check(got(client.ListOffset(topic, 1, earliest)) == 30, "the log start after deleting records")
	})
	contains := func(names []string, name string) bool {
		sort.Strings(names)
		at := sort.SearchStrings(names, name)
		return at < len(names) && names[at] == name
	}
	step(func() { check(contains(got(client.ListGroups()), usedGroup), "a group is not listed") })
	step(func() {
		state, members, err := client.DescribeGroup(usedGroup)
		must(err)
		check(state == "Empty" && members == 0, "group %s of %d", state, members)
	})
	step(func() {
		must(client.DeleteGroup(usedGroup))
		check(!contains(got(client.ListGroups()), usedGroup), "a deleted group is listed")
	})
	step(func() {
		must(client.DeleteTopic(topic))
		until("the topic is gone", func() bool { return !contains(got(client.ListTopics()), topic) })
	})
	if len(missing) == 0 {
		return "all"
	}
	var names []string
	for name := range missing {
		names = append(names, name)
	}
	sort.Strings(names)
	return "lacks " + strings.Join(names, ", ")
}

// failures: the broker is killed while we produce and consume; whoever runs us says when it stays up.
func failures(client Client, topic, name string) string {
	must(client.CreateTopic(topic, 2, nil))
	senders := []Sender{got(client.Sender(topic, 0)), got(client.Sender(topic, 1))}
	reader := join(client, name, topic)
	calm := make(chan struct{})
	go func() { _, _ = bufio.NewReader(os.Stdin).ReadString('\n'); close(calm) }()
	fmt.Println("failures")
	sent := 0
	for after := 0; after < 100; sent++ {
		for _, sender := range senders {
			sender.Send(sent)
		}
		select {
		case <-calm:
			after++
		default:
		}
		reader.check()
		time.Sleep(10 * time.Millisecond)
	}
	for partition, sender := range senders {
		acked, faults := sender.Finish()
		check(!client.Idempotent() || len(faults) == 0, "%d of %d not acknowledged: %v", len(faults), sent, faults)
		end := got(client.ListOffset(topic, int32(partition), latest))
		rows := got(client.Consume(topic, map[int32]int64{int32(partition): end}))
		values, at := make([]int, len(rows)), map[int]bool{}
		highest := -1
		for i, row := range rows {
			check(row.Offset == int64(i), "partition %d: offset %d in place of %d", partition, row.Offset, i)
			values[i] = got(strconv.Atoi(string(row.Value)))
			check(at[values[i]] || values[i] > highest, "partition %d: %d comes after %d", partition, values[i], highest)
			highest = max(highest, values[i])
			at[values[i]] = true
		}
		for _, ack := range acked {
			check(at[ack.Number], "partition %d: acknowledged %d is lost", partition, ack.Number)
			check(ack.Offset < 0 || values[ack.Offset] == ack.Number, "partition %d: %d was acknowledged at %d, which holds another", partition, ack.Number, ack.Offset)
		}
		check(!client.Idempotent() || len(values) == sent, "partition %d: %d records of %d: twice or lost", partition, len(values), sent)
		check(len(acked) > sent/4, "partition %d: %d of %d acknowledged: %.300s", partition, len(acked), sent, fmt.Sprint(faults))
		until("the group has seen all", func() bool {
			seen := map[int64]bool{}
			for _, record := range reader.records() {
				if record.Partition == int32(partition) {
					seen[record.Offset] = true
				}
			}
			return int64(len(seen)) == end
		}, reader)
	}
	reader.left()
	return fmt.Sprintf("%d records", 2*sent)
}

func main() {
	clients := map[string]func(string) (Client, error){
		"franz-go": newFranz, "kafka-go": newSegment, "sarama": newSarama, "confluent-kafka-go": newConfluent,
	}
	name, bootstrap := os.Args[1], os.Args[2]
	client := got(clients[name](bootstrap))
	run := fmt.Sprintf("%s-%d", name, time.Now().UnixMilli()%1_000_000_000)
	steps := []struct {
		name string
		body func() string
	}{
		{"produce", func() string { return produceAndConsume(client, run+"-data") }},
		{"group", func() string { return group(client, run+"-shared", run+"-group") }},
		{"admin", func() string { return admin(client, run+"-admin", run+"-group") }},
		{"failures", func() string { return failures(client, run+"-failures", run+"-reader") }},
	}
	var told []string
	for _, step := range steps {
		started := time.Now()
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					fmt.Printf("FAIL %s: %.600s\n", step.name, fmt.Sprint(fault))
					os.Exit(1)
				}
			}()
			told = append(told, step.name+" "+step.body())
		}()
		fmt.Printf("step %s %.1f s\n", step.name, time.Since(started).Seconds())
	}
	fmt.Println("ok " + strings.Join(told, "; "))
	os.Exit(0)
}
