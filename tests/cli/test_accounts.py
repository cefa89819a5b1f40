"""`farebox accounts` as it is typed: objects, tables, and the exit codes of the contract."""

import json
import re

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


def test_refund_correct_and_statement(run: Run) -> None:
    """Objects as the others; a statement is a table, newest first, or an array."""
    run("accounts", "create", "ann", "--credits", "10")
    named = ("--reason", "sorry", "--external-id", "r-1")
    refunded = run("accounts", "refund", "ann", "2", *named, "--json")
    assert json.loads(refunded.stdout)["credited_nanocredits"] == 12_000_000_000
    corrected = run("accounts", "correct", "2", "--reason", "too much", "--json")
    assert json.loads(corrected.stdout)["balance"] == "10"
    lines = json.loads(run("accounts", "statement", "ann", "--json").stdout)
    assert [(line["id"], line["kind"], line["corrects"]) for line in lines] == [
        *((3, "correction", 2), (2, "refund", None), (1, "top_up", None)),
    ]
    head, row = run("accounts", "statement", "ann", "--limit", "1").stdout.splitlines()
    assert re.split(r" {2,}", head.strip()) == [
        *("id", "created at", "kind", "debit", "credit", "amount", "calls"),
        *("corrects", "external id", "reason"),
    ]
    assert re.split(r" {2,}", row.strip())[2:] == [
        *("correction", "account:ann", "operator:credits", "2", "-", "2", "-", "too much"),
    ]


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
        (("set", "ann", "--rate", "-1"), 2, "rate '-1' is below zero"),
        (("debit", "ann", "1", "--reason", "r"), 1, "has 0 credits that can be debited"),
        (("refund", "ann", "0", "--reason", "r"), 2, "amount '0' is not above zero"),
        (("refund", "ann", "1", "--reason", "r", "--request", "req_x"), 5, "no call 'req_x'"),
        (("credit", "ann", "1", "--reason", "r", "--external-id", "e"), 5, "external id 'e'"),
        (("debit", "ann", "1", "--reason", "r", "--external-id", "e"), 5, "external id 'e'"),
        (("correct", "1", "--reason", "r"), 1, "has 0 credits that can be debited"),
        (("correct", "9", "--reason", "r"), 3, "There is no transfer 9"),
        (("statement", "bob"), 3, "There is no account 'bob'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_an_exit_code(
    run: Run, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """Nothing on stdout, one sentence on stderr, and the code of the contract."""
    run("accounts", "create", "ann")
    run("accounts", "credit", "ann", "1", "--reason", "r", "--external-id", "e")
    run("accounts", "debit", "ann", "1", "--reason", "r")
    before = run("accounts", "list", "--json").stdout, _statement(run)
    result = run("accounts", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert (run("accounts", "list", "--json").stdout, _statement(run)) == before
    assert result.stderr.count("\n") == 1


def _statement(run: Run) -> str:
    return run("accounts", "statement", "ann", "--json").stdout
