"""Adapters in the format of AdapterHub's library (``adapters`` 1.3.0): its folders as runs, runs as its
folders.

A folder of theirs holds a configuration and weights of the adapters, and the same of a prediction head.
Those configurations are taken that compute what a method of ours computes, key by key; any other is
refused by the key's name. Such a folder is foreign: of its files only four are read, weights with
``weights_only``, and all are checked before anything is written; where the run goes follows from
checked content.
"""

from __future__ import annotations

import json
import math
import platform
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from adaptertune import config as configuration
from adaptertune import hub
from adaptertune.data import cache
from adaptertune.errors import CheckpointError, ConfigError, HubError, StoreError
from adaptertune.files import exclusive, write_atomically, write_json
from adaptertune.runs import execute, results, store, units
from adaptertune.runs.load import Run
from adaptertune.runs.models import load_models
from adaptertune.runs.plan import Plan
from adaptertune.runs.reopen import Reopened
from adaptertune.runs.summary import summarise
from adaptertune.share.copy import portable_name
from adaptertune.tasks import Task
from adaptertune.yamlfile import Model, Strict, parse

if TYPE_CHECKING:
    import torch

    from adaptertune.data.encode import Encoded
    from adaptertune.model.classifier import Classifier

    Tensors = dict[str, torch.Tensor]

VERSION = "adapters.1.3.0"  # what is written, and was tested
CONFIG, HEAD_CONFIG = "adapter_config.json", "head_config.json"
# Names of a file of weights: as safetensors, which we write, and as torch's pickle, their default.
WEIGHTS = ("adapter.safetensors", "pytorch_adapter.bin")
HEAD_WEIGHTS = ("model_head.safetensors", "pytorch_model_head.bin")
FILES = [CONFIG, HEAD_CONFIG, *WEIGHTS, *HEAD_WEIGHTS]
LARGEST_CONFIG, LARGEST_WEIGHTS = 1 << 20, 1 << 31  # bytes

SEED = 0  # stands for the one training that an imported adapter had
# Theirs -> ours, of those that are the same function; the first of equal ones is written.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
    "swish": "swish",
    "silu": "swish",
}
PLACES = {"attention": "attention.output", "feedforward": "output"}  # ours -> in a layer
KNOWN = "houlsby (double_seq_bn), pfeiffer (seq_bn) and par_bn are taken as they are"
FLAT_HEAD, DEEP_HEAD = (
    "layers=1, use_pooler=True",
    "layers=2, activation_function='tanh', use_pooler=False",
)

Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[^.\x00-\x1f\x7f]{1,200}$")]
OnProgress = Callable[[str, int, int], None]


class _Bottleneck(Strict):
    """Their ``BnConfig``. A key that allows one value only has no counterpart here."""

    mh_adapter: bool
    output_adapter: bool
    reduction_factor: Finite | dict[str, Finite]
    non_linearity: str
    original_ln_before: bool = False
    original_ln_after: Literal[True] = True
    ln_before: bool = False
    ln_after: Literal[False] = False
    is_parallel: bool = False
    scaling: Finite = 1.0
    use_gating: Literal[False] = False
    residual_before_ln: bool | Literal["post_add"] = True
    inv_adapter: None = None
    cross_adapter: Literal[False] = False
    leave_out: tuple[Annotated[int, Field(ge=0)], ...] = ()
    phm_layer: Literal[False] = False
    # What remains decides how an adapter begins or trains, or belongs to what is off above.
    adapter_residual_before_ln: bool = False
    init_weights: Any = None
    init_weights_seed: Any = None
    inv_adapter_reduction_factor: Any = None
    dropout: Any = None
    stochastic_depth: Any = None
    phm_dim: Any = None
    phm_c_init: Any = None
    phm_init_range: Any = None
    phm_rank: Any = None
    phm_bias: Any = None
    learn_phm: Any = None
    shared_phm_rule: Any = None
    shared_W_phm: Any = None
    factorized_phm_rule: Any = None
    factorized_phm_W: Any = None
    hypercomplex_nonlinearity: Any = None


