package main

import (
	"sort"
	"strings"
)

// The key ring (§5), one for each log.

type ringKey struct {
	organ, role, holder string
	epoch, from, until  int64 // until: -1 while it has not ended
	suspected           string // since when, where its end says so
	spki                []byte
}

type ring struct {
	audience string
	keys     map[string]*ringKey
	chains   map[string][]*statement // organ: its accepted key statements
	epochs   map[string]int64        // organ, role and holder: the last epoch
}

var roles = map[string]string{
	"policy": "registrar rule_author", "session": "device patrol", "capture": "device patrol",
	"detection": "patrol server", "present": "officer", "adopt": "officer", "stored": "server",
	"inspected": "server", "check": "server", "advice": "server", "document": "server",
	"disposed": "server", "custody": "server officer reviewer", "review": "reviewer",
	"transition": "officer reviewer", "decision": "officer reviewer", "correction": "officer reviewer",
	"submission": "server party", "key": "registrar", "succession": "registrar",
}

// buildRing takes the key statements of one log; ok is false when a chain is broken, and
// strange is true when one is of an organ without a pinned registrar, or of another deployment.
func buildRing(list []*statement, known *knownKeys) (r *ring, ok, strange bool) {
	r = &ring{known.audience, map[string]*ringKey{}, map[string][]*statement{}, map[string]int64{}}
	for organ, spki := range known.registrars {
		_, id, _ := readKey(spki)
		r.keys[id] = &ringKey{organ, "registrar", "registrar", 1, -1, -1, "", spki}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].index < list[j].index })
	broken := map[string]bool{}
	for _, s := range list {
		if s.kind != "key" {
			continue
		}
		if known.registrars[s.organ] == nil || s.audience != known.audience {
			strange = true
		} else if !broken[s.organ] {
			broken[s.organ] = !r.take(s)
		}
	}
	for _, is := range broken {
		if is {
			return r, false, strange
		}
	}
	return r, true, strange
}

// enrolled returns the key that s ends, if it was enrolled for that role and holder and has not ended.
func (r *ring) enrolled(id string, s *statement) *ringKey {
	if k := r.keys[id]; k != nil && k.organ == s.organ && k.role != "registrar" && k.until < 0 &&
		k.role == text(s.body, "role") && k.holder == text(s.body, "holder") {
		return k
	}
	return nil
}

func (r *ring) take(s *statement) bool {
	signer, chain, b := r.keys[s.signer], r.chains[s.organ], s.body
	if signer == nil || signer.role != "registrar" || signer.organ != s.organ {
		return false
	}
	last := ""
	if len(chain) > 0 {
		last = chain[len(chain)-1].id
	}
	if number(b, "sequence") != int64(len(chain))+1 || s.previous != last {
		return false
	}
	var ends *ringKey
	action, id, epoch := text(b, "action"), text(b, "key_id"), number(b, "epoch")
	role, holder := text(b, "role"), text(b, "holder")
	place := s.organ + " " + role + " " + holder
	switch action {
	case "revoke":
		if ends = r.enrolled(id, s); ends == nil || ends.epoch != epoch {
			return false
		}
	case "enrol", "rotate":
		spki, _ := unbase64(b["public_key"])
		_, spkiID, ok := readKey(spki)
		if r.keys[id] != nil || !ok || spkiID != id || epoch != r.epochs[place]+1 || !possessed(s, spki) {
			return false
		}
		if action == "rotate" {
			if ends = r.enrolled(text(b, "replaces"), s); ends == nil {
				return false
			}
		}
		r.keys[id], r.epochs[place] = &ringKey{s.organ, role, holder, epoch, s.index, -1, "", spki}, epoch
	default:
		return false
	}
	if ends != nil {
		ends.until, ends.suspected = s.index, text(b, "suspected_since")
	}
	r.chains[s.organ] = append(chain, s)
	return true
}

func possessed(s *statement, spki []byte) bool {
	possession, _ := s.body["possession"].(object)
	data, _ := unbase64(possession["statement"])
	signature, _ := unbase64(possession["signature"])
	request, err := readStatement(data)
	if err != nil || request.kind != "key" || request.signer != text(s.body, "key_id") ||
		text(request.body, "action") != "request" || request.organ != s.organ || request.audience != s.audience {
		return false
	}
	for _, name := range []string{"key_id", "role", "holder", "public_key"} {
		if text(request.body, name) != text(s.body, name) {
			return false
		}
	}
	if epoch, there := request.body["epoch"]; there && epoch != s.body["epoch"] {
		return false
	}
	return verifySignature(spki, data, signature)
}

// judge says whether the statement's signer is valid at its index (§5), or nothing is known that
// could say so: no chain of the organ, or another deployment.
func (r *ring) judge(s *statement) (valid, unknown bool) {
	k := r.keys[s.signer]
	if s.audience != r.audience {
		return false, true
	}
	if k == nil {
		return false, len(r.chains[s.organ]) == 0
	}
	s.holder, s.suspected = k.holder, k.suspected
	return k.from < s.index && (k.until < 0 || k.until >= s.index) && k.organ == s.organ &&
		string(k.spki) == string(s.key) && strings.Contains(" "+roles[s.kind]+" ", " "+k.role+" "), false
}

// confirmed says whether a valid status confirms the organ's chain beyond an index.
func (r *ring) confirmed(list []*statement, organ, log string, last int64) bool {
	for _, s := range list {
		status, ok := s.body["keyring"].(object)
		if s.kind != "check" || text(s.body, "check") != "keyring" || text(s.body, "outcome") != "pass" || !s.valid || s.organ != organ || !ok {
			continue
		}
		sequence, size := number(status, "sequence"), number(status, "size")
		chain, below := r.chains[organ], int64(0)
		for _, key := range chain {
			if key.index < size {
				below++
			}
		}
		if text(status, "log") == log && size <= s.index && size > last && sequence >= 1 &&
			sequence == below && chain[sequence-1].id == text(status, "head") {
			return true
		}
	}
	return false
}
