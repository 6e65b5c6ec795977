package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/members"
	"raftsman/compat/wire"
)

var balancers = map[string]kgo.GroupBalancer{
	"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(), "sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
}

func grouped(group, from string, options ...kgo.Opt) *kgo.Client {
	return client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(from), kgo.ConsumeResetOffset(start()), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.SessionTimeout(5 * time.Second),
	}, options...)...)
}

// member is what a process of its own does (package members): read, tell, commit.
func member(settings members.Settings) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	partitions := func(all map[string][]int32) []int32 { return all[settings.Topic] }
	commit := func(ctx context.Context, c *kgo.Client) {
		c.CommitUncommittedOffsets(ctx) // when it fails, another generation has begun, and the records are read again
	}
	options := []kgo.Opt{
		kgo.SessionTimeout(time.Duration(settings.SessionMillis) * time.Millisecond),
		kgo.Balancers(balancers[settings.Strategy]),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, c *kgo.Client, all map[string][]int32) {
			_, generation := c.GroupMetadata()
			members.Assigned(partitions(all), generation)
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, c *kgo.Client, all map[string][]int32) {
			commit(ctx, c)
			members.Revoked(partitions(all))
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, all map[string][]int32) { members.Revoked(partitions(all)) }),
	}
	if settings.Instance != "" {
		options = append(options, kgo.InstanceID(settings.Instance))
	}
	c := grouped(settings.Group, settings.Topic, options...)
	for ctx.Err() == nil {
		fetches := c.PollFetches(ctx)
		fetches.EachRecord(func(record *kgo.Record) { members.Value(string(record.Value)) })
		commit(context.Background(), c)
		c.AllowRebalance()
	}
	c.CloseAllowingRebalance()
}

func committed(a *kadm.Client, group, of string) map[int32]kadm.Offset {
	found := map[int32]kadm.Offset{}
	Must(a.FetchOffsets(within(), group)).Each(func(o kadm.OffsetResponse) {
		OK(o.Err)
		if o.Topic == of {
			o.TopicID = kadm.TopicID{} // not what is compared here
			found[o.Partition] = o.Offset
		}
	})
	return found
}

func at(of string, partition int32, offset int64, metadata string) kadm.Offset {
	return kadm.Offset{Topic: of, Partition: partition, At: offset, LeaderEpoch: -1, Metadata: metadata}
}

func spread(to string, partitions int32, all []string) {
	c := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	var records []*kgo.Record
	for i, value := range all {
		records = append(records, &kgo.Record{Topic: to, Partition: int32(i) % partitions, Value: []byte(value)})
	}
	sent(c, records)
}

