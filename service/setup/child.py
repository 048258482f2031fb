"""Run one of our modules, or a foreign program, as a child that never outlives its parent.

Does: asks the kernel to signal this process when its parent dies, however that happens, and then
becomes the named module or program. A program may run as another account (PostgreSQL refuses
root) and gets the signal after which it ends its own children too. Refuses to start when the
parent is gone already.

    python -m service.setup.child PARENT_PID service.transparency.tsa FOLDER --port 0
    python -m service.setup.child PARENT_PID --program QUIT:65534:65534 FOLDER /usr/bin/postgres …
"""

import ctypes
import os
import runpy
import signal
import sys

PROGRAM = "--program"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Tie this process to its parent and run the module or the program."""
    parent, what, *arguments = sys.argv[1:]
    if what == PROGRAM:
        terms, folder, *command = arguments
        name, user, group = terms.split(":")
        os.chdir(folder)
        if user:
            os.setgroups([])
            os.setgid(int(group))
            os.setuid(int(user))  # before the tie: a change of account undoes it
        _tie(int(parent), signal.Signals[f"SIG{name}"])
        os.execv(command[0], command)  # noqa: S606  the command that our launcher named
    _tie(int(parent), signal.SIGKILL)
    sys.argv = [what, *arguments]
    runpy.run_module(what, run_name="__main__", alter_sys=True)


def _tie(parent: int, number: signal.Signals) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        sys.exit("the kernel does not tie this process to its parent")
    if os.getppid() != parent:
        sys.exit("the parent is gone")


if __name__ == "__main__":
    main()
