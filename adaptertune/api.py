"""The library: ``import adaptertune as at``. What is here is what the command line does, as functions.

Everything is loaded when it is first asked for, so importing the package costs nothing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adaptertune import seeds
from adaptertune.errors import ConfigError
from adaptertune.model import inject
from adaptertune.model.adapter import ACTIVATIONS, Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TextClassificationPipeline

    from adaptertune.model.classifier import Classifier
    from adaptertune.runs.results import CellResult


def insert_adapters(
    model: PreTrainedModel,
    size: int = 64,
    *,
    layers: Iterable[int] | None = None,
    init_std: float = 1e-2,
    activation: str = "gelu",
    seed: int = 0,
    freeze: bool = True,
) -> None:
    """Put Houlsby adapters into your own BERT, in place: two a layer, near the identity at first.

    With ``freeze`` only the adapters, the LayerNorms and what lies outside the encoder (the head)
    train from then on, as in the paper; with chosen layers only these layers' LayerNorms do. Layers
    that had adapters before keep what of these and of their LayerNorms trains.
    Insert into a loaded model: transformers would initialise the adapters anew in loading. What its
    ``save_pretrained`` writes goes by ``load_state_dict`` into the base model with adapters inserted.

    Args:
        model: transformers' plain BERT, RoBERTa, ELECTRA or DeBERTa-v2, or a model of any task with one
            in it. (DistilBERT has no module for the place: train it by :func:`fine_tune`.)
        size: the bottleneck's width m; an adapter has 2md + d + m parameters.
        layers: layer numbers from 0; all unless given.
        init_std: standard deviation of the first weights.
        activation: gelu, gelu_tanh, relu, tanh or swish.
        seed: decides the first weights, apart from any global generator.
        freeze: whether to freeze everything else in the encoder.

    Raises:
        TypeError: there is no such encoder in the model.
        ValueError: a layer is not there or has adapters already, the activation is unknown, or a number
            is out of range. The model is changed only if everything fits.

    >>> import adaptertune as at
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> shape = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    ...                    intermediate_size=64, vocab_size=50)
    >>> model = BertForSequenceClassification(shape)
    >>> at.insert_adapters(model, size=8)
    >>> at.count(model).adapters  # 4 adapters of 2 * 8 * 32 + 32 + 8
    2208
    """
    bert = _bert(model)
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation '{activation}'; choose from {', '.join(ACTIVATIONS)}")
    try:
        is_bad = isinstance(size, bool) or (size := operator.index(size)) < 1
    except TypeError:
        is_bad = True
    if is_bad:
        raise ValueError(f"size must be a whole number from 1, not {size!r}")
    if not isinstance(init_std, Real) or not 0 < init_std < math.inf:
        raise ValueError(f"init_std must be a number above 0, not {init_std!r}")
    num_layers, width = len(bert.encoder.layer), bert.config.hidden_size
    try:
        numbers = range(num_layers) if layers is None else layers
        chosen = sorted({operator.index(layer) for layer in numbers})
    except TypeError:
        raise ValueError(f"layers must be whole numbers such as [0, 1], not {layers!r}") from None
    for layer in chosen:
        if not 0 <= layer < num_layers:
            raise ValueError(f"no layer {layer}; there are {num_layers}, from 0")
    device = next(bert.parameters()).device

    def make(layer: int, place: str) -> Adapter:
        stream = torch.Generator().manual_seed(seeds.derive(seed, "adapters", layer, place))
        made = Adapter(width, size, init_std=init_std, activation=activation, generator=stream)
        return made.to(device)

    def in_adapters_or_norms(parts: Iterable[nn.Module]) -> list[nn.Parameter]:
        modules = (module for part in parts for module in part.modules())
        chosen_ones = (one for one in modules if isinstance(one, Adapter | nn.LayerNorm))
        return [parameter for module in chosen_ones for parameter in module.parameters()]

    before = [bert.encoder.layer[layer] for layer in {i for i, _ in inject.adapted_outputs(bert)}]
    trained = [one for one in in_adapters_or_norms(before) if one.requires_grad]
    inject.insert_adapters(bert, chosen, make)
    if not freeze:
        return
    parts = [bert] if layers is None else [bert.encoder.layer[layer] for layer in chosen]
    bert.requires_grad_(False)
    for parameter in (*trained, *in_adapters_or_norms(parts)):
        parameter.requires_grad_(True)


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters. ``base``: the encoder without adapters; ``head``: what is outside."""

    trained: int
    trained_inside: int
    adapters: int
    layer_norms: int
    head: int
    base: int

    @property
    def share_of_base(self) -> float:
        """What trains inside the encoder over all of it, as a fraction."""
        return self.trained_inside / self.base


