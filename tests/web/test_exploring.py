"""The data profile page in a real browser."""

from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, expect

from tidemill.checks.exploration import explore_table
from tidemill.web.exploring import _draw_column, render, skrub_report

FRAME = pl.DataFrame(
    {
        "x <script>alert(1)</script>": [float(number) for number in range(300)],
        "word": [f"<b>w{number % 7}</b>" for number in range(300)],
        "constant": ["</script>"] * 300,
        "late": [number % 3 == 0 for number in range(300)],
    }
)


def test_the_page_draws_its_columns_and_loads_nothing_from_a_server(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("skrub")
    file = tmp_path / "look.html"
    file.write_text(
        render("orders & more", *explore_table(FRAME, "late"), skrub_report(FRAME, "orders")), encoding="utf-8"
    )
    requests, errors = [], []
    page = browser.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.goto(file.as_uri())
    page.wait_for_selector("[data-figure] svg.main-svg")
    assert page.title() == "orders & more: data profile"
    assert page.locator("h1").inner_text() == "300 rows, 4 columns; 1 to exclude"
    assert page.locator("table").first.locator("td").all_inner_texts() == ["constant", "it has only one value"]
    assert page.locator("[data-figure]").count() == 4
    expect(page.frame_locator("iframe").locator("body")).to_contain_text("orders", timeout=20_000)
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    page.close()


def test_every_value_has_its_own_bar() -> None:
    """Also the smallest, which is the edge of the first bin where many rows have it."""
    frame = pl.DataFrame({"people": [1] * 500 + [2] * 100 + [3] * 50, "late": [True, False] * 325})
    profile, _ = explore_table(frame, "late")
    (column,) = [column for column in profile.columns if column.name == "people"]
    figure = _draw_column(column)
    assert figure is not None
    (bars,) = figure["data"]
    assert dict(zip(bars["x"], bars["customdata"], strict=True)) == {1.0: 500, 2.0: 100, 3.0: 50}
