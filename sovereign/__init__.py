"""Sovereign: host Mistral models in the EU and prove where the data went.

Rooms, in the order a request meets them: `policy` (what is true and what we allow),
`residency` and `retention` (pure decisions), `audit` (the log), `engines` (vLLM, Ollama,
llama.cpp), `gateway` (every call in and out), `controller` (the only loop), `evidence`
(verdicts for an auditor), `cli` (the only place that prints and exits).
"""

__version__ = "0.1.0"
