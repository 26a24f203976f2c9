"""The page of the regimes: the periods of each as a band, and the release that is kept for it."""

from tidemill.data.charts import TrafficChange, TrafficShare, draw_traffic_shares
from tidemill.registry.regimes import Regime, list_kept_releases, list_regimes
from tidemill.web import view
from tidemill.web.reading import Query, Site
from tidemill.web.view import Cell, Chart, Page, PageFilter, PageTable

_COLUMNS = ("model", "regime", "value", "first row", "releases", "kept", "periods", "last since", "state")


def regimes(site: Site, query: Query) -> Page:
    """List the regimes of each model, with the periods in which their releases served."""
    models = sorted(site.books.routes.values("model", environment=site.environment))
    chosen = [model for model in models if query.get("model") in ("", model)]
    found = {model: list_regimes(site.books, site.environment, model) for model in chosen}
    rows = [row for model, listed in found.items() for row in _list_rows(site, model, listed)]
    parts: list[PageTable | view.Facts | Chart] = [
        _draw_band(site, model, listed, position) for position, (model, listed) in enumerate(found.items()) if listed
    ]
    links = [("all", view.build_path("regimes")), *((name, view.build_path("regimes", model=name)) for name in models)]
    return Page(
        title="Regimes",
        lead="The regimes of the data, each with the releases that know it. A regime that returns recalls its release.",
        data={"regimes": found},
        filters=[PageFilter("model", query.get("model") or "all", links)] if len(models) > 1 else [],
        parts=[*parts, PageTable("", _COLUMNS, rows, "No release is in production yet.")],
    )


def _list_rows(site: Site, model: str, listed: list[Regime]) -> list[list[Cell]]:
    kept = list_kept_releases(site.books, site.environment, model)
    return [
        [
            Cell(model),
            view.number(regime.number),
            Cell(regime.value),
            view.time(regime.start),
            Cell(", ".join(regime.releases)),
            Cell(", ".join(release for release in regime.releases if release in kept)),
            view.number(len(regime.tenures)),
            view.time(regime.tenures[-1].since),
            Cell("current" if regime.is_current else "stored"),
        ]
        for regime in reversed(listed)
    ]


def _draw_band(site: Site, model: str, listed: list[Regime], position: int) -> Chart:
    """Draw the periods of the regimes of a model: a row for each regime, and for each value of its key."""
    names = {regime.number: f"regime {regime.number}: {regime.value}".removesuffix(": ") for regime in listed}
    periods = sorted(
        ((tenure, regime) for regime in listed for tenure in regime.tenures), key=lambda period: period[0].since
    )
    changes = []
    for since in sorted({tenure.since for tenure, _ in periods} | {t.until for t, _ in periods if t.until}):
        serving = [
            (tenure, regime)
            for tenure, regime in periods
            if tenure.since <= since and (tenure.until is None or since < tenure.until)
        ]
        shares = [
            TrafficShare(names[regime.number], "bound" if regime.value else "champion", 1.0) for _, regime in serving
        ]
        began = [f"{tenure.release}: {tenure.reason}" for tenure, _ in serving if tenure.since == since]
        changes.append(TrafficChange(since, shares, "; ".join(began)))
    newest = site.books.events.find(newest=True, limit=1)
    end = max([changes[-1].time, *(event.known_at for event in newest)])
    caption = f"The regimes of {model} until {end:%Y-%m-%d %H:%M}, by the releases that served."
    return Chart(f"regimes-{position}", draw_traffic_shares(changes, end), caption)
