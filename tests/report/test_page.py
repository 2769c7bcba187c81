"""The report's files: what they hold, that text stays text, and that the page works in a browser."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from adaptertune import __version__
from adaptertune.report import comparison, evidence, holes, leftovers, page
from adaptertune.report.schema import Entry
from adaptertune.report.tables import comparison as terminal
from adaptertune.runs.results import Failure
from adaptertune.runs.store import write_result
from tests import chromium
from tests.conftest import Finished
from tests.report.records import add, change, compared, digest, one_metric, two_metrics
from tests.report.test_ablation import point
from tests.report.test_ablation import result as ablation_result

EVIL = "<script>alert(1)</script>\"'`|&*[x](javascript:alert(1))"


def fill(root: Path) -> None:
    """Real data on RTE and MRPC, of which one has no full fine-tuning, and the sample."""
    for size, rate in itertools.product((8, 64), (3e-4, 1e-3)):
        scores = one_metric(0.60 + size / 1000, 0.62 + rate, 0.65)
        options = {"method.size": size, "training.learning_rate": rate, "training.epochs": 3}
        add(root, "rte", scores, options=options, collapsed=[0] if size == 8 else ())
    add(root, "rte", one_metric(0.66, 0.64, 0.65, None), options={"method.name": "full"})
    for std in (1e-1, 1.0):
        add(root, "rte", one_metric(0.5, 0.5), options={"method.init_std": std})
    add(root, "mrpc", two_metrics("f1", "accuracy", (0.8, 0.7), (0.9, 0.8)), partial=True)
    scores = two_metrics("pearson", "spearman", (0.5, 0.4))
    folder = add(root, "stsb", scores, sample=True, note=EVIL, asked=[0, 1])
    failure = Failure(
        seed=1, digest="d", error=EVIL, traceback="", attempts=1, host="here",
        failed_at="2026-11-23T04:07:08+00:00",
    )  # fmt: skip
    write_result(folder.seed(1).failure, failure)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reported") / "runs"
    fill(root)
    return root


@pytest.fixture(scope="module")
def made(store: Path) -> Path:
    cells, unfinished = evidence.read(store)
    groups = comparison.compare(cells)
    missing = holes.missing(groups, unfinished)
    page.write(groups, missing, store, store.parent / "report", __version__)
    return store.parent / "report"


def test_the_terminal_and_the_folder_hold_everything(
    store: Path, made: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    done = cli("report", "--output", store, "--to", tmp_path / "report")
    assert done.code == 0, done.err
    for text in ("Real data · minilm", "Sample data, not GLUE", "adapters 64", "not comparable"):
        assert text in done.out
    assert "the command that fills it" in done.out
    assert (tmp_path / "report" / "report.html").as_uri() in done.out
    # The same store gives the same files.
    contents = [
        {path.relative_to(to): path.read_bytes() for path in sorted(to.rglob("*.*"))}
        for to in (tmp_path / "report", made)
    ]
    assert contents[0] == contents[1]
    charts = tmp_path / "report" / "charts"
    names = {path.stem for path in charts.glob("*.png")}
    assert names == {path.stem for path in charts.glob("*.svg")}
    kinds = {name.removeprefix("data-1-rte-") for name in names if "-rte-" in name}
    assert "data-1-table-1" in names
    assert kinds == {"parameters", "seeds", "learning", "time", "memory"}
    for path in charts.glob("*.png"):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 600
        assert height > 100
    for path in charts.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_charts_of_an_earlier_report_go_and_ones_own_files_stay(
    store: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    assert cli("report", "--output", store).code == 0
    own = tmp_path / "report" / "charts" / "own.png"
    own.write_text("mine")
    before = {path.name for path in own.parent.iterdir()}
    add(tmp_path / "other", "rte", one_metric(0.6), sample=True)
    assert cli("report", "--output", tmp_path / "other").code == 0
    after = {path.name for path in own.parent.iterdir()}
    assert before - after
    assert all(name.startswith(("sample-1-", "own.png", leftovers.LIST)) for name in after)
    assert own.read_text() == "mine"


def test_json_says_the_same_and_fits_its_schema(
    store: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    from adaptertune.report.schema import Report

    done = cli("report", "--output", store, "--to", tmp_path / "report", "--json")
    found = Report.model_validate_json(done.out)
    real, sample = found.comparisons
    assert (real.sample, sample.sample) == (False, True)
    full = next(row for row in real.rows if row.method == "full")
    rte = next(entry for entry in full.entries if isinstance(entry, Entry))
    assert rte.mean == pytest.approx(0.65)
    assert rte.diverged == [3]
    assert found.files[-1].endswith("report.html")
    assert all(Path(path).is_file() for path in found.files)
    schema = json.loads(cli("schema", "report").out)
    assert set(schema["properties"]) == set(json.loads(done.out))


def test_nothing_to_report_is_an_error_with_a_remedy(
    tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    done = cli("report")
    assert done.code == 2
    assert done.err.startswith("error: runs: no finished run; begin with: adaptertune train")
    assert not (tmp_path / "report").exists()


def test_a_folder_that_can_not_be_written_is_an_error(
    store: Path, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    (tmp_path / "report").write_text("in the way")
    done = cli("report", "--output", store)
    assert done.code == 2
    assert "cannot be written (Not a directory); free some space or choose another pl" in done.err


class Reader(HTMLParser):
    """Ids, addresses, and tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.without_alt = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.links += [str(given[name]) for name in ("href", "src") if given.get(name)]
        self.without_alt += tag == "img" and not given.get("alt")