class _Described(Strict):
    """What stands around a configuration; a user may have added keys."""

    model_config = ConfigDict(extra="ignore")

    model_type: Literal["bert"]
    model_name: str | None = None
    hidden_size: Annotated[int, Field(ge=1)]
    version: str  # older files have none, and mean another function by "gelu"


class _AdapterFile(_Described):
    name: Name
    config: dict[str, Any]


class _Head(Strict):
    """Their classification head, which does regression too (one output)."""

    head_type: Literal["classification"]
    num_labels: Annotated[int, Field(ge=1)]
    layers: int
    activation_function: str | None
    use_pooler: bool
    label2id: dict[str, int] | None = None
    bias: bool = True
    dropout_prob: Any = None


class _HeadFile(_Described):
    """``config`` is null for a head of transformers' own, e.g. of BertForSequenceClassification."""

    name: Name | None
    model_class: str
    config: dict[str, Any] | None
    num_labels: Annotated[int, Field(ge=1)] = 2
    label2id: dict[str, int] | None = None


@dataclass(frozen=True)
class Foreign:
    """A folder of theirs, checked but for what only the base model tells.

    ``tensors`` have our names; the head's rows are in the order of ``labels``, or, where that is None,
    of the task's numbers.
    """

    folder: Path
    method: configuration.Adapter
    layers: tuple[int, ...]
    left_out: tuple[int, ...]
    width: int
    num_outputs: int
    labels: tuple[str, ...] | None
    model_name: str | None
    tensors: Tensors
    facts: results.Imported

    @property
    def backbone(self) -> str | None:
        """The recorded base model, if that is a name of the hub and no path."""
        name = self.model_name or ""
        return name if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) else None


# ---- From AdapterHub ---------------------------------------------------------------------------