def count(model: PreTrainedModel) -> Counts:
    """Count a model's parameters, and those that train.

    ``adapters`` and ``layer_norms`` are those that there are; ``trained`` those with gradients, and
    ``trained_inside`` those of the encoder with its adapters. For the paper's denominators of a method
    and a shape: ``adaptertune params``.

    Raises:
        TypeError: there is no encoder in the model that :func:`insert_adapters` takes.
    """
    bert = _bert(model)

    def total(parameters: Iterable[nn.Parameter]) -> int:
        return sum(parameter.numel() for parameter in parameters)

    adapters = sum(total(block.adapter.parameters()) for _, block in inject.adapted_outputs(bert))
    norms = (module for module in bert.modules() if isinstance(module, nn.LayerNorm))
    own = total(bert.parameters())
    return Counts(
        trained=total(p for p in model.parameters() if p.requires_grad),
        trained_inside=total(p for p in bert.parameters() if p.requires_grad),
        adapters=adapters,
        layer_norms=sum(total(norm.parameters()) for norm in norms),
        head=total(model.parameters()) - own,
        base=own - adapters,
    )


def fine_tune(settings: Mapping[str, Any]) -> CellResult:
    """Train as ``adaptertune train`` does, silently; what is finished is not trained again.

    Args:
        settings: the configuration's keys with dots, e.g. ``{"task": "rte", "training.epochs": 3}``;
            a path may be a ``Path``.

    Raises:
        AdapterTuneError: as the command would complain.

    >>> import adaptertune as at
    >>> at.fine_tune({"task": "rte", "training.epochs": 0})
    Traceback (most recent call last):
    adaptertune.errors.ConfigError: training.epochs: 'training.epochs' should be greater than ...
    """
    from adaptertune.config import resolve
    from adaptertune.executors.serial import run_cell
    from adaptertune.runs.plan import plan
    from adaptertune.runs.progress import Forwarding

    made = plan(resolve({key: (_plain(value, key), key) for key, value in settings.items()}))
    return run_cell(made, Forwarding(lambda _: None, lambda: False))


def _plain(value: Any, key: str) -> Any:
    """A setting as a YAML file would give it: paths are text.

    Raises:
        ConfigError: it is of a type that no file gives.
    """
    if isinstance(value, Mapping):
        return {name: _plain(inner, key) for name, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(inner, key) for inner in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{value!r} is of type {type(value).__name__}",
        where=key,
        remedy="give text, a number, a list or a Path",
    )


