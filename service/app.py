"""The composition root: what is opened, in which order, and who is given what.

Does: builds the application for some settings; opens stores, logs and workers when the server
starts and closes them in reverse. Refuses to hold anything at module level.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
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
from service.edge import AnyRequest, Deadline, Edge, answer_options, exception_handlers
from service.exports.routes import get_export, get_package, post_export
from service.exports.workflow import Exporting
from service.guards import provide_caller, provide_context
from service.health import get_health, get_metrics, get_readiness
from service.joining import node_of
from service.logs import get_logger, set_up_logs
from service.metrics import Metrics
from service.objects import require_proven
from service.pages import get_description, get_docs, get_front, get_problem
from service.production import find_unsafe
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
from service.work.queue import Terms
from service.work.worker import Task, Worker

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


def create_app(settings: Settings) -> Edge:
    """The ASGI application for some settings; nothing is opened before its life span begins."""
    set_up_logs(settings.log_format)
    metrics = Metrics()

    @asynccontextmanager
    async def life_span(app: Litestar) -> AsyncGenerator[None]:
        """Open before the first request, close after the last."""
        running = await asyncio.to_thread(start, settings, metrics)
        app.state.context = running.context
        app.state.running = running
        try:
            yield
        finally:
            app.state.context = None
            await asyncio.to_thread(running.close)

    app = Litestar(
        route_handlers=[*answer_options(ROUTES), *ROUTES],  # else Litestar adds its own
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


def start(settings: Settings, metrics: Metrics) -> Running:
    """Open everything and begin to work; blocks.

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
            _log.warning("development_only", code=unsafe.code, reason=str(unsafe))
        return _begin_to_work(context, published, opening)


def _begin_to_work(context: Context, published: threading.Event, opening: ExitStack) -> Running:
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
    workers = _workers(context, ingest.task(), inspecting, confirming.working_logs)
    announcing = Announcing()
    opening.callback(announcing.close)
    arrivals = Arrivals(context.db, workers[0].wake)
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
    for thread in (*workers, attesting):
        thread.start()
        opening.callback(thread.close)

    def liveness() -> Mapping[str, bool]:
        """Which threads are alive, and whether every organ of a confirmed log has begun."""
        return {
            "arrivals": arrivals.alive,
            "attesting": attesting.alive,
            "beginning": confirming.begun,
            "confirming": confirming.alive,
            "workers": all(one.alive for one in workers),
        }

    return Running(
        context=context,
        announcing=announcing,
        inbox=inbox,
        reading=reading,
        liveness=liveness,
        close=opening.pop_all().close,
    )


def _receiving(context: Context, arrivals: Arrivals, opening: ExitStack) -> tuple[Inbox, Adopting]:
    """What takes content in, and what takes up what others left of it; neither has begun."""
    transfers = Transfers(context.db, f"{node_of(context.settings)} {context.new_id()}")
    transfers.start()
    opening.callback(transfers.close)
    inbox = Inbox(context, arrivals, transfers)
    opening.callback(inbox.close)
    return inbox, Adopting(context, inbox, transfers)


def _workers(
    context: Context,
    storing: Task,
    inspecting: Task,
    logs: Callable[[], Collection[str] | None],
) -> list[Worker]:
    """One thread for each task, as many as the settings say for inspections; the first stores."""
    terms = Terms(lease_s=context.settings.lease_s, attempts=context.settings.work_attempts)
    tasks: list[Task] = [
        storing,
        Exporting(context).task(),
        Disposing(context).task(),
        Stamping(context).task(),
        *([inspecting] * context.settings.inspect_workers),
    ]
    return [
        Worker(
            task,
            db=context.db,
            clock=context.clock,
            terms=terms,
            owner=f"{task.kind}-{context.new_id()}",
            metrics=context.metrics,
            logs=logs,
        )
        for task in tasks
    ]


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
