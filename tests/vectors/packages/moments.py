"""Packages about what came to light later: a stolen key, a time that has not come yet.

`regenerate.py` writes each as a package vector, with one trust file of their own.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from evidence.schema import format_time
from tests.evidence.package_maker import AT, World, stamped, token, written
from tests.evidence.timestamp_maker import NOW as TOKEN_TIME
from tests.evidence.timestamp_maker import Authority, Making
from tests.vectors.packages.courses import Vector

TRUST = "moments-known-keys.json"
_ALONE = ["session.completeness", "time.not_before"]
_TOMORROW = (AT + timedelta(days=2)).replace(microsecond=0)


def moment_vectors(authority: Authority) -> tuple[dict[str, Vector], bytes]:
    """The packages and the trust file that they are judged by."""
    world = World()

    def suspected(since: datetime) -> bytes:
        """A photo whose key was revoked afterwards, as suspected since some time."""
        mine = world.again()
        mine.key("enrol", mine.server, "server")
        mine.key("enrol", mine.device, "device")
        capture = mine.photo()
        mine.status()
        lost = {"reason": "stolen", "suspected_since": format_time(since)}
        mine.key("revoke", mine.device, "device", **lost)
        return written(stamped(mine, capture, authority)).getvalue()

    found = {
        "key-suspected-before-its-token": Vector(
            suspected(TOKEN_TIME - timedelta(days=1)), [], [*_ALONE, "key.suspicion"], TRUST
        ),
        "key-suspected-after-its-token": Vector(
            suspected(TOKEN_TIME + timedelta(days=1)), [], _ALONE, TRUST
        ),
        "token-of-tomorrow": Vector(
            _of_tomorrow(world.again(), authority), [], [*_ALONE, "time.signature"], TRUST
        ),
    }
    return found, world.known_raw(authority)


def _of_tomorrow(world: World, authority: Authority) -> bytes:
    """A photo whose signature carries a time-stamp of after the verification."""
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    world.status()
    contents = stamped(world, capture, authority)
    later = Making(authority=authority, message=capture.signature, gen_time=_TOMORROW).response()
    stamps = {
        message: [later if message == capture.signature else token(authority, message)]
        for message in contents.timestamps
    }
    return written(replace(contents, timestamps=stamps)).getvalue()
