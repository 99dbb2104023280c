// Somebody else's side of tlog-witness and tlog-cosignature, for tests/audit/test_witness_peers.py:
//
//	cosign SKEY        a checkpoint on standard input, the same with a cosignature on standard output
//	verify VKEY        a cosigned checkpoint on standard input; prints the time of VKEY's cosignature
//	serve SKEY LOGVKEY a witness of one log on a free port of loopback; prints its address first
//	satisfied POLICY   a checkpoint on standard input; succeeds when the policy file is content with it
//	log DIR SKEY N VKEY URL  a Tessera log that publishes only what the witness VKEY at URL cosigned
//
// Signatures are those of github.com/transparency-dev/formats, proofs are checked by
// github.com/transparency-dev/merkle, and the log with its witness client is Tessera's own.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	f_log "github.com/transparency-dev/formats/log"
	f_note "github.com/transparency-dev/formats/note"
	f_witness "github.com/transparency-dev/formats/witness"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

// cosigned is what one signer adds to a checkpoint whose log signature is not looked at.
func line(signer *f_note.Signer, checkpoint []byte) []byte {
	text := checkpoint[:bytes.LastIndex(checkpoint, []byte("\n\n"))+1]
	signed := must(note.Sign(&note.Note{Text: string(text)}, signer))
	return signed[len(text)+1:]
}

func cosign(skey string) {
	checkpoint := must(io.ReadAll(os.Stdin))
	signer := must(f_note.NewSignerForCosignatureV1(skey))
	os.Stdout.Write(append(checkpoint, line(signer, checkpoint)...))
}

func verify(vkey string) {
	checkpoint := must(io.ReadAll(os.Stdin))
	verifier := must(f_note.NewVerifierForCosignatureV1(vkey))
	opened := must(note.Open(checkpoint, note.VerifierList(verifier)))
	at := must(f_note.CoSigV1Timestamp(opened.Sigs[0]))
	fmt.Println(at.Unix())
}

type witness struct {
	lock   sync.Mutex
	signer *f_note.Signer
	log    note.Verifier
	size   uint64
	root   []byte
}

// ServeHTTP is a witness as a reader of the specification would write it in an afternoon.
func (w *witness) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body := must(io.ReadAll(io.LimitReader(request.Body, 1<<17)))
	head, signed, found := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	old, err := strconv.ParseUint(strings.TrimPrefix(lines[0], "old "), 10, 63)
	if !found || err != nil || request.URL.Path != "/add-checkpoint" || len(lines) > 64 {
		answer.WriteHeader(http.StatusBadRequest)
		return
	}
	checkpoint, _, _, err := f_log.ParseCheckpoint(signed, w.log.Name(), w.log)
	if err != nil {
		answer.WriteHeader(http.StatusForbidden)
		return
	}
	hashes := [][]byte{}
	for _, each := range lines[1:] {
		hashes = append(hashes, must(base64.StdEncoding.DecodeString(each)))
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if old != w.size {
		answer.Header().Set("Content-Type", "text/x.tlog.size")
		answer.WriteHeader(http.StatusConflict)
		fmt.Fprintf(answer, "%d\n", w.size)
		return
	}
	if old > 0 {
		err = proof.VerifyConsistency(
			rfc6962.DefaultHasher, old, checkpoint.Size, hashes, w.root, checkpoint.Hash)
		if err != nil {
			answer.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
	} else if len(hashes) > 0 {
		answer.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	w.size, w.root = checkpoint.Size, checkpoint.Hash
	answer.Write(line(w.signer, signed))
}

func serve(skey, logVkey string) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Printf("http://%s\n", listener.Addr())
	signer := must(f_note.NewSignerForCosignatureV1(skey))
	must(0, http.Serve(listener, &witness{signer: signer, log: must(note.NewVerifier(logVkey))}))
}

func appendTo(folder, skey string, count int, vkey, address string) {
	ctx := context.Background()
	driver := must(posix.New(ctx, posix.Config{Path: folder}))
	peer := must(tessera.NewWitness(vkey, must(url.Parse(address))))
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(must(note.NewSigner(skey))).
		WithBatching(uint(count), 100*time.Millisecond).
		WithCheckpointInterval(100*time.Millisecond).
		WithWitnesses(tessera.NewWitnessGroup(1, peer), &tessera.WitnessOptions{Timeout: 30 * time.Second})
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	must(0, err)
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 50*time.Millisecond)
	futures := []tessera.IndexFuture{}
	for i := range count {
		futures = append(futures, appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "entry %d %d", time.Now().UnixNano(), i))))
	}
	for _, future := range futures {
		_, _, err := await.Await(ctx, future)
		must(0, err)
	}
	must(0, shutdown(ctx))
	os.Stdout.Write(must(reader.ReadCheckpoint(ctx)))
}

func main() {
	switch os.Args[1] {
	case "cosign":
		cosign(os.Args[2])
	case "verify":
		verify(os.Args[2])
	case "satisfied":
		group := must(f_witness.ParsePolicy(must(os.ReadFile(os.Args[2]))))
		if !group.Satisfied(must(io.ReadAll(os.Stdin))) {
			os.Exit(1)
		}
	case "serve":
		serve(os.Args[2], os.Args[3])
	case "log":
		appendTo(os.Args[2], os.Args[3], must(strconv.Atoi(os.Args[4])), os.Args[5], os.Args[6])
	default:
		os.Exit(2)
	}
}
