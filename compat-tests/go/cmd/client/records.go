package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	. "raftsman/compat/checks"
)

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	run       = strconv.FormatInt(time.Now().UnixMilli(), 36)
	count     atomic.Int32
)

func name(hint string) string { return fmt.Sprintf("go-%s-%s-%d", hint, run, count.Add(1)) }

func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func client(options ...kgo.Opt) *kgo.Client {
	return Must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(Seeds()...)}, options...)...))
}

func admin() *kadm.Client { return kadm.NewClient(client()) }

func topic(hint string, partitions int32, configs ...string) string {
	a := admin()
	defer a.Close()
	given := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		given[configs[i]] = &configs[i+1]
	}
	response := Must(a.CreateTopic(within(), partitions, Replicas(), given, name(hint)))
	OK(response.Err)
	return response.Topic
}

func numbers(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

func produce(to string, values []string, options ...kgo.Opt) []*kgo.Record {
	c := client(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000)}, options...)...)
	defer c.Close()
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: to, Value: []byte(value)})
	}
	return sent(c, records)
}

func sent(c *kgo.Client, records []*kgo.Record) []*kgo.Record {
	for _, result := range c.ProduceSync(within(), records...) {
		OK(result.Err)
	}
	return records
}

// read takes partition 0 from an offset.
func read(from string, count int, offset kgo.Offset, options ...kgo.Opt) []*kgo.Record {
	c := client(append([]kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{from: {0: offset}})}, options...)...)
	defer c.Close()
	return poll(c, count)
}

func poll(c *kgo.Client, count int) []*kgo.Record {
	var records []*kgo.Record
	ctx := within()
	for len(records) < count {
		fetches := c.PollFetches(ctx)
		for _, err := range fetches.Errors() {
			Fail("after %d of %d records: %v", len(records), count, err.Err)
		}
		records = append(records, fetches.Records()...)
	}
	Same(count, len(records), "count of records")
	return records
}

func values(records []*kgo.Record) []string {
	var list []string
	for _, record := range records {
		list = append(list, string(record.Value))
	}
	return list
}

func start() kgo.Offset { return kgo.NewOffset().AtStart() }

