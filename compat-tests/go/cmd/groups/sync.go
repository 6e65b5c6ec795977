package main

func syncScenes() {
	play("assignments", syncGroup, func(s *scene) {
		a, b := newMember("a"), newMember("b")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		follower := s.beginTold("b", "the follower waits", s.syncing(b))
		leader := s.beginTold("a", "the leader assigns to both and to nobody", s.syncing(a, a.id, "for a", b.id, "for b", "nobody", "for nobody"))
		s.await(leader, follower)
		s.tell("b", "the follower again", s.syncing(b))
		s.tell("a", "the leader again, with other assignments", s.syncing(a, a.id, "new for a", b.id, "new for b"))
		s.tell("b", "the follower again", s.syncing(b))
		s.tell("a", "the group", s.describing(s.group))

		s.part("the leader forgets the follower")
		a, b = newMember("a"), newMember("b")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		follower = s.beginTold("b", "the follower waits", s.syncing(b))
		s.await(s.beginTold("a", "the leader assigns to itself", s.syncing(a, a.id, "for a")), follower)

		s.part("the leader assigns nothing")
		a = newMember("a")
		s.first(a)
		s.tell("a", "the leader assigns nothing", s.syncing(a))
		s.untilState("Stable", 1)

		s.part("the follower assigns")
		a, b = newMember("a"), newMember("b")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		follower = s.beginTold("b", "the follower assigns", s.syncing(b, a.id, "by b", b.id, "by b"))
		s.await(s.beginTold("a", "the leader", s.syncing(a, a.id, "by a", b.id, "by a")), follower)
	})
	play("syncs refused", syncGroup, func(s *scene) {
		a := s.alone()
		r := s.syncing(a)
		r.Group = ""
		s.tell("a", "group id empty", r)
		r = s.syncing(a)
		r.Group = s.named("unknown")
		s.tell("a", "unknown group", r)
		r = s.syncing(a)
		r.MemberID = "nobody"
		s.tell("a", "unknown member", r)
		r = s.syncing(a)
		r.MemberID = ""
		s.tell("a", "member id empty", r)
		for _, generation := range []int32{0, 2, -1} {
			r = s.syncing(a)
			r.Generation = generation
			s.tell("a", "generation wrong", r)
		}
		r = s.syncing(a)
		r.MemberID, r.Generation = "nobody", 7
		s.tell("a", "unknown member and generation wrong", r)
		r = s.syncing(a)
		r.ProtocolType = text("of another type")
		s.tell("a", "another protocol type", r)
		r = s.syncing(a)
		r.Protocol = text("sticky")
		s.tell("a", "another protocol", r)
		r = s.syncing(a)
		r.Protocol, r.ProtocolType = nil, nil
		s.tell("a", "protocol and type null", r)
		b := newMember("b")
		join := s.beginJoin(b)
		s.tell("a", "the group prepares", s.syncing(a))
		next := *a
		next.generation = 2
		s.tell("a", "the group prepares, generation wrong", s.syncing(&next))
		answer := s.await(s.begin("a", s.joining(a)), join)
		a.took(answer[0])
		b.took(answer[1])
		old := *a
		old.generation = 1
		s.tell("a", "the group awaits its assignment, of the old generation", s.syncing(&old, a.id, "x", b.id, "x"))
		s.settle(a, b)

		s.part("a group that has offsets only")
		s.ask("a", s.committing(nil, s.at(0, 1, "")))
		s.tell("a", "a group without members", s.syncing(a))
	})
	play("heartbeats", heartbeat, func(s *scene) {
		a := newMember("a")
		s.first(a)
		s.tell("a", "the group awaits its assignment", s.beating(a))
		s.settle(a)
		s.tell("a", "the group is stable", s.beating(a))
		r := s.beating(a)
		r.Group = ""
		s.tell("a", "group id empty", r)
		r = s.beating(a)
		r.Group = s.named("unknown")
		s.tell("a", "unknown group", r)
		r = s.beating(a)
		r.MemberID = "nobody"
		s.tell("a", "unknown member", r)
		r = s.beating(a)
		r.MemberID = ""
		s.tell("a", "member id empty", r)
		for _, generation := range []int32{0, 2, -1} {
			r = s.beating(a)
			r.Generation = generation
			s.tell("a", "generation wrong", r)
		}
		r = s.beating(a)
		r.MemberID, r.Generation = "nobody", 7
		s.tell("a", "unknown member and generation wrong", r)
		b := newMember("b")
		join := s.beginJoin(b)
		s.tell("a", "the group prepares", s.beating(a))
		r = s.beating(a)
		r.Generation = 0
		s.tell("a", "the group prepares, generation wrong", r)
		s.tell("b2", "the group prepares, one that waits", s.beating(b))
		answers := s.await(s.begin("a", s.joining(a)), join)
		a.took(answers[0])
		b.took(answers[1])
		s.tell("b", "the group awaits its assignment", s.beating(b))
		s.settle(a, b)

		s.part("a member that has only its id")
		c := newMember("c")
		s.needsID(c)
		s.tell("c", "generation -1", s.beating(c))
		c.generation = 0
		s.tell("c", "generation 0", s.beating(c))

		s.part("a group that has offsets only")
		s.ask("a", s.committing(nil, s.at(0, 1, "")))
		s.tell("a", "a group without members", s.beating(a))
		a.generation = -1
		s.tell("a", "a group without members, generation -1", s.beating(a))
	})
}
