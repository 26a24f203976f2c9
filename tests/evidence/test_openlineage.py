"""The exported events hold to OpenLineage 2-0-2: every required field, every format, one end for each start."""

import http.server
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from msgspec import json
from msgspec.structs import replace

from tests.evidence import kit
from tests.flow.kit import NOON, Mill
from tidemill.core.check import Verdict
from tidemill.core.run import RunState
from tidemill.errors import InputError, TidemillError
from tidemill.evidence.openlineage import events
from tidemill.evidence.sending import send
from tidemill.evidence.story import story_of

SPEC = "https://openlineage.io/spec/"
# What the published schema of each facet requires, and the types of what we put into it beside.
FACETS: dict[str, dict[str, type]] = {
    "facets/1-2-0/ParentRunFacet": {"run": dict, "job": dict, "root": dict},
    "facets/1-0-1/ErrorMessageRunFacet": {"message": str, "programmingLanguage": str},
    "facets/1-1-1/ProcessingEngineRunFacet": {"version": str, "name": str},
    "facets/1-0-0/TagsRunFacet": {"tags": list},
    "facets/2-0-4/JobTypeJobFacet": {"processingType": str, "integration": str, "jobType": str},
    "facets/1-1-0/SourceCodeLocationJobFacet": {"type": str, "url": str, "version": str, "path": str},
    "facets/1-0-1/DatasetVersionDatasetFacet": {"datasetVersion": str},
    "facets/1-2-0/SchemaDatasetFacet": {"fields": list},
    "facets/1-0-0/InputStatisticsInputDatasetFacet": {"size": int},
    "facets/1-0-2/OutputStatisticsOutputDatasetFacet": {"size": int},
    "facets/1-1-0/DataQualityAssertionsDatasetFacet": {"assertions": list},
}
OWN = f"{SPEC}2-0-2/OpenLineage.json#/$defs/RunFacet"


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def exported(mill: Mill, run: str) -> list[dict[str, Any]]:
    """The events of a run, through JSON, each held to the specification."""
    told: list[dict[str, Any]] = [
        json.decode(json.encode(event)) for event in events(story_of(mill.books, run), "late")
    ]
    for event in told:
        hold(event)
    return told


def hold(event: dict[str, Any]) -> None:
    assert event["eventType"] in ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert urlsplit(event["producer"]).scheme
    assert event["schemaURL"] == f"{SPEC}2-0-2/OpenLineage.json#/$defs/RunEvent"
    hold_run(event["run"])
    hold_job(event["job"])
    for side, facets in (("inputs", "inputFacets"), ("outputs", "outputFacets")):
        for dataset in event[side]:
            assert dataset.keys() <= {"namespace", "name", "facets", facets}
            assert dataset["name"]
            assert urlsplit(dataset["namespace"]).scheme == "tidemill"
            hold_facets(dataset["facets"] | dataset.get(facets, {}))


def hold_run(run: dict[str, Any]) -> None:
    assert str(UUID(run["runId"])) == run["runId"]
    hold_facets(run.get("facets", {}))


def hold_job(job: dict[str, Any]) -> None:
    assert job["namespace"]
    assert job["name"]
    hold_facets(job.get("facets", {}))


def hold_facets(facets: dict[str, Any]) -> None:
    for name, facet in facets.items():
        assert urlsplit(facet["_producer"]).scheme
        if name.startswith("tidemill_"):
            assert facet["_schemaURL"] == OWN
            continue
        url = re.fullmatch(rf"{SPEC}(.+)\.json#/\$defs/(\w+)", facet["_schemaURL"])
        assert url is not None
        assert url[1].endswith(f"/{url[2]}")
        for key, kind in FACETS[url[1]].items():
            assert isinstance(facet[key], kind), (name, key)
        for key in ("run", "root"):
            if key in facet:
                hold_run(facet[key]["run"] if key == "root" else facet[key])
    for field in facets.get("schema", {}).get("fields", ()):
        assert field["name"]
    if "sourceCodeLocation" in facets:
        assert urlsplit(facets["sourceCodeLocation"]["url"]).scheme


def test_each_job_starts_and_ends_once_in_the_order_of_time(mill: Mill) -> None:
    done = mill.run(kit.telling)
    told = exported(mill, done.id)
    assert [event["eventTime"] for event in told] == sorted(event["eventTime"] for event in told)
    jobs = [(event["job"]["name"], event["eventType"]) for event in told]
    steps = [f"telling.{name}" for name in done.graph]
    assert sorted(jobs) == sorted((job, kind) for job in ["telling", *steps] for kind in ("START", "COMPLETE"))
    assert told[0]["job"]["name"] == "telling"
    parents = {e["run"]["facets"]["parent"]["run"]["runId"] for e in told if "parent" in e["run"]["facets"]}
    assert parents == {done.id}


