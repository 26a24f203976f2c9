"""Files of strangers: hidden imports of a pickle, and files that end or fill the process that reads them."""

import io
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from sklearn.linear_model import LogisticRegression

from tidemill.core.model import Model, Signature
from tidemill.errors import DataError
from tidemill.models.adopting import ADOPTED, PROBED, adopt_in_child
from tidemill.models.load import load
from tidemill.models.pickles import read_info
from tidemill.models.predictions import Predictions
from tidemill.models.usable import require_predictions, require_valid

ARRAY = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
NEW = b")\x81"  # with no arguments
RANDOM = np.random.default_rng(1)
X = RANDOM.random((200, 2))
Y = (X[:, 0] > 0.5).astype(int)
SAMPLES = pl.DataFrame(X[:20], schema=["a", "b"])


class Evil:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.folder),)


def opcodes(value: Any) -> bytes:
    """The opcodes that create a value, without those that begin and end a pickle."""
    return pickle.dumps(value, protocol=2)[2:-1]


def describe(dtype: Any, **changes: Any) -> dict[str, Any]:
    state = {"subclass": np.ndarray, "shape": (1,), "order": "C", "dtype": np.dtype(dtype), "allow_mmap": False}
    return state | changes


def in_record(evil: bytes) -> bytes:
    return ARRAY + NEW + opcodes(describe([("o", "O")])) + b"b" + evil


def by_new_object(evil: bytes) -> bytes:
    made = b"ccopyreg\n__newobj__\n" + ARRAY + b"\x85R"
    return made + opcodes(describe("O")) + b"b" + evil


def by_getattr(evil: bytes) -> bytes:
    module = b"cimportlib\nimport_module\n" + opcodes("joblib.numpy_pickle") + b"\x85R"
    kind = b"cbuiltins\ngetattr\n" + module + opcodes("NumpyArrayWrapper") + b"\x86R"
    return kind + NEW + opcodes(describe("O")) + b"b" + evil


def in_list(evil: bytes) -> bytes:
    taken = b"c_operator\ngetitem\n](" + ARRAY + NEW + b"e" + b"K\x00\x86R"
    return taken + opcodes(describe("O")) + b"b" + evil


