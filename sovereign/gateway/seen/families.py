"""The table of all metrics of the gateway; `docs/formats/metrics.md` is generated from it.

Names and buckets are those of OpenTelemetry's semantic conventions for generative AI where one
exists (status: development; those of a server are the same from version 1.36 on), translated as
OpenTelemetry does for Prometheus: dots become underscores, the unit comes last.
`gen_ai.client.token.usage` is a client's metric: of its engines the gateway is one.

A label's values come out of the closed set that `LABELS` names. No tenant, no key, no subject, no
address, nothing a client wrote.
"""

from dataclasses import dataclass
from typing import Literal

DURATION_S = tuple(round(0.01 * 2**n, 2) for n in range(14))
"""Bounds of `gen_ai.server.request.duration`: 0.01 to 81.92 seconds, each twice the last."""
FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(float(4**n) for n in range(12))
"""Bounds of `gen_ai.client.token.usage`, up to four million tokens: none has a longer context."""
WAIT_S = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
APPEND_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

OPERATIONS = {
    "chat": "chat",
    "fim": "fim",
    "completion": "text_completion",
    "embed": "embeddings",
}
"""`gen_ai.operation.name` by kind of call; the conventions know no fill in the middle."""
LABELS = {
    "route": "a route of the gateway, or `none`",
    "code": "how a call ended: `answered`, `client-gone`, `interrupted`, or a code of errors.md",
    "model": "an id of facts/models.yaml, `unknown` for a name no fact describes, or `none`",
    "endpoint": "an endpoint of the registry, or `none`",
    "dialect": "`mistral` or `openai`",
    "state": "`reading`, `recording`, `waiting`, `asking` or `answering`",
    "record": "`decision` or `completion`",
    "reason": "a code for which the controller shuts an endpoint",
    "engine": "`llamacpp`, `ollama` or `vllm`",
    "place": "a place of facts/places.yaml, of this site, or `this-host`",
    "outcome": "`sent` or `lost`",
    "version": "the version that runs",
    "site": "the name of the site, of its settings",
    "policy": "the digest of the policy that is in force",
    "profile": "a residency profile",
    "log": "a log of the site, as its pinned key names it",
    "witness": "`witnesses` or `timestamps`",
    "within_days": "`0`, `7`, `30` or `90`",
    "gen_ai_operation_name": "`chat`, `text_completion`, `embeddings` or `fim`",
    "gen_ai_provider_name": "the engine that answers",
    "gen_ai_request_model": "as `model`, without `unknown` and `none`: it was let through",
    "gen_ai_token_type": "`input` or `output`",
    "error_type": "as `code`, left out for what was answered",
}
"""Every label there is, and where its values come from."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `labels` are names in `LABELS`; `bounds` are a histogram's, without infinity."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
REQUESTS = Family(
    "sovereign_gateway_requests_total",
    "counter",
    "Calls that are over, by how they ended; refusals are those that were not answered.",
    ("route", "code", "model", "endpoint", "dialect"),
)
DURATION = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "From the head of a request to the last byte of its answer, of calls that an engine was asked.",
    (*_GEN_AI, "error_type"),
    DURATION_S,
)
FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "From the head of a request to the first bytes of its stream, of streams that were answered.",
    _GEN_AI,
    FIRST_TOKEN_S,
)
PER_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Time for each token after the first, of streams that were answered.",
    _GEN_AI,
    PER_TOKEN_S,
)
USAGE = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of a call, as its engine counted them.",
    (*_GEN_AI, "gen_ai_token_type"),
    TOKENS,
)
WAIT = Family(
    "sovereign_gateway_turn_wait_seconds",
    "histogram",
    "Time a call stood in line for a turn of its engine.",
    ("endpoint",),
    WAIT_S,
)
APPEND = Family(
    "sovereign_audit_append_seconds",
    "histogram",
    "From handing a record to the audit log to its being durable.",
    ("record",),
    APPEND_S,
)
MOVES = Family(
    "sovereign_gateway_moves_total",
    "counter",
    "Calls of which nothing could be sent to an endpoint, so that another was asked.",
    ("endpoint",),
)
COUNTED = (REQUESTS, DURATION, FIRST_TOKEN, PER_TOKEN, USAGE, WAIT, APPEND, MOVES)
CALLS = Family(
    "sovereign_gateway_calls", "gauge", "Calls under way, by what they are doing.", ("state",)
)
STREAMS = Family("sovereign_gateway_streams", "gauge", "Streams that are being answered.")
CALLS_MAX = Family(
    "sovereign_gateway_calls_max", "gauge", "Calls answered at the same time, at most."
)
BUILD = Family(
    "sovereign_build_info",
    "gauge",
    "Always 1; its labels say what runs.",
    ("version", "site", "policy", "profile"),
)
LOG_FAILED = Family(
    "sovereign_audit_log_failed", "gauge", "1 when an audit log has stopped: nothing is answered."
)
KEYS_AGE = Family("sovereign_keys_age_seconds", "gauge", "Since the keys were last read.")
REGISTRY_AGE = Family(
    "sovereign_registry_age_seconds", "gauge", "Since the registry of endpoints was last read."
)
CERTIFICATE = Family(
    "sovereign_certificate_expiry_timestamp_seconds",
    "gauge",
    "When the certificate that clients are shown ends, in Unix time; not there without TLS.",
)
ATTESTATION = Family(
    "sovereign_endpoint_attestation_expiry_timestamp_seconds",
    "gauge",
    "When the attestation of an endpoint ends, in Unix time.",
    ("endpoint",),
)
USABLE = Family(
    "sovereign_endpoint_usable",
    "gauge",
    "1 for an endpoint that may answer now, 0 for one that may not.",
    ("endpoint", "engine", "place"),
)
QUARANTINED = Family(
    "sovereign_endpoint_quarantined",
    "gauge",
    "1 for an endpoint that the controller has shut, by the reason; not there for the others.",
    ("endpoint", "reason"),
)
OUTSTANDING = Family(
    "sovereign_endpoint_outstanding",
    "gauge",
    "Calls of this gateway that run at an endpoint or wait for their turn there.",
    ("endpoint",),
)
RESTING = Family(
    "sovereign_endpoint_resting",
    "gauge",
    "1 for an endpoint that is not asked for a while because calls failed there, else 0.",
    ("endpoint",),
)
SPANS = Family(
    "sovereign_tracing_spans_total",
    "counter",
    "Spans that reached the tracing target, and those that were lost; not there without tracing.",
    ("outcome",),
)
STATED = (
    *(CALLS, STREAMS, CALLS_MAX, BUILD, LOG_FAILED, KEYS_AGE, REGISTRY_AGE),
    *(CERTIFICATE, ATTESTATION, USABLE, QUARANTINED, OUTSTANDING, RESTING, SPANS),
)
FAMILIES = (*COUNTED, *STATED)
"""Every metric of the gateway, besides those of its process."""
