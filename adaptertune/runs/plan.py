"""What a cell will do, found out without training: backbone, data, counts, steps, identity."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from adaptertune import config as configuration
from adaptertune import tasks
from adaptertune.config import Resolved, RunConfig
from adaptertune.data import cache, held_out, sources
from adaptertune.errors import ConfigError, DataError
from adaptertune.model import backbone, ledger
from adaptertune.runs import results, start, store

Found = TypeVar("Found")

# Raised whenever the same configuration would give other numbers than before.
SEMANTICS = 2


@dataclass(frozen=True)
class Plan:
    """A cell ready to run: everything resolved, nothing trained."""

    resolved: Resolved
    located: backbone.Located
    data: results.DataFacts
    tokens: cache.Wanted  # of the training split and of those that are evaluated
    ledger: ledger.Ledger
    precision: str
    device: str
    num_steps: int  # of one seed
    is_stacked: bool  # whether all seeds train in one pass
    place: Path | None = None  # the cell's folder if it is not the store's
    pruned_from: str | None = None  # digest of the cell whose adapters were taken away
    imported: results.Imported | None = None  # where it comes from, if it was trained elsewhere
    init_from: results.InitFrom | None = None  # whose weights it starts from, if another run's
    initial: Path | None = None  # the file of these, where there is something to train

    @property
    def by_graph(self) -> bool:
        """Whether steps are recorded and replayed as CUDA graphs."""
        return self.config.cuda_graphs and self.device.startswith("cuda")

    @property
    def config(self) -> RunConfig:
        return self.resolved.config

    @property
    def task(self) -> tasks.Task:
        return self.resolved.task

    @property
    def is_held_out(self) -> bool:
        return self.config.protocol == "held-out"

    @property
    def selecting_split(self) -> str:
        return held_out.NAME if self.is_held_out else self.task.evaluation[0]

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """The selecting one first, then those that are evaluated once, with the kept epoch."""
        return (held_out.NAME, *self.task.evaluation) if self.is_held_out else self.task.evaluation

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, apart from the seed."""
        training = self.config.training.model_dump(mode="json", exclude={"precision"})
        identity = {
            "semantics": SEMANTICS,
            "task": tasks.canonical(self.task),
            "method": configuration.method_identity(self.config.method),
            "training": training,
            "precision": self.precision,
            # In one pass a seed's dropout masks depend on the seeds beside it.
            "stacked": list(self.config.seeds) if self.is_stacked else None,
            "backbone": self.located.sha256,
            "data": self.data.fingerprint,
        }
        if self.located.is_own:
            identity["backbone_files"] = self.located.files
        if self.is_held_out:
            identity["held_out"] = held_out.facts()
        if self.config.compile:  # other roundings and dropout masks
            identity["compiled"] = True
        if self.pruned_from:
            identity["pruned_from"] = self.pruned_from
        if self.imported:
            identity["imported"] = self.imported.sha256
        if self.init_from:
            identity["init_from"] = {
                "digest": self.init_from.digest,
                "checkpoint": self.init_from.sha256,
            }
        return identity

    @cached_property
    def digest(self) -> str:
        return configuration.digest(self.identity)

    def keeps_trunk(self, depth: int) -> bool:
        """Whether the ``depth`` lowest layers are always the same, and to be computed only once.

        Not under batch norm, for which padding counts: kept hidden states have zeros there.
        """
        method, config = self.config.method, self.config
        counts_padding = isinstance(method, configuration.Adapter) and method.norm == "batch"
        is_same = not config.training.trunk_dropout and not counts_padding
        return bool(depth and config.trunk_cache) and is_same

    def trunk_digest(self, depth: int) -> str:
        """That of all that decides the hidden states behind the ``depth`` lowest layers."""
        return configuration.digest(
            {
                "semantics": SEMANTICS,
                "tokens": self.tokens.digest,
                "backbone": self.located.sha256,
                "backbone_files": self.located.files if self.located.is_own else None,
                "depth": depth,
                "precision": self.precision,
                "device": self.device.partition(":")[0],
            }
        )

    def seed_digest(self, seed: int) -> str:
        return configuration.digest(self.identity | {"seed": seed})

    @cached_property
    def folder(self) -> store.CellFolder:
        if self.place:
            return store.CellFolder(self.place)
        method, backbone = method_label(self.config.method), self.located.name
        output = self.config.output
        return store.cell_folder(output, self.task.name, method, backbone, self.digest)

    @property
    def backbone(self) -> results.BackboneFacts:
        located = self.located
        return results.BackboneFacts(
            name=located.name,
            sha256=located.sha256,
            commit=located.commit,
            files=located.files,
            architecture=located.shape.architecture,
        )


def method_labels(
    methods: Iterable[configuration.Method], *, sized: bool = True
) -> dict[configuration.Method, str]:
    """Each method's label, with what a label leaves out where others have the same one:
    ``adapter-64-activation-relu``.
    """
    alike: dict[str, list[configuration.Method]] = {}
    for method in dict.fromkeys(methods):
        alike.setdefault(method_label(method, sized=sized), []).append(method)
    found = {}
    for label, group in alike.items():
        settings = [method.model_dump() for method in group]
        telling = [key for key in settings[0] if len({repr(one[key]) for one in settings}) > 1]
        for method, own in zip(group, settings, strict=True):
            found[method] = "-".join([label, *(f"{key}-{own[key]}" for key in telling)])
    return found


