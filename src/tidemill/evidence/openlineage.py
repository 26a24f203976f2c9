"""Exports a run as OpenLineage events (specification 2-0-2, https://openlineage.io)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from tidemill.core.artifact import Artifact
from tidemill.core.run import StepRun
from tidemill.evidence.formatting import find_end
from tidemill.evidence.run_details import RunDetails, find_last_attempts, find_sources

_SPEC = "https://openlineage.io/spec"
_EVENT_URL = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs"
_VERSION = version("tidemill")
_PRODUCER = f"urn:tidemill:{_VERSION}"
_END_TYPES = {"done": "COMPLETE", "ran": "COMPLETE", "cached": "COMPLETE", "failed": "FAIL"}
_FACETS = {
    "ParentRunFacet": "1-2-0",
    "ErrorMessageRunFacet": "1-0-1",
    "ProcessingEngineRunFacet": "1-1-1",
    "TagsRunFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "SourceCodeLocationJobFacet": "1-1-0",
    "DatasetVersionDatasetFacet": "1-0-1",
    "SchemaDatasetFacet": "1-2-0",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "DataQualityAssertionsDatasetFacet": "1-1-0",
}
OpenLineageEvent = dict[str, Any]


def export_events(details: RunDetails, project: str) -> Iterator[OpenLineageEvent]:
    """Yield the events of a run and of its steps in the order of their times: a START each, and an end if it stopped.

    A job is the pipeline or `pipeline.step`, in the namespace `tidemill://PROJECT/ENVIRONMENT`; a dataset is
    `pipeline.step.output`, its version is the digest of the artifact. A skipped step has no events.
    """
    yield from sorted(
        _Exporter(details, project).events(), key=lambda event: (event["eventTime"], event["eventType"] != "START")
    )


class _Exporter:
    """Exports one run."""

    def __init__(self, details: RunDetails, project: str) -> None:
        self._details = details
        self._run = details.run
        self._steps = find_last_attempts(details.steps)
        self._namespace = f"tidemill://{project}/{details.run.environment}"

    def events(self) -> Iterator[OpenLineageEvent]:
        run, job = self._run, self._run.pipeline
        started = min([run.started, *(step.started for step in self._steps.values())])
        batches = [verdict for verdict in self._details.verdicts if verdict.check == "schema"]
        inputs = [
            self._create_dataset(_name_source(batch.subject), batch.subject) | _create_assertion(batch)
            for batch in batches
        ]
        outputs = [self._create_dataset(f"models/{release.name}", release.label) for release in self._details.releases]
        yield self._create_event("START", started, run.id, job, self._create_run_facets(), inputs, [])
        if run.state != "running" and run.ended is not None:
            yield self._create_event(
                _find_end_type(run.state), run.ended, run.id, job, self._create_run_facets(run.error), inputs, outputs
            )
        for step in self._steps.values():
            if step.state != "skipped":
                yield from self._export_step(step)

    def _export_step(self, step: StepRun) -> Iterator[OpenLineageEvent]:
        job, inputs = f"{self._run.pipeline}.{step.step}", self._list_inputs(step)
        yield self._create_event("START", step.started, step.id, job, self._create_step_facets(step), inputs, [])
        end = find_end(step) or (self._run.ended if step.state != "running" else None)
        if end is not None:
            outputs = [self._create_artifact(step, name, "output") for name in step.outputs]
            facets = self._create_step_facets(step, step.error)
            yield self._create_event(
                _find_end_type(step.state), max(end, step.started), step.id, job, facets, inputs, outputs
            )

    def _list_inputs(self, step: StepRun) -> list[OpenLineageEvent]:
        datasets = []
        for source, outputs in find_sources(self._run, step, self._steps):
            datasets += [self._create_artifact(source, name, "input") for name in outputs or source.outputs]
        return datasets

    def _create_event(
        self,
        kind: str,
        time: datetime,
        run: str,
        job: str,
        facets: OpenLineageEvent,
        inputs: list[OpenLineageEvent],
        outputs: list[OpenLineageEvent],
    ) -> OpenLineageEvent:
        return {
            "eventType": kind,
            "eventTime": _format_time(time),
            "run": {"runId": run, "facets": facets},
            "job": {"namespace": self._namespace, "name": job, "facets": self._create_job_facets(job)},
            "inputs": inputs,
            "outputs": outputs,
            "producer": _PRODUCER,
            "schemaURL": f"{_EVENT_URL}/RunEvent",
        }

    def _create_run_facets(self, error: str = "") -> OpenLineageEvent:
        run = self._run
        verdicts = [
            _read_fields(verdict, "check", "subject", "outcome", "reason") for verdict in self._details.verdicts
        ]
        fields = _read_fields(run, "params", "cause", "code", "software", "metrics", "engine", "host", "model")
        facets = self._create_engine_facets(error) | {
            "tidemill_run": _create_tidemill_facet("RunFacet", **fields, verdicts=verdicts)
        }
        if run.tags:
            tags = [{"key": name, "value": value, "source": "USER"} for name, value in run.tags.items()]
            facets["tags"] = _create_facet("TagsRunFacet", tags=tags)
        return facets

    def _create_step_facets(self, step: StepRun, error: str = "") -> OpenLineageEvent:
        run = {"run": {"runId": self._run.id}, "job": {"namespace": self._namespace, "name": self._run.pipeline}}
        fields = _read_fields(step, "state", "reason", "key", "code", "executor", "attempt", "seconds")
        step_facets = {
            "parent": _create_facet("ParentRunFacet", **run, root=run),
            "tidemill_step": _create_tidemill_facet("RunFacet", **fields),
        }
        return self._create_engine_facets(error, step.log) | step_facets

    def _create_engine_facets(self, error: str, log: str = "") -> OpenLineageEvent:
        engine_version = self._run.software.get("tidemill", _VERSION)
        facets = {
            "processing_engine": _create_facet("ProcessingEngineRunFacet", version=engine_version, name="tidemill")
        }
        if error:
            trace = {"stackTrace": log} if log else {}
            facets["errorMessage"] = _create_facet(
                "ErrorMessageRunFacet", message=error, programmingLanguage="PYTHON", **trace
            )
        return facets

    def _create_job_facets(self, job: str) -> OpenLineageEvent:
        kind = "DAG" if job == self._run.pipeline else "TASK"
        facets = {
            "jobType": _create_facet("JobTypeJobFacet", processingType="BATCH", integration="TIDEMILL", jobType=kind)
        }
        commit = self._run.code.get("commit")
        if commit:
            location = {"type": "git", "url": f"urn:git:{commit}", "version": str(commit), "path": "pipeline.py"}
            facets["sourceCodeLocation"] = _create_facet("SourceCodeLocationJobFacet", **location)
        return facets

    def _create_artifact(self, step: StepRun, output: str, side: str) -> OpenLineageEvent:
        digest = step.outputs[output]
        dataset = self._create_dataset(f"{self._run.pipeline}.{step.step}.{output}", digest)
        artifact = self._details.artifacts.get(f"{step.step}.{output}")
        if artifact is None or artifact.transient:
            return dataset
        fields = _list_fields(artifact)
        if fields:
            dataset["facets"]["schema"] = _create_facet("SchemaDatasetFacet", fields=fields)
        rows = artifact.summary.get("rows")
        counts = {"size": artifact.size} | ({"rowCount": rows} if isinstance(rows, int) else {})
        name = "InputStatisticsInputDatasetFacet" if side == "input" else "OutputStatisticsOutputDatasetFacet"
        return dataset | {f"{side}Facets": {f"{side}Statistics": _create_facet(name, **counts)}}

    def _create_dataset(self, name: str, version: str) -> OpenLineageEvent:
        facets = {"version": _create_facet("DatasetVersionDatasetFacet", datasetVersion=version)}
        return {"namespace": self._namespace, "name": name, "facets": facets}


def _read_fields(record: Any, *names: str) -> OpenLineageEvent:
    return {name: getattr(record, name) for name in names}


def _name_source(batch: str) -> str:
    return f"sources/{batch.partition('/')[0]}"


def _create_assertion(verdict: Any) -> OpenLineageEvent:
    """Return the schema verdict of a batch as a data quality assertion."""
    assertion = {"assertion": "schema", "success": verdict.outcome == "pass"}
    return {
        "inputFacets": {
            "dataQualityAssertions": _create_facet("DataQualityAssertionsDatasetFacet", assertions=[assertion])
        }
    }


def _list_fields(artifact: Artifact) -> list[OpenLineageEvent]:
    """Return the columns of a table, with their types if the ledger has them."""
    columns = artifact.summary.get("columns") or []
    if isinstance(columns, dict):
        return [{"name": str(name), "type": str(kind)} for name, kind in columns.items()]
    return [{"name": str(name)} for name in columns] if isinstance(columns, list) else []


def _create_facet(kind: str, /, **values: Any) -> OpenLineageEvent:
    url = f"{_SPEC}/facets/{_FACETS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": _PRODUCER, "_schemaURL": url, **values}


def _create_tidemill_facet(base: str, **values: Any) -> OpenLineageEvent:
    """Return a facet of Tidemill; the specification permits facets of producers under their own names."""
    return {"_producer": _PRODUCER, "_schemaURL": f"{_EVENT_URL}/{base}", **values}


def _find_end_type(state: str) -> str:
    """Return the event type of a final state; stopped, interrupted and cancelled runs are aborted."""
    return _END_TYPES.get(state, "ABORT")


def _format_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
