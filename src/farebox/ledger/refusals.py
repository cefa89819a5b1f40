"""Why a call was not held for, in sentences for who makes the calls. Amounts are nano-credits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from farebox.billing.messages import Refused
from farebox.core import clock
from farebox.core.money import show_credits
from farebox.core.ports import Budget
from farebox.errors import (
    BillingUnavailable,
    BudgetExceeded,
    FareboxError,
    OutOfCredit,
    Unauthorized,
)

_NO_MORE = "The answer was ended here: more of it is not covered by the budget of this key."
_PERIODS = {"day": " a day", "month": " a month"}


def error_of(refused: Refused, budget: Budget | None) -> FareboxError:
    """The refusal as an error; `budget` is the one of the call's key, None where more was asked for
    of a call in flight.
    """
    if refused.why == "credit":
        return OutOfCredit(_shortfall(refused))
    if refused.why == "budget":
        return BudgetExceeded(_NO_MORE if budget is None else _over_budget(refused, budget))
    if refused.why == "closed":
        return Unauthorized("The account of this key is closed. Ask the operator to open it.")
    return books_away()


def books_away() -> BillingUnavailable:
    """Nobody can say whether the account has the credit."""
    return BillingUnavailable("The books cannot be reached at the moment. Try again later.")


def _shortfall(refused: Refused) -> str:
    least, held = refused.least, refused.held
    missing = show_credits(least - refused.room)
    sentence = (
        f"This call needs at least {show_credits(least)} credits and the balance is "
        f"{show_credits(refused.balance)}: {missing} more are needed."
    )
    if refused.room + held >= least:
        sentence = (
            f"This call needs at least {show_credits(least)} credits. The balance is "
            f"{show_credits(refused.balance)}, but {show_credits(held)} of it are held by calls "
            f"in flight: {missing} more are needed now."
        )
    return f"{sentence} Add credits, or ask for a shorter answer."


def _over_budget(refused: Refused, budget: Budget) -> str:
    anew = _begins_anew(budget)
    remedy = "Ask the operator for a larger one, or ask for a shorter answer."
    if anew is not None:
        remedy = f"It begins anew at {anew}. Until then, ask for shorter answers."
    return (
        f"This call needs at least {show_credits(refused.least)} credits, and of the key's budget "
        f"of {show_credits(budget.limit_nanocredits)} credits{_PERIODS.get(budget.period, '')} "
        f"{show_credits(refused.room)} are left. {remedy}"
    )


def _begins_anew(budget: Budget) -> str | None:
    """When the next period begins, in UTC; None: never."""
    since = datetime.fromtimestamp(budget.since_us // 1_000_000, UTC)
    if budget.period == "day":
        anew = since + timedelta(days=1)
    elif budget.period == "month":
        anew = (since.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        return None
    return clock.rfc3339(int(anew.timestamp()) * 1_000_000)
