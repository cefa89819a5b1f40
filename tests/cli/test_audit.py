"""`farebox audit` as it is typed: on whole books, and on books that were tampered with."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from farebox.admin import audit
from farebox.core import clock
from farebox.store import open_store
from tests.charging import priced, settle, stock
from tests.cli.conftest import Run


@pytest.fixture
def books(run: Run, tmp_path: Path) -> Run:
    """A store with one call, which cost 0.00006 credits."""
    folder = tmp_path / "data"
    store = open_store(f"sqlite:///{folder}/farebox.db", folder)
    stock(store)
    settle(store, priced(created_us=clock.now_us()))
    store.close()
    return run


def tamper(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / "farebox.db")) as database:
        database.execute(statement)
        database.commit()


def test_whole_books_pass(books: Run) -> None:
    """Exit code 0; a row for each invariant, and what was looked at on stderr."""
    result = books("audit")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["id", "what", "must", "hold", "result"]
    assert [(row[0], row[-1]) for row in rows[1:]] == [(f"I{n}", "holds") for n in range(1, 9)]
    assert result.stderr.startswith("1 calls of 1 hours were priced again, 0 hours sealed")


def test_with_json_it_is_the_contract(books: Run) -> None:
    """`ok`, and the invariants with `id`, `ok` and `rows`."""
    report = json.loads(books("audit", "--full", "--json").stdout)
    assert (report["ok"], report["full"], report["calls"]) == (True, True, 1)
    assert report["invariants"][0] == {
        "id": "I1",
        "says": audit.INVARIANTS["I1"],
        "ok": True,
        "rows": [],
        "more": 0,
        "notes": [],
    }


def test_what_does_not_add_up_is_shown(books: Run, tmp_path: Path) -> None:
    """Exit code 1, the invariants that are broken, and each row in one line with credits."""
    tamper(tmp_path, "UPDATE usage SET rate_ppm = 2000000")
    result = books("audit")
    assert result.exit_code == 1
    assert "I8  Every call costs what its tokens, price version and rate say" in result.stdout
    assert "BROKEN, 1 found" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("I8, 1: "))
    assert "request id req_1" in line
    assert line.endswith("paid 0.00006 credits, costs 0.00012 credits")
    assert "docs/billing.md" in result.stderr
    (broken,) = [
        each for each in json.loads(books("audit", "--json").stdout)["invariants"] if not each["ok"]
    ]
    assert (broken["id"], broken["rows"][0]["costs_nanocredits"]) == ("I8", 120_000)


def test_draining_leases_are_a_note(books: Run, tmp_path: Path) -> None:
    """Their credit waits for whoever had them; nothing is broken."""
    tamper(tmp_path, "UPDATE leases SET state = 'draining'")
    result = books("audit")
    assert result.exit_code == 0
    assert "Note: lease 1 on account ann is draining: 0 credits wait for own_test." in result.stderr
