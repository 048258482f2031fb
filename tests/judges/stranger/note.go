package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof and tlog-policy.

var errNote = errors.New("not a note")

type vkey struct {
	name string
	id   [4]byte
	kind byte
	key  []byte
}

func readVkey(line string) (*vkey, error) {
	parts := strings.SplitN(line, "+", 3)
	if len(parts) != 3 || parts[0] == "" || strings.ContainsFunc(parts[0], unicode.IsSpace) {
		return nil, errNote
	}
	id, err := hex.DecodeString(parts[1])
	data, ok := unbase64(parts[2])
	if err != nil || len(id) != 4 || strings.ToLower(parts[1]) != parts[1] || !ok || len(data) < 2 {
		return nil, errNote
	}
	want := sha256.Sum256(append([]byte(parts[0]+"\n"), data...))
	length := map[byte]int{1: 32, 4: 32, 6: 1312}[data[0]]
	if !bytes.Equal(want[:4], id) || length == 0 || len(data) != length+1 {
		return nil, errNote
	}
	return &vkey{parts[0], [4]byte(id), data[0], data[1:]}, nil
}

type line struct {
	name, text string
	id         [4]byte
	signature  []byte
}

type checkpoint struct {
	whole, text, origin string
	size                uint64
	root                []byte
	lines               []line
}

// The limits of §7 and §8.
const (
	noteBytes  = 256 << 10
	noteLines  = 64
	proofBytes = 256 << 10
)

var sizeForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,18})$`)

func readCheckpoint(whole string) (*checkpoint, error) {
	split := strings.LastIndex(whole, "\n\n")
	if len(whole) > noteBytes || split < 0 || !utf8.ValidString(whole) || !strings.HasSuffix(whole, "\n") {
		return nil, errNote
	}
	for i := 0; i < len(whole); i++ {
		if whole[i] < 0x20 && whole[i] != '\n' {
			return nil, errNote
		}
	}
	c := &checkpoint{whole: whole, text: whole[:split+1]}
	body := strings.Split(whole[:split], "\n")
	if len(body) < 3 || slices.Contains(body, "") || !sizeForm.MatchString(body[1]) {
		return nil, errNote
	}
	root, ok := unbase64(body[2])
	size, err := strconv.ParseInt(body[1], 10, 64)
	empty := sha256.Sum256(nil)
	if !ok || len(root) != 32 || err != nil || (size == 0 && !bytes.Equal(root, empty[:])) {
		return nil, errNote
	}
	c.origin, c.size, c.root = body[0], uint64(size), root
	texts, seen := strings.Split(strings.TrimSuffix(whole[split+2:], "\n"), "\n"), map[string]bool{}
	if len(texts) > noteLines {
		return nil, errNote
	}
	for _, text := range texts {
		l, ok := readLine(text)
		if !ok || seen[text] {
			return nil, errNote
		}
		seen[text] = true
		c.lines = append(c.lines, l)
	}
	return c, nil
}

// readLine reads a signature line without its line feed.
func readLine(text string) (line, bool) {
	rest, found := strings.CutPrefix(text, "— ")
	name, encoded, found2 := strings.Cut(rest, " ")
	data, ok := unbase64(encoded)
	if !found || !found2 || name == "" || strings.ContainsFunc(name, unicode.IsSpace) || strings.Contains(name, "+") || !ok || len(data) < 5 {
		return line{}, false
	}
	return line{name, text + "\n", [4]byte(data[:4]), data[4:]}, true
}

func (k *vkey) verifies(c *checkpoint, l line) bool {
	if k.kind == 1 {
		return len(l.signature) == 64 && ed25519.Verify(k.key, []byte(c.text), l.signature)
	}
	if len(l.signature) < 8 {
		return false
	}
	stamp, signature := binary.BigEndian.Uint64(l.signature), l.signature[8:]
	if stamp > 1<<63-1 {
		return false
	}
	if k.kind == 4 {
		message := "cosignature/v1\ntime " + strconv.FormatUint(stamp, 10) + "\n" + c.text
		return len(signature) == 64 && ed25519.Verify(k.key, []byte(message), signature)
	}
	message := append([]byte("subtree/v1\n\x00"), byte(len(k.name)))
	message = append(message, k.name...)
	message = binary.BigEndian.AppendUint64(message, stamp)
	message = append(append(message, byte(len(c.origin))), c.origin...)
	message = binary.BigEndian.AppendUint64(message, 0)
	message = binary.BigEndian.AppendUint64(message, c.size)
	message = append(message, c.root...)
	public, err := mldsa.NewPublicKey(mldsa.MLDSA44(), k.key)
	return err == nil && len(signature) == 2420 && mldsa.Verify(public, message, signature, nil) == nil
}

// check counts the verifying and the failing lines of a key.
func (k *vkey) check(c *checkpoint) (good, bad int) {
	for _, l := range c.lines {
		if l.name != k.name || l.id != k.id {
			continue
		}
		if k.verifies(c, l) {
			good++
		} else {
			bad++
		}
	}
	return good, bad
}

// stamped is what an RFC 3161 token for the checkpoint covers (§8).
func (c *checkpoint) stamped() []byte {
	result := c.text + "\n"
	for _, l := range c.lines {
		if l.name == c.origin {
			result += l.text
		}
	}
	return []byte(result)
}

type proof struct {
	index  uint64
	hashes [][]byte
	cp     *checkpoint
}

func readProof(data []byte) (*proof, error) {
	head, rest, found := strings.Cut(string(data), "\n\n")
	lines := strings.Split(head, "\n")
	if len(data) > proofBytes || !found || lines[0] != "c2sp.org/tlog-proof@v1" || len(lines) < 2 {
		return nil, errNote
	}
	lines = lines[1:]
	if extra, has := strings.CutPrefix(lines[0], "extra "); has {
		if _, ok := unbase64(extra); !ok || extra == "" || len(lines) < 2 {
			return nil, errNote
		}
		lines = lines[1:]
	}
	digits, has := strings.CutPrefix(lines[0], "index ")
	if !has || !sizeForm.MatchString(digits) || len(lines)-1 > 64 {
		return nil, errNote
	}
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return nil, errNote
	}
	p := &proof{index: uint64(index)}
	for _, text := range lines[1:] {
		hash, ok := unbase64(text)
		if !ok || len(hash) != 32 {
			return nil, errNote
		}
		p.hashes = append(p.hashes, hash)
	}
	p.cp, err = readCheckpoint(rest)
	if err == nil && p.index >= p.cp.size {
		return nil, errNote
	}
	return p, err
}

func node(left, right []byte) []byte {
	sum := sha256.Sum256(append(append([]byte{1}, left...), right...))
	return sum[:]
}

// includes follows RFC 9162 §2.1.3.2, which spells out RFC 6962's proof.
func (p *proof) includes(leaf []byte) bool {
	sum := sha256.Sum256(append([]byte{0}, leaf...))
	hash, fn := sum[:], p.index
	if fn >= p.cp.size {
		return false
	}
	sn := p.cp.size - 1
	for _, sibling := range p.hashes {
		if sn == 0 {
			return false
		}
		if fn&1 == 1 || fn == sn {
			hash = node(sibling, hash)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			hash = node(hash, sibling)
		}
		fn, sn = fn>>1, sn>>1
	}
	return sn == 0 && bytes.Equal(hash, p.cp.root)
}

type group struct {
	need    int
	members []string
	key     *vkey // of a witness
}

var countForm = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)

type policy struct {
	groups map[string]*group
	quorum string
}

func readPolicy(lines []string) (*policy, error) {
	p, used, seen := &policy{groups: map[string]*group{}}, map[string]bool{}, map[string]bool{}
	logs := map[string]bool{}
	sorts := map[string]int{}
	for _, text := range lines {
		f := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if sorts[f[0]]++; sorts[f[0]] > 64 {
			return nil, errNote
		}
		switch {
		case f[0] == "log" && (len(f) == 2 || len(f) == 3):
			key, err := readVkey(f[1])
			if err != nil || key.kind == 4 || logs[string(key.key)] {
				return nil, errNote
			}
			logs[string(key.key)] = true
		case f[0] == "witness" && (len(f) == 3 || len(f) == 4):
			key, err := readVkey(f[2])
			if err != nil || key.kind == 1 || seen[string(key.key)] || p.groups[f[1]] != nil || f[1] == "none" {
				return nil, errNote
			}
			seen[string(key.key)], p.groups[f[1]] = true, &group{key: key}
		case f[0] == "group" && len(f) >= 4:
			g := &group{members: f[3:]}
			for _, member := range g.members {
				if p.groups[member] == nil || used[member] {
					return nil, errNote
				}
				used[member] = true
			}
			switch f[2] {
			case "all":
				g.need = len(g.members)
			case "any":
				g.need = 1
			default:
				if countForm.MatchString(f[2]) {
					g.need, _ = strconv.Atoi(f[2])
				}
			}
			if g.need < 1 || g.need > len(g.members) || p.groups[f[1]] != nil || f[1] == "none" {
				return nil, errNote
			}
			p.groups[f[1]] = g
		case f[0] == "quorum" && len(f) == 2 && p.quorum == "":
			if f[1] != "none" && p.groups[f[1]] == nil {
				return nil, errNote
			}
			p.quorum = f[1]
		default:
			return nil, errNote
		}
	}
	if p.quorum == "" {
		return nil, errNote
	}
	return p, nil
}

// judge says whether a known witness's line fails, whether the quorum is met, and the earliest time
// and latest time (POSIX seconds) that a known witness states; -1 where none does.
func (p *policy) judge(c *checkpoint) (failing, met bool, earliest, latest int64) {
	signed := map[string]bool{}
	earliest = -1
	for name, g := range p.groups {
		if g.key == nil {
			continue
		}
		good, bad := g.key.check(c)
		for _, l := range c.lines {
			if l.name != g.key.name || l.id != g.key.id || len(l.signature) < 8 {
				continue
			}
			at := int64(binary.BigEndian.Uint64(l.signature))
			if at == 0 {
				bad++
			}
			if earliest < 0 || at < earliest {
				earliest = at
			}
			latest = max(latest, at)
		}
		failing = failing || bad > 0
		signed[name] = good > 0 && bad == 0
	}
	var witnessed func(string) bool
	witnessed = func(name string) bool {
		g, count := p.groups[name], 0
		if g.key != nil {
			return signed[name]
		}
		for _, member := range g.members {
			if witnessed(member) {
				count++
			}
		}
		return count >= g.need
	}
	if failing {
		return true, false, -1, 0
	}
	return false, p.quorum == "none" || witnessed(p.quorum), earliest, latest
}
