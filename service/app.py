"""The composition root: what is opened, in which order, and who is given what.

Does: builds the application for some settings; opens stores, logs and workers when the server
starts and closes them in reverse. Refuses to hold anything at module level.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig

from service.captures.adopting import Adopting
from service.captures.arrivals import Arrivals
from service.captures.content import get_content, put_content
from service.captures.gathering import Announcing
from service.captures.inspection import Inspecting
from service.captures.reading import Reading
from service.captures.routes import (
    announce_captures,
    get_bundle,
    get_capture,
    get_captures,
    get_proof,
    get_statements,
)
from service.captures.sandbox import Sandbox
from service.captures.transfers import Transfers
from service.captures.uploads import Inbox
from service.captures.workflow import Ingest
from service.context import Context, Organ, fresh_id, open_context
from service.deployment_file import Deployment, database_url
from service.duties import Duties
from service.edge import AnyRequest, Deadline, Edge, answer_options, exception_handlers
from service.exports.routes import get_export, get_package, post_export
from service.exports.workflow import Exporting
from service.guards import provide_caller, provide_context
from service.health import get_health, get_metrics, get_readiness, somebody_works
from service.joining import place_of
from service.logs import get_logger, set_up_logs
from service.metrics import Metrics
from service.objects import require_proven
from service.pages import get_description, get_docs, get_front, get_problem
from service.production import REFUSED, find_unsafe
from service.relaying import Relaying
from service.request_faults import refuse_unknown_parameters
from service.retention.disposing import Disposing
from service.retention.routes import (
    get_retention,
    post_approval,
    post_disposal,
    post_retention,
)
from service.settings import Settings, read_environment
from service.storecheck import state_verdict
from service.transparency.confirming import Confirming, ask_witnesses
from service.transparency.routes import get_checkpoint, get_logs, get_tile
from service.transparency.workflow import Attesting, Stamping
from service.webhooks.workflow import Delivering, Following
from service.work.engine import House, WorkEngine
from service.work.nodes import Node
from service.work.worker import Task, Terms

VERSION = "0.1.0"
MAX_BODY_BYTES = 64 * 1024
_log = get_logger("app")
ROUTES = [
    announce_captures,
    get_captures,
    get_capture,
    put_content,
    get_content,
    get_proof,
    get_bundle,
    get_statements,
    get_retention,
    post_retention,
    post_disposal,
    post_approval,
    post_export,
    get_export,
    get_package,
    get_logs,
    get_checkpoint,
    get_tile,
    get_health,
    get_readiness,
    get_metrics,
    get_description,
    get_docs,
    get_problem,
    get_front,
]


WATCHED = [get_health, get_readiness, get_metrics]
"""What a worker answers."""

WEB = "web"
WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A deployment at work.

    Attributes:
        context: everything that is open.
        announcing: takes announcements in.
        inbox: takes content in.
        reading: lets content out.
        liveness: which threads are alive.
        close: ends the work and lets go of everything.
    """

    context: Context
    announcing: Announcing
    inbox: Inbox
    reading: Reading
    liveness: Callable[[], Mapping[str, bool]]
    close: Callable[[], None]


def create_app(settings: Settings, kind: str = WEB) -> Edge:
    """The ASGI application for some settings; nothing is opened before its life span begins.

    Args:
        settings: where and what.
        kind: `WEB`, or `WORKER`, which answers only those who watch it.
    """
    routes = ROUTES if kind == WEB else WATCHED
    set_up_logs(settings.log_format)
    metrics = Metrics()

    @asynccontextmanager
    async def life_span(app: Litestar) -> AsyncGenerator[None]:
        """Open before the first request, close after the last."""
        running = await asyncio.to_thread(start, settings, metrics, kind)
        app.state.context = running.context
        app.state.running = running
        try:
            yield
        finally:
            app.state.context = None
            await asyncio.to_thread(running.close)

    app = Litestar(
        route_handlers=[*answer_options(routes), *routes],  # else Litestar adds its own
        lifespan=[life_span],
        middleware=[Deadline(settings.request_timeout_s)],
        before_request=refuse_unknown_parameters,
        exception_handlers=exception_handlers(metrics),  # type: ignore[arg-type]
        dependencies={
            "context": Provide(provide_context, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=False),
            "announcing": Provide(_provide_announcing, sync_to_thread=False),
            "inbox": Provide(_provide_inbox, sync_to_thread=False),
            "reading": Provide(_provide_reading, sync_to_thread=False),
            "liveness": Provide(_provide_liveness, sync_to_thread=False),
        },
        openapi_config=OpenAPIConfig(title="Fengni", version=VERSION, render_plugins=[]),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        debug=False,
    )
    return Edge(app, metrics, fresh_id)


def create_from_environment() -> Edge:
    """The application for this process's environment, for servers that take a factory.

    Raises:
        SettingsInvalid: a variable is unknown, malformed or unsafe.
    """
    return create_app(read_environment())


def start(settings: Settings, metrics: Metrics, kind: str = WEB) -> Running:
    """Open everything and begin to work; blocks.

    Args:
        settings: where and what.
        metrics: counts.
        kind: `WEB`, or `WORKER` for a process that does the work whatever the settings say.

    Raises:
        SettingsInvalid, StorageError: see `open_context`.
        StoreUnproven: see `state_verdict`.
    """
    published = threading.Event()
    with ExitStack() as opening:
        context = open_context(
            settings,
            metrics=metrics,
            witnessed=ask_witnesses,
            published=lambda _log_id, _head: published.set(),
            relay=Relaying,
        )
        opening.callback(context.close)
        for unsafe in find_unsafe(settings, context.deployment):
            _log.warning("development_only", code=unsafe.code, reason=REFUSED[unsafe.code])
        return _begin_to_work(context, published, opening, kind)


