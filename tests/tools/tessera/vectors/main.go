// Writes known answers of other people's implementations as JSON, for tests/vectors/peers.json:
// golang.org/x/mod/sumdb/tlog (the Go checksum database) for roots and proofs,
// golang.org/x/mod/sumdb/note for signed notes, Tessera's layout for paths.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The key of the example in the note package's own documentation.
const signerKey = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
const verifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
const noteText = "If you think cryptography is the answer to your problem,\n" +
	"then you don't know what your problem is.\n"

type inclusion struct {
	Index int64    `json:"index"`
	Size  int64    `json:"size"`
	Proof []string `json:"proof"`
}

type consistency struct {
	Old   int64    `json:"old"`
	Size  int64    `json:"size"`
	Proof []string `json:"proof"`
}

type path struct {
	Level uint64 `json:"level"`
	Index uint64 `json:"index"`
	Width uint8  `json:"width"` // 0 for a full one
	Tile  string `json:"tile"`
	Under string `json:"bundle"` // of the same index and width
}

type known struct {
	Entry       string            `json:"entry"`
	Roots       map[string]string `json:"roots"`
	Inclusion   []inclusion       `json:"inclusion"`
	Consistency []consistency     `json:"consistency"`
	Paths       []path            `json:"paths"`
	SignerKey   string            `json:"signer_key"`
	VerifierKey string            `json:"verifier_key"`
	Text        string            `json:"text"`
	Note        string            `json:"note"`
}

type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		found[i] = s[x]
	}
	return found, nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func written(hashes []tlog.Hash) []string {
	texts := []string{}
	for _, h := range hashes {
		texts = append(texts, hex.EncodeToString(h[:]))
	}
	return texts
}

func main() {
	sizes := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 100, 255, 256, 257, 511, 512, 513,
		1000, 65535, 65536, 65537, 70000}
	out := known{Entry: "entry %d", Roots: map[string]string{}, SignerKey: signerKey,
		VerifierKey: verifierKey, Text: noteText}

	var all stored
	for i := int64(0); i < sizes[len(sizes)-1]; i++ {
		hashes, err := tlog.StoredHashes(i, []byte(fmt.Sprintf(out.Entry, i)), all)
		must(err)
		all = append(all, hashes...)
	}
	for n, size := range sizes {
		root, err := tlog.TreeHash(size, all)
		must(err)
		out.Roots[fmt.Sprint(size)] = hex.EncodeToString(root[:])
		for _, index := range []int64{0, size / 2, size - 1} {
			proof, err := tlog.ProveRecord(size, index, all)
			must(err)
			out.Inclusion = append(out.Inclusion, inclusion{index, size, written(proof)})
		}
		for m, old := range sizes[:n+1] {
			if n > 11 && m != 0 && m != n/2 && m < n-1 { // all of the small ones, some of the large
				continue
			}
			proof, err := tlog.ProveTree(size, old, all)
			must(err)
			out.Consistency = append(out.Consistency, consistency{old, size, written(proof)})
		}
	}
	for _, p := range []path{{Level: 0, Index: 0}, {Level: 0, Index: 999, Width: 1},
		{Level: 1, Index: 1000, Width: 255}, {Level: 2, Index: 1234067},
		{Level: 3, Index: 1234067, Width: 17}, {Level: 5, Index: 1000000}} {
		p.Tile = layout.TilePath(p.Level, p.Index, p.Width)
		p.Under = layout.EntriesPath(p.Index, p.Width)
		out.Paths = append(out.Paths, p)
	}
	signer, err := note.NewSigner(signerKey)
	must(err)
	signed, err := note.Sign(&note.Note{Text: noteText}, signer)
	must(err)
	out.Note = string(signed)

	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	must(encoder.Encode(out))
}
