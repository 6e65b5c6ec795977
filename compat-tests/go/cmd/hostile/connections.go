package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

func addConnections(each func(string, func())) {
	each("slow senders: twenty frames of 100 MB announced, a byte at a time", func() {
		var all []*wire.Connection
		defer func() { closeAll(all) }()
		start := append(binary.BigEndian.AppendUint32(nil, 100_000_000), header(0, 9, true)...)
		for range 20 {
			c := Must(wire.Dial(bootstrap))
			all = append(all, c)
			Must(c.Write(start))
		}
		for range 50 {
			for _, c := range all {
				c.Write([]byte{0}) // it may have been closed upon, which is right too
			}
			time.Sleep(10 * time.Millisecond) // what makes the sender slow
		}
	})
	each("readers that never read: fetches of 1 MB pipelined a thousandfold", func() {
		for range 8 {
			Same(int16(0), produce(victim, wire.Batch(make([]byte, 900_000))), "error of a produce request")
		}
		c := Must(wire.Dial(bootstrap))
		listed := kmsg.NewPtrListOffsetsRequest()
		listed.SetVersion(5)
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = victim
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = -1
		t.Partitions = append(t.Partitions, p)
		listed.Topics = append(listed.Topics, t)
		end := Must(c.Ask(listed)).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].Offset
		c.Close()
		fetch := kmsg.NewPtrFetchRequest()
		fetch.SetVersion(11)
		fetch.MaxBytes, fetch.SessionEpoch, fetch.MinBytes = 10<<20, -1, 1
		ft := kmsg.NewFetchRequestTopic()
		ft.Topic = victim
		fp := kmsg.NewFetchRequestTopicPartition()
		fp.PartitionMaxBytes, fp.FetchOffset = 10<<20, end-8
		ft.Partitions = append(ft.Partitions, fp)
		fetch.Topics = append(fetch.Topics, ft)
		metadata := kmsg.NewPtrMetadataRequest()
		metadata.SetVersion(9)
		var all []*wire.Connection
		defer func() { closeAll(all) }()
		for range 10 {
			for _, request := range []kmsg.Request{fetch, metadata} {
				c := Must(wire.Dial(bootstrap))
				all = append(all, c)
				c.Conn.(*net.TCPConn).SetReadBuffer(4096)
				frame := wire.Encode(request, 1)
				c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				for range 1000 {
					if _, err := c.Write(frame); err != nil {
						break // the broker no longer reads: that is its right
					}
				}
			}
		}
		alive()
	})
	each("ten thousand connections that say nothing", func() {
		var limit syscall.Rlimit
		OK(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		limit.Cur = limit.Max
		OK(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		wanted := 10_000
		if limit.Max < 11_000 {
			wanted = int(limit.Max) - 500
			fmt.Printf("# only %d open files are allowed here\n", limit.Max)
		}
		var all []*wire.Connection
		defer func() { closeAll(all) }()
		refusals := 0
		for i := range wanted {
			// from several addresses of the loopback, so that ports last
			dialer := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
			conn, err := dialer.Dial("tcp", bootstrap)
			if err != nil {
				refusals++
				continue
			}
			all = append(all, &wire.Connection{Conn: conn})
			if i%1000 == 999 {
				alive()
			}
		}
		That(len(all) > wanted*9/10, "%d of %d connections were refused", refusals, wanted)
	})
	each("a thousand connections opened and dropped in the middle of a request", func() {
		frame := filled(0, 9)
		for i := range 1000 {
			c := Must(wire.Dial(bootstrap))
			c.Write(frame[:1+i%(len(frame)-1)])
			c.Conn.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	})
}

func closeAll(all []*wire.Connection) {
	for _, c := range all {
		c.Conn.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
