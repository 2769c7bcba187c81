"""The heatmap: every number where it belongs, in the terminal and in the chart."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from adaptertune.report import heatmap
from adaptertune.report.tables import spans
from adaptertune.runs import analyses, results

VALUES = {(0, 0): 0.57, (0, 1): 0.3, (0, 2): 0.0, (1, 1): 0.6, (1, 2): 0.45, (2, 2): None}


def result(**changes: Any) -> analyses.SpansResult:
    def change(value: float | None) -> analyses.Change:
        mean = None if value is None else value / 0.6 - 1
        return analyses.Change(mean=mean, deviation=None if value is None else 0.012)

    facts: dict[str, Any] = {
        "source": "folder", "description": "", "fingerprint": "", "num_train": 5,
        "num_train_complete": 5, "partial": False, "sample": False,
    }  # fmt: skip
    made = analyses.SpansResult(
        task="cola", digest="0", folder="runs/x", data=results.DataFacts(**facts),
        backbone=results.BackboneFacts(name="b", sha256="0", commit=None), precision="fp32",
        device="cpu", split="validation", num_examples=1043, headline="matthews", seeds=[0, 1],
        num_layers=3, layers=[0, 1, 2], majority_share=0.691,
        intact={"matthews": [0.6, 0.6], "accuracy": [0.8, 0.8]},
        cells=[
            analyses.SpanCell(
                first=first, last=last,
                values={"matthews": [value, value], "accuracy": [0.7, 0.7]},
                change={"matthews": change(value), "accuracy": change(0.525)},
            )
            for (first, last), value in VALUES.items()
        ],
        layer_evaluations=13, layer_evaluations_apart=18, seconds=61.0,
    )  # fmt: skip
    return made.model_copy(update=changes)


def shown(made: analyses.SpansResult) -> str:
    stream = io.StringIO()
    Console(file=stream, width=110).print(spans.spans(made))
    return stream.getvalue()


def test_terminal_has_colours_and_numbers() -> None:
    text = shown(result())
    rows = {
        line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r" +\d ", line)
    }
    assert rows["0"] == ["-12.5"] * 3, "the last heatmap is accuracy's"
    first = text.split("Relative change of accuracy")[0].splitlines()
    numbers = [line.split() for line in first if re.match(r" +\d ", line)]
    assert numbers == [["0", "-5.0", "-50.0", "-100.0"], ["1", "+0.0", "-25.0"], ["2", "–"]]
    assert "±1.2" in first[5]
    assert "69.1" in text
    assert "13 layers computed for each of 1,043 examples instead of 18; took 1 min" in text
    stream = io.StringIO()
    Console(file=stream, width=110, force_terminal=True, color_system="truecolor").print(
        spans.spans(result())
    )
    assert "48;2;178;24;43m" in stream.getvalue(), "the largest loss has the darkest red"
    assert "48;2;247;247;247m" in stream.getvalue(), "no change has no colour"


def test_accuracy_alone_is_shown_once() -> None:
    assert heatmap.metrics(result()) == ["matthews", "accuracy"]
    assert heatmap.metrics(result(headline="accuracy")) == ["accuracy"]


def test_chart_holds_the_same_numbers() -> None:
    spec = heatmap.chart(result(), "matthews")
    assert "config" not in spec
    assert "title" not in spec
    (rows,) = spec["datasets"].values()
    found = {(row["first"], row["last"]): row["change"] for row in rows}
    for span, value in VALUES.items():
        expected = None if value is None else pytest.approx(100 * (value / 0.6 - 1))
        assert found[span] == expected
    assert colours(spec) == [pytest.approx(-100), 0]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn(spec))
    assert sum(text.endswith("100.0") for text in texts) == 1
    assert not any("null" in text for text in texts)


def test_chart_has_blue_where_something_gains() -> None:
    made = result()
    cells = [
        one.model_copy(update={"change": {"matthews": analyses.Change(mean=0.05, deviation=None)}})
        if one.first == one.last == 1
        else one
        for one in made.cells
    ]
    spec = heatmap.chart(made.model_copy(update={"cells": cells}), "matthews")
    assert colours(spec) == [pytest.approx(-100), 0, pytest.approx(100)]


def colours(spec: dict[str, Any]) -> list[float]:
    """The changes that the scale of colours is tied to."""
    domain: list[float] = spec["layer"][0]["encoding"]["color"]["scale"]["domain"]
    return domain


def drawn(spec: dict[str, Any]) -> str:
    vl_convert = pytest.importorskip("vl_convert")
    return str(vl_convert.vegalite_to_svg(spec))
