"""One pass over several models' batches, forward and backward, by launches or as a CUDA graph.

A step of a small batch is a thousand short kernels, which a CPU launches more slowly than a GPU runs
them. Recorded once for each shape of batch, a CUDA graph launches them all together: the same kernels on
the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from adaptertune.data.batches import Batch, join, moved
from adaptertune.model.classifier import Classifier, logits, loss
from adaptertune.model.dropout import Dropout

MULTIPLE = 8  # tokens
MOST_GRAPHS = 64  # shapes that come later are launched

Key = tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Placed:
    """Several models' batches as one on the device, and each model's labels."""

    joint: Batch
    labels: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, batches: Sequence[Batch], device: torch.device, num_positions: int) -> Placed:
        """Bring batches to a device, without waiting for it.

        A GPU gets few shapes, each of which is recorded (or compiled) once: lengths are multiples of
        eight, if the model has so many positions, and there is always a mask.
        """
        length = None
        if device.type == "cuda":
            longest = max(batch.tokens.shape[1] for batch in batches)
            length = max(longest, min(-(-longest // MULTIPLE) * MULTIPLE, num_positions))
        whole = join(batches, length)
        joint = Batch(whole.tokens, whole.segments, whole.mask, None, whole.hidden).to(device)
        labels = []
        for batch in batches:
            assert batch.labels is not None
            labels.append(moved(batch.labels, device))
        return cls(joint, tuple(labels))

    def tensors(self) -> list[torch.Tensor | None]:
        """All of them, in one order."""
        return [*(getattr(self.joint, field.name) for field in fields(Batch)), *self.labels]

    def key(self) -> Key:
        """What a recorded pass depends on."""
        return tuple(() if t is None else (t.shape, t.dtype) for t in self.tensors())

    def copy(self, other: Placed) -> None:
        """Take over the numbers of another one of the same key."""
        for own, theirs in zip(self.tensors(), other.tensors(), strict=True):
            if own is not None:
                own.copy_(theirs)  # type: ignore[arg-type]


def losses(
    models: Sequence[Classifier], placed: Placed, dropout: Dropout, *, trunk_dropout: bool
) -> list[torch.Tensor]:
    """Each model's mean loss on its own batch, by one pass over all of them."""
    joint = placed.joint
    values = logits(
        models,
        joint.tokens,
        joint.segments,
        joint.mask,
        dropout,
        hidden=joint.hidden,
        trunk_dropout=trunk_dropout,
    )
    return [
        loss(value[: len(labels)], labels)
        for value, labels in zip(values, placed.labels, strict=True)
    ]


class Gradients:
    """Adds the gradients of several models' losses to what their parameters hold.

    Args:
        by_graph: whether a shape of batch that comes again is recorded as a CUDA graph, as long as
            there is memory for that. The parameters must then keep both their memory and that of
            their gradients.
    """

    def __init__(
        self,
        models: Sequence[Classifier],
        device: torch.device,
        *,
        trunk_dropout: bool,
        by_graph: bool,
    ) -> None:
        self._models, self._device = models, device
        self._trunk_dropout, self._by_graph = trunk_dropout, by_graph
        self._seen: set[Key] = set()
        self._graphs: dict[Key, _Graph] = {}
        self._is_full = False  # what is recorded is replayed, and no more is
        self._stream: torch.cuda.Stream | None = None

    def add(self, batches: Sequence[Batch], seed: int, weights: Sequence[float]) -> torch.Tensor:
        """Add the gradients of the models' batches; (models,) weighted losses, good until the next call.

        Args:
            seed: of the dropout masks.
            weights: of each model's loss.
        """
        placed = Placed.of(batches, self._device, self._models[0].backbone.num_positions)
        dropout = Dropout(seed, self._device)  # not while recording: it seeds torch's generator
        if not self._by_graph or any(weight != 1 for weight in weights):
            return self._backward(placed, dropout, weights)
        key = placed.key()
        if key not in self._graphs:
            # The first time, whatever is loaded, compiled or looked up once happens outside of a graph.
            if key not in self._seen or self._is_full:
                self._seen.add(key)
                return self._backward(placed, dropout, weights)
            if len(self._graphs) == MOST_GRAPHS or not self._has_room():
                self._is_full = True
                return self._backward(placed, dropout, weights)
            self._graphs[key] = self._record(placed, dropout)
        return self._graphs[key].replay(placed)

    def _has_room(self) -> bool:
        """Whether the device has memory for the activations of a recorded pass, which launched ones
        can't use, and for those of one more. A recording in which memory runs out leaves torch unusable.
        """
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        most = torch.cuda.max_memory_allocated(self._device)
        return free >= 2 * (most - torch.cuda.memory_allocated(self._device))

    def _record(self, placed: Placed, dropout: Dropout) -> _Graph:
        graph = torch.cuda.CUDAGraph()
        # One after another they may share memory; what outlives a replay has its own.
        others = next(iter(self._graphs.values()), None)
        if self._stream is None:
            # torch's own is the process's, of the GPU that was recorded on first.
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        try:
            with (
                torch.cuda.device(self._device),  # else it would listen to the current one
                torch.cuda.graph(
                    graph, pool=others.graph.pool() if others else None, stream=self._stream
                ),
            ):
                found = self._backward(placed, dropout, [1.0] * len(self._models))
        except RuntimeError as error:
            # To end a recording that failed is an error of its own, which must not hide the first.
            first = error.__context__ or error
            raise first from None
        return _Graph(graph, placed, found)

    def _backward(self, placed: Placed, dropout: Dropout, weights: Sequence[float]) -> torch.Tensor:
        values = losses(self._models, placed, dropout, trunk_dropout=self._trunk_dropout)
        shares = [weight * value for weight, value in zip(weights, values, strict=True)]
        together = torch.stack(shares)
        together.sum().backward()  # type: ignore[no-untyped-call]
        return together.detach()


@dataclass(frozen=True)
class _Graph:
    """A recorded pass: where it reads its batch, and where it leaves the losses."""

    graph: torch.cuda.CUDAGraph
    placed: Placed
    losses: torch.Tensor

    def replay(self, placed: Placed) -> torch.Tensor:
        if placed is not self.placed:
            self.placed.copy(placed)
        self.graph.replay()
        return self.losses
