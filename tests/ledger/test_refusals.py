"""What a caller is told who was not held for: why, by how much, and what to do."""

from __future__ import annotations

import pytest

from farebox.billing.messages import Refused
from farebox.core.money import NANO
from farebox.core.ports import Budget
from farebox.errors import BillingUnavailable, BudgetExceeded, OutOfCredit, Unauthorized
from farebox.ledger.refusals import error_of

NOV_28_US = 1_795_824_000_000_000
NOV_1_US = 1_793_491_200_000_000


@pytest.mark.parametrize(
    ("refused", "budget", "error", "sentence"),
    [
        (
            Refused("req_1", "credit", 3 * NANO, NANO, 0, NANO),
            None,
            OutOfCredit,
            (
                "This call needs at least 3 credits and the balance is 1: 2 more are needed. "
                "Add credits, or ask for a shorter answer."
            ),
        ),
        (
            Refused("req_1", "credit", 3 * NANO, NANO, 4 * NANO, 5 * NANO),
            None,
            OutOfCredit,
            (
                "This call needs at least 3 credits. The balance is 5, but 4 of it are held by "
                "calls in flight: 2 more are needed now. Add credits, or ask for a shorter "
                "answer."
            ),
        ),
        (
            Refused("req_1", "budget", NANO, NANO // 2),
            Budget(5 * NANO, "total", 0),
            BudgetExceeded,
            (
                "This call needs at least 1 credits, and of the key's budget of 5 credits 0.5 "
                "are left. Ask the operator for a larger one, or ask for a shorter answer."
            ),
        ),
        (
            Refused("req_1", "budget", NANO, NANO // 2),
            None,
            BudgetExceeded,
            "The answer was ended here: more of it is not covered by the budget of this key.",
        ),
        (
            Refused("req_1", "budget", NANO, 0),
            Budget(5 * NANO, "day", NOV_28_US),
            BudgetExceeded,
            (
                "This call needs at least 1 credits, and of the key's budget of 5 credits a day "
                "0 are left. It begins anew at 2026-11-29T00:00:00.000Z. Until then, ask for "
                "shorter answers."
            ),
        ),
        (
            Refused("req_1", "budget", NANO, 0),
            Budget(5 * NANO, "month", NOV_1_US),
            BudgetExceeded,
            (
                "This call needs at least 1 credits, and of the key's budget of 5 credits a "
                "month 0 are left. It begins anew at 2026-12-01T00:00:00.000Z. Until then, ask "
                "for shorter answers."
            ),
        ),
        (
            Refused("req_1", "closed", 1),
            None,
            Unauthorized,
            "The account of this key is closed. Ask the operator to open it.",
        ),
        (
            Refused("req_1", "away", 1),
            None,
            BillingUnavailable,
            "The books cannot be reached at the moment. Try again later.",
        ),
    ],
)
def test_a_refusal_says_why_and_what_to_do(
    refused: Refused, budget: Budget | None, error: type, sentence: str
) -> None:
    """Each reason has its error and its sentence, with the amounts in credits."""
    told = error_of(refused, budget)
    assert type(told) is error
    assert told.message == sentence


def test_books_that_are_away_may_be_asked_again_in_five_seconds() -> None:
    """Never 402 or 429: it is not the caller who lacks anything."""
    told = error_of(Refused("req_1", "away"), None)
    assert (told.status, told.code, told.retry_after_s) == (503, "billing_unavailable", 5)
