"""A rolling reload: one worker after the other is replaced by one of the settings and the code that
are on the disk now, and no call fails by it.

How a worker is replaced is crew.py's business, how the ledger process is, standby.py's. What is on
the disk is read by a process of its own (reload_process.py), since the code here is of the start.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from farebox import __version__
from farebox.children import Say, Worker
from farebox.core.bus import PROTOCOL, read_settings
from farebox.core.settings import Settings
from farebox.crew import Crew

RELOAD_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "farebox.reload_process")
_ANSWER_LIMIT_S = 60.0  # to import, to read the file, to ask the store
_FAREWELL_S = 1.0
_MAX_LINE_BYTES = 1024 * 1024
_NAMES = frozenset(each.name for each in fields(Settings))


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line said, for whoever reads the settings again, and who else goes by them:
    `follow` is told of them when every worker has them.
    """

    config: Path | None = None
    overrides: Mapping[str, object] = field(default_factory=dict[str, object])
    follow: Callable[[Settings], None] = lambda _: None


class Refused(Exception):
    """There is no reload, or it goes no further: sentences that say why."""


def question(given: Given, running: Mapping[str, Any]) -> bytes:
    """What the reload's process reads first."""
    values = {
        "config": str(given.config) if given.config is not None else None,
        "overrides": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in given.overrides.items()
        },
        "running": running,
    }
    return json.dumps(values).encode() + b"\n"


def known(plain: Mapping[str, Any]) -> Settings:
    """What the code here knows of settings, which may be those of a newer Farebox."""
    return read_settings({name: value for name, value in plain.items() if name in _NAMES})


class Reload:
    """All reloads of one supervisor, one at a time. Made inside the loop."""

    def __init__(
        self,
        crew: Crew,
        *,
        ask: Callable[[], Asking],
        make_worker: Callable[[int, Mapping[str, Any]], Worker],
        renew_ledger: Callable[[], Awaitable[bool]],
        adopt: Callable[[Mapping[str, Any]], None],
        say: Say,
    ) -> None:
        """`ask()` is what reads the disk; `make_worker(slot, settings)` is not started yet;
        `renew_ledger` is standby.LedgerPlace's; `adopt(settings)` is told when every worker has
        them.
        """
        self._crew = crew
        self._renew_ledger = renew_ledger
        self._ask = ask
        self._make_worker = make_worker
        self._adopt = adopt
        self._say = say
        self._wanted = asyncio.Event()
        self._busy = False

    def want(self) -> None:
        """There is to be one; if one goes on, then after it, however often this is said."""
        self._wanted.set()
        if self._busy:
            self._say("Another reload follows this one.\n")

    async def run(self) -> None:
        """Reload whenever it is wanted, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._busy = True
            try:
                await self._reload()
            except Refused as refused:
                self._say(f"{refused}\n")
            except Exception as error:  # noqa: BLE001 (the gateway must outlive it)
                self._say(f"The reload failed: {error!r}.\n")
            finally:
                self._busy = False

    async def _reload(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._say("Reloading: the settings are read again.\n")
        async with self._ask() as asking:
            settings = await asking.settings()
            await self._replace_workers(settings)
            self._adopt(settings)
            # A new ledger process waits for a word of every worker that lives, before it holds for
            # new calls.
            await self._crew.wait_for_former(_FAREWELL_S)
            if await self._renew_ledger():
                self._say("The ledger process is replaced.\n")
            else:
                self._say("The ledger process could not be replaced yet; it serves on.\n")
            for note in await asking.apply():
                self._say(f"{note}\n")
        rest = ""
        if self._crew.former:
            limit_s = known(settings).reload_drain_timeout_s
            rest = f" Calls in flight in the former workers have {limit_s:g} s to end."
        self._say(f"Reloaded in {loop.time() - began_s:.1f} s.{rest}\n")

    async def _replace_workers(self, settings: Mapping[str, Any]) -> None:
        limit_s = known(settings).reload_drain_timeout_s
        workers = self._crew.workers
        for done, former in enumerate(workers):
            name = former.name
            end = await self._crew.replace(self._make_worker(former.slot, settings), limit_s)
            if end is not None:
                raise Refused(
                    f"The new {name.lower()} {end} before it could serve; the lines above say why. "
                    f"The reload ends here: {_those_who_stay(done, len(workers))}."
                )
            self._say(f"{name} is replaced ({done + 1} of {len(workers)}).\n")


def _those_who_stay(replaced: int, of: int) -> str:
    if not replaced:
        return "nothing was changed"
    return f"{replaced} of {of} workers are new, the others go on as they were"


class Asking:
    """The process that reads the disk, for one reload. `async with Asking(…) as asking`."""

    def __init__(self, first_line: bytes, command: Sequence[str], say: Say) -> None:
        self._first_line = first_line
        self._command = command
        self._say = say
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def settings(self) -> Mapping[str, Any]:
        """Those that workers are to have, as core.bus.plain_settings has them. Raises Refused."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                start_new_session=True,
                limit=_MAX_LINE_BYTES,
            )
        except OSError as error:
            raise Refused(f"There is no reload: no process could be started: {error}.") from None
        answer = await self._ask(self._first_line)
        version = answer.get("version", "?")
        if answer.get("protocol") != PROTOCOL:
            raise Refused(
                f"There is no reload: Farebox {version}, which is installed now, cannot work "
                f"beside {__version__}, which runs. Stop the gateway and start it again."
            )
        if answer["problems"]:
            problems = "\n".join(answer["problems"])
            raise Refused(f"{problems}\nThere is no reload, and nothing was changed.")
        if version != __version__:
            self._say(f"Farebox {version} takes over from {__version__}.\n")
        for note in answer["notes"]:
            self._say(f"{note}\n")
        return answer["settings"]

    async def apply(self) -> list[str]:
        """Have the catalogue made what a start would make it; what is amiss with it. Raises
        Refused.
        """
        answer = await self._ask(b"apply\n")
        if answer["problems"]:
            raise Refused("\n".join(answer["problems"]))
        return answer["notes"]

    async def _ask(self, line: bytes) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            said = await asyncio.wait_for(process.stdout.readline(), _ANSWER_LIMIT_S)
            return json.loads(said)
        except (OSError, ValueError):  # TimeoutError is an OSError; ValueError: no or half a line
            raise Refused(
                "The settings could not be read: the process for that ended without an answer, or "
                "did not give one in time; the lines above may say why. There is no reload."
            ) from None
