"""What went into a thing and what was made from it: every way back, no cycle, nothing by accident."""

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


def assert_no_cycle(found: Lineage) -> None:
    done: set[str] = set()

    def visit(node: str, above: tuple[str, ...]) -> None:
        assert node not in above
        if node not in done:
            for child in found.edges.get(node, ()):
                visit(child, (*above, node))
        done.add(node)

    visit(found.subject, ())


def test_upstream_goes_back_to_the_first_inputs_also_through_lists_and_transients(mill: Mill) -> None:
    done = mill.run(kit.telling)
    verdict = mill.steps(done)["judge"].outputs["output"]
    found = kit.traced(mill, verdict)
    assert kit.steps_in(found) == ["clean", "count", "count-2", "join", "judge", "measure", "read", "read-2"]
    assert [node.facts["run"] for node in found.nodes.values() if node.kind == "start"] == [done.id]
    assert [node.kind for node in found.nodes.values()].count("code") == 1
    assert_no_cycle(found)


def test_postgresql_tells_the_same(
    postgres_url: str, tmp_path: Path, mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {}
    for name in ("sqlite", "postgresql"):
        if name == "postgresql":
            monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
            mill = Mill(tmp_path)
        first = mill.run(kit.telling)
        read = mill.steps(first)["read"].outputs["output"]
        ways[name] = [kit.steps_in(kit.traced(mill, *way)) for way in ((first.id[:20], "up"), (read[:12], "down"))]
    assert ways["sqlite"] == ways["postgresql"]


def test_a_run_taken_from_the_cache_tells_the_same_way_back(mill: Mill) -> None:
    mill.run(kit.telling)
    again = mill.run(kit.telling)
    assert mill.states(again)["clean"] == "skipped"
    found = kit.traced(mill, again.id)
    assert set(kit.steps_in(found)) == {"clean", "count", "count-2", "join", "judge", "measure", "read", "read-2"}
    assert {node.facts["run"] for node in found.nodes.values() if node.kind == "step"} == {again.id}


def test_downstream_joins_runs_that_did_the_same_and_keeps_apart_those_that_did_not(mill: Mill) -> None:
    first = mill.run(kit.telling)
    mill.run(kit.telling)
    mill.run(kit.telling, scale=2.0)
    read = mill.steps(first)["read"].outputs["output"]
    found = kit.traced(mill, read, "down")
    assert kit.steps_in(found).count("measure") == 2
    assert "join" in kit.steps_in(found), "it took a list, which has a digest of its own"
    assert "the same in 1 more run" in next(n.text for n in found.nodes.values() if n.text.startswith("step clean"))
    assert_no_cycle(found)


def test_a_small_value_that_unrelated_steps_give_leads_nowhere_else(mill: Mill) -> None:
    done = mill.run(kit.telling, rows=2)
    other = mill.run(kit.telling, rows=2, scale=3.0)
    found = kit.traced(mill, done.id, "down")
    assert {node.facts["run"] for node in found.nodes.values() if node.kind == "step"} == {done.id}
    assert other.id not in found.nodes


def test_depth_cuts_and_says_where(mill: Mill) -> None:
    done = mill.run(kit.telling)
    found = kit.traced(mill, done.id, depth=2)
    assert found.cut
    assert kit.steps_in(found) == ["judge"]
    assert "…" in as_text(found)


def test_a_step_that_gives_what_it_took_makes_no_cycle(mill: Mill) -> None:
    run = Run(
        id="a" * 36, pipeline="p", environment="test", state="done", started=NOON, graph={"one": [], "same": ["one"]}
    )
    mill.books.runs.add(run)
    mill.books.artifacts.add(Artifact("d" * 64, "frame", 999, {"rows": 3}))
    for place, (name, inputs) in enumerate({"one": {}, "same": {"frame": "d" * 64}}.items()):
        mill.books.steps.add(a_step(run.id, name, place, inputs, {"output": "d" * 64}))
    for direction in ("up", "down"):
        for subject in ("d" * 64, run.id):
            found = kit.traced(mill, subject, direction)
            assert_no_cycle(found)
            assert as_text(found)


def a_step(run: str, name: str, place: int, inputs: dict[str, str], outputs: dict[str, str]) -> StepRun:
    return StepRun(
        id=f"{run[:8]}-{name}-{place}",
        run=run,
        step=name,
        position=place,
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


def test_a_big_fan_out_is_folded_with_its_count(mill: Mill) -> None:
    names = [f"part[{place}]" for place in range(300)]
    run = Run(
        id="b" * 36, pipeline="p", environment="test", state="done", started=NOON, graph={"part": [], "sum": ["part"]}
    )
    mill.books.runs.add(run)
    for name in names:
        mill.books.steps.add(a_step(run.id, name, 0, {}, {"output": name.encode().hex().zfill(64)}))
    mill.books.steps.add(a_step(run.id, "sum", 1, {"parts": "e" * 64}, {"output": "f" * 64}))
    found = kit.traced(mill, run.id)
    assert found.folded == {f"{'b' * 8}-sum-1": 280}
    assert "… and 280 more" in as_text(found)


def test_a_release_leads_down_to_its_routes_and_up_to_what_was_compared_with(mill: Mill) -> None:
    done = mill.run(kit.telling)
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
    down = kit.traced(mill, "late/3", "down")
    assert [node.kind for node in down.nodes.values()] == ["release", "route"]
    assert "read" in kit.steps_in(kit.traced(mill, "late/3"))
    assert "late/3" in kit.traced(mill, package, "down").nodes
    later = Run(id="c" * 36, pipeline="p", environment="test", state="done", started=NOON, graph={"find": []})
    mill.books.runs.add(later)
    mill.books.steps.add(a_step(later.id, "find", 0, {}, {"output": package}))
    up = kit.traced(mill, later.id)
    assert "late/3" in up.nodes
    assert "late/3" not in up.edges, "what was compared with has a lineage of its own"


def test_the_event_that_started_a_run_is_told(mill: Mill) -> None:
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
    done = mill.run(kit.telling)
    mill.books.runs.change(done.id, lambda run: replace(run, cause={"trigger": "new data", "event": event.id}))
    assert "event data of flights  a new file" in as_text(kit.traced(mill, done.id))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("late/99", NotFound, "no release 'late/99'"),
        ("late/", NotFound, "no release"),
        ("0000", NotFound, "nothing has the id"),
        ("ab", InputError, "too short"),
        ("", InputError, "too short"),
        ("%%%%", NotFound, "nothing has the id"),
        ("日本語の", NotFound, "nothing has the id"),
    ],
)
def test_what_names_nothing_says_so(mill: Mill, text: str, error: type[InputError], said: str) -> None:
    mill.run(kit.telling)
    with pytest.raises(error, match=said):
        identify(mill.books, text)


