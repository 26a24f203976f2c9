"""A feature of any type has the same value offline, online and in the sample rows of a package."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tidemill.core.columns import TIME
from tidemill.core.feature import Entity, FeatureSet, FeatureView
from tidemill.core.source import Source
from tidemill.data.encoding import encode, fit_encoding
from tidemill.data.source import FileSources
from tidemill.featurestore.lookup import Lookup
from tidemill.featurestore.materialize import materialize
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.featurestore.online import SqliteOnline

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "decimal": (pl.Decimal(10, 2), [Decimal("1.50"), Decimal("-2.25")], [1.5, -2.25]),
    "whole": (pl.Decimal(18, 0), [Decimal(7), Decimal(8)], [7, 8]),
    "large": (pl.Decimal(38, 2), [Decimal(2**60 + 1), Decimal(3)], [2**60 + 1, 3]),
    "unsigned": (pl.UInt64, [1, 2**63 - 1], [1, 2**63 - 1]),
    "wide": (pl.Int128, [-5, 5], [-5, 5]),
    "duration": (pl.Duration("ms"), [timedelta(minutes=1), timedelta(milliseconds=1500)], [60.0, 1.5]),
    "category": (pl.Categorical, ["a", "b"], ["a", "b"]),
    "clock": (pl.Time, [time(1, 30), time(2)], ["01:30:00", "02:00:00"]),
    "small": (pl.Float32, [0.5, 1.25], [0.5, 1.25]),
    "flag": (pl.Boolean, [True, False], [True, False]),
    "day": (pl.Date, [date(2026, 1, 2), date(2025, 3, 4)], [date(2026, 1, 2), date(2025, 3, 4)]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_feature_of_any_type_is_the_same_offline_and_online(name: str, tmp_path: Path) -> None:
    dtype, values, expected = COLUMNS[name]
    frame = pl.DataFrame({"id": [1, 2], "x": pl.Series(values, dtype=dtype)})
    sources = FileSources(tmp_path, {"s": Source(path="unused")}, frames={"s": frame})
    view = FeatureView(name="v", entity=Entity("e", ("id",)), source="s", columns=("x",))
    features = FeatureSet(request=(), views=(view,))
    asked = pl.DataFrame({"id": [2, 1, 3], TIME: [NOW] * 3}, schema_overrides={TIME: pl.Datetime("us", "UTC")})
    joined = OfflineFeatures(sources).join(asked, features, NOW)
    assert joined["v_x"].to_list() == [expected[1], expected[0], None]
    online = SqliteOnline(tmp_path / "online.db")
    materialize(view, sources, online, NOW)
    served = Lookup(online).fill(features, asked, NOW)
    encoding = fit_encoding(joined, features.names)
    assert encode(encoding, served).tolist()[:2] == encode(encoding, joined).tolist()[:2]
