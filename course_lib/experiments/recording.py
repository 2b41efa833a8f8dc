"""What all recorded experiments share: a result file, written after every seed, with the machine and the versions."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

DATA = Path(__file__).resolve().parent.parent.parent / "data"
RESULTS = DATA / "results"
CHECKPOINTS = DATA / "checkpoints"
RUNS = DATA.parent / "runs"  # of trainings under way; not part of the course

Run = dict[str, Any]  # what one seed gave, as it stands in the file


def result_path(experiment: str, corpus: str, *details: str) -> Path:
    """Where a result is recorded, e.g. ``translation-multi30k-18.json``."""
    return RESULTS / ("-".join((experiment, corpus.replace("/", "-"), *details)) + ".json")


def as_json(values: dict[str, Any]) -> dict[str, Any]:
    """Values as they stand in a file: lists in place of tuples."""
    described: dict[str, Any] = json.loads(json.dumps(values))
    return described


def record(
    path: Path,
    experiment: str,
    recipe: dict[str, Any],
    seeds: Sequence[int],
    run: Callable[[int], Run],
    mean: Callable[[list[Run]], dict[str, float]],
) -> dict[str, Any]:
    """Run an experiment for the seeds that its file does not hold yet, and return what the file then holds.

    Args:
        path: the file. It is written whole after every seed, so an interrupted experiment goes on with those missing.
        experiment: its name.
        recipe: everything that decides the result beside the seed, see :func:`as_json`.
        seeds: which to run.
        run: trains and scores with one seed.
        mean: over the runs.

    Raises:
        ValueError: if the file was recorded with another recipe.
    """
    result: dict[str, Any] = {"experiment": experiment, "recipe": recipe, "runs": []}
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["recipe"] != recipe:
            raise ValueError(f"{path} was recorded with another recipe; delete it to record this one")
    for seed in seeds:
        if any(done["seed"] == seed for done in result["runs"]):
            continue
        result["runs"].append(as_json(run(seed)) | {"machine": machine(), "versions": versions()})
        result["runs"].sort(key=lambda done: done["seed"])
        result["mean"] = mean(result["runs"])
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".json.tmp")
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    return result


def machine() -> dict[str, Any]:
    """Processor, cores, and its speed at what training consists of: float32 matrix products on one thread."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    a, products = torch.rand(512, 512), 40
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a @ a
    start = time.process_time()
    for _ in range(products):
        a @ a
    seconds = time.process_time() - start
    torch.set_num_threads(threads)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "gigaflops_per_core": round(products * 2 * 512**3 / seconds / 1e9, 1),
    }


def versions() -> dict[str, str | None]:
    """Versions of what computes the results, and the commit of the course if it is a git checkout."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=DATA, check=False
    )
    packages = {package: version(package) for package in ("numpy", "torch", "sacrebleu")}
    return {"python": platform.python_version(), **packages, "commit": commit.stdout.strip() or None}