func addRecords(list *List) {
	list.Add("idempotent producer, 20000 records, offsets and order", func() error {
		to := topic("idempotent", 1)
		for i, record := range produce(to, numbers(0, 20000), kgo.ProducerBatchMaxBytes(2000)) {
			Same(int64(i), record.Offset, "offset")
		}
		Same(numbers(0, 20000), values(read(to, 20000, start())), "values")
		return nil
	})
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for _, each := range []string{"0", "1", "all"} {
		list.Add("acks="+each+", not idempotent", func() error {
			to := topic("acks", 1)
			produce(to, numbers(0, 300), kgo.RequiredAcks(acks[each]), kgo.DisableIdempotentWrite())
			Same(numbers(0, 300), values(read(to, 300, start())), "values")
			return nil
		})
	}
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		list.Add("compression "+codec, func() error {
			to := topic(codec, 1)
			var wanted []string
			for i := range 400 {
				noise := make([]byte, 50)
				rand.Read(noise)
				wanted = append(wanted, string(bytes.Repeat([]byte("words that come again "), i%40))+string(noise))
			}
			produce(to, wanted, kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(20*time.Millisecond))
			Same(wanted, values(read(to, 400, start())), "values")
			Same(wanted[123:], values(read(to, 277, kgo.NewOffset().At(123))), "values from 123")
			return nil
		})
	}
	list.Add("keys, null values, headers that repeat, timestamps", func() error {
		to := topic("shapes", 1, "retention.ms", "-1")
		c := client()
		defer c.Close()
		headers := []kgo.RecordHeader{{Key: "twice", Value: []byte("1")}, {Key: "null", Value: nil}, {Key: "twice", Value: []byte("2")}, {Key: "not\xffutf8", Value: []byte{0xfe}}}
		stamp := time.UnixMilli(1_700_000_000_123)
		sent(c, []*kgo.Record{
			{Topic: to, Key: []byte("k"), Value: nil, Headers: headers, Timestamp: stamp},
			{Topic: to, Key: nil, Value: []byte{}},
		})
		records := read(to, 2, start())
		Same([]byte("k"), records[0].Key, "key")
		That(records[0].Value == nil, "value %v", records[0].Value)
		Same(headers, records[0].Headers, "headers")
		Same(stamp.UnixMilli(), records[0].Timestamp.UnixMilli(), "timestamp")
		That(records[1].Key == nil && records[1].Value != nil && len(records[1].Value) == 0, "null key and empty value: %v", records[1])
		return nil
	})
	list.Add("consuming from end, exact and relative offsets, and a time", func() error {
		to := topic("positions", 1)
		base := time.Now().Add(-time.Hour).UnixMilli()
		c := client(kgo.ProducerBatchMaxBytes(600))
		defer c.Close()
		var records []*kgo.Record
		for i := range 100 {
			records = append(records, &kgo.Record{Topic: to, Value: []byte(strconv.Itoa(i)), Timestamp: time.UnixMilli(base + int64(i)*10)})
		}
		sent(c, records)
		Same(numbers(60, 100), values(read(to, 40, kgo.NewOffset().At(60))), "from 60")
		Same(numbers(95, 100), values(read(to, 5, kgo.NewOffset().AtEnd().Relative(-5))), "five before the end")
		Same(numbers(3, 100), values(read(to, 97, kgo.NewOffset().AtStart().Relative(3))), "three after the start")
		Same(numbers(42, 100), values(read(to, 58, kgo.NewOffset().AfterMilli(base+411))), "from a time")
		Same(numbers(0, 100), values(read(to, 100, start(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))), "read_committed")
		reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{to: {0: kgo.NewOffset().At(99)}}))
		defer reader.Close()
		Same([]string{"99"}, values(poll(reader, 1)), "the last")
		produce(to, []string{"new"})
		Same([]string{"new"}, values(poll(reader, 1)), "what came while it waited")
		return nil
	})
	list.Add("limits of a fetch below a record's size, with and without sessions", func() error {
		to := topic("limits", 1)
		blob := make([]byte, 200_000)
		rand.Read(blob)
		produce(to, []string{string(blob), string(blob), "small"})
		for _, options := range [][]kgo.Opt{
			{kgo.FetchMaxPartitionBytes(100)}, {kgo.FetchMaxBytes(100), kgo.FetchMaxPartitionBytes(100)}, {kgo.DisableFetchSessions(), kgo.FetchMaxPartitionBytes(1000)},
		} {
			Same([]string{string(blob), string(blob), "small"}, values(read(to, 3, start(), options...)), "values")
		}
		return nil
	})
	list.Add("an offset out of range", func() error {
		to := topic("range", 1)
		produce(to, numbers(0, 10))
		reader := client(kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{to: {0: kgo.NewOffset().At(500)}}))
		defer reader.Close()
		errs := reader.PollFetches(within()).Errors()
		That(len(errs) == 1 && errors.Is(errs[0].Err, kerr.OffsetOutOfRange), "errors: %v", errs)
		Same(numbers(0, 10), values(read(to, 10, kgo.NewOffset().At(500), kgo.ConsumeResetOffset(start()))), "values after a reset")
		return nil
	})
	list.Add("refusals: too large, unknown topic", func() error {
		to := topic("refused", 1)
		c := client(kgo.ProducerBatchMaxBytes(4_000_000), kgo.BrokerMaxWriteBytes(10_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.UnknownTopicRetries(1))
		defer c.Close()
		err := c.ProduceSync(within(), &kgo.Record{Topic: to, Value: make([]byte, 2_000_000)}).FirstErr()
		That(errors.Is(err, kerr.MessageTooLarge), "error: %v", err)
		err = c.ProduceSync(within(), &kgo.Record{Topic: name("unknown"), Value: []byte("x")}).FirstErr()
		That(errors.Is(err, kerr.UnknownTopicOrPartition), "error: %v", err)
		err = c.ProduceSync(within(), &kgo.Record{Topic: to, Value: []byte("x")}).FirstErr()
		OK(err)
		return nil
	})
	list.Add("auto creation when the client allows it", func() error {
		to := name("auto")
		produce(to, []string{"first"}, kgo.AllowAutoTopicCreation())
		Same([]string{"first"}, values(read(to, 1, start())), "values")
		return nil
	})
	list.Add("forty partitions of a topic by one consumer", func() error {
		to := topic("forty", 40)
		c := client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		defer c.Close()
		var records []*kgo.Record
		for i := range 4000 {
			records = append(records, &kgo.Record{Topic: to, Value: []byte(strconv.Itoa(i))})
		}
		sent(c, records)
		reader := client(kgo.ConsumeTopics(to), kgo.ConsumeResetOffset(start()))
		defer reader.Close()
		seen := map[string]bool{}
		next := map[int32]int64{}
		for _, record := range poll(reader, 4000) {
			Same(next[record.Partition], record.Offset, "offset")
			next[record.Partition]++
			seen[string(record.Value)] = true
		}
		Same(4000, len(seen), "values")
		Same(40, len(next), "partitions")
		return nil
	})
}
