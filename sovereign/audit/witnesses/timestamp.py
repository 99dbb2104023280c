"""Time stamps: an authority's word that a checkpoint existed at a time (RFC 3161).

What is certified is the SHA-256 of the signed checkpoint, byte for byte as it was published. The
answer is kept as the authority sent it, so that any other program can check it, for example

    openssl ts -verify -data ID-SIZE.checkpoint -in ID-SIZE.tsr -CAfile anchor.pem

A token counts when its signature leads to the one certificate that the policy pins, every
certificate on the way was valid at the token's own time, the signer's is for time stamping alone,
and the imprint is the checkpoint's. Where it answers a question of ours, the nonce is ours too.
Nothing is fetched: neither certificates nor revocation lists. KNOWN: an authority whose key was
stolen can still be believed; the way out is another anchor in the policy.

The arithmetic of CMS is `rfc3161-client`'s; no file and no socket here. It reads DER alone, in
which the elements of a set are sorted, and CMS lets an authority send them as they come: OpenSSL's
does as soon as its answer holds two certificates. So they are sorted first (`in_order`), in memory
only. The signature is not over them: they are offered, and count when they lead to the anchor.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sovereign.errors import BadInput

QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"
TOKEN_MAX_BYTES = 131_072
_CERTIFICATES = 0xA0
"""Tag of the certificates in a SignedData: [0], implicit."""
_CHILDREN_MAX = 100


@dataclass(frozen=True, slots=True)
class Query:
    """What is sent, and the number that the answer must repeat."""

    der: bytes
    nonce: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """A good token: when, in the authority's own time, and under which of its policies."""

    at: datetime
    policy: str
    serial: int


class NotStamped(ValueError):
    """The token certifies nothing; the text says why, in words for an event line."""


def query(signed: bytes) -> Query:
    """Ask for a token over a signed checkpoint, with the signer's certificate in it."""
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    if not signed:
        raise BadInput("there is no checkpoint to certify")
    built = TimestampRequestBuilder().data(signed).hash_algorithm(HashAlgorithm.SHA256)
    request = built.nonce(nonce=True).cert_request(cert_request=True).build()
    assert request.nonce is not None, "a nonce was asked for"
    return Query(request.as_bytes(), request.nonce)


def check(token: bytes, signed: bytes, anchor: str, nonce: int | None = None) -> Stamp:
    """Return what the token certifies about these bytes.

    Args:
        token: the whole answer (TimeStampResp, DER).
        anchor: PEM of the certificate that the policy pins.
        nonce: of our question, while its answer is looked at for the first time.

    Raises:
        NotStamped: nothing; nothing of the token is to be believed.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    if len(token) > TOKEN_MAX_BYTES:
        raise NotStamped("the answer is too large")
    try:
        answer = decode_timestamp_response(in_order(token))
    except ValueError:
        raise NotStamped("the answer is no time stamp") from None
    if answer.status != 0:
        raise NotStamped(f"the authority said no, with status {answer.status}")
    builder = VerifierBuilder().add_root_certificate(
        x509.load_pem_x509_certificate(anchor.encode())
    )
    builder = builder if nonce is None else builder.nonce(nonce)
    try:
        builder.build().verify_message(answer, signed)
    except VerificationError as error:
        raise NotStamped(str(error)[:160]) from None
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:  # a certificate or time inside that is none
        raise NotStamped(f"the answer is malformed: {type(error).__name__}") from None
    info = answer.tst_info
    at = info.gen_time
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return Stamp(at, info.policy.dotted_string, info.serial_number)


def in_order(token: bytes) -> bytes:
    """The same answer with its certificates sorted as DER wants them; the rest is not touched.

    Raises:
        ValueError: it is not built like a time stamp.
    """
    answer = _children(token, 0, len(token))[0]
    content = _children(token, answer.start, answer.end)
    if len(content) < 2:
        return token  # a refusal has a status and nothing else
    wrapped = _children(token, content[1].start, content[1].end)
    if len(wrapped) < 2:
        raise ValueError("nothing is signed")
    signed_data = _children(token, wrapped[1].start, wrapped[1].end)[0]
    fields = _children(token, signed_data.start, signed_data.end)
    certificates = next((field for field in fields if field.tag == _CERTIFICATES), None)
    if certificates is None:
        return token
    inside = _children(token, certificates.start, certificates.end)
    ordered = sorted(token[each.first : each.end] for each in inside)
    return token[: certificates.start] + b"".join(ordered) + token[certificates.end :]


@dataclass(frozen=True, slots=True)
class _Part:
    """One element: its tag, where it begins, where its content begins and where both end."""

    tag: int
    first: int
    start: int
    end: int


def _children(data: bytes, start: int, end: int) -> list[_Part]:
    """The elements that fill the bytes from `start` to `end`; at least one."""
    found: list[_Part] = []
    while start < end:
        part = _part(data, start, end)
        found.append(part)
        start = part.end
        if len(found) > _CHILDREN_MAX:
            raise ValueError("too many elements")
    if not found:
        raise ValueError("an element with nothing inside")
    return found


def _part(data: bytes, at: int, end: int) -> _Part:
    """The element at `at`: a tag of one byte and a definite length of at most four."""
    if at + 2 > end or data[at] & 0x1F == 0x1F:
        raise ValueError("not an element")
    size, start = data[at + 1], at + 2
    if size & 0x80:
        width = size & 0x7F
        if not 1 <= width <= 4 or start + width > end:
            raise ValueError("not a length")
        size, start = int.from_bytes(data[start : start + width], "big"), start + width
    if start + size > end:
        raise ValueError("longer than what it stands in")
    return _Part(data[at], at, start, start + size)
