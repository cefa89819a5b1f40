"""`farebox leases` as it is typed: who has whose credit, and giving an owner up."""

import json
from pathlib import Path

import pytest

from farebox.billing.jobs import Grant
from farebox.store import open_store
from farebox.store.owner import hold_lock, lock_path
from tests.charging import books_of
from tests.cli.conftest import Run


@pytest.fixture
def leased(run: Run, tmp_path: Path) -> Run:
    """0.001 credits of ann's are in the hands of own_gone, which has ended."""
    run("accounts", "create", "ann", "--credits", "1")
    folder = tmp_path / "data"
    store = open_store(f"sqlite:///{folder}/farebox.db", folder)
    books_of(store, "own_gone").do([Grant(1, None, 1, 1_000_000, 1_000_000, 1)])
    store.close()
    return run


def test_leases_are_listed(leased: Run) -> None:
    """Whose credit, in whose hands, and how much is left of it."""
    (lease,) = json.loads(leased("leases", "list", "--json").stdout)
    assert lease == {
        "id": 1,
        "account": "ann",
        "owner": "own_gone",
        "host": lease["host"],
        "owner_state": "ended",
        "owner_heard_at": None,
        "state": "open",
        "granted_nanocredits": 1_000_000,
        "spent_nanocredits": 0,
        "returned_nanocredits": 0,
        "unspent_nanocredits": 1_000_000,
        "opened_at": lease["opened_at"],
    }
    rows = [line.split() for line in leased("leases", "list").stdout.splitlines()]
    assert rows[1][:3] == ["1", "ann", "own_gone"]
    assert rows[1][-3:] == ["0.001", "0", "0.001"]


def test_an_owner_that_is_given_up_takes_its_credit_along(leased: Run) -> None:
    """It is booked as lost, the books add up, and no lease is left."""
    result = leased("leases", "lost", "own_gone")
    assert result.exit_code == 0
    assert "0.001 credits of 1 leases are booked as lost" in result.stderr
    assert json.loads(leased("leases", "list", "--json").stdout) == []
    assert leased("audit", "--full").exit_code == 0
    assert json.loads(leased("leases", "lost", "own_gone", "--json").stdout) == []


def test_an_owner_that_lives_is_not_given_up(leased: Run, tmp_path: Path) -> None:
    """It holds its lock: exit code 5, and nothing changed."""
    with hold_lock(lock_path(tmp_path / "data", "own_gone")):
        result = leased("leases", "lost", "own_gone")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "is alive" in result.stderr
    assert len(json.loads(leased("leases", "list", "--json").stdout)) == 1


def test_an_unknown_owner_is_not_found(leased: Run) -> None:
    """Exit code 3 and where to look."""
    result = leased("leases", "lost", "own_nobody")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "farebox leases list" in result.stderr
