"""Whom we trust when we ask a witness or an authority over TLS.

Reading that list of certificates takes longer than asking: it is read once in a process.
"""

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """The certificates that httpx ships; the environment has no say."""
    return httpx.create_ssl_context(trust_env=False)
