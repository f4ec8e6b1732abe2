"""How a process of ours waits and keeps memory: importing this sets it, and must come before torch is imported."""

import ctypes
import os
import platform

# Threads that spin while they wait bring a busy machine to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A freed tensor of many megabytes would go back to the system, and the next one be faulted in page by page: on a CPU up
# to a half of the time. So large blocks are kept (glibc: M_MMAP_MAX 0, M_TRIM_THRESHOLD as high as it goes).
if platform.libc_ver()[0] == "glibc":
    _libc = ctypes.CDLL(None)
    _libc.mallopt(-4, 0)
    _libc.mallopt(-1, 2**31 - 1)
