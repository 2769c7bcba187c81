"""Strict YAML: what is read as what, and what each complaint says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from adaptertune.errors import ConfigError
from adaptertune.yamlfile import Strict, nearest, parse, read_value, read_yaml

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: str | bytes) -> Path:
        path = tmp_path / "file.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


# (as written, as YAML 1.2 has it): what YAML 1.1 or PyYAML would make of it stands beside
VALUES: list[tuple[str, Any]] = [
    ("1e-4", 1e-4),  # PyYAML: text
    ("3E5", 300000.0),
    (".5", 0.5),
    ("12", 12),
    ("0x1F", 31),
    ("0o17", 15),
    ("010", 10),  # 1.1: octal, 8
    ("1:30", "1:30"),  # 1.1: base 60, 90
    ("no", "no"),  # 1.1: False
    ("yes", "yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("&x true", True),  # ruamel: an int
    ("&x False", False),
    ("&x 12", 12),
    ("&x ~", None),
    ("'1e-4'", "1e-4"),
    ('"a\\tb"', "a\tb"),
    ("3-5", "3-5"),
    ("[1, no, 1e-4]", [1, "no", 1e-4]),
    ("{b: {c: yes}}", {"b": {"c": "yes"}}),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_are_those_of_yaml_1_2(write: Write, text: str, value: Any) -> None:
    for found in (read_yaml(write(f"a: {text}\n")).data["a"], read_value(text)):
        assert found == value
        assert type(found) is type(value)


def test_values_are_plain_python_however_deep(write: Write) -> None:
    data = read_yaml(write("a:\n- b: 0x10\n  c: 'x'\n- [1.50, \"y\", z]\nd: |\n  text\n")).data

    def types(value: Any) -> set[type]:
        if isinstance(value, dict):
            return {dict}.union(*(types(inner) for inner in [*value, *value.values()]))
        if isinstance(value, list):
            return {list}.union(*map(types, value))
        return {type(value)}

    assert types(data) <= {dict, list, str, int, float}


def test_byte_order_mark_and_crlf_are_skipped(write: Write) -> None:
    assert read_yaml(write("\ufeffa: 1\r\nb: x\r\n".encode())).data == {"a": 1, "b": "x"}


def test_lines_are_those_of_the_keys(write: Write) -> None:
    document = read_yaml(
        write("# comment\na: 1\nb:\n  c:\n\n    d: 2\n  e:\n    - 3\n    - f: 4\n")
    )
    path = document.path
    assert document.where(("a",)) == f"{path}:2"
    assert document.where(("b", "c", "d")) == f"{path}:6"
    assert document.where(("b", "e", 0)) == f"{path}:8"
    assert document.where(("b", "e", 1, "f")) == f"{path}:9"
    assert document.where(("b", "c", "absent", "deeper")) == f"{path}:4"
    assert document.where(("absent",)) == document.where() == str(path)


BAD: dict[str, tuple[str | bytes, str]] = {
    "duplicate key": ("a: 1\nb: 2\na: 3\n", r'file\.yaml:3: .*duplicate key "a"; keep one'),
    "duplicate key inside": ("a:\n  x: 1\n  y: 2\n  x: 1\n", r'file\.yaml:4: .*duplicate key "x"'),
    "key twice as number and text": ("a: 0\n1: x\n'1': y\n", r"file\.yaml:[23]: .*1"),
    "date": ("b: 1\na: 2024-01-31\n", r"file\.yaml:2: 'a' is a date; put quotation marks"),
    "time": ("b:\n  a: 2024-01-31T10:00:00\n", r"file\.yaml:2: 'b\.a' is a .*; put quotation"),
    "object": ("a: !!python/object:os.system x\n", r"file\.yaml:1: 'a' is a .*"),
    "set": ("a: !!set {x, y}\n", r"file\.yaml:1: 'a' is a .*"),
    "bytes": ("a: !!binary aGVsbG8=\n", r"file\.yaml:1: 'a' is a .*"),
    "list": ("- a\n- b\n", r"file\.yaml: the file must hold `key: value` lines"),
    "text": ("hello\n", r"file\.yaml: the file must hold `key: value` lines"),
    "empty": ("", r"file\.yaml: the file must hold `key: value` lines"),
    "only a comment": ("# a: 1\n", r"file\.yaml: the file must hold `key: value` lines"),
    "two documents": ("a: 1\n---\nb: 2\n", r"file\.yaml:2: not valid YAML"),
    "unclosed list": ("a: [1, 2\nb: 3\n", r"file\.yaml:2: not valid YAML"),
    "tab": ("a:\n\tb: 1\n", r"file\.yaml:2: not valid YAML: found character '\\t'"),
    "no such anchor": ("a: 1\nb: *x\n", r"file\.yaml:2: not valid YAML: found undefined alias"),
    "a merge into itself": ("a: &a\n  <<: *a\n", r"file\.yaml: not valid YAML"),
    "not text": ("a: \x00\n", r"file\.yaml: not valid YAML: unacceptable character"),
    "a date that is none": ("a: 2024-02-30\n", r"file\.yaml: not valid YAML: day is out of range"),
    "a number that is none": ("a: !!int abc\n", r"file\.yaml: not valid YAML: invalid literal"),
    "brackets a thousand deep": (
        "a: " + 2_000 * "[",
        r"file\.yaml: not valid YAML: maximum recursion",
    ),
    "not UTF-8": (b"a: caf\xe9\n", r"file\.yaml: is not UTF-8 text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(write: Write, name: str) -> None:
    content, complaint = BAD[name]
    with pytest.raises(ConfigError, match=complaint) as refusal:
        read_yaml(write(content))
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file; check the path"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)


def test_anchors_and_merges_are_read(write: Write) -> None:
    text = "a: &common {size: 8, std: 1e-2}\nb: *common\nc:\n  <<: *common\n  size: 64\n"
    data = read_yaml(write(text)).data
    assert data["b"] == {"size": 8, "std": 1e-2}
    assert data["c"] == {"size": 64, "std": 1e-2}


@pytest.mark.parametrize("text", ["2024-13-01", "!!int abc", 2_000 * "["])
def test_a_value_that_has_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="; put quotation marks around it") as refusal:
        read_value(text)
    assert refusal.value.what.startswith(f"'{text}' has no value (")


@pytest.mark.parametrize("text", ["{", "*x", "@x", "{a: 1, a: 2}", "!foo x"])
def test_a_value_that_is_not_yaml_is_text(text: str) -> None:
    assert read_value(text) == text


# ---- checking against a model ----


class Cat(Strict):
    name: Literal["cat"]
    lives: Annotated[int, Field(ge=1)]


class Dog(Strict):
    name: Literal["dog"]
    friend: Cat | None = None


class Home(Strict):
    street: str
    number: int
    rent: float = 0.0
    rooms: tuple[Annotated[int, Field(gt=0)], ...] = ()
    pet: Annotated[Cat | Dog | None, Field(discriminator="name")] = None


GOOD = "street: Elm\nnumber: 7\n"
WRONG: dict[str, tuple[str, str]] = {
    "unknown key": (
        f"{GOOD}stret: Oak\n",
        r"file\.yaml:3: unknown key 'stret'; did you mean street\?",
    ),
    "unlike any": (
        f"{GOOD}\nzzz: 1\n",
        r"file\.yaml:4: unknown key 'zzz'; choose from: number, pet, rent, rooms, street",
    ),
    "missing key": ("street: Elm\n", r"file\.yaml: key 'number' is missing; add it"),
    "text for a number": (
        "street: Elm\nnumber: '7'\n",
        r"file\.yaml:2: 'number' should be a valid integer, not '7'",
    ),
    "fraction for a number": (
        "street: Elm\nnumber: 7.0\n",
        r"file\.yaml:2: 'number' should be a valid integer, not 7\.0",
    ),
    "truth for a number": (
        "street: Elm\nnumber: true\n",
        r"file\.yaml:2: 'number' should be a valid integer, not True",
    ),
    "number for text": ("street: 5\nnumber: 7\n", r"file\.yaml:1: 'street' .* string, not 5"),
    "nothing for text": ("street:\nnumber: 7\n", r"file\.yaml:1: 'street' .* string, not None"),
    "infinite": (f"{GOOD}rent: .inf\n", r"file\.yaml:3: 'rent' should be a finite number"),
    "not a number": (f"{GOOD}rent: .nan\n", r"file\.yaml:3: 'rent' should be a finite number"),
    "in a list": (
        f"{GOOD}rooms:\n- 3\n- 0\n",
        r"file\.yaml:5: 'rooms\.1' should be greater than 0, not 0",
    ),
    "not a list": (f"{GOOD}rooms: 3\n", r"file\.yaml:3: 'rooms' should be a valid array, not 3"),
    "key in a union": (
        f"{GOOD}pet:\n  name: cat\n  lifes: 9\n  lives: 9\n",
        r"file\.yaml:5: unknown key 'pet\.lifes'; did you mean lives\?",
    ),
    "key of another tag": (
        f"{GOOD}pet: {{name: dog, lives: 9}}\n",
        r"file\.yaml:3: unknown key 'pet\.lives'; choose from: friend, name",
    ),
    "value in a union": (
        f"{GOOD}pet:\n  name: cat\n  lives: 0\n",
        r"file\.yaml:5: 'pet\.lives' should be greater than or equal to 1, not 0",
    ),
    "value further in": (
        f"{GOOD}pet:\n  name: dog\n  friend:\n    name: cat\n    lives: 0\n",
        r"file\.yaml:7: 'pet\.friend\.lives' should be greater than or equal to 1, not 0",
    ),
    "unknown tag": (
        f"{GOOD}pet:\n  name: cta\n",
        r"file\.yaml:[34]: 'pet\.name' is not 'cta'; did you mean cat\?",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_complaints_name_file_line_key_and_remedy(write: Write, name: str) -> None:
    text, complaint = WRONG[name]
    document = read_yaml(write(text))
    with pytest.raises(ConfigError, match=complaint) as refusal:
        parse(Home, document.data, document.where)
    assert "\n" not in str(refusal.value)


def test_lists_fill_tuples_and_whole_numbers_fill_floats(write: Write) -> None:
    document = read_yaml(write(f"{GOOD}rooms: [1, 2]\nrent: 5\npet: {{name: dog}}\n"))
    home = parse(Home, document.data, document.where)
    assert home == Home(street="Elm", number=7, rent=5.0, rooms=(1, 2), pet=Dog(name="dog"))


def test_what_is_read_can_not_be_changed(write: Write) -> None:
    document = read_yaml(write(GOOD))
    home = parse(Home, document.data, document.where)
    with pytest.raises(ValueError, match="frozen"):
        home.street = "Oak"  # type: ignore[misc]


def test_nearest() -> None:
    assert nearest("mnil", ["mnli", "qnli", "rte"]) == "did you mean mnli?"
    assert nearest("zebra", ["mnli", "rte"]) == "choose from: mnli, rte"
