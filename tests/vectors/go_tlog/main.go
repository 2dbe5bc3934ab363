// Command go_tlog judges our notes, roots and proofs with golang.org/x/mod/sumdb, which shares no code with them.
// It reads one JSON document from standard input and writes one, with a verdict ("" = accepted) for each question.
package main

import (
	"encoding/json"
	"log"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type signed struct {
	Vkey string `json:"vkey"`
	Note string `json:"note"`
}

type inclusion struct {
	Index int64    `json:"index"`
	Size  int64    `json:"size"`
	Leaf  []byte   `json:"leaf"`
	Root  []byte   `json:"root"`
	Proof [][]byte `json:"proof"`
}

type consistency struct {
	Old     int64    `json:"old"`
	New     int64    `json:"new"`
	OldRoot []byte   `json:"old_root"`
	NewRoot []byte   `json:"new_root"`
	Proof   [][]byte `json:"proof"`
}

type questions struct {
	Leaves      [][]byte      `json:"leaves"`
	Sizes       []int64       `json:"sizes"`
	Notes       []signed      `json:"notes"`
	Inclusion   []inclusion   `json:"inclusion"`
	Consistency []consistency `json:"consistency"`
}

type answers struct {
	Roots       map[int64][]byte `json:"roots"`
	Notes       []string         `json:"notes"`
	Inclusion   []string         `json:"inclusion"`
	Consistency []string         `json:"consistency"`
}

func hash(raw []byte) tlog.Hash {
	var h tlog.Hash
	if copy(h[:], raw) != len(h) || len(raw) != len(h) {
		log.Fatalf("a hash of %d bytes", len(raw))
	}
	return h
}

func hashes(raw [][]byte) []tlog.Hash {
	out := []tlog.Hash{}
	for _, one := range raw {
		out = append(out, hash(one))
	}
	return out
}

func verdict(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// roots computes the root at each size from the leaves alone.
func roots(leaves [][]byte, sizes []int64) map[int64][]byte {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			out[i] = stored[index]
		}
		return out, nil
	})
	for i, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, reader)
		if err != nil {
			log.Fatal(err)
		}
		stored = append(stored, more...)
	}
	out := map[int64][]byte{}
	for _, size := range sizes {
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			log.Fatal(err)
		}
		out[size] = append([]byte{}, root[:]...)
	}
	return out
}

func openNote(s signed) string {
	verifier, err := note.NewVerifier(s.Vkey)
	if err != nil {
		return verdict(err)
	}
	_, err = note.Open([]byte(s.Note), note.VerifierList(verifier))
	return verdict(err)
}

func main() {
	var q questions
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		log.Fatal(err)
	}
	a := answers{Roots: roots(q.Leaves, q.Sizes)}
	for _, s := range q.Notes {
		a.Notes = append(a.Notes, openNote(s))
	}
	for _, i := range q.Inclusion {
		leaf := tlog.RecordHash(i.Leaf)
		err := tlog.CheckRecord(hashes(i.Proof), i.Size, hash(i.Root), i.Index, leaf)
		a.Inclusion = append(a.Inclusion, verdict(err))
	}
	for _, c := range q.Consistency {
		err := tlog.CheckTree(hashes(c.Proof), c.New, hash(c.NewRoot), c.Old, hash(c.OldRoot))
		a.Consistency = append(a.Consistency, verdict(err))
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		log.Fatal(err)
	}
}
