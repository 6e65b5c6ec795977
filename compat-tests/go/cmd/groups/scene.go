package main

import (
	"fmt"
	"maps"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

// A scene is one conversation of named actors, each on its own connection, with the coordinator about a group of its
// own, and the text of its answers.
type scene struct {
	text strings.Builder
	// the version under test, -1 when none is
	v        int16
	versions map[int16]int16
	group    string
	prefix   string
	// what stands in the text in place of what differs from run to run
	names  map[string]string
	actors map[string]*wire.Connection
}

var scenes atomic.Int32

// What helpers speak when the API is not the one under test: the newest that names topics by name.
var usual = map[int16]int16{
	offsetCommit: 9, offsetFetch: 7, findCoordinator: 3, joinGroup: 9, heartbeat: 4, leaveGroup: 5, syncGroup: 5,
	describeGroups: 5, listGroups: 5, deleteGroups: 2, offsetDelete: 0, 3: 12, 19: 7,
}

func newScene(d definition, version int16) *scene {
	s := &scene{v: version, versions: maps.Clone(usual), names: map[string]string{}, actors: map[string]*wire.Connection{}}
	s.prefix = fmt.Sprintf("wire-%s-%d-", run, scenes.Add(1))
	s.group = s.named("group")
	if d.key != noAPI {
		s.versions[d.key] = version
	}
	return s
}

// named gives a name that no other scene has, and that the text shows as it is given here.
func (s *scene) named(label string) string {
	s.names[s.prefix+label] = label
	return s.prefix + label
}

func (s *scene) close() {
	for _, each := range s.actors {
		each.Close()
	}
}

func (s *scene) say(format string, arguments ...any) {
	fmt.Fprintf(&s.text, format+"\n", arguments...)
}

// part begins with another group.
func (s *scene) part(title string) {
	s.say("-- %s", title)
	s.group = s.prefix + title
	s.names[s.group] = "group"
}

// ask sends a request in the version that its API has in this scene, silently.
func (s *scene) ask(actor string, request kmsg.Request) (kmsg.Response, error) {
	return s.begin(actor, request).end()
}

// tell asks and writes the answer down.
func (s *scene) tell(actor, what string, request kmsg.Request) kmsg.Response {
	p := s.begin(actor, request)
	p.what = what
	return s.await(p)[0]
}

// A pending request's answer comes when the group is ready for it.
type pending struct {
	what string
	done chan struct{}
	got  kmsg.Response
	err  error
}

func (s *scene) begin(actor string, request kmsg.Request) *pending {
	version, ok := s.versions[request.Key()]
	That(ok, "no version of %d", request.Key())
	request.SetVersion(version)
	c, ok := s.actors[actor]
	if !ok {
		c = Must(wire.Dial(bootstrap))
		s.actors[actor] = c
	}
	p := &pending{done: make(chan struct{})}
	go func() {
		p.got, p.err = c.Ask(request)
		close(p.done)
	}()
	return p
}

func (s *scene) beginTold(actor, what string, request kmsg.Request) *pending {
	p := s.begin(actor, request)
	p.what = what
	return p
}

func (p *pending) end() (kmsg.Response, error) {
	<-p.done
	return p.got, p.err
}

// await waits for all of them and writes their answers down in this order.
func (s *scene) await(all ...*pending) []kmsg.Response {
	var answers []kmsg.Response
	for _, p := range all {
		answer, err := p.end()
		That(err == nil, "%s: %v", p.what, err)
		if joined, ok := answer.(*kmsg.JoinGroupResponse); ok {
			s.learn(joined.MemberID)
		}
		answers = append(answers, answer)
	}
	for i, p := range all {
		if p.what != "" {
			s.say("%s\n    %s", p.what, s.show(answers[i]))
		}
	}
	return answers
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// learn numbers the member ids in the order in which they are seen. What stands before the UUID stays.
func (s *scene) learn(memberID string) {
	for _, each := range uuid.FindAllString(memberID, -1) {
		if _, ok := s.names[each]; !ok {
			number := 1
			for known := range s.names {
				if uuid.MatchString(known) {
					number++
				}
			}
			s.names[each] = fmt.Sprintf("<%d>", number)
		}
	}
}

// show gives a response's fields in order.
func (s *scene) show(response kmsg.Response) string {
	text := s.value(reflect.ValueOf(response).Elem(), response.Key(), "")
	text = text[1 : len(text)-1]
	_, port, _ := net.SplitHostPort(bootstrap)
	return strings.ReplaceAll(text, "Port:"+port, "Port:(the broker's)")
}

// called puts what stands for them in place of names and ids.
func (s *scene) called(text string) string {
	// the longest first, as one name may begin another
	for _, name := range slices.SortedFunc(maps.Keys(s.names), func(a, b string) int { return len(b) - len(a) }) {
		text = strings.ReplaceAll(text, name, s.names[name])
	}
	return uuid.ReplaceAllString(text, "<new>")
}

func (s *scene) value(v reflect.Value, key int16, field string) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "null"
		}
		return s.value(v.Elem(), key, field)
	case reflect.String:
		return s.called(fmt.Sprintf("%q", v.String()))
	case reflect.Array:
		id := [16]byte(v.Bytes())
		if name, ok := topicNames()[id]; ok {
			return "(id of " + name + ")"
		}
		return fmt.Sprintf("%x", id)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.IsNil() {
				return "null"
			}
			return fmt.Sprintf("%q", v.Bytes())
		}
		var all []string
		for i := range v.Len() {
			if group, ok := v.Index(i).Interface().(kmsg.ListGroupsResponseGroup); ok && !strings.HasPrefix(group.Group, s.prefix) {
				continue // another scene's
			}
			all = append(all, s.value(v.Index(i), key, ""))
		}
		// Kafka orders these as its tables happen to hash them.
		if ordered := key == leaveGroup || field != "Members" && key != offsetFetch && field != "Groups"; !ordered {
			slices.Sort(all)
		}
		return "[" + strings.Join(all, " ") + "]"
	case reflect.Struct:
		var all []string
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if name == "Version" || name == "UnknownTags" || name == "ThrottleMillis" {
				continue
			}
			all = append(all, name+":"+s.value(v.Field(i), key, name))
		}
		return "{" + strings.Join(all, " ") + "}"
	case reflect.Int16:
		if field == "ErrorCode" {
			if v.Int() == 0 {
				return "NONE"
			}
			return kerr.TypedErrorForCode(int16(v.Int())).Message
		}
	}
	return fmt.Sprint(v.Interface())
}

