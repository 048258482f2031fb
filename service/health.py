"""For those who watch the service: is it alive, may it be used, what has it done.

Does: answers without a token and tells nothing about captures. Refuses to call itself ready while
a log is halted, waits for its witnesses or has no leader, the server's key is not enrolled, a
worker is dead or the disk is full.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from evidence.errors import KeyUnknown
from service.context import Context, Organ
from service.metrics import MEDIA_TYPE
from service.work.counts import count_pieces
from service.work.nodes import seen_nodes
from storage.errors import StorageError
from storage.log.joined import JoinedLog

Liveness = Callable[[], Mapping[str, bool]]


class Health(Struct, frozen=True):
    """The process answers."""

    status: str


class LogState(Struct, frozen=True):
    """How a log that several nodes may lead is doing here.

    Attributes:
        log: its id.
        leads: whether this process leads it.
        leader: who does; null where nobody does now.
        epoch: of the leader's term; it only grows.
        waited_ms: how long the oldest statement waits here for the leader.
    """

    log: str
    leads: bool
    leader: str | None
    epoch: int | None
    waited_ms: int


class Readiness(Struct, frozen=True, omit_defaults=True):
    """Whether requests are welcome, and which checks say no.

    Attributes:
        status: `ready` or `not_ready`.
        failed: names of checks.
        logs: who leads each log, where several nodes may.
    """

    status: str
    failed: list[str]
    logs: tuple[LogState, ...] = ()


@get("/healthz", sync_to_thread=False, summary="Is the process alive?")
def get_health() -> Health:
    """Always the same while the process answers."""
    return Health(status="alive")


@get("/readyz", sync_to_thread=True, summary="May the service be used?")
def get_readiness(
    context: NamedDependency[Context], liveness: NamedDependency[Liveness]
) -> Response[Readiness]:
    """200 if every check passes, else 503 and their names."""
    checks = {
        "database": _database(context),
        "disk_reserve": _disk(context),
        **liveness(),
    }
    for organ in context.organs.values():
        status = organ.log.status()
        checks[f"log_{organ.log_id}"] = status.halted is None
        checks[f"witnesses_{organ.log_id}"] = status.confirmed
        checks[f"publication_{organ.log_id}"] = status.publication is None
        checks[f"server_key_{organ.id}"] = _enrolled(organ)
        if isinstance(organ.log, JoinedLog):
            checks[f"joined_{organ.log_id}"] = organ.log.alive
            checks[f"leader_{organ.log_id}"] = status.leads or status.leader is not None
    failed = sorted(name for name, passed in checks.items() if not passed)
    return Response(
        Readiness(
            status="not_ready" if failed else "ready", failed=failed, logs=tuple(_states(context))
        ),
        status_code=HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK,
    )


@get(
    "/metrics",
    sync_to_thread=True,
    media_type=MEDIA_TYPE,
    summary="Counters in Prometheus' text form",
)
def get_metrics(context: NamedDependency[Context]) -> Response[bytes]:
    """Totals, durations and queue lengths."""
    with context.db.read() as connection:
        counted = count_pieces(connection)
        alive = [one.node.kind for one in seen_nodes(connection) if one.alive]
    for kind in ("web", "worker"):
        context.metrics.nodes.labels(kind).set(alive.count(kind))
    context.metrics.queued.clear()
    for (kind, state), number in counted.items():
        context.metrics.queued.labels(kind, state).set(number)
    for organ in context.organs.values():
        status = organ.log.status()
        context.metrics.log_leads.labels(organ.log_id).set(status.leads)
        context.metrics.log_epoch.labels(organ.log_id).set(status.epoch or 0)
        context.metrics.log_waited.labels(organ.log_id).set(status.waited_s)
    return Response(context.metrics.render(), media_type=MEDIA_TYPE)


def _states(context: Context) -> Iterator[LogState]:
    for organ in context.organs.values():
        if isinstance(organ.log, JoinedLog):
            status = organ.log.status()
            yield LogState(
                log=organ.log_id,
                leads=status.leads,
                leader=status.leader,
                epoch=status.epoch,
                waited_ms=round(status.waited_s * 1000),
            )


def _database(context: Context) -> bool:
    try:
        with context.db.read() as connection:
            count_pieces(connection)
    except (SQLAlchemyError, StorageError):
        return False
    return True


def somebody_works(context: Context) -> bool:
    """Whether any process that does background work has spoken lately."""
    try:
        with context.db.read() as connection:
            return any(one.alive for one in seen_nodes(connection))
    except (SQLAlchemyError, StorageError):
        return False


def _disk(context: Context) -> bool:
    reserve_bytes = context.settings.disk_reserve_bytes
    free_bytes = context.objects.free_bytes()
    if free_bytes is None:  # objects lie elsewhere; uploads or copies of content lie here
        free_bytes = shutil.disk_usage(context.places.exports).free
    return free_bytes > reserve_bytes


def _enrolled(organ: Organ) -> bool:
    try:
        organ.admission.keys.public_key(organ.admission.signer.key_id)
    except KeyUnknown:
        return False
    return True
