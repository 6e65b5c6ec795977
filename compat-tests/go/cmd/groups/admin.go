package main

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func adminScenes() {
	play("finding the coordinator", findCoordinator, func(s *scene) {
		find := func(kind int8, keys ...string) *kmsg.FindCoordinatorRequest {
			r := kmsg.NewPtrFindCoordinatorRequest()
			r.CoordinatorType, r.CoordinatorKeys = kind, keys
			if len(keys) > 0 {
				r.CoordinatorKey = keys[0]
			}
			return r
		}
		s.tell("a", "of a group", find(0, s.group))
		s.tell("a", "of an empty group id", find(0, ""))
		s.tell("a", "of a group with an odd name", find(0, "a b/ü\x00"))
		if s.v >= 1 {
			s.tell("a", "an unknown kind", find(9, s.group))
			s.tell("a", "a negative kind", find(-1, s.group))
		}
		if s.v >= 4 {
			s.tell("a", "of several groups, one twice", find(0, s.named("one"), s.named("two"), s.named("one"), ""))
			s.tell("a", "of none", find(0))
		}
	})
	play("describing groups", describeGroups, func(s *scene) {
		s.tell("a", "unknown group", s.describing(s.group))
		s.tell("a", "group id empty", s.describing(""))
		s.tell("a", "none", s.describing())
		s.ask("a", s.committing(nil, s.at(0, 1, "")))
		s.tell("a", "a group that has offsets only", s.describing(s.group))
		pending := newMember("a")
		s.needsID(pending)
		s.tell("b", "a member that has only its id", s.describing(s.group))
		s.first(pending)
		s.tell("b", "the group awaits its assignment", s.describing(s.group))
		s.settle(pending)
		s.tell("b", "stable", s.describing(s.group))
		c := static("c", "three")
		join := s.beginJoin(c)
		s.tell("b", "preparing", s.describing(s.group))
		answers := s.await(s.begin("a", s.joining(pending)), join)
		pending.took(answers[0])
		c.took(answers[1])
		s.settle(pending, c)
		r := s.describing(s.group, s.named("unknown"), s.group)
		r.IncludeAuthorizedOperations = true
		s.tell("b", "several, one twice, and what may be done with them", r)
		s.ask("b", s.leaving(pending, c))
		s.tell("b", "when all have left", s.describing(s.group))
	})
	play("listing groups", listGroups, func(s *scene) {
		list := func(states, types []string) *kmsg.ListGroupsRequest {
			r := kmsg.NewPtrListGroupsRequest()
			r.StatesFilter, r.TypesFilter = states, types
			return r
		}
		named := func(label string) { s.group = s.named(label) }
		named("has-offsets")
		s.ask("a", s.committing(nil, s.at(0, 1, "")))
		named("stable")
		s.alone()
		named("left")
		left := s.alone()
		s.ask("a", s.leaving(left))
		named("awaits")
		s.first(newMember("a"))
		named("prepares")
		s.alone()
		join := s.beginJoin(newMember("b"))
		s.tell("a", "all", list(nil, nil))
		if s.v >= 4 {
			for _, state := range []string{"Stable", "stable", "Empty", "PreparingRebalance", "CompletingRebalance", "Dead", "Assigning", "nonsense", ""} {
				s.tell("a", "those in state "+state, list([]string{state}, nil))
			}
			s.tell("a", "those in two states", list([]string{"Stable", "Empty"}, nil))
		}
		if s.v >= 5 {
			for _, kind := range []string{"classic", "Classic", "consumer", "nonsense", ""} {
				s.tell("a", "those of type "+kind, list(nil, []string{kind}))
			}
			s.tell("a", "of state and type", list([]string{"Empty"}, []string{"classic"}))
		}
		_ = join // it waits until the scene closes its connection
	})
	play("deleting groups", deleteGroups, func(s *scene) {
		s.tell("a", "unknown group", s.deleting(s.group))
		s.tell("a", "group id empty", s.deleting(""))
		s.tell("a", "none", s.deleting())
		s.ask("a", s.committing(nil, s.at(0, 5, "")))
		s.tell("a", "a group that has offsets only, an unknown one, the first again", s.deleting(s.group, s.named("unknown"), s.group))
		s.tell("a", "the group", s.describing(s.group))
		s.tell("a", "its offsets", s.fetching(s.topic()))
		s.tell("a", "again", s.deleting(s.group))
		a := s.alone()
		s.ask("a", s.committing(a, s.at(0, 5, "")))
		s.tell("a", "a stable group", s.deleting(s.group))
		join := s.beginJoin(newMember("b"))
		s.tell("a", "a group that prepares", s.deleting(s.group))
		s.ask("a", s.leaving(a))
		b := newMember("b")
		b.took(s.await(join)[0])
		s.tell("a", "a group that awaits its assignment", s.deleting(s.group))
		s.ask("b", s.leaving(b))
		s.tell("a", "when all have left", s.deleting(s.group))
		s.tell("a", "the group", s.describing(s.group))
		s.tell("a", "its offsets", s.fetching(s.topic()))
		s.tell("a", "the heartbeat of one that was in it", s.beating(a))
		c := newMember("c")
		s.needsID(c)
		s.tell("c", "one joins a group of that name", s.joining(c))
	})
}
