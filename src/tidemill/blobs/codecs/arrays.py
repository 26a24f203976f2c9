"""NumPy arrays in NumPy's own format, never pickled."""

from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tidemill.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class ArrayCodec:
    """Arrays of numbers, flags, times and text of one width, row by row whatever their order in memory."""

    kind = "array"

    def accepts(self, value: Any) -> bool:
        return type(value).__module__ == "numpy" and type(value).__name__ in ("ndarray", "memmap")

    def write(self, value: "npt.NDArray[Any]", sink: BinaryIO) -> None:
        """Raises `DataError` for an array of Python objects."""
        import numpy as np

        if value.dtype.hasobject:
            raise DataError(
                f"an array of {value.dtype} holds Python objects, which are never pickled",
                "give it a dtype of its own (float, int, datetime64[us], U20), or return a list or a frame",
            )
        np.lib.format.write_array(sink, np.asarray(value, order="C"), allow_pickle=False)

    def read(self, source: BinaryIO, annotation: Any) -> "np.ndarray[Any, Any]":  # noqa: ARG002 - the protocol's
        import numpy as np

        return cast("np.ndarray[Any, Any]", np.lib.format.read_array(source, allow_pickle=False))

    def summary(self, value: "npt.NDArray[Any]") -> dict[str, Any]:
        return {"shape": list(value.shape), "dtype": str(value.dtype)}