def test_the_beginning_of_several_ids_is_ambiguous_and_lists_them(mill: Mill) -> None:
    first, second = mill.run(kit.telling), mill.run(kit.telling)
    with pytest.raises(InputError, match=f"{'.*'.join(sorted((first.id, second.id)))}.* — give more letters"):
        identify(mill.books, first.id[:13])
    assert identify(mill.books, second.id.upper()).id == second.id
    digest = mill.steps(first)["read"].outputs["output"]
    assert identify(mill.books, digest[:12]).kind == "artifact"


def test_the_picture_holds_every_line_escaped(mill: Mill) -> None:
    mill.books.runs.add(
        Run(id="d" * 36, pipeline="<script>&", environment="test", state="failed", started=NOON + timedelta(1))
    )
    found = kit.traced(mill, "d" * 36)
    assert "<script>" not in as_svg(found)
    assert as_svg(found).count("<rect") == len(as_text(found).splitlines())


def test_what_was_collected_is_told_and_still_traced(mill: Mill) -> None:
    done = mill.run(kit.telling)
    digest = mill.steps(done)["read"].outputs["output"]
    mill.books.artifacts.change(digest, lambda artifact: replace(artifact, collected=NOON))
    found = kit.traced(mill, digest)
    assert "collected 2013-03-01 12:00:00 UTC" in found.nodes[digest].text
    assert kit.steps_in(found) == ["read"]