func addGroups(list *List) {
	for _, strategy := range []string{"range", "cooperative-sticky"} {
		list.Add("a group whose members join, leave and die while records come: "+strategy, func() error {
			to, group := topic("rebalance", 6), name("group")
			members.ComeAndGo(6, members.Settings{Group: group, Topic: to, Strategy: strategy}, func(from, until int) {
				spread(to, 6, Numbers(from, until))
			})
			a := admin()
			defer a.Close()
			for partition, offset := range committed(a, group, to) {
				Same(int64(300), offset.At, fmt.Sprintf("committed of partition %d", partition))
			}
			return nil
		})
	}
	list.Add("a static member that returns within its session moves nothing", func() error {
		to, group := topic("static", 4), name("group")
		settings := members.Settings{Group: group, Topic: to, Strategy: "range", SessionMillis: 15000}
		members.ComeBack(4, settings, func(_, _ *members.Member) {
			a := admin()
			defer a.Close()
			left := Must(a.LeaveGroup(within(), kadm.LeaveGroup(group).Reason("it is told to").InstanceIDs("two", "unknown")))
			OK(left["two"].Err)
			That(errors.Is(left["unknown"].Err, kerr.UnknownMemberID), "leaving of an unknown instance: %v", left["unknown"].Err)
		})
		return nil
	})
	list.Add("commits with metadata and leader epoch, of a member and of nobody; resumed after them", func() error {
		to, group := topic("commits", 2), name("group")
		spread(to, 2, numbers(0, 40))
		c := grouped(group, to)
		records := poll(c, 40)
		OK(c.CommitRecords(within(), records[:1]...))
		offsets := kadm.Offsets{}
		offsets.Add(at(to, 1, 15, "fifteen, ünïcode"))
		a := admin()
		defer a.Close()
		c.CommitOffsetsSync(within(), map[string]map[int32]kgo.EpochOffset{to: {0: {Epoch: 0, Offset: 10}, 1: {Epoch: -1, Offset: 12}}}, nil)
		Same(map[int32]kadm.Offset{0: {Topic: to, Partition: 0, At: 10, LeaderEpoch: 0, Metadata: memberID(c)}, 1: {Topic: to, Partition: 1, At: 12, LeaderEpoch: -1, Metadata: memberID(c)}}, committed(a, group, to), "committed by the member")
		responses, _ := a.CommitOffsets(within(), group, offsets)
		That(errors.Is(responses.Error(), kerr.UnknownMemberID), "a commit of nobody beside members: %v", responses.Error())
		c.Close()
		Until("it has left", func() bool { return Must(a.DescribeGroups(within(), group))[group].State == "Empty" })
		OK(a.CommitAllOffsets(within(), group, offsets))
		Same(at(to, 1, 15, "fifteen, ünïcode"), committed(a, group, to)[1], "committed by nobody")
		c = grouped(group, to)
		defer c.Close()
		Same(15, len(poll(c, 15)), "records after what was committed")
		return nil
	})
	list.Add("automatic commits: what was polled is committed when the client closes", func() error {
		to, group := topic("auto-commit", 1), name("group")
		for i := range 2 {
			spread(to, 1, numbers(50*i, 50*i+50))
			c := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(to), kgo.ConsumeResetOffset(start()), kgo.AutoCommitMarks())
			records := poll(c, 50)
			Same(numbers(50*i, 50*i+50), values(records), "values")
			c.MarkCommitRecords(records...)
			c.Close()
		}
		return nil
	})
	list.Add("a member seeks by time", func() error {
		to, group := topic("seek", 1), name("group")
		base := time.Now().Add(-time.Hour).UnixMilli()
		producer := client()
		defer producer.Close()
		var records []*kgo.Record
		for i := range 50 {
			records = append(records, &kgo.Record{Topic: to, Value: []byte(fmt.Sprint(i)), Timestamp: time.UnixMilli(base + int64(i)*10)})
		}
		sent(producer, records)
		c := grouped(group, to)
		defer c.Close()
		poll(c, 50)
		a := admin()
		defer a.Close()
		offsets := Must(a.ListOffsetsAfterMilli(within(), base+405, to))
		offset, _ := offsets.Lookup(to, 0)
		c.SetOffsets(map[string]map[int32]kgo.EpochOffset{to: {0: {Epoch: -1, Offset: offset.Offset}}})
		Same(numbers(41, 50), values(poll(c, 9)), "values from that time")
		return nil
	})
	list.Add("kadm: groups listed, described, with lag; deleted, and their offsets", func() error {
		to, group := topic("kadm", 2), name("group")
		spread(to, 2, numbers(0, 20))
		c := grouped(group, to, kgo.Balancers(kgo.RoundRobinBalancer()))
		poll(c, 20)
		a := admin()
		defer a.Close()
		listed := Must(a.ListGroups(within(), "Stable"))[group]
		Same("consumer Stable", listed.ProtocolType+" "+listed.State, "listed")
		described := Must(a.DescribeGroups(within(), group))[group]
		Same("roundrobin Stable consumer", described.Protocol+" "+described.State+" "+described.ProtocolType, "described")
		Same(1, len(described.Members), "members")
		Same("kgo /127.0.0.1", described.Members[0].ClientID+" "+described.Members[0].ClientHost, "the member")
		partitions := described.AssignedPartitions()
		Same(2, len(partitions[to]), "assigned partitions")
		c.CommitOffsetsSync(within(), map[string]map[int32]kgo.EpochOffset{to: {0: {Epoch: -1, Offset: 4}}}, nil)
		lags := Must(a.Lag(within(), group))
		Same(int64(16), lags[group].Lag.Total(), "lag")
		coordinators := a.FindGroupCoordinators(within(), group, name("another"))
		OK(coordinators.Error())
		set := kadm.TopicsSet{}
		set.Add(to, 0)
		deleted := Must(a.DeleteOffsets(within(), group, set))
		err, _ := deleted.Lookup(to, 0)
		That(errors.Is(err, kerr.GroupSubscribedToTopic), "offsets of a subscribed topic: %v", err)
		_, err = a.DeleteGroup(within(), group)
		That(errors.Is(err, kerr.NonEmptyGroup), "deleting it with a member: %v", err)
		c.Close()
		Until("it has left", func() bool { return Must(a.DescribeGroups(within(), group))[group].State == "Empty" })
		deleted = Must(a.DeleteOffsets(within(), group, set))
		err, _ = deleted.Lookup(to, 0)
		OK(err)
		Same(0, len(committed(a, group, to)), "offsets when they are deleted")
		_, err = a.DeleteGroup(within(), group)
		OK(err)
		_, err = a.DeleteGroup(within(), group)
		That(errors.Is(err, kerr.GroupIDNotFound), "deleting it again: %v", err)
		_, err = a.FetchOffsets(within(), group)
		OK(err)
		return nil
	})
	list.Add("refusals: an evicted member's commit, metadata too large, an unknown topic", func() error {
		to, group := topic("evicted", 1), name("group")
		spread(to, 1, numbers(0, 5))
		c := grouped(group, to)
		defer c.Close()
		records := poll(c, 5)
		a := admin()
		defer a.Close()
		id := memberID(c)
		request := kadm.Offsets{}
		request.Add(at(to, 0, 3, string(make([]byte, 5000))))
		responses, _ := a.CommitOffsets(within(), name("large"), request)
		That(errors.Is(responses.Error(), kerr.OffsetMetadataTooLarge), "metadata of 5000 bytes: %v", responses.Error())
		unknown := kadm.Offsets{}
		unknown.Add(at(name("unknown"), 0, 3, ""))
		responses, _ = a.CommitOffsets(within(), name("large"), unknown)
		That(errors.Is(responses.Error(), kerr.UnknownTopicOrPartition), "an unknown topic: %v", responses.Error())
		removed := Must(evict(group, id))
		Same(int16(0), removed, "error of the eviction")
		err := c.CommitRecords(within(), records...)
		That(errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress), "an evicted member's commit: %v", err)
		Until("it joins again", func() bool { return memberID(c) != id && c.CommitRecords(within(), records...) == nil })
		return nil
	})
	for _, how := range []string{"stop", "kill"} {
		list.Add("commits and members outlive a restart of the broker ("+how+")", func() error {
			to, group := topic("restart", 2), name("group")
			spread(to, 2, numbers(0, 100))
			offsets := kadm.Offsets{}
			offsets.Add(at(to, 0, 40, "forty"))
			offsets.Add(at(to, 1, 45, ""))
			a := admin()
			defer a.Close()
			OK(a.CommitAllOffsets(within(), group, offsets))
			running := members.Start(members.Settings{Group: name("running"), Topic: to, Strategy: "cooperative-sticky"})
			defer running.Leave()
			Until("it runs", func() bool { return members.Share(2, running) && running.Has(numbers(0, 100)) })
			Restart(how)
			spread(to, 2, numbers(100, 110))
			Until("who ran goes on", func() bool { return running.Has(numbers(100, 110)) })
			Same(map[int32]kadm.Offset{0: at(to, 0, 40, "forty"), 1: at(to, 1, 45, "")}, committed(a, group, to), "committed before the restart")
			c := grouped(group, to)
			defer c.Close()
			poll(c, 25)
			return nil
		})
	}
}

func memberID(c *kgo.Client) string {
	id, _ := c.GroupMetadata()
	return id
}

// evict has a member leave as an administrator would, by its id.
func evict(group, id string) (int16, error) {
	a := admin()
	defer a.Close()
	coordinator := a.FindGroupCoordinators(within(), group)[group]
	OK(coordinator.Err)
	c := Must(wire.Dial(net.JoinHostPort(coordinator.Host, strconv.Itoa(int(coordinator.Port)))))
	defer c.Close()
	r := kmsg.NewPtrLeaveGroupRequest()
	r.SetVersion(2)
	r.Group, r.MemberID = group, id
	response, err := c.Ask(r)
	if err != nil {
		return 0, err
	}
	return response.(*kmsg.LeaveGroupResponse).ErrorCode, nil
}