def test_the_page_is_one_file_whose_numbers_lead_to_their_runs(made: Path) -> None:
    text = (made / "report.html").read_text()
    reader = Reader()
    reader.feed(text)
    assert len(reader.ids) == len(set(reader.ids))
    for link in reader.links:
        if link.startswith("#"):
            assert link[1:] in reader.ids
        else:
            assert link.startswith("data:")
    runs = [name for name in reader.ids if name.startswith("run-")]
    assert len(runs) == 9  # every cell, and each is linked to
    assert {f"#{name}" for name in runs} <= set(reader.links)
    for fact in ("sha256:rows-rte", "sha-minilm", "torch 2.13.0", "training.warmup"):
        assert fact in text
    assert "lr 1e-3 ·" in text
    assert "<dt>method.layers</dt><dd>all" in text
    assert "<dt>init_from</dt>" not in text  # no run started from another
    assert not reader.without_alt


def test_text_from_outside_stays_text(made: Path) -> None:
    reader = Reader()
    page_text = (made / "report.html").read_text()
    reader.feed(page_text)
    # Vega, ours, the themes, and a specification for each figure.
    assert reader.tags.count("script") == 3 + reader.tags.count("figure")
    assert "<script>alert" not in page_text
    assert page_text.count("&lt;script&gt;alert(1)") == 3  # two places tell the data, one the error
    markdown = (made / "report.md").read_text()
    assert page.markdown(EVIL) in markdown
    assert "<script>" not in markdown


def test_markdown_escapes_what_could_be_markup() -> None:
    assert page.markdown("a|b <i> [x](y) `c`\n# d") == r"a\|b \<i\> \[x\](y) \`c\` \# d"


def test_the_markdown_has_whole_tables_and_shows_its_pictures(made: Path) -> None:
    text = (made / "report.md").read_text()
    for picture in re.findall(r"\]\((charts/[^)]+)\)", text):
        assert (made / picture).is_file()
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = table.splitlines()
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1, table
        assert re.fullmatch(r"[|:-]+", lines[1])
    assert "| adapters 64 |" in text
    # Two tasks of real data together, and no such column for the one of the sample.
    times = [part.partition("\n### ")[0] for part in text.split("### Time and memory of")[1:]]
    assert [re.findall(r"^\| (\w+) \|", table, re.MULTILINE) for table in times] == [
        ["mrpc", "rte", "all"], ["stsb"],
    ]  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[chromium.Page]:
    if chromium.find() is None:
        missing = "no Chromium; on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with chromium.browser(tmp_path / "profile") as opened:
        yield opened


def drawn(browser: chromium.Page) -> None:
    """Bring every figure near until all are drawn: a busy browser misses where it was for a moment."""
    done = (
        "[...document.querySelectorAll('figure')].every((each) => each.querySelector('.chart svg'))"
    )
    end = time.monotonic() + 2 * chromium.SECONDS
    while not browser.says(done):
        assert time.monotonic() < end, "not every figure was drawn"
        for position in range(0, browser.says("document.documentElement.scrollHeight"), 600):
            browser.says(f"scrollTo(0, {position})")
            time.sleep(0.02)


