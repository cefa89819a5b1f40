"""The log: JSON lines on stderr (readable ones on a terminal), with everything secret struck out.

No request or answer body, no text of a user and no key is ever handed to it; striking out is the
second line of defence, and works on the finished line, so that tracebacks pass it too.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from farebox.core import clock
from farebox.telemetry.access import Line, line_of, words_of
from farebox.telemetry.record import Record, get_record

REDACTED = "[redacted]"
_SHORTEST_SECRET = 6  # a shorter one would strike out ordinary words
_MOST_PLAIN = 10_000  # words of access lines that are remembered to have no secret
_KEY_SIGNS = ("sk-", "bearer ", "://")
_KEY_LIKE = re.compile(
    r"(?:\b|(?<=\x1b\[\d\dm))"  # on a terminal a colour may stand before it
    r"sk-[a-z0-9_\-]{6,}"  # our keys, OpenAI's and those of many others
    r"|(?<=bearer )\s*[^\s\"',;\\]+"
    r"|(?<=://)[^\s/@\"']+:[^\s/@\"']+(?=@)",  # user and password of a URL
    re.IGNORECASE,
)
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("farebox")
_BY_STRUCTLOG = ("time", "level", "event")  # which it adds itself
_encoder = msgspec.json.Encoder(enc_hook=str)


class Redactor:
    """Strikes out what looks like a key, and every secret that it was told of."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._plain: set[tuple[object, ...]] = set()
        self.know(secrets)

    def know(self, secrets: Iterable[str]) -> None:
        """Strike these out from now on, instead of those named before: the vendors' keys."""
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                forms |= {secret, _in_json(secret)}
                forms |= {repr(secret)[1:-1], _in_json(repr(secret)[1:-1])}
        self._secrets = sorted(forms, key=len, reverse=True)  # a secret may begin another
        self._plain = set()  # behind them: who looks meanwhile, in another thread, fills the old

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        # The expression costs as much as all else of a line, so it is asked only with reason.
        folded = text.casefold()
        for sign in _KEY_SIGNS:
            if sign in folded:
                return _KEY_LIKE.sub(REDACTED, text)
        return text

    def of_access(self, written: bytes, lines: list[Line]) -> bytes:
        """What is written of these lines, without secrets. Once nothing was struck out of a line,
        others of the same words are not searched: that took as long as all else of a line.
        """
        words, plain = words_of(lines), self._plain
        if words <= plain:
            return written
        text = written.decode()
        redacted = self(text)
        # One that could not be written is not in the text, and was not searched.
        if redacted == text and text.count("\n") == len(lines):
            if len(plain) >= _MOST_PLAIN:
                plain.clear()
            plain |= words
        return redacted.encode()


