"""The entries of the audit log about routes that the policy changes: what it did to which release, by which verdict."""

from collections.abc import Mapping
from typing import Any

from tidemill.core.resources import BooksReader
from tidemill.core.route import Arm, Route
from tidemill.ledger.decisions import Decision

_ACTIONS = {
    "first": "promoted",
    "direct": "promoted",
    "promote": "promoted",
    "recall": "recalled",
    "rollback": "rolled back to",
}


def describe_change(books: BooksReader, route: Route, before: Route | None, detail: Mapping[str, Any]) -> Decision:
    """Return what the policy did with a new route; the reason names the verdict, and has its reason."""
    action, subject = _name_action(route, before)
    reason = route.reason
    for verdict in books.verdicts.find(id=route.verdict, limit=1) if route.verdict else ():
        because = "" if verdict.reason in reason else f": {verdict.reason}"
        reason += f"; by verdict {verdict.id} ({verdict.check}){because}"
    return Decision(action=action, subject=subject, reason=reason, detail=dict(detail))


def name_records(route: Route) -> dict[str, str]:
    """Return the ids that an entry about a route has in its facts: of the route, and of the verdict that caused it."""
    return {"route": route.id, "change": route.change} | ({"verdict": route.verdict} if route.verdict else {})


def _name_action(route: Route, before: Route | None) -> tuple[str, str]:
    """Return the action and its object: a release, or the model if no release is concerned."""
    champion, challenger = _name(route.arm("champion")), _name(route.arm("challenger"))
    earlier = before.arm("challenger") if before else None
    if route.change == "rollback" and earlier is not None and before and _name(before.arm("champion")) == champion:
        return "rolled back the canary of", earlier.release
    if challenger and route.change in ("canary", "step"):
        return "started the canary of" if route.change == "canary" else "changed the share of", challenger
    if route.change in ("bind", "unbind"):
        return _name_binding(route, before)
    if route.change in _ACTIONS and champion:
        return _ACTIONS[route.change], champion
    return "changed the route of", route.model


def _name_binding(route: Route, before: Route | None) -> tuple[str, str]:
    bound = {arm.value: arm.release for arm in route.bound}
    earlier = {arm.value: arm.release for arm in before.bound} if before else {}
    for value, release in bound.items():
        if earlier.get(value) != release:
            return f"bound to {route.key} = {value!r}:", release
    for value, release in earlier.items():
        if value not in bound:
            return f"unbound from {route.key} = {value!r}:", release
    return "changed the route of", route.model


def _name(arm: Arm | None) -> str:
    return arm.release if arm else ""