def test_the_page_works_from_disk_asks_for_nothing_and_complains_of_nothing(
    made: Path, browser: chromium.Page
) -> None:
    browser.shape(1280, 900)
    browser.open(made / "report.html")
    drawn(browser)
    figures = len(list((made / "charts").glob("*.png")))
    assert browser.says("document.querySelectorAll('.chart svg.marks').length") == figures
    marks = browser.says("document.querySelector('[id$=rte-parameters] .chart svg').textContent")
    assert "trained parameters" in marks
    # A table: every row of the records' methods, and a figure that was given.
    first = browser.says("document.querySelector('table.scores').innerText")
    assert "full fine-tuning" in first
    assert "65.0" in first
    assert browser.requests == [(made / "report.html").as_uri()]
    assert browser.complaints == []


def test_a_click_on_a_head_sorts_and_holes_stay_last(made: Path, browser: chromium.Page) -> None:
    browser.shape(1280, 900)
    browser.open(made / "report.html")
    rows = "[...document.querySelector('.scores tbody').rows].map((row) => row.cells[{}].innerText)"
    seen = {}
    for column in (1, 2):  # MRPC, which full fine-tuning lacks, and RTE
        head = f"document.querySelectorAll('table.scores thead button')[{column}]"
        orders = []
        for _ in range(2):
            browser.says(f"{head}.click()")
            texts = [text.split()[0].rstrip("†") for text in browser.says(rows.format(column))]
            numbers = [float(text) for text in texts if text != "missing"]
            assert texts[len(numbers) :] == ["missing"] * (len(texts) - len(numbers))
            orders.append(numbers)
        assert orders[0] == sorted(orders[1], reverse=True)
        assert orders[1] == sorted(orders[1])
        assert browser.says(f"{head}.closest('th').ariaSort") == "ascending"
        seen[column] = len(orders[0])
    assert seen == {1: 2, 2: 3}


