package main

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
)

// A member as a client knows itself.
type member struct {
	actor     string
	id        string
	instance  *string
	protocols []string
	// what it says with its protocols
	metadata   string
	session    int32
	rebalance  int32
	generation int32
	// the protocol that the group chose
	protocol string
}

func newMember(actor string) *member {
	return &member{actor: actor, protocols: []string{"range", "sticky"}, metadata: "of " + actor, session: 60_000, rebalance: 60_000, generation: -1}
}

func static(actor, instance string) *member {
	m := newMember(actor)
	m.instance = &instance
	return m
}

const protocolType = "test"

func text(given string) *string { return &given }

func (s *scene) joining(m *member) *kmsg.JoinGroupRequest {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.MemberID, r.InstanceID = s.group, m.id, m.instance
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = m.session, m.rebalance
	r.ProtocolType = protocolType
	for _, each := range m.protocols {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = each, []byte(m.metadata)
		r.Protocols = append(r.Protocols, p)
	}
	return r
}

func (s *scene) syncing(m *member, assigned ...string) *kmsg.SyncGroupRequest {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = s.group, m.id, m.instance, m.generation
	r.ProtocolType, r.Protocol = text(protocolType), &m.protocol
	for i := 0; i < len(assigned); i += 2 {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = assigned[i], []byte(assigned[i+1])
		r.GroupAssignment = append(r.GroupAssignment, a)
	}
	return r
}

func (s *scene) beating(m *member) *kmsg.HeartbeatRequest {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = s.group, m.id, m.instance, m.generation
	return r
}

func (s *scene) leaving(all ...*member) *kmsg.LeaveGroupRequest {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group, r.MemberID = s.group, all[0].id
	for _, m := range all {
		each := kmsg.NewLeaveGroupRequestMember()
		each.MemberID, each.InstanceID = m.id, m.instance
		r.Members = append(r.Members, each)
	}
	return r
}

type position struct {
	topic     string
	partition int32
	offset    int64
	epoch     int32
	metadata  *string
}

func (s *scene) at(partition int32, offset int64, metadata string) position {
	return position{s.topic(), partition, offset, -1, &metadata}
}

// committing is a commit of nobody (generation -1, no member id), as admin clients and consumers without
// subscription send it, unless a member is given.
func (s *scene) committing(m *member, all ...position) *kmsg.OffsetCommitRequest {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group, r.Generation = s.group, -1
	if m != nil {
		r.Generation, r.MemberID, r.InstanceID = m.generation, m.id, m.instance
	}
	for _, each := range all {
		if len(r.Topics) == 0 || r.Topics[len(r.Topics)-1].Topic != each.topic {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = each.topic, idOf(each.topic)
			r.Topics = append(r.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = each.partition, each.offset, each.epoch, each.metadata
		t := &r.Topics[len(r.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	return r
}

// fetching asks for one group's offsets: all of them without a topic.
func (s *scene) fetching(topics ...string) *kmsg.OffsetFetchRequest {
	r := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	r.Group, g.Group = s.group, s.group
	for _, each := range topics {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = each, []int32{0, 1}
		r.Topics = append(r.Topics, t)
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.TopicID, gt.Partitions = each, idOf(each), []int32{0, 1}
		g.Topics = append(g.Topics, gt)
	}
	r.Groups = append(r.Groups, g)
	return r
}

func (s *scene) describing(groups ...string) *kmsg.DescribeGroupsRequest {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Groups = groups
	return r
}

func (s *scene) deleting(groups ...string) *kmsg.DeleteGroupsRequest {
	r := kmsg.NewPtrDeleteGroupsRequest()
	r.Groups = groups
	return r
}

// took keeps what a join's answer says about the member.
func (m *member) took(answer kmsg.Response) *kmsg.JoinGroupResponse {
	r := answer.(*kmsg.JoinGroupResponse)
	m.id, m.generation = r.MemberID, r.Generation
	if r.Protocol != nil {
		m.protocol = *r.Protocol
	}
	return r
}

// needsID gives the member the id that it must have before it joins, where the version demands one.
func (s *scene) needsID(m *member) {
	if m.id == "" && m.instance == nil && s.versions[joinGroup] >= 4 {
		r := m.took(Must(s.ask(m.actor, s.joining(m))))
		Same(kerr.MemberIDRequired.Code, r.ErrorCode, "error of a first join")
		s.learn(m.id)
	}
}

// first makes the member the leader of an empty group, which then waits for its assignment. Silently.
func (s *scene) first(m *member) {
	s.needsID(m)
	r := m.took(Must(s.ask(m.actor, s.joining(m))))
	Same(int16(0), r.ErrorCode, "error of a join")
	s.learn(m.id)
}

// beginJoin begins to join a group that has members, so that it prepares to rebalance. Silently.
func (s *scene) beginJoin(m *member) *pending {
	s.needsID(m)
	_, count := s.state()
	p := s.begin(m.actor, s.joining(m))
	s.untilState("PreparingRebalance", count+1)
	return p
}

// second has the member join beside the others, who all join again. Silently.
func (s *scene) second(m *member, others ...*member) {
	joins := []*pending{}
	p := s.beginJoin(m)
	for _, each := range others {
		joins = append(joins, s.begin(each.actor, s.joining(each)))
	}
	for i, each := range append(slicesClone(others), m) {
		join := p
		if i < len(joins) {
			join = joins[i]
		}
		r := each.took(Must(join.end()))
		Same(int16(0), r.ErrorCode, "error of a join")
		s.learn(each.id)
	}
}

func slicesClone(all []*member) []*member { return append([]*member(nil), all...) }

// settle hands out assignments; the first is the leader. Silently.
func (s *scene) settle(all ...*member) {
	var assigned []string
	for _, each := range all {
		assigned = append(assigned, each.id, "for "+each.actor)
	}
	for i, each := range all {
		if i > 0 {
			assigned = nil
		}
		r := Must(s.ask(each.actor, s.syncing(each, assigned...))).(*kmsg.SyncGroupResponse)
		Same(int16(0), r.ErrorCode, "error of a sync")
		Same("for "+each.actor, string(r.MemberAssignment), "assignment")
	}
}

// alone is a stable group of one.
func (s *scene) alone() *member {
	a := newMember("a")
	s.first(a)
	s.settle(a)
	return a
}

// pair is a stable group of two in its second generation; a leads.
func (s *scene) pair() (*member, *member) {
	a, b := newMember("a"), newMember("b")
	s.first(a)
	s.settle(a)
	s.second(b, a)
	s.settle(a, b)
	return a, b
}
