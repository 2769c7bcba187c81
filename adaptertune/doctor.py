"""What this machine has of all that a run needs, each thing with a remedy where it lacks something."""

from __future__ import annotations

import http.client
import importlib.metadata
import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaptertune import catalogue, download, paths, tasks
from adaptertune.errors import AdapterTuneError, BackboneError, ConfigError, first_line
from adaptertune.model import backbone

GIGABYTE = 10**9
FEW_BYTES = 5 * GIGABYTE  # of disk: BERT-large, its data and a few runs
LITTLE_MEMORY = 3 * GIGABYTE  # what a training of BERT-base takes, roughly
PATIENCE = 4.0  # seconds that the hub has to answer
SHOWN = ("torch", "transformers", "tokenizers", "datasets", "evaluate", "huggingface-hub", "typer")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    level: Literal["ok", "warning", "error"]
    found: str
    remedy: str | None = None


def examine(output: Path) -> list[Check]:
    """Look at everything; ``output`` is the run store's folder, which need not exist."""
    checks = [*_software(), *_machine()]
    reachable = _network()
    return [*checks, reachable, *_models(is_reachable=reachable.level == "ok"), *_disk(output)]


def _software() -> list[Check]:
    from packaging.requirements import Requirement

    known = importlib.metadata.version
    wrong = []
    for text in importlib.metadata.requires("adaptertune") or []:
        needed = Requirement(text)
        if needed.marker and not needed.marker.evaluate():
            continue
        try:
            found = known(needed.name)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found == "none" or not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"'{needed.name}{needed.specifier}'")
    own = f"adaptertune {known('adaptertune')}, Python {platform.python_version()} ({sys.prefix})"
    checks = [Check("version", "ok", own)]
    if wrong:
        remedy = f"pip install {' '.join(wrong)}"
        told = f"{len(wrong)} missing, or not of the version that is needed"
        checks.append(Check("libraries", "error", told, remedy))
    else:
        versions = ", ".join(f"{name} {known(name)}" for name in SHOWN)
        checks.append(Check("libraries", "ok", versions))
    return checks


def _machine() -> list[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:  # not there, or a library of its own is not
        reason, remedy = first_line(error), "pip install --force-reinstall torch"
        return [Check("device", "error", f"torch cannot be loaded ({reason})", remedy)]

    from adaptertune.train.device import choose_device, has_native_bf16, num_cores, product_name

    try:
        device = choose_device("auto")
        checks = [Check("device", "ok", f"{device}: {product_name(device)}")]
        told = "fp32: the hardware has no products in bf16, which are about twice as fast"
        if has_native_bf16(device):
            told = "bf16, done by the hardware"
        checks.append(Check("precision", "ok", told))
    except ConfigError as error:
        checks = [Check("device", "error", error.what, error.remedy)]
    cores = num_cores()
    threads = torch.get_num_threads()
    load = os.getloadavg()[0]
    told = f"{cores}, of which {threads} {'is' if threads == 1 else 'are'} used; load {load:.1f}"
    if load > 1.5 * cores:
        remedy = "wait for the other work to end, or expect to be slowed by it"
        checks.append(Check("cores", "warning", told, remedy))
    else:
        checks.append(Check("cores", "ok", told))
    free = _free_memory()
    if free is not None:
        is_little = free < LITTLE_MEMORY
        advice = "choose a smaller --backbone or --batch-size" if is_little else None
        level: Literal["ok", "warning"] = "warning" if is_little else "ok"
        checks.append(Check("memory", level, f"{free / GIGABYTE:.1f} GB free", advice))
    return checks


def _free_memory(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that a process may still take, its control group's limit included; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = int((group / "memory.max").read_text())
        taken = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Files that were read count as taken, and are given up where memory is needed.
        return min(free, limit - taken + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no such group, or "max"
        return free


def _network() -> Check:
    from huggingface_hub import constants

    where = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        remedy = "unset HF_HUB_OFFLINE to download"
        return Check("network", "warning", "turned off by HF_HUB_OFFLINE", remedy)
    try:
        request = urllib.request.Request(where, method="HEAD")
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return Check("network", "ok", f"{where} answers")
    except urllib.error.HTTPError:
        return Check("network", "ok", f"{where} answers")  # with some error; but it is there
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        remedy = "work with --offline, --data-dir and --backbone minilm, or set HTTPS_PROXY"
        return Check("network", "warning", f"{where} does not answer ({reason})", remedy)


def _models(*, is_reachable: bool) -> list[Check]:
    """Whether the default and the embedded backbone, and GLUE, are at hand."""
    checks: list[Check] = []
    for name in (catalogue.DEFAULT, catalogue.EMBEDDED):
        try:
            located = backbone.locate(name, offline=True)
        except AdapterTuneError as error:  # a damaged download is another kind than a missing one
            is_missing = name == catalogue.DEFAULT and isinstance(error, BackboneError)
            if is_missing and is_reachable:
                checks.append(Check(name, "ok", "not in the cache; downloaded when needed"))
            else:
                told = "use --offline or --backbone minilm" if is_missing else error.remedy
                checks.append(Check(name, "warning", error.what, told))
        else:
            size = located.weights.stat().st_size / GIGABYTE
            checks.append(Check(name, "ok", f"{located.folder} ({size:.2f} GB, SHA-256 verified)"))
    kept = [name for name in tasks.shipped() if _is_cached(tasks.load(name))]
    told = f"in the hub's cache: {', '.join(kept) or 'no task'}"
    if kept or is_reachable:
        checks.append(Check("GLUE", "ok", told))
    else:
        remedy = "give --data-dir, or try things out on the sample with --offline"
        checks.append(Check("GLUE", "warning", told, remedy))
    return checks


def _is_cached(task: tasks.Task) -> bool:
    wanted = task.hub
    assert wanted is not None
    try:
        folder = download.snapshot(
            "dataset",
            wanted.dataset,
            [f"{wanted.config}/*"],
            revision=wanted.revision,
            offline=True,
        )
    except AdapterTuneError:
        return False
    return any((folder / str(wanted.config)).glob("*.parquet"))


def _disk(output: Path) -> list[Check]:
    from huggingface_hub import constants

    checks = []
    places = [
        ("runs", output.absolute(), "choose another --output"),
        ("cache", paths.cache(), "set ADAPTERTUNE_CACHE"),
        ("hub's cache", Path(constants.HF_HUB_CACHE), "set HF_HOME"),
    ]
    for name, place, remedy in places:
        # os.path, for pathlib's methods raise where a folder may not be entered.
        folder = next(path for path in (place, *place.parents) if os.path.lexists(path))
        if not os.path.isdir(folder):  # noqa: PTH112
            checks.append(Check(name, "error", f"{place}: {folder} is no folder", remedy))
            continue
        free = shutil.disk_usage(folder).free
        told = f"{place}: {_size(place) / GIGABYTE:.2f} GB used, {free / GIGABYTE:.1f} GB free"
        if not os.access(folder, os.W_OK):
            checks.append(Check(name, "error", f"{told}; not writable", remedy))
        elif free < FEW_BYTES:
            checks.append(Check(name, "warning", told, "free some space"))
        else:
            checks.append(Check(name, "ok", told))
    return checks


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; links are not followed."""
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(path).st_size for path in found if os.path.lexists(path))
