"""Runs on the Hugging Face Hub: what trained as safetensors, its facts as JSON, and a model card.

A pulled repository is foreign: only four kinds of files are fetched, all are checked before anything is
written, and where they go follows from their checked content. Nothing in them is executed.
"""

from __future__ import annotations

import html
import io
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptertune import download
from adaptertune.errors import CheckpointError, HubError, StoreError
from adaptertune.files import write_atomically
from adaptertune.runs import load, store
from adaptertune.runs.load import Run
from adaptertune.runs.plan import method_label
from adaptertune.share.copy import copy_run

if TYPE_CHECKING:
    from adaptertune.runs.results import CellResult

FOLDER = (
    "run"  # of the repository: its root's config.json would be taken for a transformers model's
)
PATTERNS = [
    f"{FOLDER}/config.json",
    f"{FOLDER}/result.json",
    f"{FOLDER}/seed-*/result.json",
    f"{FOLDER}/seed-*/checkpoint.safetensors",
]
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def pack(run: Run, folder: Path, repository: str, *, license: str) -> None:
    """Write what :func:`push` uploads into an empty folder: the run and its model card.

    Raises:
        StoreError: the folder can't be written, or the run is not summarised.
    """
    copied = copy_run(run, folder / FOLDER)
    summary = copied.cell.read_result()
    if summary is None:
        raise StoreError(
            "not finished, so there are no figures for its card",
            where=run.cell.path,
            remedy="run the command that began it again",
        )
    text = card(copied, summary, repository, license=license)
    write_atomically(folder / "README.md", text.encode())


def push(run: Run, repository: str, *, private: bool, license: str) -> str:
    """Upload a run to a model repository, which is made if it is not there; returns its address.

    The token is that of ``hf auth login`` or ``HF_TOKEN``.

    Raises:
        HubError: the hub can't be reached or refuses.
        StoreError: as :func:`pack`.
    """
    from huggingface_hub import HfApi

    _check_name(repository)
    with tempfile.TemporaryDirectory() as folder:
        pack(run, Path(folder), repository, license=license)
        try:
            api = HfApi()
            address = str(api.create_repo(repository, private=private, exist_ok=True))
            api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"{run.task.name}, {method_label(run.method)}",
            )
        except Exception as error:  # network, token, name, quota: each has a class of its own
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise HubError(
                f"refused ({type(error).__name__}: {reason})",
                where=repository,
                remedy="check the network and the token (hf auth login)",
            ) from None
    return address


def pull(repository: str, output: Path, *, revision: str | None, offline: bool) -> Run:
    """Fetch a run that was pushed, check all of it, and put it into a store.

    Raises:
        HubError: it can't be fetched, or is no run.
        StoreError: a file is damaged or not what it should be, or the run is there already.
        CheckpointError: the checkpoint is damaged, or not that of the run.
    """
    from huggingface_hub.utils import logging

    from adaptertune.train.checkpoint import read_tensors

    _check_name(repository)
    # That a pattern fits nothing is said below, in our words.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    fetched = download.snapshot("model", repository, PATTERNS, revision=revision, offline=offline)
    folders = sorted((fetched / FOLDER).glob("seed-*/result.json"))
    if len(folders) != 1 or not re.fullmatch(r"seed-\d+", folders[0].parent.name):
        raise HubError(
            "is no run of adaptertune", where=f"model {repository}", remedy="pull what was pushed"
        )
    run = load.find(str(folders[0].parent), fetched)
    _, facts = read_tensors(run.folder.checkpoint)
    result = run.result
    labels = None if run.task.labels is None else list(run.task.labels)
    if (facts.get("base_sha256"), facts.get("labels")) != (result.backbone.sha256, labels):
        raise CheckpointError("not the checkpoint of this run", where=run.folder.checkpoint)
    if f"seed-{result.seed}" != run.folder.path.name:
        raise StoreError(f"the result is of seed {result.seed}", where=run.folder.path)
    digest = json.loads(run.cell.config.read_text(encoding="utf-8")).get("digest")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StoreError("the digest is none", where=run.cell.config)
    short = result.backbone.name.rstrip("/").rpartition("/")[2]
    label = f"{method_label(run.method)}-{short}"
    target = store.cell_folder(output, run.task.name, label, digest)
    if target.path.exists():
        raise StoreError(
            "is there already", where=target.path, remedy="choose another --output, or remove it"
        )
    return copy_run(run, target.path)


