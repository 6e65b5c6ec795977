package main

import (
	"context"
	"errors"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	. "raftsman/compat/checks"
	"raftsman/compat/members"
)

var strategies = map[string]func() sarama.BalanceStrategy{
	"range": sarama.NewBalanceStrategyRange, "roundrobin": sarama.NewBalanceStrategyRoundRobin, "sticky": sarama.NewBalanceStrategySticky,
	"cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

// handler is called for each partition that begins and ends to be owned, and for each message.
type handler struct {
	assigned func(session sarama.ConsumerGroupSession, partition int32)
	revoked  func(session sarama.ConsumerGroupSession, partition int32)
	message  func(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage)
}

func (h handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if h.assigned != nil {
		h.assigned(session, claim.Partition())
		defer h.revoked(session, claim.Partition())
	}
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			h.message(session, message)
		case <-session.Context().Done():
			return nil
		}
	}
}

// member is what a process of its own does (package members).
func member(settings members.Settings) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	g := Must(sarama.NewConsumerGroup(bootstrap, settings.Group, config(func(c *sarama.Config) {
		c.Consumer.Group.Session.Timeout = time.Duration(settings.SessionMillis) * time.Millisecond
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategies[settings.Strategy]()}
		c.Consumer.Group.InstanceId = settings.Instance
	})))
	go func() {
		for range g.Errors() { // what matters is seen by who watches
		}
	}()
	h := handler{
		assigned: func(session sarama.ConsumerGroupSession, partition int32) {
			members.Assigned([]int32{partition}, session.GenerationID())
		},
		revoked: func(session sarama.ConsumerGroupSession, partition int32) {
			session.Commit()
			members.Revoked([]int32{partition})
		},
		message: func(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) {
			members.Value(string(message.Value))
			session.MarkMessage(message, "")
		},
	}
	for ctx.Err() == nil {
		if g.Consume(ctx, []string{settings.Topic}, h) != nil {
			time.Sleep(50 * time.Millisecond) // the broker is away
		}
	}
	g.Close()
}

// grouped joins a group in this process until `enough` says so, and gives what was read. What it read is marked with
// this metadata and committed when it leaves.
func grouped(group, from string, count int, during func(session sarama.ConsumerGroupSession, last *sarama.ConsumerMessage), changes ...func(*sarama.Config)) []string {
	g := Must(sarama.NewConsumerGroup(bootstrap, group, config(changes...)))
	defer g.Close()
	ctx, stop := context.WithTimeout(context.Background(), Limit)
	defer stop()
	var lock sync.Mutex
	var all []string
	err := g.Consume(ctx, []string{from}, handler{message: func(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) {
		lock.Lock()
		defer lock.Unlock()
		all = append(all, string(message.Value))
		if len(all) == count {
			if during != nil {
				during(session, message)
			}
			stop()
		}
	}})
	OK(err)
	That(len(all) >= count, "%d of %d messages came", len(all), count)
	return all
}

func offsets(a sarama.ClusterAdmin, group, of string) map[int32]sarama.OffsetFetchResponseBlock {
	found := map[int32]sarama.OffsetFetchResponseBlock{}
	Until("the offsets can be asked for", func() bool {
		response := Must(a.ListConsumerGroupOffsets(group, nil))
		if response.Err == sarama.ErrOffsetsLoadInProgress {
			return false
		}
		Same(sarama.ErrNoError, response.Err, "error")
		for partition, block := range response.Blocks[of] {
			found[partition] = *block
		}
		return true
	})
	return found
}

func same(offset int64, metadata string, block sarama.OffsetFetchResponseBlock, what string) {
	Same(offset, block.Offset, what)
	Same(metadata, block.Metadata, "metadata of "+what)
}

