"""Every event that a process of a site writes, and what its fields mean.

The one home of docs/formats/events.md. `tests/observed/test_events.py` compares it with every call
of `eventlog.emit` in the package, names and fields both.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Who says it, with which fields, and what has happened."""

    by: str
    says: str
    fields: tuple[str, ...] = ()


_OUTSIDE = ("asked", "logs", "reason")
EVENTS: dict[str, Event] = {
    # --- the gateway ---
    "gateway-started": Event("gateway", "It answers from now on.", ("listen", "policy")),
    "gateway-stopped": Event("gateway", "It answers nobody any more; its log is still open."),
    "gateway-log-closed": Event("gateway", "Its log is closed; another writer may open it."),
    "address-taken": Event(
        "gateway", "It cannot listen where clients connect, and ends.", ("address", "reason")
    ),
    "admin-listening": Event("gateway", "Its metrics can be read.", ("listen",)),
    "admin-address-taken": Event(
        "gateway", "Its metrics cannot be read; it serves, and tries again.", ("address", "reason")
    ),
    "broken": Event("gateway", "It broke one of its own rules.", ("route", "exception")),
    "view-unreadable": Event(
        "gateway", "Keys or endpoints cannot be read; the last state stands.", ("file", "exception")
    ),
    "certificate-renewed": Event("gateway", "Who connects now is shown the new certificate."),
    "certificate-unusable": Event(
        "gateway", "The certificate on the disk cannot be used; the last one stands."
    ),
    "issuer-answered": Event(
        "gateway", "An identity provider has given its keys, again or at last.", ("issuer", "keys")
    ),
    "issuer-refused": Event(
        "gateway", "The rules do not let an identity provider be asked.", ("issuer", "rule")
    ),
    "issuer-unreachable": Event(
        "gateway", "An identity provider gives no keys; those known stand.", ("issuer", "reason")
    ),
    "issuers-changed": Event(
        "gateway", "The file of identity providers is taken up anew.", ("issuers",)
    ),
    "issuers-unusable": Event(
        "gateway", "The file of identity providers cannot be used; the last one stands."
    ),
    "limits-read": Event(
        "gateway", "What was spent before is known from the log.", ("noted", "records")
    ),
    "limits-not-noted": Event(
        "gateway", "How far limits were used could not be noted for the next start.", ("reason",)
    ),
    "limits-reachable": Event("gateway", "Limits are shared with the other gateways again."),
    "limits-unreachable": Event(
        "gateway", "Limits that are shared fail as each declares.", ("reason",)
    ),
    # --- the controller ---
    "controller-started": Event("controller", "Its rounds begin.", ("policy",)),
    "controller-stopped": Event("controller", "Its rounds have ended, as they were told to."),
    "attest": Event("controller", "An endpoint is vouched for.", ("endpoint", "code")),
    "quarantine": Event("controller", "An endpoint is shut, and why.", ("endpoint", "code")),
    "release": Event("controller", "An endpoint is open again.", ("endpoint", "code")),
    "attestation-disagrees": Event(
        "controller", "Signals speak against the place of a host; it is shut.", ("host", "reason")
    ),
    "attestation-failed": Event(
        "controller", "A host's place could not be attested; tried again.", ("exception", "host")
    ),
    "plan-stale": Event(
        "controller", "The registry changed meanwhile; nothing was done.", ("generation",)
    ),
    "licences-unreadable": Event(
        "controller",
        "What was acknowledged cannot be read: it counts for nothing; the next round tries again.",
        ("exception",),
    ),
    "lease-taken-over": Event(
        "controller", "Another controller stood still for a term and was ended.", ("pid",)
    ),
    "past-unreadable": Event(
        "controller",
        "How often endpoints were shut before cannot be told; it counts from none.",
        ("exception",),
    ),
    "incident-opened": Event("controller", "It opened a suspected incident.", ("code", "incident")),
    "incidents-unreadable": Event(
        "controller",
        "What is known of incidents cannot be read; the next round tries again.",
        ("exception",),
    ),
    "registry-busy": Event("controller", "The next round tries again.", ("exception",)),
    "metrics-address-taken": Event(
        "controller", "Its metrics cannot be read; it tries again.", ("address", "reason")
    ),
    "metrics-unreadable": Event(
        "controller", "Something could not be read, and is not shown.", ("exception",)
    ),
    "retention-run": Event("controller", "What was due is gone.", ("due", "erased")),
    "retention-failed": Event("controller", "It is tried again in a minute.", ("exception",)),
    "retention-refused": Event(
        "controller", "A sink did not erase what is due.", ("sink", "items", "reason")
    ),
    "retention-unseen": Event(
        "controller", "A sink cannot be read; how old it is, nobody knows.", ("sink", "exception")
    ),
    "retention-put-off": Event(
        "controller", "The clock is not believed; nothing is erased on its word yet.", ("reason",)
    ),
    "cosign-failed": Event("controller", "Nobody could be asked.", ("exception",)),
    "witness-ahead": Event(
        "controller", "A witness has seen more of a log than there is.", _OUTSIDE
    ),
    "witness-refused": Event("controller", "A witness did not sign.", _OUTSIDE),
    "witness-silent": Event("controller", "A witness did not answer.", _OUTSIDE),
    "authority-refused": Event("controller", "A time stamp does not hold.", _OUTSIDE),
    "authority-silent": Event("controller", "A time-stamping authority did not answer.", _OUTSIDE),
    "residency-refused": Event("controller", "The rules do not let it be asked.", _OUTSIDE),
    "witness-quorum": Event("controller", "A finding, see findings.md.", ("logs",)),
    "cosignature-stale": Event("controller", "A finding, see findings.md.", ("logs",)),
    "timestamp-missing": Event("controller", "A finding, see findings.md.", ("logs",)),
    "timestamp-stale": Event("controller", "A finding, see findings.md.", ("logs",)),
    # --- several ---
    "log-unwritable": Event(
        "gateway, controller",
        "An audit log takes no record.",
        ("endpoint", "step"),
    ),
    "policy-superseded": Event(
        "gateway, controller",
        "The policy on the disk is another than the one it goes by, or cannot be read.",
        ("exception", "policy"),
    ),
    "library-log": Event(
        "all",
        "A library logged something; the values it filled in are withheld.",
        ("exception", "level", "logger", "template"),
    ),
    # --- the others ---
    "engine-starting": Event(
        "engine", "This process becomes the engine now.", ("digest", "engine", "model")
    ),
    "process-ended": Event("supervisor", "It is started again.", ("exit", "process")),
    "process-given-up": Event("supervisor", "It ended too often in a short time.", ("process",)),
    "process-killed": Event("supervisor", "It did not stop when told to.", ("process",)),
    "audit-served": Event(
        "sovereign audit serve", "Logs can be read over HTTP.", ("entries", "listen", "logs")
    ),
    "audit-serving-ended": Event("sovereign audit serve", "They cannot any more."),
    "standby-started": Event("standby", "It takes what is sent.", ("listen", "logs")),
    "standby-stopped": Event("standby", "It takes nothing any more."),
    "standby-refused": Event("standby", "What was sent was not taken.", ("code", "reason")),
    "standby-answers": Event("sender to the standby", "It answers again."),
    "standby-unreachable": Event("sender to the standby", "It does not answer.", ("exception",)),
    "standby-behind": Event(
        "sender to the standby",
        "Records are on this machine alone for longer than they may be.",
        ("limit", "seconds"),
    ),
    "standby-caught-up": Event(
        "sender to the standby", "It has everything again.", ("limit", "seconds")
    ),
    "history-split": Event(
        "sender to the standby", "It holds another history of a log.", ("exception",)
    ),
    "tile-missing": Event(
        "controller, sender to the standby",
        "A part of a log is gone.",
        ("asked", "exception", "logs", "reason"),
    ),
    "state-unreadable": Event(
        "sender to the standby", "A file of the site cannot be read.", ("exception",)
    ),
    "witness-started": Event("witness", "It cosigns.", ("listen", "logs")),
    "witness-stopped": Event("witness", "It cosigns no more."),
    "witness-stopped-signing": Event(
        "witness", "It could not remember what it would sign, so it does not.", ("reason",)
    ),
    "fork-seen": Event("witness", "A log has two histories; the proof is kept.", ("log", "size")),
}
"""By name. A name of several sayers has the fields that any of them gives."""