def fetch(source: str, *, revision: str | None, offline: bool) -> tuple[Path, results.Imported]:
    """A folder, or the files that matter of a hub repository, and what is known of their origin.

    Raises:
        HubError: the repository can't be had.
        StoreError: there is no such folder.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ConfigError("goes with OWNER/NAME on the hub, not a folder", where="--revision")
        folder, name, commit = Path(source), Path(source).resolve().name, None
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source, re.ASCII) and not Path(source).exists():
        folder = hub.snapshot("model", source, FILES, revision=revision, offline=offline)
        name, commit = source, folder.name
    else:
        raise StoreError(
            "no such folder", where=source, remedy="give an unpacked folder, or OWNER/NAME"
        )
    sha256 = {name: hub.sha256(path) for name in FILES if (path := _file(folder, name)) is not None}
    if CONFIG not in sha256:
        raise HubError(f"no {CONFIG}", where=source, remedy="give what save_adapter wrote")
    return folder, results.Imported(source=name, commit=commit, library="", sha256=sha256)


def read(folder: Path, facts: results.Imported) -> Foreign:
    """Read and check a folder.

    Raises:
        ConfigError: an adapter or a head of another kind than there is here.
        CheckpointError: a file is missing, damaged, or something else than it should be.
    """
    path = folder / CONFIG
    described = _parsed(_AdapterFile, _json(folder, CONFIG), path)
    kind = described.config.get("architecture")
    if kind is not None:
        raise ConfigError(f"'{kind}' is no bottleneck adapter", where=path, remedy=KNOWN)
    config = _parsed(_Bottleneck, described.config, path, at="config.")
    theirs = _weights(folder, WEIGHTS)
    method, layers, tensors = _adapters(config, described, theirs, path)
    if _file(folder, HEAD_CONFIG) is None:
        raise CheckpointError(
            f"no {HEAD_CONFIG}, so there is no prediction head",
            where=folder,
            remedy="save it with save_adapter(…, with_head=True)",
        )
    head, prefix = _head(folder)
    is_deep = head.layers == 2
    if is_deep:
        method = method.model_copy(update={"pooler": "trained"})
    tensors |= _head_tensors(head, prefix, _weights(folder, HEAD_WEIGHTS), folder)
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name} is not finite", where=folder, remedy="train it again")
    return Foreign(
        folder=folder,
        method=method,
        layers=layers,
        left_out=config.leave_out,
        width=described.hidden_size,
        num_outputs=head.num_labels,
        labels=_labels(head, folder / HEAD_CONFIG),
        model_name=described.model_name,
        tensors=tensors,
        facts=facts.model_copy(update={"library": described.version}),
    )


def settings(foreign: Foreign) -> dict[str, tuple[Any, str]]:
    """The settings that follow from a folder, for ``config.resolve``: key -> (value, origin)."""
    method = foreign.method.model_dump(mode="json", exclude_defaults=True) | {"name": "adapter"}
    found: dict[str, tuple[Any, str]] = {
        f"method.{key}": (value, CONFIG) for key, value in method.items() if key != "init_std"
    }
    found["seeds"] = ([SEED], "one training, elsewhere")
    found["training.precision"] = ("fp32", "that its logits are AdapterHub's")
    if foreign.backbone is not None:
        found["backbone"] = (foreign.backbone, CONFIG)
    return found


def check(foreign: Foreign, plan: Plan) -> Plan:
    """The plan of an imported run, if base model and task fit.

    Raises:
        CheckpointError: the adapters are of a model of another shape.
        ConfigError: the head has other labels than the task, or another number.
    """
    shape, task = plan.located.shape, plan.task
    if foreign.width != shape.width:
        raise CheckpointError(
            f"of a model {foreign.width} wide; {plan.located.name} is {shape.width} wide",
            where=foreign.folder,
            remedy="name its own with --backbone",
        )
    expected = [layer for layer in range(shape.layers) if layer not in foreign.left_out]
    if list(foreign.layers) != expected:
        raise CheckpointError(
            f"adapters in {len(foreign.layers)} layers, {foreign.layers[-1]} the last; "
            f"{plan.located.name} has {shape.layers}",
            where=foreign.folder,
            remedy="name its own with --backbone",
        )
    if foreign.num_outputs != task.num_outputs:
        raise ConfigError(
            f"the head has {foreign.num_outputs} outputs, task '{task.name}' {task.num_outputs}",
            where=foreign.folder,
            remedy="choose the --task that it was trained for",
        )
    if foreign.labels is not None and set(foreign.labels) != set(task.labels or ()):
        raise ConfigError(
            f"the head's labels are {', '.join(foreign.labels)}, those of task '{task.name}' "
            f"{', '.join(task.labels or ())}",
            where=foreign.folder / HEAD_CONFIG,
            remedy="choose the --task that it was trained for, or write one with these labels",
        )
    return replace(plan, imported=foreign.facts)


def write_run(
    foreign: Foreign, plan: Plan, on_progress: OnProgress, note: Callable[[str], None]
) -> results.CellResult:
    """Evaluate imported adapters on the task's splits, and put them into the store as a run.

    Raises:
        CheckpointError: tensors do not fit the base model.
        StoreError: the run is there already, or can't be written.
    """
    import torch

    from adaptertune.metrics import TaskMetric  # noqa: F401  (its libraries take seconds to import)
    from adaptertune.train import checkpoint, device, evaluate

    folder = plan.folder.seed(SEED)
    if plan.folder.path.exists():
        raise StoreError(
            "is there already", where=plan.folder.path, remedy="choose another --output"
        )
    if foreign.labels is None and plan.task.labels:
        note(f"its labels have no names; they are taken as {', '.join(plan.task.labels)}")
    with device.cpu_threads(plan.config.threads):
        model = load_models(plan, [SEED])[SEED]
        checkpoint.put_trained(model, _in_order(foreign, plan.task), foreign.folder)
        splits = _evaluation(plan, on_progress, note)
        started = time.perf_counter()
        logits = evaluate.logits(model, splits[0], torch.device(plan.device))
        with exclusive(folder.path):
            write_json(plan.folder.config, units.config_file(plan))
            scores = execute.keep(plan, splits, model, logits, evaluate.BATCH_SIZE, folder)
            result = _seed_result(plan, model, scores, time.perf_counter() - started)
            store.write_result(folder.result, result)
    found = summarise(plan, [result])
    store.write_result(plan.folder.result, found)
    return found


def _in_order(foreign: Foreign, task: Task) -> Tensors:
    """The tensors with the head's rows in the order of the task's labels."""
    if foreign.labels is None or task.labels is None:
        return foreign.tensors
    order = [foreign.labels.index(label) for label in task.labels]
    own = {name: foreign.tensors[name][order] for name in ("head.weight", "head.bias")}
    return foreign.tensors | own


def _evaluation(plan: Plan, on_progress: OnProgress, note: Callable[[str], None]) -> list[Encoded]:
    """The splits that are scored, as tokens, the selecting one first."""
    train, *others = cache.tokenised(
        plan.tokens, progress=lambda done, total: on_progress("tokenising", done, total), note=note
    )
    return execute.parts(plan, train, others)[1]


def _seed_result(
    plan: Plan, model: Classifier, scores: dict[str, results.SplitScores], seconds: float
) -> results.SeedResult:
    import torch

    from adaptertune.train.checkpoint import trained_tensors
    from adaptertune.train.device import peak_memory

    path = plan.folder.seed(SEED).checkpoint
    return results.SeedResult(
        status="finished",
        task=plan.task.name,
        seed=SEED,
        digest=plan.seed_digest(SEED),
        config=plan.config.model_dump(mode="json"),
        data=plan.data,
        backbone=plan.backbone,
        precision="fp32" if plan.precision == "fp32" else "bf16",
        device=plan.device,
        ledger=plan.ledger.as_json(),
        selecting_split=plan.selecting_split,
        num_epochs=0,
        kept_epoch=None,
        diverged_epoch=None,
        scores=scores,
        checkpoint=results.CheckpointFacts(
            file=path.name,
            parameters=sum(tensor.numel() for tensor in trained_tensors(model).values()),
            bytes=path.stat().st_size,
        ),
        versions=execute.versions(),
        cost=results.Cost(
            train_seconds=0.0,
            evaluate_seconds=seconds,
            examples_per_second=None,
            threads=torch.get_num_threads() if plan.device == "cpu" else None,
            peak_memory_bytes=peak_memory(plan.device),
            resumed=0,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            host=platform.node(),
        ),
        imported=plan.imported,
    )


# ---- What is in their files --------------------------------------------------------------------


def _adapters(
    config: _Bottleneck, described: _AdapterFile, theirs: Tensors, path: Path
) -> tuple[configuration.Adapter, tuple[int, ...], Tensors]:
    """The method that computes the same, the layers that have adapters, and the tensors by our names."""
    reads = "output"
    if config.is_parallel:  # their other keys on residuals and LayerNorms have no effect then
        reads = "input"
    elif config.original_ln_before:
        reads = "normed"
    wrong = ["post_add", False] if reads == "normed" else ["post_add"] if reads == "output" else []
    if config.residual_before_ln in wrong:
        told = f"'config.residual_before_ln' is {config.residual_before_ln!r}"
        raise ConfigError(f"{told}, for which there is no counterpart", where=path, remedy=KNOWN)
    activation = ACTIVATIONS.get(config.non_linearity.lower())
    if activation is None:
        raise ConfigError(
            f"'config.non_linearity' is {config.non_linearity!r}",
            where=path,
            remedy=f"only {', '.join(ACTIVATIONS)} are known",
        )
    places = {"attention": config.mh_adapter, "feedforward": config.output_adapter}
    chosen = [place for place, is_there in places.items() if is_there]
    if not chosen:
        raise ConfigError("has adapters in no place", where=path, remedy=KNOWN)
    prefix = "bert." if all(name.startswith("bert.") for name in theirs) else ""
    # Of a head's or a user's own modules nothing is known: all names must be accounted for.
    found = {
        int(match[1])
        for name in theirs
        if (match := re.match(rf"{prefix}encoder\.layer\.(\d{{1,4}})\.", name))
    }
    layers = tuple(sorted(found))
    pairs = {
        ours: f"{prefix}{name}"
        for layer in layers
        for place in chosen
        for ours, name in _names(layer, place, described.name, normed=config.ln_before)
    }
    copies = {  # of a LayerNorm, which is in their file twice
        name.replace(".adapter_down.0.", ".adapter_norm_before."): name
        for ours, name in pairs.items()
        if ".norm." in ours
    }
    odd = {*pairs.values(), *copies} ^ theirs.keys()
    if odd or not layers:
        raise CheckpointError(
            f"{len(odd)} tensors are not those of its configuration, {min(odd, default='')!r} for one",
            where=path.parent,
            remedy="save it again with adapters 1.3.0",
        )
    for copy, name in copies.items():
        if not theirs[copy].equal(theirs[name]):
            raise CheckpointError(f"{copy} is not {name}", where=path.parent)
    down = next(theirs[name] for ours, name in pairs.items() if ours.endswith(".down.weight"))
    size = _size(config, layers, described.hidden_size, path)
    if down.ndim != 2 or down.shape[0] != size:
        raise CheckpointError(
            f"adapters of shape {tuple(down.shape)}, but 'config.reduction_factor' gives size {size}",
            where=path.parent,
            remedy="save it again with adapters 1.3.0",
        )
    method = configuration.parse_method(
        {
            "name": "adapter",
            "size": size,
            "layers": list(layers) if config.leave_out else None,
            "init_std": 1e-2,  # of no effect: nothing begins here
            "activation": activation,
            "layernorms": "none",
            "places": chosen[0] if len(chosen) == 1 else "both",
            "reads": reads,
            "scale": config.scaling,
            "norm": "layer" if config.ln_before else "none",
        }
    )
    assert isinstance(method, configuration.Adapter)
    return method, layers, {ours: theirs[name] for ours, name in pairs.items()}


def _size(config: _Bottleneck, layers: tuple[int, ...], width: int, path: Path) -> int:
    """The bottleneck size, one for all layers, as their library computes it."""
    factor = config.reduction_factor
    factors = {
        factor.get(str(layer), factor.get("default")) if isinstance(factor, dict) else factor
        for layer in layers
    }
    sizes = {max(1.0, width // each) if each else None for each in factors}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None or size > LARGEST_WEIGHTS:
        raise ConfigError(
            "'config.reduction_factor' does not give one size for all layers",
            where=path,
            remedy="all adapters of a run have one size",
        )
    return int(size)


def _names(layer: int, place: str, name: str, *, normed: bool) -> Iterator[tuple[str, str]]:
    """Our names of an adapter's tensors and theirs, these without a prefix."""
    at = f"encoder.layer.{layer}.{PLACES[place]}"
    parts = {"down": f"adapter_down.{int(normed)}", "up": "adapter_up"}
    if normed:
        parts["norm"] = "adapter_down.0"
    for ours, theirs in parts.items():
        for kind in ("weight", "bias"):
            yield f"backbone.{at}.adapter.{ours}.{kind}", f"{at}.adapters.{name}.{theirs}.{kind}"


