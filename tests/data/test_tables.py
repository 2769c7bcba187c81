"""Rows of every format as other readers see them, and every way a row can be bad."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptertune.data import tables
from adaptertune.data.tables import Bad, Row
from adaptertune.errors import DataError
from adaptertune.tasks import Columns

PAIR = Columns(first="a", second="b", label="y")
CELLS = [
    ("plain text", "and another", "yes"),
    ('with "quotes", and a comma', "a; semicolon | bar", "no"),
    ("ünïcödé 猫 \U0001f600", "a line\u2028separator", "yes"),
]


def read(path: Path, columns: Columns = PAIR, format: Any = None) -> list[Row | Bad]:
    with tables.opened(path, format or tables.format_of(path, None)) as table:
        return list(table.rows(columns))


def write(folder: Path, ending: str, rows: Sequence[Sequence[str]]) -> Path:
    """By the libraries that users have."""
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(
            pa.Table.from_pylist([dict(zip("abyx", row, strict=False)) for row in rows]), path
        )
    elif ending == "jsonl":
        lines = [json.dumps(dict(zip("aby", row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    elif ending == "csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("a", "b", "y"), *rows])
    else:
        path.write_text("".join("\t".join(row) + "\n" for row in [("a", "b", "y"), *rows]))
    return path


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
def test_each_format_gives_the_same_rows(ending: str, tmp_path: Path) -> None:
    start = 2 if ending in ("tsv", "csv") else 1
    expected = [Row(start + at, *cells) for at, cells in enumerate(CELLS)]
    assert read(write(tmp_path, ending, CELLS)) == expected


texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=20
)


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=5))
def test_csv_of_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    found = read(write(tmp_path_factory.mktemp("csv"), "csv", rows))
    assert [tuple(row)[1:] for row in found] == rows


def test_csv_cells_may_hold_lines_and_the_row_has_the_number_of_its_first(tmp_path: Path) -> None:
    rows = [("one\ntwo", "b\r\n\r\nc", "y"), ("x", "y", "z")]
    assert read(write(tmp_path, "csv", rows)) == [
        Row(2, "one\ntwo", "b\r\n\r\nc", "y"), Row(6, "x", "y", "z"),
    ]  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_that_of_the_header(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"a{delimiter}b{delimiter}y\n1, 2; 3{delimiter}x{delimiter}z\n".replace(
        "1, 2; 3", '"1, 2; 3"'))  # fmt: skip
    assert read(path) == [Row(2, "1, 2; 3", "x", "z")]


def test_what_stands_in_quotation_marks_separates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('"a; b; c; d",x,1\n"d",y,0\n')
    assert read(path, Columns(first=0, second=1, label=2)) == [
        Row(1, "a; b; c; d", "x", "1"), Row(2, "d", "y", "0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "row", "inside"),
    [
        ("tsv", "1\t2\t3\t4", "a tab"),
        ("csv", "I like it, really,2,3", "a delimiter without quotation marks"),
        ("tsv", "1\t2", "a line end"),
        ("csv", "1,2", "a line end"),
    ],
)
def test_what_may_have_torn_a_row_or_split_it(
    ending: str, row: str, inside: str, tmp_path: Path
) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_text(("a\tb\ty\n" if ending == "tsv" else "a,b,y\n") + row + "\n")
    (bad,) = read(path)
    assert isinstance(bad, Bad)
    assert bad.remedy == f"{tables.REMEDY} ({inside} inside a text?)"


def test_a_text_file_has_a_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("a\tb\nc d\te\n")
    assert read(path, Columns(first=0)) == [
        Row(1, "a\tb", None, None),
        Row(2, "c d\te", None, None),
    ]
    assert read(path, Columns(first=0, second=1))[1] == Row(2, "c d", "e", None)
    path.write_text("only one\n")
    assert read(path, Columns(first=0, second=1)) == [
        Bad(1, "not two texts with a tab between", tables.REMEDY, "only one")
    ]


BAD: dict[str, tuple[str, bytes, int, str]] = {
    # name: file, content, the bad line, what is wrong with it
    "tsv, columns": ("x.tsv", b"a\tb\ty\n1\t2\n", 2, "2 columns where the first line has 3"),
    "tsv, empty": ("x.tsv", b"a\tb\ty\n1\t \t3\n", 2, "the text in column 2 is empty"),
    "tsv, not UTF-8": ("x.tsv", b"a\tb\ty\ncaf\xe9\t2\t3\n", 2, "not UTF-8 text"),
    "tsv, long": (
        "x.tsv", b"a\tb\ty\n" + b"x" * 10_000_000 + b"\n", 2, "the line is longer than 1,000,000 bytes",
    ),
    "csv, columns": ("x.csv", b"a,b,y\n1,2\n", 2, "2 columns where the first line has 3"),
    "csv, a blank line": ("x.csv", b"a,b,y\n\n", 2, "an empty line"),
    "csv, quotes": ("x.csv", b'a,b,y\n"1"2,3,4\n', 2, "not valid CSV up to line 2"),
    "csv, not UTF-8": ("x.csv", b"a,b,y\ncaf\xe9,2,3\n", 2, "not UTF-8 text"),
    "csv, long": ("x.csv", b"a,b,y\n" + b"x" * 10_000_000 + b"\n", 2, "the line is longer than"),
    "json, none": ("x.jsonl", b"{'a': 1}\n", 1, "not valid JSON"),
    "json, deep": ("x.jsonl", b"[" * 100_000 + b"\n", 1, "not valid JSON"),
    "json, a list": ("x.jsonl", b"[1, 2]\n", 1, "not a JSON object"),
    "json, a key": ("x.jsonl", b'{"a": "1", "b": "2", "y": 0}\n{"a": "1"}\n', 2, "no key 'b'"),
    "json, a number": (
        "x.jsonl", b'{"a": "1", "b": 2, "y": 0}\n', 1, "the text in column 'b' is no text (int)",
    ),
    "json, null": (
        "x.jsonl", b'{"a": null, "b": "2", "y": 0}\n', 1, "the text in column 'a' is no text",
    ),
    "json, half a pair": (
        "x.jsonl", b'{"a": "\\ud83d", "b": "2", "y": 0}\n', 1, "the text in column 'a' is broken Uni",
    ),
}  # fmt: skip
AFTER = {
    "tsv": (b"good\tone\tyes\n"), "csv": (b"good,one,yes\n"),
    "jsonl": b'{"a": "good", "b": "one", "y": "yes"}\n',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_and_the_next_is_read(name: str, tmp_path: Path) -> None:
    file, content, line, what = BAD[name]
    (tmp_path / file).write_bytes(content + AFTER[file.partition(".")[2]])
    *_, bad, good = read(tmp_path / file)
    assert isinstance(bad, Bad)
    assert (bad.line, bad.what[: len(what)]) == (line, what)
    assert bad.remedy
    assert isinstance(good, Row)
    assert (good.line, good.first, good.second, good.label) == (line + 1, "good", "one", "yes")


def test_the_rest_of_a_record_with_a_line_that_is_no_text_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        b'a,b,y\n"one\n\xff two\n\xfe three\nlast",other,no\ngood,one,yes\n"\xff",b,c\n"open,\xff'
    )
    found = read(path)
    assert [one.line for one in found] == [3, 4, 6, 7, 8]
    assert [isinstance(one, Row) for one in found] == [False, False, True, False, False]
    assert {one.what for one in found if isinstance(one, Bad)} == {"not UTF-8 text"}


def test_of_a_record_with_several_bad_lines_each_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b,y\n"one\n\xff two\n' + b"x" * 1_000_001 + b"\ngood,one,yes\n")
    *bad, good = read(path)
    assert [one.what[:11] for one in bad if isinstance(one, Bad)] == ["not UTF-8 t", "the line is"]
    assert isinstance(good, Row)


def test_parquet_with_rows_that_are_no_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x", None, "z"], "b": ["p", "q", " "]}), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet", Columns(first="a", second="b"))
    assert found[0] == Row(1, "x", "p", None)
    assert [(row.line, getattr(row, "what", "")) for row in found[1:]] == [
        (2, "the text in column 'a' is no text (NoneType)"), (3, "the text in column 'b' is empty"),
    ]  # fmt: skip


FAR = pa.array([2**62, 1], pa.timestamp("us"))
NO_UTF8 = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"a"]).buffers())
ODD = {
    "a time that Python lacks": FAR,
    "seconds": pa.array([10**13, 1], pa.timestamp("s")),
    "a date": pa.array([10**7, 1], pa.date32()),
    "milliseconds": pa.array([10**16, 1], pa.date64()),
    "a duration": pa.array([2**62, 1], pa.duration("s")),
    "a time zone that nobody knows": pa.array([1, 1], pa.timestamp("us", tz="Foo/Bar")),
    "no UTF-8": NO_UTF8,
    "two fields of a name": pa.StructArray.from_arrays([FAR, FAR], names=["a", "a"]),
}


@pytest.mark.parametrize("name", ODD)
def test_a_column_that_nobody_asked_for_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"odd": ODD[name], "a.b": ["x", "y"], "y": [1, 2]}), path)
    expected = [Row(1, "x", None, 1), Row(2, "y", None, 2)]
    assert read(path, Columns(first="a.b", label="y")) == expected
    if name == "no UTF-8":  # which is a text
        return
    with tables.opened(path, "parquet") as table:
        assert table.names == ["odd", "a.b", "y"]
        assert [*table.records()] == [(1, {"a.b": "x"}), (2, {"a.b": "y"})]


@pytest.mark.parametrize("name", ODD)
def test_a_column_that_was_asked_for_is_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"odd": ODD[name], "a": ["x", "y"]}), path)
    with pytest.raises(DataError, match=r"x\.parquet:1: cannot be read as Parquet"):
        read(path, Columns(first="a", label="odd"))


def test_columns_of_texts_are_so_however_they_are_kept(tmp_path: Path) -> None:
    kinds = {"a": pa.string(), "b": pa.large_string(), "c": pa.string_view()}
    found = {name: pa.array(["x"], kind) for name, kind in kinds.items()}
    found |= {"d": pa.array(["x"]).dictionary_encode(), "e": pa.array([b"x"]), "f": pa.array([1])}
    pq.write_table(pa.table(found), tmp_path / "x.parquet")
    with tables.opened(tmp_path / "x.parquet", "parquet") as table:
        assert [*table.records()] == [(1, dict.fromkeys("abcd", "x"))]


REFUSED: dict[str, tuple[str, bytes, Columns, str]] = {
    "no such column": ("x.csv", b"aa,b,y\n1,2,3\n", PAIR, r"x\.csv:1: no column 'a'; did you mean aa\?"),
    "no such key": (
        "x.jsonl", b'{"aa": 1, "b": 2, "y": 1}\n', PAIR, r"x\.jsonl:1: no column 'a'; did you",
    ),
    "positions in JSON": ("x.jsonl", b'{"a": 1}\n', Columns(first=0), "columns of jsonl have names"),
    "beyond the last": ("x.csv", b"1,2\n", Columns(first=2), r"x\.csv: no column 2 \(from 0\)"),
    "nothing": ("x.csv", b"", PAIR, r"x\.csv: the file holds no rows"),
    "a header": ("x.csv", b"a,b,y\n", PAIR, r"x\.csv: the file holds no rows"),
    "UTF-16": ("x.csv", "a,b,y\n".encode("utf-16"), PAIR, r"x\.csv:1: not UTF-8 text; save it as UTF-8"),
    "no Parquet": (
        "x.parquet", b"PAR1" + b"\xff" * 64 + b"PAR1", PAIR, r"x\.parquet: cannot be read as Parquet",
    ),
    "a huge footer": (
        "x.parquet", b"PAR1" + b"\x00" * 8 + b"\xff\xff\xff\x7fPAR1", PAIR, "cannot be read as Parq",
    ),
    "an empty Parquet": ("x.parquet", b"", PAIR, "cannot be read as Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    file, content, columns, complaint = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / file, columns)


def test_a_missing_file_a_folder_and_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "x.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r"no format is known for '\.xlsx'; name it \.tsv"):
        tables.format_of(tmp_path / "x.xlsx", None)


class Endless(io.RawIOBase):
    """A gigabyte without a line's end."""

    def __init__(self) -> None:
        self.left = 1_000_000_000

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.left)
        self.left -= size
        buffer[:size] = b"x" * size
        return size


