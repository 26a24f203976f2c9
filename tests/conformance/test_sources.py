"""Sources in files, Delta tables, databases, memory and backtests pass the source suite."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from tidemill.backtest.sources import ReplaySources
from tidemill.core.backtest import Backtest
from tidemill.core.resources import Sources
from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.testing.sources import MONDAY, SourcesSuite

Opener = Callable[[Sequence[pl.DataFrame]], Sources]


def source(path: str, **more: str) -> dict[str, Source]:
    return {"orders": Source(path=path, time="at", key=("id",), **more)}  # type: ignore[arg-type]


class TestInCsv(SourcesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        def opened(frames: Sequence[pl.DataFrame]) -> Sources:
            for index, frame in enumerate(frames):
                file = tmp_path / f"{index}.csv"
                if not file.exists():
                    frame.write_csv(file)
            return FileSources(tmp_path, source("*.csv"))

        return opened


class TestInParquet(SourcesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        def opened(frames: Sequence[pl.DataFrame]) -> Sources:
            for index, frame in enumerate(frames):
                file = tmp_path / f"{index}.parquet"
                if not file.exists():
                    frame.write_parquet(file)
            return FileSources(tmp_path, source("*.parquet"))

        return opened


class TestInDelta(SourcesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        def opened(frames: Sequence[pl.DataFrame]) -> Sources:
            if not (tmp_path / "orders").exists():
                for frame in frames:
                    frame.write_delta(tmp_path / "orders", mode="append")
            return FileSources(tmp_path, source("orders"))

        return opened


class TestInADatabase(SourcesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        def opened(frames: Sequence[pl.DataFrame]) -> Sources:
            if not (tmp_path / "shop.db").exists():
                with sqlite3.connect(tmp_path / "shop.db") as connection:
                    connection.execute("CREATE TABLE orders (id INTEGER, at TEXT, amount REAL)")
                    rows = [(i, at.isoformat(), amount) for frame in frames for i, at, amount in frame.rows()]
                    connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
            return FileSources(tmp_path, source("sqlite:///shop.db", table="orders"))

        return opened


class TestInHand(SourcesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda frames: FileSources(tmp_path, source("none.csv"), {"orders": pl.concat(frames)})


class TestReplayed(SourcesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        def opened(frames: Sequence[pl.DataFrame]) -> Sources:
            if not (tmp_path / "all.parquet").exists():
                pl.concat(frames).write_parquet(tmp_path / "all.parquet")
            files = FileSources(tmp_path, source("all.parquet", delivery="2h"))
            return ReplaySources(tmp_path, files, "orders", MONDAY, Backtest())

        return opened