def _head(folder: Path) -> tuple[_Head, str]:
    """The head's configuration, and what its tensors' names begin with."""
    path = folder / HEAD_CONFIG
    described = _parsed(_HeadFile, _json(folder, HEAD_CONFIG), path)
    if described.config is None:
        if described.model_class != "BertForSequenceClassification":
            raise ConfigError(
                f"the head of a {described.model_class}",
                where=path,
                remedy="a classification head is needed",
            )
        head = _Head(
            head_type="classification",
            num_labels=described.num_labels,
            layers=1,
            activation_function=None,
            use_pooler=True,
            label2id=described.label2id,
        )
        return head, "classifier"
    head = _parsed(_Head, described.config, path, at="config.")
    function = (head.activation_function or "").lower()
    is_flat = (head.layers, head.use_pooler) == (1, True)
    is_deep = (head.layers, head.use_pooler, function) == (2, False, "tanh")
    if not (is_flat or is_deep):
        raise ConfigError(
            f"a head with layers={head.layers}, activation_function={head.activation_function!r}, "
            f"use_pooler={head.use_pooler}",
            where=path,
            remedy=f"only {FLAT_HEAD} and {DEEP_HEAD} are what there is here",
        )
    return head, f"heads.{described.name}"


def _head_tensors(head: _Head, prefix: str, theirs: Tensors, folder: Path) -> Tensors:
    """By our names. A head of two layers brings its own pooler, which is tanh(dense([CLS])) too."""
    import torch

    places = {"classifier": {"head": ""}}.get(
        prefix,
        {"head": ".1"} if head.layers == 1 else {"backbone.pooler.dense": ".1", "head": ".4"},
    )
    pairs = {
        f"{ours}.{kind}": f"{prefix}{at}.{kind}"
        for ours, at in places.items()
        for kind in ("weight", "bias")
        if kind == "weight" or ours != "head" or head.bias
    }
    odd = set(pairs.values()) ^ theirs.keys()
    if odd:
        raise CheckpointError(
            f"{len(odd)} tensors are not those of its head, {min(odd)!r} for one", where=folder
        )
    found = {ours: theirs[name] for ours, name in pairs.items()}
    if found["head.weight"].shape[0] != head.num_labels:
        raise CheckpointError("the head has another number of labels than it says", where=folder)
    return {"head.bias": torch.zeros(head.num_labels)} | found


