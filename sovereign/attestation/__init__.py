"""Attestation: whether a host stands where its operator says, by those who are not its operator.

A host answers a fresh challenge under a key that was pinned when it was set up. What speaks for its
place is bound to that key: the metadata of its provider, a statement somebody signed, and the time
its answers take to machines whose places are known. `judge.py` says what that comes to and touches
nothing; `gather.py` asks; `kept.py` signs the outcome, keeps it and reads it again.

| module | is |
|---|---|
| `globe.py` | distances on the earth, and what several disks have in common |
| `roundtrip.py` | what times of answers say about a place |
| `judge.py` | what all signals together say |
| `papers.py` | the documents that are signed, and by whom |
| `packets.py`, `anchor.py`, `asking.py` | the exchange between a host and an anchor |
| `clouds.py`, `linklocal.py` | what metadata services say, and how they are asked |
| `gather.py`, `kept.py` | one run, and its outcome as a file |

What none of it shows: that nobody else has the host's key. A copy of it on a machine beside an
anchor answers as fast as the host would there.
"""
