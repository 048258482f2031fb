package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"
)

// The procedure (§10), step by step.

type pack struct {
	*report
	members    map[string][]byte
	known      *knownKeys
	listed     map[string]string
	captures   []string
	statements map[string]*statement // those that passed statement.signature
	proven     []*statement          // those that passed log.inclusion, too
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func verify(r *report, data []byte, known *knownKeys, now string) {
	members, err := readArchive(data)
	if err != nil {
		r.change("package.container")
		return
	}
	p := &pack{report: r, members: members, known: known, statements: map[string]*statement{}}
	audience := p.manifest()
	if now >= known.expires || audience != known.audience {
		r.confirm("known_keys.valid")
	}
	p.readStatements()
	checkpoints := p.inclusion()
	p.keys()
	p.witnessesAndTime(checkpoints)
	p.content()
	p.sessions()
}

var manifestLine = regexp.MustCompile(`^([0-9a-fA-F]{64})[ \t]+(\S+)\r?$`)

func (p *pack) readManifest(name string, wanted func(string) bool) bool {
	list, ok := p.members[name]
	seen := map[string]bool{}
	for _, text := range strings.Split(strings.TrimSuffix(string(list), "\n"), "\n") {
		parts := manifestLine.FindStringSubmatch(text)
		if parts == nil || seen[parts[2]] || !wanted(parts[2]) || p.members[parts[2]] == nil {
			return false
		}
		seen[parts[2]], p.listed[parts[2]] = true, strings.ToLower(parts[1])
	}
	for member := range p.members {
		ok = ok && (seen[member] || !wanted(member))
	}
	return ok
}

const tagManifest = "tagmanifest-sha256.txt"

// manifest is step 2; it returns the package's audience.
func (p *pack) manifest() string {
	p.listed = map[string]string{}
	payload := func(name string) bool { return strings.HasPrefix(name, "data/") }
	ok := p.readManifest("manifest-sha256.txt", payload)
	ok = p.readManifest(tagManifest, func(name string) bool { return !payload(name) && name != tagManifest }) && ok
	ok = ok && string(p.members["bagit.txt"]) == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n" &&
		p.members["bag-info.txt"] != nil
	for name, data := range p.members {
		if name != tagManifest && !strings.HasPrefix(name, "data/originals/") {
			ok = ok && p.listed[name] == digest(data)
		}
	}
	index, err := parseCanonical(p.members["data/index.json"], 4<<20)
	list, isList := index["captures"].([]any)
	ok = ok && err == nil && isList && exactly(index, []string{"audience", "captures", "format", "made_at"}) &&
		index["format"] == "fengni/package/v1" && matches(index["audience"], nameForm) && isTime(index["made_at"])
	seen := map[string]bool{}
	for _, item := range list {
		id, _ := item.(string)
		ok = ok && hex64Form.MatchString(id) && !seen[id]
		seen[id] = true
		p.captures = append(p.captures, id)
	}
	if !ok {
		p.change("package.manifest")
	}
	return text(index, "audience")
}

// readStatements is step 4.
func (p *pack) readStatements() {
	for name, data := range p.members {
		id, found := strings.CutPrefix(name, "data/statements/")
		if !found {
			continue
		}
		id = strings.TrimSuffix(id, ".json")
		leaf := p.members["data/leaves/"+id+".json"]
		signature, spki, ok := readLeaf(leaf, id)
		_, keyID, isKey := readKey(spki)
		if name != "data/statements/"+id+".json" || digest(data) != id || !ok || !isKey || !verifySignature(spki, data, signature) {
			p.change("statement.signature")
			continue
		}
		s, err := readStatement(data)
		if err == errVersion {
			p.confirm("statement.signature")
			continue
		}
		proof, proofErr := readProof(p.members["data/proofs/"+id+".tlog-proof"])
		if err != nil || s.signer != keyID || proofErr != nil {
			p.change("statement.signature")
			continue
		}
		s.key, s.signature, s.leaf, s.proof = spki, signature, leaf, proof
		s.log, s.index = proof.cp.origin, int64(proof.index)
		p.statements[id] = s
	}
}

// inclusion is step 5; it returns the accepted checkpoint of each log.
func (p *pack) inclusion() map[string]*checkpoint {
	taken, judged := map[string]*checkpoint{}, map[string]bool{}
	roots := map[string][]byte{}
	list := []*statement{}
	for _, s := range p.statements {
		cp := s.proof.cp
		pinned := p.known.logs[cp.origin]
		if pinned == nil {
			p.confirm("log.checkpoint")
			continue
		}
		if _, done := judged[cp.whole]; !done {
			signed, failing := 0, 0
			for _, key := range pinned.keys {
				good, bad := key.check(cp)
				failing += bad
				if key.kind == 1 {
					signed += good
				}
			}
			judged[cp.whole] = signed > 0 && failing == 0
		}
		if !judged[cp.whole] {
			p.change("log.checkpoint")
			continue
		}
		list = append(list, s)
		if first := taken[cp.origin]; first == nil || cp.size > first.size || (cp.size == first.size && cp.whole < first.whole) {
			taken[cp.origin] = cp
		}
		head := fmt.Sprint(cp.origin, "\n", cp.size)
		if root := roots[head]; root != nil && !bytes.Equal(root, cp.root) {
			p.change("log.checkpoint") // two histories
		}
		roots[head] = cp.root
	}
	for _, s := range list {
		if s.proof.cp.whole != taken[s.log].whole {
			p.confirm("log.checkpoint")
			p.confirm("log.inclusion")
		} else if !s.proof.includes(s.leaf) {
			p.change("log.inclusion")
		} else {
			p.proven = append(p.proven, s)
		}
	}
	passing := map[string]bool{}
	for _, s := range p.proven {
		passing[s.id] = s.kind == "capture"
	}
	for _, id := range p.captures {
		if !passing[id] {
			p.confirm("log.inclusion")
		}
	}
	p.skipped = len(p.provenCaptures()) == 0
	return taken
}

func (p *pack) provenCaptures() []*statement {
	list := []*statement{}
	for _, s := range p.proven {
		if s.kind == "capture" {
			list = append(list, s)
		}
	}
	return list
}

// keys is step 6.
func (p *pack) keys() {
	logs := map[string][]*statement{}
	for _, s := range p.proven {
		logs[s.log] = append(logs[s.log], s)
	}
	for log, list := range logs {
		ring, ok := buildRing(list, p.known)
		if !ok {
			p.change("key.chain")
		}
		last := map[string]int64{}
		for _, s := range list {
			valid, unknown := ring.judge(s)
			if s.valid = valid; unknown {
				p.confirm("key.validity")
			} else if !valid {
				p.change("key.validity")
			}
			if before, there := last[s.organ]; s.kind == "capture" && (!there || s.index > before) {
				last[s.organ] = s.index
			}
		}
		for organ, index := range last {
			if !ring.confirmed(list, organ, log, index) {
				p.confirm("key.status")
			}
		}
	}
}

// stamp judges the tokens over data and returns the earliest time that verifies.
func (p *pack) stamp(check string, data []byte) (time.Time, bool) {
	prefix, names := "data/timestamps/"+digest(data)+"/", []string{}
	for name := range p.members {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	earliest, good, bad, aside := time.Time{}, false, false, false
	for _, name := range names[:min(len(names), 16)] {
		at, state := readToken(p.members[name], data, p.known.roots)
		bad, aside = bad || state == broken, aside || state == unknown
		if state == believed && (!good || at.Before(earliest)) {
			earliest, good = at, true
		}
	}
	if bad {
		p.change(check)
	}
	if !good && (!bad || aside) {
		p.confirm(check)
	}
	return earliest, good
}

// witnessesAndTime is steps 7 and 8.
func (p *pack) witnessesAndTime(checkpoints map[string]*checkpoint) {
	for origin, cp := range checkpoints {
		pinned := p.known.logs[origin]
		failing, met := pinned.policy.judge(cp)
		if failing {
			p.change("log.witnesses")
		} else if !met {
			p.confirm("log.witnesses")
		}
		at, stamped := p.stamp("time.checkpoint", cp.stamped())
		if pinned.hasMlDsa && !(stamped && at.Before(pinned.mlDsa)) {
			signed := 0
			for _, key := range pinned.keys {
				if good, _ := key.check(cp); key.kind == 6 {
					signed += good
				}
			}
			if signed == 0 {
				p.change("log.checkpoint")
			}
		}
	}
	for _, s := range p.provenCaptures() {
		p.stamp("time.signature", s.signature)
	}
}

// content is step 9, and content.stored of step 10.
func (p *pack) content() {
	captures := map[string]*statement{}
	originals := map[string]int{}
	for _, s := range p.provenCaptures() {
		captures[s.id] = s
	}
	for name, data := range p.members {
		file, found := strings.CutPrefix(name, "data/originals/")
		if !found {
			continue
		}
		id, _, _ := strings.Cut(file, ".")
		s := captures[id]
		if originals[id]++; s == nil {
			p.confirm("content.digest")
			continue
		}
		content := s.body["content"].(object)
		if sum := digest(data); sum != p.listed[name] || sum != text(content, "sha256") || int64(len(data)) != number(content, "size_bytes") {
			p.change("content.digest")
		}
	}
	for id, s := range captures {
		if originals[id] != 1 {
			p.confirm("content.digest")
		}
		announced, count := s.body["content"].(object), 0
		for _, other := range p.proven {
			if other.kind != "stored" || other.about != id || !other.valid {
				continue
			}
			count++
			content := other.body["content"].(object)
			if content["sha256"] != announced["sha256"] || content["size_bytes"] != announced["size_bytes"] {
				p.change("content.stored")
			}
		}
		if count == 0 {
			p.confirm("content.stored")
		}
	}
}

// sessions is session.completeness of step 10.
func (p *pack) sessions() {
	opening, closings, members := map[string]*statement{}, map[string]*statement{}, map[string][]*statement{}
	for _, s := range p.proven {
		switch {
		case s.kind == "session" && s.valid && text(s.body, "phase") == "open":
			opening[s.id] = s
		case s.kind == "session" && s.valid:
			closings[s.about] = s
		case s.kind == "capture":
			members[s.about] = append(members[s.about], s)
		}
	}
	for id, list := range members {
		open, closing := opening[id], closings[id]
		if open == nil || closing == nil || number(closing.body, "count") != int64(len(list)) {
			p.confirm("session.completeness")
			continue
		}
		sort.Slice(list, func(i, j int) bool { return number(list[i].body, "number") < number(list[j].body, "number") })
		before := open
		for i, s := range list {
			if s.log != open.log || s.index <= open.index || number(s.body, "number") != int64(i)+1 || s.previous != before.id {
				p.confirm("session.completeness")
			}
			before = s
		}
	}
}
