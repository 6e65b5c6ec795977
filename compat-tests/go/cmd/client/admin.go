package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	. "raftsman/compat/checks"
)

func addAdmin(list *List) {
	list.Add("kadm: brokers, metadata, api versions", func() error {
		a := admin()
		defer a.Close()
		metadata := Must(a.BrokerMetadata(within()))
		var addresses []string
		for _, each := range metadata.Brokers {
			addresses = append(addresses, fmt.Sprintf("%s:%d", each.Host, each.Port))
		}
		Same(Seeds(), addresses, "addresses")
		That(metadata.Cluster != "", "no cluster id")
		versions := Must(a.ApiVersions(within()))
		versions.Each(func(v kadm.BrokerApiVersions) { OK(v.Err) })
		return nil
	})
	list.Add("kadm: create, list, grow, delete topics, and their errors", func() error {
		a := admin()
		defer a.Close()
		to := topic("admin", 2)
		Until("listed", func() bool { return Must(a.ListTopics(within(), to)).Has(to) })
		details := Must(a.ListTopics(within(), to))[to]
		Same(2, len(details.Partitions), "partitions")
		Same(int(Replicas()), len(details.Partitions[0].ISR), "isr")
		for want, make := range map[*kerr.Error]func() kadm.CreateTopicResponse{
			kerr.TopicAlreadyExists:       func() kadm.CreateTopicResponse { r, _ := a.CreateTopic(within(), 2, 1, nil, to); return r },
			kerr.InvalidTopicException:    func() kadm.CreateTopicResponse { r, _ := a.CreateTopic(within(), 2, 1, nil, "a b"); return r },
			kerr.InvalidPartitions:        func() kadm.CreateTopicResponse { r, _ := a.CreateTopic(within(), 0, 1, nil, name("p")); return r },
			kerr.InvalidReplicationFactor: func() kadm.CreateTopicResponse { r, _ := a.CreateTopic(within(), 1, 7, nil, name("r")); return r },
			kerr.InvalidConfig: func() kadm.CreateTopicResponse {
				r, _ := a.CreateTopic(within(), 1, 1, map[string]*string{"x.y": kadm.StringPtr("1")}, name("c"))
				return r
			},
		} {
			response := make()
			That(errors.Is(response.Err, want), "wanted %v, got %v", want, response.Err)
			That(response.ErrMessage != "", "no message with %v", want)
		}
		OK(Must(a.UpdatePartitions(within(), 5, to)).Error())
		Until("five partitions", func() bool { return len(Must(a.ListTopics(within(), to))[to].Partitions) == 5 })
		err := Must(a.UpdatePartitions(within(), 3, to)).Error()
		That(errors.Is(err, kerr.InvalidPartitions), "shrinking: %v", err)
		OK(Must(a.DeleteTopics(within(), to)).Error())
		Until("gone", func() bool { return !Must(a.ListTopics(within())).Has(to) })
		err = Must(a.DeleteTopics(within(), to)).Error()
		That(errors.Is(err, kerr.UnknownTopicOrPartition), "deleting again: %v", err)
		return nil
	})
	list.Add("kadm: offsets, delete records, log dirs, producers, configurations", func() error {
		a := admin()
		defer a.Close()
		to := topic("offsets", 1)
		base := time.Now().Add(-time.Minute)
		c := client()
		defer c.Close()
		for i := range 10 {
			sent(c, []*kgo.Record{{Topic: to, Value: []byte("x"), Timestamp: base.Add(time.Duration(i) * time.Second)}})
		}
		at := func(offsets kadm.ListedOffsets) int64 {
			offset, _ := offsets.Lookup(to, 0)
			OK(offset.Err)
			return offset.Offset
		}
		Same(int64(0), at(Must(a.ListStartOffsets(within(), to))), "start")
		Same(int64(10), at(Must(a.ListEndOffsets(within(), to))), "end")
		Same(int64(10), at(Must(a.ListCommittedOffsets(within(), to))), "last stable")
		Same(int64(4), at(Must(a.ListOffsetsAfterMilli(within(), base.UnixMilli()+3500, to))), "after a time")
		Same(int64(9), at(Must(a.ListMaxTimestampOffsets(within(), to))), "of the maximum timestamp")
		deletes := kadm.Offsets{}
		deletes.AddOffset(to, 0, 6, -1)
		deleted := Must(a.DeleteRecords(within(), deletes))
		OK(deleted.Error())
		Same(int64(6), deleted[to][0].LowWatermark, "low watermark")
		Same(int64(6), at(Must(a.ListStartOffsets(within(), to))), "start after the deletion")
		deletes = kadm.Offsets{}
		deletes.AddOffset(to, 0, 600, -1)
		err := Must(a.DeleteRecords(within(), deletes)).Error()
		That(errors.Is(err, kerr.OffsetOutOfRange), "deletion beyond the end: %v", err)
		size := int64(-1)
		for _, dirs := range Must(a.DescribeAllLogDirs(within(), nil)) {
			if partition, ok := dirs.LookupPartition(to, 0); ok {
				size = partition.Size
			}
		}
		That(size > 500, "size on disk %d", size)
		set := kadm.TopicsSet{}
		set.Add(to, 0)
		producers := Must(a.DescribeProducers(within(), set))
		seen := 0
		producers.EachProducer(func(p kadm.DescribedProducer) {
			seen++
			Same(int32(9), p.LastSequence, "last sequence")
		})
		Same(1, seen, "producers")
		_, err = a.AlterTopicConfigs(within(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("99999999")}}, to)
		OK(err)
		Until("the configuration is seen", func() bool {
			for _, resource := range Must(a.DescribeTopicConfigs(within(), to)) {
				OK(resource.Err)
				for _, config := range resource.Configs {
					if config.Key == "retention.ms" {
						return config.MaybeValue() == "99999999"
					}
				}
			}
			return false
		})
		return nil
	})
}
