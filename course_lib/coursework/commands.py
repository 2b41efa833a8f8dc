"""The command line of the coursework: ``python -m course_lib coursework NAME``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from course_lib.coursework import editions


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib coursework", description="Notebooks for students, and the grading of a class."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")

    def command(name: str, about: str, names: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        added.add_argument("folder", type=Path)
        if names:
            added.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help=names)
        return added

    command("release", "write the notebooks without solutions, or bring them up to date; what is written there stays")
    command(
        "class", "make or update a class's folder for nbgrader", "such as 04_1_attention_and_positions (default: all)"
    )
    grade = command("grade", "run and grade what a class has submitted, where that is not done yet", "(default: all)")
    grade.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="submissions run at once")
    options = parser.parse_args(arguments)
    try:
        if options.command == "release":
            changed = editions.release(options.folder)
            print(
                "\n".join(f"released {name}" for name in changed) or f"the notebooks in {options.folder} are up to date"
            )
            return 0
        from course_lib.coursework import grading

        names = options.notebooks or None
        if options.command == "class":
            print("\n".join(f"assignment {name}" for name in grading.set_up(options.folder, names)))
        else:
            print(f"wrote {grading.grade(options.folder, names, options.workers)}")
    except (ValueError, RuntimeError) as error:
        parser.exit(1, f"{error}\n")
    return 0
