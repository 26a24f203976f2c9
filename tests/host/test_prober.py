"""A package is probed in a process that can import the packages of its lock, and no others."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.models.test_export import ROWS, package
from tidemill.core.model import Model
from tidemill.host import probe_pool
from tidemill.host.prober import PackageProber
from tidemill.models.load import load
from tidemill.models.package import to_files

SAMPLES = ROWS.select("distance", "pieces", "carrier", "express").head(5).to_dicts()


def probabilities(model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    predictions = load(model).predict(ROWS.select("distance", "pieces", "carrier", "express").head(5))
    assert predictions.probabilities is not None
    return predictions.probabilities


def with_loader(model: Model, lines: str) -> dict[str, bytes]:
    """Return the files of a package whose loader starts with these lines."""
    files = to_files(model)
    return files | {"code/tidemill_model.py": lines.encode() + b"\n" + files["code/tidemill_model.py"]}


@pytest.fixture
def prober(tmp_path: Path) -> PackageProber:
    return PackageProber(tmp_path / "packages")


def test_predicts_as_in_this_process_and_cannot_import_other_packages(prober: PackageProber) -> None:
    model = package()
    result = prober.probe(to_files(model), SAMPLES, ("lightgbm",))
    assert (result.error, result.warning) == ("", "")
    assert np.array_equal(np.array(result.scores), probabilities(model))
    assert 0 < result.latency_ms < 60_000
    assert result.memory_mb > 10
    for module in ("polars", "tidemill", "msgspec"):
        assert prober.probe(with_loader(model, f"import {module}"), SAMPLES).missing == module
    assert prober.probe(to_files(model), SAMPLES).error == "", "the next package still works"


def test_a_failure_of_a_package_is_reported_and_does_not_affect_the_next(prober: PackageProber) -> None:
    model = package()
    for line, error in (
        ("print('some output')", ""),
        ("raise ValueError('no, thanks')", "ValueError: no, thanks"),
        ("import os; os._exit(3)", "its process stopped with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its process stopped with signal 9"),
    ):
        assert prober.probe(with_loader(model, line), SAMPLES).error == error


def test_the_process_gets_no_secret_of_this_process(prober: PackageProber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", "postgresql://somebody:secret@somewhere")
    result = prober.probe(with_loader(package(), "import os\nassert 'TIDEMILL_LEDGER' not in os.environ"), SAMPLES)
    assert result.error == ""


def test_a_process_that_was_killed_is_started_again(prober: PackageProber) -> None:
    model = package()
    prober.probe(to_files(model), SAMPLES)
    _, process = probe_pool._waiting[-1]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert prober.probe(to_files(model), SAMPLES).error == ""


def test_a_lock_that_cannot_be_installed_is_a_warning_and_with_strict_an_error(prober: PackageProber) -> None:
    model = package()
    lock = model.files["requirements.txt"].decode().replace("narwhals==", "narwhals==0.0.0.")
    files = to_files(replace(model, files=model.files | {"requirements.txt": lock.encode()}))
    lenient = prober.probe(files, SAMPLES)
    assert lenient.error == ""
    assert "cannot be built" in lenient.warning
    assert "narwhals==0.0.0." in lenient.warning
    assert "cannot be built" in prober.probe(files, SAMPLES, strict=True).error


def test_an_environment_is_built_from_the_lock_and_kept(prober: PackageProber) -> None:
    model = package()
    result = prober.probe(to_files(model), SAMPLES, strict=True)
    if "cannot be built" in result.error:
        pytest.skip(f"no package index is reachable: {result.error}")
    assert (result.error, result.where) == ("", "an environment built from its lock")
    assert np.array_equal(np.array(result.scores), probabilities(model))
    (built,) = prober._folder.iterdir()
    assert {"lightgbm", "numpy", "scipy"} <= {path.name for path in built.glob("lib/*/site-packages/*")}
    again = PackageProber(prober._folder).probe(with_loader(model, "import polars"), SAMPLES, strict=True)
    assert again.missing == "polars"
    assert list(prober._folder.iterdir()) == [built]


def test_a_process_that_a_package_leaves_behind_is_ended(prober: PackageProber, tmp_path: Path) -> None:
    started = tmp_path / "started"
    lines = f"""
import os, time
if os.fork() == 0:
    time.sleep(600)
    os._exit(0)
open({str(started)!r}, "a").write("x")
"""
    assert prober.probe(with_loader(package(), lines), SAMPLES).error == ""
    assert started.read_text(), "this test would wait for ten minutes otherwise"
