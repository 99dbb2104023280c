// Judges a log of ours with other people's code, and gives that code's own answers back.
//
// golang.org/x/mod/sumdb/note opens our checkpoints, .../sumdb/tlog computes roots and proofs
// from our entries and from our tiles, github.com/transparency-dev/formats parses checkpoints
// and proofs, github.com/transparency-dev/merkle checks proofs a second time.
//
// One question in JSON on standard input, one answer in JSON on standard output. Whatever does
// not agree is a line of `faults`; the caller expects none.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	f_log "github.com/transparency-dev/formats/log"
	f_note "github.com/transparency-dev/formats/note"
	f_proof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index int64    `json:"index"`
	Proof []string `json:"proof"`
}

type consistency struct {
	Old   int64    `json:"old"`
	Proof []string `json:"proof"`
}

type tree struct {
	Size        int64         `json:"size"`
	Root        string        `json:"root"`
	Checkpoint  string        `json:"checkpoint"`
	Inclusion   []inclusion   `json:"inclusion"`
	Consistency []consistency `json:"consistency"`
	Proofs      []string      `json:"proofs"` // C2SP tlog-proof, whole texts
}

type question struct {
	Vkeys   []string `json:"vkeys"`   // every checkpoint is signed by all of them
	Entries string   `json:"entries"` // a file: each entry behind its length in two bytes
	Folder  string   `json:"folder"`  // the published log of all these entries
	Trees   []tree   `json:"trees"`
}

type answer struct {
	Faults   []string `json:"faults"`
	Opened   int      `json:"opened"`  // checkpoints, each under each key
	Checked  int      `json:"checked"` // proofs, each by two programs
	Refused  int      `json:"refused"` // spoiled proofs, each by two programs
	Vkey     string   `json:"vkey"`    // of a key made here, under the log's name
	Witness  string   `json:"witness"`
	Trees    []tree   `json:"trees"`    // the same trees, computed and signed here
	Cosigned []string `json:"cosigned"` // our checkpoints, with signatures of ours added
}

var faults = []string{}

func fault(format string, words ...any) { faults = append(faults, fmt.Sprintf(format, words...)) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		found[i] = s[x]
	}
	return found, nil
}

// tiles reads our published folder for tlog.TileHashReader, which checks all it reads.
type tiles struct{ folder string }

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(wanted))
	for i, each := range wanted {
		// tlog names tile/8/L/N[.p/W]; C2SP's tlog-tiles leaves the height out.
		path := strings.Replace(each.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(t.folder, path))
		if err != nil {
			return nil, err
		}
		found[i] = data
	}
	return found, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func written(hashes []tlog.Hash) []string {
	texts := []string{}
	for _, h := range hashes {
		texts = append(texts, hex.EncodeToString(h[:]))
	}
	return texts
}

func hashes(texts []string) []tlog.Hash {
	found := make([]tlog.Hash, len(texts))
	for i, text := range texts {
		raw, err := hex.DecodeString(text)
		must(err)
		copy(found[i][:], raw)
	}
	return found
}

func plain(hashes []tlog.Hash) [][]byte {
	found := [][]byte{}
	for _, h := range hashes {
		found = append(found, append([]byte{}, h[:]...))
	}
	return found
}

func entries(path string) [][]byte {
	data, err := os.ReadFile(path)
	must(err)
	found := [][]byte{}
	for len(data) > 0 {
		end := 2 + int(binary.BigEndian.Uint16(data))
		found = append(found, data[2:end])
		data = data[end:]
	}
	return found
}

// included asks both programs; they must agree.
func included(p []tlog.Hash, size int64, root tlog.Hash, index int64, leaf tlog.Hash) bool {
	first := tlog.CheckRecord(p, size, root, index, leaf) == nil
	second := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), leaf[:], plain(p), root[:]) == nil
	if first != second {
		fault("inclusion of %d in %d: tlog says %v, merkle says %v", index, size, first, second)
	}
	return first
}

func consistent(p []tlog.Hash, size int64, root tlog.Hash, old int64, oldRoot tlog.Hash) bool {
	first := tlog.CheckTree(p, size, root, old, oldRoot) == nil
	second := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(size), plain(p), oldRoot[:], root[:]) == nil
	if first != second {
		fault("consistency of %d and %d: tlog says %v, merkle says %v", old, size, first, second)
	}
	return first
}

func spoiled(p []tlog.Hash) []tlog.Hash {
	found := append([]tlog.Hash{}, p...)
	found[len(found)/2][7] ^= 16
	return found
}

