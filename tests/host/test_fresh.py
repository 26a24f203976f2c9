"""A package is asked in a process that has what its lock names, and nothing else."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.models.test_export import ROWS, package
from tidemill.core.model import Model
from tidemill.host.fresh import FreshProcesses
from tidemill.models.load import load
from tidemill.models.package import folder_of

ASKED = ROWS.select("distance", "pieces", "carrier", "express").head(5).to_dicts()


def answers(model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found = load(model).predict(ROWS.select("distance", "pieces", "carrier", "express").head(5))
    assert found.probabilities is not None
    return found.probabilities


def with_loader(model: Model, lines: str) -> dict[str, bytes]:
    """The files of a package whose loader begins with these lines."""
    files = folder_of(model)
    return files | {"code/tidemill_model.py": lines.encode() + b"\n" + files["code/tidemill_model.py"]}


@pytest.fixture
def fresh(tmp_path: Path) -> FreshProcesses:
    return FreshProcesses(tmp_path / "packages")


def test_it_answers_as_here_and_sees_no_other_package(fresh: FreshProcesses) -> None:
    model = package()
    told = fresh.try_out(folder_of(model), ASKED, ("lightgbm",))
    assert (told.error, told.warning) == ("", "")
    assert np.array_equal(np.array(told.scores), answers(model))
    assert 0 < told.latency_ms < 60_000
    assert told.memory_mb > 10
    for module in ("polars", "tidemill", "msgspec"):
        assert fresh.try_out(with_loader(model, f"import {module}"), ASKED).missing == module
    assert fresh.try_out(folder_of(model), ASKED).error == "", "the next package is not harmed"


def test_what_a_package_does_wrong_is_told_and_harms_no_other(fresh: FreshProcesses) -> None:
    model = package()
    for wrong, said in (
        ("print('so much to say')", ""),
        ("raise ValueError('no, thanks')", "ValueError: no, thanks"),
        ("import os; os._exit(3)", "its process ended with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its process ended with signal 9"),
    ):
        assert fresh.try_out(with_loader(model, wrong), ASKED).error == said


def test_no_secret_of_this_process_is_there(fresh: FreshProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", "postgresql://somebody:secret@somewhere")
    told = fresh.try_out(with_loader(package(), "import os\nassert 'TIDEMILL_LEDGER' not in os.environ"), ASKED)
    assert told.error == ""


def test_a_process_that_was_killed_is_started_again(fresh: FreshProcesses) -> None:
    model = package()
    fresh.try_out(folder_of(model), ASKED)
    (waiting,) = fresh._waiting.values()
    os.kill(waiting.pid, signal.SIGKILL)
    waiting.wait()
    assert fresh.try_out(folder_of(model), ASKED).error == ""


def test_a_lock_that_cannot_be_had_is_a_warning_or_where_strict_an_error(fresh: FreshProcesses) -> None:
    model = package()
    lock = model.files["requirements.txt"].decode().replace("narwhals==", "narwhals==0.0.0.")
    odd = folder_of(replace(model, files=model.files | {"requirements.txt": lock.encode()}))
    lenient = fresh.try_out(odd, ASKED)
    assert lenient.error == ""
    assert "cannot be built" in lenient.warning
    assert "narwhals==0.0.0." in lenient.warning
    assert "cannot be built" in fresh.try_out(odd, ASKED, strict=True).error


def test_an_environment_is_built_from_the_lock_and_kept(fresh: FreshProcesses) -> None:
    model = package()
    told = fresh.try_out(folder_of(model), ASKED, strict=True)
    if "cannot be built" in told.error:
        pytest.skip(f"not on this machine: {told.error}")
    assert (told.error, told.where) == ("", "an environment built from its lock")
    assert np.array_equal(np.array(told.scores), answers(model))
    (built,) = fresh._folder.iterdir()
    assert {"lightgbm", "numpy", "scipy"} <= {one.name for one in built.glob("lib/*/site-packages/*")}
    again = FreshProcesses(fresh._folder).try_out(with_loader(model, "import polars"), ASKED, strict=True)
    assert again.missing == "polars"
    assert list(fresh._folder.iterdir()) == [built]
