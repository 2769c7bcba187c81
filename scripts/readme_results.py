"""Put the study's tables and pictures into the README, between its two marks.

    python scripts/readme_results.py      # after scripts/study.sh

They are those of scripts/study/report.md, which `adaptertune report` made from the result files; a test
makes that report anew and holds both against it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
README = CHECKOUT / "README.md"
REPORT = CHECKOUT / "scripts" / "study" / "report.md"
RUNS = CHECKOUT / "scripts" / "study" / "runs"
BEGIN = "<!-- made by scripts/readme_results.py from scripts/study/report.md -->"
END = "<!-- to here -->"
# Of the report's pictures those that the README shows, by the end of their names, in this order.
PICTURES = (
    "-overview", "-table-1", "-cola-learning", "-spans", "-ablate-init", "-ablate-size",
    "-ablate-variants",
)  # fmt: skip
MOST_PICTURES = 11


def effort() -> str:
    """How much was trained, by the result files."""
    found = [json.loads(path.read_text())["cost"] for path in RUNS.glob("*/*/seed-*/result.json")]
    keys = "train_seconds", "evaluate_seconds", "trunk_seconds"
    hours = sum(cost[key] for cost in found for key in keys) / 3600
    return (
        f"So far {len(found)} trainings of together {hours:.1f} hours, two at a time, a core each."
    )


def block(report: str) -> str:
    """What the README shows of a report: each comparison's tables and words, then pictures."""
    pieces = [effort()]
    for section in re.split(r"^## ", report, flags=re.MULTILINE)[1:]:
        if section.startswith("Missing runs"):
            continue
        tables = section.partition("\n### Time and memory")[0]
        tables = re.sub(r"^### ", "#### ", tables, flags=re.MULTILINE)
        pieces.append("### " + re.sub(r"\n{3,}", "\n\n", tables).strip())
    found = re.findall(r"^(!\[.*?\]\()(charts/(.+?)\.png\))$", report, re.MULTILINE)
    chosen = [
        f"{head}scripts/study/{path}"
        for ending in PICTURES
        for head, path, name in found
        if ending in name
    ]
    return "\n\n".join([*pieces, *chosen[:MOST_PICTURES]])


def with_block(readme: str, content: str) -> str:
    """The README with this between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"the README lacks the lines {BEGIN} and {END}"
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main() -> None:
    README.write_text(with_block(README.read_text(), block(REPORT.read_text())))


if __name__ == "__main__":
    main()
