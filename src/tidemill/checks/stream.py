"""Checks how many days passed since an event: the newest training row of a model, or its last prediction."""

from datetime import datetime

from tidemill.core.check import Action, Verdict


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
