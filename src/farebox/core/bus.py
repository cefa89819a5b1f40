"""The bus between supervisor and worker: its messages, as JSON lines over a Unix socket pair.

It knows nothing of what either side does with a message. The only socket of core/: both sides need
it, and they stand in different rooms.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, get_type_hints

from farebox.core.settings import Settings

# Of all that the processes of a gateway say to each other: this bus, what a ledger process is
# ordered, and its and the counting process's messages. It goes up when one of another number would
# not understand them, and a reload then refuses to mix the two.
PROTOCOL = 2
MAX_LINE_BYTES = 1024 * 1024  # Start, the longest message, is about 1 KiB


class BusError(Exception):
    """What arrived on the bus is not one of its messages."""


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """Where the embedded model listens: the same for as long as the supervisor lives."""

    base_url: str  # ends in /v1
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Start:
    """Supervisor to worker, first and once: who it is, and what it runs with."""

    kind: ClassVar[str] = "start"
    slot: int  # from 0; a replaced worker keeps its slot and its listening socket
    owner: str  # `w<slot>-<random>`, new for every process: under which the store keeps its holds
    instance_id: str  # of the whole gateway: what `x-farebox-hop` carries
    settings: Mapping[str, Any]  # as `plain_settings` has them; of a newer Farebox, perhaps more
    local: LocalEndpoint | None = None
    counting: str | None = None  # the path of the socket where tokens are counted
    ledger: str = ""  # the path of the ledger process's socket


@dataclass(frozen=True, slots=True)
class Changed:
    """Supervisor to worker: the store's revisions as they are now. Load what is older than that."""

    kind: ClassVar[str] = "changed"
    catalogue: int
    keys: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Supervisor to worker: accept no connection, end what is in flight in time, then exit 0.

    `hand_over`: another worker has its socket now, and it goes on answering what clients send over
    the connections that they have. One without may follow, and counts then.
    """

    kind: ClassVar[str] = "drain"
    timeout_s: float
    hand_over: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to supervisor, once: it accepts connections on its socket."""

    kind: ClassVar[str] = "ready"
    slot: int
    pid: int


Message = Start | Changed | Drain | Ready
_KINDS: Mapping[str, type[Message]] = {kind.kind: kind for kind in (Start, Changed, Drain, Ready)}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Settings | LocalEndpoint):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    return value


def encode(message: Message) -> bytes:
    """One line of JSON with its newline."""
    values = {part.name: _plain(getattr(message, part.name)) for part in fields(message)}
    return json.dumps({"kind": message.kind, **values}).encode() + b"\n"


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Settings as JSON can have them."""
    return _plain(settings)


def read_settings(plain: Mapping[str, Any]) -> Settings:
    """What `plain_settings` made. Raises LookupError, TypeError."""
    hints, values = get_type_hints(Settings), dict(plain)
    for name, value in plain.items():
        if hints[name] in (Path, Path | None) and value is not None:
            values[name] = Path(value)
        elif isinstance(value, list):
            values[name] = tuple(value)  # pyright: ignore[reportUnknownArgumentType]
    return Settings(**values)


def decode(line: bytes) -> Message:
    """What `encode` wrote. Raises BusError on anything else."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = _KINDS[values.pop("kind")]
        if kind is Start:
            local = values["local"]
            values["local"] = None if local is None else LocalEndpoint(**local)
        return kind(**values)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BusError(f"Not a message of the bus ({error}): {line[:80]!r}.") from error


class Bus:
    """One end of the pair. `async with await Bus.connect(fd) as bus:` closes it at the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, end: int | socket.socket) -> Bus:
        """Over a socket or an inherited file descriptor of one, which the bus owns from now on."""
        sock = socket.socket(fileno=end) if isinstance(end, int) else end
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES))

    def send(self, message: Message) -> None:
        """Send without waiting. To a peer that has gone it does nothing; `receive` tells of it."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def receive(self) -> Message | None:
        """The next message; None when the other end has closed or died. Raises BusError."""
        try:
            line = await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except asyncio.LimitOverrunError:
            raise BusError(f"A message of the bus is over {MAX_LINE_BYTES} bytes.") from None
        return decode(line)

    def close(self) -> None:
        """Close this end. May be repeated; a waiting `receive` ends with None."""
        self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
