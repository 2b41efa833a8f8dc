"""The command line: ``python -m course_lib doctor``, ``… experiment NAME`` and ``… coursework NAME``."""

import sys
from collections.abc import Sequence

USAGE = """usage: python -m course_lib COMMAND

  doctor                     check this computer and environment; say how to mend what is wrong
  experiment NAME [options]  repeat a recorded experiment (experiment --help lists them)
  coursework NAME [options]  notebooks for students, and the grading of a class (coursework --help lists them)
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; each command is imported only when asked for."""
    match list(arguments):
        case ["doctor"]:
            from course_lib import doctor

            return doctor.main()
        case ["experiment", *rest]:
            from course_lib import experiments

            return experiments.main(rest)
        case ["coursework", *rest]:
            from course_lib.coursework import commands

            return commands.main(rest)
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case _:
            print(USAGE, end="", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
