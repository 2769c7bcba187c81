"""Put the study's results into the project's README, between its two marks.

    python scripts/readme_results.py      # after scripts/study.sh

Tables and pictures are those of scripts/study/report.md, which `adaptertune report` made from the result
files; what it comes to, and what came of each claim (its first paragraph), is scripts/study/README.md's.
A test makes the report anew and holds all three together.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
README = CHECKOUT / "README.md"
STUDY = CHECKOUT / "scripts" / "study"
BEGIN = "<!-- made by scripts/readme_results.py from scripts/study -->"
END = "<!-- to here -->"
# Of its pictures those that the README shows, by their names, in this order.
PICTURES = (r"-table-1$", r"-overview$", r"-ablate-depth-", r"-spans-.*-accuracy$")


def effort() -> str:
    """How much was trained, by the result files."""
    found = [
        json.loads(path.read_text())
        for store in ("runs", "seeds", "cuda")
        for path in (STUDY / store).glob("*/*/seed-*/result.json")
    ]
    on_cpu = [one["cost"] for one in found if one["device"] == "cpu"]
    keys = "train_seconds", "evaluate_seconds", "trunk_seconds"
    hours = sum(cost[key] for cost in on_cpu for key in keys) / 3600
    return (
        f"{len(found):,} trainings: {len(on_cpu):,} on two CPU cores, {hours:.1f} hours in sum, two "
        f"at a time, and {len(found) - len(on_cpu)} on one GPU, a lent H200."
    )


def results(comparison: str) -> str:
    """Its Table 1 with its words, of which notes and published rows unfold."""
    shown, _, notes = comparison.partition("\n### ")[0].strip().partition("\n\n- ")
    assert notes, "the report's Table 1 has no notes"
    summary = "<summary>Notes, and the paper's own figures</summary>"
    return f"### {shown}\n\n<details>{summary}\n\n- {notes}\n\n</details>"


def pictures(comparison: str) -> str:
    """Those of it that are to be shown, by their titles: their figures stand in the report."""
    found = re.findall(r"^!\[(.+?)\. .*\]\((charts/(.+?)\.png)\)$", comparison, re.MULTILINE)
    return "\n\n".join(
        f"![{title}](scripts/study/{path})"
        for pattern in PICTURES
        for title, path, name in found
        if re.search(pattern, name)
    )


def section(study: str, name: str) -> str:
    """What stands under one of the study's headings."""
    _, _, found = study.partition(f"\n## {name}\n")
    return found.partition("\n## ")[0].strip()


def claims(study: str) -> str:
    """The paper's claims and what came of each, as a table."""
    lines = ["| Claim (Houlsby et al. 2019) | Here, on validation |", "|---|---|"]
    for claim in f"\n{section(study, 'Claims')}".split("\n### ")[1:]:
        name, _, text = claim.partition("\n\n")
        first = text.partition("\n\n")[0]
        lines.append(f"| {name} | {' '.join(first.split())} |")
    return "\n".join(lines)


def block() -> str:
    """What the README shows of the study."""
    report, study = ((STUDY / name).read_text() for name in ("report.md", "README.md"))
    first = re.split(r"^## ", report, flags=re.MULTILINE)[1]  # that of the paper's protocol
    short = section(study, "In short")
    return "\n\n".join([short, effort(), claims(study), results(first), pictures(first)])


def with_block(readme: str, content: str) -> str:
    """The README with this between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"the README lacks the lines {BEGIN} and {END}"
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main() -> None:
    README.write_text(with_block(README.read_text(), block()))


if __name__ == "__main__":
    main()
