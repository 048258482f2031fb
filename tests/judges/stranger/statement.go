package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	errStatement = errors.New("not a statement")
	errVersion   = errors.New("a later version")
	typeForm     = regexp.MustCompile(`^fengni/([a-z]+)/v([1-9][0-9]{0,3})$`)
	saltForm     = regexp.MustCompile(`^[0-9a-f]{32}$`)
	mediaForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*$`)
)

const maxInt = "9007199254740991"

// rules are the bodies of docs/reference/statements.md: "name:rule", "name?:rule" when optional.
var rules = map[string]string{
	"key": "action:request|enrol|rotate|revoke key_id:hex holder:name epoch?:int,1,1000000 " +
		"role:rule_author|device|patrol|officer|auxiliary|reviewer|party|server " +
		"sequence?:int,1," + maxInt + " public_key?:b64,91 possession?:@possession replaces?:hex " +
		"suspected_since?:time reason?:code label?:name",
	"policy": "policy:rule_pack|retention_class|witness_policy|sampling name:name edition:int,1,1000000 " +
		"document:@file in_force_from:time in_force_until?:time",
	"session": "phase:open|close session:visit|sortie|patrol task?:name officers?:list,16,name " +
		"checkpoint?:@checkpoint count?:int,0,1000000 inventory?:@file",
	"capture": "content:@named mode:attended|automated|import captured_at:time " +
		"utc_offset_min?:int,-1080,1080 place?:@place officer?:name task?:name " +
		"number?:int,1,1000000 make?:text,64 model?:text,64",
	"detection": "capture:hex signed_by:box|gateway model:name weights_sha256:hex " +
		"threshold_ppm:int,0,1000000 class:code score_ppm:int,0,1000000 box?:@box " +
		"first_frame?:int,0," + maxInt + " last_frame?:int,0," + maxInt,
	"present": "officer:name capacity:lead|second|observer present_from:time present_until?:time place?:@place",
	"adopt":   "officer:name verified_by:site_visit|questioning|documents record:list,200,hex",
	"stored": "content:@file object:@object received_at:time locked_until?:time assurance:s3-unproven|directory-mode-bits|" +
		"directory-append-only-immutable|s3-object-lock-governance|s3-object-lock-compliance",
	"inspected": "input_sha256:hex outcome:ok|killed_cpu|killed_memory|timeout|crashed tools:list,32,@tool " +
		"isolation:list,16,code facets:list,32,@facet findings:list,64,@finding " +
		"discrepancies:list,64,@discrepancy output?:@file",
	"custody": "event:viewed|previewed|exported|transferred|accepted|derived|held|released|rehashed|" +
		"quarantined|recovered actor:name content?:@file reason?:code recipient?:name reference?:name",
	"check": "check:doctor|scrub|monitor|recovery|keyring outcome:pass|fail|degraded " +
		"results?:list,64,@result keyring?:@keyring report?:@file",
	"review": "review:technical|legal reviewer:name contents:list,200,hex true?:bool clear?:bool " +
		"verdict:accepted|curable_defect|fatal_defect|returned complete?:bool accurate?:bool " +
		"reasons:list,64,@reason",
	"advice": "rule_pack_sha256:hex outcome:code facts:list,64,@fact matched:list,64,code " +
		"unmatched:list,64,code missing:list,64,code",
	"transition": "case:name from_state:code to_state:code actor:name reasons:list,64,@reason",
	"decision": "case:name outcome:code procedure:simple|ordinary track:standard|fast decided_by:name " +
		"evidence:list,200,hex advice?:hex document?:@file reasons:list,64,@reason",
	"document": "content:@file document:code number:text,64 case?:name",
	"submission": "case:name party:name submission:statement|defence|waiver|consent|evidence " +
		"channel:counter|online|post|on_site content:@file received_at:time",
	"correction": "actor:name replacement?:hex reasons:list,64,@reason",
	"disposed": "disposed:content|text contents:list,200,hex retention_class:name authority:text,200 " +
		"approvals:list,200,hex expired_at:time",
	"succession":   "log:origin predecessor:@predecessor reason:year|rolled_back|keys|moved",
	"@predecessor": "log:origin size:int,0," + maxInt + " root:hex",
	"@possession":  "statement:b64,2048 signature:b64,72",
	"@file":        "sha256:hex size_bytes:int,0,1099511627776 media_type:media",
	"@named":       "sha256:hex size_bytes:int,0,1099511627776 media_type:media name?:text,255",
	"@checkpoint":  "log:origin size:int,0," + maxInt + " root:hex cosignatures?:list,8,text,512",
	"@place":       "lat_e7:int,-900000000,900000000 lon_e7:int,-1800000000,1800000000 accuracy_mm:int,0,10000000000 height_mm?:int,-100000000,100000000 source:gnss|network|fused|manual",
	"@box":         "left_px:int,0,1000000 top_px:int,0,1000000 width_px:int,1,1000000 height_px:int,1,1000000",
	"@object":      "store:name name:hex size_bytes:int,0," + maxInt + " version?:text,255",
	"@tool":        "name:name version:text,64 sha256?:hex",
	"@facet":       "facet:code state:absent|read|present_unreadable|unsupported",
	"@finding":     "code:code facet?:code",
	"@discrepancy": "code:code difference?:int,-" + maxInt + "," + maxInt + " unit?:code",
	"@result":      "code:code outcome:pass|fail|note count?:int,0," + maxInt,
	"@keyring":     "log:origin size:int,0," + maxInt + " sequence:int,0," + maxInt + " head?:hex",
	"@reason":      "code:code article?:text,200 note?:text,1000",
	"@fact":        "fact:code evidence:list,200,hex",
}

const aboutNeeded = " present adopt stored inspected custody review correction disposed "

var keyNeeds = map[string]string{
	"request": "public_key", "enrol": "epoch possession public_key sequence",
	"rotate": "epoch possession public_key replaces sequence", "revoke": "epoch reason sequence",
}

func fits(value any, rule string) bool {
	kind, rest, _ := strings.Cut(rule, ",")
	switch kind {
	case "hex":
		return matches(value, hex64Form)
	case "name":
		return matches(value, nameForm)
	case "code":
		return matches(value, codeForm)
	case "origin":
		return matches(value, originForm)
	case "media":
		s, ok := value.(string)
		return ok && len(s) <= 127 && mediaForm.MatchString(s)
	case "time":
		return isTime(value)
	case "bool":
		_, ok := value.(bool)
		return ok
	case "text":
		s, ok := value.(string)
		limit, _ := strconv.Atoi(rest)
		return ok && s != "" && utf8.RuneCountInString(s) <= limit
	case "b64":
		data, ok := unbase64(value)
		limit, _ := strconv.Atoi(rest)
		return ok && len(data) >= 1 && len(data) <= limit
	case "int":
		n, ok := value.(int64)
		low, high, _ := strings.Cut(rest, ",")
		l, _ := strconv.ParseInt(low, 10, 64)
		h, _ := strconv.ParseInt(high, 10, 64)
		return ok && n >= l && n <= h
	case "list":
		most, each, _ := strings.Cut(rest, ",")
		list, ok := value.([]any)
		limit, _ := strconv.Atoi(most)
		for _, item := range list {
			ok = ok && fits(item, each)
		}
		return ok && len(list) <= limit
	}
	if kind[0] == '@' {
		o, ok := value.(object)
		return ok && fitsAll(o, rules[kind])
	}
	s, ok := value.(string)
	return ok && s != "" && strings.Contains("|"+rule+"|", "|"+s+"|")
}

func fitsAll(body object, schema string) bool {
	must, may := []string{}, []string{}
	for _, field := range strings.Fields(schema) {
		name, rule, _ := strings.Cut(field, ":")
		plain, optional := strings.CutSuffix(name, "?")
		if value, there := body[plain]; there && !fits(value, rule) {
			return false
		}
		if optional {
			may = append(may, plain)
		} else {
			must = append(must, plain)
		}
	}
	return exactly(body, must, may...)
}

type statement struct {
	id, kind, organ, audience, signer, about, previous string
	body                                               object
	key                                                []byte // SubjectPublicKeyInfo of the leaf
	signature                                          []byte
	leaf                                               []byte
	proof                                              *proof
	log                                                string
	index                                              int64
	valid                                              bool
	holder, suspected                                  string // of the valid signer's key
	aboutLog                                           string // empty where it names no place
	aboutIndex                                         int64
}

func readStatement(data []byte) (*statement, error) {
	o, err := parseCanonical(data, 16384)
	if err != nil {
		return nil, err
	}
	name, _ := o["type"].(string)
	parts := typeForm.FindStringSubmatch(name)
	if parts == nil || rules[parts[1]] == "" {
		return nil, errStatement
	}
	if parts[2] != "1" {
		return nil, errVersion
	}
	must := []string{"type", "suite", "audience", "organ", "signer", "salt", "made_at", "body"}
	body, isObject := o["body"].(object)
	if !exactly(o, must, "about", "previous") || o["suite"] != "es256" || !matches(o["audience"], nameForm) ||
		!matches(o["organ"], nameForm) || !matches(o["signer"], hex64Form) || !matches(o["salt"], saltForm) ||
		!isTime(o["made_at"]) || !isObject || !fitsAll(body, rules[parts[1]]) {
		return nil, errStatement
	}
	s := &statement{kind: parts[1], body: body}
	s.organ, s.audience, s.signer = o["organ"].(string), o["audience"].(string), o["signer"].(string)
	if previous, there := o["previous"]; there {
		if !matches(previous, hex64Form) {
			return nil, errStatement
		}
		s.previous = previous.(string)
	}
	if value, there := o["about"]; there {
		about, ok := value.(object)
		if !ok || !matches(about["statement"], hex64Form) || !exactly(about, []string{"statement"}, "log", "index") {
			return nil, errStatement
		}
		if len(about) > 1 && (len(about) != 3 || !matches(about["log"], originForm) || !fits(about["index"], "int,0,"+maxInt)) {
			return nil, errStatement
		}
		s.about = about["statement"].(string)
		s.aboutLog, s.aboutIndex = text(about, "log"), number(about, "index")
	}
	needs := keyNeeds[text(body, "action")]
	if s.kind == "session" && body["phase"] == "close" {
		needs = "count"
	}
	if s.kind == "check" {
		if _, there := body["keyring"]; there != (body["check"] == "keyring") {
			return nil, errStatement
		}
	}
	for _, need := range strings.Fields(needs) {
		if _, there := body[need]; !there {
			return nil, errStatement
		}
	}
	if s.about == "" && (strings.Contains(aboutNeeded, " "+s.kind+" ") || needs == "count") {
		return nil, errStatement
	}
	sum := sha256.Sum256(data)
	s.id = hex.EncodeToString(sum[:])
	return s, nil
}

// isAbout is the one rule of §2; both stand in a log.
func (s *statement) isAbout(subject *statement) bool {
	return s.about == subject.id && s.log == subject.log && s.index > subject.index &&
		(s.aboutLog == "" || (s.aboutLog == subject.log && s.aboutIndex == subject.index)) &&
		s.organ == subject.organ && s.audience == subject.audience
}

func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

func number(o object, name string) int64 {
	n, ok := o[name].(int64)
	if !ok {
		return -1
	}
	return n
}

// readKey reads a statement key (§3) and returns its id.
func readKey(spki []byte) (*ecdsa.PublicKey, string, bool) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	key, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || key.Curve != elliptic.P256() || len(spki) != 91 {
		return nil, "", false
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	sum := sha256.Sum256(spki)
	return key, hex.EncodeToString(sum[:]), err == nil && string(again) == string(spki)
}

func verifySignature(spki, message, signature []byte) bool {
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(signature, &pair)
	if err != nil || len(rest) != 0 || len(signature) > 72 || pair.R.Sign() < 1 || pair.S.Sign() < 1 {
		return false
	}
	again, err := asn1.Marshal(pair)
	if err != nil || string(again) != string(signature) {
		return false
	}
	key, _, ok := readKey(spki)
	sum := sha256.Sum256(message)
	return ok && ecdsa.VerifyASN1(key, sum[:], signature)
}

var leafForm = regexp.MustCompile(`^\{"apiVersion":"0\.0\.2","kind":"hashedrekord","spec":\{"hashedRekordV002":\{` +
	`"data":\{"algorithm":"SHA2_256","digest":"([^"]*)"\},"signature":\{"content":"([^"]*)","verifier":\{` +
	`"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":\{"rawBytes":"([^"]*)"\}\}\}\}\}\}$`)

// readLeaf returns the signature and the key of a leaf (§4) that carries the statement id.
func readLeaf(leaf []byte, id string) (signature, spki []byte, ok bool) {
	parts := leafForm.FindSubmatch(leaf)
	if parts == nil {
		return nil, nil, false
	}
	digest, _ := hex.DecodeString(id)
	signature, ok1 := unbase64(string(parts[2]))
	spki, ok2 := unbase64(string(parts[3]))
	return signature, spki, ok1 && ok2 && string(parts[1]) == base64.StdEncoding.EncodeToString(digest)
}
