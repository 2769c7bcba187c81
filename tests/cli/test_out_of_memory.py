"""Where memory runs out outside of a training: one line, whatever the command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT


@pytest.mark.parametrize(
    "raised", ["torch.OutOfMemoryError('CUDA out of memory. Tried 2 GiB.\\nmore')", "MemoryError()"]
)
def test_it_is_one_line_with_a_remedy(raised: str) -> None:
    script = (
        "import sys, torch, adaptertune.cli as cli\n"
        "def raises(*_, **__):\n"
        f"    raise {raised}\n"
        "cli.app.command('busy')(lambda: raises())\n"
        "sys.argv = ['adaptertune', 'busy']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: out of memory (")
    assert "--device cpu" in line
    assert ("Tried 2 GiB." in line) is ("torch" in raised)
