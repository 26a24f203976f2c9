"""The page of a table that nothing has learned from yet: one HTML file that asks no other server for anything."""

import polars as pl
import polars.selectors as cs
from markupsafe import Markup

from tidemill.checks.exploration import ColumnProposal
from tidemill.data.charts import Figure, draw_distribution, draw_frequencies
from tidemill.data.statistics import ColumnProfile, Profile
from tidemill.errors import MissingExtra
from tidemill.web import templating

_DRAWN = 60
_WORDS = 12
_OFTEN = 0.002
_ROWS_OF_SKRUB = 20_000


def render(title: str, profile: Profile, proposals: list[ColumnProposal], skrub: str = "") -> str:
    """The page; `skrub` is the report of skrub as a page of its own, shown in a frame."""
    figures = {column.name: _figure(column) for column in profile.columns[:_DRAWN]}
    return templating.html(
        "exploring.html",
        title=title,
        profile=profile,
        columns=list(zip(profile.columns, proposals, strict=True)),
        excluded=[one for one in proposals if one.exclude],
        roles=[one for one in proposals if one.role != "input"],
        prepared=[one for one in proposals if one.preparation],
        figures={name: figure for name, figure in figures.items() if figure is not None},
        skrub=skrub,
        style=Markup(templating.part("style.css")),
        scripts={"plotly": Markup(templating.plotly()), "charts": Markup(templating.part("charts.js"))},
    )


def skrub_report(frame: pl.DataFrame, title: str) -> str:
    """What skrub's TableReport says of a table, of at most 20,000 of its rows, as a page.

    Raises
    ------
    MissingExtra
        if skrub is not installed.
    """
    try:
        from skrub import TableReport
    except ImportError:
        raise MissingExtra("skrub", "eda") from None
    rows = frame.sample(_ROWS_OF_SKRUB, seed=0) if frame.height > _ROWS_OF_SKRUB else frame
    rows = rows.cast({cs.decimal() | cs.by_dtype(pl.Int128): pl.Float64})  # it reckons with none of these
    return str(TableReport(rows, title=title, verbose=0).html())


def _figure(column: ColumnProfile) -> Figure | None:
    if column.type == "text":
        top = dict(list(column.values.items())[:_WORDS])
        told = top and max(top.values()) > _OFTEN * column.present
        return draw_frequencies(top, column.present - sum(top.values())) if told else None
    if column.type == "boolean" and column.mean is not None:
        true = round(column.mean * column.present)
        return draw_frequencies({"true": true, "false": column.present - true}, 0)
    if column.low is None or column.high is None or column.low == column.high:
        return None
    times = column.type in ("time", "date")
    half = 0.5 if column.type == "integer" else 0.0  # a bar stands around its whole number
    edges = [edge + half for edge in column.edges]
    return draw_distribution(column.low - half, column.high + half, edges, column.counts, times=times)
