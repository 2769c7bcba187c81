"""Decisions from what a machine can do; there need be no such machine."""

from __future__ import annotations

import pytest
import torch

from adaptertune.errors import ConfigError
from adaptertune.train import device as devices

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


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
    assert devices.answers("cuda:0")
    assert not devices.answers("cuda:0")
    assert devices.answers("cpu")
    assert asked == [CUDA, CUDA]
