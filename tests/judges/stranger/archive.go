package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"regexp"
	"sort"
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

// readArchive returns the members by their names below the top folder.
func readArchive(data []byte) (map[string][]byte, error) {
	entries, start, err := readFolder(data)
	if err != nil {
		return nil, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].offset < entries[j].offset })
	members, lowered, end, total, top := map[string][]byte{}, map[string]bool{}, uint64(0), uint64(0), ""
	for _, e := range entries {
		folder, name, found := strings.Cut(e.name, "/")
		if !found || !topForm.MatchString(folder) || (top != "" && folder != top) {
			return nil, errArchive
		}
		top = folder
		if !pathForm.MatchString(name) || lowered[strings.ToLower(name)] || e.offset < end {
			return nil, errArchive
		}
		lowered[strings.ToLower(name)] = true
		original := strings.HasPrefix(name, "data/originals/")
		if total += e.size; !original && e.size > smallLimit || original && e.method != 0 {
			return nil, errArchive
		}
		if original {
			total -= e.size
		}
		if total > totalLimit {
			return nil, errArchive
		}
		content, next, err := readMember(data, e, start)
		if err != nil {
			return nil, err
		}
		members[name], end = content, next
	}
	if len(members) == 0 {
		return nil, errArchive
	}
	return members, nil
}

func readFolder(data []byte) ([]entry, uint64, error) {
	at := bytes.LastIndex(data, []byte("PK\x05\x06"))
	for at >= 0 && (at+endSize > len(data) || at+endSize+int(le.Uint16(data[at+20:])) != len(data)) {
		at = bytes.LastIndex(data[:at], []byte("PK\x05\x06"))
	}
	if at < 0 {
		return nil, 0, errArchive
	}
	tail := data[at:]
	count, size, start := uint64(le.Uint16(tail[10:])), uint64(le.Uint32(tail[12:])), uint64(le.Uint32(tail[16:]))
	if le.Uint16(tail[4:]) != 0 || le.Uint16(tail[6:]) != 0 || le.Uint16(tail[8:]) != le.Uint16(tail[10:]) {
		return nil, 0, errArchive
	}
	limit := uint64(at)
	if at >= 20 && string(data[at-20:at-16]) == "PK\x06\x07" {
		wide := le.Uint64(data[at-12:])
		if wide > uint64(at)-20 || uint64(at)-20-wide < 56 || string(data[wide:wide+4]) != "PK\x06\x06" {
			return nil, 0, errArchive
		}
		count, size, start = le.Uint64(data[wide+32:]), le.Uint64(data[wide+40:]), le.Uint64(data[wide+48:])
		limit = wide
	}
	if count > memberLimit || size > folderLimit || start > limit || size != limit-start {
		return nil, 0, errArchive
	}
	entries, folder := []entry{}, data[start:start+size]
	for len(folder) > 0 {
		if len(folder) < 46 || string(folder[:4]) != "PK\x01\x02" {
			return nil, 0, errArchive
		}
		n, x, c := int(le.Uint16(folder[28:])), int(le.Uint16(folder[30:])), int(le.Uint16(folder[32:]))
		if len(folder) < 46+n+x+c || le.Uint16(folder[34:]) != 0 {
			return nil, 0, errArchive
		}
		e := entry{
			string(folder[46 : 46+n]), le.Uint16(folder[8:]), le.Uint16(folder[10:]), le.Uint32(folder[16:]),
			uint64(le.Uint32(folder[20:])), uint64(le.Uint32(folder[24:])), uint64(le.Uint32(folder[42:])),
		}
		if !widen(folder[46+n:46+n+x], &e.size, &e.packed, &e.offset) {
			return nil, 0, errArchive
		}
		entries, folder = append(entries, e), folder[46+n+x+c:]
	}
	if uint64(len(entries)) != count {
		return nil, 0, errArchive
	}
	return entries, start, nil
}

// widen replaces the fields that are 2^32-1 by those of the ZIP64 extra field, in its order.
func widen(extra []byte, fields ...*uint64) bool {
	for len(extra) >= 4 {
		id, size := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if len(extra) < 4+size {
			return false
		}
		if body := extra[4 : 4+size]; id == 1 {
			for _, field := range fields {
				if *field != 0xffffffff {
					continue
				}
				if len(body) < 8 {
					return false
				}
				*field, body = le.Uint64(body), body[8:]
			}
		}
		extra = extra[4+size:]
	}
	return len(extra) == 0
}

// readMember compares the two headers, unpacks the member and returns where it ends.
func readMember(data []byte, e entry, limit uint64) ([]byte, uint64, error) {
	if e.offset > limit || limit-e.offset < 30 || string(data[e.offset:e.offset+4]) != "PK\x03\x04" {
		return nil, 0, errArchive
	}
	local := data[e.offset:limit]
	n, x := uint64(le.Uint16(local[26:])), uint64(le.Uint16(local[28:]))
	if uint64(len(local)) < 30+n+x || e.packed > uint64(len(local))-30-n-x {
		return nil, 0, errArchive
	}
	packed, size := uint64(le.Uint32(local[18:])), uint64(le.Uint32(local[22:]))
	if !widen(local[30+n:30+n+x], &size, &packed) || packed != e.packed || size != e.size {
		return nil, 0, errArchive
	}
	if string(local[30:30+n]) != e.name || le.Uint16(local[6:]) != e.flags ||
		le.Uint16(local[8:]) != e.method || le.Uint32(local[14:]) != e.crc {
		return nil, 0, errArchive
	}
	if e.flags&^0x0806 != 0 { // bits 1 and 2: how hard deflate tried; bit 11: names are UTF-8
		return nil, 0, errArchive
	}
	content, end := local[30+n+x:30+n+x+e.packed], e.offset+30+n+x+e.packed
	switch e.method {
	case 0:
		if e.packed != e.size {
			return nil, 0, errArchive
		}
	case 8:
		if e.size > 200*e.packed {
			return nil, 0, errArchive
		}
		source := bytes.NewReader(content)
		unpacked, err := io.ReadAll(io.LimitReader(flate.NewReader(source), int64(e.size)+1))
		if err != nil || uint64(len(unpacked)) != e.size || source.Len() != 0 {
			return nil, 0, errArchive
		}
		content = unpacked
	default:
		return nil, 0, errArchive
	}
	if crc32.ChecksumIEEE(content) != e.crc {
		return nil, 0, errArchive
	}
	return content, end, nil
}
