"""The wheel works away from the checkout, configurations and sample included."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent


def test_the_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run([*build, str(CHECKOUT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)

    def run(code: str) -> str:
        return subprocess.run(
            [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {code}"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert run("import adaptertune; print(adaptertune.__file__)").strip().startswith(str(installed))
    command = "sys.argv = ['adaptertune', *{}]; from adaptertune.cli import main; main()"
    listed = json.loads(run(command.format(["tasks", "--json"])))
    checkout = sorted(path.stem for path in (CHECKOUT / "configs" / "tasks").glob("*.yaml"))
    assert [task["name"] for task in listed] == checkout
    counts = json.loads(run(command.format(["params", "--backbone", "bert-large", "--json"])))
    assert counts["ledgers"][1]["trained"] == 6_444_032
    assert run(
        "from adaptertune.report import page; "
        "print(all((page.TEMPLATES / name).is_file() for name in "
        "('report.html.j2', 'report.md.j2', 'report.css', 'report.js')))"
    ).split() == ["True"]
    rows = run(
        "from adaptertune import tasks; from adaptertune.data.sources import Source, load_splits; "
        "print(len(load_splits(tasks.load('rte'), Source('sample'), ['train'])[0]))"
    )
    assert int(rows) >= 700
