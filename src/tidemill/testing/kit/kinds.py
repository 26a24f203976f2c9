"""The kinds of tests that a project of machine learning needs, and the command or the edit that adds each."""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of test: its name in `@pytest.mark.covers(...)`, its meaning, and the generated file that has it."""

    name: str
    meaning: str
    file: str
    cure: str = ""

    @property
    def how_to_add(self) -> str:
        """Return the command or the edit that adds a test of this kind."""
        return self.cure or f"tidemill ci generate-tests (writes {self.file})"


_FEATURES, _MODEL, _PIPELINE, _DATA = (f"tests/test_{name}.py" for name in ("features", "model", "pipeline", "data"))

KINDS = (
    Kind("feature_logic", "each transformation computes a row from the row alone, for any rows", _FEATURES),
    Kind("offline_online", "training and serving have equal features for an entity and a time", _FEATURES),
    Kind("finite", "no NaN or infinity from zero, tiny, huge or missing inputs", _FEATURES),
    Kind("model_methods", "encoders keep each level, and treat an unseen one as declared", _MODEL),
    Kind("convergence", "the loss falls, and a model overfits a few records", _MODEL),
    Kind("determinism", "two trainings with one seed give equal results", _MODEL),
    Kind("artifacts", "each step returns what it declares", _PIPELINE),
    Kind("integration", "the steps fit together: the pipeline trains on a sample", _PIPELINE),
    Kind("secrets", "no step and no prediction prints a secret", _PIPELINE),
    Kind("label", "the label has its type and its classes", _DATA),
    Kind("data", "the rows pass the schema and the data checks", _DATA),
    Kind("gate", "a model of the sample passes the gate", _DATA),
    Kind("leakage", "no input is known only after the prediction", _DATA),
    Kind(
        "expectations",
        "what you know of the problem: inputs that change nothing, and directions",
        "tests/test_expectations.py",
        "state one in tests/expectations.toml; `tidemill ci generate-tests` writes the file with examples",
    ),
)
