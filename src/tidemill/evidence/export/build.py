"""Builds the files of an evidence file: documents, records, lineage, provenance and a page for people."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidemill.core.resources import BooksReader
from tidemill.errors import InputError
from tidemill.evidence.export.annex_iv import build_annex_iv
from tidemill.evidence.export.archive import write_archive
from tidemill.evidence.export.cards import build_data_sheet, build_model_card
from tidemill.evidence.export.documents import Document, answer_questions
from tidemill.evidence.export.facts import ReleaseFacts
from tidemill.evidence.export.korea import build_korean_duties
from tidemill.evidence.export.provenance import build_package_provenance, build_provenance
from tidemill.evidence.export.seal import encode, seal_files
from tidemill.evidence.formatting import format_time
from tidemill.evidence.identify import RecordReference
from tidemill.evidence.lineage import trace_lineage
from tidemill.evidence.openlineage import export_events
from tidemill.evidence.tree import as_svg, as_text

_LOCK = "requirements.txt"


def build_documents(facts: ReleaseFacts, answers: Mapping[str, str] | None = None) -> tuple[Document, ...]:
    """Return the documents about a release, with a person's answers to their questions."""
    builders = (build_model_card, build_data_sheet, build_annex_iv, build_korean_duties)
    return answer_questions([build(facts) for build in builders], answers or {})


def export_evidence(
    books: BooksReader, facts: ReleaseFacts, documents: Sequence[Document], file: Path, key: Path | None
) -> list[str]:
    """Write the evidence file, signed if there is a key, and return the names of its files."""
    files = build_files(books, facts, documents, signed=key is not None)
    predicate = {
        "project": facts.project,
        "release": facts.release.label,
        "environment": facts.environment,
        "package": facts.release.package,
        "newest record": format_time(facts.newest_record),
    }
    sealed = files | seal_files(files, predicate, key)
    write_archive(file, sealed)
    return sorted(sealed)


def build_files(
    books: BooksReader, facts: ReleaseFacts, documents: Sequence[Document], *, signed: bool
) -> dict[str, bytes]:
    """Return the files without their seal; equal records result in equal bytes."""
    files = {f"{document.id}.json": encode(document) for document in documents}
    files |= {f"records/{name}.json": encode(value) for name, value in _list_records(facts).items() if value}
    files["provenance.json"] = encode(build_provenance(facts))
    for build in facts.builds:
        files[f"provenance-build-{build.number}.json"] = encode(build_package_provenance(build))
    if facts.model is not None and _LOCK in facts.model.files:
        files[f"environment/{_LOCK}"] = facts.model.files[_LOCK]
    if facts.signature:
        files["package-signature.json"] = facts.signature
    if facts.packages:
        files["environment/packages.txt"] = facts.packages.encode()
    files |= _trace(books, facts)
    picture = files.get("lineage/lineage.svg", b"").decode()
    files["index.html"] = _render(facts, documents, [*files, "index.html"], picture, signed=signed)
    return files


def read_answers(file: Path) -> dict[str, str]:
    """Return the answers in a TOML file with a line `"annex-iv.5.risks" = "…"` for each question.

    Raises
    ------
    InputError
        if the file cannot be read, or an answer is no text.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file} is not TOML: {error}", 'write lines such as "card.users" = "…"') from None
    for name, value in values.items():
        if not isinstance(value, str):
            raise InputError(f"the answer {name!r} is no text", f'write "{name}" = "…", with the id in quotes')
    return values


def _list_records(facts: ReleaseFacts) -> dict[str, Any]:
    manifest = msgspec.to_builtins(facts.model.manifest) if facts.model else None
    return {
        "release": facts.release,
        "manifest": manifest,
        "policy": facts.policy,
        "run": facts.run.run if facts.run else None,
        "steps": facts.run.steps if facts.run else None,
        "artifacts": facts.run.artifacts if facts.run else None,
        "verdicts": facts.run.verdicts if facts.run else None,
        "metrics": facts.measured,
        "profile": facts.profile,
        "schemas": facts.schemas,
        "batches": facts.batches,
        "live": facts.live,
        "routes": facts.routes,
        "audit": facts.audit,
        "audit_log": facts.audit_log,
        "builds": facts.builds,
        "ci_verdicts": facts.ci_verdicts,
        "deployments": facts.deployments,
    }


def _trace(books: BooksReader, facts: ReleaseFacts) -> dict[str, bytes]:
    """Return the lineage as OpenLineage events, as text and as a picture; nothing if its run is not in the ledger."""
    if facts.release.run and facts.run is None:
        return {}
    lineage = trace_lineage(books, RecordReference("release", facts.release.label))
    files = {
        "lineage/lineage.json": encode(lineage),
        "lineage/lineage.txt": (as_text(lineage) + "\n").encode(),
        "lineage/lineage.svg": as_svg(lineage).encode(),
    }
    if facts.run is not None:
        events = export_events(facts.run, facts.project)
        lines = (msgspec.json.encode(event, order="deterministic") + b"\n" for event in events)
        files["lineage/openlineage.jsonl"] = b"".join(lines)
    return files


def _render(
    facts: ReleaseFacts, documents: Sequence[Document], files: Sequence[str], picture: str, *, signed: bool
) -> bytes:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    templates = Environment(
        loader=PackageLoader("tidemill.evidence.export"), undefined=StrictUndefined, autoescape=True
    )
    questions = [question for document in documents for question in document.questions]
    text = templates.get_template("index.html.jinja").render(
        release=facts.release.label,
        project=facts.project,
        environment=facts.environment,
        newest=format_time(facts.newest_record),
        open=sum(not question.answer for question in questions),
        total=len(questions),
        signed=signed,
        documents=documents,
        lineage=Markup(picture),
        files=sorted(files),
    )
    return text.encode()