FIELDS = {
    "address": "`address:port` of this site",
    "asked": "the id of a witness or authority, of the policy",
    "code": "a code of errors.md, or a cause of rules/audit.yaml; empty where nothing is wrong",
    "digest": "SHA-256 of what a model's files are",
    "due": "items whose time is over",
    "endpoint": "an endpoint of the registry",
    "engine": "`llamacpp`, `ollama` or `vllm`",
    "entries": "`yes` where entries are served, too",
    "erased": "items that were erased",
    "exception": "the class of an exception, never its text",
    "exit": "the exit status of a process, negative for a signal",
    "file": "`keystore` or `registry`",
    "generation": "of the registry",
    "host": "a host of the settings",
    "incident": "the id of an incident",
    "issuers": "how many identity providers",
    "issuer": "the id of an identity provider, of the policy",
    "items": "how many",
    "keys": "how many",
    "level": "`WARNING`, `ERROR` or `CRITICAL`",
    "limit": "seconds of the recovery point",
    "listen": "`address:port` of this site",
    "log": "the origin of a log",
    "logger": "the name of a library's logger",
    "logs": "how many",
    "model": "an id of facts/models.yaml",
    "noted": "whether there was a note of an earlier start",
    "pid": "the number of a process of this host",
    "policy": "the digest of the policy",
    "process": "a process of the supervisor",
    "reason": "a short sentence of ours or of the system",
    "records": "how many",
    "route": "a route of the gateway, or `none`",
    "rule": "the id of a rule",
    "seconds": "how long",
    "sink": "the name of a sink, of `sovereign retention status`",
    "size": "entries of a log",
    "step": "a step of a plan",
    "template": "a library's message before values are filled in",
}
