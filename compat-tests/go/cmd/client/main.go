// The franz-go client, its admin package, and requests of every version the broker advertises.
package main

import (
	"os"

	"raftsman/compat/checks"
)

func main() {
	var list checks.List
	addRecords(&list)
	addAdmin(&list)
	addVersions(&list)
	os.Exit(list.Run())
}
