"""The staging area that is an S3 bucket: what one node received, every other node can read.

    store                                       "fengni-staging 1"
    pieces/<key>/<transfer>/<number>            5 MiB of an upload, all pieces but its last
    waiting/<key>.<sha256>                      a complete upload: its head, then its last piece
    quarantine/<key>.<sha256>.<reason>          the same for one that was not what was announced

    fengni-staged 1 <transfer> <pieces before the last> <bytes in all>

Pieces are objects of their own and no parts of a multipart upload: they can be read before the
upload is complete, are no larger than what is held in memory, and show in any listing. The head is
written last, in one request, so an upload is complete or has no name. Quarantine writes the head
under another name and moves no piece.

An upload that fits one piece and has the digest that was announced needs no staging: it is sent
straight to its object's place, where one is given. The bucket has no locks and keeps no versions.

Pieces without a head are an abandoned upload. They are removed by whoever sweeps when they are an
hour old and nobody is receiving that key. A writer that was given up and comes back finds that out:
after the head it looks whether its pieces are all there.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import BinaryIO, Self

from storage.errors import NotFound, Unavailable
from storage.objects import Staged
from storage.s3 import Files, Found
from storage.staging import (
    QUARANTINE_NAME,
    WAITING_NAME,
    Leftovers,
    QuarantinedFile,
    checked_key,
    quarantine_name,
)
from storage.staging.pieces import (
    PIECE_KEY,
    PIECES,
    WAITING,
    Head,
    PiecesWriter,
    StagedPieces,
    Straight,
    has_pieces,
    open_pieces,
    read_head,
    remove_upload,
)

ABANDONED = timedelta(hours=1)
"""How old the newest piece of an upload is that nobody receives, when it is removed."""

_STORE = "store"
_STORE_TEXT = b"fengni-staging 1\n"
_QUARANTINE = "quarantine/"


class StagingBucket:
    """`Staging` over one bucket; see the protocol for the promises."""

    def __init__(
        self, files: Files, clock: Callable[[], datetime], *, straight: Straight | None = None
    ) -> None:
        """Open a staging area that `StagingBucket.create` made.

        Args:
            files: the bucket, without locks.
            clock: now, UTC; compared with the server's, to the hour.
            straight: where an upload of one piece goes that is what was announced. None where
                objects are not the announced bytes, or go elsewhere.

        Raises:
            Unavailable: there is none, or nobody answers.
        """
        self._files = files
        self._clock = clock
        self._straight = straight
        try:
            marked = files.read(_STORE) == _STORE_TEXT
        except NotFound:
            marked = False
        if not marked:
            raise Unavailable("no staging area lies in the bucket")

    @classmethod
    def create(
        cls, files: Files, clock: Callable[[], datetime], *, straight: Straight | None = None
    ) -> Self:
        """Make the bucket, or open one that is there already.

        Raises:
            Unavailable: it could not be made.
        """
        files.make(object_lock=False)
        files.require()
        files.put(_STORE, _STORE_TEXT)
        return cls(files, clock, straight=straight)

    @property
    def shared(self) -> bool:
        """Yes: every node reads it."""
        return True

    def begin(self, key: str, announced_bytes: int, *, sha256: str | None = None) -> PiecesWriter:
        """See `Staging.begin`; the server has the last word about room."""
        return PiecesWriter(
            self._files,
            key=checked_key(key),
            announced_bytes=announced_bytes,
            sha256=sha256,
            straight=self._straight,
        )

    def waiting(self, key: str, sha256: str, size_bytes: int) -> StagedPieces:
        """See `Staging.waiting`."""
        checked_key(key)
        return StagedPieces(files=self._files, key=key, sha256=sha256, size_bytes=size_bytes)

    def holds(self, key: str, sha256: str) -> bool:
        """See `Staging.holds`."""
        try:
            self._files.size_bytes(f"{WAITING}{checked_key(key)}.{sha256}")
        except NotFound:
            return False
        return True

    def quarantine(self, staged: Staged, reason: str) -> QuarantinedFile:
        """See `Staging.quarantine`: the head is written anew, and then the old one goes."""
        aside = _QUARANTINE + quarantine_name(staged.key, staged.sha256, reason)
        waiting = f"{WAITING}{staged.key}.{staged.sha256}"
        try:
            self._files.put(aside, self._files.read(waiting))
            self._files.remove([waiting])
        except NotFound:
            pass  # an earlier try came as far as this, or there is nothing
        try:
            size_bytes = read_head(self._files, aside).size_bytes
        except NotFound as error:
            raise NotFound("no such upload is waiting or in quarantine") from error
        return QuarantinedFile(
            key=staged.key, sha256=staged.sha256, size_bytes=size_bytes, reason=reason
        )

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """See `Staging.quarantined`."""
        for one in list(self._files.list(_QUARANTINE)):
            match = QUARANTINE_NAME.fullmatch(one.key.removeprefix(_QUARANTINE))
            if match is not None:
                yield QuarantinedFile(
                    key=match[1],
                    sha256=match[2],
                    size_bytes=read_head(self._files, one.key).size_bytes,
                    reason=match[3],
                )

    def open_quarantined(self, kept: QuarantinedFile) -> BinaryIO:
        """See `Staging.open_quarantined`."""
        name = quarantine_name(kept.key, kept.sha256, kept.reason)
        return open_pieces(self._files, _QUARANTINE + name, kept.key)

    def drop_quarantined(self, kept: QuarantinedFile) -> None:
        """See `Staging.drop_quarantined`."""
        name = quarantine_name(kept.key, kept.sha256, kept.reason)
        remove_upload(self._files, _QUARANTINE + name, kept.key)

    def sweep(self, is_live: Callable[[str], bool] = lambda _key: False) -> Leftovers:
        """See `Staging.sweep`.

        1. abandoned uploads are looked for among the pieces: old, and nobody receives them
        2. complete uploads are listed, and what is in quarantine; their pieces are no one's to
           remove. In this order: what is completed or taken aside meanwhile is seen.
        3. pieces that no head names go
        """
        abandoned = self._abandoned(is_live)  # 1
        finished: list[Staged] = []
        strangers: list[str] = []
        for one in list(self._files.list(WAITING)):  # 2
            match = WAITING_NAME.fullmatch(one.key.removeprefix(WAITING))
            head = None if match is None else self._found(one.key)
            if match is None:
                strangers.append(one.key.removeprefix(WAITING))
            elif head is not None:
                abandoned.pop((match[1], head.transfer), None)
                if is_live(match[1]):
                    continue
                if has_pieces(self._files, match[1], head.transfer, head.pieces):
                    finished.append(self.waiting(match[1], match[2], head.size_bytes))
                else:
                    strangers.append(one.key.removeprefix(WAITING))
        self._keep_quarantined(abandoned)
        for pieces in abandoned.values():  # 3
            self._files.remove(pieces)
        return Leftovers(
            finished=tuple(finished), dropped=len(abandoned), strangers=tuple(strangers)
        )

    def _abandoned(self, is_live: Callable[[str], bool]) -> dict[tuple[str, str], list[str]]:
        """Keys of the pieces of old uploads that nobody receives, by key and transfer."""
        uploads: dict[tuple[str, str], list[Found]] = {}
        for one in self._files.list(PIECES):
            match = PIECE_KEY.fullmatch(one.key)
            if match is not None:
                uploads.setdefault((match[1], match[2]), []).append(one)
        before = self._clock() - ABANDONED
        return {
            upload: [one.key for one in pieces]
            for upload, pieces in uploads.items()
            if max(one.written_at for one in pieces) < before and not is_live(upload[0])
        }

    def _keep_quarantined(self, abandoned: dict[tuple[str, str], list[str]]) -> None:
        """Take those out that are in quarantine; only heads of the same keys are read."""
        keys = {key for key, _ in abandoned}
        for one in list(self._files.list(_QUARANTINE)) if keys else ():
            key = one.key.removeprefix(_QUARANTINE).partition(".")[0]
            if key in keys:
                abandoned.pop((key, read_head(self._files, one.key).transfer), None)

    def _found(self, name: str) -> Head | None:
        """A head that was there a moment ago; None where it has been consumed since."""
        try:
            return read_head(self._files, name)
        except NotFound:
            return None
