package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// The procedure (§10), step by step.

type pack struct {
	*report
	*archive
	known      *knownKeys
	listed     map[string]string
	captures   []string
	statements map[string]*statement  // those that passed statement.signature
	proven     []*statement           // those that passed log.inclusion, too
	after      map[string][]time.Time // independent times, by log origin and by capture id
	latest     time.Time              // no time that counts is after it
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func verify(r *report, data []byte, known *knownKeys, now string) {
	archive, err := readArchive(data)
	if err != nil {
		r.change("package.container")
		return
	}
	p := &pack{report: r, archive: archive, known: known, statements: map[string]*statement{}, after: map[string][]time.Time{}}
	audience, whole := p.manifest()
	if !whole {
		return
	}
	if now >= known.expires || audience != known.audience {
		r.confirm("known_keys.valid")
	}
	at, _ := time.Parse(time.RFC3339, now)
	p.latest = at.Add(5 * time.Minute)
	p.readStatements()
	checkpoints := p.inclusion()
	p.keys()
	p.witnessesAndTime(checkpoints)
	p.suspicion()
	p.content()
	p.sessions()
	p.notBefore()
}

var manifestLine = regexp.MustCompile(`^([0-9a-f]{64}) {1,2}([!-~]+)$`)

func (p *pack) readManifest(name string, wanted func(string) bool) bool {
	list, whole := strings.CutSuffix(string(p.members[name]), "\n")
	texts, seen := strings.Split(list, "\n"), map[string]bool{}
	for _, text := range texts {
		parts := manifestLine.FindStringSubmatch(text)
		if parts == nil || seen[parts[2]] || !wanted(parts[2]) {
			return false
		}
		if _, there := p.members[parts[2]]; !there {
			return false
		}
		seen[parts[2]], p.listed[parts[2]] = true, parts[1]
	}
	for member := range p.members {
		whole = whole && (seen[member] || !wanted(member))
	}
	return whole && !p.damaged[name] && len(texts) < memberLimit
}

const tagManifest = "tagmanifest-sha256.txt"

// manifest is step 2; it returns the package's audience, and whether there is anything to go on with.
func (p *pack) manifest() (string, bool) {
	p.listed = map[string]string{}
	payload := func(name string) bool { return strings.HasPrefix(name, "data/") }
	ok := p.readManifest("manifest-sha256.txt", payload)
	ok = p.readManifest(tagManifest, func(name string) bool { return !payload(name) && name != tagManifest }) && ok
	ok = ok && string(p.members["bagit.txt"]) == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n" &&
		p.members["fetch.txt"] == nil
	index, err := parseCanonical(p.members["data/index.json"], 4<<20)
	list, isList := index["captures"].([]any)
	ok = ok && err == nil && isList && len(list) <= 20_000 && exactly(index, []string{"audience", "captures", "format", "made_at"}) &&
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
		return "", false
	}
	for name, data := range p.members {
		small := name != tagManifest && !strings.HasPrefix(name, "data/originals/")
		if small && (p.damaged[name] || p.listed[name] != digest(data)) {
			p.change("package.manifest")
		}
	}
	return text(index, "audience"), true
}

const checkpointLimit = 64

var (
	evidenceFolder = regexp.MustCompile(`^data/(statements|leaves|proofs)/`)
	evidenceForm   = regexp.MustCompile(`^data/((statements|leaves)/[0-9a-f]{64}\.json|proofs/[0-9a-f]{64}\.tlog-proof)$`)
)