def _labels(head: _Head, path: Path) -> tuple[str, ...] | None:
    """The labels by number; None where they have no names of their own."""
    if head.num_labels == 1 or head.label2id is None:
        return None
    by_number = {number: label for label, number in head.label2id.items()}
    if sorted(by_number) != list(range(head.num_labels)) or len(head.label2id) != len(by_number):
        raise ConfigError(f"'label2id' does not number {head.num_labels} labels", where=path)
    names = tuple(by_number[number] for number in range(head.num_labels))
    is_generic = all(name in (f"LABEL_{n}", str(n)) for n, name in enumerate(names))
    return None if is_generic else names


def _parsed(kind: type[Model], content: Any, path: Path, at: str = "") -> Model:
    try:
        return parse(kind, content, lambda _: f"{path}{f' ({at[:-1]})' if at else ''}")
    except ConfigError as error:
        raise ConfigError(error.what, where=error.where, remedy=error.remedy or KNOWN) from None


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no number")

    try:
        real = _file(folder, name)
        if real is None:
            raise CheckpointError("no such file", where=path, remedy="give what save_adapter wrote")
        if real.stat().st_size > LARGEST_CONFIG:
            raise ValueError("too large")
        content = json.loads(real.read_text(encoding="utf-8"), parse_constant=refuse)
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        what = str(error).splitlines()[0]
        raise CheckpointError(f"damaged ({type(error).__name__}: {what})", where=path) from None
    return content


