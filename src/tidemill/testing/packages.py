"""Conformance suite of package stores: packages are loaded by digest, and altered packages are refused."""

from collections.abc import Callable

import pytest

from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.resources import PackageStore
from tidemill.errors import Corrupt, NotFound
from tidemill.testing.blobs import Alter


def package(number: int = 0) -> Model:
    """Return a package; each number has a different package."""
    manifest = Manifest(name=f"late-{number}", flavor="lightgbm", signature=Signature(inputs=(), task="regression"))
    return Model(manifest=manifest, files={"model.txt": b"tree", "Zürich/empty": b""})


class PackagesSuite:
    """Subclass it and define the fixtures `opener`, which opens the same store, and `alter`.

    ::

        class TestMyPackages(PackagesSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyPackages, tmp_path)

            @pytest.fixture
            def alter(self, tmp_path):
                return lambda digest, content: (tmp_path / digest).write_bytes(content)
    """

    @pytest.fixture
    def opener(self) -> Callable[[], PackageStore]:
        """Return a function that opens the same store; the store is empty at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def alter(self) -> Alter:
        """Return a function that replaces the bytes of a package without its store."""
        raise NotImplementedError("define the fixture `alter`")

    def test_package_is_loaded_by_its_digest(self, opener: Callable[[], PackageStore]) -> None:
        packages = opener()
        digests = [packages.save(package(number)) for number in range(12)]
        assert len(set(digests)) == 12
        for store in (packages, opener()):
            assert [store.load(digest) for digest in digests] == [package(number) for number in range(12)]

    def test_equal_packages_have_one_digest(self, opener: Callable[[], PackageStore]) -> None:
        assert opener().save(package(3)) == opener().save(package(3))

    def test_an_unknown_package_is_not_found(self, opener: Callable[[], PackageStore]) -> None:
        with pytest.raises(NotFound):
            opener().load("0" * 64)

    def test_an_altered_package_is_never_loaded(self, opener: Callable[[], PackageStore], alter: Alter) -> None:
        digest = opener().save(package())
        alter(digest, b"other bytes")
        with pytest.raises(Corrupt) as refused:
            opener().load(digest)
        assert refused.value.cure
