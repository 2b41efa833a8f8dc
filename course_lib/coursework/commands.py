"""The command line of the coursework: ``python -m course_lib coursework NAME``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from course_lib.coursework import editions


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m course_lib coursework", description="Notebooks for students.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")
    about = "write the notebooks without solutions into a folder, or bring them up to date"
    release = commands.add_parser("release", help=about, description=f"{about}; what a student has written stays.")
    release.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        changed = editions.release(options.folder)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print("\n".join(f"released {name}" for name in changed) or f"all notebooks in {options.folder} are up to date")
    return 0
