"""What every store of blobs promises: bytes by digest, written once, and never other bytes than those."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.blobs.store import Blobs, compute_digest
from tidemill.errors import Corrupt, NotFound

# More than a store keeps in memory on its way.
LARGE = bytes(range(256)) * 40_000


class Alter(Protocol):
    """Puts other bytes in the place of a blob, behind the back of its store."""

    def __call__(self, digest: str, content: bytes) -> None: ...


class BlobsSuite:
    """Inherit it and give the fixtures `opener` and `alter`.

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
        """Opens one and the same store, empty at first, as often as it is called."""
        raise NotImplementedError("give the fixture `opener`")

    @pytest.fixture
    def alter(self) -> Alter:
        """Puts other bytes in the place of a blob, behind the back of its store."""
        raise NotImplementedError("give the fixture `alter`")

    @pytest.fixture
    def blobs(self, opener: Callable[[], Blobs]) -> Blobs:
        return opener()

    @pytest.mark.parametrize("content", [b"", b"tide", LARGE], ids=["empty", "small", "large"])
    def test_bytes_come_back_under_their_digest(self, blobs: Blobs, content: bytes) -> None:
        digest = blobs.put(content, durable=True)
        assert digest == compute_digest(content)
        assert blobs.has(digest)
        assert blobs.get(digest) == content

    @pytest.mark.parametrize("content", [b"", b"tide", LARGE], ids=["empty", "small", "large"])
    def test_bytes_go_and_come_in_pieces(self, blobs: Blobs, content: bytes) -> None:
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

    def test_a_draft_that_is_not_kept_is_no_blob(self, blobs: Blobs) -> None:
        with blobs.draft() as draft:
            draft.write(LARGE)
        with contextlib.suppress(KeyError), blobs.draft() as draft:
            draft.write(LARGE)
            raise KeyError
        assert not blobs.has(compute_digest(LARGE))
        assert list(blobs.list_blobs()) == []
        assert blobs.delete_drafts(0) == 0

    def test_another_opening_has_them(self, blobs: Blobs, opener: Callable[[], Blobs]) -> None:
        assert opener().get(blobs.put(b"tide")) == b"tide"

    @pytest.mark.parametrize("content", [b"tide", LARGE], ids=["small", "large"])
    def test_the_same_bytes_twice_are_one_blob(self, blobs: Blobs, content: bytes) -> None:
        assert blobs.put(content) == blobs.put(content, durable=True)
        assert blobs.get(compute_digest(content)) == content
        assert [(found.digest, found.size) for found in blobs.list_blobs()] == [(compute_digest(content), len(content))]

    @pytest.mark.parametrize("wrong", [b"ebb", b"tidf", b""], ids=["cut short", "altered", "emptied"])
    def test_what_is_not_right_is_corrupt_until_it_is_put_again(self, blobs: Blobs, alter: Alter, wrong: bytes) -> None:
        digest = blobs.put(b"tide")
        alter(digest, wrong)
        for ask in (blobs.get, blobs.open):
            with pytest.raises(Corrupt, match=digest[:12]) as corrupt:
                ask(digest)
            assert corrupt.value.cure
        assert blobs.put(b"tide") == digest
        assert blobs.get(digest) == b"tide"

    def test_a_large_one_that_is_not_right_is_mended_too(self, blobs: Blobs, alter: Alter) -> None:
        digest = blobs.put(LARGE)
        alter(digest, LARGE[:-1] + b"?")
        with pytest.raises(Corrupt):
            blobs.open(digest)
        with blobs.draft() as draft:
            draft.write(LARGE)
            draft.keep()
        assert blobs.get(digest) == LARGE

    @pytest.mark.parametrize("name", [compute_digest(b"nowhere"), "nowhere", "", "../" * 20 + "etc/passwd"])
    def test_what_is_not_there_is_not_found(self, blobs: Blobs, name: str) -> None:
        for ask in (blobs.get, blobs.open):
            with pytest.raises(NotFound) as missing:
                ask(name)
            assert missing.value.cure
        assert not blobs.has(compute_digest(b"nowhere"))

    def test_what_is_deleted_is_not_found_and_can_come_again(self, blobs: Blobs) -> None:
        digest = blobs.put(b"tide")
        blobs.delete(digest)
        assert not blobs.has(digest)
        with pytest.raises(NotFound):
            blobs.get(digest)
        assert blobs.put(b"tide") == digest
        assert blobs.get(digest) == b"tide"

    def test_deleting_what_is_not_there_changes_nothing(self, blobs: Blobs) -> None:
        kept = blobs.put(b"tide")
        blobs.delete(compute_digest(b"nowhere"))
        assert blobs.get(kept) == b"tide"

    def test_what_is_stored_is_told_with_size_and_age(self, blobs: Blobs) -> None:
        contents = [b"", b"tide", b"ebb" * 1000]
        for content in contents:
            blobs.put(content)
        found = {stored.digest: stored for stored in blobs.list_blobs()}
        assert {digest: stored.size for digest, stored in found.items()} == {
            compute_digest(content): len(content) for content in contents
        }
        # An object store counts in whole seconds, by a clock of its own.
        assert all(0 <= stored.age < 60 for stored in found.values())

    def test_one_may_be_deleted_while_they_are_told(self, blobs: Blobs) -> None:
        for number in range(20):
            blobs.put(bytes([number]))
        for stored in blobs.list_blobs():
            blobs.delete(stored.digest)
        assert list(blobs.list_blobs()) == []

    def test_many_threads_put_the_same_bytes_at_once(self, opener: Callable[[], Blobs]) -> None:
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
    def test_any_pieces_are_the_bytes_that_they_make_together(self, blobs: Blobs, pieces: list[bytes]) -> None:
        with blobs.draft() as draft:
            for piece in pieces:
                draft.write(piece)
            digest = draft.keep()
        assert digest == compute_digest(b"".join(pieces))
        assert blobs.get(digest) == b"".join(pieces)