def pipeline(
    run: str | Path,
    *,
    seed: int | None = None,
    output: str | Path = "runs",
    device: str = "cpu",
    backbone: str | Path | None = None,
    offline: bool = False,
) -> TextClassificationPipeline:
    """A run as a transformers pipeline, with the run's labels, tokenizer and maximal length.

    Its model computes in fp32: of a BERT it is a ``BertForSequenceClassification`` with the adapters in
    it, of other kinds this package's own forward pass. A pair is given as
    ``{"text": …, "text_pair": …}``; one that is too long is cut by transformers' tokenizer, in one
    token otherwise than by ``predict`` where both texts end up equally long. It can't be saved in
    transformers' form, which would leave the adapters out: keep the run's folder.

    Args:
        run: a run's folder, a seed's, its name or its digest.
        seed: which seed answers; the best on validation unless given.
        output: the run store, for names and digests.
        device: auto, cpu, cuda or cuda:N.
        backbone: where the run's base model is, a folder or a hub id, if it has moved.
        offline: whether to keep to the local cache.

    Raises:
        StoreError: there is no such run.
        ConfigError: there is no such device.
        BackboneError: its base model is not to be found.
        CheckpointError: its checkpoint is damaged.
    """
    from transformers import AutoTokenizer, TextClassificationPipeline

    from adaptertune.runs import load
    from adaptertune.train.device import choose_device

    chosen = choose_device(device)
    found = load.find(str(run), Path(output), seed)
    place = None if backbone is None else str(backbone)
    located = found.locate(place, offline=offline)
    ours = load.load(found, device="cpu", precision="fp32", place=place, offline=offline).model
    shape = ours.backbone.config
    task = found.task
    shape.num_labels = task.num_outputs
    if task.labels is None:
        shape.problem_type = "regression"
        shape.id2label, shape.label2id = {0: "score"}, {"score": 0}
    else:
        shape.problem_type = "single_label_classification"
        shape.id2label = dict(enumerate(task.labels))
        shape.label2id = {label: number for number, label in enumerate(task.labels)}
    is_bert = located.shape.architecture == "bert"
    model = (_as_bert if is_bert else _as_pretrained)(ours).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(located.folder), local_files_only=True)
    tokenizer.model_max_length = found.max_length
    # Which text a token is of goes to the models that were trained with it, whatever a folder says.
    types = ["token_type_ids"] if located.shape.types > 1 else []
    tokenizer.model_input_names = ["input_ids", *types, "attention_mask"]
    kind = TextClassificationPipeline if is_bert else _pipeline_of_any()
    # Theirs knows no adapters: what it loads would answer otherwise.
    model.save_pretrained = _refuse_to_save
    return kind(model=model, tokenizer=tokenizer, device=chosen, truncation=True)


def _refuse_to_save(*_: Any, **__: Any) -> None:
    raise ConfigError(
        "a run is not saved in transformers' form, which has no place for adapters",
        remedy="keep its folder for pipeline(), or see adaptertune push and export",
    )


def _pipeline_of_any() -> type[TextClassificationPipeline]:
    from transformers import TextClassificationPipeline

    class AnswerPipeline(TextClassificationPipeline):  # type: ignore[misc]
        def check_model_type(self, supported_models: Any) -> None:
            """Any will do. Theirs calls a model an error that is none of transformers' own classes."""

    return AnswerPipeline


def _as_bert(ours: Classifier) -> PreTrainedModel:
    """transformers' own class around our modules."""
    from transformers import BertForSequenceClassification

    encoder = ours.backbone
    with torch.device("meta"):  # every module of it is replaced
        model = BertForSequenceClassification(encoder.config)
    model.bert.embeddings, model.bert.encoder = encoder.embeddings, encoder.encoder
    model.bert.pooler, model.classifier = encoder.pooler, ours.head
    model.dropout = nn.Dropout(encoder.dropout_rate)
    return model


def _as_pretrained(ours: Classifier) -> PreTrainedModel:
    """A model of transformers' that asks ours; its own classes have other heads for these kinds."""
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Answering(PreTrainedModel):  # type: ignore[misc]
        config_class = type(ours.backbone.config)

        def __init__(self) -> None:
            super().__init__(ours.backbone.config)
            self.classifier = ours

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor | None = None,
            token_type_ids: torch.Tensor | None = None,
        ) -> SequenceClassifierOutput:
            segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            mask = None if attention_mask is None else attention_mask.bool()
            return SequenceClassifierOutput(logits=self.classifier(input_ids, segments, mask))

    return Answering()


def _bert(model: nn.Module) -> PreTrainedModel:
    """The encoder in a model: one whose layers have BERT's names in transformers itself."""
    from transformers import BertModel, DebertaV2Model, ElectraModel, RobertaModel

    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, BertModel | RobertaModel | ElectraModel | DebertaV2Model):
            return module
    raise TypeError(f"there is no BERT, RoBERTa, ELECTRA or DeBERTa-v2 in a {type(model).__name__}")
