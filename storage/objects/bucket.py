"""One bucket with Object Lock, as the S3 object store speaks to it through the `minio` SDK.

Does: one request for each call, as `storage.s3` bounds and names them.

Nothing here copies an object on the server (SeaweedFS drops the lock of the copy).
"""

import base64
import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

import urllib3
from minio.commonconfig import ENABLED

from storage.errors import Unavailable
from storage.objects.locks import Held, Listed, Lock, read_headers
from storage.s3 import BucketAddress, Connection, store_errors

__all__ = ["Bucket", "BucketAddress", "part_bytes", "store_errors"]
MIB = 1 << 20
SINGLE_BYTES = 64 * MIB
"""The largest object that is sent in one request, and so the largest that is held in memory."""

PART_BYTES = 16 * MIB
"""The smallest part of a larger object; three are in flight at once."""

_MOST_PARTS = 10_000
_PIECE_BYTES = 1 << 18
_SHA256_HEADERS = ("x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm")


class Bucket(Connection):
    """A bucket that versions and locks. Threads may share it."""

    def make(self, *, object_lock: bool = True) -> None:
        """Make the bucket with Object Lock, if there is none; see `Connection.make`."""
        super().make(object_lock=object_lock)

    def require_locking(self) -> None:
        """Demand that the bucket keeps versions and can lock them.

        Raises:
            Unavailable: it does not, is not there, or the server does not answer.
        """
        if not self.keeps_versions():
            raise Unavailable("the bucket keeps no versions: it was made without Object Lock")
        with store_errors("asking for the bucket's Object Lock"):
            self.client.get_object_lock_config(self.name)

    def keeps_versions(self) -> bool:
        """Whether versioning is on.

        Raises:
            Unavailable: the server does not say.
        """
        with store_errors("asking for the bucket's versioning"):
            return self.client.get_bucket_versioning(self.name).status == ENABLED

    def head(self, key: str, version: str | None = None) -> Held:
        """What the server says of a version, or of the newest one.

        Raises:
            NotFound: there is none, or a delete marker hides it.
            Unavailable: the server does not answer, or keeps no versions.
        """
        with store_errors("describing an object", named=version is not None):
            told = self.client.stat_object(self.name, key, version_id=version)
        return read_headers(key, told.metadata or {})

    def versions(self, prefix: str) -> Iterator[Listed]:
        """Every version and delete marker under a prefix, by key, the newest of a key first.

        Raises:
            Unavailable: the server does not answer.
        """
        with store_errors("listing objects"):
            found = self.client.list_objects(
                self.name, prefix=prefix, recursive=True, include_version=True
            )
            for one in found:
                yield Listed(
                    key=one.object_name or "",
                    version=one.version_id or "null",
                    size_bytes=one.size or 0,
                    is_marker=bool(one.is_delete_marker),
                )

    def put(
        self,
        key: str,
        data: BinaryIO,
        size_bytes: int,
        *,
        sha256: str,
        lock: Lock | None,
        on_hold: bool = False,
    ) -> str:
        """Send a new version, locked from its first moment; returns its version id.

        One request up to `SINGLE_BYTES`, with the digest for servers that compare it; parts of a
        stated length above.

        Args:
            key: where.
            data: at its start.
            size_bytes: how many it gives.
            sha256: what they hash to, 64 hex digits.
            lock: the retention.
            on_hold: whether a legal hold goes on it.

        Raises:
            DiskReserveReached: the server has no room.
            Unavailable: the server does not answer or refuses; a version may have been made.
        """
        single = size_bytes <= SINGLE_BYTES
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        with store_errors("sending an object"):
            written = self.client.put_object(
                self.name,
                key,
                data,
                size_bytes,
                part_size=SINGLE_BYTES if single else part_bytes(size_bytes),
                metadata=dict(zip(_SHA256_HEADERS, (checksum, "SHA256"), strict=True))
                if single
                else None,
                retention=None if lock is None else lock.retention(),
                legal_hold=on_hold,
            )
        return written.version_id or self.head(key).version

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Send a version with `If-None-Match: *`; whether the server made one.

        Some servers make one whatever is there already.

        Raises:
            Unavailable: the server refuses or does not answer.
        """
        return self.put_new(key, data) is not None

    def lock(self, key: str, version: str, lock: Lock) -> None:
        """Lock a version for longer.

        Raises:
            Unavailable: the server refuses or does not answer.
        """
        with store_errors("locking an object"):
            self.client.set_object_retention(self.name, key, lock.retention(), version_id=version)

    def hold(self, key: str, version: str, *, on: bool) -> None:
        """Put a legal hold on a version, or lift it.

        Raises:
            Unavailable: the server refuses or does not answer.
        """
        change = (
            self.client.enable_object_legal_hold if on else self.client.disable_object_legal_hold
        )
        with store_errors("changing a legal hold"):
            change(self.name, key, version_id=version)

    def remove(self, key: str, version: str) -> None:
        """Remove a version that nothing locks.

        Raises:
            Unavailable: the server refuses, as it does for a lock, or does not answer.
        """
        with store_errors("removing a version"):
            self.client.remove_object(self.name, key, version_id=version)

    def read(self, key: str, version: str, first: int, count: int) -> bytes:
        """So many bytes of a version from a position.

        Raises:
            NotFound: there is no such version.
            Unavailable: the server does not answer, or gave fewer.
        """
        with (
            store_errors("reading an object", named=True),
            self._got(key, version, first, count) as response,
        ):
            data = response.read()
        if len(data) != count:
            raise Unavailable("the object store gave another number of bytes than asked for")
        return data

    def measure(self, key: str, version: str) -> tuple[str, int]:
        """SHA-256 (hex) and length of a version, as the server gives it back.

        Raises:
            NotFound: there is no such version.
            Unavailable: the server does not answer.
        """
        sha256, held = self.read_back(key, version)
        return sha256, held.size_bytes

    def read_back(self, key: str, version: str | None = None) -> tuple[str, Held]:
        """SHA-256 (hex) of a version, or of the newest one, and what the server says of it.

        The headers of GET are those of HEAD, so one request tells both; the length is that of the
        bytes that came.

        Raises:
            NotFound: there is none, or a delete marker hides it.
            Unavailable: the server does not answer, broke off, or keeps no versions.
        """
        digest = hashlib.sha256()
        size_bytes = 0
        with (
            store_errors("reading an object back", named=version is not None),
            self._got(key, version) as response,
        ):
            for piece in response.stream(_PIECE_BYTES):
                digest.update(piece)
                size_bytes += len(piece)
            held = read_headers(key, response.headers)
        return digest.hexdigest(), replace(held, size_bytes=size_bytes)

    @contextmanager
    def _got(
        self, key: str, version: str | None, first: int = 0, count: int = 0
    ) -> Generator[urllib3.BaseHTTPResponse]:
        response = self.client.get_object(
            self.name, key, offset=first, length=count, version_id=version
        )
        try:
            yield response
            response.release_conn()
        finally:
            response.close()


def part_bytes(size_bytes: int) -> int:
    """The length of each part but the last: a whole number of MiB, at most 10,000 parts."""
    needed = -(-size_bytes // _MOST_PARTS)
    return max(PART_BYTES, -(-needed // MIB) * MIB)
