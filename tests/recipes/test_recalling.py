"""A release that cannot be recalled is skipped with a reason, and the champion stays where none is left.

The packages are real ones: they are read from blobs and probed in processes with the packages of their locks.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.monitoring.test_regimes import NOON, POLICY, Live, Shelf, draw
from tidemill.blobs.packages import BlobPackages
from tidemill.blobs.store import open_blobs
from tidemill.clock import VirtualClock
from tidemill.core.check import Verdict
from tidemill.core.columns import ARRIVED, BATCH, PATH
from tidemill.core.context import Context
from tidemill.core.model import Input, Model
from tidemill.host.prober import PackageProber
from tidemill.journal.board import FileBoard
from tidemill.journal.tables import DeltaTables
from tidemill.ledger.batches import BatchRecord
from tidemill.ledger.ledger import Ledger
from tidemill.models.package import make_portable
from tidemill.monitoring.stored_releases import _cache
from tidemill.recipes.recalling import judge_regime, recall_release
from tidemill.registry.releases import register
from tidemill.registry.rollout import Deployer
from tidemill.registry.routing import find_current_route
from tidemill.registry.withdrawals import withdraw

CONTEXT = Context(run="r", step="s", environment="test", model="shop", cause={})


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    shelf = Shelf()
    for name, model in shelf.models.items():
        samples = {"samples.json": draw(1, 5).write_json().encode()}
        shelf.models[name] = make_portable(replace(model, files=model.files | samples))
    return shelf


class Workplace:
    """A ledger, a board and blobs; the rows of the journal are those of model b, and a is the champion."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        shelf.prefix = str(folder)
        self.folder, self.shelf, self.live = folder, shelf, Live(folder, shelf)
        self.books, self.board = Ledger("sqlite://"), FileBoard(folder / "board")
        self.clock = VirtualClock(NOON - timedelta(days=3))
        self.packages = BlobPackages(open_blobs(str(folder / "blobs")))
        self.tables = DeltaTables(str(folder / "tables"))
        self.deployer = Deployer(self.books, self.board, self.clock, "test")

    def serve(self, model: Model) -> str:
        """Make a model the champion, after the others; return the label of its release."""
        self.clock.advance(self.clock.now() + timedelta(hours=1))
        release = register(self.books, self.clock, model, self.packages.save(model), environment="test")
        self.deployer.promote(release.label, "ann", "she wants it")
        return release.label

    def look(self) -> tuple[Verdict, str]:
        """Serve rows of model b, judge and recall; return the verdict and the champion after it."""
        _cache.clear()
        self.packages = BlobPackages(open_blobs(str(self.folder / "blobs")))
        now = NOON + timedelta(minutes=self.live.rows)
        self.clock.advance(now)
        prober = PackageProber(self.folder / "environments")
        journal, tables = self.live.journal, self.tables
        (verdict,) = judge_regime(POLICY, now, self.books, self.packages, journal, tables, prober, CONTEXT)
        verdict = self.books.verdicts.add(replace(verdict, id=self.clock.mint(), environment="test", time=now))
        recall_release(POLICY, [verdict], self.books, self.board, self.clock, CONTEXT)
        route = find_current_route(self.books, "test", "shop")
        assert route is not None
        champion = route.arm("champion")
        assert champion is not None
        assert self.board.routes()["shop"] == route
        return verdict, champion.release


@pytest.fixture
def workplace(tmp_path: Path, shelf: Shelf) -> Workplace:
    return Workplace(tmp_path, shelf)


def change_files(**changes: bytes | None) -> Callable[[Model], Model]:
    """Return a function that replaces files of a package; one that is None is removed."""
    named = {name.replace("__", "/").replace("_", ".", 1): content for name, content in changes.items()}

    def change(model: Model) -> Model:
        kept = {name: content for name, content in (model.files | named).items() if content is not None}
        return replace(model, files=kept)

    return change


def change_manifest(flavor: str = "", column: str = "") -> Callable[[Model], Model]:
    def change(model: Model) -> Model:
        signature = model.manifest.signature
        if column:
            signature = replace(signature, inputs=(*signature.inputs, Input(name=column, type="number")))
        return replace(
            model, manifest=replace(model.manifest, flavor=flavor or model.manifest.flavor, signature=signature)
        )

    return change


