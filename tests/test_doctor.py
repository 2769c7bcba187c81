"""The doctor: what it looks at, and that each lack is found and has a remedy."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from adaptertune import doctor
from adaptertune.errors import ConfigError, HubError
from adaptertune.model import backbone
from adaptertune.train import device as devices
from tests.conftest import CHECKOUT, Finished
from tests.hub_server import HubServer

Cli = Callable[..., Finished]


def checks(cli: Cli, code: int = 0) -> dict[str, Any]:
    done = cli("doctor", "--json")
    assert done.code == code, done.err
    return {check["name"]: check for check in json.loads(done.out)["checks"]}


def test_what_it_looks_at(cli: Cli) -> None:
    """The tests' caches are empty and the network is off (conftest.py)."""
    found = checks(cli)
    assert list(found) == [
        "version", "libraries", "device", "precision", "cores", "memory", "network",
        "google-bert/bert-base-uncased", "minilm", "GLUE", "runs", "cache", "hub's cache",
    ]  # fmt: skip
    assert f"torch {torch.__version__}" in found["libraries"]["found"]
    for name in ("network", "google-bert/bert-base-uncased", "GLUE"):
        assert found[name]["level"] == "warning"
        assert found[name]["remedy"]
    shown = cli("doctor")
    assert shown.code == 0
    assert "→ unset HF_HUB_OFFLINE to download" in shown.out


def test_a_gpu_that_torch_was_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> None:
        raise ConfigError("no kernels for Tesla V100", where="--device", remedy="another torch")

    monkeypatch.setattr(devices, "choose_device", refused)
    device, *others = doctor._machine()
    assert device == doctor.Check("device", "error", "no kernels for Tesla V100", "another torch")
    assert [check.name for check in others] == ["cores", "memory"]


def test_a_hub_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        assert doctor._network().level == "ok"
    gone = doctor._network()
    assert (gone.level, gone.found.startswith(server.url)) == ("warning", True)
    assert "--offline" in (gone.remedy or "")


def test_missing_libraries(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["torch>=99", "no-such-thing>=1", "numpy>=2", "pytest>=99; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    found = checks(cli, code=2)["libraries"]
    assert (found["level"], found["found"]) == (
        "error",
        "2 missing, or not of the version that is needed",
    )
    assert found["remedy"] == "pip install 'torch>=99' 'no-such-thing>=1'"


def test_what_is_broken_is_told_and_the_rest_is_looked_at(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch without its libraries, a proxy that answers no HTTP, a damaged download."""

    def damaged(name: str, **_: object) -> None:
        raise HubError("damaged download", where=name, remedy="delete it")

    def no_http(*_: object, **__: object) -> None:
        raise http.client.BadStatusLine("nonsense")

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(backbone, "locate", damaged)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", no_http)
    found = checks(cli, code=2)
    assert found["device"]["found"].startswith("torch cannot be loaded (")
    assert "nonsense" in found["network"]["found"]
    for is_reachable in (True, False):  # nothing would fetch it again
        default = doctor._models(is_reachable=is_reachable)[0]
        assert (default.level, default.remedy) == ("warning", "delete it")
    assert (found["minilm"]["found"], found["minilm"]["remedy"]) == (
        "damaged download",
        "delete it",
    )
    assert list(found)[-3:] == ["runs", "cache", "hub's cache"]


def test_a_folder_that_may_not_be_entered_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """pathlib raises there in Python 3.11, os.path does not."""

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    assert doctor._disk(Path("/proc/1/cwd/runs"))[0].name == "runs"


def test_a_file_is_no_place(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for place, which in (("file", "file"), ("file/runs", "file"), ("link", "link")):
        found = {check.name: check for check in doctor._disk(tmp_path / place)}["runs"]
        assert (found.level, found.remedy) == ("error", "choose another --output")
        assert found.found == f"{tmp_path / place}: {tmp_path / which} is no folder"
    assert cli("doctor", "--output", "file").code == 2
    assert doctor._disk(tmp_path / "new" / "runs")[0].level != "error"


def test_files_that_were_read_take_no_memory_from_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2900000\n")
    (tmp_path / "memory.stat").write_text(
        "anon 900000\ninactive_file 1800000\nactive_file 200000\n"
    )
    if Path("/proc/meminfo").exists():
        assert doctor._free_memory(tmp_path) == 3000000 - 2900000 + 1800000
        (tmp_path / "memory.max").write_text("max\n")
        assert (doctor._free_memory(tmp_path) or 0) > 10**8


def test_little_of_everything(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 8, 10**9))
    monkeypatch.setattr(doctor, "_free_memory", lambda: 10**9)
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    monkeypatch.setattr(os, "access", lambda path, mode: "runs" in str(path))
    Path("runs").mkdir()
    found = checks(cli, code=2)
    for name in ("memory", "cores", "runs"):
        assert found[name]["level"] == "warning", name
    assert found["cache"]["level"] == "error"
    assert found["cache"]["remedy"] == "set ADAPTERTUNE_CACHE"


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "b" / "y").write_bytes(b"y" * 234)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert doctor._size(tmp_path) == 1234


@pytest.mark.parametrize(("typed", "offered"), [("pre", "predict"), ("ta", "task")])
def test_the_shell_completes(typed: str, offered: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['adaptertune']; "
         "from adaptertune.cli import main; main()"],
        env=os.environ | {"_ADAPTERTUNE_COMPLETE": "complete_bash", "COMP_CWORD": "1",
                          "COMP_WORDS": f"adaptertune {typed}"},
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert offered in done.stdout.split()
    assert done.stderr == ""