def _file(folder: Path, name: str) -> Path | None:
    """A regular file of a folder; None if there is none of that name.

    Raises:
        CheckpointError: it is something else, or leads out of the folder (but for the hub's cache, where
            it is a link to ``blobs``).
    """
    path = folder / name
    if not path.is_symlink() and not path.exists():
        return None
    root = folder.resolve()
    if root.parent.name == "snapshots":
        root = root.parent.parent
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise CheckpointError("a link that leads nowhere", where=path) from None
    if not real.is_relative_to(root):
        raise CheckpointError("a link that leads out of its folder", where=path)
    if not real.is_file():
        raise CheckpointError("is no file", where=path)
    return real


def _weights(folder: Path, names: tuple[str, str]) -> Tensors:
    """Plain tensors by name, in fp32 on the CPU, from safetensors if there, else from torch's pickle.

    Raises:
        CheckpointError: there is no file, or it holds something else.
    """
    import torch

    safe, pickled = (_file(folder, name) for name in names)
    path = safe or pickled
    if path is None:
        raise CheckpointError(f"no {names[0]} and no {names[1]}", where=folder)
    where = folder / (names[0] if safe else names[1])
    if path.stat().st_size > LARGEST_WEIGHTS:
        raise CheckpointError("too large for adapters", where=where)
    content: Any = _safetensors(path, where) if safe else _unpickled(path, where)
    if not isinstance(content, dict) or not content:
        raise CheckpointError("holds no tensors", where=where)
    for name, tensor in content.items():
        is_plain = (
            type(tensor) is torch.Tensor
            and (tensor.layout, tensor.device.type) == (torch.strided, "cpu")
            and not tensor.is_nested
        )
        if not isinstance(name, str) or not is_plain or not tensor.is_floating_point():
            raise CheckpointError(f"{name!r} is no plain tensor", where=where)
        if tensor.ndim > 2 or tensor.numel() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{name!r} has shape {tuple(tensor.shape)}", where=where)
    return {name: tensor.float() for name, tensor in content.items()}


