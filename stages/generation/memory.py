"""How this process keeps memory that it no longer uses."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 2**30  # bytes; glibc allows a little less than 2**31


def keep_memory() -> bool:
    """Keep what is freed for what is allocated next, instead of giving it back to the system.

    Each step of a training on CPUs allocates the same large tensors; without this the system fills
    thousands of pages with zeros in each step, which takes a twentieth of it. Concerns the whole
    process, which in a stage does nothing else; memory at its peak stays the same.

    Returns
    -------
    is_done : bool
        Whether the C library can do so (glibc).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or no Linux
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
