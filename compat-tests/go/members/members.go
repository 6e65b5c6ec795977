// Package members watches members of a consumer group that run in processes of their own, so that they can die.
//
// A member is this program started again with the environment variable MEMBER, its settings as JSON. It prints what
// happens to it: `assigned` and `revoked` with partitions and the time, and the value of each record. SIGTERM has it leave.
package members

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	. "raftsman/compat/checks"
)

// Settings say what a member does.
type Settings struct {
	Group, Topic, Strategy, Instance string
	SessionMillis                    int
}

// Mine gives the settings when this process is a member.
func Mine() (settings Settings, ok bool) {
	text, ok := os.LookupEnv("MEMBER")
	if ok {
		OK(json.Unmarshal([]byte(text), &settings))
	}
	return settings, ok
}

// An event as a member prints it.
type event struct {
	Kind       string
	Partitions []int32
	Generation int32
	Value      string
	At         time.Time
}

var printing sync.Mutex

func say(e event) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Println(string(Must(json.Marshal(e))))
}

// Assigned is called by a member with what it owns from now on besides what it had.
func Assigned(partitions []int32, generation int32) {
	say(event{Kind: "assigned", Partitions: partitions, Generation: generation, At: time.Now()})
}

// Revoked is called by a member with what it no longer owns.
func Revoked(partitions []int32) {
	say(event{Kind: "revoked", Partitions: partitions, At: time.Now()})
}

// Value is called by a member with each record's value.
func Value(value string) { say(event{Kind: "value", Value: value}) }

type span struct {
	partition  int32
	start, end time.Time
}

// A Member as its parent sees it.
type Member struct {
	process *exec.Cmd
	done    chan struct{}
	lock    sync.Mutex
	owned   map[int32]time.Time
	spans   []span
	values  map[string]bool
	// generation and partition of every assignment
	assigned    map[[2]int32]bool
	assignments int
	ended       bool
}

// Start starts one.
func Start(settings Settings) *Member {
	if settings.SessionMillis == 0 {
		settings.SessionMillis = 3000
	}
	m := &Member{done: make(chan struct{}), owned: map[int32]time.Time{}, values: map[string]bool{}, assigned: map[[2]int32]bool{}}
	m.process = exec.Command(os.Args[0])
	m.process.Env = append(os.Environ(), "MEMBER="+string(Must(json.Marshal(settings))))
	m.process.Stderr = os.Stderr
	out := Must(m.process.StdoutPipe())
	OK(m.process.Start())
	go func() {
		defer close(m.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				m.take(e)
			}
		}
	}()
	return m
}

func (m *Member) take(e event) {
	m.lock.Lock()
	defer m.lock.Unlock()
	switch e.Kind {
	case "assigned":
		m.assignments++
		for _, partition := range e.Partitions {
			m.owned[partition] = e.At
			m.assigned[[2]int32{e.Generation, partition}] = true
		}
	case "revoked":
		m.lose(e.Partitions, e.At)
	case "value":
		m.values[e.Value] = true
	}
}

func (m *Member) lose(partitions []int32, at time.Time) {
	for _, partition := range partitions {
		if start, ok := m.owned[partition]; ok {
			m.spans = append(m.spans, span{partition, start, at})
			delete(m.owned, partition)
		}
	}
}

// Leave ends it as it should be.
func (m *Member) Leave() { m.end(syscall.SIGTERM) }

// Die ends it without a word.
func (m *Member) Die() { m.end(syscall.SIGKILL) }

func (m *Member) end(how syscall.Signal) {
	if m.ended {
		return
	}
	m.ended = true
	m.process.Process.Signal(how)
	select {
	case <-m.done:
	case <-time.After(Limit):
		m.process.Process.Kill()
		<-m.done
		Fail("a member did not end within %v", Limit)
	}
	m.process.Wait()
	m.lock.Lock()
	defer m.lock.Unlock()
	var all []int32
	for partition := range m.owned {
		all = append(all, partition)
	}
	m.lose(all, time.Now())
}

