package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

// subject is what the requests of every version are about.
type subject struct {
	topic   string
	id      [16]byte
	unknown string
	noID    [16]byte
}

// A probe builds the request of one kind in one version, and says what its response must hold.
type probe struct {
	key   int16
	build func(s subject, version int16) kmsg.Request
	check func(s subject, version int16, response kmsg.Response)
}

func code(err *kerr.Error) int16 {
	if err == nil {
		return 0
	}
	return err.Code
}

func name2(given string) *string { return &given }

// The group APIs are checked by cmd/groups, in every version too.
var groupAPIs = []int16{8, 9, 10, 11, 12, 13, 14, 15, 16, 42, 47}

// probes lists every API that Raftsman may advertise; one without a probe fails the suite.
var probes = []probe{
	{0, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrProduceRequest()
		r.Acks, r.TimeoutMillis = -1, 5000
		for _, bad := range []bool{false, true} {
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = s.topic, s.id
			if bad {
				t.Topic, t.TopicID = s.unknown, s.noID
			}
			p := kmsg.NewProduceRequestTopicPartition()
			p.Records = wire.Batch([]byte("one"), []byte("two"))
			t.Partitions = append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.ProduceResponse)
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			p := t.Partitions[0]
			if t.Topic == s.topic && v < 13 || t.TopicID == s.id && v >= 13 {
				Same(int16(0), p.ErrorCode, "error")
				That(p.BaseOffset >= 5, "base offset %d", p.BaseOffset)
				Same(int64(-1), p.LogAppendTime, "log append time")
				if v >= 5 {
					Same(int64(0), p.LogStartOffset, "log start offset")
				}
			} else {
				wanted := code(kerr.UnknownTopicOrPartition)
				if v >= 13 {
					wanted = code(kerr.UnknownTopicID)
				}
				Same(wanted, p.ErrorCode, "error of the unknown topic")
				Same(int64(-1), p.BaseOffset, "base offset of the unknown topic")
			}
		}
	}},
	{1, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrFetchRequest()
		r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 100, 1, 1<<20, -1
		partition := func(number int32, offset int64) kmsg.FetchRequestTopicPartition {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.PartitionMaxBytes, p.FetchOffset = number, 1<<20, offset
			return p
		}
		good := kmsg.NewFetchRequestTopic()
		good.Topic, good.TopicID = s.topic, s.id
		good.Partitions = append(good.Partitions, partition(1, 1000), partition(9, 0), partition(0, 0))
		bad := kmsg.NewFetchRequestTopic()
		bad.Topic, bad.TopicID = s.unknown, s.noID
		bad.Partitions = append(bad.Partitions, partition(0, 0))
		r.Topics = append(r.Topics, good, bad)
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.FetchResponse)
		Same(int16(0), r.ErrorCode, "error")
		Same(int32(0), r.SessionID, "session")
		seen := 0
		for _, t := range r.Topics {
			if v < 13 && t.Topic == s.unknown || v >= 13 && t.TopicID == s.noID {
				wanted := code(kerr.UnknownTopicOrPartition)
				if v >= 13 {
					wanted = code(kerr.UnknownTopicID)
				}
				Same(wanted, t.Partitions[0].ErrorCode, "error of the unknown topic")
				seen++
				continue
			}
			for _, p := range t.Partitions {
				seen++
				switch p.Partition {
				case 0:
					Same(int16(0), p.ErrorCode, "error")
					That(p.HighWatermark >= 5, "high watermark %d", p.HighWatermark)
					Same(p.HighWatermark, p.LastStableOffset, "last stable offset")
					That(len(p.RecordBatches) > 61 && p.RecordBatches[16] == 2, "record batches of %d bytes", len(p.RecordBatches))
				case 1:
					Same(code(kerr.OffsetOutOfRange), p.ErrorCode, "error beyond the end")
					Same(int64(-1), p.HighWatermark, "high watermark beyond the end")
				case 9:
					Same(code(kerr.UnknownTopicOrPartition), p.ErrorCode, "error of an unknown partition")
				}
			}
		}
		Same(4, seen, "partitions answered")
	}},
	{2, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrListOffsetsRequest()
		r.TimeoutMillis = 5000
		for _, t := range []string{s.topic, s.unknown} {
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = t
			for _, partition := range []int32{0, 1, 9} {
				p := kmsg.NewListOffsetsRequestTopicPartition()
				p.Partition, p.Timestamp = partition, -1
				if partition == 1 {
					p.Timestamp = -2
				}
				topic.Partitions = append(topic.Partitions, p)
			}
			r.Topics = append(r.Topics, topic)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.ListOffsetsResponse)
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			Same(3, len(t.Partitions), "partitions")
			for _, p := range t.Partitions {
				if t.Topic == s.unknown || p.Partition == 9 {
					Same(code(kerr.UnknownTopicOrPartition), p.ErrorCode, "error")
					Same(int64(-1), p.Offset, "offset")
					continue
				}
				Same(int16(0), p.ErrorCode, "error")
				if p.Partition == 0 {
					That(p.Offset >= 5, "latest offset %d", p.Offset)
				} else {
					Same(int64(0), p.Offset, "earliest offset")
				}
				Same(int64(-1), p.Timestamp, "timestamp")
				if v >= 4 {
					That(p.LeaderEpoch >= -1, "leader epoch %d", p.LeaderEpoch)
				}
			}
		}
	}},
	{3, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrMetadataRequest()
		for _, each := range []string{s.topic, s.unknown, "not a name"} {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = name2(each)
			r.Topics = append(r.Topics, t)
		}
		if v < 4 { // it could not forbid the creation yet
			r.Topics = slices.Delete(r.Topics, 1, 2)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.MetadataResponse)
		Same(1, len(r.Brokers), "brokers")
		Same(bootstrap, fmt.Sprintf("%s:%d", r.Brokers[0].Host, r.Brokers[0].Port), "address")
		if v >= 1 {
			Same(r.Brokers[0].NodeID, r.ControllerID, "controller")
		}
		if v >= 2 {
			That(r.ClusterID != nil && *r.ClusterID != "", "no cluster id")
		}
		for _, t := range r.Topics {
			switch *t.Topic {
			case s.topic:
				Same(int16(0), t.ErrorCode, "error")
				Same(2, len(t.Partitions), "partitions")
				That(!t.IsInternal, "internal")
				if v >= 10 {
					Same(s.id, t.TopicID, "topic id")
				}
				for _, p := range t.Partitions {
					Same([]int32{p.Leader}, p.Replicas, "replicas")
					Same([]int32{p.Leader}, p.ISR, "isr")
					if v >= 7 {
						That(p.LeaderEpoch >= 0, "leader epoch")
					}
				}
			case s.unknown:
				Same(code(kerr.UnknownTopicOrPartition), t.ErrorCode, "error of the unknown topic")
			default:
				Same(code(kerr.InvalidTopicException), t.ErrorCode, "error of the bad name")
			}
		}
	}},
	{18, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrApiVersionsRequest()
		r.ClientSoftwareName, r.ClientSoftwareVersion = "compat", "1.0"
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.ApiVersionsResponse)
		Same(int16(0), r.ErrorCode, "error")
		for _, key := range r.ApiKeys {
			That(key.MinVersion <= key.MaxVersion, "key %d from %d to %d", key.ApiKey, key.MinVersion, key.MaxVersion)
		}
	}},
	{19, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrCreateTopicsRequest()
		r.TimeoutMillis = 5000
		bad := kmsg.NewCreateTopicsRequestTopic()
		bad.Topic, bad.NumPartitions, bad.ReplicationFactor = "not a name", 1, 1
		good := kmsg.NewCreateTopicsRequestTopic()
		good.Topic, good.NumPartitions, good.ReplicationFactor = name(fmt.Sprintf("create-v%d", v)), 2, 1
		twice := kmsg.NewCreateTopicsRequestTopic()
		twice.Topic, twice.NumPartitions, twice.ReplicationFactor = name("twice"), 2, 1
		r.Topics = append(r.Topics, bad, good, twice, twice)
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.CreateTopicsResponse)
		Same(3, len(r.Topics), "topics")
		for _, t := range r.Topics {
			switch {
			case t.Topic == "not a name":
				Same(code(kerr.InvalidTopicException), t.ErrorCode, "error of the bad name")
				if v >= 1 {
					That(t.ErrorMessage != nil && *t.ErrorMessage != "", "no message")
				}
			case t.Topic[:8] == "go-twice":
				Same(code(kerr.InvalidRequest), t.ErrorCode, "error of a name that comes twice")
			default:
				Same(int16(0), t.ErrorCode, "error")
				if v >= 5 {
					Same(int32(2), t.NumPartitions, "partitions")
					Same(int16(1), t.ReplicationFactor, "replication factor")
					That(len(t.Configs) > 20, "configurations: %d", len(t.Configs))
				}
				if v >= 7 {
					That(t.TopicID != [16]byte{}, "no id")
				}
			}
		}
	}},
	{20, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis = 5000
		victim := topic("victim", 1)
		r.TopicNames = []string{victim, s.unknown}
		for _, each := range r.TopicNames {
			t := kmsg.NewDeleteTopicsRequestTopic()
			t.Topic = name2(each)
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DeleteTopicsResponse)
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			wanted := int16(0)
			if *t.Topic == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, t.ErrorCode, "error of "+*t.Topic)
		}
	}},
	{21, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDeleteRecordsRequest()
		r.TimeoutMillis = 5000
		for _, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewDeleteRecordsRequestTopic()
			t.Topic = each
			p := kmsg.NewDeleteRecordsRequestTopicPartition()
			p.Partition, p.Offset = 1, 0
			t.Partitions = append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DeleteRecordsResponse)
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			if t.Topic == s.unknown {
				Same(code(kerr.UnknownTopicOrPartition), t.Partitions[0].ErrorCode, "error")
				Same(int64(-1), t.Partitions[0].LowWatermark, "low watermark")
			} else {
				Same(int16(0), t.Partitions[0].ErrorCode, "error")
				Same(int64(0), t.Partitions[0].LowWatermark, "low watermark")
			}
		}
	}},
	{22, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrInitProducerIDRequest()
		r.TransactionTimeoutMillis = 60000
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.InitProducerIDResponse)
		Same(int16(0), r.ErrorCode, "error")
		That(r.ProducerID >= 0, "producer id %d", r.ProducerID)
		Same(int16(0), r.ProducerEpoch, "epoch")
	}},
	{23, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrOffsetForLeaderEpochRequest()
		r.ReplicaID = -2
		for _, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = each
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.CurrentLeaderEpoch, p.LeaderEpoch = -1, 0
			t.Partitions = append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.OffsetForLeaderEpochResponse)
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			p := t.Partitions[0]
			if t.Topic == s.unknown {
				Same(code(kerr.UnknownTopicOrPartition), p.ErrorCode, "error")
			} else {
				Same(int16(0), p.ErrorCode, "error")
				Same(int32(0), p.LeaderEpoch, "leader epoch")
				That(p.EndOffset >= 5, "end offset %d", p.EndOffset)
			}
		}
	}},
	{27, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrWriteTxnMarkersRequest()
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.Committed = 990001, 3, true
		for _, each := range []string{topic("marked", 1), s.unknown} {
			t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
			t.Topic, t.Partitions = each, []int32{0}
			m.Topics = append(m.Topics, t)
		}
		r.Markers = append(r.Markers, m)
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.WriteTxnMarkersResponse)
		Same(1, len(r.Markers), "markers")
		Same(int64(990001), r.Markers[0].ProducerID, "producer")
		Same(2, len(r.Markers[0].Topics), "topics")
		for _, t := range r.Markers[0].Topics {
			wanted := int16(0)
			if t.Topic == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, t.Partitions[0].ErrorCode, "error of "+t.Topic)
		}
	}},
	{32, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDescribeConfigsRequest()
		for _, each := range []string{s.topic, s.unknown} {
			resource := kmsg.NewDescribeConfigsRequestResource()
			resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, each
			resource.ConfigNames = []string{"retention.ms", "no.such.key"}
			r.Resources = append(r.Resources, resource)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DescribeConfigsResponse)
		Same(2, len(r.Resources), "resources")
		for _, resource := range r.Resources {
			if resource.ResourceName == s.unknown {
				Same(code(kerr.UnknownTopicOrPartition), resource.ErrorCode, "error")
				continue
			}
			Same(int16(0), resource.ErrorCode, "error")
			Same(1, len(resource.Configs), "configurations")
			Same("604800000", *resource.Configs[0].Value, "retention.ms")
		}
	}},
	{33, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrAlterConfigsRequest()
		r.ValidateOnly = true
		for _, each := range []string{s.topic, s.unknown} {
			resource := kmsg.NewAlterConfigsRequestResource()
			resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, each
			config := kmsg.NewAlterConfigsRequestResourceConfig()
			config.Name, config.Value = "retention.ms", name2("1000")
			resource.Configs = append(resource.Configs, config)
			r.Resources = append(r.Resources, resource)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.AlterConfigsResponse)
		Same(2, len(r.Resources), "resources")
		for _, resource := range r.Resources {
			wanted := int16(0)
			if resource.ResourceName == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, resource.ErrorCode, "error")
		}
	}},
	{35, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDescribeLogDirsRequest()
		t := kmsg.NewDescribeLogDirsRequestTopic()
		t.Topic, t.Partitions = s.topic, []int32{0, 1}
		r.Topics = append(r.Topics, t)
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DescribeLogDirsResponse)
		Same(1, len(r.Dirs), "folders")
		Same(int16(0), r.Dirs[0].ErrorCode, "error")
		Same(1, len(r.Dirs[0].Topics), "topics")
		Same(2, len(r.Dirs[0].Topics[0].Partitions), "partitions")
	}},
	{37, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrCreatePartitionsRequest()
		r.TimeoutMillis, r.ValidateOnly = 5000, true
		for i, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewCreatePartitionsRequestTopic()
			t.Topic, t.Count = each, int32(4+i)
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.CreatePartitionsResponse)
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			wanted := int16(0)
			if t.Topic == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, t.ErrorCode, "error")
		}
	}},
	{43, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrElectLeadersRequest()
		r.TimeoutMillis = 5000
		for _, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewElectLeadersRequestTopic()
			t.Topic, t.Partitions = each, []int32{0}
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.ElectLeadersResponse)
		Same(int16(0), r.ErrorCode, "error")
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			wanted := code(kerr.ElectionNotNeeded)
			if t.Topic == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, t.Partitions[0].ErrorCode, "error of "+t.Topic)
		}
	}},
	{44, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r.ValidateOnly = true
		for _, each := range []string{s.topic, s.unknown} {
			resource := kmsg.NewIncrementalAlterConfigsRequestResource()
			resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, each
			config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			config.Name, config.Value = "retention.ms", name2("1000")
			resource.Configs = append(resource.Configs, config)
			r.Resources = append(r.Resources, resource)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.IncrementalAlterConfigsResponse)
		Same(2, len(r.Resources), "resources")
		for _, resource := range r.Resources {
			wanted := int16(0)
			if resource.ResourceName == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, resource.ErrorCode, "error")
		}
	}},
	{45, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		r.TimeoutMillis = 5000
		for _, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
			p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
			t.Topic, t.Partitions = each, append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.AlterPartitionAssignmentsResponse)
		Same(int16(0), r.ErrorCode, "error")
		Same(2, len(r.Topics), "topics")
		for _, t := range r.Topics {
			wanted := code(kerr.NoReassignmentInProgress)
			if t.Topic == s.unknown {
				wanted = code(kerr.UnknownTopicOrPartition)
			}
			Same(wanted, t.Partitions[0].ErrorCode, "error of "+t.Topic)
		}
	}},
	{46, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrListPartitionReassignmentsRequest()
		r.TimeoutMillis = 5000
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.ListPartitionReassignmentsResponse)
		Same(int16(0), r.ErrorCode, "error")
		Same(0, len(r.Topics), "reassignments")
	}},
	{55, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDescribeQuorumRequest()
		t := kmsg.NewDescribeQuorumRequestTopic()
		t.Topic = "__cluster_metadata"
		t.Partitions = append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
		r.Topics = append(r.Topics, t)
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DescribeQuorumResponse)
		Same(int16(0), r.ErrorCode, "error")
		p := r.Topics[0].Partitions[0]
		Same(int16(0), p.ErrorCode, "error of the partition")
		Same(1, len(p.CurrentVoters), "voters")
		Same(p.LeaderID, p.CurrentVoters[0].ReplicaID, "leader")
	}},
	{57, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrUpdateFeaturesRequest()
		f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		f.Feature, f.MaxVersionLevel, f.UpgradeType = "metadata.version", 4711, 1
		r.FeatureUpdates, r.ValidateOnly = append(r.FeatureUpdates, f), true
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.UpdateFeaturesResponse)
		Same(code(kerr.InvalidUpdateVersion), r.ErrorCode, "error")
	}},
	{60, func(s subject, v int16) kmsg.Request {
		return kmsg.NewPtrDescribeClusterRequest()
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DescribeClusterResponse)
		Same(int16(0), r.ErrorCode, "error")
		Same(1, len(r.Brokers), "brokers")
		That(r.ClusterID != "", "no cluster id")
	}},
	{61, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDescribeProducersRequest()
		for _, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewDescribeProducersRequestTopic()
			t.Topic, t.Partitions = each, []int32{0}
			r.Topics = append(r.Topics, t)
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DescribeProducersResponse)
		for _, t := range r.Topics {
			if t.Topic == s.unknown {
				Same(code(kerr.UnknownTopicOrPartition), t.Partitions[0].ErrorCode, "error")
			} else {
				Same(int16(0), t.Partitions[0].ErrorCode, "error")
				Same(1, len(t.Partitions[0].ActiveProducers), "producers")
			}
		}
	}},
	{64, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrUnregisterBrokerRequest()
		r.BrokerID = 4711
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		Same(code(kerr.BrokerIDNotRegistered), response.(*kmsg.UnregisterBrokerResponse).ErrorCode, "error")
	}},
	{74, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrListConfigResourcesRequest()
		if v >= 1 {
			r.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeTopic)}
		}
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.ListConfigResourcesResponse)
		Same(int16(0), r.ErrorCode, "error")
		found := false
		for _, resource := range r.ConfigResources {
			found = found || resource.Name == s.topic && resource.Type == int8(kmsg.ConfigResourceTypeTopic)
		}
		// version 0 asks for client metrics, of which there are none
		Same(v >= 1, found, "the topic is listed")
	}},
	{75, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrDescribeTopicPartitionsRequest()
		for _, each := range []string{s.topic, s.unknown} {
			t := kmsg.NewDescribeTopicPartitionsRequestTopic()
			t.Topic = each
			r.Topics = append(r.Topics, t)
		}
		r.ResponsePartitionLimit = 1
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		r := response.(*kmsg.DescribeTopicPartitionsResponse)
		That(r.NextCursor != nil, "no cursor")
		Same(s.topic, r.NextCursor.Topic, "topic of the cursor")
		Same(int32(1), r.NextCursor.Partition, "partition of the cursor")
		for _, t := range r.Topics {
			if *t.Topic == s.topic {
				Same(int16(0), t.ErrorCode, "error")
				Same(s.id, t.TopicID, "topic id")
				Same(1, len(t.Partitions), "partitions within the limit")
			} else {
				Same(code(kerr.UnknownTopicOrPartition), t.ErrorCode, "error of the unknown topic")
			}
		}
	}},
	{80, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrAddRaftVoterRequest()
		r.VoterID, r.TimeoutMillis = 4711, 1000
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		// it names no listener
		Same(code(kerr.InvalidRequest), response.(*kmsg.AddRaftVoterResponse).ErrorCode, "error")
	}},
	{81, func(s subject, v int16) kmsg.Request {
		r := kmsg.NewPtrRemoveRaftVoterRequest()
		r.VoterID = 4711
		return r
	}, func(s subject, v int16, response kmsg.Response) {
		// a node that is alone, or one that has no such voter
		got := response.(*kmsg.RemoveRaftVoterResponse).ErrorCode
		That(got == code(kerr.InvalidRequest) || got == code(kerr.VoterNotFound), fmt.Sprint("error ", got))
	}},
}