func described(a sarama.ClusterAdmin, group string) *sarama.GroupDescription {
	return Must(a.DescribeConsumerGroups([]string{group}))[0]
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
			for partition, block := range offsets(a, group, to) {
				same(300, "", block, "partition "+string(rune('0'+partition)))
			}
			return nil
		})
	}
	list.Add("a static member that returns within its session moves nothing; removed by its instance", func() error {
		to, group := topic("static", 4), name("group")
		settings := members.Settings{Group: group, Topic: to, Strategy: "range", SessionMillis: 15000}
		members.ComeBack(4, settings, func(first, second *members.Member) {
			second.Die()
			a := admin()
			defer a.Close()
			response := Must(a.RemoveMemberFromConsumerGroup(group, []string{"two", "unknown"}))
			Same(sarama.ErrNoError, response.Err, "error")
			Same([]sarama.KError{sarama.ErrNoError, sarama.ErrUnknownMemberId}, []sarama.KError{response.Members[0].Err, response.Members[1].Err}, "errors by member")
			Until("the other has all", func() bool { return members.Share(4, first) })
		})
		return nil
	})
	list.Add("commits with metadata, resumed after them; an offset manager without membership", func() error {
		to, group := topic("commits", 1), name("group")
		spread(to, 1, Numbers(0, 30))
		Same(Numbers(0, 30), grouped(group, to, 30, func(session sarama.ConsumerGroupSession, _ *sarama.ConsumerMessage) {
			session.MarkOffset(to, 0, 12, "twelve, ünïcode")
			session.Commit()
		}), "values")
		a := admin()
		defer a.Close()
		same(12, "twelve, ünïcode", offsets(a, group, to)[0], "partition 0")
		Same(Numbers(12, 30), grouped(group, to, 18, nil), "values after what was committed")
		c := Must(sarama.NewClient(bootstrap, config()))
		defer c.Close()
		manager := Must(sarama.NewOffsetManagerFromClient(group, c))
		defer manager.Close()
		partition := Must(manager.ManagePartition(to, 0))
		offset, metadata := partition.NextOffset()
		Same("12 twelve, ünïcode", string(Numbers(int(offset), int(offset)+1)[0])+" "+metadata, "what the manager finds")
		partition.MarkOffset(20, "twenty")
		manager.Commit()
		same(20, "twenty", offsets(a, group, to)[0], "partition 0 by the manager")
		partition.ResetOffset(5, "back")
		manager.Commit()
		same(5, "back", offsets(a, group, to)[0], "partition 0 when it was reset")
		partition.AsyncClose() // the manager waits for it when it closes
		return nil
	})
	list.Add("automatic commits", func() error {
		to, group := topic("auto-commit", 1), name("group")
		for i := range 2 {
			spread(to, 1, Numbers(50*i, 50*i+50))
			Same(Numbers(50*i, 50*i+50), grouped(group, to, 50, func(session sarama.ConsumerGroupSession, last *sarama.ConsumerMessage) {
				session.MarkMessage(last, "")
			}, func(c *sarama.Config) { c.Consumer.Offsets.AutoCommit.Enable = true }), "values")
		}
		return nil
	})
	list.Add("admin: groups listed, described, altered, deleted, and their offsets", func() error {
		to, group := topic("groups", 2), name("group")
		spread(to, 2, Numbers(0, 20))
		a := admin()
		defer a.Close()
		m := members.Start(members.Settings{Group: group, Topic: to, Strategy: "roundrobin"})
		defer m.Leave()
		Until("it has read all", func() bool { return members.Share(2, m) && m.Has(Numbers(0, 20)) })
		Same("consumer", Must(a.ListConsumerGroups())[group], "protocol type as listed")
		d := described(a, group)
		Same("Stable consumer roundrobin", d.State+" "+d.ProtocolType+" "+d.Protocol, "described")
		Same(1, len(d.Members), "members")
		for _, each := range d.Members {
			Same("sarama /127.0.0.1", each.ClientId+" "+each.ClientHost, "member")
			Same(2, len(Must(each.GetMemberAssignment()).Topics[to]), "assignment")
		}
		Same("Dead", described(a, name("unknown")).State, "state of an unknown group")
		err := a.DeleteConsumerGroup(group)
		That(errors.Is(err, sarama.ErrNonEmptyGroup), "deleting it with a member: %v", err)
		err = a.DeleteConsumerGroupOffset(group, to, 0)
		That(errors.Is(err, sarama.ErrGroupSubscribedToTopic), "offsets of a subscribed topic: %v", err)
		m.Leave()
		Until("it has left", func() bool { return described(a, group).State == "Empty" })
		altered := Must(a.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{to: {0: {Offset: 3, LeaderEpoch: -1, Metadata: "three"}}}, nil))
		Same(sarama.ErrNoError, altered.Errors[to][0], "error of altering")
		same(3, "three", offsets(a, group, to)[0], "partition 0")
		OK(a.DeleteConsumerGroupOffset(group, to, 0))
		_, there := offsets(a, group, to)[0]
		That(!there, "an offset that was deleted")
		OK(a.DeleteConsumerGroup(group))
		err = a.DeleteConsumerGroup(group)
		That(errors.Is(err, sarama.ErrGroupIDNotFound), "deleting it again: %v", err)
		return nil
	})
	list.Add("refusals: an evicted member's commit, metadata too large, an empty group id", func() error {
		to, group := topic("evicted", 1), name("group")
		spread(to, 1, Numbers(0, 5))
		c := Must(sarama.NewClient(bootstrap, config()))
		defer c.Close()
		coordinator := Must(c.Coordinator(group))
		commit := func(session sarama.ConsumerGroupSession, group, metadata string) sarama.KError {
			r := &sarama.OffsetCommitRequest{Version: 2, ConsumerGroup: group, ConsumerGroupGeneration: session.GenerationID(), ConsumerID: session.MemberID(), RetentionTime: -1}
			r.AddBlock(to, 0, 3, 0, metadata)
			return Must(coordinator.CommitOffset(r)).Errors[to][0]
		}
		var taken, large, evicted, left sarama.KError
		grouped(group, to, 5, func(session sarama.ConsumerGroupSession, _ *sarama.ConsumerMessage) {
			taken, large = commit(session, group, ""), commit(session, group, string(make([]byte, 5000)))
			left = Must(coordinator.LeaveGroup(&sarama.LeaveGroupRequest{GroupId: group, MemberId: session.MemberID()})).Err
			evicted = commit(session, group, "")
		})
		Same([]sarama.KError{sarama.ErrNoError, sarama.ErrOffsetMetadataTooLarge, sarama.ErrNoError, sarama.ErrUnknownMemberId}, []sarama.KError{taken, large, left, evicted}, "a commit, one with much metadata, the eviction, a commit then")
		g := Must(sarama.NewConsumerGroup(bootstrap, "", config()))
		defer g.Close()
		ctx, stop := context.WithTimeout(context.Background(), Limit)
		defer stop()
		err := g.Consume(ctx, []string{to}, handler{message: func(sarama.ConsumerGroupSession, *sarama.ConsumerMessage) {}})
		That(errors.Is(err, sarama.ErrInvalidGroupId), "a group without name: %v", err)
		return nil
	})
	for _, how := range []string{"stop", "kill"} {
		list.Add("commits and members outlive a restart of the broker ("+how+")", func() error {
			to, group := topic("restart", 2), name("group")
			spread(to, 2, Numbers(0, 100))
			a := admin()
			Must(a.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{to: {0: {Offset: 40, LeaderEpoch: -1, Metadata: "forty"}, 1: {Offset: 45, LeaderEpoch: -1}}}, nil))
			a.Close()
			running := members.Start(members.Settings{Group: name("running"), Topic: to, Strategy: "range"})
			defer running.Leave()
			Until("it runs", func() bool { return members.Share(2, running) && running.Has(Numbers(0, 100)) })
			Restart(how)
			spread(to, 2, Numbers(100, 110))
			Until("who ran goes on", func() bool { return running.Has(Numbers(100, 110)) })
			a = admin()
			defer a.Close()
			found := offsets(a, group, to)
			same(40, "forty", found[0], "partition 0")
			same(45, "", found[1], "partition 1")
			Same(25, len(grouped(group, to, 25, nil)), "messages after what was committed")
			return nil
		})
	}
}
