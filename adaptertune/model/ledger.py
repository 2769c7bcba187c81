"""Parameter counts in closed form, every share with its denominator named. Needs no weights.

The paper's shares (2.1 %, 3.6 %) and storage multiples (1.2x, 1.3x) fit the encoder layers as the
denominator, not all parameters; so both are always given. The head is counted apart, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from adaptertune import config
from adaptertune.catalogue import Shape
from adaptertune.errors import ConfigError

BYTES_PER_PARAMETER = 4  # checkpoints hold fp32


@dataclass(frozen=True)
class Part:
    """Parameters of one kind: how many there are and how many of them train."""

    name: str
    total: int
    trained: int


@dataclass(frozen=True)
class Ledger:
    """Who trains, out of how many. All counts are numbers of parameters."""

    method: str
    parts: tuple[Part, ...]
    # Denominators: the plain model's, without adapters and head.
    encoder_layers: int
    all_parameters: int

    @property
    def head(self) -> int:
        return self._part("head").total

    @property
    def trained(self) -> int:
        """Trained parameters without the head, as the paper counts."""
        return sum(part.trained for part in self.parts) - self.head

    @property
    def stored(self) -> int:
        """What a task's checkpoint holds: the trained parameters and the head. With batch norm in the
        adapters it also holds running means and variances, which are no parameters.
        """
        return self.trained + self.head

    @property
    def total(self) -> int:
        """All parameters of the model in use, adapters and head included."""
        return sum(part.total for part in self.parts)

    @property
    def share_of_encoder(self) -> float:
        return self.trained / self.encoder_layers

    @property
    def share_of_all(self) -> float:
        """Also the ratio to full fine-tuning, which trains all of them."""
        return self.trained / self.all_parameters

    def multiple(self, num_tasks: int, *, of: str = "encoder_layers") -> float:
        """Parameters for N tasks over those of one plain model: N, or 1 + N times the share.

        ``of`` is the denominator: "encoder_layers" (the paper's) or "all_parameters".
        """
        if self.method == "full":
            return float(num_tasks)
        return 1 + num_tasks * self.trained / int(getattr(self, of))

    def as_json(self, num_tasks: int = 9) -> dict[str, Any]:
        """Everything above as plain values; shares are fractions."""
        return {
            "method": self.method,
            "parts": [asdict(part) for part in self.parts],
            "trained": self.trained,
            "head": self.head,
            "stored": self.stored,
            "stored_bytes": self.stored * BYTES_PER_PARAMETER,
            "total": self.total,
            "encoder_layers": self.encoder_layers,
            "all_parameters": self.all_parameters,
            "share_of_encoder_layers": self.share_of_encoder,
            "share_of_all_parameters": self.share_of_all,
            "num_tasks": num_tasks,
            "multiple_of_encoder_layers": self.multiple(num_tasks),
            "multiple_of_all_parameters": self.multiple(num_tasks, of="all_parameters"),
        }

    def _part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


def check_layers(method: config.Method, num_layers: int) -> None:
    """Whether a model of so many layers has those that a method names.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(method, config.Adapter):
        named = {"--layers": method.layers}
        if isinstance(method.layernorms, tuple):
            named["method.layernorms"] = method.layernorms
        for where, chosen in named.items():
            if chosen is not None and max(chosen, default=num_layers) >= num_layers:
                raise ConfigError(
                    f"layer {max(chosen, default='?')} is not among {num_layers} layers",
                    where=where,
                    remedy=f"choose from 0-{num_layers - 1}",
                )
    elif isinstance(method, config.TopLayers) and method.k > num_layers:
        raise ConfigError(
            f"there are {num_layers} layers, not {method.k}",
            where="--top-k",
            remedy=f"choose 1 to {num_layers}",
        )


def count(shape: Shape, method: config.Method, num_outputs: int) -> Ledger:
    """The ledger of a method on a backbone of some shape.

    Raises:
        ConfigError: the method names layers that the shape does not have.
    """
    d, wide, num_layers = shape.width, shape.intermediate, shape.layers
    check_layers(method, num_layers)
    norm = 2 * d
    embedded = shape.embedding or d
    rows = shape.positions if shape.position_rows is None else shape.position_rows
    tables = (shape.vocabulary + rows + shape.types) * embedded + shape.relative_rows * d
    projection_bias = d if shape.embedding else 0
    if shape.embedding:
        tables += embedded * d + projection_bias
    layer_weights = 4 * d * d + 2 * d * wide
    layer_biases = 4 * d + wide + d
    layer = layer_weights + layer_biases  # without its two LayerNorms
    pooler_bias = d if shape.has_pooler else 0
    pooler = d * pooler_bias + pooler_bias
    # Those of the layers, of the embeddings, and of relative positions.
    norms = 2 * num_layers * norm + 2 * embedded + (norm if shape.relative_rows else 0)
    head = d * num_outputs + num_outputs

    trained = {
        "embeddings": 0,
        "encoder": 0,
        "LayerNorms": 0,
        "pooler": 0,
        "adapters": 0,
        "head": head,
    }
    adapters = 0
    if isinstance(method, config.Adapter):
        chosen = num_layers if method.layers is None else len(method.layers)
        size = method.size
        adapter = 2 * size * d + d + size + (method.depth - 1) * (size * size + size)
        if method.norm != "none":
            adapter += 2 * d
        adapters = chosen * (2 if method.places == "both" else 1) * adapter
        tuned = method.trained_layernorms
        trained_norms = norms if tuned is None else 2 * len(tuned) * norm
        trained |= {"adapters": adapters, "LayerNorms": trained_norms}
        if method.pooler == "trained":
            _require_pooler(shape, "train", "leave it frozen")
            trained |= {"pooler": pooler}
    elif isinstance(method, config.Full):
        trained |= {"embeddings": tables, "encoder": num_layers * layer, "LayerNorms": norms}
        if method.pooler == "trained":
            trained |= {"pooler": pooler}
        else:
            _require_pooler(shape, "freeze", "leave the setting out")
    elif isinstance(method, config.TopLayers):
        trained |= {
            "encoder": method.k * layer,
            "LayerNorms": 2 * method.k * norm,
            "pooler": pooler,
        }
    elif isinstance(method, config.LayerNorm):
        trained |= {"LayerNorms": norms}
    elif isinstance(method, config.LoRA):
        adapters = num_layers * 2 * 2 * method.rank * d  # a pair at query and at value
        trained |= {"adapters": adapters}
    elif isinstance(method, config.IA3):
        adapters = num_layers * (2 * d + wide)  # key, value, inner states
        trained |= {"adapters": adapters}
    else:
        trained |= {
            "embeddings": projection_bias,
            "encoder": num_layers * layer_biases,
            "LayerNorms": norms // 2,
            "pooler": pooler_bias,
        }

    totals = {
        "embeddings": tables,
        "encoder": num_layers * layer,
        "LayerNorms": norms,
        "pooler": pooler,
        "adapters": adapters,
        "head": head,
    }
    return Ledger(
        method=method.name,
        parts=tuple(Part(name, total, trained[name]) for name, total in totals.items() if total),
        encoder_layers=num_layers * (layer + 2 * norm),
        all_parameters=tables + num_layers * layer + norms + pooler,
    )


def _require_pooler(shape: Shape, what: str, remedy: str) -> None:
    if not shape.has_pooler:
        raise ConfigError(
            f"the backbone has no pooler to {what}", where="method.pooler", remedy=remedy
        )


def sizes_between(
    shape: Shape, method: config.Adapter, low: float, high: float
) -> tuple[int, int] | None:
    """The smallest and largest bottleneck size whose trained share of the encoder layers lies in
    ``[low, high]`` (fractions); None if no size does. All but the size is as ``method`` has it.

    Raises:
        ConfigError: the method names layers that the shape does not have.
    """

    def share(size: int) -> float:
        return count(shape, method.model_copy(update={"size": size}), 2).share_of_encoder

    def first(is_enough: Callable[[float], bool]) -> int:
        """The smallest size with such a share, which grows with the size."""
        enough = 1
        while not is_enough(share(enough)):
            enough *= 2
        too_small = enough // 2
        while enough - too_small > 1:
            middle = (too_small + enough) // 2
            if is_enough(share(middle)):
                enough = middle
            else:
                too_small = middle
        return enough

    smallest = first(lambda found: found >= low)
    largest = first(lambda found: found > high) - 1
    return (smallest, largest) if smallest <= largest else None