def _in_json(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


class _ToStructlog(logging.Handler):
    """Takes what libraries log by the standard library into the same stream."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        log.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["time"] = clock.now_rfc3339()
    return event


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = get_record()
    if record is not None:
        event.setdefault("request_id", record.request_id)  # a line may tell of another's
    return event


def _without_empty(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For people: what is none, nothing or no says nothing."""
    return {name: value for name, value in event.items() if value}


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    return _encoder.encode({**first, **event}).decode()


class _Access:
    """Where access lines go. Every call has one, so JSON is written without structlog's detours,
    which cost twice as much as everything else of a line.
    """

    __slots__ = ("configured", "write")

    def __init__(self) -> None:
        # Of a request that is over: its record, its route's pattern, its status (None: the client
        # left before it had one) and its seconds.
        self.write: Callable[[Record, str, int | None, float], None] = _by_structlog
        self.configured: object = None  # structlog's processors that `write` stands for


def _by_structlog(record: Record, route: str, status: int | None, duration_s: float) -> None:
    _say(line_of(record, route, status, duration_s))


def _say(line: Line) -> None:
    fields = msgspec.to_builtins(line, enc_hook=str)
    log.info("request", **{name: fields[name] for name in fields if name not in _BY_STRUCTLOG})


class _Straight:
    """Writes access lines as JSON: those of one turn of the event loop in one go."""

    def __init__(self, output: TextIO, redactor: Redactor) -> None:
        self._write_bytes = _bytes_to(output)
        self._redactor = redactor
        self._lines: list[Line] = []
        self._turn: asyncio.AbstractEventLoop | None = None  # whose turn has lines that wait

    def add(self, record: Record, route: str, status: int | None, duration_s: float) -> None:
        """Have the line of this request written soon."""
        self._lines.append(line_of(record, route, status, duration_s))
        # Which loop runs is not asked for each of them: that is a call of the system.
        if self._turn is None or self._turn.is_closed():
            self._write_soon()

    def _write_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
        else:
            self._turn = loop
            loop.call_soon(self._write)

    def _write(self) -> None:
        lines, self._lines, self._turn = self._lines, [], None
        if _is_configured_anew():
            for line in lines:
                _say(line)
            return
        self._write_bytes(self._redactor.of_access(_encoded(lines), lines))


def _bytes_to(output: TextIO) -> Callable[[bytes], None]:
    """What writes text there that is in UTF-8 already, at once: past its layer of text, which would
    have it decoded to encode it again, if it encodes in the same way and holds nothing back.
    """

    def write(data: bytes) -> None:
        try:
            output.buffer.write(data)
            output.buffer.flush()
        except OSError:
            pass  # see _Lines

    lines = _Lines(output)

    def write_decoded(data: bytes) -> None:
        lines.write(data.decode())
        lines.flush()

    is_utf8 = isinstance(output, io.TextIOWrapper) and output.encoding.lower() == "utf-8"
    return write if is_utf8 else write_decoded


class _Lines:
    """Where lines go. That its disk is full, or its reader has gone, is no reason to end a call, or
    the loop in which a line is written: then lines are lost.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def write(self, text: str) -> None:
        """Write it if that can be done."""
        with suppress(OSError):
            self._output.write(text)

    def flush(self) -> None:
        """The same for what is held back."""
        with suppress(OSError):
            self._output.flush()


def _encoded(lines: list[Line]) -> bytes:
    """These lines as JSON; one that cannot be written takes no other with it."""
    try:
        return _encoder.encode_lines(lines)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        if len(lines) > 1:
            return b"".join([_encoded([line]) for line in lines])
        log.exception("request_not_written", request_id=lines[0].request_id)
        return b""


def _silent(record: Record, route: str, status: int | None, duration_s: float) -> None:
    if _is_configured_anew():
        _by_structlog(record, route, status, duration_s)


def _is_configured_anew() -> bool:
    """Whether somebody else has said since where lines go."""
    return structlog.get_config()["processors"] is not access.configured


access = _Access()


def configure(level: str, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr). `level`: debug, info, warning …"""
    output = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    render: Callable[[WrappedLogger, str, EventDict], str]
    if output.isatty():
        render = structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback,
            timestamp_key="time",
            sort_keys=False,
            pad_event_to=0,
            pad_level=False,
        )
        shape: list[structlog.typing.Processor] = [_without_empty, render]
        access.write = _by_structlog
    else:
        # Plain tracebacks in both: the pretty ones show local variables, and those hold bodies.
        shape = [structlog.processors.format_exc_info, _as_json]
        is_told = threshold <= logging.INFO
        access.write = _Straight(output, redactor).add if is_told else _silent

    def strike_out(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
        return redactor(str(line))

    access.configured = processors = [
        structlog.processors.add_log_level,
        _add_time,
        _add_request_id,
        *shape,
        strike_out,
    ]
    structlog.configure(
        processors=processors,  # pyright: ignore[reportArgumentType] (the last see a finished line)
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Lines(output))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(threshold)
    # Libraries that set up handlers of their own would write past the redaction.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"
        # Its starts and ends are told by the supervisor, in fewer words.
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
