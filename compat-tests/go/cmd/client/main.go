// The franz-go client, its admin package, and requests of every version the broker advertises.
package main

import (
	"os"

	"raftsman/compat/checks"
	"raftsman/compat/members"
)

func main() {
	if settings, ok := members.Mine(); ok {
		member(settings)
		return
	}
	var list checks.List
	addRecords(&list)
	addAdmin(&list)
	if checks.Nodes() == 1 { // what a frame asks, one broker must answer
		addVersions(&list)
	}
	addGroups(&list)
	os.Exit(list.Run())
}