func main() {
	var asked question
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	said := answer{Trees: []tree{}, Cosigned: []string{}}

	var all stored
	var leaves []tlog.Hash
	for i, each := range entries(asked.Entries) {
		more, err := tlog.StoredHashes(int64(i), each, all)
		must(err)
		all = append(all, more...)
		leaves = append(leaves, tlog.RecordHash(each))
	}
	root := func(size int64) tlog.Hash {
		found, err := tlog.TreeHash(size, all)
		must(err)
		return found
	}

	verifiers := []note.Verifier{}
	for _, vkey := range asked.Vkeys {
		v, err := note.NewVerifier(vkey)
		must(err)
		verifiers = append(verifiers, v)
	}
	origin := verifiers[0].Name()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	must(err)
	signer, err := note.NewSigner(skey)
	must(err)
	wskey, wvkey, err := note.GenerateKey(rand.Reader, "witness.example/w1")
	must(err)
	witness, err := f_note.NewSignerForCosignatureV1(wskey)
	must(err)
	said.Vkey, said.Witness = vkey, wvkey

	for _, t := range asked.Trees {
		own := root(t.Size)
		if hex.EncodeToString(own[:]) != t.Root {
			fault("root of %d: %x here, %s there", t.Size, own, t.Root)
		}
		for _, v := range verifiers {
			cp, rest, opened, err := f_log.ParseCheckpoint([]byte(t.Checkpoint), origin, v)
			if err != nil {
				fault("checkpoint of %d under %s: %v", t.Size, v.Name(), err)
				continue
			}
			if cp.Size != uint64(t.Size) || !bytes.Equal(cp.Hash, own[:]) || len(rest) != 0 || len(opened.Sigs) != 1 {
				fault("checkpoint of %d is of another tree, or holds more", t.Size)
			}
			said.Opened++
		}
		opened, err := note.Open([]byte(t.Checkpoint), note.VerifierList(verifiers...))
		if err != nil || len(opened.Sigs) != len(verifiers) || len(opened.UnverifiedSigs) != 0 {
			fault("checkpoint of %d is not signed by exactly the keys named: %v", t.Size, err)
		}

		mine := tree{Size: t.Size, Root: hex.EncodeToString(own[:])}
		for _, each := range t.Inclusion {
			given := hashes(each.Proof)
			if !included(given, t.Size, own, each.Index, leaves[each.Index]) {
				fault("inclusion of %d in %d is refused", each.Index, t.Size)
			}
			said.Checked++
			if len(given) > 0 {
				if included(spoiled(given), t.Size, own, each.Index, leaves[each.Index]) {
					fault("a spoiled inclusion of %d in %d is taken", each.Index, t.Size)
				}
				said.Refused++
			}
			proven, err := tlog.ProveRecord(t.Size, each.Index, all)
			must(err)
			mine.Inclusion = append(mine.Inclusion, inclusion{each.Index, written(proven)})
		}
		for _, each := range t.Consistency {
			given, old := hashes(each.Proof), root(each.Old)
			if !consistent(given, t.Size, own, each.Old, old) {
				fault("consistency of %d and %d is refused", each.Old, t.Size)
			}
			said.Checked++
			if len(given) > 0 {
				if consistent(spoiled(given), t.Size, own, each.Old, old) {
					fault("a spoiled consistency of %d and %d is taken", each.Old, t.Size)
				}
				said.Refused++
			}
			proven, err := tlog.ProveTree(t.Size, each.Old, all)
			must(err)
			mine.Consistency = append(mine.Consistency, consistency{each.Old, written(proven)})
		}

		text := f_log.Checkpoint{Origin: origin, Size: uint64(t.Size), Hash: own[:]}.Marshal()
		signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
		must(err)
		mine.Checkpoint = string(signed)
		both, err := note.Sign(opened, signer, witness)
		must(err)
		said.Cosigned = append(said.Cosigned, string(both))

		for _, each := range t.Proofs {
			var p f_proof.TLogProof
			if err := p.Unmarshal([]byte(each)); err != nil {
				fault("a tlog-proof of %d: %v", t.Size, err)
				continue
			}
			path := []tlog.Hash{}
			for _, h := range p.Hashes {
				path = append(path, tlog.Hash(h))
			}
			index := int64(p.Index)
			if string(p.Checkpoint) != t.Checkpoint || tlog.RecordHash(p.ExtraData) != leaves[index] ||
				!included(path, t.Size, own, index, leaves[index]) || string(p.Marshal()) != each {
				fault("the tlog-proof of %d in %d does not hold", index, t.Size)
			}
			said.Checked++
			p.Checkpoint = signed
			mine.Proofs = append(mine.Proofs, string(p.Marshal()))
		}
		said.Trees = append(said.Trees, mine)
	}

	size := int64(len(leaves))
	whole := tlog.Tree{N: size, Hash: root(size)}
	reader := tlog.TileHashReader(whole, tiles{asked.Folder})
	if found, err := tlog.TreeHash(size, reader); err != nil || found != whole.Hash {
		fault("the tiles of %d lead to %x, not %x: %v", size, found, whole.Hash, err)
	}
	for _, index := range []int64{0, size / 3, size - 1} {
		p, err := tlog.ProveRecord(size, index, reader)
		if err != nil || !included(p, size, whole.Hash, index, leaves[index]) {
			fault("the tiles do not prove entry %d: %v", index, err)
		}
	}

	said.Faults = faults
	must(json.NewEncoder(os.Stdout).Encode(said))
}