// A topic with two partitions for all scenes, and another.
const partitions = 2

var topics = sync.OnceValue(func() []string {
	c := Must(wire.Dial(bootstrap))
	defer c.Close()
	r := kmsg.NewPtrCreateTopicsRequest()
	r.SetVersion(7)
	r.TimeoutMillis = 10000
	var names []string
	for _, each := range []string{"topic", "other"} {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = "wire-"+each+"-"+run, partitions, 1
		r.Topics = append(r.Topics, t)
		names = append(names, t.Topic)
	}
	for _, t := range Must(c.Ask(r)).(*kmsg.CreateTopicsResponse).Topics {
		OK(kerr.ErrorForCode(t.ErrorCode))
		topicIDs.Store(t.Topic, t.TopicID)
	}
	return names
})

var topicIDs sync.Map

func topicNames() map[[16]byte]string {
	names := map[[16]byte]string{}
	topicIDs.Range(func(name, id any) bool {
		names[id.([16]byte)] = strings.Split(name.(string), "-")[1]
		return true
	})
	return names
}

// topic gives the common topic's name.
func (s *scene) topic() string {
	names := topics()
	s.names[names[0]], s.names[names[1]] = "topic", "other"
	return names[0]
}

func (s *scene) other() string { s.topic(); return topics()[1] }

func idOf(topic string) [16]byte {
	if id, ok := topicIDs.Load(topic); ok {
		return id.([16]byte)
	}
	return [16]byte{0xaa, 0xbb}
}

// state asks for the group's state and its count of members, silently.
func (s *scene) state() (string, int) {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Groups = []string{s.group}
	r.SetVersion(5)
	c := Must(wire.Dial(bootstrap))
	defer c.Close()
	g := Must(c.Ask(r)).(*kmsg.DescribeGroupsResponse).Groups[0]
	return g.State, len(g.Members)
}

func (s *scene) untilState(wanted string, members int) {
	end := time.Now().Add(Limit)
	for {
		state, count := s.state()
		if state == wanted && (members < 0 || members == count) {
			return
		}
		That(time.Now().Before(end), "the group is %s with %d members, and not %s with %d", state, count, wanted, members)
		time.Sleep(10 * time.Millisecond)
	}
}
