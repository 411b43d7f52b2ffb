"""Processes that end with their parent, however it ended: also by SIGKILL, which leaves it no time to end them."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def be_killed_with_thread(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, which process `parent` has.

    That holds whatever this process does, but it must be started by a thread that lives as long as the parent does.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