def with_method(evil: bytes) -> bytes:
    return ARRAY + NEW + opcodes(describe("O", order="C")) + b"b" + evil


ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "a record of objects": in_record,
    "an array that copyreg creates": by_new_object,
    "an array whose class getattr finds": by_getattr,
    "an array that comes out of a list": in_list,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_list_of_imports_that_hides_some_is_not_called_complete(attack: str, tmp_path: Path) -> None:
    content = b"\x80\x02" + ATTACKS[attack](pickle.dumps(Evil(tmp_path / "harm"), protocol=2)) + b"."
    file = tmp_path / "model.joblib"
    file.write_bytes(content)
    info = read_info(content)
    assert not info.whole
    assert info.doubt
    subprocess.run(
        [sys.executable, "-c", f"import joblib; joblib.load({str(file)!r})"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (tmp_path / "harm").exists(), "the attack works: loading the file runs its code"


def test_an_array_of_objects_is_read_to_its_end(tmp_path: Path) -> None:
    content = b"\x80\x02" + with_method(pickle.dumps(Evil(tmp_path / "harm"), protocol=2)) + b"."
    info = read_info(content)
    assert info.whole
    assert "posix.mkdir" in info.imports


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_the_list_of_an_ordinary_model_is_complete(compress: Any) -> None:
    file = io.BytesIO()
    joblib.dump(LogisticRegression().fit(X, Y), file, compress=compress)
    info = read_info(file.getvalue())
    assert (info.whole, info.doubt) == (True, "")
    assert "sklearn.linear_model._logistic.LogisticRegression" in info.imports
    assert not read_info(file.getvalue()[: file.tell() // 2]).whole


def test_text_of_lightgbm_that_ends_its_process_is_refused(tmp_path: Path) -> None:
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, Y), 3)
    text = booster.model_to_string()
    file = tmp_path / "model.txt"
    file.write_text(text)
    adoption = adopt_in_child(file, SAMPLES.rename({"a": "Column_0", "b": "Column_1"}), name="text")
    assert adoption.problem == ""
    assert adoption.model.manifest.data[ADOPTED][PROBED]
    first = next(line for line in text.splitlines() if line.startswith("split_feature="))
    broken = text.replace(first, "split_feature=" + " ".join(["999999"] * len(first.split())), 1)
    file.write_text(broken)
    with pytest.raises(DataError, match="SIG"):
        adopt_in_child(file, SAMPLES, name="text")
    without = replace(adoption.model.manifest, data={ADOPTED: {"file": "model.txt"}})
    old = Model(manifest=without, files=adoption.model.files | {"model.txt": broken.encode()})
    with pytest.raises(DataError, match="process that tried it"):
        load(old)  # a package of an earlier version, which no child has tried


def test_text_of_lightgbm_with_the_line_ends_of_windows_predicts_the_same(tmp_path: Path) -> None:
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, Y), 3)
    file = tmp_path / "model.txt"
    file.write_bytes(booster.model_to_string().replace("\n", "\r\n").encode())
    rows = SAMPLES.rename({"a": "Column_0", "b": "Column_1"})
    adoption = adopt_in_child(file, rows, name="text", classes=("no", "yes"))
    assert adoption.problem == ""
    found = load(adoption.model).predict(rows).probabilities
    assert found is not None
    assert found[:, 1].tolist() == pytest.approx(np.asarray(booster.predict(SAMPLES.to_numpy())).tolist(), abs=1e-12)


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_probabilities_with_another_sum_than_1_are_named_at_the_adoption(tmp_path: Path, objective: str) -> None:
    classes = np.random.default_rng(2).integers(0, 3, len(X))
    booster = lightgbm.train({"objective": objective, "num_class": 3, "verbose": -1}, lightgbm.Dataset(X, classes), 3)
    file = tmp_path / "model.txt"
    file.write_text(booster.model_to_string())
    rows = SAMPLES.rename({"a": "Column_0", "b": "Column_1"})
    adoption = adopt_in_child(file, rows, name="text", classes=("a", "b", "c"))
    if objective == "multiclass":
        assert adoption.problem == ""
        require_predictions(adoption.model)
        return
    assert "with a sum other than 1 for" in adoption.problem
    with pytest.raises(DataError, match="sum other than 1") as refused:
        require_predictions(adoption.model)
    assert "multiclassova" in refused.value.cure


def edit_line(text: str, key: str, value: str) -> str:
    """Replace each number of the first line with a key."""
    line = next(line for line in text.splitlines() if line.startswith(f"{key}="))
    return text.replace(line, f"{key}=" + " ".join([value] * len(line.split())), 1)


EDITS: dict[str, Callable[[str], str]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "huge count": lambda text: edit_line(text, "num_leaves", "2147483647"),
    "no trees in an iteration": lambda text: edit_line(text, "num_tree_per_iteration", "0"),
    "a tree that is its own child": lambda text: edit_line(text, "left_child", "0"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_text_of_lightgbm_is_refused_or_works_and_harms_no_other_process(edit: str, tmp_path: Path) -> None:
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, Y), 3)
    file = tmp_path / "model.txt"
    file.write_text(EDITS[edit](booster.model_to_string()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(DataError):  # or it works
        adoption = adopt_in_child(file, SAMPLES.rename({"a": "Column_0", "b": "Column_1"}), name="text", memory_mb=300)
        assert adoption.model.manifest.data[ADOPTED][PROBED]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_small_file_that_needs_much_memory_is_stopped(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    model.extra = np.zeros(50_000_000)
    file = tmp_path / "model.joblib"
    joblib.dump(model, file, compress=("zlib", 1))
    try:
        problem = adopt_in_child(
            file, SAMPLES, memory_mb=200, name="large", task="classification", classes=("0", "1"), trusted=True
        ).problem
    except DataError as refused:
        problem = refused.problem
    assert "memory" in problem.lower()
    assert file.stat().st_size < 5_000_000


def test_predictions_of_another_form_than_the_signature_are_an_error_with_a_cure() -> None:
    signature = Signature(inputs=(), task="classification", classes=("a", "b", "c"))
    with pytest.raises(DataError, match="another form") as refused:
        require_valid(signature, Predictions(["a"], np.array([[0.4, 0.6]])))
    assert refused.value.cure
