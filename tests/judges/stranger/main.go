// Command stranger verifies an evidence package. It was first written from docs/evidence-format.md
// and the public specifications that it cites, without a look at the project's own verifier; where
// they left a choice open, the expected outcomes of tests/vectors/packages decided. What the page
// has said more exactly since then was added by people who knew both.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

// report gathers the names of the checks that did not pass.
type report struct {
	changed, unconfirmed map[string]bool
	skipped              bool
}

func (r *report) change(check string)  { r.changed[check] = true }
func (r *report) confirm(check string) { r.unconfirmed[check] = true }

// informative names the checks that do not decide the verdict (§10).
var informative = map[string]bool{
	"time.signature": true, "time.not_before": true, "session.completeness": true, "custody.trail": true,
}

func (r *report) exit() int {
	if len(r.changed) > 0 { // any check, also one that does not decide otherwise
		return 1
	}
	for name := range r.unconfirmed {
		if !informative[name] {
			return 2
		}
	}
	if r.skipped { // not_checked is not pass
		return 2
	}
	return 0
}

func names(set map[string]bool) []string {
	list := []string{}
	for name := range set {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}

func main() {
	if len(os.Args) != 4 || !isTime(os.Args[3]) {
		fmt.Fprintln(os.Stderr, "usage: stranger PACKAGE.zip KNOWN-KEYS.json AT")
		os.Exit(64)
	}
	data, err := os.ReadFile(os.Args[1])
	keyData, keyErr := os.ReadFile(os.Args[2])
	if err != nil || keyErr != nil {
		fmt.Fprintln(os.Stderr, err, keyErr)
		os.Exit(64)
	}
	known, err := readKnownKeys(keyData)
	if err != nil {
		fmt.Fprintln(os.Stderr, "known keys:", err)
		os.Exit(64)
	}
	r := &report{changed: map[string]bool{}, unconfirmed: map[string]bool{}}
	verify(r, data, known, os.Args[3])
	out, _ := json.Marshal(map[string][]string{
		"content_changed": names(r.changed), "cannot_confirm": names(r.unconfirmed),
	})
	fmt.Println(string(out))
	os.Exit(r.exit())
}
