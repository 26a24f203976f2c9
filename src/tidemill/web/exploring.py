"""The page about a new table: one self-contained HTML file that loads nothing from a server."""

import polars as pl
import polars.selectors as cs
from markupsafe import Markup

from tidemill.checks.exploration import ColumnProposal
from tidemill.data.charts import Figure, draw_distribution, draw_frequencies
from tidemill.data.statistics import ColumnProfile, Profile
from tidemill.errors import MissingExtra
from tidemill.web import templating

_MAX_FIGURES = 60
_MAX_WORDS = 12
_FREQUENT = 0.002
_SKRUB_ROWS = 20_000


def render(title: str, profile: Profile, proposals: list[ColumnProposal], skrub: str = "") -> str:
    """Render the page; `skrub` is the report of skrub as a whole page, shown in a frame."""
    figures = {column.name: _draw_column(column) for column in profile.columns[:_MAX_FIGURES]}
    return templating.render_template(
        "exploring.html",
        title=title,
        profile=profile,
        columns=list(zip(profile.columns, proposals, strict=True)),
        excluded=[proposal for proposal in proposals if proposal.exclude],
        roles=[proposal for proposal in proposals if proposal.role != "input"],
        prepared=[proposal for proposal in proposals if proposal.preparation],
        figures={name: figure for name, figure in figures.items() if figure is not None},
        skrub=skrub,
        style=Markup(templating.read_file("style.css")),
        scripts={"plotly": Markup(templating.read_plotly()), "charts": Markup(templating.read_file("charts.js"))},
    )


def skrub_report(frame: pl.DataFrame, title: str) -> str:
    """Return skrub's TableReport of a table, of at most 20,000 of its rows, as a page.

    Raises
    ------
    MissingExtra
        if skrub is not installed.
    """
    try:
        from skrub import TableReport
    except ImportError:
        raise MissingExtra("skrub", "eda") from None
    rows = frame.sample(_SKRUB_ROWS, seed=0) if frame.height > _SKRUB_ROWS else frame
    rows = rows.cast({cs.decimal() | cs.by_dtype(pl.Int128): pl.Float64})  # skrub does not support these types
    return str(TableReport(rows, title=title, verbose=0).html())


def _draw_column(column: ColumnProfile) -> Figure | None:
    if column.type == "text":
        top = dict(list(column.values.items())[:_MAX_WORDS])
        frequent = top and max(top.values()) > _FREQUENT * column.present
        return draw_frequencies(top, column.present - sum(top.values())) if frequent else None
    if column.type == "boolean" and column.mean is not None:
        true = round(column.mean * column.present)
        return draw_frequencies({"true": true, "false": column.present - true}, 0)
    if column.low is None or column.high is None or column.low == column.high:
        return None
    times = column.type in ("time", "date")
    half = 0.5 if column.type == "integer" else 0.0  # the bar of a whole number is centred on it
    edges = [edge + half for edge in column.edges]
    return draw_distribution(column.low - half, column.high + half, edges, column.counts, times=times)
