"""Processes killed under load, and whether the books are right afterwards.

`press` is one run, as the tests do it in seconds and bench/chaos.py for as long as you like.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.pressing import Pressing
from tests.e2e.serving import Serving, until

CREDITS = 100_000
_AT_WORK = "ledger at work"
_SETTLE_S = 30.0  # after the last kill, until nothing is held any more
_COLUMNS = "request_id, charge, absorbed, due, outcome"
_BETWEEN_S = (0.0, 0.5)  # of two kills, once calls are answered again
_STANDSTILL_S = 30.0  # without any answer, of hosts that start processes on a busy machine


@dataclass
class Report:
    """What a run found. While it goes on, `whole` and `kills` are of now."""

    whole: int = 0  # answers that callers have, to the end
    rows: int = 0
    undelivered: int = 0
    not_whole: Counter[str] = field(default_factory=Counter[str])
    kills: Counter[str] = field(default_factory=Counter[str])
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of {what}" for what, count in sorted(self.kills.items()))
        other = ", ".join(f"{count} {what}" for what, count in sorted(self.not_whole.items()))
        lines = [
            f"answers acknowledged: {self.whole}, of {self.rows} calls in the books",
            f"answers cut short or refused: {other or 'none'}",
            f"kills: {kills or 'none'}",
            f"slowest call: {self.slowest_s:.2f} s; undelivered: {self.undelivered}",
            f"violations: {len(self.violations)}",
        ]
        return "\n".join([*lines, *self.violations[:20]])


def children(gateway: Serving, kind: str) -> list[int]:
    """The pids of a gateway's children of a kind: "worker", "ledger" (the ledger process and its
    spare) or "ledger at work" (without the spare).
    """
    module = "farebox.app" if kind == "worker" else "farebox.ledger_process"
    pid = gateway.process.pid
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split():
        with suppress(OSError):
            if module in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8").split("\0"):
                found.append(int(child))
    return [each for each in found if each in _lockers()] if kind == _AT_WORK else found


def _lockers() -> set[int]:
    """Who holds a lock of flock(2), by proc_locks(5): a ledger at work does, its owner's."""
    lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    return {int(words[4]) for words in map(str.split, lines) if words[1] == "FLOCK"}


def kill(gateway: Serving, kind: str, chance: random.Random) -> bool:
    """`kill -9` of one of them; whether there was one."""
    pids = children(gateway, kind)
    if not pids:
        return False
    with suppress(ProcessLookupError):
        os.kill(chance.choice(pids), signal.SIGKILL)
    return True


@dataclass(frozen=True)
class Misfortunes:
    """What happens to the processes: `kill -9` of these kinds of children in turn, whichever it
    hits; and with the share `often` instead, one of the others, by name.
    """

    kinds: Sequence[str] = ("worker", _AT_WORK, "ledger")
    others: Sequence[tuple[str, Callable[[], object]]] = ()
    often: float = 0.15

    def happen(self, gateways: Sequence[Serving], chance: random.Random, report: Report) -> None:
        """One of them."""
        if self.others and chance.random() < self.often:
            what, act = chance.choice(self.others)
            act()
            report.kills[what] += 1
        elif self.kinds:
            kind = min(self.kinds, key=report.kills.__getitem__)
            report.kills[kind] += kill(chance.choice(gateways), kind, chance)


def press(
    gateways: Sequence[Serving],
    database: str,
    seconds: float,
    misfortunes: Misfortunes,
    *,
    callers: int = 16,
    seed: int = 0,
    enough: Callable[[Report], bool] = lambda _: False,
) -> Report:
    """Load for so long, or until `enough` has happened, with misfortunes. The report says whether
    every answer that a caller has was charged once, and all adds up.
    """
    report, chance = Report(), random.Random(seed)
    key = new_account(gateways[0], f"pressed-{seed}", CREDITS)
    end_s = time.monotonic() + seconds
    with Pressing(gateways, key, callers=callers, seed=seed) as pressing:
        while time.monotonic() < end_s and not enough(report):
            if not pressing.wait_for_answers(callers // 4, _STANDSTILL_S):
                report.violations.append(f"no calls were answered for {_STANDSTILL_S} s")
            time.sleep(chance.uniform(*_BETWEEN_S))  # chance, and no event to be waited for
            misfortunes.happen(gateways, chance, report)
            report.whole = len(pressing.told.whole)
    told = pressing.told
    report.not_whole, report.slowest_s = told.not_whole, told.slowest_s
    report.violations += told.violations
    report.violations += check(gateways, database, key, told.whole, CREDITS)
    found = rows(database)
    report.whole, report.rows = len(told.whole), len(found)
    report.undelivered = sum(outcome == "undelivered" for *_, outcome in found.values())
    return report


def new_account(gateway: Serving, name: str, credits: float) -> str:
    """An account with a key; the key."""
    gateway.cli("accounts", "create", name, "--credits", str(credits))
    return gateway.cli("keys", "create", "--account", name)["key"]


def rows(database: str) -> dict[str, tuple[int, int, int, str]]:
    """Charge, absorbed, due and outcome of every call in the books."""
    statement = f"SELECT {_COLUMNS} FROM usage"
    if database.startswith("sqlite:///"):
        path = database.removeprefix("sqlite:///")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            found: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
    else:
        with psycopg.connect(database) as connection:
            found = connection.execute(statement).fetchall()
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in found}


def audit(gateway: Serving) -> list[str]:
    """What `farebox audit --full` finds, in words: nothing, where the books add up."""
    done = gateway.run("audit", "--full", "--json")
    if not done.stdout:
        return [f"the audit failed: {done.stderr}"]
    report = json.loads(done.stdout)
    broken = [each for each in report["invariants"] if not each["ok"]]
    return [f"{each['id']}: {each['rows'][:3]}" for each in broken]


def check(
    gateways: Sequence[Serving], database: str, key: str, whole: dict[str, int], given: int
) -> list[str]:
    """Wait until all is written, and compare: what is wrong. `whole` are answers that callers have,
    with what each must cost, of a key whose account alone was given `given` credits.
    """
    violations: list[str] = []
    try:
        until(lambda: _held(gateways[0], key) == 0, _SETTLE_S, "nothing is held")
    except AssertionError as error:
        violations.append(str(error))
    money, found = gateways[0].account(key), rows(database)
    for request_id, due in whole.items():
        row = found.get(request_id)
        if row is None:
            violations.append(f"{request_id}: answered, and not in the books")
        elif row[:3] != (due, 0, due):
            violations.append(f"{request_id}: must cost {due}, is {row}")
    spent, balance = money["spent_nanocredits"], money["balance_nanocredits"]
    if spent < sum(whole.values()) or given * 10**9 - spent != balance:
        violations.append(f"the answers cost {sum(whole.values())}, the account says {money}")
    for gateway in gateways:
        violations += _missing_of_log(gateway, found)
    return violations + audit(gateways[0])


def _held(gateway: Serving, key: str) -> int | None:
    answer = gateway.get("/v1/credits", key)
    return answer.json["held_nanocredits"] if answer.status == 200 else None


def _missing_of_log(gateway: Serving, found: dict[str, tuple[int, int, int, str]]) -> list[str]:
    """Calls that the log says were answered and charged, and the books don't."""
    missing: list[str] = []
    for line in gateway.log.read_text(encoding="utf-8").splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # half a line of a process that was killed
        if fields.get("event") == "request" and "charge_nanocredits" in fields:
            row = found.get(fields["request_id"])
            if row is None or row[0] != fields["charge_nanocredits"]:
                missing.append(f"{fields['request_id']}: in the log, and in the books: {row}")
    return missing
