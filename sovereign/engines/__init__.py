"""vLLM, Ollama and llama.cpp behind one small contract (`contract.Engine`).

A caller picks one by name out of `ENGINES` and needs to know nothing else about it. Importing
this package imports no engine: the programs run in processes and environments of their own.
To add one, follow docs/add/an-engine.md.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sovereign.engines.contract import (
    ChatContext,
    Dialect,
    Engine,
    EnvRule,
    Found,
    LaunchSpec,
    Probe,
    Upstream,
)
from sovereign.engines.digest import model_digest
from sovereign.engines.llamacpp import LlamaCpp
from sovereign.engines.ollama import Ollama
from sovereign.engines.vllm import Vllm

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {engine.name: engine for engine in (LlamaCpp(), Ollama(), Vllm())}
)

__all__ = [
    "ENGINES",
    "ChatContext",
    "Dialect",
    "Engine",
    "EnvRule",
    "Found",
    "LaunchSpec",
    "Probe",
    "Upstream",
    "model_digest",
]