def _safetensors(path: Path, where: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        what = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"damaged, or no safetensors file ({what})", where=where) from None


def _unpickled(path: Path, where: Path) -> Any:
    """A file of ``torch.save``, which is a zip archive; only tensors and plain containers come out."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_WEIGHTS:
                raise CheckpointError("too large for adapters", where=where)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(
            f"damaged, or no file of torch.save ({type(error).__name__})", where=where
        ) from None
    except CheckpointError:
        raise
    except Exception as error:  # a pickle can fail in any way; torch's words say how to run it
        raise CheckpointError(
            f"holds something else than tensors, or is damaged ({type(error).__name__}); "
            "nothing of it was executed",
            where=where,
        ) from None


# ---- To AdapterHub -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """Scores with the tuned LayerNorms and with the base model's instead: split -> metric -> value."""

    with_own: dict[str, dict[str, float | None]]
    without: dict[str, dict[str, float | None]]


def export(run: Run, folder: Path, *, offline: bool, drop_layernorms: bool) -> None:
    """Write a run into a new folder as AdapterHub's library reads it, in safetensors.

    Args:
        drop_layernorms: leave out tuned LayerNorms; see :func:`loss_without_layernorms`.

    Raises:
        ConfigError: their format has no place for what the run trained.
        CheckpointError: the checkpoint is damaged.
        StoreError: the folder is not empty or can't be written.
    """
    from safetensors.torch import save

    from adaptertune.train.checkpoint import read_tensors

    method = exportable(run, drop_layernorms=drop_layernorms)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError("is not empty", where=folder, remedy="choose another --to")
    shape = run.locate(offline=offline).shape
    own, _ = read_tensors(run.folder.checkpoint)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", run.task.name)
    layers = method.layers or tuple(range(shape.layers))
    places = list(PLACES) if method.places == "both" else [method.places]
    normed = method.norm == "layer"
    adapters = {
        f"bert.{theirs}": own[ours]
        for layer in layers
        for place in places
        for ours, theirs in _names(layer, place, name, normed=normed)
    }
    if normed:  # which is in their files twice
        adapters |= {
            key.replace(".adapter_down.0.", ".adapter_norm_before."): tensor.clone()
            for key, tensor in adapters.items()
            if ".adapter_down.0." in key
        }
    is_deep = method.pooler == "trained"
    parts = {"backbone.pooler.dense": 1, "head": 4} if is_deep else {"head": 1}
    head = {
        f"heads.{name}.{at}.{kind}": own[f"{ours}.{kind}"]
        for ours, at in parts.items()
        for kind in ("weight", "bias")
    }
    described = {
        "name": name,
        "model_type": "bert",
        "model_class": "BertAdapterModel",
        "model_name": portable_name(run.result.backbone.name),
        "hidden_size": shape.width,
        "version": VERSION,
    }
    bottleneck: dict[str, Any] = {
        "mh_adapter": "attention" in places,
        "output_adapter": "feedforward" in places,
        "reduction_factor": reduction_factor(shape.width, method.size),
        "non_linearity": next(
            key for key, ours in ACTIVATIONS.items() if ours == method.activation
        ),
        "original_ln_before": method.reads == "normed",
        "original_ln_after": True,
        "ln_before": normed,
        "ln_after": False,
        "is_parallel": method.reads == "input",
        "scaling": method.scale,
        "residual_before_ln": True,
        "leave_out": [layer for layer in range(shape.layers) if layer not in layers],
    }
    labels = run.task.labels
    classification = {
        "head_type": "classification",
        "num_labels": run.task.num_outputs,
        "layers": 2 if is_deep else 1,
        "activation_function": "tanh",
        "use_pooler": not is_deep,
        "label2id": {label: number for number, label in enumerate(labels)} if labels else None,
        "bias": True,
        "dropout_prob": None,
    }
    write_atomically(folder / WEIGHTS[0], save(adapters, {"format": "pt"}))
    write_atomically(folder / HEAD_WEIGHTS[0], save(head, {"format": "pt"}))
    write_json(folder / HEAD_CONFIG, described | {"config": classification})
    write_json(folder / CONFIG, described | {"config": bottleneck})


