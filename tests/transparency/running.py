"""Runs a loopback server in a thread of the test."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

from service.transparency.loopback import LoopbackServer


@contextmanager
def running(server: LoopbackServer) -> Generator[str, None, None]:
    """Serve until the block ends; yield the address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
