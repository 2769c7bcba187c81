"""Copy what a store's figures come from, small and without this machine's names, to be kept in git.

    python scripts/keep_results.py STORE FOLDER

Configurations and results go along, not models, logits or locks. Folders become what a reader would
type:
the data ``path/to/glue``, the store what FOLDER is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

KEPT = {"config.json", "result.json", "spans.json", "prune.json", "failure.json", "epochs.jsonl"}


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A JSON value with the beginnings of its texts replaced."""
    if isinstance(value, dict):
        return {key: "" if key == "host" else renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, names) for one in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
    return value


def folders(config: Any) -> dict[str, str]:
    """Of one run: the data's and the store's, as its configuration has them."""
    data = config["data"].get("folder")
    return {data: "path/to/glue"} if data else {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    store, target = arguments.store, arguments.folder
    for config in sorted(store.glob("*/*/config.json")):
        if not (config.parent / "result.json").exists():
            continue  # nothing is finished
        settings = json.loads(config.read_text())["config"]
        names = {settings["output"]: str(target)} | folders(settings)
        for path in sorted(config.parent.rglob("*")):
            if path.name not in KEPT:
                continue
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            indent = None if path.suffix == ".jsonl" else 1
            texts = [json.dumps(renamed(json.loads(line), names), indent=indent) for line in lines]
            copy = target / path.relative_to(store)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
