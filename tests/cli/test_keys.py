"""`farebox keys` as it is typed: the secret once, the id for everything else."""

import json

import pytest

from farebox.core import ids
from tests.cli.conftest import Run


@pytest.fixture
def made(run: Run) -> dict[str, object]:
    """A key of the account "ann", as `create --json` printed it."""
    run("accounts", "create", "ann")
    result = run(
        *("keys", "create", "--account", "ann", "--name", "ci", "--models", "gpt-*,o3"),
        *("--models", "glm-*", "--expires", "30d", "--json"),
    )
    assert result.exit_code == 0
    assert result.stderr == "Keep the key now: it is not stored and cannot be shown again.\n"
    return json.loads(result.stdout)


def test_create_prints_the_key_once(run: Run, made: dict[str, object]) -> None:
    """The secret is in create's answer; list shows the rest of the object."""
    assert list(made)[:4] == ["id", "key", "account", "name"]
    assert ids.is_key(str(made["key"]))
    assert made["models"] == ["gpt-*", "o3", "glm-*"]
    listed = run("keys", "list", "--json")
    without_secret = {name: value for name, value in made.items() if name != "key"}
    assert json.loads(listed.stdout) == [without_secret]


def test_for_people_a_key_is_on_one_line(run: Run) -> None:
    """The secret is printed whole, so that it can be copied, and the list has a row a key."""
    run("accounts", "create", "ann")
    shown = run("keys", "create", "--account", "ann").stdout.splitlines()
    secret = next(line.split()[1] for line in shown if line.startswith("key:"))
    assert ids.is_key(secret)
    header, row = run("keys", "list", "--account", "ann").stdout.splitlines()
    assert header.split() == ["id", "account", "name", "hint", "models", "budget", "state"]
    assert row.endswith("valid")
    assert ids.key_hint(secret) in row
    assert secret not in row


def test_for_people_a_key_has_a_state(run: Run, made: dict[str, object]) -> None:
    """Until when it is good, or since when it is not."""
    run("keys", "roll", str(made["id"]), "--overlap", "1h")
    old, new = run("keys", "list").stdout.splitlines()[1:]
    assert " until 20" in old
    assert f" until {str(made['expires_at'])[:10]}" in new
    run("keys", "revoke", str(made["id"]))
    assert " revoked 20" in run("keys", "list").stdout.splitlines()[1]


def test_revoke_and_roll_print_the_key(run: Run, made: dict[str, object]) -> None:
    """Roll prints the successor with its secret; revoke the key with its end."""
    rolled = run("keys", "roll", str(made["id"]), "--overlap", "1h", "--json")
    successor = json.loads(rolled.stdout)
    assert (successor["name"], successor["models"]) == (made["name"], made["models"])
    assert ids.is_key(successor["key"])
    assert successor["key"] != made["key"]
    revoked = json.loads(run("keys", "revoke", successor["id"], "--json").stdout)
    assert (revoked["id"], "key" in revoked) == (successor["id"], False)
    assert revoked["revoked_at"] is not None


def test_a_budget_is_given_changed_and_taken_away(run: Run) -> None:
    """`list` and `show` say it for people; --json has it in nano-credits."""
    run("accounts", "create", "ann")
    budget = ("--budget", "5", "--per", "day")
    made = json.loads(run("keys", "create", "--account", "ann", *budget, "--json").stdout)
    assert (made["budget_nanocredits"], made["budget_period"]) == (5_000_000_000, "day")
    assert made["budget_spent_nanocredits"] == 0
    key_id = str(made["id"])
    assert "5 a day (0 spent)" in run("keys", "list").stdout
    assert "budget:      5 a day (0 spent)\n" in run("keys", "show", key_id).stdout
    assert "7 (0 spent)" in run("keys", "set", key_id, "--budget", "7", "--per", "total").stdout
    assert "budget:      -\n" in run("keys", "set", key_id, "--no-budget").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("create", "--account", "bob"), 3, "There is no account 'bob'"),
        (("create", "--account", "ann", "--expires", "soon"), 2, "--expires 'soon'"),
        (("create", "--account", "ann", "--budget", "0"), 2, "--budget '0' is not above zero"),
        (("create", "--account", "ann", "--budget", "-1"), 2, "is not above zero"),
        (("create", "--account", "ann", "--budget", "1e-10"), 2, "is finer than 0.000000001"),
        (("create", "--account", "ann", "--budget", "1", "--per", "year"), 2, "--per 'year'"),
        (("show", "key_x"), 3, "There is no key 'key_x'"),
        (("set", "key_x", "--budget", "1"), 3, "There is no key 'key_x'"),
        (("list", "--account", "bob"), 3, "There is no account 'bob'"),
        (("revoke", "key_x"), 3, "There is no key 'key_x'"),
        (("roll", "key_x", "--overlap", "1h"), 3, "There is no key 'key_x'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_an_exit_code(
    run: Run, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """Nothing on stdout, one sentence on stderr, and the code of the contract."""
    run("accounts", "create", "ann")
    result = run("keys", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr


def test_a_revoked_key_cannot_be_rolled(run: Run, made: dict[str, object]) -> None:
    """It is a conflict: exit code 5."""
    run("keys", "revoke", str(made["id"]))
    assert run("keys", "roll", str(made["id"])).exit_code == 5
