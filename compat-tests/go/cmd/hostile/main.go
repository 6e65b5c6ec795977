// Hostile input against Raftsman: whatever comes over a socket, the broker stays up, its memory stays bounded, and
// a well-behaved producer and consumer beside it notice nothing. Bounded in count and time; the random parts come
// from a seed (SEED, or the time) that is printed.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

// How far the broker's resident memory may grow over what it was before.
const memoryBound = 600 << 20

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	run       = strconv.FormatInt(time.Now().UnixMilli(), 36)
	seed      = uint64(time.Now().UnixNano())
	random    *rand.Rand
	memory    = memoryWatch{}
	apis      []kmsg.ApiVersionsResponseApiKey
	victim    string // the topic that hostile requests name
)

func main() {
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = given
	}
	fmt.Printf("# seed %d (SEED=%d repeats it)\n", seed, seed)
	random = rand.New(rand.NewPCG(seed, 0))
	memory.begin()
	c := Must(wire.Dial(bootstrap))
	apis = Must(c.Ask(kmsg.NewPtrApiVersionsRequest())).(*kmsg.ApiVersionsResponse).ApiKeys
	c.Close()
	victim = topic("victim")
	bystander := begin()

	var list List
	each := func(name string, body func()) {
		list.Add(name, func() error {
			body()
			alive()
			bystander.check()
			memory.check()
			return nil
		})
	}
	addFrames(each)
	addBatches(each)
	addConnections(each)
	list.Add("the producer and the consumer beside it lost nothing and saw no error", func() error {
		bystander.end()
		return nil
	})
	list.Add("memory stayed bounded throughout", func() error {
		That(memory.peak.Load() <= memory.before+memoryBound, "resident memory grew from %d MiB to %d MiB", memory.before>>20, memory.peak.Load()>>20)
		fmt.Printf("# resident: %d MiB before, %d MiB at most, %d MiB now\n", memory.before>>20, memory.peak.Load()>>20, resident()>>20)
		return nil
	})
	os.Exit(list.Run())
}

func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func topic(hint string, configs ...string) string {
	c := Must(kgo.NewClient(kgo.SeedBrokers(bootstrap)))
	defer c.Close()
	given := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		given[configs[i]] = &configs[i+1]
	}
	response := Must(kadm.NewClient(c).CreateTopic(within(), 1, 1, given, "hostile-"+hint+"-"+run))
	OK(response.Err)
	return response.Topic
}

// alive asks what every client asks first, on a new connection.
func alive() {
	c, err := wire.Dial(bootstrap)
	That(err == nil, "the broker does not take connections: %v", err)
	defer c.Close()
	request := kmsg.NewPtrMetadataRequest()
	request.SetVersion(9)
	_, err = c.Ask(request)
	That(err == nil, "the broker does not answer Metadata: %v", err)
}

// A bystander produces and consumes all the while, and keeps what went wrong.
type bystander struct {
	cancel   context.CancelFunc
	done     chan struct{}
	sent     atomic.Int64
	consumed atomic.Int64
	slowest  atomic.Int64 // nanoseconds from sending to acknowledgement
	trouble  atomic.Pointer[error]
}

func begin() *bystander {
	to := topic("bystander")
	ctx, cancel := context.WithCancel(context.Background())
	b := &bystander{cancel: cancel, done: make(chan struct{})}
	fail := func(err error) {
		if ctx.Err() == nil {
			b.trouble.CompareAndSwap(nil, &err)
		}
	}
	producer := Must(kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(to), kgo.ConnIdleTimeout(10*time.Minute)))
	consumer := Must(kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConnIdleTimeout(10*time.Minute),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{to: {0: kgo.NewOffset().AtStart()}})))
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for number := int64(0); ctx.Err() == nil; number++ {
			started := time.Now()
			limit, stop := context.WithTimeout(context.Background(), 10*time.Second)
			record := &kgo.Record{Value: []byte(strconv.FormatInt(number, 10))}
			err := producer.ProduceSync(limit, record).FirstErr()
			stop()
			if err != nil {
				fail(fmt.Errorf("producing record %d: %w", number, err))
				return
			}
			if record.Offset != number {
				fail(fmt.Errorf("record %d has offset %d", number, record.Offset))
				return
			}
			b.slowest.Store(max(b.slowest.Load(), int64(time.Since(started))))
			b.sent.Add(1)
			time.Sleep(2 * time.Millisecond) // a modest load, so that the machine serves the hostile ones too
		}
	}()
	go func() {
		defer close(b.done)
		defer producer.Close()
		defer consumer.Close()
		for {
			// Until all is read that was produced.
			select {
			case <-produced:
				if b.trouble.Load() != nil || b.consumed.Load() >= b.sent.Load() {
					return
				}
			default:
			}
			limit, stop := context.WithTimeout(context.Background(), 2*time.Second)
			fetches := consumer.PollFetches(limit)
			stop()
			for _, err := range fetches.Errors() {
				if err.Err != context.DeadlineExceeded {
					fail(fmt.Errorf("consuming: %w", err.Err))
				}
			}
			fetches.EachRecord(func(record *kgo.Record) {
				if wanted := strconv.FormatInt(b.consumed.Load(), 10); string(record.Value) != wanted {
					fail(fmt.Errorf("consumed %q in place of %q", record.Value, wanted))
				}
				b.consumed.Add(1)
			})
		}
	}()
	return b
}

// check waits until the consumer has what was sent up to now: both go on.
func (b *bystander) check() {
	target := b.sent.Load() + 3
	Until("the producer and the consumer beside go on", func() bool {
		return b.trouble.Load() != nil || b.consumed.Load() >= target
	})
	if trouble := b.trouble.Load(); trouble != nil {
		Fail("the bystander noticed: %v", *trouble)
	}
}

func (b *bystander) end() {
	b.check()
	b.cancel()
	select {
	case <-b.done:
	case <-time.After(Limit):
		Fail("%d sent, %d consumed", b.sent.Load(), b.consumed.Load())
	}
	Same(b.sent.Load(), b.consumed.Load(), "consumed records")
	fmt.Printf("# bystander: %d records, the slowest acknowledged after %v\n", b.sent.Load(), time.Duration(b.slowest.Load()).Round(time.Millisecond))
}

// memoryWatch samples the broker's resident memory.
type memoryWatch struct {
	before int64
	recent atomic.Int64 // the most since the last check
	peak   atomic.Int64 // the most ever
}

func resident() int64 {
	status, err := os.ReadFile("/proc/" + os.Getenv("BROKER_PID") + "/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}

func (m *memoryWatch) begin() {
	m.before = resident()
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			now := resident()
			m.recent.Store(max(m.recent.Load(), now))
			m.peak.Store(max(m.peak.Load(), now))
		}
	}()
}

func (m *memoryWatch) check() {
	That(m.before > 0 && resident() > 0, "no memory of process BROKER_PID=%q: is the broker alive?", os.Getenv("BROKER_PID"))
	peak := m.recent.Swap(0)
	That(peak <= m.before+memoryBound, "resident memory grew from %d MiB to %d MiB", m.before>>20, peak>>20)
}