def test_times_sort_as_such_and_no_score_is_a_hole(made: Path, browser: chromium.Page) -> None:
    browser.shape(1280, 900)
    browser.open(made / "report.html")
    table = "[...document.querySelectorAll('details.run table')].find((t) => t.tBodies[0].rows[2])"
    heads = f"[...{table}.tHead.rows[0].cells]"
    head = browser.says(f"{heads}.findIndex((one) => one.textContent.includes('finished'))")
    cells = f"[...{table}.tBodies[0].rows].map((row) => row.cells[{head}])"
    browser.says("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    given = ["2026-11-23T09", "no score", "2026-11-24T01", "2026-11-23T10"]
    number = browser.says(f"{cells}.length")
    texts = given[:number]
    browser.says(f"{cells}.forEach((cell, at) => {{ cell.textContent = {texts}[at]; }})")
    browser.says(f"{table}.tHead.rows[0].cells[{head}].querySelector('button').click()")
    times = sorted((text for text in texts if text != "no score"), reverse=True)
    assert browser.says(f"{cells}.map((cell) => cell.textContent)") == [*times, "no score"]


def test_a_number_opens_its_run(made: Path, browser: chromium.Page) -> None:
    browser.shape(1280, 900)
    browser.open(made / "report.html")
    browser.says("document.querySelector('table.scores td a[href^=\"#run-\"]').click()")
    browser.wait("document.querySelectorAll('details.run[open]').length === 1")
    opened = browser.says("document.querySelector('details.run[open]').innerText")
    assert "fingerprint" in opened
    assert "training.warmup" in opened


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_light_and_dark(
    made: Path, browser: chromium.Page, *, dark: bool
) -> None:
    browser.shape(390, 844, dark=dark)
    browser.open(made / "report.html")
    drawn(browser)
    assert browser.says("document.documentElement.scrollWidth") == 390
    widths = """[...document.querySelectorAll('figure:not([id$="-table-1"]) .chart svg')]
        .map((one) => one.getBoundingClientRect().width)"""
    assert max(browser.says(widths)) < 390
    # A legend's last column ends within the picture.
    beyond = """[...document.querySelectorAll('.chart svg')].flatMap((svg) =>
        [...svg.querySelectorAll('.role-legend text')].filter((one) =>
            one.getBoundingClientRect().right > svg.getBoundingClientRect().right + 1)
        .map((one) => one.textContent))"""
    assert browser.says(beyond) == []
    ink, paper = (
        sum(map(int, re.findall(r"\d+", browser.says(f"getComputedStyle(document.body).{name}"))))
        for name in ("color", "backgroundColor")
    )
    assert (ink > paper) == dark
    label = "document.querySelector('.chart svg .role-axis-label text').getAttribute('fill')"
    assert (int(browser.says(label)[1:3], 16) > 128) == dark
    assert browser.complaints == []


def test_a_change_of_scheme_draws_the_charts_anew(made: Path, browser: chromium.Page) -> None:
    browser.shape(1280, 900)
    browser.open(made / "report.html")
    drawn(browser)
    label = "document.querySelector('.chart svg .role-axis-label text').getAttribute('fill')"
    light = browser.says(label)
    browser.shape(1280, 900, dark=True)
    browser.wait(f"{label} !== '{light}'")


def test_print_shows_the_drawings_on_white(made: Path, browser: chromium.Page) -> None:
    browser.shape(1280, 900, dark=True)
    browser.open(made / "report.html")
    drawn(browser)
    browser.shape(800, 1100, dark=True, medium="print")
    seen = "getComputedStyle(document.querySelector('figure {}')).display"
    assert browser.says(seen.format("img")) == "block"
    assert browser.says(seen.format(".chart")) == "none"
    assert browser.says("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_where_all_ran_for_ablations_there_is_no_empty_table(tmp_path: Path) -> None:
    digests = [digest(add(tmp_path / "runs", "rte", one_metric(0.5), options={"method.init_std": std}))
               for std in (0.2, 0.3)]  # fmt: skip
    ablation = ablation_result(point(0.2, (0.5,), digest=digests[0]))
    ablation = ablation.model_copy(update={"cells": digests})
    groups = comparison.compare(evidence.read(tmp_path / "runs")[0], [ablation])
    assert not groups[0].comparison.rows
    page.write(groups, [], tmp_path / "runs", tmp_path / "report", __version__)
    text = (tmp_path / "report" / "report.html").read_text()
    for absent in ("Scores by method and task", "Time and memory", "the table above", "Bold:"):
        assert absent not in text
    assert "All runs" in text


def test_the_best_of_a_run_is_the_seed_that_the_selecting_split_chose(tmp_path: Path) -> None:
    scores = {
        seed: {"held-out": {"accuracy": chosen}, "validation": {"accuracy": shown}}
        for seed, (chosen, shown) in enumerate(((0.9, 0.6), (0.8, 0.7)))
    }
    add(tmp_path, "rte", scores, options={"protocol": "held-out"})
    (group,) = compared(tmp_path)
    (run,) = page.overview(group)
    assert run.best == 0.6
    (entry,) = group.comparison.rows[0].entries
    assert isinstance(entry, Entry)
    assert entry.best == 0.6


def test_versions_that_differ_between_seeds_are_all_told(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.6, 0.7))
    change(folder, 1, versions={"adaptertune": "0.1.0", "torch": "2.14.0"})
    (cell,) = compared(tmp_path)[0].cells
    assert page.versions(cell) == "adaptertune 0.1.0, torch 2.13.0 and 2.14.0"
    page.write(compared(tmp_path), [], tmp_path, tmp_path / "page", "1")
    assert "torch 2.13.0 and 2.14.0" in (tmp_path / "page" / "report.html").read_text()


def test_devices_that_differ_between_seeds_are_all_told(tmp_path: Path) -> None:
    folder = add(tmp_path, "rte", one_metric(0.6, 0.7, 0.8))
    (cell,) = compared(tmp_path)[0].cells
    assert page.devices(cell) == "cpu"
    change(folder, 1, device="cuda")
    (cell,) = compared(tmp_path)[0].cells
    assert page.devices(cell) == "cpu (seeds 0, 2), cuda (seeds 1)"


def test_the_numbers_of_tasks_are_told_where_the_papers_are_others(made: Path) -> None:
    texts = [(made / name).read_text() for name in ("report.html", "report.md")]
    assert "9.0x<small>9 tasks</small>" in texts[0]
    assert "| 9 tasks params | 9.0x |" in texts[1]


def test_the_p_of_five_pairs_is_not_below_its_least(tmp_path: Path) -> None:
    add(tmp_path, "rte", one_metric(0.6, 0.61, 0.62, 0.63, 0.64))
    add(tmp_path, "rte", one_metric(0.7, 0.72, 0.74, 0.76, 0.78), options={"method.name": "full"})
    groups = compared(tmp_path)
    page.write(groups, [], tmp_path, tmp_path / "page", "1")
    console = Console(file=io.StringIO(), width=110)
    terminal.comparisons(groups, console)
    assert isinstance(console.file, io.StringIO)
    assert "p 0.0625, n 5" in console.file.getvalue()
    assert "p 0.0625, 5 pairs" in (tmp_path / "page" / "report.html").read_text()
    assert "5 pairs, p 0.0625" in (tmp_path / "page" / "report.md").read_text()
