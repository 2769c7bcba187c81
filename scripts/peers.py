#!/usr/bin/env python3
"""The peers' environment (``peer_requirements.txt``), made on first use; prints its Python.

    python scripts/peers.py [FOLDER]

bench_peers.py measures against it, and tests/share/test_adapterhub.py has AdapterHub's own library write
and read checkpoints in it. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("peer_requirements.txt")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WITHOUT_CUDA = ("--index-url", CPU_INDEX, "--retries", "0", "--timeout", "20")


class Failed(Exception):
    """A command that was started here did not succeed."""


def default_environment() -> Path:
    """A folder in the user's cache, another one for other requirements."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    return cache / "adaptertune" / f"peers-{key}"


def requirements() -> dict[str, str]:
    """Package to pinned version."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def prepare_environment(folder: Path) -> Path:
    """The environment's Python; installs only if something is missing or of another version."""
    python = folder / "bin" / "python"
    if _differences(python) == []:
        return python
    print(f"Installing the peers into {folder} …", file=sys.stderr)
    if not _works([str(python), "-m", "pip", "--version"]):  # not there, or left half made
        if (folder / "pyvenv.cfg").exists():
            _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        elif not folder.exists() or not any(folder.iterdir()):
            _call([sys.executable, "-m", "venv", str(folder)])
        else:
            raise Failed(f"{folder} is no environment, and not empty")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = f"torch=={requirements()['torch']}"
    # On Linux the package index has torch with gigabytes of CUDA libraries, PyTorch's own one without.
    is_small = sys.platform != "linux" or shutil.which("nvidia-smi")
    if is_small or not _works([*pip, *WITHOUT_CUDA, torch]):
        _call([*pip, torch])
    _call([*pip, "-r", str(REQUIREMENTS)])
    different = _differences(python)
    if different != []:
        raise Failed(f"{folder} has not what {REQUIREMENTS.name} says: {different}")
    return python


def _differences(python: Path) -> list[str] | None:
    """Packages that are not there in the pinned version; None without an environment."""
    if not python.exists():
        return None
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.metadata['Name'].lower().replace('-', '_'): d.version "
        "for d in reversed(list(m.distributions()))}))"  # the first on the path counts
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return [
        name
        for name, version in requirements().items()
        # 2.13.0+cpu is version 2.13.0, built for another place
        if found.get(name.lower().replace("-", "_"), "").partition("+")[0] != version
    ]


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        raise Failed(f"exit code {done.returncode}: {' '.join(command)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=default_environment())
    print(prepare_environment(parser.parse_args().folder))
