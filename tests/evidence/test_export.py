"""Evidence files: what they contain, that equal records have equal bytes, and that every change is found offline."""

import base64
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from tests.evidence.archives import Files, read
from tests.projects import make_project, tidemill
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.core.build import Build
from tidemill.evidence.audit import verify_entries
from tidemill.evidence.export.archive import build_archive, check_archive
from tidemill.evidence.export.build import build_documents, build_files
from tidemill.evidence.export.facts import ReleaseFacts, collect_facts
from tidemill.evidence.export.provenance import build_provenance
from tidemill.evidence.export.seal import SIGNATURE, STATEMENT, encode, find_seal_problem, read_envelope, seal_files
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project
from tidemill.registry.deployments import approve


def facts_of(project: Project, label: str) -> ReleaseFacts:
    """Return the facts about a release."""
    workspace = open_workspace(project.state_folder, "production")
    stores = (workspace.ledger, workspace.packages, workspace.blobs)
    return collect_facts(*stores, project.policy, project.policy_digest, "production", label)


def section(documents: Files, document: str, identifier: str) -> dict[str, Any]:
    """Return a section of a document."""
    found: dict[str, Any] = next(
        part for part in json.loads(documents[f"{document}.json"])["sections"] if part["id"] == identifier
    )
    return found


def test_the_file_has_the_facts_of_the_release(exported: Path) -> None:
    files = read(exported)
    purpose = section(files, "model-card", "card.purpose")
    assert {fact["name"]: fact["text"] for fact in purpose["facts"]}["label"] == "late"
    metrics = section(files, "model-card", "card.metrics")["tables"][0]
    name, better, test, interval, baseline, train = metrics["rows"][0]
    assert (name, better) == ("log_loss", "lower")
    assert float(test) < float(baseline)
    assert float(train) < float(baseline)
    assert interval.startswith("(")
    rows = {fact["name"]: fact["text"] for fact in section(files, "data-sheet", "data.span")["facts"]}
    assert rows["rows that the model learned"] == "3,000"
    assert rows["from"].startswith("2026-01-05")
    batches = section(files, "data-sheet", "data.span")["tables"][0]
    assert batches["title"] == "Batches: 1 accepted, 0 stopped"
    assert b"lightgbm==" in files["environment/requirements.txt"]
    assert b"polars==" in files["environment/packages.txt"]
    assert [v["check"] for v in json.loads(files["records/verdicts.json"])] == ["schema", "gate", "package"]
    events = [json.loads(line) for line in files["lineage/openlineage.jsonl"].splitlines()]
    assert {event["eventType"] for event in events} == {"START", "COMPLETE"}


def test_what_no_record_answers_is_an_empty_field_with_its_question(exported: Path) -> None:
    files = read(exported)
    headings = [part["heading"] for part in json.loads(files["annex-iv.json"])["sections"]]
    assert [heading.split(".")[0] for heading in headings] == [str(number) for number in range(1, 10)]
    korea = [part["heading"].split(":")[0] for part in json.loads(files["korea.json"])["sections"]]
    assert {f"Article 34(1){number}" for number in range(1, 6)} <= set(korea)
    declaration = section(files, "annex-iv", "annex-iv.8")
    assert not declaration["facts"]
    assert [question["answer"] for question in declaration["questions"]] == [""]
    text = b"".join(files.values()).decode()
    assert "describe the decision that uses the predictions" not in text.replace(
        files["records/policy.json"].decode(), ""
    ), "the text of `init` is no description"
    questions = {question["id"] for question in section(files, "model-card", "card.purpose")["questions"]}
    assert {"card.decision", "card.owner"} <= questions


def test_the_page_needs_no_network_and_has_every_question(exported: Path) -> None:
    page = read(exported)["index.html"].decode()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert page.count('class="question"') == page.count(">no answer<") > 40


def test_no_password_is_exported(exported: Path) -> None:
    assert b"planted-password" not in b"".join(read(exported).values())


