"""One node that receives content, stores none of it, and is killed: `python -m …  FOLDER`.

It reads one JSON line: `statements` in their wire form, `contents` in base64, `stall`: how many
bytes of the last one come before its sender falls silent. For each content that was answered it
prints `received <id>`, and `stalled` before it waits for its end.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator

from service.captures import transfers
from service.captures.announce import hand_in
from service.captures.arrivals import Arrivals
from service.captures.queries import find_upload
from service.captures.transfers import Transfers
from service.captures.uploads import Inbox, Transfer
from service.context import Context, open_context
from service.law.permissions import Holder, Scope
from service.settings import read_environment

ORGAN = "county-a"
PIECE = 1 << 20


def say(line: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def body(content: bytes, stall: int | None) -> AsyncIterator[bytes]:
    """The content in pieces; with `stall`, silence after so many bytes."""
    end = len(content) if stall is None else stall
    for start in range(0, end, PIECE):
        yield content[start : min(start + PIECE, end)]
    if stall is not None:
        await asyncio.sleep(0.5)  # what came is on its way to the store
        say("stalled")
        await asyncio.sleep(3600)


async def receive(context: Context, inbox: Inbox, capture: str, sent: AsyncIterator[bytes]) -> None:
    """Take one content to its end."""
    organ = context.organs[ORGAN]
    with context.db.read() as connection:
        upload = find_upload(connection, organ.log_id, capture)
    if upload is None:
        raise RuntimeError("the capture was not announced")
    holder = Holder(name="officer", organ=ORGAN, scopes=frozenset(Scope))
    transfer = Transfer(organ=organ, holder=holder, upload=upload, length=None, digest=None)
    noted = await inbox.receive(transfer, sent)
    say(f"received {noted.upload.capture}")


def main() -> None:
    """Announce, receive, and wait for the kill."""
    order = json.loads(sys.stdin.readline())
    transfers.LEASE_S = float(order["lease_s"])
    context = open_context(read_environment())
    organ = context.organs[ORGAN]
    receipts = hand_in(organ, order["statements"]).result()
    captures = [str(receipt.statement_id) for receipt in receipts]  # type: ignore[union-attr]
    contents = [base64.b64decode(one) for one in order["contents"]]
    arrivals = Arrivals(context.db, lambda: None)
    arrivals.start()
    claims = Transfers(context.db, "the node that dies", "one")
    claims.start()
    inbox = Inbox(context, arrivals, claims)
    inbox.begin(organ)

    async def all_of_them() -> None:
        """One after the other; the last one never ends."""
        for number, (capture, content) in enumerate(zip(captures, contents, strict=True), start=1):
            stall = int(order["stall"]) if number == len(contents) else None
            await receive(context, inbox, capture, body(content, stall))

    asyncio.run(all_of_them())


if __name__ == "__main__":
    main()