def _begin_to_work(
    context: Context, published: threading.Event, opening: ExitStack, kind: str
) -> Running:
    """Start every thread over an open context; what `opening` holds becomes the closing."""
    sandbox = Sandbox(workers=max(1, context.settings.inspect_workers))
    opening.callback(sandbox.close)
    reading = Reading(context, sandbox)
    ingest = Ingest(context)
    opening.callback(ingest.close)

    def sealing() -> bool:
        """Whether content is coming in or being sealed."""
        return inbox.busy or ingest.busy

    def begin(organ: Organ) -> None:
        """An organ's log is confirmed: what is left is taken up, then everybody may come."""
        state_verdict(context, organ)
        adopting.adopt(organ)
        inbox.begin(organ)
        published.set()

    confirming = Confirming(context, begin)
    inspecting = Inspecting(context, reading, sandbox).task(sealing)
    engine = duties = None
    if kind == WORKER or _works_here(context.settings, context.deployment):
        duties = Duties(context)
        tasks = (ingest.task(), inspecting, duties.task())
        engine = _engine(context, kind, tasks, confirming.working_logs)
    announcing = Announcing()
    opening.callback(announcing.close)
    arrivals = Arrivals(context.db, _nothing if engine is None else engine.wake)
    arrivals.start()
    opening.callback(arrivals.close)
    inbox, adopting = _receiving(context, arrivals, opening)
    opening.callback(confirming.close)
    confirming.start()
    if context.verdict is not None:
        require_proven(context.settings, context.verdict)
    if confirming.working_logs() is None:
        adopting.put_unknown_aside()
    adopting.start()
    opening.callback(adopting.close)
    attesting = Attesting(context, published)
    following = None if engine is None else Following(context, engine.wake)
    for started in (engine, attesting, following, duties):
        if started is not None:
            started.start()
            opening.callback(started.close)

    return Running(
        context=context,
        announcing=announcing,
        inbox=inbox,
        reading=reading,
        liveness=partial(_liveness, context, arrivals, attesting, confirming, engine),
        close=opening.pop_all().close,
    )


def _receiving(context: Context, arrivals: Arrivals, opening: ExitStack) -> tuple[Inbox, Adopting]:
    """What takes content in, and what takes up what others left of it; neither has begun."""
    transfers = Transfers(context.db, place_of(context.settings), context.new_id())
    transfers.start()
    opening.callback(transfers.close)
    inbox = Inbox(context, arrivals, transfers)
    opening.callback(inbox.close)
    return inbox, Adopting(context, inbox, transfers)


def _liveness(
    context: Context,
    arrivals: Arrivals,
    attesting: Attesting,
    confirming: Confirming,
    engine: WorkEngine | None,
) -> Mapping[str, bool]:
    """Which threads are alive, and whether every organ of a confirmed log has begun."""
    return {
        "arrivals": arrivals.alive,
        "attesting": attesting.alive,
        "beginning": confirming.begun,
        "confirming": confirming.alive,
        "workers": engine.alive if engine is not None else somebody_works(context),
    }


def _works_here(settings: Settings, deployment: Deployment) -> bool:
    """Whether a process that serves does the background work as well."""
    if settings.work == "auto":
        return database_url(settings, deployment).startswith("sqlite:")
    return settings.work == "here"


def _engine(
    context: Context,
    kind: str,
    tasks: Sequence[Task],
    logs: Callable[[], Collection[str] | None],
) -> WorkEngine:
    """The engine of this process, under a name that no other start ever had.

    Args:
        context: everything that is open.
        kind: of the process.
        tasks: those that share something with the rest of the process.
        logs: ids of the logs whose work may be done now; None for all.
    """
    every = [
        *tasks,
        Exporting(context).task(),
        Disposing(context).task(),
        Stamping(context).task(),
        Delivering(context).task(),
    ]
    host = context.settings.node or socket.gethostname()[:63]
    return WorkEngine(
        House(
            url=database_url(context.settings, context.deployment),
            node=Node(executor=f"{host}-{context.new_id()}", kind=kind, host=host),
            kept_s=context.settings.work_kept_s,
            alone=context.db.path is not None,  # a file's logs belong to one process
            new_id=context.new_id,
        ),
        [task for task in every if task.slots],
        Terms(
            db=context.db,
            clock=context.clock,
            attempts=context.settings.work_attempts,
            metrics=context.metrics,
            logs=logs,
        ),
    )


def _nothing() -> None:
    """Nobody here waits for work."""


def _provide_announcing(request: AnyRequest) -> Announcing:
    return _running(request).announcing


def _provide_inbox(request: AnyRequest) -> Inbox:
    return _running(request).inbox


def _provide_reading(request: AnyRequest) -> Reading:
    return _running(request).reading


def _provide_liveness(request: AnyRequest) -> Callable[[], Mapping[str, bool]]:
    return _running(request).liveness


def _running(request: AnyRequest) -> Running:
    running: Any = request.app.state.running
    if not isinstance(running, Running):
        raise TypeError("a request came before the life span began")
    return running
