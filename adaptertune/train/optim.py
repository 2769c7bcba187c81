"""AdamW with linear warm-up and decay, as the official code has it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from adaptertune.config import Training

BETAS = (0.9, 0.999)


def linear_schedule(step: int, num_steps: int, warmup: float) -> float:
    """The factor on the learning rate for step 0, 1, … of ``num_steps``.

    Rises linearly over the first ``warmup`` share of the steps and falls linearly to 0 at the end; the
    official code multiplies the two only past the warm-up, so the top is just below 1.
    """
    num_warmup = int(num_steps * warmup)
    if step < num_warmup:
        return step / num_warmup
    return 1 - step / num_steps


def is_decayed(name: str) -> bool:
    """Weight decay applies to all but biases and LayerNorms (official code)."""
    return not (name.endswith("bias") or "LayerNorm" in name)


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
        groups = [
            {
                "params": [p for name, p in self.named if is_decayed(name) == decayed],
                "decayed": decayed,
            }
            for decayed in (True, False)
        ]
        fused = all(p.device.type in ("cuda", "cpu") for _, p in self.named)
        self._torch = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=learning_rate,
            betas=BETAS,
            fused=fused,
        )

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self._rate * linear_schedule(self.step_count, self._num_steps, self._warmup)

    def step(self) -> None:
        """Clip the gradients' global norm, update, and forget the gradients."""
        nn.utils.clip_grad_norm_([p for _, p in self.named], self._clip)
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
        self._torch.zero_grad(set_to_none=True)
        self.step_count += 1

    def state(self) -> dict[str, torch.Tensor]:
        """Both moments of each parameter, by name; with ``step_count`` all that a resume needs."""
        tensors = {}
        for name, parameter in self.named:
            state = self._torch.state.get(parameter)
            if state:
                tensors[f"first.{name}"] = state["exp_avg"]
                tensors[f"second.{name}"] = state["exp_avg_sq"]
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor], step_count: int) -> None:
        """Continue where :meth:`state` was taken."""
        self.step_count = step_count
        if step_count == 0:
            return
        for name, parameter in self.named:
            self._torch.state[parameter] = {
                "step": torch.tensor(float(step_count), device=parameter.device),
                "exp_avg": tensors[f"first.{name}"].to(parameter.device).clone(),
                "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device).clone(),
            }


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
