"""Checks how much time passed since an event: the newest training row of a model, or its last prediction."""

from datetime import datetime, timedelta

from tidemill.core.check import Action, Verdict

_DAY = timedelta(days=1)


def check_days_since(
    check: str, since: datetime, now: datetime, *, subject: str, limit: float, action: Action
) -> Verdict:
    """A verdict on the days since something happened: `action` where they are more than `limit`."""
    days = (now - since).total_seconds() / 86400
    beyond = days > limit
    what = {"age": "its newest training row is", "silence": "its last prediction was"}.get(check, f"{check}:")
    return Verdict(
        check=check,
        subject=subject,
        outcome="fail" if beyond else "pass",
        action=action if beyond else "proceed",
        reason=f"{what} {days:.1f} days ago (limit {limit:g})",
        evidence={"days": days, "limit": limit, "since": since.isoformat()},
    )


def check_growth(
    begin: datetime | None,
    end: datetime | None,
    now: datetime,
    *,
    subject: str,
    limit: float,
    action: Action,
    window: str = "",
) -> Verdict:
    """A verdict on the time since the newest training row, as a share of the time of all training rows.

    Training rows are from `begin` to `end`. The time since then is counted in whole days: most tables get their rows
    once a day, and a training between two deliveries would learn no newer ones. The verdict is undecided if the times
    are not known, or all the same, or if a training learns the rows of a `window`, which does not grow.
    """
    evidence: dict[str, float | str | bool] = {"limit": limit}
    if window or begin is None or end is None or end <= begin:
        unknown = "the times of its training rows are not known, or all the same"
        reason = f"a training learns the rows of {window}, which does not grow" if window else unknown
        return Verdict(
            check="growth", subject=subject, outcome="undecided", action="proceed", reason=reason, evidence=evidence
        )
    days = (end - begin) / _DAY
    share = max((now - end) // _DAY, 0) / days
    return Verdict(
        check="growth",
        subject=subject,
        outcome="fail" if share > limit else "pass",
        action=action if share > limit else "proceed",
        reason=f"its rows would cover {share:.1%} more time (limit {limit:.1%}): they cover {days:.1f} days",
        evidence=evidence | {"share": share, "days": days, "since": end.isoformat()},
    )
