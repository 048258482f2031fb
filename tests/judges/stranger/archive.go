package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"regexp"
	"strings"
)

// The ZIP file (§8), read by hand: the limits are about the structure, not about the members.

var errArchive = errors.New("not a readable package")

const (
	endSize     = 22
	smallLimit  = 4 << 20
	totalLimit  = 1 << 30
	memberLimit = 100_000
	folderLimit = 32 << 20
)

var (
	pathForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,4}$`)
	topForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	le       = binary.LittleEndian
)

type entry struct {
	name                 string
	flags, method        uint16
	crc                  uint32
	packed, size, offset uint64
}

// archive is what a package holds; a damaged member is there, without its content.
type archive struct {
	members map[string][]byte // by the names below the top folder
	damaged map[string]bool   // what only reading a member shows
}

// readArchive reads the one layout (§8): members from offset 0, in the directory's order, no room.
func readArchive(data []byte) (*archive, error) {
	entries, start, err := readFolder(data)
	if err != nil {
		return nil, err
	}
	a := &archive{map[string][]byte{}, map[string]bool{}}
	lowered, folders, end, total, top := map[string]bool{}, map[string]string{}, uint64(0), uint64(0), ""
	for _, e := range entries {
		folder, name, found := strings.Cut(e.name, "/")
		if !found || !topForm.MatchString(folder) || (top != "" && folder != top) {
			return nil, errArchive
		}
		top = folder
		low := strings.ToLower(name)
		if !pathForm.MatchString(name) || lowered[low] || e.offset != end {
			return nil, errArchive
		}
		lowered[low] = true
		for i := range low {
			if low[i] == '/' {
				if before, there := folders[low[:i]]; there && before != name[:i] {
					return nil, errArchive // one folder in two spellings
				}
				folders[low[:i]] = name[:i]
			}
		}
		original := strings.HasPrefix(name, "data/originals/")
		if total += e.size; original {
			total -= e.size
		}
		if total > totalLimit {
			return nil, errArchive
		}
		packed, next, err := findMember(data, e, start)
		if err != nil {
			return nil, err
		}
		content, ok := unpack(packed, e, original)
		a.members[name], a.damaged[name], end = content, !ok, next
	}
	for folder := range folders {
		if lowered[folder] {
			return nil, errArchive
		}
	}
	if len(entries) == 0 || end != start {
		return nil, errArchive
	}
	return a, nil
}

// readFolder reads the end record, which is the last 22 bytes, and the directory before it.
func readFolder(data []byte) ([]entry, uint64, error) {
	at := len(data) - endSize
	if at < 0 || string(data[at:at+4]) != "PK\x05\x06" {
		return nil, 0, errArchive
	}
	tail := data[at:]
	count, size, start := uint64(le.Uint16(tail[10:])), uint64(le.Uint32(tail[12:])), uint64(le.Uint32(tail[16:]))
	if le.Uint32(tail[4:]) != 0 || le.Uint16(tail[8:]) != le.Uint16(tail[10:]) || le.Uint16(tail[20:]) != 0 {
		return nil, 0, errArchive
	}
	limit := uint64(at)
	if count == 0xffff || size == 0xffffffff || start == 0xffffffff {
		if at < 76 {
			return nil, 0, errArchive
		}
		limit -= 76
		wide, locator := data[at-76:at-20], data[at-20:at]
		if string(locator[:4]) != "PK\x06\x07" || le.Uint32(locator[4:]) != 0 || le.Uint64(locator[8:]) != limit ||
			le.Uint32(locator[16:]) != 1 || string(wide[:4]) != "PK\x06\x06" || le.Uint64(wide[4:]) != 44 || le.Uint16(wide[12:]) != 45 || le.Uint16(wide[14:]) != 45 ||
			le.Uint64(wide[16:]) != 0 || le.Uint64(wide[24:]) != le.Uint64(wide[32:]) {
			return nil, 0, errArchive
		}
		if !larger(&count, le.Uint64(wide[32:]), 0xffff) || !larger(&size, le.Uint64(wide[40:]), 0xffffffff) ||
			!larger(&start, le.Uint64(wide[48:]), 0xffffffff) {
			return nil, 0, errArchive
		}
	} else if at >= 20 && string(data[at-20:at-16]) == "PK\x06\x07" {
		return nil, 0, errArchive
	}
	if count > memberLimit || size > folderLimit || start > limit || size != limit-start {
		return nil, 0, errArchive
	}
	entries, folder := []entry{}, data[start:start+size]
	for len(folder) > 0 {
		e, length, ok := readEntry(folder)
		if !ok {
			return nil, 0, errArchive
		}
		entries, folder = append(entries, e), folder[length:]
	}
	if uint64(len(entries)) != count {
		return nil, 0, errArchive
	}
	return entries, start, nil
}

// larger puts a ZIP64 number in the place of a sentinel; where there is none, both are equal.
func larger(field *uint64, wide, sentinel uint64) bool {
	if *field != sentinel && *field != wide {
		return false
	}
	*field = wide
	return true
}

// readEntry reads the first entry of the rest of a directory, and says how long it is.
func readEntry(folder []byte) (entry, int, bool) {
	if len(folder) < 46 || string(folder[:4]) != "PK\x01\x02" {
		return entry{}, 0, false
	}
	n, x := int(le.Uint16(folder[28:])), int(le.Uint16(folder[30:]))
	if len(folder) < 46+n+x || le.Uint32(folder[32:]) != 0 || le.Uint16(folder[36:]) != 0 || le.Uint32(folder[38:]) != 0o100644<<16 ||
		folder[5] != 3 || !version(uint16(folder[4])) || !version(le.Uint16(folder[6:])) || le.Uint32(folder[12:]) != moment {
		return entry{}, 0, false
	}
	e := entry{
		string(folder[46 : 46+n]), le.Uint16(folder[8:]), le.Uint16(folder[10:]), le.Uint32(folder[16:]),
		uint64(le.Uint32(folder[20:])), uint64(le.Uint32(folder[24:])), uint64(le.Uint32(folder[42:])),
	}
	ok := widen(folder[46+n:46+n+x], &e.size, &e.packed, &e.offset)
	switch {
	case !ok || e.flags != 0 || (e.method != 0 && e.method != 8):
	case e.method == 0 && e.packed != e.size:
	case e.method == 8 && e.size/200 > e.packed, e.method == 8 && e.size > 200*e.packed:
	default:
		return e, 46 + n + x, true
	}
	return entry{}, 0, false
}

const moment = 33 << 16 // 1980-01-01 00:00 as date and time

// version says whether a header states what packages need of a reader: 2.0, or 4.5 for ZIP64.
func version(stated uint16) bool { return stated == 20 || stated == 45 }

// widen replaces the fields that are 2^32-1 by those of the one extra field, which holds no others.
func widen(extra []byte, fields ...*uint64) bool {
	wanted := []*uint64{}
	for _, field := range fields {
		if *field == 0xffffffff {
			wanted = append(wanted, field)
		}
	}
	if len(wanted) == 0 {
		return len(extra) == 0
	}
	if len(extra) != 4+8*len(wanted) || le.Uint16(extra) != 1 || int(le.Uint16(extra[2:])) != 8*len(wanted) {
		return false
	}
	for i, field := range wanted {
		*field = le.Uint64(extra[4+8*i:])
	}
	return true
}

// findMember compares the two headers, and returns the member's data and where they end.
func findMember(data []byte, e entry, limit uint64) ([]byte, uint64, error) {
	if e.offset > limit || limit-e.offset < 30 || string(data[e.offset:e.offset+4]) != "PK\x03\x04" {
		return nil, 0, errArchive
	}
	local := data[e.offset:limit]
	n, x := uint64(le.Uint16(local[26:])), uint64(le.Uint16(local[28:]))
	if uint64(len(local)) < 30+n+x || e.packed > uint64(len(local))-30-n-x {
		return nil, 0, errArchive
	}
	packed, size := uint64(le.Uint32(local[18:])), uint64(le.Uint32(local[22:]))
	extra := local[30+n : 30+n+x]
	if (packed == 0xffffffff) != (size == 0xffffffff) && len(extra) != 0 {
		return nil, 0, errArchive
	}
	if !widen(extra, &size, &packed) || packed != e.packed || size != e.size {
		return nil, 0, errArchive
	}
	if !version(le.Uint16(local[4:])) || le.Uint32(local[10:]) != moment {
		return nil, 0, errArchive
	}
	if string(local[30:30+n]) != e.name || le.Uint16(local[6:]) != 0 ||
		le.Uint16(local[8:]) != e.method || le.Uint32(local[14:]) != e.crc {
		return nil, 0, errArchive
	}
	return local[30+n+x : 30+n+x+e.packed], e.offset + 30 + n + x + e.packed, nil
}

// unpack says of a small member whether it is small, and ends and sums up as its headers say.
func unpack(packed []byte, e entry, original bool) ([]byte, bool) {
	if original {
		return packed, e.method == 0
	}
	if e.size > smallLimit {
		return nil, false
	}
	if e.method == 8 {
		source := bytes.NewReader(packed)
		plain, err := io.ReadAll(io.LimitReader(flate.NewReader(source), int64(e.size)+1))
		if err != nil || uint64(len(plain)) != e.size || source.Len() != 0 {
			return nil, false
		}
		packed = plain
	}
	if crc32.ChecksumIEEE(packed) != e.crc {
		return nil, false
	}
	return packed, true
}
