"""Freeze windows: by week and by date, in a time zone; anything else is an error with its cure."""

from datetime import UTC, datetime, timedelta

import pytest

from tidemill.errors import ConfigurationError
from tidemill.project.freeze import find_freeze

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def test_a_week_has_exactly_the_hours_of_its_window() -> None:
    hours = [MONDAY + timedelta(hours=hour) for hour in range(168)]
    frozen = [at for at in hours if find_freeze(("fri 16:00 - mon 08:00",), "UTC", at)]
    assert len(frozen) == 8 + 48 + 8
    assert not find_freeze(("fri 16:00 - mon 08:00",), "UTC", MONDAY.replace(hour=8))


def test_dates_include_both_days_in_their_zone() -> None:
    window = ("2026-12-24 - 2026-12-26",)
    assert find_freeze(window, "UTC", datetime(2026, 12, 26, 23, 59, tzinfo=UTC))
    assert not find_freeze(window, "UTC", datetime(2026, 12, 27, tzinfo=UTC))
    assert not find_freeze(window, "Europe/Berlin", datetime(2026, 12, 26, 23, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    "window", ["weekend", "fri 25:00 - mon 08:00", "2026-12-26 - 2026-12-24", "2026-13-01 - 2026-13-02", ""]
)
def test_anything_else_is_an_error(window: str) -> None:
    with pytest.raises(ConfigurationError, match="no freeze window") as wrong:
        find_freeze((window,), "UTC", MONDAY)
    assert "mon 08:00" in wrong.value.cure
