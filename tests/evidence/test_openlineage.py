"""The exported events conform to OpenLineage 2-0-2: required fields, formats, and one end for each start."""

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
from tidemill.evidence.openlineage import export_events
from tidemill.evidence.run_details import read_run_details
from tidemill.evidence.sending import send_events

SPEC = "https://openlineage.io/spec/"
# The required fields of the published schema of each facet, and the types of the further fields that Tidemill adds.
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
TIDEMILL_FACET = f"{SPEC}2-0-2/OpenLineage.json#/$defs/RunFacet"


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def export(mill: Mill, run: str) -> list[dict[str, Any]]:
    """Return the events of a run, encoded as JSON and decoded, each checked against the specification."""
    exported: list[dict[str, Any]] = [
        json.decode(json.encode(event)) for event in export_events(read_run_details(mill.books, run), "late")
    ]
    for event in exported:
        check_event(event)
    return exported


def check_event(event: dict[str, Any]) -> None:
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
            assert facet["_schemaURL"] == TIDEMILL_FACET
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


def test_each_job_has_one_start_and_one_end_in_the_order_of_time(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    exported = export(mill, done.id)
    assert [event["eventTime"] for event in exported] == sorted(event["eventTime"] for event in exported)
    jobs = [(event["job"]["name"], event["eventType"]) for event in exported]
    steps = [f"sizing.{name}" for name in done.graph]
    assert sorted(jobs) == sorted((job, kind) for job in ["sizing", *steps] for kind in ("START", "COMPLETE"))
    assert exported[0]["job"]["name"] == "sizing"
    parents = {e["run"]["facets"]["parent"]["run"]["runId"] for e in exported if "parent" in e["run"]["facets"]}
    assert parents == {done.id}


def test_the_output_of_one_step_is_the_input_of_another(mill: Mill) -> None:
    exported = export(mill, mill.run(kit.sizing).id)
    ends = {event["job"]["name"]: event for event in exported if event["eventType"] == "COMPLETE"}
    (table,) = ends["sizing.read"]["outputs"]
    assert table["facets"]["schema"]["fields"] == [{"name": "a", "type": "Int64"}, {"name": "b", "type": "String"}]
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 8
    (table_input,) = ends["sizing.clean"]["inputs"]
    assert (table_input["namespace"], table_input["name"]) == (table["namespace"], table["name"])
    assert table_input["facets"]["version"] == table["facets"]["version"]
    counts = {dataset["name"] for dataset in ends["sizing.join"]["inputs"]}
    assert counts == {"sizing.count.output", "sizing.count-2.output"}, "a list is exported as its members"


def test_a_failure_has_its_message_and_trace(mill: Mill) -> None:
    exported = export(mill, kit.run_failing(mill).id)
    kinds = [(event["job"]["name"], event["eventType"]) for event in exported]
    assert ("failing.fail", "FAIL") in kinds
    assert ("failing", "FAIL") in kinds
    error = next(e for e in exported if e["job"]["name"] == "failing.fail" and e["eventType"] == "FAIL")
    facet = error["run"]["facets"]["errorMessage"]
    assert "ünïcode" in facet["message"]
    assert "RuntimeError" in facet["stackTrace"]


def test_a_running_run_has_only_a_start_and_a_stopped_one_is_aborted(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    mill.books.runs.change(done.id, lambda run: replace(run, state="running", ended=None))
    assert [e["eventType"] for e in export(mill, done.id) if e["job"]["name"] == "sizing"] == ["START"]
    states: tuple[RunState, ...] = ("interrupted", "cancelled", "stopped")
    for state in states:
        mill.books.runs.change(done.id, partial(replace, state=state, ended=NOON))
        assert [e["eventType"] for e in export(mill, done.id) if e["job"]["name"] == "sizing"][-1] == "ABORT"


def test_batches_commit_and_tags_are_exported(mill: Mill) -> None:
    done = mill.run(kit.sizing)
    mill.books.verdicts.add(
        Verdict(
            id="v1", run=done.id, check="schema", subject="late/x.csv@1", outcome="fail", action="stop", reason="bad"
        )
    )
    code = {"commit": "a" * 40, "dirty": False}
    mill.books.runs.change(done.id, lambda run: replace(run, tags={"team": "bläu"}, code=run.code | code))
    first = export(mill, done.id)[0]
    assert first["inputs"][0]["facets"]["version"]["datasetVersion"] == "late/x.csv@1"
    assert first["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"][0]["success"] is False
    assert first["run"]["facets"]["tags"]["tags"][0]["value"] == "bläu"
    assert first["job"]["facets"]["sourceCodeLocation"]["version"] == "a" * 40


class Catalogue(http.server.BaseHTTPRequestHandler):
    """A catalogue that accepts events, and rejects other paths."""

    received: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/v1/lineage":
            self.received.append(body)
        self.send_response(201 if self.path == "/api/v1/lineage" else 404)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@pytest.fixture
def catalogue() -> Iterator[tuple[str, list[bytes]]]:
    """Start a catalogue; yield its address and the list of events that it received."""
    Catalogue.received = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Catalogue) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Catalogue.received
        server.shutdown()
        thread.join()


def test_events_arrive_one_by_one_in_their_order(catalogue: tuple[str, list[bytes]]) -> None:
    address, received = catalogue
    send_events(f"{address}/api/v1/lineage", [b'{"n":1}', b'{"n":2}'])
    assert received == [b'{"n":1}', b'{"n":2}']


def test_a_rejected_event_and_an_unreachable_catalogue_are_errors(catalogue: tuple[str, list[bytes]]) -> None:
    address, _ = catalogue
    with pytest.raises(TidemillError, match="rejected event 1: 404"):
        send_events(f"{address}/elsewhere", [b"{}"])
    with pytest.raises(TidemillError, match="cannot be reached"):
        send_events("http://127.0.0.1:1/", [b"{}"])
    with pytest.raises(InputError, match="not an HTTP URL"):
        send_events("file:///etc/passwd", [b"{}"])
