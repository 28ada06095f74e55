"""Gives the gradient of a strided convolution less and less memory, with and without oneDNN: why a try of
`faults.py memory` can crash.

oneDNN writes its kernels when they are first needed, and where the address space ends there, it calls one
that is not there:
a segmentation fault, of which no program can make a sentence. Prints how many limits ended how."""

import os
import resource
import signal
from collections import Counter
from pathlib import Path

import torch
from torch import nn

STEP, MOST = 2**18, 48 * 2**20  # bytes between two limits, and up to which


def ending(room: int, onednn: bool) -> str:
    "How forward and backward end in a process that gets no more than `room` bytes."
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            torch.backends.mkldnn.enabled = onednn
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
            layer(images).square().sum().backward()
            code = 0
        except (RuntimeError, MemoryError):
            code = 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {
        0: "went well", 2: "said that there is no memory", -signal.SIGSEGV: "segmentation fault"
    }.get(code, f"code {code}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    layer, images = nn.Conv2d(32, 32, 4, 2, 1), torch.rand(64, 32, 32, 32, requires_grad=True)
    layer(images[:2]).sum().backward()  # what is only made once
    for onednn in (True, False):
        endings = Counter(ending(room, onednn) for room in range(0, MOST, STEP))
        print(
            f"torch {torch.__version__}, {'with' if onednn else 'without'} oneDNN:",
            ", ".join(f"{words}: {n}" for words, n in sorted(endings.items()))
        )
