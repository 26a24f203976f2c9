"""ModelFileInfo: the facts that a model file contains, read without running it."""

from msgspec import Struct

from tidemill.core.model import PredictionTask


class ModelFileInfo(Struct, frozen=True, kw_only=True):
    """The facts in a model file; a fact that the file does not contain is empty or None.

    `names` are its features in its order, `width` their number. `texts` are the features that may contain text
    (None: any), `integers` those that are whole numbers. `outputs` is the number of classes, and `classes` their names.
    `versions` are those of the packages that created it. `imports` are the names that a pickle would import; `whole` is
    whether this list is proven to be complete, and `doubt` why it is not.
    """

    names: tuple[str, ...] = ()
    width: int | None = None
    texts: tuple[str, ...] | None = None
    integers: tuple[str, ...] = ()
    task: PredictionTask | None = None
    outputs: int | None = None
    classes: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    imports: tuple[str, ...] = ()
    whole: bool = True
    doubt: str = ""
