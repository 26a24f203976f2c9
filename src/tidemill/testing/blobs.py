"""Conformance suite of blob stores: bytes by digest, written once, and verified on reading."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.blobs.store import Blobs, compute_digest
from tidemill.errors import Corrupt, NotFound

# More bytes than a store buffers in memory.
LARGE = bytes(range(256)) * 40_000


class Alter(Protocol):
    """A function that replaces the bytes of a blob without its store."""

    def __call__(self, digest: str, content: bytes) -> None: ...


class BlobsSuite:
    """Subclass it and define the fixtures `opener`, which opens the same store, and `alter`.

    ::

        class TestMyBlobs(BlobsSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return lambda: MyBlobs(tmp_path)

            @pytest.fixture
            def alter(self, tmp_path):
                return lambda digest, content: (tmp_path / digest).write_bytes(content)
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Blobs]:
        """Return a function that opens the same store; the store is empty at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def alter(self) -> Alter:
        """Return a function that replaces the bytes of a blob without its store."""
        raise NotImplementedError("define the fixture `alter`")

    @pytest.fixture
    def blobs(self, opener: Callable[[], Blobs]) -> Blobs:
        return opener()

    @pytest.mark.parametrize("content", [b"", b"tide", LARGE], ids=["empty", "small", "large"])
    def test_bytes_are_read_by_their_digest(self, blobs: Blobs, content: bytes) -> None:
        digest = blobs.put(content, durable=True)
        assert digest == compute_digest(content)
        assert blobs.has(digest)
        assert blobs.get(digest) == content

    @pytest.mark.parametrize("content", [b"", b"tide", LARGE], ids=["empty", "small", "large"])
    def test_bytes_are_written_and_read_in_chunks(self, blobs: Blobs, content: bytes) -> None:
        with blobs.draft() as draft:
            for start in range(0, len(content), 300_000):
                draft.write(memoryview(content)[start : start + 300_000])
            digest = draft.keep(durable=True)
        assert digest == compute_digest(content)
        with blobs.open(digest) as source:
            assert source.read(2) == content[:2]
            assert source.read() == content[2:]
            source.seek(1)
            assert source.read(3) == content[1:4]

    def test_a_draft_without_keep_is_not_stored(self, blobs: Blobs) -> None:
        with blobs.draft() as draft:
            draft.write(LARGE)
        with contextlib.suppress(KeyError), blobs.draft() as draft:
            draft.write(LARGE)
            raise KeyError
        assert not blobs.has(compute_digest(LARGE))
        assert list(blobs.list_blobs()) == []
        assert blobs.delete_drafts(0) == 0

    def test_a_second_opening_has_the_same_blobs(self, blobs: Blobs, opener: Callable[[], Blobs]) -> None:
        assert opener().get(blobs.put(b"tide")) == b"tide"

    @pytest.mark.parametrize("content", [b"tide", LARGE], ids=["small", "large"])
    def test_equal_bytes_are_one_blob(self, blobs: Blobs, content: bytes) -> None:
        assert blobs.put(content) == blobs.put(content, durable=True)
        assert blobs.get(compute_digest(content)) == content
        assert [(stored.digest, stored.size) for stored in blobs.list_blobs()] == [
            (compute_digest(content), len(content))
        ]

    @pytest.mark.parametrize("content", [b"ebb", b"tidf", b""], ids=["truncated", "altered", "emptied"])
    def test_altered_bytes_are_corrupt_until_they_are_put_again(
        self, blobs: Blobs, alter: Alter, content: bytes
    ) -> None:
        digest = blobs.put(b"tide")
        alter(digest, content)
        for read in (blobs.get, blobs.open):
            with pytest.raises(Corrupt, match=digest[:12]) as corrupt:
                read(digest)
            assert corrupt.value.cure
        assert blobs.put(b"tide") == digest
        assert blobs.get(digest) == b"tide"

    def test_an_altered_large_blob_is_repaired(self, blobs: Blobs, alter: Alter) -> None:
        digest = blobs.put(LARGE)
        alter(digest, LARGE[:-1] + b"?")
        with pytest.raises(Corrupt):
            blobs.open(digest)
        with blobs.draft() as draft:
            draft.write(LARGE)
            draft.keep()
        assert blobs.get(digest) == LARGE

    @pytest.mark.parametrize("name", [compute_digest(b"nowhere"), "nowhere", "", "../" * 20 + "etc/passwd"])
    def test_a_missing_blob_is_not_found(self, blobs: Blobs, name: str) -> None:
        for read in (blobs.get, blobs.open):
            with pytest.raises(NotFound) as missing:
                read(name)
            assert missing.value.cure
        assert not blobs.has(compute_digest(b"nowhere"))

    def test_a_deleted_blob_is_not_found_and_can_be_put_again(self, blobs: Blobs) -> None:
        digest = blobs.put(b"tide")
        blobs.delete(digest)
        assert not blobs.has(digest)
        with pytest.raises(NotFound):
            blobs.get(digest)
        assert blobs.put(b"tide") == digest
        assert blobs.get(digest) == b"tide"

    def test_deleting_a_missing_blob_changes_nothing(self, blobs: Blobs) -> None:
        kept = blobs.put(b"tide")
        blobs.delete(compute_digest(b"nowhere"))
        assert blobs.get(kept) == b"tide"

    def test_blobs_are_listed_with_size_and_age(self, blobs: Blobs) -> None:
        contents = [b"", b"tide", b"ebb" * 1000]
        for content in contents:
            blobs.put(content)
        listed = {stored.digest: stored for stored in blobs.list_blobs()}
        assert {digest: stored.size for digest, stored in listed.items()} == {
            compute_digest(content): len(content) for content in contents
        }
        # An object store has its own clock, and rounds times to seconds.
        assert all(0 <= stored.age < 60 for stored in listed.values())

    def test_a_blob_may_be_deleted_while_blobs_are_listed(self, blobs: Blobs) -> None:
        for number in range(20):
            blobs.put(bytes([number]))
        for stored in blobs.list_blobs():
            blobs.delete(stored.digest)
        assert list(blobs.list_blobs()) == []

    def test_several_threads_put_the_same_bytes_at_once(self, opener: Callable[[], Blobs]) -> None:
        content = b"tide" * 100_000

        def put(_: int) -> bytes:
            blobs = opener()
            return blobs.get(blobs.put(content))

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(put, range(16))) == {content}

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(pieces=st.lists(st.binary(max_size=200), max_size=5))
    def test_any_chunks_are_stored_as_their_concatenation(self, blobs: Blobs, pieces: list[bytes]) -> None:
        with blobs.draft() as draft:
            for piece in pieces:
                draft.write(piece)
            digest = draft.keep()
        assert digest == compute_digest(b"".join(pieces))
        assert blobs.get(digest) == b"".join(pieces)
