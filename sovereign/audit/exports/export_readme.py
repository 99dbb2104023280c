"""What an export says of itself to whoever opens it: the text of its README.md."""

from collections.abc import Iterable

_TEXT = """\
# Audit logs of {site}

This folder holds audit logs, and all that is needed to check them: nothing of the program that
wrote them, and no network. It may hold personal data (pseudonyms, which key asked when): keep it
as you keep such data, and erase it when you no longer need it.

## Verify

`verify.py` needs Python 3.9 or later and the package `cryptography` (38 or later; on Debian
`apt install python3-cryptography`). It is made to be read, too.

    $ python3 -I verify.py --pin SHA256

SHA256 is what `sha256sum keys.txt` prints **for whoever vouches for these logs**: get it from them
on another way than this folder, once, and compare it again with every export. The keys in here
prove nothing by themselves: a forger would have put keys of his own into `keys.txt`. If you have
the keys already, give them instead, with `--vkey KEY` or `--vkey FILE`.

    $ python3 -I verify.py --pin SHA256 --checkpoint FILE

**Keep every `checkpoint` you were ever given**, and give those from earlier with `--checkpoint`:
without one, a log that was cut short at its end cannot be told from a short one.

Witnesses are other organisations that signed how long a log was, and when. With a key that a
witness gave you (`--witness KEY`) it is said what that witness signed. A time stamp is checked with

    $ openssl ts -verify -data NAME.checkpoint -in NAME.tsr -CAfile CERTIFICATE_OF_THE_AUTHORITY

| exit | meaning |
|---|---|
| 0 | every record here is as it was signed, and what is not here is accounted for |
| 1 | a finding: keep everything as it is, and show it to whoever vouches for these logs |
| 2 | the command means nothing |
| 3 | it could not be determined: no key was pinned, or something needed is not here |

Records that are not here are told apart: *erased with a receipt* (on time, by the rules of the
policy), *not in this export* (of another time than was asked for; `manifest.json` says which), and
gone without a reason (a finding).

## What is here

| path | holds |
|---|---|
| `logs/NAME/checkpoint` | the signed statement: how many records there are, and one hash over all |
| `logs/NAME/tile/entries/` | the records, canonical JSON, 256 in a file |
| `logs/NAME/tile/0/`, `1/`, … | the hashes of every record, those that are not here included |
| `logs/NAME/handover/` | how one key of the log handed it over to the next, if that happened |
| `keys.txt` | the public keys, one a line |
| `kept/` | checkpoints of these logs that were kept outside them, or that witnesses signed |
| `stamped/` | time stamps (RFC 3161), each beside the checkpoint it is about |
| `policies/` | the policies that these records name by digest, as far as they were at hand |
| `schema.json` | which types of records there are, and what they hold (JSON Schema) |
| `manifest.json` | what was exported, when, why, and the digest of every file but the logs' |
| `manifest.proof` | the record that this export was made, proved out of the operator's own log |

The formats are public: C2SP tlog-tiles, tlog-checkpoint, signed-note and tlog-proof over RFC 6962.
Other people's tools read them too.

The logs: {logs}.

## What it does not show

That every call was recorded: only that no record that was is missing or changed. That the policy
is lawful: this is the operator's own account, a self-assessment, not legal advice.
"""


def readme(site: str, logs: Iterable[str]) -> str:
    """The page for an export of these logs."""
    return _TEXT.format(site=site, logs=", ".join(f"`{each}`" for each in logs))
