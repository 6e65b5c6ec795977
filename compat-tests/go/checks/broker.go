package checks

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
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

// Seeds are the addresses of the brokers.
func Seeds() []string { return strings.Split(os.Getenv("BOOTSTRAP"), ",") }

// Nodes is of how many brokers the cluster is.
func Nodes() int { return max(1, number("NODES")) }

// Replicas is how many replicas a topic gets where that is not the point.
func Replicas() int16 { return int16(max(1, number("REPLICAS"))) }

func number(variable string) int {
	given, _ := strconv.Atoi(os.Getenv(variable))
	return given
}

// Numbers gives from to before to, as text.
func Numbers(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}
