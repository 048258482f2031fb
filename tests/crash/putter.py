"""A process that puts one staged file into an S3 store, to be killed while it does.

python putter.py ENDPOINT BUCKET ACCESS_KEY SECRET_KEY STAGED_PATH KEY SHA256 SIZE_BYTES
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from storage.objects import StagedFile
from storage.objects.bucket import Bucket, BucketAddress
from storage.objects.locks import LockMode
from storage.objects.s3 import Intake, S3Objects


def main() -> None:
    """Put it."""
    endpoint, bucket, access_key, secret_key, path, key, sha256, size_bytes = sys.argv[1:]
    address = BucketAddress(
        endpoint=endpoint, bucket=bucket, access_key=access_key, secret_key=secret_key
    )
    intake = Intake(mode=LockMode.COMPLIANCE, days=1)
    store = S3Objects(Bucket(address), intake, lambda: datetime.now(UTC))
    store.put_once(StagedFile(key=key, path=Path(path), sha256=sha256, size_bytes=int(size_bytes)))


if __name__ == "__main__":
    main()
