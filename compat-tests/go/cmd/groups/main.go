// Every group API in every version that the broker advertises, frame by frame.
//
// A scene sends requests and writes down each answer, field by field; what it wrote must be what Apache Kafka wrote
// for the same scene, which lies in `transcripts/`. Member ids, group names, topic ids and the port differ
// from run to run and are named there by what they stand for. Each answer must also decode, be whole, and mean exactly
// its bytes (package wire).
//
// `RECORD=folder` writes the transcripts anew; only sensible against Kafka: `RECORD=… compat-tests/run --kafka groups`.
package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	. "raftsman/compat/checks"
	"raftsman/compat/wire"
)

//go:embed transcripts/*.txt
var transcripts embed.FS

const (
	offsetCommit    = 8
	offsetFetch     = 9
	findCoordinator = 10
	joinGroup       = 11
	heartbeat       = 12
	leaveGroup      = 13
	syncGroup       = 14
	describeGroups  = 15
	listGroups      = 16
	deleteGroups    = 42
	offsetDelete    = 47
	noAPI           = -1
)

// The ranges of Kafka 4.3.0. A broker that offers less is told so once, and not in every scene.
var ranges = map[int16][2]int16{
	offsetCommit: {2, 10}, offsetFetch: {1, 10}, findCoordinator: {0, 6}, joinGroup: {0, 9}, heartbeat: {0, 4}, leaveGroup: {0, 5},
	syncGroup: {0, 5}, describeGroups: {0, 6}, listGroups: {0, 5}, deleteGroups: {0, 2}, offsetDelete: {0, 0},
}

// Scenes that run at a time. Most of a scene is waiting for a first rebalance or a timeout.
const together = 16

type definition struct {
	name string
	// the API whose every version from `from` on is played, or noAPI: the scene is played once
	key  int16
	from int16
	body func(s *scene)
}

var definitions []definition

func play(name string, key int16, body func(s *scene)) { playFrom(name, key, 0, body) }

func playFrom(name string, key, from int16, body func(s *scene)) {
	definitions = append(definitions, definition{name, key, from, body})
}

func main() {
	var list List
	list.Add("the group APIs are advertised in Kafka's versions", advertised)
	joinScenes()
	syncScenes()
	staticScenes()
	leaveScenes()
	offsetScenes()
	fetchScenes()
	adminScenes()
	lifeScenes()
	ready()
	slots := make(chan struct{}, together)
	for _, each := range definitions {
		list.Add(each.name, started(each, slots))
	}
	restartScenes(&list)
	os.Exit(list.Run())
}

// ready waits until the broker coordinates groups: it makes __consumer_offsets when it is first asked, and reads it
// after a start.
func ready() {
	c := Must(wire.Dial(bootstrap))
	defer c.Close()
	r := kmsg.NewPtrDescribeGroupsRequest()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.SetVersion(3)
	for i := range 500 {
		r.Groups = append(r.Groups, fmt.Sprint("any-", i)) // of every partition
	}
	r.SetVersion(5)
	Until("the broker coordinates groups", func() bool {
		if Must(c.Ask(find)).(*kmsg.FindCoordinatorResponse).ErrorCode != 0 {
			return false
		}
		for _, each := range Must(c.Ask(r)).(*kmsg.DescribeGroupsResponse).Groups {
			if each.ErrorCode != 0 {
				return false
			}
		}
		return true
	})
}

var offered = sync.OnceValue(func() map[int16][2]int16 {
	c := Must(wire.Dial(bootstrap))
	defer c.Close()
	got := map[int16][2]int16{}
	for _, each := range Must(c.Ask(kmsg.NewPtrApiVersionsRequest())).(*kmsg.ApiVersionsResponse).ApiKeys {
		if _, ok := ranges[each.ApiKey]; ok {
			got[each.ApiKey] = [2]int16{each.MinVersion, each.MaxVersion}
		}
	}
	return got
})

func advertised() error {
	Same(ranges, offered(), "versions by API")
	return nil
}

