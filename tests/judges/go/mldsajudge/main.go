// Command mldsajudge judges the ML-DSA-44 lines of a checkpoint (C2SP tlog-cosignature, type 0x06)
// with Go's crypto/mldsa and nothing else. It was written from the specification's text: key id,
// timestamped_signature and cosigned_message are spelt out below.
//
//	mldsajudge -checkpoint FILE VKEY...
//
// Each key must have signed exactly one line. It prints the times by key name as JSON and exits 0,
// or says what it refuses and exits 1.
package main

import (
	"bytes"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	kind           = 0x06
	publicKeyBytes = 1312
	signatureBytes = 2420
)

type key struct {
	name   string
	id     []byte
	public *mldsa.PublicKey
}

type treeHead struct {
	origin string
	size   uint64
	root   []byte
}

// parseKey reads <name>+<hex id>+<base64 of 0x06 and the public key> and recomputes the id:
// SHA-256(<name> || "\n" || 0x06 || 1312-byte ML-DSA-44 cosigner public key)[:4].
func parseKey(vkey string) (key, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return key{}, errors.New("malformed verifier key")
	}
	material, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(material) != 1+publicKeyBytes || material[0] != kind {
		return key{}, errors.New("not an ML-DSA-44 verifier key")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), material...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return key{}, errors.New("the verifier key carries another key's id")
	}
	public, err := mldsa.NewPublicKey(mldsa.MLDSA44(), material[1:])
	return key{name: parts[0], id: sum[:4], public: public}, err
}

func parseHead(text string) (treeHead, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 3 {
		return treeHead{}, errors.New("the checkpoint has not three lines")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return treeHead{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return treeHead{}, errors.New("the root hash is malformed")
	}
	return treeHead{origin: lines[0], size: size, root: root}, nil
}

// cosignedMessage is the structure of that name, with start = 0 for a checkpoint.
func cosignedMessage(cosigner string, timestamp uint64, head treeHead) []byte {
	var message bytes.Buffer
	message.WriteString("subtree/v1\n\x00")
	message.WriteByte(byte(len(cosigner)))
	message.WriteString(cosigner)
	binary.Write(&message, binary.BigEndian, timestamp)
	message.WriteByte(byte(len(head.origin)))
	message.WriteString(head.origin)
	binary.Write(&message, binary.BigEndian, uint64(0))
	binary.Write(&message, binary.BigEndian, head.size)
	message.Write(head.root)
	return message.Bytes()
}

func judge(data []byte, vkey string) (string, uint64, error) {
	signer, err := parseKey(vkey)
	if err != nil {
		return "", 0, err
	}
	split := bytes.LastIndex(data, []byte("\n\n"))
	if split < 0 {
		return "", 0, errors.New("no note")
	}
	head, err := parseHead(string(data[:split]))
	if err != nil {
		return "", 0, err
	}
	var lines [][]byte
	for _, line := range strings.Split(string(data[split+2:]), "\n") {
		encoded, ok := strings.CutPrefix(line, "— "+signer.name+" ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if ok && err == nil && bytes.HasPrefix(raw, signer.id) {
			lines = append(lines, raw[len(signer.id):])
		}
	}
	if len(lines) != 1 || len(lines[0]) != 8+signatureBytes {
		return "", 0, fmt.Errorf("%s has not signed one line of the right length", signer.name)
	}
	timestamp := binary.BigEndian.Uint64(lines[0])
	message := cosignedMessage(signer.name, timestamp, head)
	return signer.name, timestamp, mldsa.Verify(signer.public, message, lines[0][8:], nil)
}

func main() {
	file := flag.String("checkpoint", "", "the signed checkpoint")
	flag.Parse()
	data, err := os.ReadFile(*file)
	times := map[string]uint64{}
	for _, vkey := range flag.Args() {
		if err == nil {
			var name string
			var at uint64
			name, at, err = judge(data, vkey)
			times[name] = at
		}
	}
	if err == nil && len(times) == 0 {
		err = errors.New("no key was given")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(times)
}
