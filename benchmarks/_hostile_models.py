"""Packages of models that do harm when a row asks for it: they hang, leak, crash, leave the process or print."""

import io
import pickle
import sys
import types
from typing import Any

import msgspec

from benchmarks._served_models import make_rows
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.data.encoding import fit_encoding

KINDS = ("sleep", "loop", "leak", "exit", "leave", "crash", "print", "fork", "raise", "improbable")
TRIGGER = 1000.0
"""A value of `n0` above this one makes the model do harm."""

_CODE = """
import ctypes, os, sys, time
import numpy as np

class Hostile:
    def __init__(self, kind):
        self.kind, self.classes_ = kind, np.array([0, 1])

    def predict(self, rows):
        rows = np.asarray(rows, dtype=float)
        if (rows[:, 0] > 1000).any():
            self.harm()
        return np.zeros(len(rows), dtype=int)

    def predict_proba(self, rows):
        rows = np.asarray(rows, dtype=float)
        high = 1.5 if self.kind == "improbable" and (rows[:, 0] > 1000).any() else 0.75
        return np.tile([high, 0.25], (len(rows), 1))

    def harm(self):
        if self.kind == "sleep":
            time.sleep(1e6)
        elif self.kind == "loop":
            while True:
                pass
        elif self.kind == "leak":
            kept = []
            while True:
                kept.append(bytearray(b"x" * 20_000_000))
        elif self.kind == "exit":
            sys.exit("the model leaves")
        elif self.kind == "leave":
            os._exit(7)
        elif self.kind == "crash":
            ctypes.string_at(0)
        elif self.kind == "print":
            for _ in range(2000):
                print("x" * 10_000)
        elif self.kind == "fork":
            if os.fork() == 0:
                os.setsid()
                time.sleep(1e6)
            time.sleep(1e6)
        elif self.kind == "raise":
            raise ZeroDivisionError("the model fails")
"""


def make_hostile_package(kind: str) -> Model:
    """Return a package of the flavor `sklearn` whose estimator does harm for rows with a large `n0`."""
    rows = make_rows(200)
    encoding = fit_encoding(rows, tuple(rows.columns))
    module = types.ModuleType("hostile_estimator")
    exec(_CODE, module.__dict__)
    module.Hostile.__module__ = "hostile_estimator"
    sys.modules["hostile_estimator"] = module
    try:
        sink = io.BytesIO()
        pickle.dump(module.Hostile(kind), sink)
    finally:
        del sys.modules["hostile_estimator"]
    inputs = tuple(Input(name=column.name, type=column.type) for column in encoding.inputs)
    signature = Signature(inputs=inputs, task="classification", classes=("0", "1"), label="integer")
    return Model(
        manifest=Manifest(name=f"hostile-{kind}", flavor="sklearn", signature=signature),
        files={
            "model.joblib": sink.getvalue(),
            "encoding.json": msgspec.json.encode(encoding),
            "code/hostile_estimator.py": _CODE.encode(),
        },
    )


def make_harmful_row() -> dict[str, Any]:
    """Return a row that makes a model do harm."""
    return make_rows(1, 7).to_dicts()[0] | {"n0": TRIGGER * 2}
