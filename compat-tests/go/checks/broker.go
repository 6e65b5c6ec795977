package checks

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// Restart has the broker ended ("stop" or "kill") and started again, and returns when it serves.
func Restart(how string) {
	control := os.Getenv("BROKER_CONTROL")
	That(control != "", "no BROKER_CONTROL")
	answer := Must(http.Post(control+"/restart?how="+how, "", nil))
	defer answer.Body.Close()
	said, _ := io.ReadAll(answer.Body)
	That(answer.StatusCode == 200, "%s", strings.TrimSpace(string(said)))
}

// Numbers gives from to before to, as text.
func Numbers(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}
