"""A model with code of the project always uses the code that it was trained with."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest

from tests.projects import make_project
from tidemill.compose.session import open_session
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.models.load import load
from tidemill.models.packaged_code import PackagedModules

PROJECT_CODE = """
from helping import stretch
from sklearn.ensemble import HistGradientBoostingClassifier


class Plain(HistGradientBoostingClassifier):
    def predict_proba(self, rows):
        from later import kept

        return stretch(kept(super().predict_proba(rows)))
"""
BROKEN_LINE = "    return 0.5 + 0.1 * (0.5 - shares)"
ROWS = pl.DataFrame({"distance_km": [900.0, 100.0], "items": [8, 1], "carrier": ["thrifty", "steady"]}).with_columns(
    ordered=pl.lit("2026-02-01T10:00:00Z").str.to_datetime(time_zone="UTC")
)
SCRIPT = """
import json, sys
import polars as pl
from pathlib import Path
from tidemill.compose.session import open_session, predict
from tidemill.project.project import Project

rows = pl.read_json(sys.argv[2])
print(json.dumps(predict(open_session(Project(Path(sys.argv[1]))), rows)["probability"].to_list()))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Session]:
    estimator = 'test = "14d"\nearly_stopping = 0\nestimator = "own_estimator:Plain"\nparams = { max_iter = 30 }'
    project = make_project(tmp_path / "shop", replace={'test = "14d"': estimator})
    for name, text in {"own_estimator": PROJECT_CODE, "helping": "def stretch(shares):\n    return shares\n"}.items():
        (project.folder / f"{name}.py").write_text(text)
    (project.folder / "later.py").write_text("def kept(shares):\n    return shares\n")
    yield open_session(project)
    for name in ("own_estimator", "helping", "later"):
        sys.modules.pop(name, None)
    sys.path.remove(str(project.folder))


def test_modules_of_a_package_share_one_module_instance() -> None:
    files = {
        "code/pkg_a/__init__.py": b"from .model import Model\nfrom pkg_a.model import HERE\n",
        "code/pkg_a/model.py": b"from pathlib import Path\nimport first, second\nfrom plain.inner import deep\n"
        b"HERE = Path(__file__).parent\n"
        b"class Model:\n    def same(self):\n        import first as again\n"
        b"        return first.Mode is second.Mode is again.Mode, deep\n",
        "code/first.py": b"from common_a import Mode\n",
        "code/second.py": b"from common_a import Mode\n",
        "code/common_a.py": b"from enum import Enum\nclass Mode(Enum):\n    ON = 1\n",
        "code/plain/inner.py": b"deep = 7\n",
    }
    modules = PackagedModules(files)
    with modules.active():
        model = import_module("pkg_a").Model()
        assert Path("code/pkg_a") == import_module("pkg_a").HERE
    assert model.same() == (True, 7)
    assert not {"pkg_a", "first", "second", "common_a", "plain"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError):
        import_module("pkg_a")


def train(session: Session) -> None:
    _, failed = run(session, session.project.code.pipeline("training"))
    if failed:
        raise failed


def test_the_champion_is_compared_with_its_own_code(shop: Session, tmp_path: Path) -> None:
    train(shop)
    (release,) = shop.workspace.ledger.releases.find()
    champion = shop.packages.load(release.package)
    assert {"code/own_estimator.py", "code/helping.py", "code/later.py"} <= set(champion.files)
    before = load(champion).predict(ROWS).probabilities
    assert before is not None

    rows = tmp_path / "rows.json"
    rows.write_text(ROWS.write_json())
    process = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, shop.project.folder, rows],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(process.stdout) == before.tolist(), "in a process without the modules of the project"

    helping = shop.project.folder / "helping.py"
    helping.write_text(helping.read_text().replace("    return shares", BROKEN_LINE))
    (shop.project.folder / "later.py").unlink()
    (shop.project.folder / "later.py").write_text("kept = abs\n")
    for name in ("own_estimator", "helping", "later"):
        sys.modules.pop(name, None)
    after = load(champion).predict(ROWS).probabilities
    assert after is not None
    assert after.tolist() == before.tolist()
    assert "later" not in sys.modules
    command = [sys.executable, "-m", "tidemill", "run", "training"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=shop.project.folder)
    assert process.returncode == 3
    assert "not better than the trivial baseline" in process.stderr
