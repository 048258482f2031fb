"""Messages between the service, the zygote and the process that reads a file.

Does: cuts answers into frames that fit one datagram and puts them together again. Refuses
frames of unknown kind and answers longer than the limit: the sender may have been taken over
by the file that it reads.

    b"F" + JSON | b"P" + part of a JPEG | b"D" + JSON (how it ended) | …

Source: unix(7), SOCK_SEQPACKET keeps the borders of messages, so a process that dies in the
middle cannot leave half a frame behind.
"""

import json
import os
import socket
from dataclasses import dataclass, field
from typing import Any, cast

# Well below the default buffer of a Unix socket (208 KiB).
PART_BYTES = 48 * 1024
# A preview of 1,600 pixels has some 600 KB; facts at most 64 KiB, three times.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MEMORY_EXIT = 77  # the exit status of a job that ran out of memory

ISOLATION, FACTS, PICTURE, REFUSAL, PROBED, DONE = b"I", b"F", b"P", b"R", b"T", b"D"
MORE = b"+"  # stands before the kind of a frame that is not the last of its message


def send(channel: socket.socket, kind: bytes, payload: bytes) -> None:
    """Send one message, in as many frames as it needs.

    Uses the system call `write`, which the filter allows; `sendto` would be refused.
    """
    for at in range(0, max(len(payload), 1), PART_BYTES):
        last = at + PART_BYTES >= len(payload)
        os.write(channel.fileno(), (b"" if last else MORE) + kind + payload[at : at + PART_BYTES])


@dataclass(slots=True)
class Answer:
    """What came back, message by message.

    Attributes:
        messages: payloads by kind, in order.
        size_bytes: sum of what was taken.
    """

    messages: dict[bytes, list[bytes]] = field(default_factory=dict[bytes, list[bytes]])
    size_bytes: int = 0
    _open: bytes = b""

    def take(self, frame: bytes) -> None:
        """Add one frame.

        Raises:
            ValueError: the answer is longer than MAX_ANSWER_BYTES, or the frame has no kind.
        """
        self.size_bytes += len(frame)
        if self.size_bytes > MAX_ANSWER_BYTES or not frame.strip(MORE):
            raise ValueError("An answer of the sandbox is malformed.")
        if frame.startswith(MORE):
            self._open += frame[2:]
        else:
            self.messages.setdefault(frame[:1], []).append(self._open + frame[1:])
            self._open = b""

    def last(self, kind: bytes) -> bytes | None:
        """Return the last whole message of a kind."""
        return self.messages[kind][-1] if kind in self.messages else None

    def json(self, kind: bytes) -> dict[str, Any]:
        """Return the last message of a kind as an object; empty if there is none that is one."""
        try:
            value: object = json.loads(self.last(kind) or b"{}")
        except ValueError:
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