// readStatements is step 4, in the bytewise order of the members' names.
func (p *pack) readStatements() {
	checkpoints := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.members)) {
		data := p.members[name]
		if evidenceFolder.MatchString(name) && !evidenceForm.MatchString(name) {
			p.change("statement.signature")
			continue
		}
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
		if !checkpoints[proof.cp.whole] && len(checkpoints) == checkpointLimit {
			p.change("statement.signature")
			continue
		}
		checkpoints[proof.cp.whole] = true
		s.key, s.signature, s.leaf, s.proof = spki, signature, leaf, proof
		s.log, s.index = proof.cp.origin, int64(proof.index)
		p.statements[id] = s
	}
	if len(p.statements) == 0 {
		p.confirm("statement.signature")
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
	if len(p.captures) == 0 {
		p.confirm("log.inclusion")
	}
	p.skipped = len(p.exported()) == 0
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

// exported returns the captures that the index names and that are proven.
func (p *pack) exported() []*statement {
	named, list := map[string]bool{}, []*statement{}
	for _, id := range p.captures {
		named[id] = true
	}
	for _, s := range p.provenCaptures() {
		if named[s.id] {
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
		ring, ok, strange := buildRing(list, p.known)
		if !ok {
			p.change("key.chain")
		}
		if strange {
			p.confirm("key.chain")
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
		if state == believed && at.After(p.latest) {
			state = unknown
		}
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
		failing, met, seen, latest := pinned.policy.judge(cp)
		if seen >= 0 {
			p.after[origin] = append(p.after[origin], time.Unix(seen, 0))
		}
		if failing {
			p.change("log.witnesses")
		} else if !met || time.Unix(latest, 0).After(p.latest) {
			p.confirm("log.witnesses")
		}
		at, stamped := p.stamp("time.checkpoint", cp.stamped())
		if stamped {
			p.after[origin] = append(p.after[origin], at)
		}
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
		if at, stamped := p.stamp("time.signature", s.signature); stamped {
			p.after[s.id] = append(p.after[s.id], at)
		}
	}
}

// suspicion is 8.6.
func (p *pack) suspicion() {
	for _, s := range p.proven {
		if !s.valid || s.suspected == "" {
			continue
		}
		since, _ := time.Parse(time.RFC3339, s.suspected)
		before := false
		for _, at := range append(slices.Clone(p.after[s.log]), p.after[s.id]...) {
			before = before || at.Before(since)
		}
		if !before {
			p.confirm("key.suspicion")
		}
	}
}

// content is step 9, and 10.1.
func (p *pack) content() {
	captures, originals := map[string]*statement{}, map[string][]string{}
	for _, s := range p.exported() {
		captures[s.id] = s
	}
	for name := range p.members {
		if file, found := strings.CutPrefix(name, "data/originals/"); found {
			id, _, _ := strings.Cut(file, ".")
			if originals[id] = append(originals[id], name); captures[id] == nil {
				p.confirm("content.digest")
			}
		}
	}
	for id, s := range captures {
		if len(originals[id]) != 1 {
			p.confirm("content.digest")
			continue
		}
		name, content := originals[id][0], s.body["content"].(object)
		data := p.members[name]
		if sum := digest(data); p.damaged[name] || sum != p.listed[name] || sum != text(content, "sha256") || int64(len(data)) != number(content, "size_bytes") {
			p.change("content.digest")
		}
	}
	for _, s := range captures {
		announced, count := s.body["content"].(object), 0
		for _, other := range p.proven {
			if other.kind != "stored" || !other.isAbout(s) || !other.valid {
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

// opening is 10.2; nil where there is none.
func (p *pack) opening(capture *statement) *statement {
	for _, s := range p.proven {
		if s.kind == "session" && text(s.body, "phase") == "open" && belongs(capture, s) {
			return s
		}
	}
	return nil
}

// belongs says whether a shot or a closing is of the session that an opening begins.
func belongs(s, opening *statement) bool {
	return s.valid && opening.valid && s.isAbout(opening) && s.holder == opening.holder
}

// sessions is 10.3.
func (p *pack) sessions() {
	for _, s := range p.exported() {
		if open := p.opening(s); open == nil || !p.complete(open) {
			p.confirm("session.completeness")
		}
	}
}

func (p *pack) complete(open *statement) bool {
	shots, closings := []*statement{}, []*statement{}
	for _, s := range p.proven {
		switch {
		case !belongs(s, open):
		case s.kind == "capture":
			shots = append(shots, s)
		case s.kind == "session" && text(s.body, "phase") == "close":
			closings = append(closings, s)
		}
	}
	if len(closings) == 0 {
		return false
	}
	first := closings[0].body
	for _, other := range closings[1:] {
		if first["count"] != other.body["count"] || !reflect.DeepEqual(first["inventory"], other.body["inventory"]) {
			return false
		}
	}
	sort.Slice(shots, func(i, j int) bool { return number(shots[i].body, "number") < number(shots[j].body, "number") })
	before := open
	for i, s := range shots {
		if number(s.body, "number") != int64(i)+1 || s.previous != before.id {
			return false
		}
		before = s
	}
	return number(first, "count") == int64(len(shots))
}

// notBefore is 10.5.
func (p *pack) notBefore() {
	for _, s := range p.exported() {
		open := p.opening(s)
		if open == nil {
			p.confirm("time.not_before")
			continue
		}
		held, there := open.body["checkpoint"].(object)
		pinned := p.known.logs[text(held, "log")]
		if !there || pinned == nil {
			p.confirm("time.not_before")
			continue
		}
		cp, ok := heldCheckpoint(held)
		if !ok || (cp.origin == open.log && int64(cp.size) > open.index) {
			p.change("time.not_before")
			continue
		}
		failing, met, since, _ := pinned.policy.judge(cp)
		if failing {
			p.change("time.not_before")
		} else if !met || since < 0 {
			p.confirm("time.not_before")
		}
		for _, after := range append(p.after[s.id], p.after[s.log]...) {
			if met && since >= 0 && time.Unix(since, 0).After(after) {
				p.change("time.not_before")
			}
		}
	}
}

// heldCheckpoint is the note that an opening's `checkpoint` stands for, without its log's lines.
func heldCheckpoint(held object) (*checkpoint, bool) {
	root, _ := hex.DecodeString(text(held, "root"))
	size := number(held, "size")
	c := &checkpoint{origin: text(held, "log"), size: uint64(size), root: root}
	c.text = fmt.Sprintf("%s\n%d\n%s\n", c.origin, size, base64.StdEncoding.EncodeToString(root))
	lines, _ := held["cosignatures"].([]any)
	for _, item := range lines {
		l, ok := readLine(item.(string))
		if !ok {
			return nil, false
		}
		c.lines = append(c.lines, l)
	}
	empty := sha256.Sum256(nil)
	return c, size > 0 || bytes.Equal(root, empty[:])
}
