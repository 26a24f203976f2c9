"""What every store of blobs promises: bytes by digest, written once, and never other bytes than those."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from tidemill.errors import Corrupt, NotFound
from tidemill.store.blobs import Blobs, digest_of


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

    @pytest.mark.parametrize("content", [b"", b"tide", bytes(range(256)) * 4096], ids=["empty", "small", "1 MiB"])
    def test_bytes_come_back_under_their_digest(self, blobs: Blobs, content: bytes) -> None:
        digest = blobs.put(content)
        assert digest == digest_of(content)
        assert blobs.has(digest)
        assert blobs.get(digest) == content

    def test_another_opening_has_them(self, blobs: Blobs, opener: Callable[[], Blobs]) -> None:
        assert opener().get(blobs.put(b"tide")) == b"tide"

    def test_the_same_bytes_twice_are_one_blob(self, blobs: Blobs) -> None:
        assert blobs.put(b"tide") == blobs.put(b"tide")
        assert blobs.get(digest_of(b"tide")) == b"tide"

    def test_what_is_there_is_never_written_again(self, blobs: Blobs, alter: Alter) -> None:
        digest = blobs.put(b"tide")
        alter(digest, b"ebb")
        blobs.put(b"tide")
        with pytest.raises(Corrupt):
            blobs.get(digest)

    def test_altered_bytes_are_corrupt(self, blobs: Blobs, alter: Alter) -> None:
        digest = blobs.put(b"tide")
        alter(digest, b"tidf")
        with pytest.raises(Corrupt, match=digest[:12]) as corrupt:
            blobs.get(digest)
        assert corrupt.value.cure

    def test_what_is_not_there_is_not_found(self, blobs: Blobs) -> None:
        nowhere = digest_of(b"nowhere")
        assert not blobs.has(nowhere)
        with pytest.raises(NotFound, match=nowhere[:12]) as missing:
            blobs.get(nowhere)
        assert missing.value.cure

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
        blobs.delete(digest_of(b"nowhere"))
        assert blobs.get(kept) == b"tide"

    def test_many_threads_put_the_same_bytes_at_once(self, opener: Callable[[], Blobs]) -> None:
        content = b"tide" * 100_000

        def put(_: int) -> bytes:
            blobs = opener()
            return blobs.get(blobs.put(content))

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(put, range(16))) == {content}
