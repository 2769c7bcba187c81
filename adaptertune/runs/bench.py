"""The speed of a task, backbone and method on this machine, beside full fine-tuning."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from adaptertune import config as configuration
from adaptertune.data import cache
from adaptertune.runs import analyses
from adaptertune.runs.plan import Plan, method_label
from adaptertune.runs.progress import OnProgress

if TYPE_CHECKING:
    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier
    from adaptertune.train.speed import Trainee

INFERENCE_SIZES = (1, 8, 32)
INFERENCE_ROUNDS = 20
NUM_BATCHES = 6  # different ones; the timed steps go round them


def bench(
    plan: Plan, num_steps: int, on_progress: OnProgress, note: Callable[[str], None]
) -> analyses.BenchResult:
    """Train ``num_steps`` timed steps of the method and of full fine-tuning, and time inference.

    Nothing is written but tokens to their cache.

    Raises:
        AdapterTuneError: data or backbone can't be used.
    """
    import torch

    from adaptertune.train.device import computing

    splits = cache.tokenised(plan.tokens, progress=partial(on_progress, "tokenising"), note=note)
    with computing(torch.device(plan.device), plan.precision, plan.config.threads):
        return _measured(plan, splits, num_steps, on_progress)


def _measured(
    plan: Plan, splits: Sequence[Encoded], num_steps: int, on_progress: OnProgress
) -> analyses.BenchResult:
    import numpy as np
    import torch

    from adaptertune.data.batches import collate
    from adaptertune.model import flops
    from adaptertune.model.build import load_model
    from adaptertune.train import speed, trunk
    from adaptertune.train.device import peak_memory, product_name

    device, train = torch.device(plan.device), splits[0]
    shape, num_outputs = plan.located.shape, plan.task.num_outputs
    batches, largest = speed.typical_batches(
        train.lengths, plan.config.training, min(NUM_BATCHES, num_steps)
    )
    measured = np.unique(np.concatenate([*batches, largest]))  # examples
    examples = train.subset(measured)
    batches = [np.searchsorted(measured, indices) for indices in batches]
    largest = np.searchsorted(measured, largest)
    methods: dict[str, configuration.Method] = {
        method_label(method): method for method in (plan.config.method, configuration.Full())
    }
    trainees: dict[str, Trainee] = {}
    cached: dict[str, int] = {}
    for label, method in methods.items():
        model = load_model(
            plan.located,
            method,
            num_outputs,
            seed=0,
            device=plan.device,
            precision=plan.precision,
            is_compiled=plan.config.compile,
        )
        cached[label] = _cached_layers(plan, model, splits)
        known = trunk.in_memory(model, examples, device) if cached[label] else examples
        trainees[label] = speed.Trainee(
            model, known, plan.config.training, device, by_graph=plan.by_graph
        )

    forms = [collate(examples, indices).tokens.shape for indices in batches]  # (examples, length)
    rates: list[list[float]] = [[] for _ in batches]
    compute_type = torch.bfloat16 if plan.precision == "bf16" else torch.float32

    def measure_limit(number: int) -> None:
        rate = speed.product_rate(
            forms[number].numel(), shape.width, shape.intermediate, compute_type, device
        )
        rates[number].append(rate)

    total = num_steps * len(trainees)
    times = speed.time_steps(
        trainees,
        batches,
        num_steps,
        measure_limit,
        lambda done: on_progress("training steps", done, total),
    )
    limits = [statistics.median(of_batch) for of_batch in rates]
    training = []
    for label, method in methods.items():
        needed = [
            flops.training_step(shape, method, num_outputs, *form, known_layers=cached[label]).total
            for form in forms
        ]
        mean = speed.mean_step(times[label])
        possible = sum(time.total * limit for time, limit in zip(times[label], limits, strict=True))
        training.append(
            analyses.TrainingSpeed(
                method=method.model_dump(mode="json"),
                label=label,
                seconds=analyses.StepSeconds(**asdict(mean)),
                examples_per_second=statistics.fmean(form[0] for form in forms) / mean.total,
                cached_layers=cached[label],
                flops_per_step=statistics.fmean(needed),
                limit_share=sum(needed) / possible,
                memory=analyses.MemoryBytes(**asdict(trainees[label].memory(largest))),
            )
        )
    return analyses.BenchResult(
        task=plan.task.name,
        data=plan.data,
        backbone=plan.backbone,
        precision=plan.precision,
        device=plan.device,
        device_name=product_name(device),
        num_threads=torch.get_num_threads(),
        batch_size=plan.config.training.batch_size,
        num_steps=num_steps,
        num_batches=len(batches),
        mean_tokens=statistics.fmean(form.numel() for form in forms),
        limit_flops_per_second=statistics.harmonic_mean(limits),
        training=training,
        inference=_inference(trainees[method_label(plan.config.method)], train, on_progress),
        peak_process_bytes=peak_memory(plan.device),
        torch=torch.__version__,
    )


def _cached_layers(plan: Plan, model: Classifier, splits: Sequence[Encoded]) -> int:
    """How many layers from the bottom a run of this plan would take from the trunk cache."""
    from adaptertune.train import trunk

    needed = trunk.num_bytes(splits, plan.located.shape.width, model.compute_type)
    fits = needed <= plan.config.trunk_cache * trunk.GIGABYTE
    return model.trunk_depth if fits and plan.keeps_trunk(model.trunk_depth) else 0


def _inference(
    trainee: Trainee, train: Encoded, on_progress: OnProgress
) -> list[analyses.InferenceLatency]:
    from adaptertune.train import speed

    inputs = {size: speed.median_batch(train, size) for size in INFERENCE_SIZES}
    total = speed.WARM_ROUNDS + INFERENCE_ROUNDS
    trainee.model.hold_for_answers()  # as `predict` does
    found = speed.latencies(
        trainee.model,
        inputs,
        trainee.device,
        INFERENCE_ROUNDS,
        lambda done: on_progress("inference", done, total),
    )
    return [
        analyses.InferenceLatency(
            batch_size=size,
            length=inputs[size].tokens.shape[1],
            own=passes(latency.own),
            without_adapters=None if latency.without is None else passes(latency.without),
        )
        for size, latency in found.items()
    ]


def passes(seconds: Sequence[float]) -> analyses.PassSeconds:
    """Several forward passes in two figures."""
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return analyses.PassSeconds(median=statistics.median(seconds), percentile_90=tenths[-1])
