"""AdamW with linear warm-up and decay, as the official code has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from adaptertune.config import Training

BETAS = (0.9, 0.999)
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}  # our names for torch's
SMALL = 1 << 17  # elements


def linear_schedule(step: int, num_steps: int, warmup: float) -> float:
    """The factor on the learning rate for step 0, 1, … of ``num_steps``.

    Rises linearly over the first ``warmup`` share of the steps to just below 1. The fall to 0 at the
    end is counted from step 0, as in the official code: past the warm-up it goes on from ``1 - warmup``.
    """
    num_warmup = int(num_steps * warmup)
    if step < num_warmup:
        return step / num_warmup
    return 1 - step / num_steps


def is_decayed(name: str) -> bool:
    """Weight decay applies to all but biases and LayerNorms (official code), and not to what begins at 1
    (norms inside adapters, (IA)³).
    """
    return not (name.endswith("bias") or re.search(r"LayerNorm|\.norm\.|\.ia3_l\.", name))


class AdamW:
    """torch's AdamW on named parameters, with the schedule, clipping and, on request, without bias
    correction, which torch has no switch for.

    Without bias correction the update is ``lr * (m / (sqrt(v) + eps) + decay * p)``. torch's own
    divides m by ``1 - b1^t`` and sqrt(v) by ``sqrt(1 - b2^t)``; a rate, eps and decay scaled by those
    two factors cancel them exactly.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        learning_rate: float,
        num_steps: int,
        warmup: float,
        weight_decay: float,
        epsilon: float,
        clip_norm: float,
        bias_correction: bool,
    ) -> None:
        self.named = [(name, p) for name, p in parameters if p.requires_grad]
        self._rate, self._num_steps, self._warmup = learning_rate, num_steps, warmup
        self._decay, self._epsilon, self._clip = weight_decay, epsilon, clip_norm
        self._bias_correction = bias_correction
        self.step_count = 0
        self._flats = [_Flat(group) for group in _groups(self.named)]
        self._holds_gradients = any(flat.holds_gradients for flat in self._flats)
        self._torch = torch.optim.AdamW(
            [
                {
                    "params": [flat.joined for flat in self._flats if flat.decayed == decayed],
                    "decayed": decayed,
                }
                for decayed in sorted({flat.decayed for flat in self._flats})
            ],
            lr=learning_rate,
            betas=BETAS,
            # Not on "meta", where tests see that a step looks at no number.
            fused=all(p.device.type != "meta" for _, p in self.named),
        )

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self._rate * linear_schedule(self.step_count, self._num_steps, self._warmup)

    def step(self) -> None:
        """Clip the gradients' global norm, update, and forget the gradients."""
        for flat in self._flats:
            flat.gather_gradients()
        nn.utils.clip_grad_norm_([flat.joined for flat in self._flats], self._clip)
        first = second = 1.0
        if not self._bias_correction:
            first = 1 - BETAS[0] ** (self.step_count + 1)
            second = (1 - BETAS[1] ** (self.step_count + 1)) ** 0.5
        rate_factor = first / second
        for group in self._torch.param_groups:
            group["lr"] = self.learning_rate * rate_factor
            group["eps"] = self._epsilon / second
            group["weight_decay"] = self._decay / rate_factor if group["decayed"] else 0.0
        self._torch.step()
        self._torch.zero_grad(set_to_none=not self._holds_gradients)
        self.step_count += 1

    def state(self) -> dict[str, torch.Tensor]:
        """Both moments of each parameter, by name; with ``step_count`` all that a resume needs."""
        tensors = {}
        for flat in self._flats:
            state = self._torch.state.get(flat.joined)
            if state:
                for prefix, key in MOMENTS.items():
                    for name, part in flat.parts(state[key]):
                        tensors[f"{prefix}.{name}"] = part
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor], step_count: int) -> None:
        """Continue where :meth:`state` was taken."""
        self.step_count = step_count
        if step_count == 0:
            return
        for flat in self._flats:
            state = {"step": torch.tensor(float(step_count), device=flat.joined.device)}
            for prefix, key in MOMENTS.items():
                state[key] = torch.empty_like(flat.joined)
                for name, part in flat.parts(state[key]):
                    part.copy_(tensors[f"{prefix}.{name}"])
            self._torch.state[flat.joined] = state


def of_training(
    parameters: Iterable[tuple[str, nn.Parameter]], training: Training, num_steps: int
) -> AdamW:
    """The optimiser as a training's settings have it."""
    return AdamW(
        parameters,
        learning_rate=training.learning_rate,
        num_steps=num_steps,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        epsilon=training.epsilon,
        clip_norm=training.clip_norm,
        bias_correction=training.bias_correction,
    )


class _Flat:
    """Parameters that are updated as one: on a CPU, a call for each small one takes 5 ms a step.

    The parameters become views of ``joined``. One alone is that parameter itself. On CUDA gradients are
    views too, which stay: backward adds to them, and a step sets them to 0.
    """

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]]) -> None:
        self.named = named
        self.decayed = is_decayed(named[0][0])
        self.holds_gradients = named[0][1].device.type == "cuda"
        self.joined = named[0][1]
        if len(named) > 1:
            self.joined = nn.Parameter(torch.cat([p.detach().reshape(-1) for _, p in named]))
            views = self.parts(self.joined.detach())
            for (_, parameter), (_, view) in zip(named, views, strict=True):
                parameter.data = view
        if self.holds_gradients:
            self.joined.grad = torch.zeros_like(self.joined)
            views = self.parts(self.joined.grad)
            for (_, parameter), (_, view) in zip(named, views, strict=True):
                parameter.grad = view

    def gather_gradients(self) -> None:
        """Move the gradients to ``joined``, if they are not there."""
        if len(self.named) == 1 or self.holds_gradients:
            return
        found = []
        for _, parameter in self.named:
            assert parameter.grad is not None
            found.append(parameter.grad.reshape(-1))
            parameter.grad = None
        self.joined.grad = torch.cat(found)

    def parts(self, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Views of a tensor like ``joined``, in the parameters' names and shapes."""
        if len(self.named) == 1:
            yield self.named[0][0], tensor
            return
        pieces = torch.split(tensor, [parameter.numel() for _, parameter in self.named])
        for (name, parameter), piece in zip(self.named, pieces, strict=True):
            yield name, piece.view(parameter.shape)


def _groups(
    named: Sequence[tuple[str, nn.Parameter]],
) -> list[list[tuple[str, nn.Parameter]]]:
    """What is updated as one: on CUDA the decayed ones, and those that are not; on a CPU the small
    ones of either kind.
    """
    groups: list[list[tuple[str, nn.Parameter]]] = []
    for decayed in (True, False):
        together = []
        for name, parameter in named:
            if is_decayed(name) != decayed:
                continue
            on = parameter.device.type
            if on == "cuda" or (on == "cpu" and parameter.numel() <= SMALL):
                together.append((name, parameter))
            else:
                groups.append([(name, parameter)])
        if together:
            groups.append(together)
    return groups
