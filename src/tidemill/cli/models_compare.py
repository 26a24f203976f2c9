"""`models compare`: lays two releases side by side."""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tidemill.cli import output
from tidemill.cli.models import Label, measured_of, models
from tidemill.cli.session import Environment, Json, session_here

if TYPE_CHECKING:
    from tidemill.core.model import Model
    from tidemill.core.release import Release
    from tidemill.flow.session import Session

_Pairs = dict[str, tuple[Any, Any]]


class Side(Struct, frozen=True, kw_only=True):
    """What there is to compare of one release."""

    release: str
    stage: str
    metrics: dict[str, float]
    slices: dict[str, dict[str, float]]
    environment: dict[str, str]
    data: dict[str, Any]


class Compared(Struct, frozen=True, kw_only=True):
    """Two releases: their metrics and slices as (a, b), what differs in their signatures, locks and data."""

    a: str
    b: str
    stages: tuple[str, str]
    metrics: _Pairs
    slices: _Pairs
    signature: list[str]
    environment: _Pairs
    data: _Pairs


@models.command("compare")
def compare(a: Label, b: Label, env: Environment = "production", json: Json = False) -> None:
    """Lay two releases side by side: metrics, slices, signature, environment and data."""
    from tidemill.checks.package import differences
    from tidemill.ledger.releases import find_release

    session = session_here(env)
    found = [find_release(session.workspace.ledger, label) for label in (a, b)]
    packed = [session.packages.load(release.package) for release in found]
    one, two = (_side(session, release, model, env) for release, model in zip(found, packed, strict=True))
    compared = Compared(
        a=one.release,
        b=two.release,
        stages=(one.stage, two.stage),
        metrics=_paired(one.metrics, two.metrics),
        slices=_paired(_flat(one.slices), _flat(two.slices)),
        signature=differences(packed[0].manifest.signature, packed[1].manifest.signature),
        environment=_apart(one.environment, two.environment),
        data=_apart(one.data, two.data),
    )
    output.as_json(compared) if json else _tell(compared)


def _side(session: "Session", release: "Release", model: "Model", env: str) -> Side:
    from tidemill.registry.routing import history
    from tidemill.registry.stages import stage_of

    lock = model.files.get("requirements.txt", b"").decode().split()
    locked = dict(line.split("==", 1) for line in lock if "==" in line)
    return Side(
        release=release.label,
        stage=stage_of(release.label, history(session.workspace.ledger, env, release.name)),
        metrics=release.metrics,
        slices=measured_of(session, release.run).slices,
        environment=model.manifest.environment | locked,
        data=release.data,
    )


def _flat(slices: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{name} {metric}": value for name, values in slices.items() for metric, value in values.items()}


def _paired(one: dict[str, Any], two: dict[str, Any]) -> _Pairs:
    return {name: (one.get(name), two.get(name)) for name in dict.fromkeys((*one, *two))}


def _apart(one: dict[str, Any], two: dict[str, Any]) -> _Pairs:
    return {name: pair for name, pair in _paired(one, two).items() if pair[0] != pair[1]}


def _tell(found: Compared) -> None:
    output.out.print(f"a  {found.a} ({found.stages[0]})\nb  {found.b} ({found.stages[1]})")
    for title, pairs in (("metric", found.metrics), ("slice", found.slices)):
        if pairs:
            rows = [[name, output.cell(a), output.cell(b), _moved(a, b)] for name, (a, b) in pairs.items()]
            output.table((title, "a", "b", "b - a"), rows)
    for line in found.signature or ["signature: the same"]:
        output.out.print(line)
    for title, pairs in (("package", found.environment), ("data", found.data)):
        if pairs:
            output.table((title, "a", "b"), [[name, output.cell(a), output.cell(b)] for name, (a, b) in pairs.items()])
        else:
            output.out.print(f"{title}: the same")


def _moved(a: Any, b: Any) -> str:
    return f"{b - a:+.4f}" if isinstance(a, float) and isinstance(b, float) else ""
