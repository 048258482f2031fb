"""Whom we trust when we ask a witness or an authority over TLS.

Does: gives one context for all requests of a process. Reading the list of certificates takes longer
than an exchange on the same machine, and every checkpoint is an exchange with everybody. Refuses
to let the environment add a certificate: what `SSL_CERT_FILE` says is another program's affair.
"""

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """The authorities whose certificates httpx ships; hosts are checked by name.

    The context is shared between threads, and nobody changes it.
    """
    return httpx.create_ssl_context(trust_env=False)
