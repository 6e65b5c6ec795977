package main

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

// throw sends one frame on a connection of its own and takes whatever comes: an answer, a close, or silence until
// this side closes. A broker that does neither within the limit is not at fault: the frame may be valid.
func throw(frame []byte) {
	c, err := wire.Dial(bootstrap)
	That(err == nil, "the broker does not take connections: %v", err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(frame); err != nil {
		return
	}
	c.CloseWrite()
	io.Copy(io.Discard, io.LimitReader(c, 64<<20))
}

func header(key, version int16, flexible bool) []byte {
	bytes := binary.BigEndian.AppendUint16(nil, uint16(key))
	bytes = binary.BigEndian.AppendUint16(bytes, uint16(version))
	bytes = binary.BigEndian.AppendUint32(bytes, random.Uint32())
	bytes = append(bytes, 0, 1, 'h')
	if flexible {
		bytes = append(bytes, 0)
	}
	return bytes
}

func flexible(key, version int16) bool {
	request := kmsg.RequestForKey(key)
	if request == nil {
		return version > 0
	}
	request.SetVersion(version)
	return request.IsFlexible()
}

// versions of an API worth trying: lowest, highest, and one between.
func versions(api kmsg.ApiVersionsResponseApiKey) []int16 {
	list := []int16{api.MinVersion, (api.MinVersion + api.MaxVersion) / 2, api.MaxVersion}
	return slices.Compact(list)
}

// filled is a request of every kind with something in it.
func filled(key, version int16) []byte {
	request := kmsg.RequestForKey(key)
	if request == nil {
		return nil
	}
	request.SetVersion(min(version, request.MaxVersion()))
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		r.Acks, r.TimeoutMillis = -1, 1000
		t := kmsg.NewProduceRequestTopic()
		t.Topic = victim
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = wire.Batch([]byte("some value"), []byte("another"))
		t.Partitions = append(t.Partitions, p)
		r.Topics = append(r.Topics, t)
	case *kmsg.FetchRequest:
		r.MaxBytes, r.SessionEpoch = 1<<20, -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic = victim
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes = 1 << 20
		t.Partitions = append(t.Partitions, p)
		r.Topics = append(r.Topics, t)
	case *kmsg.MetadataRequest:
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &victim
		r.Topics = append(r.Topics, t)
	case *kmsg.CreateTopicsRequest:
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = "x y", 1, 1
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Replicas = []int32{1, 2, 3}
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name = "retention.ms"
		t.Configs = append(t.Configs, config)
		r.Topics = append(r.Topics, t)
	case *kmsg.ListOffsetsRequest:
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = victim
		t.Partitions = append(t.Partitions, kmsg.NewListOffsetsRequestTopicPartition())
		r.Topics = append(r.Topics, t)
	case *kmsg.DescribeTopicPartitionsRequest:
		t := kmsg.NewDescribeTopicPartitionsRequestTopic()
		t.Topic = victim
		r.Topics = append(r.Topics, t)
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion = "hostile", "1"
	}
	return wire.Encode(request, 1)
}

func addFrames(each func(string, func())) {
	each("random bytes after the header of every API and version", func() {
		for _, api := range apis {
			for _, version := range versions(api) {
				for range 6 {
					body := header(api.ApiKey, version, flexible(api.ApiKey, version))
					for range random.IntN(300) {
						body = append(body, byte(random.Uint32()))
					}
					throw(wire.Frame(body))
				}
			}
		}
	})
	each("wholly random frames, and bytes that are no frame", func() {
		for range 200 {
			body := make([]byte, random.IntN(500))
			for i := range body {
				body[i] = byte(random.Uint32())
			}
			throw(wire.Frame(body))
			throw(body)
		}
		throw([]byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"))
		throw([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}) // the start of TLS
	})
	each("requests of every API cut short at every byte, and with bytes changed", func() {
		for _, api := range apis {
			whole := filled(api.ApiKey, api.MaxVersion)
			if whole == nil {
				continue
			}
			body := whole[4:]
			for cut := 0; cut < len(body); cut += 1 + len(body)/40 {
				throw(wire.Frame(body[:cut])) // the frame says so: whole frame, half a request
			}
			throw(whole[:len(whole)-1]) // the frame says more than comes
			for range 40 {
				changed := slices.Clone(body)
				for range 1 + random.IntN(4) {
					changed[8+random.IntN(len(changed)-8)] = byte(random.Uint32())
				}
				throw(wire.Frame(changed))
			}
		}
	})
	each("counts and lengths beyond the frame", func() {
		huge := []uint32{math.MaxInt32, math.MaxInt32 - 7, 1 << 30, 1 << 24, 1 << 20, 0x80000000, 0xfffffffe, 0xffffffff}
		for _, api := range apis {
			for _, version := range versions(api) {
				isFlexible := flexible(api.ApiKey, version)
				for _, count := range huge {
					for _, before := range []int{0, 1, 2, 4, 5, 6, 10, 17, 21} {
						body := append(header(api.ApiKey, version, isFlexible), make([]byte, before)...)
						if isFlexible {
							body = binary.AppendUvarint(body, uint64(count))
						} else {
							body = binary.BigEndian.AppendUint32(body, count)
						}
						body = append(body, make([]byte, random.IntN(12))...)
						throw(wire.Frame(body))
					}
				}
			}
		}
	})
	each("deep and endless tags", func() {
		for _, api := range apis {
			if !flexible(api.ApiKey, api.MaxVersion) {
				continue
			}
			start := header(api.ApiKey, api.MaxVersion, false)
			// a hundred thousand tags; a count of tags that are not there; a tag longer than all; a varint without end
			many := binary.AppendUvarint(slices.Clone(start), 100_000)
			for tag := range 100_000 {
				many = binary.AppendUvarint(many, uint64(tag))
				many = append(many, 0)
			}
			throw(wire.Frame(many))
			throw(wire.Frame(binary.AppendUvarint(slices.Clone(start), math.MaxUint32)))
			throw(wire.Frame(append(slices.Clone(start), 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f)))
			throw(wire.Frame(append(slices.Clone(start), slices.Repeat([]byte{0xff}, 1000)...)))
		}
	})
	each("frames announced with negative, zero and huge lengths are closed upon", func() {
		for _, length := range []uint32{0x80000000, 0xffffffff, 0xffffff00, math.MaxInt32, 1 << 30, 105_000_000} {
			c := Must(wire.Dial(bootstrap))
			Must(c.Write(append(binary.BigEndian.AppendUint32(nil, length), 0, 18, 0, 0)))
			err := c.Closed()
			That(err == nil, "length %#x: %v", length, err)
			c.Close()
		}
		throw([]byte{0, 0, 0, 0})
	})
}