def method_label(method: configuration.Method, *, sized: bool = True) -> str:
    """A method in a few words: ``adapter-64``, ``adapter-64-places-attention``, ``full``.

    Part of a run's folder name; what it leaves out is in the digest. ``sized``: with its size.
    """
    words: list[object] = [method.name]
    if isinstance(method, configuration.TopLayers) and sized:
        words.append(method.k)
    elif isinstance(method, configuration.LoRA) and sized:
        words.append(method.rank)
    elif isinstance(method, configuration.Full):
        words += itertools.chain(*method.model_dump(exclude_defaults=True).items())
    elif isinstance(method, configuration.Adapter):
        hidden = {"name", "size", "init_std", "activation"}
        given = method.model_dump(exclude_defaults=True, exclude=hidden)
        if method.layers is not None:
            given["layers"] = ",".join(map(str, method.layers))
        if isinstance(method.layernorms, tuple):
            given["layernorms"] = configuration.written_layers(method.layernorms)
        words += [*([method.size] if sized else ()), *itertools.chain(*given.items())]
    return "-".join(map(str, words))


class Lookups:
    """What planning finds out, so that a sweep of many cells finds it out once."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}

    def once(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """What ``find`` gives, or gave before for an equal key."""
        if key not in self._found:
            self._found[key] = find()
        found: Found = self._found[key]
        return found


def locate(config: RunConfig, lookups: Lookups) -> backbone.Located:
    """The files and the shape of a configuration's backbone."""
    return lookups.once(
        ("backbone", config.backbone, config.offline),
        lambda: backbone.locate(config.backbone, offline=config.offline),
    )


def plan(resolved: Resolved, lookups: Lookups | None = None) -> Plan:
    """Find backbone and data, count parameters and steps, decide device and precision.

    Raises:
        AdapterTuneError: anything that would stop the run before its first step.
    """
    from adaptertune.data.batches import num_steps
    from adaptertune.model.methods import check_available, is_stackable
    from adaptertune.train import device as devices

    config, task, lookups = resolved.config, resolved.task, lookups or Lookups()
    check_available(config.method)
    if config.protocol == "held-out" and held_out.NAME in task.evaluation:
        raise ConfigError(
            f"the rows that are set aside are called '{held_out.NAME}', as a split of the task is",
            where="--protocol",
            remedy="give that split another name in the task's file",
        )
    once = lookups.once
    device = once(("device", config.device), lambda: devices.choose_device(config.device))
    native = once(("bf16", device), lambda: devices.has_native_bf16(device))
    source = sources.Source(config.data.source, config.data.folder, config.offline)
    if source.kind != "hub":  # before a backbone is fetched
        sources.check_folder(task, source)
    located = locate(config, lookups)
    counts = once(
        ("ledger", located.shape, config.method, task.num_outputs),
        lambda: ledger.count(located.shape, config.method, task.num_outputs),
    )
    if config.compile:
        cuda, has_triton = once(("compiler", device), lambda: devices.compiler(device))
        devices.check_compile(cuda, has_triton=has_triton)
    if config.training.max_length > located.shape.positions:
        raise DataError(
            f"the backbone has {located.shape.positions} positions, not {config.training.max_length}",
            where="--max-length",
            remedy=f"choose at most {located.shape.positions}",
        )
    begins = None
    if config.init_from is not None:
        where = resolved.origins.get("init_from")
        begins = start.choose(
            config.init_from,
            config.method,
            located,
            where,
            lambda name: once(
                ("start", name, config.output), lambda: start.find(name, config.output, where)
            ),
        )
    length = config.training.max_length
    tokens, num_rows = once(
        ("rows", task.name, config.task, source, located.folder, length),
        lambda: _find_rows(task, source, located, length),
    )
    num_held_out = held_out.num_held_out(num_rows) if config.protocol == "held-out" else 0
    num_train = num_rows - num_held_out
    complete = task.rows.get("train")
    is_sample = source.kind == "sample"
    data = results.DataFacts(
        source=source.kind,
        description=source.describe(task),
        fingerprint=tokens.fingerprint,
        num_train=num_train,
        num_held_out=num_held_out,
        num_train_complete=None if is_sample else complete,
        partial=not is_sample and complete is not None and num_rows < complete,
        sample=is_sample,
    )
    return Plan(
        resolved=resolved,
        located=located,
        data=data,
        tokens=tokens,
        ledger=counts,
        precision=devices.choose_precision(config.training.precision, native_bf16=native),
        device=str(device),
        num_steps=num_steps(
            num_train,
            config.training.epochs,
            config.training.batch_size,
            drop_last=config.training.drop_last,
        ),
        is_stacked=devices.choose_stack(
            config.stack, device, len(config.seeds), can_stack=is_stackable(config.method)
        ),
        init_from=begins.facts(task) if begins else None,
        initial=begins.path if begins else None,
    )


def _find_rows(
    task: tasks.Task, source: sources.Source, located: backbone.Located, max_length: int
) -> tuple[cache.Wanted, int]:
    """The tokens that are wanted of a task, and its number of training rows."""
    names = ("train", *task.evaluation)
    rows = sources.fingerprint(task, source, names)
    vocabulary = located.shape.vocabulary
    tokens = cache.Wanted(task, source, names, rows, located.folder, max_length, vocabulary)
    # Rows not yet known to be good are read here: a bad one is found before anything is written.
    found = cache.stored(tokens) or sources.load_splits(task, source, names)
    return tokens, len(found[0])
