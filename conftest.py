"""Settings for every test, and for every notebook that is run again and compared."""

import os
import runpy
from pathlib import Path

OFFLINE = Path(__file__).parent / "tests" / "offline"

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TQDM_DISABLE"] = "1"  # no progress bar ends up in an output
# Here, and in every Python process that the tests start, the network is cut off.
os.environ["PYTHONPATH"] = os.pathsep.join([str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])])
runpy.run_path(str(OFFLINE / "sitecustomize.py"))


def pytest_terminal_summary(terminalreporter):
    """Print the table of the coursework: how many wrong answers each check caught, how many right ones it accepted."""
    reports = terminalreporter.stats.get("passed", [])
    rows = sorted(value for report in reports for name, value in report.user_properties if name == "coursework")
    if rows:
        terminalreporter.section("coursework: wrong answers named by the check, noticed by hidden tests, right answers")
        for number, wrong, caught, right in rows:
            terminalreporter.write_line(f"{number:<6} {wrong:>3} {caught:>3} {right:>3}")
        wrong, right = (sum(row[i] for row in rows) for i in (1, 3))
        terminalreporter.write_line(f"{len(rows)} exercises: {wrong} wrong answers named, {right} right ones accepted")
