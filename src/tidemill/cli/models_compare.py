"""`models compare`: shows how two releases differ."""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tidemill.cli import output
from tidemill.cli.models import LabelArgument, models, read_test_metrics
from tidemill.cli.session import EnvironmentOption, Json, load_session

if TYPE_CHECKING:
    from tidemill.core.model import Model
    from tidemill.core.release import Release
    from tidemill.flow.session import Session

_Pairs = dict[str, tuple[Any, Any]]


class ReleaseFacts(Struct, frozen=True, kw_only=True):
    """The facts of a release that are compared."""

    release: str
    stage: str
    metrics: dict[str, float]
    slices: dict[str, dict[str, float]]
    environment: dict[str, str]
    data: dict[str, Any]
    test_rows: str


class ReleaseComparison(Struct, frozen=True, kw_only=True):
    """Two releases: all metrics and slices as (a, b), and the differences of signature, packages and data.

    Metrics can be subtracted where they are of the `same_test_rows`.
    """

    a: str
    b: str
    stages: tuple[str, str]
    metrics: _Pairs
    slices: _Pairs
    same_test_rows: bool
    signature: list[str]
    environment: _Pairs
    data: _Pairs


@models.command("compare")
def compare(a: LabelArgument, b: LabelArgument, env: EnvironmentOption = "production", json: Json = False) -> None:
    """Compare two releases: metrics, slices, signature, packages and data."""
    from tidemill.checks.package import compare_signatures
    from tidemill.ledger.releases import find_release

    session = load_session(env)
    releases = [find_release(session.workspace.ledger, label) for label in (a, b)]
    packed = [session.packages.load(release.package) for release in releases]
    first, second = (_read_facts(session, release, model, env) for release, model in zip(releases, packed, strict=True))
    compared = ReleaseComparison(
        a=first.release,
        b=second.release,
        stages=(first.stage, second.stage),
        metrics=_pair(first.metrics, second.metrics),
        slices=_pair(_flatten(first.slices), _flatten(second.slices)),
        same_test_rows=bool(first.test_rows) and first.test_rows == second.test_rows,
        signature=compare_signatures(packed[0].manifest.signature, packed[1].manifest.signature),
        environment=_find_differences(first.environment, second.environment),
        data=_find_differences(first.data, second.data),
    )
    output.print_json(compared) if json else _print(compared)


def _read_facts(session: "Session", release: "Release", model: "Model", env: str) -> ReleaseFacts:
    from tidemill.registry.routing import list_routes
    from tidemill.registry.stages import find_stage

    lock = model.files.get("requirements.txt", b"").decode().split()
    locked = dict(line.split("==", 1) for line in lock if "==" in line)
    measured = read_test_metrics(session, release.run)
    return ReleaseFacts(
        release=release.label,
        stage=find_stage(release.label, list_routes(session.workspace.ledger, env, release.name)),
        metrics=release.metrics,
        slices=measured.slices,
        environment=model.manifest.environment | locked,
        data=release.data,
        test_rows=measured.rows,
    )


def _flatten(slices: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{name} {metric}": value for name, values in slices.items() for metric, value in values.items()}


def _pair(first: dict[str, Any], second: dict[str, Any]) -> _Pairs:
    return {name: (first.get(name), second.get(name)) for name in dict.fromkeys((*first, *second))}


def _find_differences(first: dict[str, Any], second: dict[str, Any]) -> _Pairs:
    return {name: pair for name, pair in _pair(first, second).items() if pair[0] != pair[1]}


def _print(comparison: ReleaseComparison) -> None:
    output.out.print(f"a  {comparison.a} ({comparison.stages[0]})\nb  {comparison.b} ({comparison.stages[1]})")
    for title, pairs in (("metric", comparison.metrics), ("slice", comparison.slices)):
        if pairs:
            rows = [[name, output.format_cell(a), output.format_cell(b)] for name, (a, b) in pairs.items()]
            if comparison.same_test_rows:
                rows = [[*row, _format_difference(*pair)] for row, pair in zip(rows, pairs.values(), strict=True)]
            output.print_table((title, "a", "b", *(["b - a"] if comparison.same_test_rows else [])), rows)
    if comparison.metrics and not comparison.same_test_rows:
        output.out.print("the metrics are of different test rows: they cannot be subtracted")
        output.out.print("`tidemill checks list --check gate` shows candidates and champions on the same rows")
    for line in comparison.signature or ["signature: equal"]:
        output.out.print(line)
    for title, pairs in (("package", comparison.environment), ("data", comparison.data)):
        if pairs:
            output.print_table(
                (title, "a", "b"),
                [[name, output.format_cell(a), output.format_cell(b)] for name, (a, b) in pairs.items()],
            )
        else:
            output.out.print(f"{title}: equal")


def _format_difference(a: Any, b: Any) -> str:
    return f"{b - a:+.4f}" if isinstance(a, float) and isinstance(b, float) else ""
