package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"time"
)

var errKnown = errors.New("not known keys")

type tsaRoot struct {
	cert        *x509.Certificate
	compromised time.Time
}

type pinnedLog struct {
	keys     []*vkey
	mlDsa    time.Time
	hasMlDsa bool
	policy   *policy
}

type knownKeys struct {
	audience, expires string
	registrars        map[string][]byte // by organ
	logs              map[string]*pinnedLog
	roots             []*tsaRoot
}

// readKnownKeys reads a first file (§6): the person who verifies trusts whoever handed it over.
func readKnownKeys(data []byte) (*knownKeys, error) {
	o, err := parseCanonical(data, 1<<20)
	if err != nil {
		return nil, err
	}
	d, _ := o["signed"].(object)
	signatures, ok := o["signatures"].([]any)
	members := []string{"format", "version", "audience", "expires", "root", "registrars", "logs", "tsa_roots"}
	if !exactly(o, []string{"signatures", "signed"}) || !ok || !exactly(d, members) ||
		d["format"] != "fengni/known-keys/v1" || number(d, "version") < 1 ||
		!matches(d["audience"], nameForm) || !isTime(d["expires"]) {
		return nil, errKnown
	}
	for _, item := range signatures {
		s, _ := item.(object)
		if !exactly(s, []string{"key_id", "signature"}) || !matches(s["key_id"], hex64Form) || !fits(s["signature"], "b64,72") {
			return nil, errKnown
		}
	}
	root, _ := d["root"].(object)
	rootKeys, _ := root["keys"].([]any)
	if !exactly(root, []string{"threshold", "keys"}) || !fits(root["threshold"], "int,1,16") ||
		number(root, "threshold") > int64(len(rootKeys)) || len(rootKeys) > 16 {
		return nil, errKnown
	}
	own, signed := map[string][]byte{}, map[string]bool{}
	// The file is canonical, so `signed` stands last, and its bytes are canonical too.
	_, message, _ := bytes.Cut(data[:len(data)-1], []byte(`],"signed":`))
	for _, item := range rootKeys {
		spki, _ := unbase64(item)
		if _, id, ok := readKey(spki); !ok || own[id] != nil {
			return nil, errKnown
		} else {
			own[id] = spki
		}
	}
	count := int64(0)
	for _, item := range signatures {
		id, signature := text(item.(object), "key_id"), item.(object)["signature"]
		der, _ := unbase64(signature)
		switch {
		case signed[id]:
			return nil, errKnown
		case own[id] != nil && verifySignature(own[id], message, der):
			count++
		case own[id] != nil || number(d, "version") == 1:
			return nil, errKnown
		}
		signed[id] = true
	}
	if count < number(root, "threshold") || len(signatures) > 32 {
		return nil, errKnown
	}
	k := &knownKeys{audience: text(d, "audience"), expires: text(d, "expires")}
	if err := k.readRegistrars(d["registrars"]); err != nil {
		return nil, err
	}
	if err := k.readRoots(d["tsa_roots"]); err != nil {
		return nil, err
	}
	return k, k.readLogs(d["logs"])
}

func (k *knownKeys) readRegistrars(value any) error {
	list, ok := value.([]any)
	k.registrars = map[string][]byte{}
	seen := map[string]bool{}
	for _, item := range list {
		r, _ := item.(object)
		spki, _ := unbase64(r["public_key"])
		_, id, good := readKey(spki)
		organ := text(r, "organ")
		if !exactly(r, []string{"organ", "public_key"}) || !nameForm.MatchString(organ) || !good ||
			seen[id] || k.registrars[organ] != nil {
			return errKnown
		}
		k.registrars[organ], seen[id] = spki, true
	}
	if !ok || len(list) > 1000 {
		return errKnown
	}
	return nil
}

func (k *knownKeys) readRoots(value any) error {
	list, ok := value.([]any)
	for _, item := range list {
		r, _ := item.(object)
		der, _ := unbase64(r["certificate"])
		cert, err := x509.ParseCertificate(der)
		if !exactly(r, []string{"name", "certificate"}, "compromised_since") || err != nil ||
			!fits(r["name"], "text,200") || !fits(r["certificate"], "b64,16384") {
			return errKnown
		}
		root := &tsaRoot{cert: cert}
		if since, there := r["compromised_since"]; there {
			if !isTime(since) {
				return errKnown
			}
			root.compromised, _ = parseTime(since.(string))
		}
		k.roots = append(k.roots, root)
	}
	if !ok || len(list) > 32 {
		return errKnown
	}
	return nil
}

func (k *knownKeys) readLogs(value any) error {
	list, ok := value.([]any)
	k.logs = map[string]*pinnedLog{}
	for _, item := range list {
		l, _ := item.(object)
		origin := text(l, "origin")
		keys, _ := l["keys"].([]any)
		lines, isList := l["witness_policy"].([]any)
		if !exactly(l, []string{"origin", "keys", "witness_policy"}, "ml_dsa_from") ||
			!originForm.MatchString(origin) || k.logs[origin] != nil || len(keys) == 0 || !isList ||
			!fits(l["keys"], "list,16,text,2400") || !fits(l["witness_policy"], "list,256,text,2400") {
			return errKnown
		}
		pinned := &pinnedLog{}
		for _, item := range keys {
			s, _ := item.(string)
			key, err := readVkey(s)
			if err != nil || key.name != origin || key.kind == 4 {
				return errKnown
			}
			pinned.keys = append(pinned.keys, key)
		}
		if from, there := l["ml_dsa_from"]; there {
			if !isTime(from) {
				return errKnown
			}
			pinned.mlDsa, pinned.hasMlDsa = must(parseTime(from.(string))), true
		}
		texts := []string{}
		for _, item := range lines {
			s, isText := item.(string)
			if !isText {
				return errKnown
			}
			texts = append(texts, s)
		}
		var err error
		if pinned.policy, err = readPolicy(texts); err != nil {
			return err
		}
		k.logs[origin] = pinned
	}
	if !ok || len(list) > 100 {
		return errKnown
	}
	return nil
}

func must(t time.Time, _ bool) time.Time { return t }
