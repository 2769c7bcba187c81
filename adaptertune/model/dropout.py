"""Dropout whose masks cost little and depend on a seed alone.

On a CPU torch draws a mask number by number, which takes a third of a training step. Here a mask comes
from the raw bits of a numpy generator, 16 for each element: the rate is kept to within 1 in 65,536
(0.1 becomes 6,554 / 65,536 = 0.100006). Elsewhere torch's own dropout is fast, and is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

LEVELS = 1 << 16
BF16_ONE = 0x3F80  # sign, exponent and mantissa of 1.0


class _Drop(torch.autograd.Function):
    """``hidden * keep * factor``, in one pass each way and with nothing but ``keep`` remembered.

    The factor stays a number: rounded to bf16 it would be off by 0.2 %.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, keep: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.save_for_backward(keep)
        ctx.factor = factor
        return scaled_product(hidden, keep, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (keep,) = ctx.saved_tensors
        return scaled_product(gradients[0], keep, ctx.factor), None, None


def scaled_product(
    left: torch.Tensor, right: torch.Tensor, factor: float, out: torch.Tensor | None = None
) -> torch.Tensor:
    """``left * right * factor`` in one pass."""
    return torch.addcmul(left.new_zeros(()), left, right, value=factor, out=out)


class Dropout:
    """The dropout of one training step.

    Args:
        seed: decides all masks of the step, in the order in which they are drawn.
        device: masks are drawn there.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        if device.type == "cpu":
            self._bits = np.random.Generator(np.random.PCG64DXSM(seed))
        else:
            torch.manual_seed(seed)

    def __call__(self, hidden: torch.Tensor, rate: float) -> torch.Tensor:
        """Set a share ``rate`` of the elements to 0 and scale the others by 1 / (1 - rate)."""
        if rate == 0:
            return hidden
        if self._device.type != "cpu":
            return functional.dropout(hidden, rate)
        keep, factor = self.mask(hidden.shape, rate, hidden.dtype)
        dropped: torch.Tensor = _Drop.apply(hidden, keep, factor)  # type: ignore[no-untyped-call]
        return dropped

    def mask(
        self, shape: torch.Size, rate: float, dtype: torch.dtype
    ) -> tuple[torch.Tensor, float]:
        """A mask of ones and zeros on the CPU, and the factor that keeps the mean: 1 / share of ones."""
        dropped, count = round(rate * LEVELS), shape.numel()
        words = self._bits.integers(0, 2**64, (count + 3) // 4, dtype=np.uint64)
        # As signed numbers the draws run from -LEVELS / 2 on.
        keep = torch.from_numpy(words.view(np.int16)[:count]).view(shape)
        keep.ge_(dropped - LEVELS // 2)
        # The bits of 1.0 in bf16, times 0 or 1: a fifth of the time of a conversion.
        keep = keep.mul_(BF16_ONE).view(torch.bfloat16).to(dtype)
        return keep, LEVELS / (LEVELS - dropped)
