"""Run one of our modules as a child that never outlives its parent.

Does: asks the kernel to kill this process when its parent dies, however that happens, and then
becomes the named module. Refuses to start when the parent is gone already.

    python -m service.setup.child PARENT_PID service.transparency.tsa FOLDER --port 0
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Tie this process to its parent and run the module."""
    parent, module, *arguments = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("the kernel does not tie this process to its parent")
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
