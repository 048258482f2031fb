"""Asks an RFC 3161 authority for a token over HTTP.

Does: sends one request and returns the response once it repeats our digest and our nonce.
Refuses: redirects, answers over 64 KiB or of another content type, and to judge signature and
roots; `evidence.timestamp.verify_timestamp` does that, wherever the token is used.

Source: RFC 3161 §3.4.
"""

import hashlib
import time
from typing import Final

import httpx

from evidence.errors import TimestampInvalid
from evidence.timestamp import make_request
from evidence.timestamp.reading import MAX_RESPONSE_BYTES, read_token
from service.transparency.tls import trusted

QUERY: Final = "application/timestamp-query"
REPLY: Final = "application/timestamp-reply"


class AuthorityUnavailable(Exception):
    """The authority did not answer, or not as RFC 3161 says: ask it again later, or another."""


def request_timestamp(url: str, message: bytes, nonce: int, timeout_s: float) -> bytes:
    """Let the authority at `url` stamp `message`.

    Args:
        url: where queries are posted.
        message: the bytes to stamp; only their SHA-256 leaves the machine.
        nonce: fresh random number, 0 ≤ nonce < 2**64.
        timeout_s: seconds for the whole exchange.

    Returns:
        DER `TimeStampResp` whose imprint and nonce are ours; the signature is not verified.

    Raises:
        AuthorityUnavailable: no answer in time, or no time-stamp reply.
        TimestampInvalid: the reply is malformed, refuses, or answers another request; also
            TooLarge. These are the authority's fault, and asking again may not help.
    """
    response = _post(url, make_request(message, nonce), timeout_s)
    token = read_token(response)
    if token.imprint != hashlib.sha256(message).digest() or token.nonce != nonce:
        raise TimestampInvalid("The time-stamp answers another request.")
    return response


def _post(url: str, query: bytes, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    try:
        with (
            httpx.Client(timeout=timeout_s, trust_env=False, verify=trusted()) as http,
            http.stream("POST", url, content=query, headers={"Content-Type": QUERY}) as answer,
        ):
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if answer.status_code != 200 or kind != REPLY:
                raise AuthorityUnavailable("The time-stamp authority sent no time-stamp reply.")
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MAX_RESPONSE_BYTES or time.monotonic() > deadline:
                    raise AuthorityUnavailable("The time-stamp reply is too large or too slow.")
            return bytes(body)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise AuthorityUnavailable("The time-stamp authority did not answer.") from exc