def test_a_line_without_end_takes_no_memory() -> None:
    tracemalloc.start()
    (bad,) = tables._each(tables._Lines(io.BufferedReader(Endless()), "x"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(bad, Bad)
    assert peak < 10 * tables.LONGEST


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_second_text_may_be_missing_where_it_may(order: tuple[int, ...], tmp_path: Path) -> None:
    """Also in the first row, whose keys say nothing of the others'."""
    lines = [
        '{"a": "one", "y": "t"}',
        '{"a": "two", "b": "2", "y": "t"}',
        '{"a": "three", "b": ""}',
    ]
    expected = [Row(1, "one", None, "t"), Row(1, "two", "2", "t")]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines[at] for at in order) + "\n")
    with tables.opened(path, "jsonl", may_lack_second=True) as table:
        found = list(table.rows(PAIR))
    for at, row in zip(order, found, strict=True):
        if at == 2:  # the label is not optional
            assert row[1] == "no key 'y'"
        else:
            assert row._replace(line=1) == expected[at]


@pytest.mark.parametrize("first", ["{", "[]", "{}", '{"b": "2"}', '{"a": "1", "y": 0}'])
def test_the_first_row_of_json_lines_may_be_bad(first: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{first}\n{{"a": "1", "b": "2", "y": "z"}}\n')
    with tables.opened(path, "jsonl") as table:
        assert sorted(table.names) == ["a", "b", "y"]
        bad, good = table.rows(PAIR)
    assert isinstance(bad, Bad)
    assert good == Row(2, "1", "2", "z")


def test_the_first_row_may_be_bad_where_it_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"caf\xe9\tx\none\ttwo\n")
    bad, good = read(path, Columns(first=0, second=1))
    assert isinstance(bad, Bad)
    assert good == Row(2, "one", "two", None)
    path = tmp_path / "rows.csv"
    path.write_bytes(b"caf\xe9,x\none;two\nthree;four\n")
    bad, *good_ones = read(path, Columns(first=0, second=1))
    assert isinstance(bad, Bad)
    assert good_ones == [Row(2, "one", "two", None), Row(3, "three", "four", None)]


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("x.tsv", b"caf\xe9\tx\none\ttwo\n", "x.tsv:1: not UTF-8 text, so no columns are known"),
        ("x.jsonl", b"{\n" * 200, "x.jsonl:1: not valid JSON, so no columns are known; mend"),
    ],
)
def test_columns_that_nothing_tells(
    file: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    with (
        tables.opened(tmp_path / file, tables.format_of(tmp_path / file, None)) as table,
        pytest.raises(DataError, match=complaint),
    ):
        assert table.names


def test_only_errors_of_the_file_are_told_as_its_own(tmp_path: Path) -> None:
    """Not those of what is done with its rows, such as writing answers into a pipe."""
    path = write(tmp_path, "tsv", CELLS)
    with pytest.raises(BrokenPipeError), tables.opened(path, "tsv"):
        raise BrokenPipeError

    class Torn(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(DataError, match=r"^x: cannot be read \(Input/output error\)"):
        next(tables._Lines(Torn(), "x"))
