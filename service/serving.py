"""`fengni serve`: one process, one worker, one deployment.

Does: holds the deployment's lock for as long as it serves, makes sure that nobody else listens on
the port, and runs the application in granian inside this process. Refuses to share: granian opens
its socket with SO_REUSEPORT, so a forgotten server would silently answer half of the requests.
"""

import asyncio
import errno
import fcntl
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar.types import ASGIApp, LifeSpanStartupFailedEvent, Message, Receive, Scope, Send

from service.app import WEB, WORKER, create_app
from service.settings import Settings

LOCK_FILE = "serve.lock"
_HEADER_READ_TIMEOUT_MS = 10_000
_BACKLOG = 1024
_REQUESTS_AT_ONCE = 512
_LISTENING_PAUSE_S = 0.05


class AlreadyServed(Exception):
    """Another process serves this deployment, or listens on the port."""


def serve(settings: Settings, *, listening: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: where and what.
        listening: called once when requests are answered.

    Raises:
        AlreadyServed: the deployment or the port is taken.
        SettingsInvalid, StorageError: the deployment cannot be opened.
    """
    with _only_one(settings.folder):
        require_free_port(settings.host, settings.port)
        uvloop.run(_serve(settings, listening, WEB))


def work(settings: Settings, *, listening: Callable[[], None]) -> None:
    """Do background work until SIGINT or SIGTERM, and answer those who watch.

    Several workers may share a deployment; each has a port of its own.

    Args:
        settings: where and what.
        listening: called once when it works.

    Raises:
        AlreadyServed: the port is taken.
        SettingsInvalid, StorageError: the deployment cannot be opened.
    """
    require_free_port(settings.host, settings.port)
    uvloop.run(_serve(settings, listening, WORKER))


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that anybody listens on, whatever its options.

    Raises:
        AlreadyServed: it is taken, or may not be opened.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "somebody listens there already" if taken else "it cannot be opened"
        raise AlreadyServed(f"Port {port} of {host} is not free: {reason}.") from error


async def _serve(settings: Settings, listening: Callable[[], None], kind: str) -> None:
    app = _Watched(create_app(settings, kind))
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_REQUESTS_AT_ONCE,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_READ_TIMEOUT_MS),
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    announcing = loop.create_task(_announce(settings, listening))
    try:
        await server.serve()
    except Exception:  # granian's own word for a start that failed; ours is raised below
        if app.failure is None:
            raise
    finally:
        announcing.cancel()
    if app.failure is not None:
        raise app.failure  # the reason, and not the server's word that there was one


async def _announce(settings: Settings, listening: Callable[[], None]) -> None:
    """Tell once the port takes connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(_LISTENING_PAUSE_S)
        else:
            writer.close()
            listening()
            return


class _Watched:
    """The application, with the reason kept why it did not start.

    The server would log such a failure and answer requests all the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if str(scope["type"]) != "lifespan":
            await self._app(scope, receive, send)
            return
        told = False

        async def tell(message: Message) -> None:
            """Pass on, and remember that the server was told how the start went."""
            nonlocal told
            told = True
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except Exception as error:  # raised again
            self.failure = error
            if not told:
                failed: LifeSpanStartupFailedEvent = {
                    "type": "lifespan.startup.failed",
                    "message": "",
                }
                await send(cast("Message", failed))  # Litestar leaves it out of its union
            raise


@contextmanager
def _only_one(folder: Path) -> Generator[None]:
    """Hold the deployment; the kernel lets go of it with the process, however that ends."""
    with (folder / LOCK_FILE).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyServed(f"Another process serves {folder}.") from error
        yield
