"""Arrays that lie against an inaccessible page: a read or write past them kills the test process."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_libc = ctypes.CDLL(None, use_errno=True)
_keep: list[mmap.mmap] = []


def guarded(array: NDArray[Any], at_end: bool) -> NDArray[Any]:
    """A copy of ``array`` whose last byte (``at_end``) or first byte touches a page that may not be accessed."""
    page = mmap.PAGESIZE
    size = -(-max(1, array.nbytes) // page) * page
    block = mmap.mmap(-1, size + 2 * page)
    _keep.append(block)
    base = ctypes.addressof(ctypes.c_char.from_buffer(block))
    for guard in (base, base + page + size):
        if _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (size - array.nbytes if at_end else 0)
    copy = np.frombuffer(block, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy
