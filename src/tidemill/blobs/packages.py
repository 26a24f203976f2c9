"""Model packages in the blobs, by digest."""

from collections import OrderedDict
from typing import ClassVar

from tidemill.blobs.artifacts import write_artifact
from tidemill.blobs.codecs import ModelCodec
from tidemill.blobs.store import Blobs
from tidemill.core.model import Model

_CACHE_SIZE = 8


class BlobPackages:
    """Loads and saves packages; caches the last few in memory."""

    writable: ClassVar[bool] = True

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._recent: OrderedDict[str, Model] = OrderedDict()

    def load(self, digest: str) -> Model:
        """Return the package with a digest; raise `NotFound` or `Corrupt`."""
        if digest not in self._recent:
            with self._blobs.open(digest) as source:
                self._recent[digest] = ModelCodec().read(source, Model)
            while len(self._recent) > _CACHE_SIZE:
                self._recent.popitem(last=False)
        self._recent.move_to_end(digest)
        return self._recent[digest]

    def save(self, model: Model) -> str:
        """Save a package and return its digest; it is flushed to the disk before the return."""
        return write_artifact(self._blobs, model).digest
