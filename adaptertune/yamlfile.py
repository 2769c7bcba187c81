"""Strict YAML: YAML 1.2, no duplicate keys, and every complaint names file, line, key and remedy.

PyYAML reads ``1e-4`` as text and ``no`` as False and lets the last of two equal keys win;
ruamel.yaml does none of that.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from adaptertune.errors import ConfigError

# What ruamel's constructors let through of a value that looks like a date or a number and is none, and
# of brackets a thousand deep.
FROM_VALUES = (ValueError, KeyError, AttributeError, RecursionError)
Plain = dict[str, Any]
Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of everything that is read from a file: immutable, no unknown keys, no coercion."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


def like(pattern: str, in_words: str) -> AfterValidator:
    """A validator of text that fits a pattern as a whole; its complaint says in words what must be."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {in_words}")
        return text

    return AfterValidator(check)


@dataclass(frozen=True, eq=False)  # the same text gives the same document
class Document:
    """A YAML file's content as plain Python values, not to be changed, and the line of each key."""

    path: Path
    data: Plain
    lines: dict[Location, int] = field(default_factory=dict)

    def where(self, location: Location = ()) -> str:
        """``file:line`` of a key, or of the nearest enclosing one that is in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        line = self.lines.get(location)
        return f"{self.path}:{line}" if line else str(self.path)


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy that names the closest known word, or all of them if none is close."""
    options = [str(option) for option in known]
    close = difflib.get_close_matches(str(word), options, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"choose from: {', '.join(options)}"


def read_yaml(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key or holds a date or an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=path, remedy="check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text ({error})", where=path) from None
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=path) from None
    return _document(path, text)


@lru_cache(maxsize=256)  # a sweep's cells read the same few files, 10 ms each
def _document(path: Path, text: str) -> Document:
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        problem = str(error.problem).split(" with value")[0]
        raise ConfigError(
            problem, where=f"{path}:{line}", remedy="keep one of the two keys"
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"not valid YAML: {error.problem or error.context}", where=place
        ) from None
    except (YAMLError, *FROM_VALUES) as error:
        raise ConfigError(f"not valid YAML: {error}", where=path) from None
    if not isinstance(tree, CommentedMap):
        raise ConfigError("the file must hold `key: value` lines", where=path)
    lines: dict[Location, int] = {}
    return Document(path, _plain(tree, (), lines, path), lines)


def read_value(text: str, where: str | None = None) -> Any:
    """The value of a ``--set key=value`` argument, read as YAML 1.2 (``1e-4`` is a number).

    Raises:
        ConfigError: it is a date or an object, which no setting is.
    """
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return text
    except FROM_VALUES as error:
        remedy = "put quotation marks around it"
        raise ConfigError(f"'{text}' has no value ({error})", where=where, remedy=remedy) from None
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        remedy = "put quotation marks around it"
        raise ConfigError(
            f"'{text}' is a date, an object or a ring", where=where, remedy=remedy
        ) from None
    return value


def parse(model: type[Model], data: Plain, where: Callable[[Location], str | None]) -> Model:
    """Check plain values against a model; the first complaint becomes one readable line.

    Validation runs in pydantic's JSON mode: strict, yet lists may fill tuples.

    Args:
        where: tells where a key was given (``Document.where``).

    Raises:
        ConfigError: with place, key, value and remedy.
    """
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise _complaints(model, data, where, error)[0] from None


def complaints(
    model: type[BaseModel], data: Plain, where: Callable[[Location], str | None]
) -> list[ConfigError]:
    """All that is wrong with plain values, as far as it can be told at once; see :func:`parse`."""
    try:
        model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        return _complaints(model, data, where, error)
    return []


def _complaints(
    model: type[BaseModel],
    data: Plain,
    where: Callable[[Location], str | None],
    error: ValidationError,
) -> list[ConfigError]:
    return [
        ConfigError(what, where=where(location), remedy=remedy)
        for problem in error.errors(include_url=False)
        for location in [_untagged(tuple(problem["loc"]), data)]
        for what, remedy in _in_words(model, problem, location)
    ]


def _in_words(
    model: type[BaseModel], problem: ErrorDetails, location: Location
) -> list[tuple[str, str | None]]:
    """What is wrong with a value, and the remedy; a model's own check may say several things."""
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, tuple(problem["loc"])[:-1])
        has_none = set(known) <= {"name"}  # a method without settings has its name alone
        remedy = f"remove '{location[-1]}'" if has_none else nearest(str(location[-1]), known)
        return [(f"unknown key '{key}'", remedy)]
    if problem["type"] == "missing":
        return [(f"key '{key}' is missing", "add it")]
    if problem["type"] == "too_short":
        # Of what is not empty each wrong value has its own complaint.
        return [] if problem["input"] else [(f"'{key}' is empty", "give at least one value")]
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        options = problem["ctx"]["expected_tags"].replace("'", "")
        return [(f"'{key}.name' is not '{tag}'", nearest(tag, options.split(", ")))]
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message.removeprefix("String ")
    given = "" if isinstance(problem["input"], dict) else f", not {problem['input']!r}"
    # A message that begins with a key of its own speaks for itself.
    return [
        (line if line[0] == "'" or not key else f"'{key}' {line}{given}", None)
        for line in message.splitlines()
    ]


def _untagged(location: Location, data: Any) -> Location:
    """A pydantic location without what it puts in for tagged unions and for keys."""
    path: list[str | int] = []
    for part in location:
        if part == "[key]":
            continue
        if isinstance(data, dict) and part not in data and data.get("name") == part:
            continue
        path.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return tuple(path)


def _plain(node: Any, at: Location, lines: dict[Any, int], path: Path) -> Any:
    """ruamel's round-trip nodes as plain values; the line of every key is noted on the way."""
    if isinstance(node, CommentedMap):
        result: dict[str, Any] = {}
        for key, value in node.items():
            here = (*at, str(key))
            # A key that came through a merge (<<) has no line of its own here.
            if key in (node.lc.data or {}):
                lines[here] = node.lc.key(key)[0] + 1
            if str(key) in result:
                raise ConfigError(
                    f"key '{key}' stands twice, as a number and as text",
                    where=f"{path}:{lines.get(here, 1)}",
                    remedy="keep one of the two keys",
                )
            result[str(key)] = _plain(value, here, lines, path)
        return result
    if isinstance(node, CommentedSeq):
        items = []
        for index, value in enumerate(node):
            lines[(*at, index)] = node.lc.item(index)[0] + 1
            items.append(_plain(value, (*at, index), lines, path))
        return items
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, ScalarBoolean):  # one with an anchor, which is an int
        return bool(node)
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    raise ConfigError(
        f"'{'.'.join(map(str, at))}' is a {type(node).__name__}",
        where=f"{path}:{lines.get(at, 1)}",
        remedy="put quotation marks around it",
    )


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that are allowed at a place inside a model, as far as the types tell."""
    found: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        # In a tagged union pydantic's location holds the tag too: there no field matches, and the
        # models at hand are narrowed to the one whose tag it is.
        tagged = [m for m in found if part in _tags(m)]
        deeper = [
            inner
            for m in found
            if part in m.model_fields
            for inner in _models_in(m.model_fields[part].annotation)
        ]
        found = deeper or tagged
    return sorted({name for m in found for name in m.model_fields})


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    name = model.model_fields.get("name")
    return get_args(name.annotation) if name else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for argument in get_args(annotation) for inner in _models_in(argument)]
