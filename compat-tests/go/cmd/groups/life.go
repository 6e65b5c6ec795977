package main

import (
	"fmt"
	"time"

	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

func lifeScenes() {
	play("a member that falls silent", noAPI, func(s *scene) {
		a, b := newMember("a"), newMember("b")
		b.session = 1000
		s.first(a)
		s.settle(a)
		s.second(b, a)
		s.settle(a, b)
		s.untilState("PreparingRebalance", 1)
		s.tell("a", "the other's heartbeat", s.beating(a))
		s.tell("b", "its heartbeat", s.beating(b))
		s.tell("b", "its commit", s.committing(b, s.at(0, 1, "")))
		s.tell("b", "its sync", s.syncing(b))
		s.tell("b", "it joins with its id", s.joining(b))
		s.tell("a", "the other joins", s.joining(a))
	})
	play("heartbeats, commits and syncs keep a member", noAPI, func(s *scene) {
		a := newMember("a")
		a.session = 1000
		s.first(a)
		s.settle(a)
		for i := range 24 {
			time.Sleep(100 * time.Millisecond) // two and a half sessions; time itself is the subject here
			switch i % 3 {
			case 0:
				s.ask("a", s.beating(a))
			case 1:
				s.ask("a", s.committing(a, s.at(0, 1, "")))
			default:
				s.ask("a", s.syncing(a))
			}
		}
		s.tell("a", "its heartbeat", s.beating(a))
		s.untilState("Empty", 0)
		s.tell("a", "the group when it falls silent", s.describing(s.group))
		s.tell("a", "its heartbeat then", s.beating(a))
	})
	play("a member that beats and does not join again", noAPI, func(s *scene) {
		a, b := newMember("a"), newMember("b")
		a.rebalance, b.rebalance = 1500, 1500
		s.first(a)
		s.settle(a)
		join := s.beginJoin(b)
		join.what = "b joins, and leads when a is given up"
		s.tell("a", "a's heartbeat", s.beating(a))
		b.took(s.await(join)[0])
		s.tell("a", "a's heartbeat", s.beating(a))
		s.tell("a", "the group", s.describing(s.group))
	})
	play("a leader that does not assign", noAPI, func(s *scene) {
		a, b := newMember("a"), newMember("b")
		a.rebalance, b.rebalance = 2000, 2000
		s.first(a)
		s.settle(a)
		s.second(b, a)
		sync := s.beginTold("b", "the follower's sync", s.syncing(b))
		s.await(sync)
		s.tell("a", "the leader's heartbeat", s.beating(a))
		s.tell("b", "the follower's heartbeat", s.beating(b))
		s.tell("b", "the group", s.describing(s.group))
		s.tell("b", "the follower joins", s.joining(b))
	})
	play("a member that got its id and does not come", noAPI, func(s *scene) {
		a := newMember("a")
		a.session = 1000
		s.needsID(a)
		time.Sleep(1500 * time.Millisecond)
		s.tell("a", "it joins too late", s.joining(a))
		s.tell("a", "the group", s.describing(s.group))
	})
	play("a follower that got its id holds the group up until it comes or its session ends", noAPI, func(s *scene) {
		a, b := s.pair()
		c := newMember("c")
		c.session = 1000
		s.needsID(c)
		s.tell("a", "the group", s.describing(s.group))
		b.metadata = "new of b"
		join := s.begin("b", s.joining(b))
		s.untilState("PreparingRebalance", -1)
		answers := s.await(s.begin("a", s.joining(a)), join)
		a.took(answers[0])
		b.took(answers[1])
		s.tell("c", "c joins too late", s.joining(c))
		s.settle(a, b)
		s.tell("a", "the group", s.describing(s.group))
	})
	play("generations go on when a group was empty", noAPI, func(s *scene) {
		for range 3 {
			a := s.alone()
			s.say("generation %d", a.generation)
			s.tell("a", "it leaves", s.leaving(a))
		}
		s.tell("a", "the group", s.describing(s.group))
		a := newMember("a")
		r := s.joining(a)
		r.ProtocolType = "of another type"
		if answer, err := s.ask("a", r); err == nil {
			r.MemberID = a.took(answer).MemberID
			s.learn(a.id)
		}
		s.tell("a", "one of another protocol type joins the empty group", r)
	})
	play("a static member that is away shorter than its session", noAPI, func(s *scene) {
		a, b := static("a", "one"), static("b", "two")
		b.session = 3000
		s.first(a)
		s.settle(a)
		s.second(b, a)
		s.settle(a, b)
		time.Sleep(1500 * time.Millisecond) // half of the session
		back := *b
		back.id = ""
		back.took(s.tell("b", "it comes back", s.joining(&back)))
		time.Sleep(2 * time.Second) // the session of the one it replaced is over, its own is not
		s.tell("b", "its heartbeat when the first session would be over", s.beating(&back))
		s.tell("a", "the leader's heartbeat", s.beating(a))
	})
}

// restartScenes come last, as they end the broker.
func restartScenes(list *List) {
	// What all versions share, and other scenes would find: alone.
	list.Add("a group whose id is empty", func() error {
		s := newScene(definition{key: noAPI}, -1)
		defer s.close()
		s.group = ""
		s.tell("a", "its offsets", s.fetching(s.topic()))
		s.tell("a", "a commit of nobody", s.committing(nil, s.at(0, 5, "")))
		s.tell("a", "its offsets", s.fetching(s.topic()))
		s.tell("a", "the group", s.describing(""))
		m := newMember("m")
		m.id, m.generation = "nobody", 1
		s.tell("a", "a commit of somebody", s.committing(m, s.at(0, 6, "")))
		s.tell("a", "it is deleted", s.deleting(""))
		s.tell("a", "the group", s.describing(""))
		return compared("a group whose id is empty", -1, s.text.String())
	})
	for _, how := range []string{"stop", "kill"} {
		list.Add("groups after a restart ("+how+")", func() error {
			s := newScene(definition{key: noAPI}, -1)
			defer func() { s.close() }()
			a, b := s.pair()
			leader := s.at(0, 5, "of a")
			leader.epoch = 2
			s.tell("a", "a commits", s.committing(a, leader))
			s.tell("b", "b commits", s.committing(b, s.at(1, 6, "of b")))
			stable := s.group
			s.group = s.named("static")
			one := static("one", "one")
			s.first(one)
			s.settle(one)
			s.group = s.named("empty")
			left := s.alone()
			s.ask("a", s.committing(left, s.at(0, 7, "left")))
			s.ask("a", s.leaving(left))
			s.group = s.named("awaits")
			waiting := newMember("w")
			s.first(waiting)
			s.group = s.named("deleted")
			s.ask("a", s.committing(nil, s.at(0, 8, "")))
			s.ask("a", s.deleting(s.group))

			Restart(how)
			s.close()
			s.actors = map[string]*wire.Connection{}
			ready()

			s.group = stable
			s.say("== %s", "a stable group of two")
			s.tell("a", "the group", s.describing(s.group))
			s.tell("a", "its offsets", s.fetching(s.topic()))
			s.tell("a", "a's heartbeat", s.beating(a))
			s.tell("b", "b's heartbeat", s.beating(b))
			s.tell("b", "b's sync", s.syncing(b))
			s.tell("b", "b commits", s.committing(b, s.at(1, 7, "of b again")))
			c := newMember("c")
			join := s.beginJoin(c)
			join.what = "c joins"
			s.await(s.beginTold("a", "a joins", s.joining(a)), s.beginTold("b", "b joins", s.joining(b)), join)
			s.say("== %s", "a static member")
			s.group = s.prefix + "static"
			back := static("one", "one")
			back.metadata = one.metadata
			back.took(s.tell("one", "it joins without its id", s.joining(back)))
			s.tell("one", "its sync", s.syncing(back))
			s.say("== %s", "a group that all have left")
			s.group = s.prefix + "empty"
			s.tell("a", "the group", s.describing(s.group))
			s.tell("a", "its offsets", s.fetching(s.topic()))
			s.say("== %s", "a group that had never been stable")
			s.group = s.prefix + "awaits"
			s.tell("w", "the group", s.describing(s.group))
			s.tell("w", "its heartbeat", s.beating(waiting))
			s.say("== %s", "a deleted group")
			s.group = s.prefix + "deleted"
			s.tell("a", "the group", s.describing(s.group))
			return compared(fmt.Sprintf("groups after a restart %s", how), -1, s.text.String())
		})
	}
}
