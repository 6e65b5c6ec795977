package main

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func offsetScenes() {
	play("commits of nobody", offsetCommit, func(s *scene) {
		s.tell("a", "two partitions", s.committing(nil, s.at(0, 5, "five"), s.at(1, 7, "")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		leader := s.at(0, 6, "")
		leader.epoch, leader.metadata = 3, nil
		s.tell("a", "with a leader epoch, without metadata", s.committing(nil, leader))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		s.tell("a", "an earlier offset", s.committing(nil, s.at(0, 2, "back")))
		s.tell("a", "a partition twice", s.committing(nil, s.at(1, 8, "first"), s.at(1, 9, "second")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		s.tell("a", "beyond the end of the log", s.committing(nil, s.at(0, 1<<40, "far")))
		s.tell("a", "a negative offset", s.committing(nil, s.at(1, -7, "negative")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		s.tell("a", "no topics", s.committing(nil))
		r := s.committing(nil, s.at(0, 2, ""))
		r.Topics[0].Partitions = nil
		s.tell("a", "a topic without partitions", r)
		s.tell("a", "the group", s.describing(s.group))
	})
	play("commits refused", offsetCommit, func(s *scene) {
		unknown := s.at(0, 5, "")
		unknown.topic = s.named("no-such-topic")
		s.tell("a", "unknown topic and unknown partition beside known ones", s.committing(nil, s.at(0, 5, "good"), s.at(9, 5, ""), s.at(-1, 5, ""), unknown))
		s.tell("a", "metadata at the limit and above", s.committing(nil, s.at(0, 6, strings.Repeat("m", 4096)), s.at(1, 6, strings.Repeat("m", 4097))))
		s.tell("a", "metadata above the limit in bytes, not in characters", s.committing(nil, s.at(1, 6, strings.Repeat("é", 2049))))
		s.tell("a", "the group", s.describing(s.group))
		nobody := newMember("n")
		nobody.id, nobody.generation = "nobody", 3
		s.tell("a", "unknown member, group without members", s.committing(nobody, s.at(0, 5, "")))
		nobody.generation = -1
		s.tell("a", "unknown member, generation -1, group without members", s.committing(nobody, s.at(0, 5, "")))
		nobody.id, nobody.generation = "", 3
		s.tell("a", "no member id, generation 3, group without members", s.committing(nobody, s.at(0, 5, "")))
		s.part("a group that is not there")
		nobody.id, nobody.generation = "nobody", 3
		s.tell("a", "unknown member, unknown group", s.committing(nobody, s.at(0, 5, "")))
		nobody.generation = -1
		s.tell("a", "unknown member, generation -1, unknown group", s.committing(nobody, s.at(0, 5, "")))
		nobody.id, nobody.generation = "", 0
		s.tell("a", "no member id, generation 0, unknown group", s.committing(nobody, s.at(0, 5, "")))
		s.tell("a", "the group", s.describing(s.group))
	})
	play("commits of members", offsetCommit, func(s *scene) {
		a, b := s.pair()
		s.tell("a", "the leader commits", s.committing(a, s.at(0, 5, "of a")))
		s.tell("b", "the follower commits the other's partition", s.committing(b, s.at(0, 6, "of b")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		for _, generation := range []int32{1, 3, -1} {
			wrong := *a
			wrong.generation = generation
			s.tell("a", "generation wrong", s.committing(&wrong, s.at(0, 7, "")))
		}
		nobody := newMember("n")
		nobody.id, nobody.generation = "nobody", 2
		s.tell("a", "unknown member", s.committing(nobody, s.at(0, 7, "")))
		nobody.generation = 7
		s.tell("a", "unknown member and generation wrong", s.committing(nobody, s.at(0, 7, "")))
		nobody.id, nobody.generation = "", 2
		s.tell("a", "no member id", s.committing(nobody, s.at(0, 7, "")))
		s.tell("a", "a commit of nobody while there are members", s.committing(nil, s.at(0, 7, "")))
		c := newMember("c")
		join := s.beginJoin(c)
		s.tell("a", "the group prepares", s.committing(a, s.at(0, 8, "preparing")))
		answers := s.await(s.begin("a", s.joining(a)), s.begin("b", s.joining(b)), join)
		old := *a
		for i, each := range []*member{a, b, c} {
			each.took(answers[i])
		}
		s.tell("a", "the group awaits its assignment", s.committing(a, s.at(0, 9, "awaiting")))
		s.tell("a", "the group awaits its assignment, of the old generation", s.committing(&old, s.at(0, 9, "awaiting")))
		s.settle(a, b, c)
		s.tell("a", "of the old generation", s.committing(&old, s.at(0, 9, "old")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		s.tell("c", "c leaves", s.leaving(c))
		s.tell("c", "who left commits", s.committing(c, s.at(0, 10, "")))
		s.tell("a", "a commit of nobody while the group prepares", s.committing(nil, s.at(0, 7, "")))
		s.ask("a", s.leaving(a, b))
		s.tell("a", "who left the empty group commits", s.committing(a, s.at(0, 10, "")))
		s.tell("a", "a commit of nobody to the group that is empty now", s.committing(nil, s.at(0, 11, "alone")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
	})
	play("deleting offsets", offsetDelete, func(s *scene) {
		deleting := func(group string, topics ...string) *kmsg.OffsetDeleteRequest {
			r := kmsg.NewPtrOffsetDeleteRequest()
			r.Group = group
			for _, each := range topics {
				t := kmsg.NewOffsetDeleteRequestTopic()
				t.Topic = each
				for _, partition := range []int32{0, 1, 9} {
					p := kmsg.NewOffsetDeleteRequestTopicPartition()
					p.Partition = partition
					t.Partitions = append(t.Partitions, p)
				}
				r.Topics = append(r.Topics, t)
			}
			return r
		}
		s.tell("a", "group id empty", deleting("", s.topic()))
		s.tell("a", "unknown group", deleting(s.group, s.topic()))
		s.ask("a", s.committing(nil, s.at(0, 5, ""), s.at(1, 6, "")))
		s.tell("a", "a group without members; partition 9 is unknown", deleting(s.group, s.topic(), s.named("no-such-topic")))
		s.tell("a", "what is committed", s.fetching(s.topic()))
		s.tell("a", "again", deleting(s.group, s.topic()))
		s.tell("a", "no topics", deleting(s.group))
		s.tell("a", "the group", s.describing(s.group))

		s.part("a group with members of a type that is not consumer")
		s.ask("a", s.committing(nil, s.at(0, 5, "")))
		s.alone()
		s.tell("a", "with members", deleting(s.group, s.topic()))

		s.part("a group of consumers")
		other := s.at(0, 5, "")
		other.topic = s.other()
		s.ask("b", s.committing(nil, s.at(0, 5, ""), other))
		b := newMember("b")
		subscribed := kmsg.NewConsumerMemberMetadata()
		subscribed.Topics = []string{s.topic()}
		b.metadata = string(subscribed.AppendTo(nil))
		r := s.joining(b)
		r.ProtocolType = "consumer"
		answer, _ := s.ask("b", r)
		r.MemberID = answer.(*kmsg.JoinGroupResponse).MemberID
		s.tell("b", "while the first member joins: topic subscribed, other not", deleting(s.group, s.topic()))
		answer, _ = s.ask("b", r)
		b.took(answer)
		s.tell("b", "awaiting its assignment", deleting(s.group, s.topic(), s.other()))
		s.ask("b", s.committing(b, other))
		sync := s.syncing(b, b.id, "")
		sync.ProtocolType = text("consumer")
		s.ask("b", sync)
		s.tell("b", "stable", deleting(s.group, s.topic(), s.other()))
		s.tell("b", "what is committed", s.fetching(s.topic(), s.other()))
		s.ask("b", s.leaving(b))
		s.tell("b", "when all have left", deleting(s.group, s.topic(), s.other()))
	})
}

func fetchScenes() {
	play("fetching offsets", offsetFetch, func(s *scene) {
		if s.v < 8 {
			s.tell("a", "unknown group", s.fetching(s.topic(), s.named("no-such-topic")))
		}
		r := s.fetching(s.topic())
		r.Group, r.Groups[0].Group = "", ""
		s.tell("a", "group id empty", r)
		if s.v >= 2 {
			s.tell("a", "all of an unknown group", s.fetchingAll())
		}
		if s.v >= 8 {
			s.tell("a", "unknown group", s.fetching(s.topic(), s.other()))
		}
		leader := s.at(0, 5, "five")
		leader.epoch = 4
		null := s.at(1, 6, "")
		null.metadata = nil
		s.ask("a", s.committing(nil, leader, null))
		s.tell("a", "committed", s.fetching(s.topic()))
		s.tell("a", "a topic without commits", s.fetching(s.other()))
		if s.v >= 10 {
			s.tell("a", "an unknown topic id", s.fetching(s.topic(), "nothing"))
		} else {
			s.tell("a", "an unknown topic", s.fetching(s.topic(), s.named("no-such-topic")))
		}
		r = s.fetching(s.topic())
		if s.v < 8 {
			r.Topics[0].Partitions = []int32{9, 0, -1, 0}
		} else {
			r.Groups[0].Topics[0].Partitions = []int32{9, 0, -1, 0}
		}
		s.tell("a", "unknown partitions, and one twice", r)
		r = s.fetching(s.topic())
		r.Topics[0].Partitions, r.Groups[0].Topics[0].Partitions = nil, nil
		s.tell("a", "a topic without partitions", r)
		r = s.fetching()
		r.Topics, r.Groups[0].Topics = []kmsg.OffsetFetchRequestTopic{}, []kmsg.OffsetFetchRequestGroupTopic{}
		s.tell("a", "no topics", r)
		if s.v >= 2 {
			s.tell("a", "all", s.fetchingAll())
		}
		if s.v >= 7 {
			r = s.fetching(s.topic())
			r.RequireStable = true
			s.tell("a", "only stable ones", r)
		}
	})
	playFrom("fetching the offsets of several groups", offsetFetch, 8, func(s *scene) {
		s.ask("a", s.committing(nil, s.at(0, 5, "")))
		r := s.fetching(s.topic())
		one := r.Groups[0]
		unknown, empty := one, one
		unknown.Group, empty.Group = s.named("unknown"), ""
		r.Groups = append(r.Groups, unknown, empty, one)
		s.tell("a", "a known, an unknown, an empty id, the known again", r)
		r.Groups = nil
		s.tell("a", "no groups", r)
	})
	playFrom("fetching offsets as a member", offsetFetch, 9, func(s *scene) {
		a := s.alone()
		s.ask("a", s.committing(a, s.at(0, 5, "")))
		for _, each := range []struct {
			what  string
			id    *string
			epoch int32
		}{
			{"id and generation of the member", &a.id, a.generation}, {"another generation", &a.id, 9}, {"no id, generation -1", nil, -1},
			{"no id, generation of the group", nil, 1}, {"an unknown id", text("nobody"), 1}, {"an unknown id, generation -1", text("nobody"), -1},
			{"an empty id", text(""), -1},
		} {
			r := s.fetching(s.topic())
			r.Groups[0].MemberID, r.Groups[0].MemberEpoch = each.id, each.epoch
			s.tell("a", each.what, r)
		}
	})
}

// fetchingAll asks for whatever the group has committed.
func (s *scene) fetchingAll() *kmsg.OffsetFetchRequest {
	r := s.fetching()
	r.Topics, r.Groups[0].Topics = nil, nil
	s.topic()
	return r
}
