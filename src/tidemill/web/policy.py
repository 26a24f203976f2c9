"""The page of the policy: what a backtest promised of it, beside what was observed since it has been in force."""

from tidemill.evidence.promises import COLUMNS, PolicyStatus, describe_observation, describe_promise, format_figure
from tidemill.web import view
from tidemill.web.reading import Query, Site
from tidemill.web.view import Cell, Facts, Page, PageTable
from tidemill.web.words import format_time

_STYLES: dict[bool | None, view.CellStyle] = {True: "good", False: "bad", None: "plain"}
_STATES: dict[str, view.CellStyle] = {"none": "plain", "changed": "warn", "waiting": "plain", "in force": "tide"}


def policy(site: Site, _: Query) -> Page:
    """Show, for each model, the promise of its policy and what was observed."""
    if site.read_policies is None:
        text = "These pages run without the policy of the project. The command `tidemill policy status` shows it."
        return Page(title="Policy", lead=text, data={"policies": None})
    found = site.read_policies()
    return Page(
        title="Policy",
        lead="What a backtest promised of the policy in tidemill.toml, and what happened since it has been in force.",
        data={"policies": found},
        parts=[part for status in found for part in _describe(status)],
    )


def _describe(status: PolicyStatus) -> list[PageTable | Facts]:
    pairs = [("state", Cell(status.state, _STATES[status.state])), ("result", view.text(status.text))]
    promise = status.promise
    if promise is None or status.since is None:
        return [Facts(status.model, pairs)]
    pairs += [
        ("promise", view.text(describe_promise(promise))),
        ("observation", view.text(describe_observation(status, format_time(status.since)))),
    ]
    rows = []
    for figure in status.figures:
        name, promised, interval, observed, result = format_figure(figure, promise.metric)
        style = _STYLES[figure.holds]
        rows.append(
            [Cell(name), *(Cell(number, "count") for number in (promised, interval, observed)), Cell(result, style)]
        )
    return [Facts(status.model, pairs), PageTable("", COLUMNS, rows)]