// Owned gives the partitions it has now.
func (m *Member) Owned() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	owned := []int32{}
	for partition := range m.owned {
		owned = append(owned, partition)
	}
	slices.Sort(owned)
	return owned
}

// Assignments says how often it was assigned something.
func (m *Member) Assignments() int {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.assignments
}

// Has says whether it read all these values.
func (m *Member) Has(values []string) bool { return All([]*Member{m}, values) }

// All says whether these members together read all these values.
func All(members []*Member, values []string) bool {
	return !slices.ContainsFunc(values, func(value string) bool {
		return !slices.ContainsFunc(members, func(m *Member) bool {
			m.lock.Lock()
			defer m.lock.Unlock()
			return m.values[value]
		})
	})
}

// Share says whether these members own that many partitions among them, and each some.
func Share(partitions int, members ...*Member) bool {
	seen := map[int32]bool{}
	count := 0
	for _, m := range members {
		owned := m.Owned()
		if len(owned) == 0 {
			return false
		}
		for _, partition := range owned {
			seen[partition] = true
			count++
		}
	}
	return len(seen) == partitions && count == partitions
}

// NeverShared fails the check if a partition had two owners at a time, or two in one generation. Only for members that
// have ended.
func NeverShared(members []*Member) {
	var spans []span
	owners := map[[2]int32]int{}
	for i, m := range members {
		That(m.ended, "a member runs still")
		spans = append(spans, m.spans...)
		for key := range m.assigned {
			if other, ok := owners[key]; ok && other != i && key[0] >= 0 {
				Fail("partition %d had two owners in generation %d", key[1], key[0])
			}
			owners[key] = i
		}
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.partition != b.partition {
			return int(a.partition - b.partition)
		}
		return a.start.Compare(b.start)
	})
	for i := 1; i < len(spans); i++ {
		before, after := spans[i-1], spans[i]
		if before.partition == after.partition && after.start.Before(before.end) {
			Fail("partition %d had two owners for %v", after.partition, before.end.Sub(after.start))
		}
	}
}

// ComeAndGo is the life of a group: one, two, three members, one leaves, one dies; records are produced all the while by
// `send`, which gives their values. Every record must be read, and no partition be shared.
func ComeAndGo(partitions int, settings Settings, send func(from, to int)) {
	sent := 0
	produce := func() {
		send(sent, sent+300)
		sent += 300
	}
	produce()
	first := Start(settings)
	all := []*Member{first}
	defer func() {
		for _, m := range all {
			m.Leave()
		}
	}()
	Until("the first owns all", func() bool { return Share(partitions, first) })
	produce()
	second := Start(settings)
	all = append(all, second)
	Until("two share", func() bool { return Share(partitions, first, second) })
	produce()
	third := Start(settings)
	all = append(all, third)
	Until("three share", func() bool { return Share(partitions, first, second, third) })
	produce()
	second.Leave()
	Until("two share when one has left", func() bool { return Share(partitions, first, third) })
	produce()
	third.Die()
	Until("the first owns all when one has died", func() bool { return Share(partitions, first) })
	produce()
	Until("every record was read", func() bool { return All(all, Numbers(0, sent)) })
	first.Leave()
	NeverShared(all)
}

// ComeBack is a group of two static members, `one` and `two`, of which the second dies and comes back within its session:
// it gets what it had, and nothing happens to the first. Goes on with both, and ends them.
func ComeBack(partitions int, settings Settings, then func(first, second *Member)) {
	start := func(instance string) *Member {
		settings.Instance = instance
		return Start(settings)
	}
	first, second := start("one"), start("two")
	defer func() { first.Leave(); second.Leave() }()
	Until("two share", func() bool { return Share(partitions, first, second) })
	owned, count := second.Owned(), first.Assignments()
	second.Die()
	second = start("two")
	Until("it has what it had", func() bool { return slices.Equal(owned, second.Owned()) })
	Same(count, first.Assignments(), "assignments of the other")
	then(first, second)
}
