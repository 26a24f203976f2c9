"""A pipeline with something of everything that a crash could spoil; its runs are killed by `crashing.py`."""

from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy, Problem, Rollout, Watch, WatchValue
from tidemill.core.resources import Books, Online
from tidemill.core.run import Metrics
from tidemill.recipes.training import release

POLICY = ModelPolicy(
    rollout=Rollout(during_canary="replace"),
    name="late",
    problem=Problem(decision="d", source="rows", label="late"),
    watch=Watch(values=(WatchValue(value="age", limit=30, action="retrain"),)),
)


@step
def load(rows: int, salt: str) -> list[int]:
    return [len(salt) + number for number in range(rows)]


@step(transient=True)
def widen(numbers: list[int]) -> list[list[int]]:
    return [numbers, numbers]


@step
def fit(wide: list[list[int]], salt: str) -> tuple[Model, Metrics]:
    manifest = Manifest(name="late", flavor="lightgbm", signature=Signature(inputs=(), task="regression"))
    model = Model(manifest=manifest, files={"weights": repr((wide, salt)).encode() * 50})
    return model, Metrics(values={"sum": float(sum(map(sum, wide)))}, about="test")


@step
def weigh(number: int) -> int:
    return number * 2


@step
def gate(model: Model, weights: list[int]) -> Verdict:
    reason = f"{len(model.files)} files, {sum(weights)}"
    return Verdict(check="gate", subject="late", outcome="pass", action="retrain", reason=reason)


@step
def write(numbers: list[int], online: Online, books: Books, context: Context) -> int:
    run = books.runs.get(context.run)
    online.write("numbers", [(context.run, run.started, {"count": len(numbers)})])
    return len(numbers)


@pipeline
def crashing(salt: str, rows: int = 4) -> None:
    numbers = load(rows, salt)
    model, _ = fit(widen(numbers), salt)
    gate(model, weigh.map(numbers))
    write(numbers)
    release(model, POLICY)
