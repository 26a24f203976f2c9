"""Releases: versions increase, a package is registered once, and labels find releases."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tidemill.clock import SystemClock, VirtualClock
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.release import Release
from tidemill.errors import NotFound
from tidemill.ledger.ledger import Ledger
from tidemill.ledger.releases import find_release
from tidemill.registry.releases import register, tag
from tidemill.testing.processes import run_in_processes

CLOCK = VirtualClock(datetime(2013, 3, 1, tzinfo=UTC))


@pytest.fixture
def books(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def model(name: str = "late") -> Model:
    signature = Signature(inputs=(), task="regression")
    return Model(manifest=Manifest(name=name, flavor="lightgbm", signature=signature, metrics={"test_rmse": 0.5}))


def release(books: Ledger, package: str = "", run: str = "", name: str = "late") -> Release:
    return register(books, CLOCK, model(name), package or CLOCK.mint(), environment="test", run=run)


def test_versions_increase_for_each_name(books: Ledger) -> None:
    labels = [release(books, name=name).label for name in ("late", "late", "full", "late")]
    assert labels == ["late/1", "late/2", "full/1", "late/3"]
    assert books.releases.find(name="late", version=2)[0].metrics == {"test_rmse": 0.5}


def test_a_run_registers_a_package_once(books: Ledger) -> None:
    first = release(books, "p", "run-1")
    assert release(books, "p", "run-1") == first
    assert release(books, "q", "run-1").version == 2
    assert release(books, "p", "run-2").version == 3


def test_many_versions_are_counted_as_numbers(books: Ledger) -> None:
    for _ in range(11):
        release(books)
    assert release(books).version == 12
    assert find_release(books, "late").version == 12


def test_processes_never_register_the_same_version(tmp_path: Path) -> None:
    opener = partial(Ledger, f"sqlite:///{tmp_path / 'ledger.db'}")
    versions = [version for registered in run_in_processes(3, _register_many, opener) for version in registered]
    assert sorted(versions) == list(range(1, 31))


def test_labels_names_and_ids_find_a_release(books: Ledger) -> None:
    first, second = release(books), release(books)
    assert find_release(books, "late/1") == first
    assert find_release(books, "late") == second
    assert find_release(books, first.id) == first
    for unknown in ("late/9", "later", "late/x", ""):
        with pytest.raises(NotFound, match="does not exist") as refused:
            find_release(books, unknown)
        assert "models list" in refused.value.cure


def test_a_label_without_a_version_is_an_error(books: Ledger) -> None:
    with pytest.raises(NotFound, match="'late/' has no version"):
        find_release(books, "late/")


def test_tags_are_set_and_removed(books: Ledger) -> None:
    release(books)
    tag(books, "late/1", {"regime": "winter", "note": "x"})
    assert tag(books, "late/1", {"note": ""}).tags == {"regime": "winter"}
    assert find_release(books, "late/1").tags == {"regime": "winter"}


def _register_many(_: int, opener: partial[Ledger]) -> list[int]:
    books, clock = opener(), SystemClock()
    return [register(books, clock, model(), clock.mint(), environment="test").version for _ in range(10)]
