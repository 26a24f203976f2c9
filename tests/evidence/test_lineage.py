"""Lineage: the inputs of a record and the records created from it, complete and without cycles."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.evidence import kit
from tests.flow.kit import NOON, Mill
from tidemill.core.artifact import Artifact
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Arm, Route
from tidemill.core.run import Run, StepRun
from tidemill.errors import InputError, NotFound
from tidemill.evidence.identify import identify
from tidemill.evidence.lineage import Lineage
from tidemill.evidence.tree import as_svg, as_text


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def assert_no_cycle(lineage: Lineage) -> None:
    done: set[str] = set()

    def visit(node: str, above: tuple[str, ...]) -> None:
        assert node not in above
        if node not in done:
            for child in lineage.edges.get(node, ()):
                visit(child, (*above, node))
        done.add(node)

    visit(lineage.subject, ())


def test_upstream_follows_lists_and_transient_values_to_the_first_inputs(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    verdict = mill.steps(done)["judge"].outputs["output"]
    lineage = kit.trace(mill, verdict)
    assert kit.list_steps(lineage) == ["clean", "count", "count-2", "join", "judge", "measure", "read", "read-2"]
    assert [node.facts["run"] for node in lineage.nodes.values() if node.kind == "start"] == [done.id]
    assert [node.kind for node in lineage.nodes.values()].count("code") == 1
    assert_no_cycle(lineage)


def test_postgresql_has_the_same_lineage(
    postgres_url: str, tmp_path: Path, mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {}
    for name in ("sqlite", "postgresql"):
        if name == "postgresql":
            monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
            mill = Mill(tmp_path)
        first = mill.run(kit.sizing)
        read = mill.steps(first)["read"].outputs["output"]
        steps[name] = [kit.list_steps(kit.trace(mill, *walk)) for walk in ((first.id[:20], "up"), (read[:12], "down"))]
    assert steps["sqlite"] == steps["postgresql"]


def test_a_cached_run_has_the_same_upstream_lineage(mill: Mill) -> None:
    mill.run(kit.sizing)
    again = mill.run(kit.sizing)
    assert mill.states(again)["clean"] == "skipped"
    lineage = kit.trace(mill, again.id)
    assert set(kit.list_steps(lineage)) == {"clean", "count", "count-2", "join", "judge", "measure", "read", "read-2"}
    assert {node.facts["run"] for node in lineage.nodes.values() if node.kind == "step"} == {again.id}


def test_downstream_groups_runs_with_equal_outputs(mill: Mill) -> None:
    first = mill.run(kit.sizing)
    mill.run(kit.sizing)
    mill.run(kit.sizing, scale=2.0)
    read = mill.steps(first)["read"].outputs["output"]
    lineage = kit.trace(mill, read, "down")
    assert kit.list_steps(lineage).count("measure") == 2
    assert "join" in kit.list_steps(lineage), "its input is a list, which has its own digest"
    assert "same in 1 more run" in next(n.text for n in lineage.nodes.values() if n.text.startswith("step clean"))
    assert_no_cycle(lineage)


def test_a_small_value_does_not_connect_unrelated_steps(mill: Mill) -> None:
    done = mill.run(kit.sizing, rows=2)
    other = mill.run(kit.sizing, rows=2, scale=3.0)
    lineage = kit.trace(mill, done.id, "down")
    assert {node.facts["run"] for node in lineage.nodes.values() if node.kind == "step"} == {done.id}
    assert other.id not in lineage.nodes


def test_depth_limits_the_lineage_and_marks_the_limit(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    lineage = kit.trace(mill, done.id, depth=2)
    assert lineage.cut
    assert kit.list_steps(lineage) == ["judge"]
    assert "…" in as_text(lineage)


def test_a_step_whose_output_is_its_input_creates_no_cycle(mill: Mill) -> None:
    run = Run(
        id="a" * 36, pipeline="p", environment="test", state="done", started=NOON, graph={"one": [], "same": ["one"]}
    )
    mill.books.runs.add(run)
    mill.books.artifacts.add(Artifact("d" * 64, "frame", 999, {"rows": 3}))
    for position, (name, inputs) in enumerate({"one": {}, "same": {"frame": "d" * 64}}.items()):
        mill.books.steps.add(create_step(run.id, name, position, inputs, {"output": "d" * 64}))
    for direction in ("up", "down"):
        for subject in ("d" * 64, run.id):
            lineage = kit.trace(mill, subject, direction)
            assert_no_cycle(lineage)
            assert as_text(lineage)


def create_step(run: str, name: str, position: int, inputs: dict[str, str], outputs: dict[str, str]) -> StepRun:
    return StepRun(
        id=f"{run[:8]}-{name}-{position}",
        run=run,
        step=name,
        position=position,
        state="ran",
        reason="",
        key=f"{run}{name}",
        code="c" * 64,
        executor="inline",
        started=NOON,
        seconds=0.1,
        inputs=inputs,
        outputs=outputs,
    )


def test_a_large_fan_out_is_shortened_with_its_count(mill: Mill) -> None:
    names = [f"part[{index}]" for index in range(300)]
    run = Run(
        id="b" * 36, pipeline="p", environment="test", state="done", started=NOON, graph={"part": [], "sum": ["part"]}
    )
    mill.books.runs.add(run)
    for name in names:
        mill.books.steps.add(create_step(run.id, name, 0, {}, {"output": name.encode().hex().zfill(64)}))
    mill.books.steps.add(create_step(run.id, "sum", 1, {"parts": "e" * 64}, {"output": "f" * 64}))
    lineage = kit.trace(mill, run.id)
    assert lineage.folded == {f"{'b' * 8}-sum-1": 280}
    assert "… and 280 more" in as_text(lineage)


def test_a_release_has_its_routes_downstream_and_the_compared_release_upstream(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    package = mill.steps(done)["read"].outputs["output"]
    release = Release(
        id=mill.session.clock.mint(),
        name="late",
        version=3,
        package=package,
        flavor="none",
        environment="test",
        created=NOON,
        run=done.id,
    )
    mill.books.releases.add(release)
    arm = Arm(release="late/3", version=3, package=package, role="champion", share=1.0)
    mill.books.routes.add(
        Route(id="r1", environment="test", model="late", version=1, arms=(arm,), since=NOON, reason="the first")
    )
    down = kit.trace(mill, "late/3", "down")
    assert [node.kind for node in down.nodes.values()] == ["release", "route"]
    assert "read" in kit.list_steps(kit.trace(mill, "late/3"))
    assert "late/3" in kit.trace(mill, package, "down").nodes
    later = Run(id="c" * 36, pipeline="p", environment="test", state="done", started=NOON, graph={"find": []})
    mill.books.runs.add(later)
    mill.books.steps.add(create_step(later.id, "find", 0, {}, {"output": package}))
    up = kit.trace(mill, later.id)
    assert "late/3" in up.nodes
    assert "late/3" not in up.edges, "the compared release has its own lineage"


def test_the_event_that_started_a_run_is_in_its_lineage(mill: Mill) -> None:
    event = Event(
        id="e" * 36,
        kind="data",
        environment="test",
        subject="flights",
        time=NOON,
        known_at=NOON,
        dedupe_key="x",
        payload={"reason": "a new file"},
    )
    mill.books.events.add(event)
    done = mill.run(kit.sizing)
    mill.books.runs.change(done.id, lambda run: replace(run, cause={"trigger": "new data", "event": event.id}))
    assert "event data of flights  a new file" in as_text(kit.trace(mill, done.id))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("late/99", NotFound, "release 'late/99' does not exist"),
        ("late/", NotFound, "has no version"),
        ("0000", NotFound, "no record has the id"),
        ("ab", InputError, "too short"),
        ("", InputError, "too short"),
        ("%%%%", NotFound, "no record has the id"),
        ("日本語の", NotFound, "no record has the id"),
    ],
)
def test_an_unknown_id_is_an_error(mill: Mill, text: str, error: type[InputError], message: str) -> None:
    mill.run(kit.sizing)
    with pytest.raises(error, match=message):
        identify(mill.books, text)


def test_an_ambiguous_prefix_is_an_error_that_lists_the_ids(mill: Mill) -> None:
    first, second = mill.run(kit.sizing), mill.run(kit.sizing)
    with pytest.raises(InputError, match=f"{'.*'.join(sorted((first.id, second.id)))}.* — use more characters"):
        identify(mill.books, first.id[:13])
    assert identify(mill.books, second.id.upper()).id == second.id
    digest = mill.steps(first)["read"].outputs["output"]
    assert identify(mill.books, digest[:12]).kind == "artifact"


def test_the_svg_image_contains_every_line_escaped(mill: Mill) -> None:
    mill.books.runs.add(
        Run(id="d" * 36, pipeline="<script>&", environment="test", state="failed", started=NOON + timedelta(1))
    )
    lineage = kit.trace(mill, "d" * 36)
    assert "<script>" not in as_svg(lineage)
    assert as_svg(lineage).count("<rect") == len(as_text(lineage).splitlines())


def test_a_collected_artifact_is_marked_and_keeps_its_lineage(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    digest = mill.steps(done)["read"].outputs["output"]
    mill.books.artifacts.change(digest, lambda artifact: replace(artifact, collected=NOON))
    lineage = kit.trace(mill, digest)
    assert "collected 2013-03-01 12:00:00 UTC" in lineage.nodes[digest].text
    assert kit.list_steps(lineage) == ["read"]
