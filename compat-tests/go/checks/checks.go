// Package checks runs named checks and prints one PASS or FAIL line for each.
package checks

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
)

// Limit is how long any wait for a condition may last.
const Limit = 20 * time.Second

// List is a list of named checks, run in order.
type List struct {
	names  []string
	bodies []func() error
}

// Add appends a check.
func (l *List) Add(name string, body func() error) {
	l.names = append(l.names, name)
	l.bodies = append(l.bodies, body)
}

// Run runs those whose name contains the program's first argument (without one: all), prints the closing line
// and returns the exit code.
func (l *List) Run() int {
	only := ""
	if len(os.Args) > 1 {
		only = os.Args[1]
	}
	passed, failed := 0, 0
	for i, name := range l.names {
		if !strings.Contains(name, only) {
			continue
		}
		started := time.Now()
		if err := guarded(l.bodies[i]); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", name, err)
		} else {
			passed++
			fmt.Printf("PASS %s\n", name)
		}
		if os.Getenv("TIMES") != "" {
			fmt.Printf("# %.1f s %s\n", time.Since(started).Seconds(), name)
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		return 1
	}
	return 0
}

func guarded(body func() error) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			if failure, ok := caught.(failure); ok {
				err = fmt.Errorf("%s", string(failure))
				return
			}
			err = fmt.Errorf("panic: %v\n%s", caught, debug.Stack())
		}
	}()
	return body()
}

type failure string

// Fail ends the running check.
func Fail(format string, arguments ...any) {
	panic(failure(fmt.Sprintf(format, arguments...)))
}

// That fails the check unless the condition holds.
func That(condition bool, format string, arguments ...any) {
	if !condition {
		Fail(format, arguments...)
	}
}

// Same fails the check unless both are deeply equal.
func Same(wanted, got any, what string) {
	if !reflect.DeepEqual(wanted, got) {
		Fail("%s: wanted %s, got %s", what, shorten(wanted), shorten(got))
	}
}

// OK fails the check on an error.
func OK(err error) {
	if err != nil {
		Fail("%v", err)
	}
}

// Must passes a value on and fails the check on an error.
func Must[T any](value T, err error) T {
	OK(err)
	return value
}

// Until asks again and again until the condition holds.
func Until(what string, condition func() bool) {
	for end := time.Now().Add(Limit); !condition(); time.Sleep(20 * time.Millisecond) {
		That(time.Now().Before(end), "not within %v: %s", Limit, what)
	}
}

func shorten(value any) string {
	text := fmt.Sprintf("%v", value)
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}
