package main

func staticScenes() {
	// a stable group of two static members in its second generation
	two := func(s *scene) (*member, *member) {
		a, b := static("a", "one"), static("b", "two")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		s.settle(a, b)
		return a, b
	}
	playFrom("static members join", joinGroup, 5, func(s *scene) {
		a, b := static("a", "one"), static("b", "two")
		a.took(s.tell("a", "a joins", s.joining(a)))
		s.settle(a)
		join := s.beginJoin(b)
		join.what = "b joins"
		answers := s.await(s.beginTold("a", "a joins again", s.joining(a)), join)
		a.took(answers[0])
		b.took(answers[1])
		s.settle(a, b)
		s.tell("a", "the group", s.describing(s.group))
	})
	playFrom("a static follower comes back", joinGroup, 5, func(s *scene) {
		a, b := two(s)
		back := static("b", "two")
		back.metadata = b.metadata
		back.took(s.tell("b", "it joins without its id", s.joining(back)))
		s.tell("a", "the leader's heartbeat", s.beating(a))
		s.tell("b", "its sync", s.syncing(back))
		s.tell("a", "the group", s.describing(s.group))
		s.tell("b2", "the heartbeat of the one that it replaced", s.beating(b))
		s.tell("b2", "the sync of the one that it replaced", s.syncing(b))
		s.tell("b2", "the join of the one that it replaced", s.joining(b))
		s.tell("b2", "the commit of the one that it replaced", s.committing(b, s.at(0, 5, "m")))
		s.tell("b2", "the leave of the one that it replaced", s.leaving(b))
		s.tell("b", "its own heartbeat", s.beating(back))
		s.tell("b", "it joins with its id", s.joining(back))
		s.tell("b", "its commit", s.committing(back, s.at(0, 6, "m")))
	})
	playFrom("a static leader comes back", joinGroup, 5, func(s *scene) {
		a, b := two(s)
		back := static("a", "one")
		back.metadata = a.metadata
		back.took(s.tell("a", "it joins without its id", s.joining(back)))
		s.tell("b", "the follower's heartbeat", s.beating(b))
		s.tell("a", "its sync", s.syncing(back))
		s.tell("a", "the group", s.describing(s.group))
		s.tell("a2", "the heartbeat of the one that it replaced", s.beating(a))
	})
	playFrom("a static follower comes back with other metadata", joinGroup, 5, func(s *scene) {
		a, _ := two(s)
		back := static("b", "two")
		back.metadata = "new of b"
		back.took(s.tell("b", "it joins without its id", s.joining(back)))
		s.tell("a", "the leader's heartbeat", s.beating(a))
		s.tell("b", "the group", s.describing(s.group))
		join := s.beginTold("a", "the leader joins", s.joining(a))
		s.untilState("PreparingRebalance", 2)
		s.await(join, s.beginTold("b", "it joins with its new id", s.joining(back)))
	})
	playFrom("a static follower comes back without the protocol that was chosen", joinGroup, 5, func(s *scene) {
		a, b := static("a", "one"), static("b", "two")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		s.settle(a, b)
		back := static("b", "two")
		back.protocols = []string{"sticky"}
		join := s.beginTold("b", "it joins without its id", s.joining(back))
		s.untilState("PreparingRebalance", 2)
		s.await(s.beginTold("a", "the leader joins", s.joining(a)), join)
	})
	playFrom("a static member comes back while the group awaits its assignment", joinGroup, 5, func(s *scene) {
		a, b := static("a", "one"), static("b", "two")
		s.first(a)
		s.settle(a)
		s.second(b, a)
		back := static("b2", "two")
		back.metadata = b.metadata
		join := s.beginTold("b2", "the follower joins without its id", s.joining(back))
		s.untilState("PreparingRebalance", 2)
		s.tell("b", "the sync of the one that it replaced", s.syncing(b))
		s.await(s.beginTold("a", "the leader joins", s.joining(a)), join)
	})
	playFrom("a static member comes back while the group prepares", joinGroup, 5, func(s *scene) {
		a, b := two(s)
		c := static("c", "three")
		old := s.beginJoin(c)
		old.what = "the join of the one that is replaced"
		again := s.beginTold("c2", "c joins without its id again", s.joining(c))
		s.await(old)
		s.await(s.beginTold("a", "the leader joins", s.joining(a)), s.beginTold("b", "the follower joins", s.joining(b)), again)
	})
	playFrom("static members and ids that do not belong together", joinGroup, 5, func(s *scene) {
		a, b := two(s)
		r := s.joining(static("x", "unknown"))
		r.MemberID = "nobody"
		s.tell("x", "join: unknown instance with an unknown id", r)
		r = s.joining(static("x", "unknown"))
		r.MemberID = a.id
		s.tell("x", "join: unknown instance with a known id", r)
		r = s.joining(static("x", "one"))
		r.MemberID = b.id
		s.tell("x", "join: a's instance with b's id", r)
		r = s.joining(static("x", "one"))
		r.MemberID = "nobody"
		s.tell("x", "join: a's instance with an unknown id", r)
		without := newMember("x")
		without.id, without.metadata = b.id, b.metadata
		s.tell("x", "join: b's id without its instance", s.joining(without))
		crossed := *a
		crossed.id = b.id
		s.tell("x", "heartbeat: a's instance with b's id", s.beating(&crossed))
		s.tell("x", "sync: a's instance with b's id", s.syncing(&crossed))
		s.tell("x", "commit: a's instance with b's id", s.committing(&crossed, s.at(0, 1, "m")))
		strange := *a
		strange.instance = text("unknown")
		s.tell("x", "heartbeat: unknown instance with a's id", s.beating(&strange))
		s.tell("x", "sync: unknown instance with a's id", s.syncing(&strange))
		s.tell("x", "commit: unknown instance with a's id", s.committing(&strange, s.at(0, 1, "m")))
		old := *a
		old.generation = 1
		s.tell("x", "heartbeat: old generation", s.beating(&old))
		s.tell("x", "commit: old generation", s.committing(&old, s.at(0, 1, "m")))
		old.id = "nobody"
		s.tell("x", "heartbeat: old generation and wrong id", s.beating(&old))
	})
}
