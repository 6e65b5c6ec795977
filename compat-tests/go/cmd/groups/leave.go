package main

import "github.com/twmb/franz-go/pkg/kmsg"

func leaveScenes() {
	play("leaving", leaveGroup, func(s *scene) {
		a, b := s.pair()
		s.tell("b", "the follower leaves", s.leaving(b))
		s.tell("a", "the leader's heartbeat", s.beating(a))
		s.tell("b", "the follower leaves again", s.leaving(b))
		a.took(s.await(s.begin("a", s.joining(a)))[0])
		s.settle(a)
		s.tell("a", "the group", s.describing(s.group))
		s.tell("a", "the last leaves", s.leaving(a))
		s.tell("a", "the group", s.describing(s.group))
		s.tell("a", "the last leaves again", s.leaving(a))
		s.tell("a", "its heartbeat", s.beating(a))
		again := newMember("a")
		s.needsID(again)
		again.took(s.tell("a", "one joins the empty group", s.joining(again)))
	})
	play("the leader leaves", leaveGroup, func(s *scene) {
		a, b := s.pair()
		s.tell("a", "the leader leaves", s.leaving(a))
		s.tell("b", "the follower's heartbeat", s.beating(b))
		s.tell("b", "the follower joins", s.joining(b))
	})
	play("leaving while the group prepares", leaveGroup, func(s *scene) {
		a, b := s.alone(), newMember("b")
		join := s.beginJoin(b)
		join.what = "b joins"
		s.tell("a", "the leader leaves", s.leaving(a))
		b.took(s.await(join)[0])
		s.tell("b", "the group", s.describing(s.group))
	})
	play("leaving while the group awaits its assignment", leaveGroup, func(s *scene) {
		a, b := newMember("a"), newMember("b")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		sync := s.beginTold("b", "the follower's sync", s.syncing(b))
		s.tell("a", "the leader leaves", s.leaving(a))
		s.await(sync)
		s.tell("b", "the follower joins", s.joining(b))
	})
	play("leaves refused", leaveGroup, func(s *scene) {
		a := s.alone()
		r := s.leaving(a)
		r.Group = ""
		s.tell("a", "group id empty", r)
		r = s.leaving(a)
		r.Group = s.named("unknown")
		s.tell("a", "unknown group", r)
		nobody := newMember("n")
		nobody.id = "nobody"
		s.tell("a", "unknown member", s.leaving(nobody))
		nobody.id = ""
		s.tell("a", "member id empty", s.leaving(nobody))
		s.tell("a", "the member's heartbeat", s.beating(a))
	})
	play("leaving with only an id", leaveGroup, func(s *scene) {
		c := newMember("c")
		s.needsID(c)
		s.tell("c", "it leaves", s.leaving(c))
		s.tell("c", "it joins then", s.joining(c))
	})
	playFrom("several leave at once", leaveGroup, 3, func(s *scene) {
		a, b := s.pair()
		c := static("c", "three")
		s.second(c, a, b)
		s.settle(a, b, c)
		nobody := newMember("n")
		nobody.id = "nobody"
		byInstance := static("c", "three")
		unknown := static("c", "unknown")
		fenced := static("c", "three")
		fenced.id = "nobody"
		s.tell("a", "unknown id, unknown instance, an instance with another's id", s.leaving(nobody, unknown, fenced))
		s.tell("a", "the leader's heartbeat", s.beating(a))
		s.tell("a", "two twice and one by instance", s.leaving(b, b, byInstance, c, a, nobody))
		s.tell("a", "the group", s.describing(s.group))
		r := s.leaving(a)
		r.Members = nil
		s.tell("a", "nobody leaves", r)
		r = s.leaving(a)
		r.Members, r.Group = nil, s.named("unknown")
		s.tell("a", "nobody leaves an unknown group", r)
		r = s.leaving(a, b)
		r.Group = s.named("unknown")
		s.tell("a", "two leave an unknown group", r)
	})
	playFrom("a static member is removed", leaveGroup, 3, func(s *scene) {
		a, c := newMember("a"), static("c", "three")
		s.first(a)
		s.settle(a)
		s.second(c, a)
		s.settle(a, c)
		s.tell("a", "by instance", s.leaving(static("x", "three")))
		s.tell("c", "its heartbeat", s.beating(c))
		s.tell("a", "the other's heartbeat", s.beating(a))
		s.tell("c", "its sync", s.syncing(c))
		s.tell("c", "its commit", s.committing(c, s.at(0, 1, "")))
		r := s.joining(c)
		s.tell("c", "it joins with its id", r)
		p := s.beginTold("c", "it joins without", func() kmsg.Request { c.id = ""; return s.joining(c) }())
		s.untilState("PreparingRebalance", 2)
		s.await(s.beginTold("a", "the other joins", s.joining(a)), p)
	})
}
