"""AdapterHub's own library at work, in the peers' environment (``scripts/peers.py``):

    python adapterhub_peer.py JOBS.json

Trains adapters for a few steps and saves them, or loads such as others wrote; each time the logits are
kept. Imports nothing of this project. ``JOBS.json``: backbone, tokens (a file), and lists ``make`` and
``load``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters import AutoAdapterModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

STEPS = 12


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    batch = load_file(jobs["tokens"])
    for job in jobs["make"]:
        torch.manual_seed(1)
        model = make(jobs["backbone"], job)
        train(model, batch, job["num_labels"])
        write(model, job, batch)
    for job in jobs["load"]:
        model = AutoAdapterModel.from_pretrained(jobs["backbone"], local_files_only=True)
        told: dict[str, Any] = {}
        name = model.load_adapter(
            job["folder"], use_safetensors=True, set_active=True, loading_info=told
        )
        assert not told["missing_keys"], told
        assert not told["unexpected_keys"], told
        write(model, job | {"name": name, "folder": job["again"]}, batch)


def make(backbone: str, job: dict[str, Any]) -> Any:
    """A model with adapters and a head of the flexible kind, or of transformers' own (``static``)."""
    if job["static"]:
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone, num_labels=job["num_labels"], local_files_only=True
        )
        adapters.init(model)
    else:
        model = AutoAdapterModel.from_pretrained(backbone, local_files_only=True)
        labels = job["labels"]
        model.add_classification_head(
            job["name"],
            num_labels=job["num_labels"],
            id2label=dict(enumerate(labels)) if labels else None,
            **job["head"],
        )
    kind = getattr(adapters, job["kind"])
    model.add_adapter(job["name"], config=kind(**job["config"]))
    model.train_adapter(job["name"])
    return model


def train(model: Any, batch: dict[str, torch.Tensor], num_labels: int) -> None:
    """Some large steps, so that every parameter is far from its first value."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=3e-2)
    number = len(batch["input_ids"])
    labels = torch.arange(number) % num_labels if num_labels > 1 else torch.linspace(0, 5, number)
    model.train()
    for _ in range(STEPS):
        optimiser.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimiser.step()
    model.eval()


def write(model: Any, job: dict[str, Any], batch: dict[str, torch.Tensor]) -> None:
    folder = Path(job["folder"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    model.save_adapter(str(folder), job["name"], use_safetensors=job["safetensors"])
    model.eval()
    with torch.no_grad():
        logits = model(**batch).logits
    save_file({"logits": logits}, folder / "logits")


if __name__ == "__main__":
    main()
