"""The bottleneck adapter (Houlsby et al. 2019, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda hidden: functional.gelu(hidden, approximate="tanh"),
    "relu": functional.relu,
    "tanh": torch.tanh,
    "swish": functional.silu,
}


def linear(module: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """The module's product in the type of ``hidden``: fp32 parameters are cast where they are used."""
    dtype = hidden.dtype
    return functional.linear(hidden, module.weight.to(dtype), module.bias.to(dtype))


def linear_of_each(modules: Sequence[nn.Linear], rows: torch.Tensor) -> torch.Tensor:
    """Several modules' products as one batched one: (modules, rows, in) -> (modules, rows, out)."""
    weight = torch.stack([module.weight for module in modules]).to(rows.dtype)
    bias = torch.stack([module.bias for module in modules]).to(rows.dtype)
    return torch.baddbmm(bias[:, None], rows, weight.mT)


class Adapter(nn.Module):
    """``x + up(activation(down(x)))``: nearly the identity at first, for both projections are small.

    Weights come from a zero-mean Gaussian truncated at two standard deviations, biases are 0.

    Args:
        width: the hidden width d of the layer.
        size: the bottleneck width m; 2md + d + m parameters.
        init_std: standard deviation before truncation (paper: 1e-2; its official code: 1e-3).
        activation: a key of ``ACTIVATIONS``.
        generator: where the initial weights come from.
    """

    def __init__(
        self, width: int, size: int, *, init_std: float, activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        # Made without values: torch's own would be drawn from the global generator, for nothing.
        self.down = nn.Linear(width, size, device="meta").to_empty(device="cpu")
        self.up = nn.Linear(size, width, device="meta").to_empty(device="cpu")
        self.activation = activation
        for projection in (self.down, self.up):
            nn.init.trunc_normal_(
                projection.weight,
                std=init_std,
                a=-2 * init_std,
                b=2 * init_std,
                generator=generator,
            )
            nn.init.zeros_(projection.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(…, width) -> (…, width)."""
        bottleneck = ACTIVATIONS[self.activation](linear(self.down, hidden))  # (…, size)
        return hidden + linear(self.up, bottleneck)

    @staticmethod
    def of_each(adapters: Sequence[Adapter], hidden: torch.Tensor) -> torch.Tensor:
        """Several adapters, each on its own part of the rows: (parts * batch, length, width) -> same.

        The adapters have one size and one activation; their products are batched.
        """
        if len(adapters) == 1:
            result: torch.Tensor = adapters[0](hidden)
            return result
        rows = hidden.reshape(len(adapters), -1, hidden.shape[-1])
        activation = ACTIVATIONS[adapters[0].activation]
        bottleneck = activation(linear_of_each([adapter.down for adapter in adapters], rows))
        lifted = linear_of_each([adapter.up for adapter in adapters], bottleneck)
        return hidden + lifted.view(hidden.shape)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"
