"""`evidence export`, `verify`, `questions`: one file with all facts about a release, which verifies offline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_workspace
from tidemill.errors import Corrupt

if TYPE_CHECKING:
    from tidemill.evidence.export.archive import EvidenceCheck
    from tidemill.evidence.export.facts import ReleaseFacts

evidence = typer.Typer(no_args_is_help=True, help="One file with all facts about a release, which verifies offline.")

KeyOption = Annotated[Path | None, typer.Option(help="The private key (PEM, Ed25519 or ECDSA), outside the project.")]
ReleaseArgument = Annotated[str, typer.Argument(metavar="RELEASE", help="A release, such as flights/3.")]


@evidence.command("export")
def export(
    release: ReleaseArgument,
    out: Annotated[Path, typer.Option(help="The file to write, such as flights-3.zip.")],
    key: KeyOption = None,
    answers: Annotated[Path | None, typer.Option(help="A TOML file with answers to the questions.")] = None,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Write model card, data sheet, lock, verdicts, approvals, lineage, provenance and technical documentation."""
    from tidemill.evidence.export.build import build_documents, export_evidence, read_answers

    _, workspace = load_workspace(env)
    if key is not None:
        _require_outside(key, env)
    facts = _collect(release, env)
    documents = build_documents(facts, read_answers(answers) if answers else {})
    names = export_evidence(workspace.ledger, facts, documents, out, key)
    questions = [question for document in documents for question in document.questions]
    unanswered = sum(not question.answer for question in questions)
    if json:
        output.print_json(
            {"file": str(out), "release": facts.release.label, "files": names, "signed": key is not None}
            | {"questions": len(questions), "unanswered": unanswered}
        )
        return
    output.out.print(f"{facts.release.label}: {len(names)} files in {out}, {'' if key else 'NOT '}signed")
    output.err.print(
        f"{unanswered} of {len(questions)} questions have no answer; list them: "
        f"`tidemill evidence questions {facts.release.label}`"
    )
    if key is None:
        output.err.print("unsigned evidence can be changed without a trace; sign it: --key KEY", style="yellow")


@evidence.command("questions")
def list_questions(release: ReleaseArgument, env: EnvironmentOption = "production", json: Json = False) -> None:
    """List the questions that the records do not answer, with their ids for the file of --answers."""
    from tidemill.evidence.export.build import build_documents

    questions = [question for document in build_documents(_collect(release, env)) for question in document.questions]
    columns = {"id": lambda q: q.id, "question": lambda q: q.question}
    output.print_records(questions, columns, json=json, nothing="there are no questions")


@evidence.command("provenance")
def provenance(
    subject: Annotated[str, typer.Argument(help="A release, such as flights/3, or a build, such as 12.")],
    key: KeyOption = None,
    env: EnvironmentOption = "production",
) -> None:
    """Print how a release or a build was made, as SLSA's provenance in an in-toto statement; with a key, signed."""
    from tidemill.evidence.export.provenance import build_package_provenance, build_provenance
    from tidemill.evidence.export.seal import encode, sign_payload
    from tidemill.host.keys import read_private_key
    from tidemill.registry.deployments import find_build

    _, workspace = load_workspace(env)
    if "/" in subject:
        statement = build_provenance(_collect(subject, env))
    else:
        statement = build_package_provenance(find_build(workspace.ledger, subject))
    content = encode(statement)
    if key is not None:
        _require_outside(key, env)
        content = encode(sign_payload(content, read_private_key(key)))
    output.out.print(content.decode(), end="")


@evidence.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="An evidence file.")],
    public_key: Annotated[Path | None, typer.Option(help="The public key (PEM) of the signer.")] = None,
    json: Json = False,
) -> None:
    """Verify that no file of the evidence was changed, removed or added, and who signed it; needs no project."""
    from tidemill.evidence.export.archive import check_archive
    from tidemill.host.keys import read_public_key, to_pem

    key = to_pem(read_public_key(public_key)) if public_key is not None else None
    found = check_archive(file, key)
    if json:
        output.print_json(found)
    else:
        _print_check(file, found)
    if not found.intact:
        raise Corrupt(f"{file} is not the evidence that was exported", "ask for the original file")


def _print_check(file: Path, found: "EvidenceCheck") -> None:
    for state in ("changed", "missing", "added"):
        for name in getattr(found, state):
            output.out.print(f"{state}: {name}", style="red")
    if found.problem:
        output.out.print(found.problem, style="red")
    if not found.intact:
        return
    text = {
        "valid": f"signed by the key {found.signer[:16]}",
        "unproven": f"signed by a key that is unknown here ({found.signer[:16]}); prove it: --public-key KEY",
        "unsigned": "NOT signed: it can be changed without a trace",
    }[found.signature]
    output.out.print(f"{file}: {found.files} files about {found.release} of {found.project} are intact, {text}")


def _require_outside(key: Path, env: str) -> None:
    from tidemill.host.keys import find_repository, require_outside

    project, workspace = load_workspace(env)
    require_outside(key, (find_repository(project.folder), workspace.root))


def _collect(release: str, env: str) -> "ReleaseFacts":
    from tidemill.evidence.audit import verify_entries
    from tidemill.evidence.export.facts import collect_facts

    project, workspace = load_workspace(env)
    return collect_facts(
        workspace.ledger,
        workspace.packages,
        workspace.blobs,
        project.policy,
        project.policy_digest,
        env,
        release,
        verify_entries(workspace.ledger.audit.stored()),
    )
