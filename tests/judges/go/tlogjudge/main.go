// Command tlogjudge judges a log with the code of the Go checksum database (golang.org/x/mod):
// sumdb/note for the checkpoint's Ed25519 signature, sumdb/tlog for every tile, leaf and proof.
//
//	tlogjudge log -vkey KEY [-old FILE] [-every N] FOLDER_OR_URL
//	tlogjudge proof -vkey KEY -entry TEXT FILE
//
// It prints one JSON object and exits 0, or says what it refuses and exits 1. Tiles lie at
// tile/L/N where sumdb has tile/8/L/N, and its entries are the uint16-prefixed ones of C2SP.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height   = 8
	maxBytes = 32 << 20
)

// source reads the static files of a log from a folder or below a URL, each once.
type source struct {
	place string
	seen  map[string][]byte
}

func (s *source) read(path string) ([]byte, error) {
	if data, ok := s.seen[path]; ok {
		return data, nil
	}
	data, err := s.fetch(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.seen[path] = data
	return data, nil
}

func (s *source) fetch(path string) ([]byte, error) {
	if !strings.HasPrefix(s.place, "http://") && !strings.HasPrefix(s.place, "https://") {
		return os.ReadFile(filepath.Join(s.place, filepath.FromSlash(path)))
	}
	response, err := http.Get(strings.TrimSuffix(s.place, "/") + "/" + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxBytes))
}

// tiles lets sumdb/tlog read the tiles of a source; it does not fall back on wider tiles.
type tiles struct{ from *source }

func (t tiles) Height() int { return height }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		data, err := t.from.read(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// openTree verifies a checkpoint under the key and reads the tree that it states.
func openTree(data []byte, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != verifier.Name() || strings.Count(rest, "\n") != 2 {
		return tlog.Tree{}, errors.New("the checkpoint's origin or its number of lines is wrong")
	}
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

// entry reads one entry out of the bundle that has it.
func entry(from *source, index, size int64) ([]byte, error) {
	width := min(size-index/256*256, 256)
	tile := tlog.Tile{H: height, L: 0, N: index / 256, W: int(width)}
	bundle, err := from.read(strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1))
	if err != nil {
		return nil, err
	}
	var found []byte
	for place := int64(0); place < width; place++ {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("%s is cut", tile.Path())
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		if place == index%256 {
			found = bundle[2:end]
		}
		bundle = bundle[end:]
	}
	if len(bundle) > 0 {
		return nil, fmt.Errorf("%s has more entries than the tree", tile.Path())
	}
	return found, nil
}

func checkLeaf(from *source, tree tlog.Tree, index int64) error {
	record, err := entry(from, index, tree.N)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveRecord(tree.N, index, tlog.TileHashReader(tree, tiles{from}))
	if err != nil {
		return fmt.Errorf("leaf %d: %w", index, err)
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(record)); err != nil {
		return fmt.Errorf("leaf %d: %w", index, err)
	}
	return nil
}

func checkGrowth(from *source, tree tlog.Tree, oldFile, vkey string) error {
	data, err := os.ReadFile(oldFile)
	if err != nil {
		return err
	}
	old, err := openTree(data, vkey)
	if err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	proof, err := tlog.ProveTree(tree.N, old.N, tlog.TileHashReader(tree, tiles{from}))
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash)
}

func judgeLog(place, vkey, oldFile string, every int64) (map[string]int64, error) {
	from := &source{place: place, seen: map[string][]byte{}}
	data, err := from.read("checkpoint")
	if err != nil {
		return nil, err
	}
	tree, err := openTree(data, vkey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	root, err := tlog.TreeHash(tree.N, tlog.TileHashReader(tree, tiles{from}))
	if err != nil || root != tree.Hash {
		return nil, fmt.Errorf("the tiles do not have the checkpoint's root: %v", err)
	}
	leaves := int64(0)
	for index := int64(0); index < tree.N; index += every {
		if err := checkLeaf(from, tree, index); err != nil {
			return nil, err
		}
		leaves++
	}
	if err := checkLeaf(from, tree, tree.N-1); err != nil {
		return nil, err
	}
	report := map[string]int64{"size": tree.N, "leaves": leaves + 1}
	if oldFile != "" {
		if err := checkGrowth(from, tree, oldFile, vkey); err != nil {
			return nil, fmt.Errorf("consistency: %w", err)
		}
		report["consistent"] = 1
	}
	return report, nil
}

func judgeProof(file, vkey, text string) (map[string]int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	head, checkpoint, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		return nil, errors.New("no proof of this version")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, errors.New("no index line")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil {
		return nil, err
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != tlog.HashSize {
			return nil, errors.New("a hash is malformed")
		}
		proof = append(proof, tlog.Hash(raw))
	}
	tree, err := openTree(checkpoint, vkey)
	if err != nil {
		return nil, err
	}
	leaf := tlog.RecordHash([]byte(text))
	return map[string]int64{"size": tree.N}, tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf)
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: tlogjudge log|proof …")
		os.Exit(64)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	vkey := flags.String("vkey", "", "the log's Ed25519 verifier key")
	oldFile := flags.String("old", "", "an older checkpoint that the log must be consistent with")
	every := flags.Int64("every", 1, "judge every n-th leaf, and the last")
	text := flags.String("entry", "", "the entry that the proof is about")
	flags.Parse(os.Args[2:])
	var report map[string]int64
	var err error
	if os.Args[1] == "proof" {
		report, err = judgeProof(flags.Arg(0), *vkey, *text)
	} else {
		report, err = judgeLog(flags.Arg(0), *vkey, *oldFile, *every)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(report)
}