// started begins to play a scene in every version as soon as there is room, and gives the check that waits for the
// end and compares.
func started(d definition, slots chan struct{}) func() error {
	if len(os.Args) > 1 && !strings.Contains(d.name, os.Args[1]) {
		return nil
	}
	versions := []int16{-1}
	if d.key != noAPI {
		versions = nil
		for version := max(ranges[d.key][0], d.from); version <= min(ranges[d.key][1], offered()[d.key][1]); version++ {
			versions = append(versions, version)
		}
	}
	texts := make([]string, len(versions))
	var playing sync.WaitGroup
	for i, version := range versions {
		playing.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			texts[i] = played(d, version)
		})
	}
	return func() error {
		playing.Wait()
		if folder := os.Getenv("RECORD"); folder != "" {
			return os.WriteFile(filepath.Join(folder, fileOf(d.name)), []byte(written(d.key, versions, texts)), 0o644)
		}
		for i, version := range versions {
			if err := compared(d.name, version, texts[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func fileOf(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name) + ".txt"
}

// written gives the transcript of all versions; those with the same text share it.
func written(key int16, versions []int16, texts []string) string {
	all := ""
	for i := 0; i < len(versions); {
		end := i + 1
		for end < len(versions) && texts[end] == texts[i] {
			end++
		}
		switch {
		case key == noAPI:
		case end == i+1:
			all += fmt.Sprintf("== %s %d\n", kmsg.NameForKey(key), versions[i])
		default:
			all += fmt.Sprintf("== %s %d to %d\n", kmsg.NameForKey(key), versions[i], versions[end-1])
		}
		all += texts[i]
		i = end
	}
	return all
}

var heading = regexp.MustCompile(`^== [A-Za-z]+ (\d+)(?: to (\d+))?$`)

// of gives the lines that a transcript has for a version, and the number of the first.
func of(transcript string, version int16) ([]string, int) {
	lines := strings.Split(strings.TrimSuffix(transcript, "\n"), "\n")
	if version < 0 {
		return lines, 1
	}
	var found []string
	first, within := 0, false
	for i, line := range lines {
		if match := heading.FindStringSubmatch(line); match != nil {
			least, _ := strconv.Atoi(match[1])
			most := least
			if match[2] != "" {
				most, _ = strconv.Atoi(match[2])
			}
			within = least <= int(version) && int(version) <= most
			if within {
				first = i + 2
			}
		} else if within {
			found = append(found, line)
		}
	}
	return found, first
}

// compared says where a text differs from its transcript first.
func compared(name string, version int16, text string) error {
	if folder := os.Getenv("RECORD"); folder != "" {
		return os.WriteFile(filepath.Join(folder, fileOf(name)), []byte(text), 0o644)
	}
	recorded, err := transcripts.ReadFile("transcripts/" + fileOf(name))
	if err != nil {
		return err
	}
	wanted, first := of(string(recorded), version)
	got := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	line := func(lines []string, i int) string {
		if i < len(lines) {
			return lines[i]
		}
		return "(the end)"
	}
	asked := ""
	for i := range max(len(wanted), len(got)) {
		if !strings.HasPrefix(line(wanted, i), "    ") {
			asked = line(wanted, i)
		}
		if line(wanted, i) != line(got, i) {
			return fmt.Errorf("version %d, %q (line %d of %s)\n  wanted %s\n  got    %s", version, asked, first+i, fileOf(name), line(wanted, i), line(got, i))
		}
	}
	return nil
}

// played plays a scene and gives what it wrote, and how it broke off if it did.
func played(d definition, version int16) string {
	s := newScene(d, version)
	defer s.close()
	func() {
		defer func() {
			if caught := recover(); caught != nil {
				s.say("BROKEN OFF: %v", caught)
			}
		}()
		d.body(s)
	}()
	return s.text.String()
}

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	run       = fmt.Sprintf("%x", time.Now().UnixNano())
)
