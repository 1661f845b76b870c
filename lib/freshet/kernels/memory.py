"""Arrays that grow in place: the operating system moves pages, nothing copies cells.

The memory is private and anonymous, so it is zero and costs nothing until it is touched; growing asks the kernel to
extend or move the mapping (mremap), whatever its size. Where that does not exist (macOS) a larger mapping is filled by
copying.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)


class GrowingArray:
    """A 1-d (`width` 0) or 2-d array of zeros whose number of rows can grow; `cells` is all of it.

    Whoever keeps a view of `cells` across `grow` gets a BufferError from it: the memory under the view may move.
    """

    def __init__(self, dtype: npt.DTypeLike, width: int, rows: int) -> None:
        self.dtype = np.dtype(dtype)
        self.width = width
        self._memory = mmap.mmap(-1, self._bytes(rows), flags=_FLAGS)
        self.cells = self._view(rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * (self.width or 1)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows; the new ones are zero."""
        old = len(self.cells)
        self.cells = np.empty(0, self.dtype)  # lets go of the memory, which refuses to move under a view
        try:
            self._memory.resize(self._bytes(rows))
        except (SystemError, ValueError):  # no mremap on this platform
            self._copy_out(old, rows)
        except BufferError:
            self.cells = self._view(old)
            raise
        self.cells = self._view(rows)

    def _copy_out(self, old: int, rows: int) -> None:
        larger = mmap.mmap(-1, self._bytes(rows), flags=_FLAGS)
        larger[: self._bytes(old)] = self._memory[: self._bytes(old)]
        self._memory = larger

    def _bytes(self, rows: int) -> int:
        pages = -(-rows * self.row_bytes // mmap.PAGESIZE)
        return max(1, pages) * mmap.PAGESIZE

    def _view(self, rows: int) -> npt.NDArray[Any]:
        flat = np.frombuffer(self._memory, self.dtype, count=rows * (self.width or 1))
        return flat.reshape(rows, self.width) if self.width else flat