def exportable(run: Run, *, drop_layernorms: bool) -> configuration.Adapter:
    """The run's method, if their format can hold what it trained.

    Raises:
        ConfigError: it can't, with what stands in the way.
    """
    method = run.method
    what = None
    if not isinstance(method, configuration.Adapter):
        what, remedy = f"method '{method.name}'", "export a run of method adapter"
    elif (method.combines, method.depth) != ("add", 1) or method.norm == "batch":
        what = "this variant of the adapter"
        remedy = "combines add, depth 1 and norm none or layer can be exported"
    elif method.layernorms != "none" and not drop_layernorms:
        what = "tuned LayerNorms"
        remedy = (
            "--drop-layernorms leaves them out and measures what that costs; a run with --set "
            "method.layernorms=none has none"
        )
    if what is not None or not isinstance(method, configuration.Adapter):
        raise ConfigError(
            f"AdapterHub's format has no place for {what}", where=run.folder.path, remedy=remedy
        )
    return method


def loss_without_layernorms(
    run: Run, reopened: Reopened, on_progress: OnProgress, note: Callable[[str], None]
) -> Loss:
    """What a run's seed scores with the base model's LayerNorms instead of its own.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    import torch

    from adaptertune.metrics import TaskMetric
    from adaptertune.train import evaluate

    plan, seed = reopened.plan, run.result.seed
    splits = [
        split
        for split in _evaluation(plan, on_progress, note)
        if split.name in plan.task.evaluation
    ]
    plain = _layernorms(load_models(plan, [seed])[seed])
    model = reopened.load(seed)
    with torch.no_grad():
        for name, tensor in _layernorms(model).items():
            tensor.copy_(plain[name])
    metric, device = TaskMetric(plan.task), torch.device(plan.device)
    without = {
        split.name: evaluate.score(
            plan.task, metric, split, evaluate.logits(model, split, device)
        ).values
        for split in splits
    }
    with_own = {split.name: run.result.scores[split.name].values for split in splits}
    return Loss(with_own, without)


def _layernorms(model: Classifier) -> Mapping[str, torch.Tensor]:
    """The base model's own, not those inside adapters."""
    return {name: p for name, p in model.named_parameters() if ".LayerNorm." in name}


def reduction_factor(width: int, size: int) -> float:
    """What their library makes this size of: ``int(width // factor)``."""
    factor = width / size
    while int(width // factor) < size:  # the quotient was rounded up
        factor = math.nextafter(factor, 0)
    return factor
