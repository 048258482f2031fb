"""Sending one delivery: signed, to the address that was resolved and looked at, once.

    POST https://hooks.example/fengni
    webhook-id: 7c0f…0000
    webhook-timestamp: 1790240400
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=

Does: signs as Standard Webhooks 1.0 says, with every key of the file, so that keys can be changed
without a gap. Refuses plain http, addresses that are not public, and redirects: an operator's
inside is not reached through his own server. The address that was judged is the one that is
connected to; the certificate must be the name's.

Source: https://www.standardwebhooks.com, section "Verifying webhook authenticity".
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from service.law.refusals import GivenUp
from storage.errors import Unavailable

PREFIX = "whsec_"
TIMEOUT_S = 15.0
_SHORTEST_KEY = 24
_LONGEST_ANSWER = 64 * 1024


class SecretMalformed(Exception):
    """A webhook's key file holds no key of Standard Webhooks; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a delivery goes.

    Attributes:
        url: of the subscriber.
        keys: the secrets, newest first.
        private: whether loopback, private addresses and plain http are allowed.
    """

    url: str
    keys: tuple[bytes, ...]
    private: bool


def read_keys(text: str) -> tuple[bytes, ...]:
    """The keys of a file: one to a line, `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        SecretMalformed: it holds none, or something else.
    """
    keys: list[bytes] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            key = base64.b64decode(line.removeprefix(PREFIX), validate=True)
        except binascii.Error as error:
            raise SecretMalformed("a key is no base64") from error
        if not line.startswith(PREFIX) or not _SHORTEST_KEY <= len(key) <= 64:
            raise SecretMalformed(f"a key must be {PREFIX} and base64 of 24 to 64 bytes")
        keys.append(key)
    if not keys:
        raise SecretMalformed("there is no key")
    return tuple(keys)


def signed_headers(
    delivery_id: str, body: bytes, keys: Sequence[bytes], at: datetime
) -> dict[str, str]:
    """The three headers of Standard Webhooks.

    Args:
        delivery_id: the same at every attempt.
        body: as it is sent.
        keys: each makes a signature.
        at: of this attempt, UTC.
    """
    seconds = str(int(at.timestamp()))
    said = b".".join((delivery_id.encode(), seconds.encode(), body))
    made = [base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{one}" for one in made),
    }


def send(target: Target, delivery_id: str, body: bytes, at: datetime) -> int:
    """Post a delivery and return the status that was answered; a redirect is not followed.

    Raises:
        GivenUp: the address is not public, or the URL is not https.
        Unavailable: nobody answered in time.
    """
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (target.private and parts.scheme == "http"):
        raise GivenUp("a webhook must be https")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _judged(host, port, private=target.private)
    named = f"[{address}]" if ":" in address else address
    place = f"{parts.scheme}://{named}:{port}{parts.path or '/'}"
    place += f"?{parts.query}" if parts.query else ""
    headers = {
        "host": parts.netloc.rpartition("@")[2],
        "content-type": "application/json",
        "user-agent": "fengni",
        **signed_headers(delivery_id, body, target.keys, at),
    }
    deadline = time.monotonic() + TIMEOUT_S
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as http,
            http.stream(
                "POST", place, content=body, headers=headers, extensions={"sni_hostname": host}
            ) as answer,
        ):
            read = 0
            for piece in answer.iter_raw():
                read += len(piece)
                if read > _LONGEST_ANSWER or time.monotonic() > deadline:
                    break
            return answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable("a subscriber did not answer") from error


def _judged(host: str, port: int, *, private: bool) -> str:
    """The address to connect to; where a name has several, all of them must be allowed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable("a subscriber's name cannot be resolved") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not private and not all(_public(address) for address in addresses):
        raise GivenUp("a webhook leads inside")
    return str(addresses[0])


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (mapped is None or mapped.is_global)
