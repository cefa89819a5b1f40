"""`farebox accounts` as it is typed: objects, tables, and the exit codes of the contract."""

import json

import pytest

from tests.cli.conftest import Run

ANN = {
    "name": "ann",
    "group": "default",
    "rate": "0.8",
    "balance": "10",
    "balance_nanocredits": 10_000_000_000,
    "available_nanocredits": 10_000_000_000,
    "held_nanocredits": 0,
    "spent_nanocredits": 0,
    "credited_nanocredits": 10_000_000_000,
}


def test_the_first_verb_makes_the_store_and_prints_the_object(run: Run) -> None:
    """`create --json` prints the account alone, and `show` and `list` print the same object."""
    made = run("accounts", "create", "ann", "--credits", "10", "--rate", "0.8", "--json")
    assert (made.exit_code, json.loads(made.stdout), made.stderr) == (0, ANN, "")
    assert json.loads(run("accounts", "show", "ann", "--json").stdout) == ANN
    assert json.loads(run("accounts", "list", "--json").stdout) == [ANN]


def test_for_people_there_are_fields_and_tables(run: Run) -> None:
    """Without --json, amounts are in credits, and limit and state are shown too."""
    shown = run("accounts", "create", "ann", "--credits", "10", "--credit-limit", "2.5").stdout
    assert [line.split() for line in shown.splitlines()] == [
        ["name:", "ann"],
        ["group:", "default"],
        ["rate:", "1"],
        ["balance:", "10"],
        ["available:", "10"],
        ["held:", "0"],
        ["spent:", "0"],
        ["credited:", "10"],
        ["limit:", "2.5"],
        ["disabled:", "no"],
    ]
    header, row = run("accounts", "list").stdout.splitlines()
    assert header.split() == [
        *("name", "group", "rate", "balance", "held", "spent", "credited", "limit", "disabled"),
    ]
    assert row.split() == ["ann", "default", "1", "10", "0", "0", "10", "2.5", "no"]


def test_set_changes_what_is_named(run: Run) -> None:
    """Rate, group, credit limit and state, each by its flag."""
    run("accounts", "create", "ann")
    changed = run(
        *("accounts", "set", "ann", "--rate", "1.15", "--credit-limit", "3", "--disabled")
    ).stdout
    fields = dict(line.split() for line in changed.splitlines())
    assert (fields["rate:"], fields["limit:"], fields["disabled:"]) == ("1.15", "3", "yes")
    back = run("accounts", "set", "ann", "--rate", "group", "--enabled").stdout
    fields = dict(line.split() for line in back.splitlines())
    assert (fields["rate:"], fields["limit:"], fields["disabled:"]) == ("1", "3", "no")


def test_credit_and_debit_print_the_account(run: Run) -> None:
    """The object after the change."""
    run("accounts", "create", "ann")
    credited = run("accounts", "credit", "ann", "1.5", "--reason", "invoice 7", "--json")
    assert json.loads(credited.stdout)["balance"] == "1.5"
    debited = run("accounts", "debit", "ann", "0.5", "--reason", "refund", "--json")
    assert json.loads(debited.stdout)["credited_nanocredits"] == 1_000_000_000


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("create", "ann"), 5, "There is an account 'ann' already. Choose another name."),
        (("create", "b c"), 2, "Account name 'b c' cannot be used"),
        (("create", "bob", "--credits", "x"), 2, "credits 'x' is not a decimal number"),
        (("create", "bob", "--rate", "-1"), 2, "rate '-1' is below zero"),
        (("create", "bob", "--group", "team"), 2, "There is no group 'team'"),
        (("show", "bob"), 3, "There is no account 'bob'"),
        (("set", "ann"), 2, "Nothing to change"),
        (("credit", "ann", "0", "--reason", "r"), 2, "amount '0' is not above zero"),
        (("debit", "ann", "1", "--reason", "r"), 1, "has 0 credits that can be debited"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_an_exit_code(
    run: Run, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """Nothing on stdout, one sentence on stderr, and the code of the contract."""
    run("accounts", "create", "ann")
    result = run("accounts", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
