package main

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"
)

// Canonical JSON (§1). The parser accepts the RFC 8785 form only: no white space, names in
// ascending order, the two escapes that the allowed characters need, integers in shortest form.

type object = map[string]any

var errCanon = errors.New("not canonical JSON")

type parser struct {
	text []byte
	at   int
}

func parseCanonical(text []byte, limit int) (object, error) {
	if len(text) > limit || len(text) == 0 || text[0] != '{' || !utf8.Valid(text) {
		return nil, errCanon
	}
	p := &parser{text: text}
	value, err := p.value(1)
	if err != nil || p.at != len(text) {
		return nil, errCanon
	}
	return value.(object), nil
}

func (p *parser) take(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) word(word string) bool {
	if len(p.text)-p.at >= len(word) && string(p.text[p.at:p.at+len(word)]) == word {
		p.at += len(word)
		return true
	}
	return false
}

var integerForm = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,15})`)

func (p *parser) value(level int) (any, error) {
	switch {
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("null"):
		return nil, nil
	case p.take('"'):
		return p.str()
	case p.take('{'):
		return p.object(level)
	case p.take('['):
		return p.list(level)
	}
	digits := integerForm.Find(p.text[p.at:])
	if digits == nil {
		return nil, errCanon
	}
	p.at += len(digits)
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || n > 1<<53-1 || n < -(1<<53-1) {
		return nil, errCanon
	}
	return n, nil
}

func (p *parser) object(level int) (any, error) {
	if level > 8 {
		return nil, errCanon
	}
	result, last := object{}, ""
	if p.take('}') {
		return result, nil
	}
	for {
		if !p.take('"') {
			return nil, errCanon
		}
		name, err := p.str()
		if err != nil || (len(result) > 0 && name <= last) || !ascii(name) {
			return nil, errCanon
		}
		if !p.take(':') {
			return nil, errCanon
		}
		value, err := p.value(level + 1)
		if err != nil {
			return nil, err
		}
		result[name], last = value, name
		if p.take('}') {
			return result, nil
		}
		if !p.take(',') {
			return nil, errCanon
		}
	}
}

func (p *parser) list(level int) (any, error) {
	if level > 8 {
		return nil, errCanon
	}
	result := []any{}
	if p.take(']') {
		return result, nil
	}
	for {
		value, err := p.value(level + 1)
		if err != nil {
			return nil, err
		}
		result = append(result, value)
		if p.take(']') {
			return result, nil
		}
		if !p.take(',') {
			return nil, errCanon
		}
	}
}

func (p *parser) str() (string, error) {
	result := []byte{}
	for p.at < len(p.text) {
		r, size := utf8.DecodeRune(p.text[p.at:])
		if r == '"' {
			p.at++
			return string(result), nil
		}
		if r == '\\' {
			p.at++
			if p.at == len(p.text) || (p.text[p.at] != '"' && p.text[p.at] != '\\') {
				return "", errCanon
			}
			r, size = rune(p.text[p.at]), 1
		}
		if forbidden(r) {
			return "", errCanon
		}
		result = utf8.AppendRune(result, r)
		p.at += size
	}
	return "", errCanon
}

func forbidden(r rune) bool {
	return r < 0x20 || (r >= 0x7f && r <= 0x9f) || r == 0x61c || r == 0x200e || r == 0x200f ||
		(r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) ||
		(r >= 0xfdd0 && r <= 0xfdef) || r&0xfffe == 0xfffe
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// exactly reports whether the object has all the members in must, and no others but those in may.
func exactly(o object, must []string, may ...string) bool {
	count := 0
	for _, name := range must {
		if _, ok := o[name]; !ok {
			return false
		}
		count++
	}
	for _, name := range may {
		if _, ok := o[name]; ok {
			count++
		}
	}
	return count == len(o)
}

var (
	hex64Form  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	codeForm   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	originForm = regexp.MustCompile(`^[a-z0-9./-]{1,255}$`)
	timeForm   = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`)
)

const timeLayout = "2006-01-02T15:04:05.000Z"

func matches(value any, form *regexp.Regexp) bool {
	s, ok := value.(string)
	return ok && form.MatchString(s)
}

func parseTime(s string) (time.Time, bool) {
	if !timeForm.MatchString(s) {
		return time.Time{}, false
	}
	t, err := time.Parse(timeLayout, s)
	return t, err == nil && t.Year() >= 1
}

func isTime(value any) bool {
	s, ok := value.(string)
	if !ok {
		return false
	}
	_, ok = parseTime(s)
	return ok
}

// unbase64 decodes base64 in its one canonical form.
func unbase64(value any) ([]byte, bool) {
	s, ok := value.(string)
	if !ok {
		return nil, false
	}
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	return data, err == nil && base64.StdEncoding.EncodeToString(data) == s
}
