"""What is in AdapterHub's files, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from adaptertune import config as configuration
from adaptertune.errors import CheckpointError, ConfigError
from adaptertune.runs import results
from adaptertune.share.adapterhub import files
from adaptertune.share.adapterhub.files import file_of, read_json, read_weights
from adaptertune.yamlfile import Model, Strict, parse

if TYPE_CHECKING:
    from adaptertune.share.adapterhub.files import Tensors
    from adaptertune.tasks import Task

VERSION = "adapters.1.3.0"  # what is written, and was tested
CONFIG, HEAD_CONFIG = "adapter_config.json", "head_config.json"
# Names of a file of weights: as safetensors, which we write, and as torch's pickle, their default.
WEIGHTS = ("adapter.safetensors", "pytorch_adapter.bin")
HEAD_WEIGHTS = ("model_head.safetensors", "pytorch_model_head.bin")
FILES = [CONFIG, HEAD_CONFIG, *WEIGHTS, *HEAD_WEIGHTS]

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

    def labels_as_in(self, task: Task) -> tuple[str, ...] | None:
        """The labels by the names that the task has too; None where they are only numbered."""
        labels = self.labels or ()
        if set(labels) == set(task.labels or ()):  # digits may be its names too, in another order
            return self.labels
        numbered = (name in (f"LABEL_{n}", str(n)) for n, name in enumerate(labels))
        return None if all(numbered) else self.labels

    @property
    def backbone(self) -> str | None:
        """The recorded base model, if that is a name of the hub and no path."""
        name = self.model_name or ""
        return name if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) else None


def read(folder: Path, facts: results.Imported) -> Foreign:
    """Read and check a folder.

    Raises:
        ConfigError: an adapter or a head of another kind than there is here.
        CheckpointError: a file is missing, damaged, or something else than it should be.
    """
    path = folder / CONFIG
    described = _parsed(_AdapterFile, read_json(folder, CONFIG), path)
    kind = described.config.get("architecture")
    if kind is not None:
        raise ConfigError(f"'{kind}' is no bottleneck adapter", where=path, remedy=KNOWN)
    config = _parsed(_Bottleneck, described.config, path, at="config.")
    theirs = read_weights(folder, WEIGHTS)
    method, layers, tensors = _adapters(config, described, theirs, path)
    if file_of(folder, HEAD_CONFIG) is None:
        raise CheckpointError(
            f"no {HEAD_CONFIG}, so there is no prediction head",
            where=folder,
            remedy="save it with save_adapter(…, with_head=True)",
        )
    head, prefix = _head(folder)
    is_deep = head.layers == 2
    if is_deep:
        method = method.model_copy(update={"pooler": "trained"})
    tensors |= _head_tensors(head, prefix, read_weights(folder, HEAD_WEIGHTS), folder)
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
        for ours, name in names(layer, place, described.name, normed=config.ln_before)
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
    if size is None or size > files.LARGEST_WEIGHTS:
        raise ConfigError(
            "'config.reduction_factor' does not give one size for all layers",
            where=path,
            remedy="all adapters of a run have one size",
        )
    return int(size)


def names(layer: int, place: str, name: str, *, normed: bool) -> Iterator[tuple[str, str]]:
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
    described = _parsed(_HeadFile, read_json(folder, HEAD_CONFIG), path)
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
    if found["head.weight"].shape[:1] != (head.num_labels,):
        raise CheckpointError("the head has another number of labels than it says", where=folder)
    return {"head.bias": torch.zeros(head.num_labels)} | found


def _labels(head: _Head, path: Path) -> tuple[str, ...] | None:
    """The labels by number; None where there are none."""
    if head.num_labels == 1 or head.label2id is None:
        return None
    by_number = {number: label for label, number in head.label2id.items()}
    if sorted(by_number) != list(range(head.num_labels)) or len(head.label2id) != len(by_number):
        raise ConfigError(f"'label2id' does not number {head.num_labels} labels", where=path)
    return tuple(by_number[number] for number in range(head.num_labels))


def _parsed(kind: type[Model], content: Any, path: Path, at: str = "") -> Model:
    try:
        return parse(kind, content, lambda _: f"{path}{f' ({at[:-1]})' if at else ''}")
    except ConfigError as error:
        raise ConfigError(error.what, where=error.where, remedy=error.remedy or KNOWN) from None
