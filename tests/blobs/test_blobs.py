"""Blobs with a failing disk or store; tests/conformance tests the common behaviour of the back ends."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.processes import in_child
from tidemill.blobs.store import DiskBlobs, compute_digest, open_blobs
from tidemill.errors import NotFound, TidemillError, Transient
from tidemill.presence import IDENTITY
from tidemill.testing.processes import run_in_processes


def test_the_error_for_an_invalid_folder_has_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TidemillError, match="cannot be opened") as error:
        DiskBlobs(str(tmp_path / "file" / "blobs"))
    assert "permissions" in error.value.cure


def test_an_unknown_url_scheme_is_an_error() -> None:
    with pytest.raises(TidemillError, match="carrier-pigeon"):
        open_blobs("carrier-pigeon://loft")


def test_an_unreadable_blob_is_not_reported_as_missing(tmp_path: Path) -> None:
    digest = compute_digest(b"tide")
    blobs = DiskBlobs(str(tmp_path))
    (tmp_path / digest[:2]).mkdir()
    (tmp_path / digest[:2] / digest).symlink_to(tmp_path / digest[:2] / digest)
    with pytest.raises(TidemillError, match="cannot be reached") as error:
        blobs.get(digest)
    assert not isinstance(error.value, NotFound)
    assert error.value.cure


def test_a_missing_bucket_is_an_error(s3_url: str) -> None:
    blobs = open_blobs(f"{s3_url}-not-there")
    with pytest.raises(TidemillError, match="could not be written") as error:
        blobs.put(b"tide")
    assert error.value.cure


def test_a_full_disk_leaves_no_incomplete_blob(tmp_path: Path) -> None:
    output = in_child(
        f"""
        from tidemill.blobs.store import DiskBlobs
        blobs = DiskBlobs({str(tmp_path)!r})
        blobs.put(b"small")
        explain(lambda: blobs.put(b"x" * 1_000_000))
        print(blobs.has({compute_digest(b"x" * 1_000_000)!r}), blobs.get({compute_digest(b"small")!r}))
        """,
        limits={resource.RLIMIT_FSIZE: 100_000},
    )
    assert "TidemillError: a blob of 1000000 bytes could not be written" in output
    assert "free some space" in output
    assert output.endswith("False b'small'\n")
    assert [file.stat().st_size for file in tmp_path.rglob("*") if file.is_file() and file.name != IDENTITY] == [5]


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    DiskBlobs(str(tmp_path)).put(b"tide")
    output = in_child(
        f"""
        from tidemill.blobs.store import DiskBlobs
        blobs = DiskBlobs({str(tmp_path)!r})
        print(blobs.get({compute_digest(b"tide")!r}))
        explain(lambda: blobs.put(b"ebb"))
        """,
        read_only=tmp_path,
    )
    assert output.startswith("b'tide'\nTidemillError: a blob of 3 bytes could not be written")
    assert "permissions" in output


LARGE = bytes(range(256)) * 40_000
_STREAM = """
        from tidemill.blobs.store import DiskBlobs
        blobs = DiskBlobs({folder!r})
        def stream():
            with blobs.draft() as draft:
                for _ in range(40):
                    draft.write(bytes(1_000_000))
                draft.keep()
        explain(stream)
        explain(lambda: blobs.put(bytes(40_000_000), durable=True))
        print(blobs.delete_drafts(0), [stored.size for stored in blobs.list_blobs()])
        print(blobs.get(blobs.put(b"small")))
        """


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real disk of 8 MB, which a test can fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, check=False)
        if os.geteuid() == 0 and sys.platform == "linux"
        else None
    )
    if mounted is None or mounted.returncode:
        # A limit on the size of a file refuses like a full disk, from the same call.
        yield disk
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_up_during_a_write_keeps_no_draft(small_disk: Path) -> None:
    limits = {} if os.path.ismount(small_disk) else {resource.RLIMIT_FSIZE: 8_000_000}
    output = in_child(_STREAM.format(folder=str(small_disk)), limits=limits)
    streamed, put, deleted, small = output.splitlines()
    assert "could not be written" in streamed
    assert "free some space" in streamed
    assert put.startswith("TidemillError: a blob of 40000000 bytes could not be written")
    assert deleted == "0 []"
    assert small == "b'small'"


def test_a_writer_in_another_language_gets_the_same_error_for_a_full_disk(tmp_path: Path) -> None:
    output = in_child(
        f"""
        import polars as pl
        from tidemill.blobs.artifacts import write_artifact
        from tidemill.blobs.store import DiskBlobs
        blobs = DiskBlobs({str(tmp_path)!r})
        frame = pl.select(x=pl.int_range(1_000_000).hash(seed=1))
        explain(lambda: write_artifact(blobs, frame))
        print(blobs.delete_drafts(0), list(blobs.list_blobs()))
        """,
        limits={resource.RLIMIT_FSIZE: 3_000_000},
    )
    assert output.startswith("TidemillError: a blob of ")
    assert "free some space" in output
    assert output.endswith("0 []\n")


@pytest.mark.parametrize("keeps", [False, True])
def test_a_killed_writer_leaves_at_most_a_draft(tmp_path: Path, keeps: bool) -> None:
    in_child(
        f"""
        from tidemill.blobs import disk
        blobs = disk.DiskBlobs({str(tmp_path)!r})
        disk.os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        draft = blobs.draft()
        draft.write(bytes(3_000_000))
        if {keeps}:
            draft.keep()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        check=False,
    )
    blobs = DiskBlobs(tmp_path)
    assert list(blobs.list_blobs()) == []
    assert blobs.delete_drafts(3600) == 0
    assert blobs.delete_drafts(0) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [IDENTITY]


