"""Weights on their way in: from a store or a disk, held to one pinned digest, checked, recorded.

A set of weights is a folder. Its manifest names every file with its SHA-256 (`engines/digest.py`),
so one digest, the manifest's, pins all of it: tensors, configuration, tokenizer and chat template.
Whoever hands the bytes over is trusted for nothing but the bytes; the digest comes from somebody
who compared it with the publisher's.

`manifest.py` says what a set may consist of, `contents.py` what may stand in its files,
`choosing.py` and `sources.py` where bytes come from, `bundle.py` how a set is carried away,
`store.py` where sets lie, and `fetch.py` with `bringing.py` tells the story. What an engine is
started with is hashed once more at its start (`supervisor/engine.py`).
"""