def test_what_one_step_gives_is_what_another_takes(mill: Mill) -> None:
    told = exported(mill, mill.run(kit.telling).id)
    ends = {event["job"]["name"]: event for event in told if event["eventType"] == "COMPLETE"}
    (table,) = ends["telling.read"]["outputs"]
    assert table["facets"]["schema"]["fields"] == [{"name": "a", "type": "Int64"}, {"name": "b", "type": "String"}]
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 8
    (taken,) = ends["telling.clean"]["inputs"]
    assert (taken["namespace"], taken["name"]) == (table["namespace"], table["name"])
    assert taken["facets"]["version"] == table["facets"]["version"]
    counts = {dataset["name"] for dataset in ends["telling.join"]["inputs"]}
    assert counts == {"telling.count.output", "telling.count-2.output"}, "a list is its members"


def test_a_failure_has_its_message_and_trace_and_skipped_steps_no_events(mill: Mill) -> None:
    told = exported(mill, kit.failed(mill).id)
    kinds = [(event["job"]["name"], event["eventType"]) for event in told]
    assert ("failing.trip", "FAIL") in kinds
    assert ("failing", "FAIL") in kinds
    error = next(e for e in told if e["job"]["name"] == "failing.trip" and e["eventType"] == "FAIL")
    facet = error["run"]["facets"]["errorMessage"]
    assert "ünïcode" in facet["message"]
    assert "RuntimeError" in facet["stackTrace"]


def test_what_goes_on_has_a_start_alone_and_what_was_broken_off_is_aborted(mill: Mill) -> None:
    done = mill.run(kit.telling)
    mill.books.runs.change(done.id, lambda run: replace(run, state="running", ended=None))
    assert [e["eventType"] for e in exported(mill, done.id) if e["job"]["name"] == "telling"] == ["START"]
    states: tuple[RunState, ...] = ("interrupted", "cancelled", "stopped")
    for state in states:
        mill.books.runs.change(done.id, partial(replace, state=state, ended=NOON))
        assert [e["eventType"] for e in exported(mill, done.id) if e["job"]["name"] == "telling"][-1] == "ABORT"


def test_batches_commit_and_tags_are_told(mill: Mill) -> None:
    done = mill.run(kit.telling)
    mill.books.verdicts.add(
        Verdict(
            id="v1", run=done.id, check="schema", subject="late/x.csv@1", outcome="fail", action="stop", reason="bad"
        )
    )
    code = {"commit": "a" * 40, "dirty": False}
    mill.books.runs.change(done.id, lambda run: replace(run, tags={"team": "bläu"}, code=run.code | code))
    first = exported(mill, done.id)[0]
    assert first["inputs"][0]["facets"]["version"]["datasetVersion"] == "late/x.csv@1"
    assert first["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"][0]["success"] is False
    assert first["run"]["facets"]["tags"]["tags"][0]["value"] == "bläu"
    assert first["job"]["facets"]["sourceCodeLocation"]["version"] == "a" * 40


class Catalogue(http.server.BaseHTTPRequestHandler):
    """Takes events, and refuses what is not JSON or comes to the wrong place."""

    taken: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/v1/lineage":
            self.taken.append(body)
        self.send_response(201 if self.path == "/api/v1/lineage" else 404)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def catalogue() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a catalogue, and what it has taken."""
    Catalogue.taken = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Catalogue) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Catalogue.taken
        server.shutdown()
        thread.join()


def test_events_arrive_one_by_one_in_their_order(catalogue: tuple[str, list[bytes]]) -> None:
    address, taken = catalogue
    send(f"{address}/api/v1/lineage", [b'{"n":1}', b'{"n":2}'])
    assert taken == [b'{"n":1}', b'{"n":2}']


def test_a_refusal_and_silence_are_told_with_their_cure(catalogue: tuple[str, list[bytes]]) -> None:
    address, _ = catalogue
    with pytest.raises(TidemillError, match="refused event 1: 404"):
        send(f"{address}/elsewhere", [b"{}"])
    with pytest.raises(TidemillError, match="cannot be reached"):
        send("http://127.0.0.1:1/", [b"{}"])
    with pytest.raises(InputError, match="no address"):
        send("file:///etc/passwd", [b"{}"])