func addVersions(list *List) {
	var given subject
	advertised := map[int16]kmsg.ApiVersionsResponseApiKey{}
	prepare := func() {
		if given.topic != "" {
			return
		}
		given.unknown, given.noID = name("unknown"), [16]byte{1, 2, 3}
		given.topic = topic("versions", 2)
		produce(given.topic, numbers(0, 5))
		a := admin()
		defer a.Close()
		given.id = Must(a.ListTopics(within(), given.topic))[given.topic].ID
		c := Must(wire.Dial(bootstrap))
		defer c.Close()
		request := kmsg.NewPtrApiVersionsRequest()
		for _, key := range Must(c.Ask(request)).(*kmsg.ApiVersionsResponse).ApiKeys {
			advertised[key.ApiKey] = key
		}
	}
	for _, each := range probes {
		list.Add(fmt.Sprintf("every version of %s", kmsg.NameForKey(each.key)), func() error {
			prepare()
			span, ok := advertised[each.key]
			That(ok, "not advertised")
			top := min(span.MaxVersion, each.build(given, span.MaxVersion).MaxVersion())
			bottom := span.MinVersion
			if each.key == 0 {
				bottom = 3 // advertised from 0, served from 3 (KAFKA-18659)
			}
			for version := bottom; version <= top; version++ {
				c := Must(wire.Dial(bootstrap))
				request := each.build(given, version)
				request.SetVersion(version)
				response, err := c.Ask(request)
				That(err == nil, "version %d: %v", version, err)
				within := version
				func() {
					defer func() {
						if caught := recover(); caught != nil {
							Fail("version %d: %v", within, caught)
						}
					}()
					each.check(given, version, response)
				}()
				c.Close()
			}
			return nil
		})
	}
	list.Add("Metadata by topic id, with a null name and with an empty one as the Java client sends it", func() error {
		prepare()
		empty := ""
		for _, wireName := range []*string{nil, &empty} {
			for version := int16(12); version <= min(advertised[3].MaxVersion, 13); version++ {
				r := kmsg.NewPtrMetadataRequest()
				r.SetVersion(version)
				known, unknown := kmsg.NewMetadataRequestTopic(), kmsg.NewMetadataRequestTopic()
				known.Topic, known.TopicID = wireName, given.id
				unknown.Topic, unknown.TopicID = wireName, given.noID
				r.Topics = append(r.Topics, known, unknown)
				c := Must(wire.Dial(bootstrap))
				response := Must(c.Ask(r)).(*kmsg.MetadataResponse)
				c.Close()
				Same(2, len(response.Topics), "topics")
				for _, t := range response.Topics {
					if t.TopicID == given.id {
						Same(int16(0), t.ErrorCode, "error")
						That(t.Topic != nil && *t.Topic == given.topic, "name by id")
						Same(2, len(t.Partitions), "partitions")
					} else {
						Same(code(kerr.UnknownTopicID), t.ErrorCode, "error of the unknown id")
						That(t.Topic == nil, "name of the unknown id")
					}
				}
			}
		}
		return nil
	})
	list.Add("ListOffsets knows -3 to -6 from the versions on that have them, and nothing beyond", func() error {
		prepare()
		since := map[int64]int16{-3: 7, -4: 8, -5: 9, -6: 11}
		for version := int16(1); version <= advertised[2].MaxVersion; version++ {
			for timestamp := int64(-3); timestamp >= -7; timestamp-- {
				r := kmsg.NewPtrListOffsetsRequest()
				r.SetVersion(version)
				topic := kmsg.NewListOffsetsRequestTopic()
				topic.Topic = given.topic
				p := kmsg.NewListOffsetsRequestTopicPartition()
				p.Timestamp = timestamp
				topic.Partitions = append(topic.Partitions, p)
				r.Topics = append(r.Topics, topic)
				c := Must(wire.Dial(bootstrap))
				got := Must(c.Ask(r)).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
				c.Close()
				about := fmt.Sprintf("version %d, timestamp %d", version, timestamp)
				if first, ok := since[timestamp]; !ok || version < first {
					Same(code(kerr.UnsupportedVersion), got.ErrorCode, about+": error")
					continue
				}
				Same(int16(0), got.ErrorCode, about+": error")
				switch timestamp {
				case -4:
					Same(int64(0), got.Offset, about+": offset")
				case -5, -6:
					Same(int64(-1), got.Offset, about+": offset")
				}
			}
		}
		return nil
	})
	list.Add("a fetch whose limit holds no whole batch has no records in any partition but the first", func() error {
		prepare()
		to := topic("whole", 2)
		for partition := range int32(2) {
			c := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
			sent(c, []*kgo.Record{{Topic: to, Partition: partition, Value: make([]byte, 5000)}})
			c.Close()
		}
		c := Must(wire.Dial(bootstrap))
		defer c.Close()
		r := kmsg.NewPtrFetchRequest()
		r.SetVersion(11)
		r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 100, 1, 1<<20, -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic = to
		for partition := range int32(2) {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.PartitionMaxBytes = partition, 100
			t.Partitions = append(t.Partitions, p)
		}
		r.Topics = append(r.Topics, t)
		for _, p := range Must(c.Ask(r)).(*kmsg.FetchResponse).Topics[0].Partitions {
			Same(p.Partition == 0, len(p.RecordBatches) > 0, fmt.Sprintf("records in partition %d", p.Partition))
		}
		return nil
	})
	list.Add("every API that is advertised has such a check (Raftsman), none is advertised twice", func() error {
		prepare()
		if os.Getenv("BROKER") == "kafka" {
			return nil // Kafka has more APIs than these
		}
		for key := range advertised {
			That(slices.Contains(groupAPIs, key) || slices.ContainsFunc(probes, func(p probe) bool { return p.key == key }), "%s (%d) is advertised and not checked", kmsg.NameForKey(key), key)
		}
		return nil
	})
	list.Add("ApiVersions of a version nobody knows is answered in version 0 with UNSUPPORTED_VERSION", func() error {
		c := Must(wire.Dial(bootstrap))
		defer c.Close()
		c.SetDeadline(time.Now().Add(Limit))
		Must(c.Write(wire.Frame([]byte{0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0})))
		frame := Must(wire.ReadFrame(c))
		response := kmsg.NewPtrApiVersionsResponse()
		OK(response.ReadFrom(frame[4:]))
		Same(code(kerr.UnsupportedVersion), response.ErrorCode, "error")
		That(slices.ContainsFunc(response.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return k.ApiKey == 18 }), "it does not say which versions it knows")
		// and the connection goes on
		request := kmsg.NewPtrApiVersionsRequest()
		Must(c.Ask(request))
		return nil
	})
	list.Add("an unknown API, a version above the highest, Produce below 3: the connection is closed", func() error {
		prepare()
		for _, frame := range [][]byte{
			{0x7f, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff},
			{0, 3, 0, byte(advertised[3].MaxVersion + 1), 0, 0, 0, 7, 0xff, 0xff, 0, 1, 0, 0, 0},
			{0, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff, 0, 1, 0, 0, 3, 232, 0, 0, 0, 0},
			{0, 1, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0, 0, 0},
		} {
			c := Must(wire.Dial(bootstrap))
			Must(c.Write(wire.Frame(frame)))
			err := c.Closed()
			That(err == nil, "%x: %v", frame, err)
			c.Close()
		}
		return nil
	})
	list.Add("many requests in one write are answered in their order", func() error {
		prepare()
		c := Must(wire.Dial(bootstrap))
		defer c.Close()
		c.SetDeadline(time.Now().Add(Limit))
		var frames []byte
		for i := range int32(300) {
			var request kmsg.Request
			switch i % 3 {
			case 0:
				request = probes[0].build(given, 9)
				request.SetVersion(9)
			case 1:
				fetch := probes[1].build(given, 11)
				fetch.SetVersion(11)
				request = fetch
			default:
				metadata := kmsg.NewPtrMetadataRequest()
				metadata.SetVersion(8)
				request = metadata
			}
			frames = append(frames, wire.Encode(request, 1000+i)...)
		}
		go c.Write(frames)
		for i := range int32(300) {
			frame := Must(wire.ReadFrame(c))
			Same(1000+i, int32(frame[0])<<24|int32(frame[1])<<16|int32(frame[2])<<8|int32(frame[3]), "correlation id")
		}
		return nil
	})
}
