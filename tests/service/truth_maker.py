"""A used and stopped deployment, and what `db verify` says of it, for tests."""

import msgspec

from service.settings import Settings
from service.truth.verify import verify_database
from storage.log.comparing import Difference


def differences(settings: Settings, database_url: str | None = None) -> list[Difference]:
    """Every difference in every log, or those of another database of the same deployment."""
    if database_url is not None:
        settings = msgspec.structs.replace(settings, database_url=database_url)
    return [each for one in verify_database(settings) for each in one.differences]


def told(found: list[Difference]) -> set[str]:
    """`table column kind believed` of each."""
    return {f"{one.table} {one.column or '*'} {one.kind} {one.believed}" for one in found}
