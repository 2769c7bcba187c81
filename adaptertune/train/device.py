"""Device and precision, from what the machine can do; its threads, its memory and its clock."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import torch

from adaptertune.config import DEVICES, DEVICES_IN_WORDS
from adaptertune.errors import ConfigError, first_line

Precision = Literal["fp32", "bf16"]


def choose_device(requested: str) -> torch.device:
    """``auto`` is the first CUDA device if there is one, else the CPU.

    Raises:
        ConfigError: it is no kind of device, or a CUDA device that is not there or that the installed
            torch has no kernels for.
    """
    if re.fullmatch(DEVICES, requested) is None:
        raise ConfigError(
            f"no kind of device: '{requested}'", where="--device", remedy=f"use {DEVICES_IN_WORDS}"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested == "auto":
        device = torch.device("cuda", 0) if count else torch.device("cpu")
    else:
        device = torch.device(requested)
    if device.type != "cuda":
        return device
    if (device.index or 0) >= count:
        raise ConfigError(
            f"no device '{requested}' ({count} CUDA devices here)",
            where="--device",
            remedy="use --device auto or cpu",
        )
    own, built_for = capability(device), torch.cuda.get_arch_list()
    if torch.version.cuda and own and not any(runs_on(own, code) for code in built_for):
        raise ConfigError(
            f"this torch has no kernels for {product_name(device)}, of compute capability "
            f"{own[0]}.{own[1]} (it has {', '.join(built_for)})",
            where="--device",
            remedy="install a torch for an older CUDA (https://pytorch.org), or use --device cpu",
        )
    return device


def runs_on(capability: tuple[int, int], code: str) -> bool:
    """Whether a GPU can run a torch's code, in torch's words: ``sm_80``, ``compute_90``, ``sm_90a``.

    What was compiled for one GPU runs on later ones of the same first number, unless its name ends in a
    letter; what has yet to be compiled, on all later ones.
    """
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", code)
    if found is None:
        return False
    least = int(found[2]), int(found[3])
    if found[4]:
        return capability == least
    return capability >= least and (found[1] == "compute" or capability[0] == least[0])


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step, instead of asking the system for
    it again: 5 to 7 % of a step on a CPU. Only glibc is known to have the switches.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    library = ctypes.CDLL(None)
    library.mallopt(trim_threshold, 2**31 - 1)
    library.mallopt(mmap_threshold, 2**25)  # the most that glibc takes


def has_native_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are done by the hardware and not emulated."""
    cuda = capability(device)
    if cuda is not None:
        return cuda >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(requested: str, *, native_bf16: bool) -> Precision:
    """``auto`` is bf16 where the hardware has it, else fp32; anything else is as requested."""
    if requested == "fp32" or (requested == "auto" and not native_bf16):
        return "fp32"
    return "bf16"


def choose_float32_products(precision: str, capability: tuple[int, int] | None) -> str:
    """How exact products of fp32 numbers are, in torch's words: "highest" is fp32, "high" TF32.

    Under bf16 little but the head is left in fp32, and TF32 is still eight times as fine as bf16. A run
    in fp32 is fp32 in all of its products.

    Args:
        capability: of the CUDA device (TF32 from 8.0 on); None for a CPU.
    """
    has_tf32 = capability is not None and capability >= (8, 0)
    return "high" if precision == "bf16" and has_tf32 else "highest"


def compiler(device: torch.device) -> tuple[tuple[int, int] | None, bool]:
    """What :func:`check_compile` asks of a device: its capability, and whether triton is there."""
    return capability(device), importlib.util.find_spec("triton") is not None


def check_compile(capability: tuple[int, int] | None, *, has_triton: bool) -> None:
    """Whether torch.compile may make the layers' kernels.

    Not on a CPU, for which they are written out by hand: compiled, they began after one to two minutes
    and were slower.

    Args:
        capability: of the CUDA device; None for a CPU.

    Raises:
        ConfigError: it can't be done, or would be slower.
    """
    remedy = "leave it out"
    if capability is None:
        problem = "compiled layers are for CUDA devices: on a CPU they are slower"
    elif capability < (7, 0):
        problem = "torch.compile makes nothing for a GPU of compute capability below 7.0"
    elif not has_triton:
        problem = "the package triton is not installed, which torch.compile needs for a GPU"
        remedy = "pip install triton, or leave it out"
    else:
        return
    raise ConfigError(problem, where="--compile", remedy=remedy)


def capability(device: torch.device) -> tuple[int, int] | None:
    """The compute capability of a CUDA device; None for a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def choose_stack(requested: str, device: torch.device, num_seeds: int, *, can_stack: bool) -> bool:
    """Whether several seeds train in one pass.

    ``auto`` is yes on CUDA, where a step of a small batch is mostly waiting for launches. On a CPU one
    pass is not faster than seed after seed: the layers written out for it take one model.

    Raises:
        ConfigError: it was asked for and the method trains what would have to be shared.
    """
    if requested == "on" and not can_stack:
        raise ConfigError(
            "seeds train in one pass only where all products of the layers are frozen",
            where="--stack",
            remedy="use --stack off, or --method adapter (without norm=batch) or layernorm",
        )
    if num_seeds < 2 or not can_stack:
        return False
    return requested == "on" or (requested == "auto" and device.type == "cuda")


def product_name(device: torch.device) -> str:
    """What it is: ``NVIDIA H200``, ``AMD EPYC``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def num_cores() -> int:
    """Of the CPU, those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def computing(device: torch.device, precision: str, threads: int | None = None) -> Iterator[None]:
    """What a process sets for a training: memory that is freed is kept, a GPU is the current one; and
    within the block alone the CPU's threads, and how exact products of fp32 numbers are.
    """
    keep_freed_memory()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    products = choose_float32_products(precision, capability(device))
    with float32_products(products), cpu_threads(threads):
        yield


@contextmanager
def float32_products(how: str) -> Iterator[None]:
    """How exact products of fp32 numbers are within the block, in torch's words."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(how)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """So many threads for torch's operations on a CPU within the block; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forget_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory` count from now on, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):  # Linux has this file
        Path("/proc/self/clear_refs").write_text("5")


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more, to the device's other processes too."""
    gc.collect()
    if device.type == "cuda":
        with suppress(RuntimeError):  # one that no longer answers: what made it so is told
            torch.cuda.empty_cache()


def peak_memory(device: str) -> int:
    """The most that was allocated on a CUDA device, where what CUDA graphs hold counts as long as they
    are recorded only; elsewhere, the largest size of this process. Since
    :func:`forget_peak_memory`, or else since the process began.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(torch.device(device))
    # Not `getrusage` on Linux: there a process begins with the peak of the one that started it.
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        if found := re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE):
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trouble(device: str) -> str | None:
    """Why this process can't use a device, if so: after an illegal access or a fault of a GPU's memory
    each of its calls fails, and those of a new process need not.
    """
    try:
        clock(torch.device(device))
    except RuntimeError as error:
        return first_line(error)
    return None


def clock(device: torch.device) -> float:
    """Now, in seconds, when the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
