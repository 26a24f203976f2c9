"""Provenance: how a model package was made, as an in-toto statement with SLSA's provenance predicate, version 1.

Source: https://slsa.dev/spec/v1.1/provenance and https://github.com/in-toto/attestation/tree/main/spec/v1.
"""

from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import msgspec

from tidemill.core.build import Build
from tidemill.evidence.export.facts import ReleaseFacts
from tidemill.evidence.run_details import find_final_steps, find_last_attempts

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:tidemill:pipeline-run:v1"
CI_BUILD_TYPE = "urn:tidemill:ci-build:v1"
Statement = dict[str, Any]


def build_provenance(facts: ReleaseFacts) -> Statement:
    """Return the provenance of a release.

    The subjects are the package and its files. Without a run (a model that was registered manually) the build
    definition has only the file's origin: what made it is not known here.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": _list_subjects(facts),
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": _define_build(facts), "runDetails": _describe_run(facts)},
    }


def build_package_provenance(build: Build) -> Statement:
    """Return the provenance of the packages of a build: wheel, executable, image and bills of material."""
    subjects = [
        {"name": f"{build.project}-{build.number}/{name}", "digest": {"sha256": digest}}
        for name, digest in sorted(build.artifacts.items())
    ]
    algorithm, _, digest = build.image.rpartition("@")[2].partition(":")
    if digest:
        subjects.append({"name": f"{build.project}-{build.number}/image", "digest": {algorithm: digest}})
    materials: list[dict[str, Any]] = [{"name": "source", "digest": {"gitCommit": build.commit}}]
    for name in ("code", "lock", "policy"):
        if digest := getattr(build, name):
            materials.append({"name": name, "digest": {"sha256": digest}})
    materials += [{"name": name, "uri": f"pkg:pypi/{name}@{number}"} for name, number in sorted(build.packages.items())]
    definition = {
        "buildType": CI_BUILD_TYPE,
        "externalParameters": {"project": build.project, "commit": build.commit, "branch": build.branch},
        "internalParameters": {"python": build.python, "system": build.system, "base": build.base},
        "resolvedDependencies": materials,
    }
    details = {
        "builder": {"id": f"urn:tidemill:{build.project}:{build.environment}:ci", "version": _read_version()},
        "metadata": {"invocationId": build.run or build.id, "finishedOn": _format(build.created)},
    }
    predicate = {"buildDefinition": definition, "runDetails": details}
    return {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": PREDICATE_TYPE, "predicate": predicate}


def _list_subjects(facts: ReleaseFacts) -> list[dict[str, Any]]:
    release = facts.release
    subjects = [{"name": f"{release.label}/package", "digest": {"sha256": release.package}}]
    for name, content in sorted(facts.model.files.items()) if facts.model else ():
        subjects.append({"name": f"{release.label}/{name}", "digest": {"sha256": sha256(content).hexdigest()}})
    return subjects


def _define_build(facts: ReleaseFacts) -> dict[str, Any]:
    if facts.run is None:
        return {
            "buildType": "urn:tidemill:registration:v1",
            "externalParameters": {"model": facts.release.name, "tags": facts.release.tags},
            "internalParameters": {},
            "resolvedDependencies": [],
        }
    run = facts.run.run
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": msgspec.to_builtins({"pipeline": run.pipeline, "model": run.model, "params": run.params}),
        "internalParameters": {
            "environment": run.environment,
            "engine": run.engine,
            "policy": str(run.code.get("policy", "")),
            "cause": msgspec.to_builtins(run.cause),
        },
        "resolvedDependencies": _list_materials(facts),
    }


def _list_materials(facts: ReleaseFacts) -> list[dict[str, Any]]:
    """Return the code, the packages, the batches and the first artifacts of the run."""
    assert facts.run is not None
    run, materials = facts.run.run, []
    if facts.commit:
        dirty = {"annotations": {"uncommitted changes": True}} if run.code.get("dirty") else {}
        materials.append({"name": "source", "digest": {"gitCommit": facts.commit}, **dirty})
    for name, key in (("code", "digest"), ("code archive", "snapshot"), ("policy", "policy")):
        if digest := str(run.code.get(key, "")):
            materials.append({"name": name, "digest": {"sha256": digest}})
    if run.packages:
        materials.append({"name": "installed packages", "digest": {"sha256": run.packages}})
    for verdict in facts.batches:
        if not verdict.stops:
            materials.append({"name": "batch", "uri": f"urn:tidemill:batch:{verdict.subject}"})
    data = facts.release.trained_on
    if data.table:
        materials.append({"name": "table", "uri": f"urn:tidemill:table:{data.table}?version={data.version}"})
    return materials


def _describe_run(facts: ReleaseFacts) -> dict[str, Any]:
    software = dict(facts.run.run.software) if facts.run else {}
    builder: dict[str, Any] = {
        "id": f"urn:tidemill:{facts.project}:{facts.run.run.environment if facts.run else facts.release.environment}",
        "version": _read_version() | software,
    }
    if facts.run is None:
        return {"builder": builder, "metadata": {"invocationId": facts.release.id}}
    run = facts.run.run
    metadata = {"invocationId": run.id, "startedOn": _format(run.started)}
    if run.ended is not None:
        metadata["finishedOn"] = _format(run.ended)
    steps = find_last_attempts(facts.run.steps)
    byproducts = [
        {"name": f"{step.step}.{name}", "digest": {"sha256": digest}}
        for step in find_final_steps(run, steps)
        for name, digest in step.outputs.items()
    ]
    return {"builder": builder, "metadata": metadata, "byproducts": byproducts}


def _read_version() -> dict[str, str]:
    return {"tidemill": version("tidemill")}


def _format(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