def card(run: Run, summary: CellResult, repository: str, *, license: str) -> str:
    """The model card: how to use it, scores with their protocol, what trained, how, and on what."""
    task, result = run.task, run.result
    ledger, training = result.ledger, result.config["training"]
    front: dict[str, Any] = {
        "library_name": "adaptertune",
        "pipeline_tag": "text-classification",
        "license": license,
        "tags": [
            "adapters",
            "parameter-efficient-fine-tuning",
            result.backbone.architecture,
            task.name,
        ],
    }
    # Without a commit it is a folder, whatever its name looks like.
    if result.backbone.commit and REPOSITORY.fullmatch(result.backbone.name):
        front["base_model"] = result.backbone.name
    rows = [
        f"| {split} | {metric} | {_percent(spread.best)} | {_percent(spread.mean)} "
        f"| {_percent(spread.deviation)} | {spread.n} |"
        for split, metrics in summary.scores.items()
        for metric, spread in metrics.items()
    ]
    partial = ""
    if result.data.partial:
        number = f"{result.data.num_train:,} of {result.data.num_train_complete:,}"
        partial = f" **Partial training set: {number} rows.**"
    if result.data.sample:
        partial = " **Generated sample text, not GLUE.**"
    low, high = task.range or (0.0, 0.0)
    trained = "trained with adaptertune"
    how = [
        f"Data: {_plain(result.data.description)}, {result.data.num_train:,} training rows. Precision "
        f"{result.precision}.",
        "",
        "```json",
        json.dumps(
            {"recipe": result.config["recipe"], "method": result.config["method"]}
            | {"training": training},
            indent=2,
        ),
        "```",
    ]
    if result.imported:
        trained = "trained with AdapterHub's library and evaluated with adaptertune"
        origin = f"{_plain(result.imported.source)} ({_plain(result.imported.library)})"
        how = [f"Not known. Imported from {origin}."]
    texts = "'a text' 'another text'" if task.is_pair else "'a text'"
    kinds = ", ".join(task.labels) if task.labels else f"a score from {low:g} to {high:g}"
    seeds = ", ".join(str(line.seed) for line in summary.seeds)
    lines = [
        f"# {_plain(task.title)}: {method_label(run.method)} on {_plain(result.backbone.name)}",
        "",
        f"Bottleneck adapters (Houlsby et al., ICML 2019) {trained}. This repository holds what "
        "trained; the base model is fetched by its name.",
        "",
        "```sh",
        f"adaptertune pull {repository}",
        f"adaptertune predict {summary.digest[:12]} {texts}",
        "```",
        "",
        f"It answers: {_plain(kinds)}. Base model: {_plain(result.backbone.name)}, commit "
        f"{result.backbone.commit or 'not known'}, SHA-256 of its weights `{result.backbone.sha256}`.",
        "",
        "## Scores, in per cent",
        "",
        "| split | metric | best | mean | ± deviation | seeds |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"{_plain(summary.protocol)} Seeds {seeds}; this is seed {result.seed}.{partial}",
        "",
        "## Parameters",
        "",
        f"{ledger['trained']:,} trained without the head, {_percent(ledger['share_of_encoder_layers'])} "
        f"% of the encoder layers, {_percent(ledger['share_of_all_parameters'])} % of all parameters; "
        f"{ledger['stored']:,} stored with it.",
        "",
        "## Training",
        "",
        *how,
        "",
    ]  # fmt: skip
    return f"---\n{_front_matter(front)}---\n" + "\n".join(lines)


def _front_matter(value: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, stream)
    return stream.getvalue()


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no links, no line breaks."""
    escaped = html.escape(" ".join(text.split()))
    return re.sub(r"([\\`*\[\]|])", r"\\\1", escaped)


def _check_name(repository: str) -> None:
    if not REPOSITORY.fullmatch(repository):
        raise HubError(f"'{repository}' is no repository", remedy="give OWNER/NAME")
