package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

// produce sends record bytes as they are, and gives the error code of the answer.
func produce(to string, records []byte) int16 {
	c := Must(wire.Dial(bootstrap))
	defer c.Close()
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(9)
	r.Acks, r.TimeoutMillis = -1, 5000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = to
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = records
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	response, err := c.Ask(r)
	That(err == nil, "no answer: %v", err)
	return response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
}

func refused(to string, records []byte, what string, wanted ...*kerr.Error) {
	got := produce(to, records)
	That(slices.ContainsFunc(wanted, func(err *kerr.Error) bool { return err.Code == got }), "%s: error code %d (%v)", what, got, kerr.ErrorForCode(got))
}

func addBatches(each func(string, func())) {
	good := func() []byte { return wire.Batch([]byte("one"), []byte("two"), []byte("three")) }
	changed := func(seal bool, change func([]byte)) []byte {
		batch := good()
		change(batch)
		if seal {
			wire.Seal(batch)
		}
		return batch
	}
	each("batches with a bad checksum, magic, length, count or codec are refused", func() {
		Same(int16(0), produce(victim, good()), "error of a good batch")
		corrupt := []*kerr.Error{kerr.CorruptMessage}
		invalid := []*kerr.Error{kerr.CorruptMessage, kerr.InvalidRecord}
		any := []*kerr.Error{kerr.CorruptMessage, kerr.InvalidRecord, kerr.UnsupportedForMessageFormat, kerr.InvalidRequest, kerr.MessageTooLarge, kerr.UnsupportedCompressionType}
		refused(victim, changed(false, func(b []byte) { b[17] ^= 1 }), "checksum", corrupt...)
		refused(victim, changed(false, func(b []byte) { b[len(b)-1] ^= 1 }), "a bit of the last record", corrupt...)
		for _, magic := range []byte{0, 1, 3, 0x7f, 0xff} {
			refused(victim, changed(true, func(b []byte) { b[16] = magic }), "magic", any...)
		}
		for _, count := range []uint32{0, 1, 4, math.MaxInt32, 0xffffffff} {
			refused(victim, changed(true, func(b []byte) { binary.BigEndian.PutUint32(b[57:], count) }), "count of records", invalid...)
		}
		for _, delta := range []uint32{0, 1, 3, math.MaxInt32, 0xffffffff} {
			refused(victim, changed(true, func(b []byte) { binary.BigEndian.PutUint32(b[23:], delta) }), "last offset delta", invalid...)
		}
		for _, length := range []uint32{0, 1, 48, 49, 1 << 20, math.MaxInt32, 0xffffffff} {
			refused(victim, changed(false, func(b []byte) { binary.BigEndian.PutUint32(b[8:], length) }), "length of the batch", any...)
		}
		for codec := byte(5); codec < 8; codec++ {
			refused(victim, changed(true, func(b []byte) { b[22] = codec }), "codec", any...)
		}
		refused(victim, good()[:30], "half a batch", any...)
		refused(victim, append(good(), good()...), "two batches", any...)
		refused(victim, append(good(), 1, 2, 3), "bytes after the batch", any...)
		refused(victim, changed(true, func(b []byte) { b[22] |= 0x20 }), "a control batch", any...)
		// broken records inside a good batch: lengths, deltas
		for position := 61; position < len(good()); position++ {
			throwBatch(changed(true, func(b []byte) { b[position] = 0xff }))
		}
		for range 300 {
			throwBatch(changed(true, func(b []byte) {
				for range 3 {
					b[8+random.IntN(len(b)-8)] = byte(random.Uint32())
				}
			}))
		}
	})
	each("oversize batches are refused", func() {
		refused(victim, wire.Batch(make([]byte, 2<<20)), "2 MiB", kerr.MessageTooLarge)
		refused(victim, wire.Batch(make([]byte, 60<<20)), "60 MiB", kerr.MessageTooLarge)
		Same(int16(0), produce(victim, good()), "error of a good batch afterwards")
	})
	each("what was refused never reached the log: the victim's records decode", func() {
		c := Must(wire.Dial(bootstrap))
		defer c.Close()
		for offset := int64(0); ; {
			r := kmsg.NewPtrFetchRequest()
			r.SetVersion(11)
			r.MaxBytes, r.SessionEpoch, r.MinBytes = 10<<20, -1, 1
			t := kmsg.NewFetchRequestTopic()
			t.Topic = victim
			p := kmsg.NewFetchRequestTopicPartition()
			p.PartitionMaxBytes, p.FetchOffset = 10<<20, offset
			t.Partitions = append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
			partition := Must(c.Ask(r)).(*kmsg.FetchResponse).Topics[0].Partitions[0]
			Same(int16(0), partition.ErrorCode, "error")
			if offset == partition.HighWatermark {
				break
			}
			rest := partition.RecordBatches
			before := offset
			for len(rest) > 61 {
				var batch kmsg.RecordBatch
				size := int(binary.BigEndian.Uint32(rest[8:])) + 12
				if size > len(rest) {
					break
				}
				OK(batch.ReadFrom(rest[:size]))
				Same(offset, batch.FirstOffset, "base offset")
				Same(batch.NumRecords-1, batch.LastOffsetDelta, "last offset delta")
				sealed := slices.Clone(rest[:size])
				wire.Seal(sealed)
				That(bytes.Equal(sealed, rest[:size]), "checksum at offset %d", offset)
				if batch.Attributes&7 == 0 {
					records := batch.Records
					for i := range batch.NumRecords {
						length, width := binary.Varint(records)
						That(width > 0 && length >= 0 && int(length)+width <= len(records), "record %d of the batch at %d has length %d", i, offset, length)
						records = records[int(length)+width:]
					}
					Same(0, len(records), "bytes after the last record")
				}
				offset += int64(batch.NumRecords)
				rest = rest[size:]
			}
			That(offset > before, "no whole batch at offset %d", offset)
		}
	})
	each("codec bombs to a topic that recompresses", func() {
		to := topic("bomb", "compression.type", "gzip")
		bomb := zstdBomb(1 << 30)
		That(len(bomb) < 200_000, "the bomb has %d bytes", len(bomb))
		refused(to, wire.RawBatch(4, 1, bomb), "zstd of 1 GiB", kerr.CorruptMessage, kerr.InvalidRecord, kerr.MessageTooLarge)
		for range 3 {
			refused(to, wire.RawBatch(4, 1<<20, bomb), "with many records", kerr.CorruptMessage, kerr.InvalidRecord, kerr.MessageTooLarge)
		}
		// Not gzip: what has the topic's codec already passes as it is, undecoded (docs tell this difference to Kafka).
		for codec := int16(2); codec <= 4; codec++ {
			noise := make([]byte, 1000)
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			refused(to, wire.RawBatch(codec, 3, noise), "noise in place of compressed records", kerr.CorruptMessage, kerr.InvalidRecord)
		}
		Same(int16(0), produce(to, good()), "error of a good batch afterwards")
	})
}

func throwBatch(batch []byte) {
	c := Must(wire.Dial(bootstrap))
	defer c.Close()
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(9)
	r.Acks, r.TimeoutMillis = 1, 5000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = victim
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	_, err := c.Ask(r)
	That(err == nil, "no answer to a batch with changed bytes: %v", err)
}

// zstdBomb is one record whose value has so many zeros.
func zstdBomb(size int) []byte {
	var out bytes.Buffer
	encoder := Must(zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1)))
	body := []byte{0, 0, 0, 1} // attributes, timestamp delta, offset delta, key of no length (-1)
	body = binary.AppendVarint(body, int64(size))
	Must(encoder.Write(binary.AppendVarint(nil, int64(len(body)+size+1))))
	Must(encoder.Write(body))
	zeros := make([]byte, 1<<20)
	for range size / len(zeros) {
		Must(encoder.Write(zeros))
	}
	Must(encoder.Write([]byte{0}))
	OK(encoder.Close())
	return out.Bytes()
}
