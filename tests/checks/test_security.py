"""The security checks: planted problems are found, ordinary code is not reported."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tidemill.checks.security import check_pickle, find_secrets, find_vulnerable

ROOT = Path(__file__).parents[2]
RANDOM = "tGz9Qw3LmPx8" + "Rv2YbN4kSd7Hf1Jc6ZaU"  # parts, so that this file itself has no secret


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("key = 'AKIA" + "IOSFODNN7EXAMPLQ'", "AWS access key"),
        ("db_password = 'S3cr3t" + "Pass99x'", "assigned"),
        ("url = 'postgresql://app:Kj82" + "hsdP@db/x'", "password in a URL"),
        ("t = 'ghp_" + "a1B2" * 9 + "'", "GitHub token"),
        (f"key: '{RANDOM}'", "random characters"),
        ("API_KEY: str = '9f8e7d6c" + "5b4a39281706f5e4d3c2b1a0'", "assigned"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
    ],
)
def test_a_planted_secret_is_found_and_not_repeated(line: str, kind: str) -> None:
    (finding,) = find_secrets({"features.py": f"import os\n{line}\n"})
    assert (finding.subject, finding.line) == ("features.py", 2)
    assert kind in finding.text
    assert finding.text.count("'") == 0


@pytest.mark.parametrize(
    "line",
    [
        "digest = '" + "9f8e7d6c" * 8 + "'",
        "password = os.environ['DB_PASSWORD']",
        "token = 'your-token-here'",
        "url = 'postgresql://user:password@localhost/x'",
        "path = 'data/flights/arrivals/2013/delays_late_24h'",
        "api_key = '<the key>'",
        "secret = '${SECRET}'",
        f"key = '{RANDOM}'  # pragma: allowlist secret",
    ],
)
def test_ordinary_code_is_no_secret(line: str) -> None:
    assert find_secrets({"features.py": line}) == []


def test_the_code_of_this_repository_has_no_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "src", "examples", "docs"], cwd=ROOT, capture_output=True, text=True)
    texts = {}
    for name in listed.stdout.split("\n"):
        file = ROOT / name
        if name and file.suffix in (".py", ".toml", ".md") and file.is_file():
            texts[name] = file.read_text()
    assert len(texts) > 300
    assert find_secrets(texts) == []


def test_a_pickle_that_runs_a_program_blocks_and_a_model_is_a_warning() -> None:
    assert check_pickle("a.pkl", ["posix.system"], whole=True).is_blocking
    assert check_pickle("a.pkl", ["builtins.eval"], whole=True).is_blocking
    assert check_pickle("a.pkl", ["sklearn.linear_model.LogisticRegression"], whole=False).is_blocking
    harmless = ["sklearn.linear_model._logistic.LogisticRegression", "numpy.dtype", "builtins.set"]
    assert not check_pickle("a.pkl", harmless, whole=True).is_blocking


def advisory(**changes: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": "Jinja2"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.6"}]}],
    }
    return {"id": "GHSA-x", "aliases": ["CVE-2025-1"], "summary": "sandbox", "affected": [affected | changes]}


@pytest.mark.parametrize(
    ("version", "is_vulnerable"), [("3.1.5", True), ("3.1.6", False), ("3.1.6rc1", True), ("3.1.10", False)]
)
def test_versions_are_compared_as_python_compares_them(version: str, *, is_vulnerable: bool) -> None:
    assert bool(find_vulnerable({"jinja2": version}, [advisory()])) is is_vulnerable


def test_last_affected_second_range_listed_versions_and_withdrawn() -> None:
    events = [{"introduced": "1"}, {"last_affected": "2.4"}, {"introduced": "3"}, {"fixed": "3.2"}]
    ranged = advisory(ranges=[{"type": "ECOSYSTEM", "events": events}])
    versions = ("0.9", "2.4", "2.5", "3.1", "3.2")
    affected = [version for version in versions if find_vulnerable({"jinja2": version}, [ranged])]
    assert affected == ["2.4", "3.1"]
    assert find_vulnerable({"jinja2": "9"}, [advisory(versions=["9"])])
    assert not find_vulnerable({"jinja2": "1"}, [advisory() | {"withdrawn": "2025-01-01T00:00:00Z"}])
    assert not find_vulnerable({"jinja2": "1"}, [advisory(package={"ecosystem": "npm", "name": "jinja2"})])


def test_an_allowed_advisory_is_reported_and_does_not_block() -> None:
    (finding,) = find_vulnerable({"jinja2": "1"}, [advisory()], ["CVE-2025-1"])
    assert not finding.is_blocking
    assert "GHSA-x" in str(finding)
