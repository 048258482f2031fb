"""One bucket of an S3 server, as every store here speaks to it through the `minio` SDK.

Does: bounds each wait, repeats only what changes nothing, and turns every foreign error into a
storage error. Refuses to say where it speaks to: no host, key or message of the server gets into a
storage error, only the server's error code.

`Files` is a bucket without locks, for what may be replaced and removed: a log's public files, and
uploads on their way. Objects that are evidence lie in a `storage.objects.bucket.Bucket`.
"""

import base64
import hashlib
import io
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from storage.errors import DiskReserveReached, NotFound, Unavailable

_CONNECTIONS = 32
_PRESIGNED = timedelta(minutes=5)
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "ResourceNotFound"})
_MALFORMED = frozenset({"BadRequest", "InvalidArgument", "InvalidRequest"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"})
_CODE = re.compile(r"[A-Za-z]{1,64}")
_SHA256_HEADERS = ("x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm")
_REMOVED_AT_ONCE = 500
_CONFLICTS = frozenset({409, 412})


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAddress:
    """Where a bucket is and who asks.

    Attributes:
        endpoint: `https://host[:port]`, or `http://` for a loopback or a private network.
        bucket: its name.
        region: as the server calls it.
        access_key: of our account.
        secret_key: of our account; never shown.
        ca_file: PEM file of the authorities that may vouch for the server, or the usual ones.
        timeout_s: how long connecting, and each wait for bytes, may take.
    """

    endpoint: str
    bucket: str
    region: str = "us-east-1"
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    ca_file: str | None = None
    timeout_s: float = 30.0


def is_endpoint(text: str) -> bool:
    """Whether it is a plain http or https address."""
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not parts.path.strip("/")


class Connection:
    """One bucket of one server. Threads may share it."""

    def __init__(self, address: BucketAddress) -> None:
        """Prepare; nothing is asked yet.

        Raises:
            ValueError: the endpoint is no plain http or https address.
        """
        if not is_endpoint(address.endpoint):
            raise ValueError("an S3 endpoint is https://host or https://host:port")
        parts = urlsplit(address.endpoint)
        self.name = address.bucket
        self.region = address.region
        self._bare_tags = False
        self._connections = _pool(address)
        self.client = Minio(
            parts.netloc,
            access_key=address.access_key,
            secret_key=address.secret_key,
            secure=parts.scheme == "https",
            region=address.region,
            http_client=self._connections,
        )

    def make(self, *, object_lock: bool) -> None:
        """Make the bucket, if there is none of that name.

        Raises:
            Unavailable: the server refuses or does not answer.
        """
        with store_errors("making the bucket"):
            if not self.client.bucket_exists(self.name):
                self.client.make_bucket(self.name, location=self.region, object_lock=object_lock)

    def put_new(self, key: str, data: bytes) -> str | None:
        """Send an object under `If-None-Match: *`; its entity tag, or None where one is there.

        Some servers send it whatever is there already.

        Raises:
            DiskReserveReached: the server has no room.
            Unavailable: the server refuses or does not answer.
        """
        return self._put_where(key, data, "If-None-Match", "*")

    def put_over(self, key: str, data: bytes, tag: str) -> str | None:
        """Send an object under `If-Match`; its new entity tag, or None where another is there.

        Ceph compares the tag with its quotation marks against one without; so both are tried.
        Some servers send it whatever is there.

        Args:
            key: where.
            data: what.
            tag: entity tag of what it replaces, without quotation marks.

        Raises:
            DiskReserveReached, Unavailable: as `put_new`.
        """
        forms = [tag, f'"{tag}"'] if self._bare_tags else [f'"{tag}"', tag]
        for form in forms:
            made = self._put_where(key, data, "If-Match", form)
            if made is not None:
                self._bare_tags = form == tag
                return made
        return None

    def _put_where(self, key: str, data: bytes, header: str, value: str) -> str | None:
        """The SDK has no way to ask that: a presigned address, valid for five minutes."""
        with store_errors("sending an object once"):
            url = self.client.get_presigned_url("PUT", self.name, key, expires=_PRESIGNED)
            answer = self._connections.urlopen("PUT", url, body=data, headers={header: value})
        if answer.status == 507:
            raise DiskReserveReached("no room in the object store: sending an object once")
        if answer.status in _CONFLICTS or (answer.status == 404 and header == "If-Match"):
            return None
        if answer.status >= 300:
            raise Unavailable(f"the object store refused ({answer.status}): sending an object once")
        return _bare(answer.headers.get("etag", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One line of a listing.

    Attributes:
        key: its key.
        size_bytes: its length.
        written_at: when, UTC, by the server's clock.
    """

    key: str
    size_bytes: int
    written_at: datetime


class Files(Connection):
    """A bucket whose files may be replaced and removed; nothing in it is evidence."""

    def require(self) -> None:
        """Demand that the bucket is there, and one whose files go when they are removed.

        Raises:
            Unavailable: it is not there, keeps versions, or nobody answers.
        """
        with store_errors("asking for the bucket"):
            there = self.client.bucket_exists(self.name)
            versioning = self.client.get_bucket_versioning(self.name).status if there else None
        if not there:
            raise Unavailable("there is no such bucket")
        if versioning == "Enabled":
            raise Unavailable("the bucket keeps versions, and files here are replaced and removed")

    def put(self, key: str, data: bytes) -> str:
        """Send a file in one request, in place of what was there; returns its entity tag.

        Raises:
            DiskReserveReached: the server has no room.
            Unavailable: the server refuses or does not answer; it may have been done.
        """
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        with store_errors("sending a file"):
            written = self.client.put_object(
                self.name,
                key,
                io.BytesIO(data),
                len(data),
                part_size=max(len(data), 5 << 20),
                metadata=dict(zip(_SHA256_HEADERS, (checksum, "SHA256"), strict=True)),
            )
        return _bare(written.etag or "")

    def read(self, key: str, first: int = 0, count: int = 0) -> bytes:
        """A file, or so many bytes of it from a position; fewer where it ends before.

        Raises:
            NotFound: it is not there.
            Unavailable: the server does not answer, or broke off.
        """
        return self.read_tagged(key, first, count)[0]

    def read_tagged(self, key: str, first: int = 0, count: int = 0) -> tuple[bytes, str]:
        """As `read`, with the entity tag, without its quotation marks."""
        with store_errors("reading a file"):
            response = self.client.get_object(self.name, key, offset=first, length=count)
            try:
                data = response.read()
                told = int(response.headers.get("content-length", len(data)))
                response.release_conn()
            finally:
                response.close()
        if told != len(data):
            raise Unavailable("the object store broke off in the middle of a file")
        return data, _bare(response.headers.get("etag", ""))

    def size_bytes(self, key: str) -> int:
        """Length of a file.

        Raises:
            NotFound: it is not there.
            Unavailable: the server does not answer.
        """
        with store_errors("describing a file"):
            return self.client.stat_object(self.name, key).size or 0

    def list(self, prefix: str) -> Iterator[Found]:
        """Every file whose key begins so, by key.

        Raises:
            Unavailable: the server does not answer.
        """
        with store_errors("listing files"):
            for one in self.client.list_objects(self.name, prefix=prefix, recursive=True):
                if one.object_name is not None and one.last_modified is not None:
                    yield Found(
                        key=one.object_name,
                        size_bytes=one.size or 0,
                        written_at=one.last_modified,
                    )

    def remove(self, keys: Sequence[str]) -> None:
        """Remove files; what is not there is no error.

        Raises:
            Unavailable: the server refuses or does not answer.
        """
        with store_errors("removing files"):
            if len(keys) == 1:
                self.client.remove_object(self.name, keys[0])
                return
            for start in range(0, len(keys), _REMOVED_AT_ONCE):
                wanted = [DeleteObject(key) for key in keys[start : start + _REMOVED_AT_ONCE]]
                for error in self.client.remove_objects(self.name, wanted):
                    if error.code not in _ABSENT:
                        raise Unavailable("the object store did not remove a file")


def _bare(tag: str) -> str:
    return tag.strip('"')


@contextmanager
def store_errors(doing: str, *, named: bool = False) -> Generator[None]:
    """Turn every foreign error of the block into the storage error that says whose fault it is.

    Args:
        doing: what was being done, as a noun phrase for the operator.
        named: whether a version was named: a malformed id is then one that is not there.

    Raises:
        NotFound: there is no such object or version.
        DiskReserveReached: the server has no room.
        Unavailable: anything else.
    """
    try:
        yield
    except S3Error as error:
        code = error.code or ""
        if code in _ABSENT or (named and code in _MALFORMED):
            raise NotFound(f"the object store holds no such object: {doing}") from error
        if code in _FULL:
            raise DiskReserveReached(f"no room in the object store: {doing}") from error
        told = code if _CODE.fullmatch(code) else "no code"
        raise Unavailable(f"the object store refused ({told}): {doing}") from error
    except (ServerError, InvalidResponseError) as error:
        raise Unavailable(f"the object store failed: {doing}") from error
    except (HTTPError, OSError) as error:
        raise Unavailable(f"the object store does not answer: {doing}") from error
    except (MinioException, ParseError, ValueError) as error:
        raise Unavailable(f"the object store gave no proper answer: {doing}") from error


def _pool(address: BucketAddress) -> urllib3.PoolManager:
    """Waits are bounded, and only what changes nothing is tried again, twice.

    The SDK's own pool waits five minutes and sends a write up to six times.
    """
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        timeout=urllib3.Timeout(connect=address.timeout_s, read=address.timeout_s),
        cert_reqs="CERT_REQUIRED",
        ca_certs=address.ca_file or certifi.where(),
        retries=urllib3.Retry(
            total=2,
            redirect=0,
            backoff_factor=0.2,
            allowed_methods=["GET", "HEAD"],
            status_forcelist=[500, 502, 503, 504],
            respect_retry_after_header=False,
            raise_on_status=False,
        ),
    )
