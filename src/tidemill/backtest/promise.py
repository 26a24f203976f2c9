"""States a promise from the result of a backtest, and stores it in the ledger under the policy's digest."""

import hashlib
from typing import Any

import msgspec
from msgspec import to_builtins

from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.backtest.costs import is_false_alarm
from tidemill.core.event import Event
from tidemill.core.policy import Policy
from tidemill.core.promise import PROMISE_KIND, Promise
from tidemill.core.resources import BooksReader
from tidemill.flow.session import Session

_WITHOUT_EFFECT = ("backtest", "retention", "environments", "name")


def state_promise(
    policy: Policy, model: str, result: PolicyResult, period: Period, session: Session, *, by: str
) -> Promise:
    """Return what a backtest states about a policy."""
    is_regression = "rmse" in result.metrics
    return Promise(
        model=model,
        policy=digest_effect(policy),
        tables=digest_tables(policy),
        by=by,
        stated=session.clock.now(),
        begin=period.begin,
        end=period.end,
        metric="squared error" if is_regression else "log loss",
        weeks=[(rows, loss) for _, rows, loss in result.weeks],
        trainings=max(0, result.trainings - 1),
        alarms=sum(story.cause is not None for story in result.stories),
        false_alarms=sum(map(is_false_alarm, result.stories)),
        promotions=result.promotions,
        rollbacks=result.rollbacks,
        wrong_promotions=result.wrong_promotions,
    )


def store_promise(session: Session, promise: Promise) -> Event:
    """Store a promise as an event of the ledger."""
    books, now = session.workspace.ledger, session.clock.now()
    identifier = session.clock.mint()
    event = Event(
        id=identifier,
        kind=PROMISE_KIND,
        environment=session.workspace.environment,
        subject=promise.model,
        time=now,
        known_at=now,
        dedupe_key=f"{PROMISE_KIND}:{promise.model}:{promise.policy}:{identifier}",
        payload=to_builtins(promise),
    )
    with books.transaction(durable=True):
        return books.events.add(event)


def list_promises(books: BooksReader, environment: str, model: str) -> list[Promise]:
    """Return the promises of a model in an environment, oldest first."""
    events = books.events.find(kind=PROMISE_KIND, subject=model)
    return [event.read(Promise) for event in events if event.environment == environment]


def digest_effect(policy: Policy) -> str:
    """Return the digest of the tables of a policy that decide what it does."""
    return _digest(digest_tables(policy))


def digest_tables(policy: Policy) -> dict[str, str]:
    """Return the digest of each table of a policy that decides what it does, as a file names it."""
    plain: dict[str, Any] = to_builtins(policy)
    models = plain.pop("models")
    tables = {name: _digest(value) for name, value in plain.items() if name not in _WITHOUT_EFFECT}
    for model, settings in models.items():
        prefix = f"models.{model}." if len(models) > 1 else ""
        tables |= {f"{prefix}{name}": _digest(value) for name, value in settings.items() if name != "name"}
    return tables


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
