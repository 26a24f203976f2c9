"""Judges a split: nobody learns from the rows, or the things, that they are tested on, or from their future."""

import polars as pl

from tidemill.core.check import Verdict
from tidemill.data.frame import TIME

_PARTS = ("train", "test", "valid", "validation", "fold", "split")
_FEW = 20


def leakage(
    train: pl.DataFrame,
    test: pl.DataFrame,
    *,
    subject: str,
    key: tuple[str, ...] = (),
    group: str = "",
    timed: bool = False,
    most_shared: float = 0.01,
) -> Verdict:
    """A verdict on two parts of one table: `stop` where the test has seen what it is asked.

    Found are rows on both sides (by `key`, or whole), things of a `group` on both sides, training rows later than the
    first test row where the split is `timed`, and a column that says on which side a row is.

    Parameters
    ----------
    most_shared : the share of the test rows that may be in the training, too: without a key rows may be alike.
    """
    found = {
        "shared_rows": _shared(train, test, key or tuple(name for name in train.columns if name in test.columns)),
        "shared_groups": _shared(train, test, (group,)) if group else 0,
        "future_rows": _later(train, test) if timed else 0,
    }
    telling = _telling(train, test)
    reasons = []
    if found["shared_rows"] > (0 if key else most_shared * test.height):
        reasons.append(f"{found['shared_rows']} of {test.height} test rows are training rows, too")
    if found["shared_groups"]:
        reasons.append(f"{found['shared_groups']} test rows are of a {group!r} that was trained on")
    if found["future_rows"]:
        reasons.append(f"{found['future_rows']} training rows come after the first test row")
    reasons += [f"column {name!r} says on which side a row is" for name in telling]
    return Verdict(
        check="leakage",
        subject=subject,
        outcome="fail" if reasons else "pass",
        action="stop" if reasons else "proceed",
        reason="; ".join(reasons) or "the test has seen nothing of what it is asked",
        evidence={"train_rows": train.height, "test_rows": test.height, **found, "telling_columns": telling},
    )


def _shared(train: pl.DataFrame, test: pl.DataFrame, columns: tuple[str, ...]) -> int:
    """How many test rows have the values of a training row in these columns; nulls are like nothing."""
    present = [name for name in columns if name in train.columns and name in test.columns]
    if not present:
        return 0
    return test.join(train.select(present).unique(), on=present, how="semi").height


def _later(train: pl.DataFrame, test: pl.DataFrame) -> int:
    first = test[TIME].min() if TIME in test.columns else None
    return 0 if first is None else train.filter(pl.col(TIME) > first).height


def _telling(train: pl.DataFrame, test: pl.DataFrame) -> list[str]:
    """Columns of a few values that share none of them between the parts, and are named like a split."""
    found = []
    for name in train.columns:
        named = any(part in name.lower().replace("-", "_").split("_") for part in _PARTS)
        if not named or name not in test.columns or not train.height or not test.height:
            continue
        here, there = train[name].drop_nulls().unique(), test[name].drop_nulls().unique()
        few = here.len() > 0 and there.len() > 0 and here.len() + there.len() <= _FEW
        if few and not set(here.to_list()) & set(there.to_list()):
            found.append(name)
    return found
