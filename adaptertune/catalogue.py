"""Known backbones: shapes for counting without weights, aliases, and settings that they suggest.

Nothing here imports torch; loading is in ``model/backbone.py``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from adaptertune import paths
from adaptertune.errors import ConfigError
from adaptertune.yamlfile import Strict, parse, read_yaml

DEFAULT = "google-bert/bert-base-uncased"
EMBEDDED = "minilm"

Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=0)]
Architecture = Literal["bert", "roberta", "electra", "distilbert", "deberta-v2"]


class Shape(Strict):
    """The sizes of a Transformer encoder, and which kind it is (transformers' ``model_type``)."""

    architecture: Architecture = "bert"
    layers: Count
    width: Count
    heads: Count | None = None
    intermediate: Count
    vocabulary: Size = 30522
    # Tokens that an example may have, and rows of their table, if those are not as many.
    positions: Size = 512
    position_rows: Size | None = None
    types: Size = 2
    # Width of the embeddings if it is not that of the layers: then they are projected.
    embedding: Count | None = None
    # Rows of a table of distances between tokens, which has a LayerNorm of its own.
    relative_rows: Size = 0

    @property
    def has_pooler(self) -> bool:
        """Whether pre-training left a layer on the first token for the head to read.

        BERT alone has one that was trained. Elsewhere the head reads the first token's state itself.
        """
        return self.architecture == "bert"


class Package(Strict):
    """A Python package that carries the model as files, and how to install it."""

    name: str
    folder: str
    install: str


class Suggestions(Strict):
    """Settings that a backbone asks for; they rank over the recipe and are shown as its own."""

    training: dict[str, int | float] = {}
    learning_rate: dict[str, float] = {}


class Known(Strict):
    """A backbone of the catalogue."""

    shape: Shape
    aliases: tuple[str, ...] = ()
    package: Package | None = None
    sha256: str | None = None
    suggests: Suggestions = Suggestions()


class _Catalogue(Strict):
    backbones: dict[str, Known]


@cache
def known_backbones() -> dict[str, Known]:
    """All known backbones by full name."""
    document = read_yaml(paths.CONFIGS / "backbones.yaml")
    return parse(
        _Catalogue, {"backbones": document.data}, lambda at: document.where(at[1:])
    ).backbones


@cache
def full_name(name: str) -> str:
    """``bert-base`` as ``google-bert/bert-base-uncased``, ``bert-base@main`` with its revision; any
    other name as it is.
    """
    alias, at, revision = name.partition("@")
    model = next((full for full, it in known_backbones().items() if alias in it.aliases), alias)
    return f"{model}{at}{revision}"


def without_revision(name: str) -> str:
    """The model of ``id@revision``; a revision of it is still that model."""
    return name.partition("@")[0]


def known(name: str) -> Known | None:
    """The catalogue's entry for a name or alias, if it has one and no folder goes by that name.

    A model of the hub may have any revision; a package has none.
    """
    full = full_name(name)
    entry = known_backbones().get(without_revision(full))
    is_other = folder(name) or (entry and entry.package and full != without_revision(full))
    return None if is_other else entry


def package(name: str) -> Package | None:
    """The package that carries a backbone, if one does; it has no revisions."""
    entry = known_backbones().get(full_name(name))
    return entry.package if entry else None


def folder(name: str) -> Path | None:
    """The folder that a name is the path of, if it is one and no package goes by that name."""
    path = paths.expanded(name, "--backbone")
    try:
        is_there = path.is_dir()
    except OSError:  # a name that is too long for one, or below a closed folder
        is_there = False
    return path if is_there and not package(name) else None


def is_local(name: str) -> bool:
    """Whether a backbone comes from a package or a folder, and never from the hub."""
    return bool(package(name) or folder(name))


def suggestions(name: str) -> Suggestions:
    """What a backbone suggests: nothing if it is not in the catalogue."""
    entry = known(name)
    return entry.suggests if entry else Suggestions()


def parse_shape(text: str) -> Shape:
    """``LAYERS,WIDTH[,INTERMEDIATE[,VOCABULARY[,POSITIONS]]]``; the intermediate width is 4 x width.

    Raises:
        ConfigError: the text is not two to five positive numbers.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
        if not 2 <= len(numbers) <= 5 or min(numbers[:3]) < 1 or min(numbers) < 0:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"'{text}' is not a shape",
            where="--shape",
            remedy="give LAYERS,WIDTH[,INTERMEDIATE[,VOCABULARY[,POSITIONS]]], e.g. 24,1024",
        ) from None
    layers, width = numbers[:2]
    intermediate = numbers[2] if len(numbers) > 2 else 4 * width
    extra = dict(zip(("vocabulary", "positions"), numbers[3:], strict=False))
    sizes = {"layers": layers, "width": width, "intermediate": intermediate, **extra}
    return Shape.model_validate(sizes)
