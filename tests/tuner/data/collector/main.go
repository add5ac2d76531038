// Records what Katib's file-metricscollector reads from given files: Go's regexp, encoding/json, strings and time
// packages, called as pkg/metricscollector/v1beta1/file-metricscollector/file-metricscollector.go calls them
// (kubeflow/katib 33c8ff4), and strconv.ParseFloat as the trial controller calls it for each value.
//
// Standard input has one JSON object per line: format, metrics, filters and content (base64). Standard output has the
// same objects with "found", a list of [name, value, number, time in microseconds], or "error". A number of null is
// one that the controller cannot parse, and a time of null is none. The command is in tests/tuner/collector_cases.py.
package main

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const defaultFilter = `([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)`

type testCase struct {
	Format  string   `json:"format"`
	Metrics []string `json:"metrics"`
	Filters []string `json:"filters,omitempty"`
	Content []byte   `json:"content"`
	Found   [][]any  `json:"found,omitempty"`
	Error   string   `json:"error,omitempty"`
}

func main() {
	decoder := json.NewDecoder(bufio.NewReader(os.Stdin))
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	for decoder.More() {
		var one testCase
		if err := decoder.Decode(&one); err != nil {
			panic(err)
		}
		one.read()
		if err := encoder.Encode(one); err != nil {
			panic(err)
		}
	}
}

func (one *testCase) read() {
	lines := strings.Split(string(one.Content), "\n")
	if one.Format == "JSON" {
		one.readJSON(lines)
		return
	}
	filters := one.Filters
	if len(filters) == 0 {
		filters = []string{defaultFilter}
	}
	regexes := []*regexp.Regexp{}
	for _, filter := range filters {
		regex, err := regexp.Compile(filter)
		if err != nil {
			one.Error = err.Error()
			return
		}
		regexes = append(regexes, regex)
	}
	for _, line := range lines {
		one.readText(line, regexes)
	}
}

func (one *testCase) readText(line string, regexes []*regexp.Regexp) {
	mentioned := false
	for _, metric := range one.Metrics {
		mentioned = mentioned || strings.Contains(line, metric)
	}
	if !mentioned {
		return
	}
	stamp := ""
	if words := strings.SplitN(line, " ", 2); len(words) == 2 {
		stamp = words[0]
	}
	for _, regex := range regexes {
		for _, groups := range regex.FindAllStringSubmatch(line, -1) {
			if len(groups) < 3 {
				continue
			}
			name, value := strings.TrimSpace(groups[1]), strings.TrimSpace(groups[2])
			for _, metric := range one.Metrics {
				if name == metric {
					one.add(name, value, stamp)
					break
				}
			}
		}
	}
}

func (one *testCase) readJSON(lines []string) {
	for _, line := range lines {
		if len(line) == 0 {
			continue
		}
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			one.Error = err.Error()
			return
		}
		stamp := ""
		switch value := object["timestamp"].(type) {
		case string:
			stamp = value
		case float64:
			stamp = epoch(value)
		}
		for _, metric := range one.Metrics {
			if value, ok := object[metric].(string); ok {
				one.add(metric, value, stamp)
			}
		}
	}
}

// epoch formats a JSON number as Katib does: the digits after the point are a count of nanoseconds.
func epoch(value float64) string {
	seconds, digits, _ := strings.Cut(strconv.FormatFloat(value, 'f', -1, 64), ".")
	whole, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return ""
	}
	var nanoseconds int64
	if digits != "" {
		if nanoseconds, err = strconv.ParseInt(digits, 10, 64); err != nil {
			return ""
		}
	}
	return time.Unix(whole, nanoseconds).UTC().Format(time.RFC3339Nano)
}

func (one *testCase) add(name, value, stamp string) {
	var number, micros any
	if parsed, err := strconv.ParseFloat(value, 64); err == nil && !math.IsNaN(parsed) && !math.IsInf(parsed, 0) {
		number = parsed
	}
	if parsed, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
		micros = parsed.UnixMicro()
	}
	one.Found = append(one.Found, []any{name, value, number, micros})
}
