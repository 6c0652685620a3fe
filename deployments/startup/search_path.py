"""The search path of Python, cleaned before anything is imported from it.

Only `sys` and `os` are imported here, which are in memory before our first line: not even `__future__`, since
what means the working folder may still stand in front of the standard library.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # noqa: PTH120 - pathlib is no part of the start
"""Where this distribution's packages lie: a checkout, or site-packages."""


def ignore_working_folder() -> None:
    """Take the folder that `python -m` put in front of the search path out again, unless it is ours."""
    if sys.path and os.path.realpath(sys.path[0] or ".") != ROOT:
        del sys.path[0]


def forget_working_folder() -> None:
    """Take what means the working folder out of the search path, unless that folder is ours.

    Relative entries (an editable install leaves one that is no path at all), and the one that an empty part
    of PYTHONPATH stands for: it comes from `PYTHONPATH=$PYTHONPATH:/more`, and is rarely meant.
    """
    try:
        here = os.getcwd()  # noqa: PTH109 - this comes before everything
    except OSError:
        here = ""
    unmeant = {here} if "" in os.environ.get("PYTHONPATH", "").split(os.pathsep) else set()
    sys.path[:] = [p for p in sys.path if os.path.isabs(p) and p not in unmeant - {ROOT}]  # noqa: PTH117


def is_program() -> bool:
    """Whether this process was started as `phaseline`, so that its search path is ours to clean."""
    return os.path.basename(sys.argv[0] if sys.argv else "").startswith("phaseline")  # noqa: PTH119