def test_equal_records_have_equal_bytes(trained: Project, exported: Path, keys: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    tidemill(trained.folder, "evidence", "export", "shop/1", "--out", str(again), "--key", str(keys / "a.pem"))
    assert again.read_bytes() == exported.read_bytes()


def test_a_person_answers_questions_in_a_file(trained: Project, tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text('"annex-iv.8.declaration" = "in the safe <b>"\n')
    out = tmp_path / "e.zip"
    words = ("evidence", "export", "shop/1", "--out", str(out), "--answers", str(answers), "--json")
    reply = json.loads(tidemill(trained.folder, *words).stdout)
    assert reply["questions"] == reply["unanswered"] + 1
    assert section(read(out), "annex-iv", "annex-iv.8")["questions"][0]["answer"] == "in the safe <b>"
    assert "in the safe &lt;b&gt;" in read(out)["index.html"].decode()
    answers.write_text('"annex-iv.99" = "?"\n')
    assert "there is no question 'annex-iv.99'" in tidemill(trained.folder, *words, code=2).stderr


def test_it_verifies_without_a_project_and_names_the_signer(exported: Path, keys: Path, tmp_path: Path) -> None:
    shown = tidemill(tmp_path, "evidence", "verify", str(exported), "--public-key", str(keys / "a.pub.pem")).stdout
    assert "are intact, signed by the key" in shown
    assert "a key that is unknown here" in tidemill(tmp_path, "evidence", "verify", str(exported)).stdout
    other = tidemill(tmp_path, "evidence", "verify", str(exported), "--public-key", str(keys / "b.pub.pem"), code=1)
    assert "the signature was not made by the key" in other.stdout
    refused = tidemill(tmp_path, "evidence", "verify", str(exported), "--public-key", str(keys / "a.pem"), code=2)
    assert "is a private key" in refused.stderr


def test_a_key_of_p256_signs_too(trained: Project, keys: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.zip"
    tidemill(trained.folder, "evidence", "export", "shop/1", "--out", str(out), "--key", str(keys / "p256.pem"))
    assert check_archive(out, (keys / "p256.pub.pem").read_bytes()).signature == "valid"


def test_unsigned_evidence_says_so(trained: Project, keys: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.zip"
    shown = tidemill(trained.folder, "evidence", "export", "shop/1", "--out", str(out))
    assert "NOT signed" in shown.stdout
    assert "not signed" in read(out)["index.html"].decode()
    verified = tidemill(tmp_path, "evidence", "verify", str(out)).stdout
    assert "NOT signed" in verified
    assert f" {len(read(out))} files" in " ".join(shown.stdout.split())
    assert f" {len(read(out))} files" in " ".join(verified.split())
    demanded = tidemill(tmp_path, "evidence", "verify", str(out), "--public-key", str(keys / "a.pub.pem"), code=1)
    assert "the file is not signed" in demanded.stdout


@pytest.mark.parametrize("place", ["workspace", "repository"])
def test_a_private_key_inside_the_project_is_refused(trained: Project, keys: Path, tmp_path: Path, place: str) -> None:
    inside = (trained.state_folder if place == "workspace" else trained.folder) / "key.pem"
    inside.write_bytes((keys / "a.pem").read_bytes())
    out = tmp_path / "e.zip"
    refused = tidemill(trained.folder, "evidence", "export", "shop/1", "--out", str(out), "--key", str(inside), code=2)
    inside.unlink()
    assert "the private key" in refused.stderr
    assert not out.exists()


def test_the_provenance_is_a_slsa_statement(trained: Project) -> None:
    facts = facts_of(trained, "shop/1")
    statement = build_provenance(facts)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert digests["shop/1/package"] == facts.release.package
    assert "shop/1/model.txt" in digests
    build = statement["predicate"]["buildDefinition"]
    assert {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"} == build.keys()
    assert {"code", "code archive", "policy", "installed packages", "batch"} <= {
        material["name"] for material in build["resolvedDependencies"]
    }
    assert all({"uri", "digest"} & material.keys() for material in build["resolvedDependencies"])
    details = statement["predicate"]["runDetails"]
    assert details["builder"]["id"].startswith("urn:tidemill:shop:")
    assert details["metadata"]["invocationId"] == facts.release.run


def test_a_model_that_was_registered_manually_has_evidence_too(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    rows = pl.DataFrame({"distance_km": [50.0, 900.0] * 50, "items": [1, 6] * 50})
    joblib.dump(LogisticRegression().fit(rows.to_numpy(), [False, True] * 50), tmp_path / "model.joblib")
    rows.head(20).write_csv(tmp_path / "samples.csv")
    words = ("register", str(tmp_path / "model.joblib"), "--samples", str(tmp_path / "samples.csv"), "--name", "paper")
    tidemill(project.folder, "models", *words, "--task", "classification", "--classes", "false,true", "--trust")
    tidemill(project.folder, "models", "promote", "paper/1", "--reason", "<script>alert(1)</script>")
    facts = facts_of(project, "paper/1")
    books = open_workspace(project.state_folder, "production").ledger
    files = build_files(books, facts, build_documents(facts), signed=False)
    training = section(files, "model-card", "card.training")
    assert training["facts"][0]["text"] == "registered manually: Tidemill has no record of its training"
    decisions = section(files, "annex-iv", "annex-iv.6")["tables"][1]["rows"]
    assert [row[2] for row in decisions] == ["registered", "promoted"]
    assert "<script>" not in files["index.html"].decode()
    assert json.loads(files["provenance.json"])["predicate"]["buildDefinition"]["resolvedDependencies"] == []


def test_the_digest_of_a_statement_does_not_depend_on_the_order_of_its_files() -> None:
    first = seal_files({"a": b"1", "b": b"2"}, {}, None)
    assert first == seal_files({"b": b"2", "a": b"1"}, {}, None)
    assert encode({"b": 1, "a": 2}) == encode({"a": 2, "b": 1})
    with zipfile.ZipFile(io.BytesIO(build_archive({"b": b"2", "a": b"1"}))) as archive:
        assert archive.namelist() == ["a", "b"]


def test_the_builds_of_the_code_are_in_the_file_with_their_approvals_and_provenance(
    trained: Project, tmp_path: Path
) -> None:
    books = copy_ledger(trained, tmp_path)
    workspace = open_workspace(trained.state_folder, "production")
    run = books.runs.get(books.releases.find(name="shop")[0].run)
    build = Build(
        id="b" * 32,
        project="shop",
        number=7,
        commit="c" * 40,
        state="passed",
        created=run.started,
        environment="ci",
        code=str(run.code["digest"]),
        lock="d" * 64,
        packages={"polars": "2.1.0"},
        artifacts={"wheel": "e" * 64},
        image="registry/shop@sha256:" + "f" * 64,
    )
    books.builds.add(build)
    clock = SystemClock()
    approve(books, clock, build, "production", actor="grace", reason="12 green runs")
    log = verify_entries(books.audit.stored())
    stores = (books, workspace.packages, workspace.blobs)
    facts = collect_facts(*stores, trained.policy, trained.policy_digest, "production", "shop/1", log)
    files = build_files(books, facts, build_documents(facts), signed=False)
    statement = json.loads(files["provenance-build-7.json"])
    digests = {subject["name"]: subject["digest"] for subject in statement["subject"]}
    assert digests == {"shop-7/wheel": {"sha256": "e" * 64}, "shop-7/image": {"sha256": "f" * 64}}
    materials = {part["name"]: part for part in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert materials["source"]["digest"] == {"gitCommit": "c" * 40}
    assert materials["polars"]["uri"] == "pkg:pypi/polars@2.1.0"
    changes = section(files, "annex-iv", "annex-iv.6")
    assert [row[1:3] for row in changes["tables"][1]["rows"]] == [["policy", "promoted"], ["grace", "approved build"]]
    assert "no entry was changed; 2 entries" in changes["facts"][0]["text"]


def copy_ledger(project: Project, folder: Path) -> Ledger:
    """Return a copy of the ledger of a project, to change it."""
    copy = open_workspace(folder, "production").ledger
    for name, lines in open_workspace(project.state_folder, "production").ledger.export():
        copy.load(name, lines, lambda record: record)
    return copy


def test_the_provenance_is_printed_and_signed(trained: Project, keys: Path) -> None:
    statement = json.loads(tidemill(trained.folder, "evidence", "provenance", "shop/1").stdout)
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    words = ("evidence", "provenance", "shop/1", "--key", str(keys / "a.pem"))
    envelope = read_envelope(tidemill(trained.folder, *words).stdout.encode())
    payload = base64.b64decode(envelope.payload)
    assert json.loads(payload) == statement
    assert not find_seal_problem(payload, envelope, (keys / "a.pub.pem").read_bytes())
    assert find_seal_problem(payload, envelope, (keys / "b.pub.pem").read_bytes())
    assert "there is no build '12'" in tidemill(trained.folder, "evidence", "provenance", "12", code=2).stderr


def test_without_the_packages_of_the_extra_unsigned_evidence_is_exported(
    trained: Project, exported: Path, keys: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['cryptography'] = None\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "TIDEMILL_PROJECT": str(trained.folder)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "tidemill", "evidence", *words)
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert run("export", "shop/1", "--out", "e.zip").returncode == 0
    assert run("verify", "e.zip").returncode == 0
    signed = run("export", "shop/1", "--out", "e.zip", "--key", str(keys / "a.pem"))
    for refused in (signed, run("verify", str(exported))):
        assert refused.returncode == 1
        assert "pip install 'tidemill[signing]'" in refused.stderr


def test_other_programs_read_the_statements_and_verify_the_signature(exported: Path, keys: Path) -> None:
    """The messages of in-toto and SLSA accept no unknown field; securesystemslib verifies the envelope."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2  # type: ignore[import-untyped]
    from in_toto_attestation.v1 import statement_pb2  # type: ignore[import-untyped]
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    files = read(exported)
    for name in ("provenance.json", STATEMENT):
        statement = json.loads(files[name])
        json_format.ParseDict(statement, statement_pb2.Statement())
    predicate = json.loads(files["provenance.json"])["predicate"]
    provenance = json_format.ParseDict(predicate, provenance_pb2.Provenance())
    assert provenance.run_details.metadata.started_on.seconds > 0
    envelope = json.loads(files[SIGNATURE])
    identifier = envelope["signatures"][0]["keyid"]
    del envelope["public_key"]
    public = load_pem_public_key((keys / "a.pub.pem").read_bytes())
    verified = Envelope.from_dict(envelope).verify([SSlibKey.from_crypto(public, keyid=identifier)], 1)
    assert set(verified) == {identifier}


def test_records_that_are_lost_leave_their_fields_empty(trained: Project, tmp_path: Path) -> None:
    """The bytes of the package and of the metrics are gone, and the run is not in the ledger."""
    lost = open_workspace(tmp_path, "production")
    release = open_workspace(trained.state_folder, "production").ledger.releases.find(name="shop")[0]
    lost.ledger.releases.add(release)
    stores = (lost.ledger, lost.packages, lost.blobs)
    facts = collect_facts(*stores, trained.policy, trained.policy_digest, "production", "shop/1")
    files = build_files(lost.ledger, facts, build_documents(facts), signed=False)
    identity = {part["name"]: part["text"] for part in section(files, "model-card", "card.identity")["facts"]}
    assert "is not in" in identity["package problem"]
    assert not section(files, "data-sheet", "data.profile")["tables"]
    assert not [name for name in files if name.startswith("lineage/")]
    assert json.loads(files["provenance.json"])["subject"] == [
        {"name": "shop/1/package", "digest": {"sha256": release.package}}
    ]
