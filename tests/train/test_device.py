"""Decisions from what a machine can do; there need be no such machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from adaptertune.errors import ConfigError
from adaptertune.train import device as devices

# A caller that holds 0.7 GB starts a process that holds little.
HEAVY = """
import subprocess, sys
ballast = b"x" * 700_000_000
own = "from adaptertune.train import device; print(device.peak_memory('cpu'))"
sys.exit(subprocess.run([sys.executable, "-c", own]).returncode)
"""
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system counts another way")
def test_peak_memory_is_the_process_own() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert 1e8 < int(done.stdout) < 6e8


@pytest.mark.parametrize(
    ("requested", "native", "chosen"),
    [("auto", True, "bf16"), ("auto", False, "fp32"), ("bf16", False, "bf16"),
     ("fp32", True, "fp32")],
)  # fmt: skip
def test_precision(requested: str, native: bool, chosen: str) -> None:
    assert devices.choose_precision(requested, native_bf16=native) == chosen


@pytest.mark.parametrize(
    "requested", ["gpu", "cuda0", "cuda:", f"cuda:{10**20}", "mps", "cpu:0", ""]
)
def test_what_is_no_device(requested: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--device: no kind of device: .*; use auto, cpu, cuda or"
    ):
        devices.choose_device(requested)


@pytest.mark.parametrize(
    ("capability", "code", "expected"),
    [((9, 0), "sm_90", True), ((8, 9), "sm_86", True), ((8, 6), "sm_75", False),
     ((8, 6), "sm_89", False), ((7, 0), "sm_75", False), ((12, 1), "sm_120", True),
     ((10, 0), "sm_90", False), ((10, 0), "sm_90a", False), ((9, 0), "sm_90a", True),
     ((10, 3), "sm_100a", False), ((10, 0), "compute_90", True), ((7, 0), "compute_75", False),
     ((9, 0), "gfx90a", False)],
)  # fmt: skip
def test_a_gpu_runs_code_of_its_own_generation(
    capability: tuple[int, int], code: str, expected: bool
) -> None:
    assert devices.runs_on(capability, code) is expected


@pytest.mark.parametrize("requested", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_torch_has_no_kernels_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    with pytest.raises(
        ConfigError, match=r"no kernels for Tesla V100, .* 7\.0 \(it has sm_75, sm_80"
    ):
        devices.choose_device(requested)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_70", "sm_80"])
    assert devices.choose_device(requested).type == "cuda"


@pytest.mark.parametrize(
    ("precision", "capability", "chosen"),
    [("fp32", (9, 0), "highest"), ("bf16", (9, 0), "high"), ("bf16", (8, 0), "high"),
     ("bf16", (7, 5), "highest"), ("bf16", None, "highest"), ("fp32", None, "highest")],
)  # fmt: skip
def test_fp32_is_fp32(precision: str, capability: tuple[int, int] | None, chosen: str) -> None:
    assert devices.choose_float32_products(precision, capability) == chosen


def test_a_run_has_its_own_products_and_leaves_the_processs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the caller's own code, and of what answers in fp32 afterwards."""
    before, current = torch.get_float32_matmul_precision(), list[torch.device]()
    threads = torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision("high")
        with devices.computing(CPU, "bf16", 1):
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_num_threads() == 1
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_num_threads() == threads
        torch.set_float32_matmul_precision("highest")
        monkeypatch.setattr(devices, "capability", lambda device: (8, 6))
        monkeypatch.setattr(torch.cuda, "set_device", current.append)
        with devices.computing(CUDA, "bf16"):
            assert current == [CUDA]
            assert torch.get_float32_matmul_precision() == "high"
            with devices.computing(CUDA, "fp32"):
                assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("capability", "has_triton", "problem"),
    [(None, True, "on a CPU they are slower"), ((6, 1), True, "below 7.0"),
     ((8, 0), False, "triton is not installed")],
)  # fmt: skip
def test_compiling_is_refused_with_its_reason(
    capability: tuple[int, int] | None, has_triton: bool, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as refused:
        devices.check_compile(capability, has_triton=has_triton)
    assert "--compile" in str(refused.value)
    devices.check_compile((7, 0), has_triton=True)


@pytest.mark.parametrize(
    ("requested", "device", "seeds", "can", "chosen"),
    [("auto", CUDA, 5, True, True), ("auto", CPU, 5, True, False), ("on", CPU, 5, True, True),
     ("auto", CUDA, 1, True, False), ("auto", CUDA, 5, False, False), ("off", CUDA, 5, True, False)],
)  # fmt: skip
def test_stacking(
    requested: str, device: torch.device, seeds: int, can: bool, chosen: bool
) -> None:
    assert devices.choose_stack(requested, device, seeds, can_stack=can) is chosen


def test_a_device_that_an_error_has_taken_from_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def waited(device: torch.device) -> None:
        asked.append(device)
        if len(asked) > 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", waited)
    assert devices.trouble("cuda:0") is None
    assert devices.trouble("cuda:0") == "CUDA error: an illegal memory access was encountered"
    assert devices.trouble("cpu") is None
    assert asked == [CUDA, CUDA]
