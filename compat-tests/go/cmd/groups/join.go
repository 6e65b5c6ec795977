package main

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func joinScenes() {
	play("first joins", joinGroup, func(s *scene) {
		a := newMember("a")
		s.tell("a", "a joins without a member id", s.joining(a))
		if s.v >= 4 {
			// asked again without it, the broker gives another id
			s.tell("a", "a joins without a member id again", s.joining(a))
			answer, _ := s.ask("a", s.joining(a))
			a.took(answer)
			s.learn(a.id)
			s.tell("a", "the group", s.describing(s.group))
			a.took(s.tell("a", "a joins with the id it was given", s.joining(a)))
		}
		s.tell("a", "the group", s.describing(s.group))
	})
	play("joins refused", joinGroup, func(s *scene) {
		for _, each := range []struct {
			what   string
			change func(r *kmsg.JoinGroupRequest)
		}{
			{"group id empty", func(r *kmsg.JoinGroupRequest) { r.Group = "" }},
			{"session timeout below the least", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 999 }},
			{"session timeout above the most", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1_800_001 }},
			{"session timeout negative", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = -1 }},
			{"no protocols", func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }},
			{"protocol type empty", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "" }},
			{"no protocols, with a member id", func(r *kmsg.JoinGroupRequest) { r.Protocols, r.MemberID = nil, "nobody" }},
			{"member id that nobody gave", func(r *kmsg.JoinGroupRequest) { r.MemberID = "nobody" }},
			{"session timeout and member id wrong", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis, r.MemberID = 1, "nobody" }},
		} {
			r := s.joining(newMember("a"))
			each.change(r)
			s.tell("a", each.what, r)
		}
		s.tell("a", "the group", s.describing(s.group))
	})
	play("joins that are odd and accepted", joinGroup, func(s *scene) {
		for _, each := range []struct {
			what   string
			change func(r *kmsg.JoinGroupRequest)
		}{
			{"rebalance timeout negative", func(r *kmsg.JoinGroupRequest) { r.RebalanceTimeoutMillis = -1 }},
			{"rebalance timeout zero", func(r *kmsg.JoinGroupRequest) { r.RebalanceTimeoutMillis = 0 }},
			{"metadata empty", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Metadata = []byte{} }},
			{"a protocol without name", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "" }},
			{"session timeout the least", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1000 }},
			{"session timeout the most", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1_800_000 }},
		} {
			s.part(each.what)
			m := newMember("a")
			s.needsID(m)
			r := s.joining(m)
			each.change(r)
			s.tell("a", each.what, r)
		}
	})
	play("joining a group that has a member", joinGroup, func(s *scene) {
		a, b := s.alone(), newMember("b")
		r := s.joining(b)
		r.ProtocolType = "of another type"
		s.tell("b", "another protocol type", r)
		r = s.joining(b)
		r.Protocols = r.Protocols[:1]
		r.Protocols[0].Name = "roundrobin"
		s.tell("b", "no protocol that all have", r)
		r = s.joining(b)
		r.Protocols = nil
		s.tell("b", "no protocols", r)
		r = s.joining(b)
		r.MemberID = "nobody"
		s.tell("b", "a member id that nobody gave", r)
		r = s.joining(b)
		r.MemberID, r.ProtocolType = "nobody", "of another type"
		s.tell("b", "a member id that nobody gave and another protocol type", r)
		s.tell("a", "a's heartbeat", s.beating(a))

		join := s.beginJoin(b)
		join.what = "b joins"
		s.tell("a", "a's heartbeat when b has come", s.beating(a))
		s.tell("a", "the group when b has come", s.describing(s.group))
		again := s.beginTold("a", "a joins again", s.joining(a))
		answers := s.await(again, join)
		a.took(answers[0])
		b.took(answers[1])
		s.tell("a", "the group that awaits its assignment", s.describing(s.group))
		s.tell("a", "a's heartbeat meanwhile", s.beating(a))
		s.tell("b", "b's heartbeat meanwhile", s.beating(b))
		s.settle(a, b)
		s.tell("a", "the group when it is stable", s.describing(s.group))
	})
	play("joining again when the group is stable", joinGroup, func(s *scene) {
		a, b := s.pair()
		s.tell("b", "the follower, as before", s.joining(b))
		s.tell("a", "the leader's heartbeat", s.beating(a))
		r := s.joining(b)
		r.ProtocolType = "of another type"
		s.tell("b", "the follower, with another protocol type", r)
		r = s.joining(b)
		r.Protocols[0].Name, r.Protocols[1].Name = "x", "y"
		s.tell("b", "the follower, with other protocols only", r)
		b.metadata = "new of b"
		join := s.beginTold("b", "the follower, with other metadata", s.joining(b))
		s.untilState("PreparingRebalance", 2)
		s.tell("a", "the leader's heartbeat", s.beating(a))
		answers := s.await(s.beginTold("a", "the leader", s.joining(a)), join)
		a.took(answers[0])
		b.took(answers[1])
		s.settle(a, b)
		join = s.beginTold("a", "the leader, as before", s.joining(a))
		s.untilState("PreparingRebalance", 2)
		s.tell("b", "the follower's heartbeat", s.beating(b))
		s.await(join, s.beginTold("b", "the follower", s.joining(b)))
	})
	play("joining again while the group awaits its assignment", joinGroup, func(s *scene) {
		a, b := newMember("a"), newMember("b")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		s.tell("b", "the follower, as before", s.joining(b))
		s.tell("a", "the leader, as before", s.joining(a))
		r := s.joining(b)
		r.MemberID = "nobody"
		s.tell("b", "a member id that nobody gave", r)
		sync := s.beginTold("b", "the follower's sync", s.syncing(b))
		s.tell("a", "the group", s.describing(s.group))
		a.metadata = "new of a"
		join := s.beginTold("a", "the leader, with other metadata", s.joining(a))
		s.await(sync)
		s.untilState("PreparingRebalance", 2)
		s.tell("b", "the follower's sync", s.syncing(b))
		s.tell("b", "the follower's heartbeat", s.beating(b))
		s.await(join, s.beginTold("b", "the follower", s.joining(b)))
	})
	play("the protocol is the one with most votes among those that all have", joinGroup, func(s *scene) {
		a, b, c := newMember("a"), newMember("b"), newMember("c")
		a.protocols = []string{"only-a", "sticky", "range"}
		b.protocols = []string{"only-b", "range", "sticky"}
		c.protocols = []string{"range", "sticky"}
		s.first(a)
		s.settle(a)
		s.second(b, a)
		s.settle(a, b)
		join := s.beginJoin(c)
		join.what = "c"
		s.await(s.beginTold("a", "a", s.joining(a)), s.beginTold("b", "b", s.joining(b)), join)
	})
	play("a group that is full", joinGroup, func(s *scene) {
		a, b := s.pair()
		c := newMember("c")
		s.second(c, a, b)
		d := newMember("d")
		s.tell("d", "a member above group.max.size", s.joining(d))
		s.settle(a, b, c)
		s.tell("d", "a member above group.max.size when the group is stable", s.joining(d))
		r := s.joining(c)
		s.tell("c", "the last that found room, again", r)
		if s.v >= 5 {
			s.tell("d", "a static member above group.max.size", s.joining(static("d", "four")))
		}
		s.tell("c", "c leaves", s.leaving(c))
		s.untilState("PreparingRebalance", 2)
		answers := s.await(s.begin("a", s.joining(a)), s.begin("b", s.joining(b)))
		a.took(answers[0])
		b.took(answers[1])
		s.settle(a, b)
		s.second(d, a, b)
		s.settle(a, b, d)
		s.tell("d", "its heartbeat when there was room", s.beating(d))
	})
}
