"""RFC 3161 time-stamps: what an authority outside the operator says about the time.

Does: makes the request for a message, reads a response, and proves that a response covers
exactly these bytes under a root that the caller pinned. Refuses: every imprint but SHA-256,
more than one signer, a root that came with the token, certificates that may do more than
stamp time, and to ask any clock (the chain is judged at the time that the token states).

The stored form is everywhere the DER `TimeStampResp` (".tsr"):

    TimeStampResp ::= SEQUENCE { status PKIStatusInfo, timeStampToken ContentInfo OPTIONAL }
"""

from evidence.timestamp.reading import Timestamp, make_request, read_response
from evidence.timestamp.verifying import TimestampRoot, verify_timestamp

__all__ = ["Timestamp", "TimestampRoot", "make_request", "read_response", "verify_timestamp"]
