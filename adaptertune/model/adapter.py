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
EPSILON, MOMENTUM = 1e-5, 0.1  # torch's own, of normalisation inside an adapter


def linear(module: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """The module's product in the type of ``hidden``: fp32 parameters are cast where they are used.

    A module that stands in for a linear one (LoRA, (IA)³) sees to that itself.
    """
    if not isinstance(module, nn.Linear):
        found: torch.Tensor = module(hidden)
        return found
    dtype = hidden.dtype
    return functional.linear(hidden, module.weight.to(dtype), module.bias.to(dtype))


def linear_of_each(modules: Sequence[nn.Linear], rows: torch.Tensor) -> torch.Tensor:
    """Several modules' products as one batched one: (modules, rows, in) -> (modules, rows, out)."""
    weight = torch.stack([module.weight for module in modules]).to(rows.dtype)
    bias = torch.stack([module.bias for module in modules]).to(rows.dtype)
    return torch.baddbmm(bias[:, None], rows, weight.mT)


class Adapter(nn.Module):
    """``x + up(activation(down(x)))``: nearly the identity at first, for both projections are small.

    With all its variants ``x * (1 + scale * f(r))`` or ``x + scale * f(r)``, where r is what it reads
    and f is ``up(activation(… activation(down(norm(r)))))``. Weights come from a zero-mean Gaussian
    truncated at two standard deviations, biases are 0.

    Args:
        width: the hidden width d of the layer.
        size: the bottleneck width m; 2md + d + m parameters, m² + m more for each depth beyond 1 and
            2d more for a norm.
        init_std: standard deviation before truncation (paper: 1e-2; its official code: 1e-3).
        activation: a key of ``ACTIVATIONS``.
        generator: where the initial weights come from.
        depth: how often the bottleneck is activated.
        norm: none, batch or layer: what normalises r.
        reads: which of its sub-layer's hidden states r is; see ``config.Adapter``.
        multiplies: whether f scales x instead of being added to it.
        scale: a fixed factor on f.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        init_std: float,
        activation: str,
        generator: torch.Generator,
        depth: int = 1,
        norm: str = "none",
        reads: str = "output",
        multiplies: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.down = _empty(width, size)
        self.up = _empty(size, width)
        self.inner = nn.ModuleList(_empty(size, size) for _ in range(depth - 1))
        self.norm = NORMS[norm](width)
        self.activation, self.reads = activation, reads
        self.multiplies, self.scale = multiplies, scale
        for projection in (self.down, self.up, *self.inner):
            nn.init.trunc_normal_(
                projection.weight,
                std=init_std,
                a=-2 * init_std,
                b=2 * init_std,
                generator=generator,
            )
            nn.init.zeros_(projection.bias)

    @property
    def is_plain(self) -> bool:
        """Whether it is the paper's own, which has faster ways than :meth:`forward`."""
        is_default = (self.reads, self.multiplies, self.scale) == ("output", False, 1.0)
        # (torch.compile knows the length of a list of modules, and not whether it is empty.)
        return is_default and self.norm is None and len(self.inner) == 0

    def forward(
        self, hidden: torch.Tensor, read: torch.Tensor | None = None, *, training: bool = False
    ) -> torch.Tensor:
        """(…, width) -> (…, width).

        ``read``: what it reads, if that is not ``hidden``. ``training``: whether a batch norm uses the
        batch's own statistics, padding included, and moves the running ones.
        """
        inner = hidden if read is None else read
        if self.norm is not None:
            inner = self.norm(inner, training)
        activation = ACTIVATIONS[self.activation]
        inner = activation(linear(self.down, inner))  # (…, size)
        for projection in self.inner:
            inner = activation(linear(projection, inner))
        found = linear(self.up, inner)
        if self.scale != 1:
            found = self.scale * found
        return hidden + (hidden * found if self.multiplies else found)

    @staticmethod
    def of_each(
        adapters: Sequence[Adapter],
        hidden: torch.Tensor,
        read: torch.Tensor | None = None,
        *,
        training: bool = False,
    ) -> torch.Tensor:
        """Several adapters, each on its own part of the rows: (parts * batch, length, width) -> same.

        The adapters are of one kind; the products of plain ones are batched.
        """
        if len(adapters) == 1:
            result: torch.Tensor = adapters[0](hidden, read, training=training)
            return result
        if not adapters[0].is_plain:
            parts = torch.chunk(hidden, len(adapters))
            reads = parts if read is None else torch.chunk(read, len(adapters))
            return torch.cat(
                [
                    adapter(part, own, training=training)
                    for adapter, part, own in zip(adapters, parts, reads, strict=True)
                ]
            )
        rows = hidden.reshape(len(adapters), -1, hidden.shape[-1])
        activation = ACTIVATIONS[adapters[0].activation]
        bottleneck = activation(linear_of_each([adapter.down for adapter in adapters], rows))
        lifted = linear_of_each([adapter.up for adapter in adapters], bottleneck)
        return hidden + lifted.view(hidden.shape)


class LayerNorm(nn.Module):
    """Each row to mean 0 and variance 1, in fp32, then a learned scale and offset."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: torch.Tensor, _training: bool) -> torch.Tensor:
        """(…, width) -> the same."""
        normed = functional.layer_norm(
            hidden.float(), self.weight.shape, self.weight, self.bias, EPSILON
        )
        return normed.to(hidden.dtype)


class BatchNorm(LayerNorm):
    """Each number to mean 0 and variance 1 over the rows of a batch; later over all so far (Ioffe and
    Szegedy 2015), padding's among them. The running statistics are buffers, and are stored with what
    trains.
    """

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, hidden: torch.Tensor, training: bool) -> torch.Tensor:
        """(…, width) -> the same. One row has no variance: it gets the running statistics."""
        rows = hidden.float().reshape(-1, hidden.shape[-1])
        # (The comparison alone is no bool where torch.compile has symbols for sizes.)
        of_batch = True if training and len(rows) > 1 else False  # noqa: SIM210
        normed = functional.batch_norm(
            rows, self.mean, self.variance, self.weight, self.bias, of_batch, MOMENTUM, EPSILON
        )
        return normed.view(hidden.shape).to(hidden.dtype)


NORMS: dict[str, Callable[[int], nn.Module | None]] = {
    "none": lambda _: None,
    "batch": BatchNorm,
    "layer": LayerNorm,
}


def _empty(width: int, size: int) -> nn.Linear:
    """Made without values: torch's own would be drawn from the global generator, for nothing."""
    return nn.Linear(width, size, device="meta").to_empty(device="cpu")
