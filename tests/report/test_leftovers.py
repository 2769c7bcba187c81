"""Charts of an earlier report."""

from __future__ import annotations

import json
from pathlib import Path

from adaptertune.report import leftovers


def fill(folder: Path, **contents: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.svg").write_text(content)
    return [folder / f"{name}.svg" for name in contents]


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.svg")}


def test_what_an_earlier_report_wrote_goes_and_what_is_somebodys_stays(tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    fill(folder, own="mine")
    assert leftovers.renew(folder, fill(folder, a="1", b="2", c="3")) == []
    (folder / "b.svg").write_text("edited by hand")
    assert leftovers.renew(folder, fill(folder, a="new")) == [folder / "c.svg"]
    assert names(folder) == {"own", "a", "b"}
    assert (folder / "a.svg").read_text() == "new"
    assert (folder / "b.svg").read_text() == "edited by hand"
    # The third report knows only the second's.
    assert leftovers.renew(folder, []) == [folder / "a.svg"]
    assert names(folder) == {"own", "b"}


def test_a_list_never_reaches_out_of_its_folder_and_a_damaged_one_deletes_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "charts"
    (outside,) = fill(tmp_path, outside="1")
    leftovers.renew(folder, fill(folder, a="1"))
    listed = json.loads((folder / leftovers.LIST).read_text())
    (folder / leftovers.LIST).write_text(json.dumps({"../outside.svg": listed["a.svg"]}))
    assert leftovers.renew(folder, []) == []
    assert outside.is_file()
    leftovers.renew(folder, fill(folder, a="1"))
    (folder / leftovers.LIST).write_text("{")
    assert leftovers.renew(folder, []) == []
    assert names(folder) == {"a"}
