"""The terminal's tables: whole at any width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from adaptertune.report import comparison, evidence
from adaptertune.report.schema import Comparison, Missing
from adaptertune.report.tables import comparison as terminal
from tests.report.records import add, one_metric


@pytest.fixture
def shown(tmp_path: Path) -> Comparison:
    scores = one_metric(0.61, 0.625, 0.64)
    for name in ("rte", "qnli", "wnli", "sst2"):
        add(tmp_path, name, scores, options={"method.name": "full"})
        add(tmp_path, name, one_metric(0.601, 0.605, 0.606), collapsed=[2])
    add(tmp_path, "rte", one_metric(0.5), options={"method.name": "layernorm"})
    (group,) = comparison.compare(evidence.read(tmp_path)[0])
    return group.comparison


def printed(width: int, shown: Comparison) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(terminal.table_1(shown, console))
    console.print(terminal.differences(shown, console))
    console.print(terminal.spent(shown, console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_no_number_is_cut_at_any_width(shown: Comparison, width: int) -> None:
    text = printed(width, shown)
    assert "…" not in text
    for number in ("62.5", "± 1.5", "60.4†", "4.00x", "1.23x", "100.00", "5.68", "94.9"):
        assert number in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_task_is_a_column_where_there_is_room_and_a_row_where_not(shown: Comparison) -> None:
    wide, narrow = printed(200, shown), printed(80, shown)
    assert any({"SST-2", "QNLI", "RTE", "WNLI"} <= set(each.split()) for each in wide.splitlines())
    assert not any({"SST-2", "QNLI"} <= set(each.split()) for each in narrow.splitlines()[:20])
    assert any(each.split()[:2] == ["SST-2", "accuracy"] for each in narrow.splitlines())


def test_what_fits_neither_way_comes_in_pieces(tmp_path: Path) -> None:
    for size in (8, 64, 256):
        for name in ("rte", "qnli", "wnli", "sst2", "cola", "mrpc"):
            metric = {"cola": "matthews", "mrpc": "f1"}.get(name, "accuracy")
            scores = {seed: {"validation": {metric: 0.6, "accuracy": 0.6}} for seed in range(3)}
            add(tmp_path, name, scores, options={"method.size": size})
            for other in ("full", "layernorm", "bitfit", "ia3", "lora"):
                if size == 8:
                    add(tmp_path, name, scores, options={"method.name": other})
    (group,) = comparison.compare(evidence.read(tmp_path)[0])
    text = printed(80, group.comparison)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    heads = [line.split() for line in text.splitlines()]
    for name in ("CoLA", "SST-2", "MRPC", "QNLI", "RTE", "WNLI"):
        assert any(name in words and "MNLI-m" not in words for words in heads)
    # Each piece names its methods again.
    assert sum(line.startswith(" LoRA 8") for line in text.splitlines()) >= 6


def test_a_command_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = "adaptertune train " + "--set a.b=c " * 20
    console = Console(width=80)
    console.print(terminal.holes([Missing(what="x", command=command)]), soft_wrap=True)
    assert command.strip() in capsys.readouterr().out


def test_text_from_outside_is_no_markup() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(terminal.holes([Missing(what="[red]x[/]", command="run [bold]me[/]")]))
    assert isinstance(console.file, io.StringIO)
    assert "[red]x[/]" in console.file.getvalue()
    assert "[bold]me[/]" in console.file.getvalue()


def test_both_denominators_stand_where_there_is_room(shown: Comparison) -> None:
    # 605,184 of 10,646,784 and of 22,713,216.
    texts = {width: printed(width, shown) for width in (200, 80)}
    for text in texts.values():
        assert "5.68" in text
        assert "2.66" in text  # and where a task is a row, so are they
    assert "% encoder" in texts[200]
    assert "% all" in texts[200]
    both = max(map(len, texts[200].splitlines()[2:8]))
    narrow = printed(both - 4, shown)
    assert "5.68" in narrow
    assert "2.66" not in narrow


def test_the_papers_parameters_count_its_nine_tasks(shown: Comparison) -> None:
    text = printed(200, shown)
    of_paper = text[text.index("Table 1, BERT-large") :]
    assert "4 tasks" in text[: text.index("Table 1, BERT-large")]
    assert "9 tasks" in of_paper
    for number in ("9.0x", "1.3x", "1.2x", "3.6", "2.1"):
        assert number in of_paper