def _put_all(number: int, folder: Path) -> list[str]:
    blobs = DiskBlobs(folder)
    blobs.delete_drafts(3600)
    return [blobs.put(content) for content in (*(b"%d" % index for index in range(200)), LARGE, b"own %d" % number)]


def test_several_processes_put_the_same_blobs_at_once(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    output = run_in_processes(2, _put_all, tmp_path)
    assert len({tuple(digests[:-1]) for digests in output}) == 1
    assert {stored.digest for stored in blobs.list_blobs()} == {digest for digests in output for digest in digests}
    for digests in output:
        blobs.open(digests[-2]).close()
        assert blobs.get(digests[-1])
    assert blobs.delete_drafts(0) == 0


def test_putting_a_blob_again_resets_its_age(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    for content in (b"tide", LARGE):
        digest = blobs.put(content)
        (file,) = tmp_path.rglob(digest)
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert {stored.age > 86_400 for stored in blobs.list_blobs() if stored.digest == digest} == {True}
        blobs.put(content)
        assert {stored.age < 60 for stored in blobs.list_blobs() if stored.digest == digest} == {True}


def test_other_files_in_the_folder_are_not_listed(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    digest = blobs.put(b"tide")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "thing").touch()
    (tmp_path / "ab").write_text("no folder")
    assert [stored.digest for stored in blobs.list_blobs()] == [digest]


def test_a_large_blob_is_never_complete_in_memory(tmp_path: Path) -> None:
    output = in_child(
        f"""
        import resource
        from tidemill.blobs.store import DiskBlobs
        blobs = DiskBlobs({str(tmp_path)!r})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with blobs.draft() as draft:
            for _ in range(200):
                draft.write(bytes(1_000_000))
            digest = draft.keep()
        with blobs.open(digest) as source:
            print(source.seek(0, 2))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown < 50_000, grown)
        """
    )
    assert output.startswith("200000000\nTrue"), output


def test_an_unreachable_store_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:9"), ("ALLOW_HTTP", "true"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    blobs = open_blobs("s3://bucket/blobs")
    for request in (
        lambda: blobs.put(b"tide"),
        lambda: blobs.get(compute_digest(b"tide")),
        lambda: list(blobs.list_blobs()),
    ):
        with pytest.raises(Transient, match=r"127\.0\.0\.1:9") as error:
            request()
        assert "is up" in error.value.cure
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "code", "cure"),
    [(501, "NotImplemented", "only if it is absent"), (403, "AccessDenied", "credentials")],
)
def test_the_error_of_a_rejecting_store_is_one_line(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, cure: str
) -> None:
    class RejectingHandler(BaseHTTPRequestHandler):
        def reject(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET = do_HEAD = do_DELETE = reject  # noqa: N815 - the base class's

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), RejectingHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name, value in (("ALLOW_HTTP", "true"), ("REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        with pytest.raises(TidemillError, match="could not be written") as error:
            open_blobs("s3://bucket/blobs").put(b"tide")
        server.shutdown()
    assert cure in error.value.cure
    assert "\n" not in str(error.value)


def test_a_large_blob_is_uploaded_in_parts(s3_url: str) -> None:
    blobs = open_blobs(f"{s3_url}/blobs")
    content = LARGE * 2
    with blobs.draft() as draft:
        for start in range(0, len(content), 1_000_000):
            draft.write(content[start : start + 1_000_000])
        digest = draft.keep()
    with blobs.open(digest) as source:
        assert source.read() == content