UNUSABLE = {
    "a lock that nobody can build": (change_files(requirements_txt=b"numpy==0.0.1\n"), "cannot be built"),
    "a lock without a module that it imports": (change_files(requirements_txt=b"msgspec==0.0.0\n"), "cannot be built"),
    "no lock": (change_files(requirements_txt=None), "requirements.txt"),
    "a flavor that is not installed": (change_manifest(flavor="prophet"), "prophet"),
    "a model that cannot be read": (change_files(model_txt=b"no trees"), "cannot"),
    "an error profile of another version": (change_files(errors_json=b'{"mean": "low"}'), "errors.json"),
    "a profile of another version": (change_files(profile_json=b'{"rows": "many"}'), "profile.json"),
    "another signature": (change_manifest(column="speed"), "signature"),
}


@pytest.mark.parametrize("kind", list(UNUSABLE))
def test_a_release_that_cannot_be_used_any_more_is_skipped_with_a_reason(workplace: Workplace, kind: str) -> None:
    change, about = UNUSABLE[kind]
    models = workplace.shelf.models
    good, bad = workplace.serve(models["b"]), workplace.serve(change(models["b"]))
    workplace.serve(models["a"])
    workplace.live.serve("b", 60, centre=4)
    verdict, champion = workplace.look()
    assert (verdict.action, champion) == ("recall", good)
    assert about in verdict.evidence["refused"][bad]


@pytest.mark.parametrize("damage", ["deleted", "truncated"])
def test_a_package_that_was_damaged_is_skipped_and_without_another_the_champion_stays(
    workplace: Workplace, damage: str
) -> None:
    models = workplace.shelf.models
    bad, champion = workplace.serve(models["b"]), workplace.serve(models["a"])
    package = workplace.books.releases.find(version=1)[0].package
    (file,) = [file for file in (workplace.folder / "blobs").rglob("*") if package.endswith(file.name)]
    content = file.read_bytes()
    file.chmod(0o644)
    file.unlink() if damage == "deleted" else file.write_bytes(content[: len(content) // 2])
    workplace.live.serve("b", 60, centre=4)
    verdict, after = workplace.look()
    assert (verdict.action, after) == ("collect", champion)
    assert "new regime" in verdict.reason
    assert bad in verdict.evidence["refused"]
    file.write_bytes(content)
    assert workplace.look()[1] == bad, "it is recalled when its package is there again"


def test_a_release_that_a_person_rolled_back_is_not_recalled(workplace: Workplace) -> None:
    models = workplace.shelf.models
    champion = workplace.serve(models["a"])
    workplace.serve(models["b"])
    workplace.deployer.rollback("shop", "ann", "it was wrong")
    workplace.live.serve("b", 60, centre=4)
    verdict, after = workplace.look()
    assert (verdict.action, after) == ("collect", champion)


def test_a_release_that_learned_from_withdrawn_rows_is_not_recalled(workplace: Workplace) -> None:
    models, ids = workplace.shelf.models, ["rows/clean.csv@1", "rows/wrong.csv@2"]
    versions = []
    for batch in ids:
        path = batch.partition("@")[0].removeprefix("rows/")
        frame = pl.DataFrame({"x": [1.0], BATCH: [batch], PATH: [path], ARRIVED: [NOON - timedelta(days=9)]})
        versions.append(workplace.tables.append("rows", batch, frame))

    def learn(version: int) -> Model:
        manifest = models["b"].manifest
        return replace(models["b"], manifest=replace(manifest, data={"table": "rows", "version": version}))

    good, bad = workplace.serve(learn(versions[0])), workplace.serve(learn(versions[1]))
    workplace.serve(models["a"])
    record = BatchRecord(
        id=ids[1], source="rows", path="wrong.csv", state="accepted", rows=1, time=NOON, reason="", verdict=""
    )
    withdraw(workplace.books, workplace.clock, record, environment="test", actor="ann", reason="wrong units")
    workplace.live.serve("b", 60, centre=4)
    verdict, champion = workplace.look()
    assert (verdict.action, champion) == ("recall", good)
    assert verdict.evidence["refused"][bad] == "it learned from withdrawn rows: wrong.csv"
