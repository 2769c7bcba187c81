"""Runs on the Hugging Face Hub: what trained as safetensors, its facts as JSON, and a model card.

A pulled repository is foreign: only four files are fetched, none larger than such a file may be; all are
checked before anything is written, and where they go follows from their checked content. Nothing in them
is executed.
"""

from __future__ import annotations

import html
import io
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel

from adaptertune import catalogue, download
from adaptertune.config import Full, RunConfig
from adaptertune.errors import AdapterTuneError, CheckpointError, HubError, StoreError, first_line
from adaptertune.files import write_atomically
from adaptertune.model.ledger import Part
from adaptertune.runs import load, store
from adaptertune.runs.load import Run
from adaptertune.runs.plan import method_label
from adaptertune.runs.results import BackboneFacts
from adaptertune.share.copy import copy_run
from adaptertune.share.foreign import check_texts
from adaptertune.tasks import MetricName, Task
from adaptertune.yamlfile import Strict, like, parse

if TYPE_CHECKING:
    from adaptertune.runs.results import CellResult, SeedResult

# Of the repository: its root's config.json would be taken for a transformers model's.
FOLDER = "run"
# Bytes that a foreign file may have: a hundred times what there is; all of the largest encoder, in fp32.
LARGEST_RESULT, LARGEST_CHECKPOINT = 2_000_000, 8_000_000_000
LONGEST_NAME = 255  # of a folder, as file systems have it
# What a card says that trained, by the method's name.
TRAINED = {
    "adapter": "Bottleneck adapters (Houlsby et al., ICML 2019)",
    "full": "The whole base model",
    "top_layers": "The base model's top layers",
    "layernorm": "The base model's LayerNorms",
    "bitfit": "The base model's biases (BitFit)",
    "lora": "LoRA's matrices",
    "ia3": "(IA)³'s vectors",
}
MEND = "ask its owner to push the run again, or give another --revision"


class _Ledger(Strict):
    method: str
    parts: tuple[Part, ...]
    trained: int
    head: int
    stored: int
    stored_bytes: int
    total: int
    encoder_layers: int
    all_parameters: int
    share_of_encoder_layers: float
    share_of_all_parameters: float
    num_tasks: int
    multiple_of_encoder_layers: float
    multiple_of_all_parameters: float


class _Published(BaseModel):
    metric: MetricName


class _Result(BaseModel):
    """What a result file's schema leaves open."""

    config: RunConfig
    ledger: _Ledger
    published: list[_Published] = []


class _CellFile(Strict):
    """What a run's ``config.json`` holds."""

    config: RunConfig
    origins: dict[str, str]
    identity: dict[str, Any]
    digest: Annotated[str, like(r"[0-9a-f]{64}", "64 hexadecimal digits")]
    task: Task


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
                delete_patterns=[f"{FOLDER}/*"],  # of a push before: another seed, another run
                commit_message=f"{run.task.name}, {method_label(run.method)}",
            )
        except Exception as error:  # network, token, name, quota: each has a class of its own
            raise HubError(
                f"refused ({type(error).__name__}: {first_line(error)})",
                where=repository,
                remedy="check the network and the token (hf auth login)",
            ) from None
    return address


def pull(repository: str, output: Path, *, revision: str | None, offline: bool) -> Run:
    """Fetch a run that was pushed, check all of it, and put it into a store.

    Raises:
        HubError: it can't be fetched, is no run, or its download is damaged.
        StoreError: a file is damaged or not what it should be, or the run is there already.
        CheckpointError: the checkpoint is damaged, or not that of the run.
    """
    _check_name(repository)
    place = f"model {repository}"
    names = [f"{FOLDER}/*"]
    if not download.is_off(offline=offline):
        _, sizes = download.files_of("model", repository, revision)
        names = _files(sizes, place)
    fetched = download.snapshot(
        "model", repository, names, revision=revision, offline=offline, remedy=download.ONLINE
    )
    found = (path for path in (fetched / FOLDER).rglob("*") if path.is_file())
    names = _files(
        {path.relative_to(fetched).as_posix(): path.stat().st_size for path in found}, place
    )
    for name in names:
        download.sha256(fetched / name)
    try:
        run, digest = _checked(fetched, names)
    # An error tells of the cache, and of how to mend a run of one's own.
    except AdapterTuneError as error:
        where, what = (text.replace(f"{fetched}/", "") for text in (error.where or "", error.what))
        raise type(error)(what, where=f"{place}: {where}", remedy=MEND) from None
    method, base = method_label(run.method), run.result.backbone.name
    target = store.cell_folder(output, run.task.name, method, base, digest)
    longest = max(run.task.name, target.path.name, key=len)
    if len(longest) > LONGEST_NAME:
        what = f"its task or base model makes a folder's name of {len(longest)} characters"
        raise StoreError(what, where=place, remedy=MEND)
    if target.path.exists():
        raise StoreError(
            "is there already", where=target.path, remedy="choose another --output, or remove it"
        )
    return copy_run(run, target.path)


def _files(sizes: Mapping[str, int], place: str) -> list[str]:
    """A run's four files, by what a repository holds: path -> bytes.

    Raises:
        HubError: they are not there, there are several runs, or one is too large.
    """
    seeds = [name for name in sizes if re.fullmatch(rf"{FOLDER}/seed-[0-9]+/result\.json", name)]
    if len(seeds) != 1:
        raise HubError("is no run of adaptertune", where=place, remedy="pull what was pushed")
    checkpoint = seeds[0].replace("result.json", "checkpoint.safetensors")
    names = [f"{FOLDER}/config.json", f"{FOLDER}/result.json", seeds[0], checkpoint]
    for name in names:
        if name not in sizes:
            raise HubError(f"lacks {name}", where=place, remedy=MEND)
        largest = LARGEST_RESULT if name.endswith(".json") else LARGEST_CHECKPOINT
        download.check_size(name, sizes[name], largest, place, "pull what was pushed")
    return names


def _checked(fetched: Path, names: Sequence[str]) -> tuple[Run, str]:
    """The run in a downloaded repository, and its digest, if its files are what they should be.

    Raises:
        AdapterTuneError: they are not.
    """
    from adaptertune.train.checkpoint import read_tensors

    config, summary, own, checkpoint = (fetched / name for name in names)
    described = parse(_CellFile, _read_json(config), lambda _: str(config))
    for path in (summary, own):
        parse(_Result, _read_json(path), lambda _: str(path))  # noqa: B023 (called at once)
    run = load.find(str(own.parent), fetched)
    whole, of_seed = run.cell.finished_result(), run.result
    if whole.headline != run.task.headline:
        raise StoreError(f"'{whole.headline}' is not the task's headline metric", where=summary)
    _check_scores(whole, whole.scores, run.task, summary)
    by_split = {split: scores.values for split, scores in of_seed.scores.items()}
    _check_scores(of_seed, by_split, run.task, own)
    _, facts = read_tensors(checkpoint)
    labels = None if run.task.labels is None else list(run.task.labels)
    known = (facts.get("base_sha256"), facts.get("labels"))
    if known != (run.result.backbone.sha256, labels) or not isinstance(facts.get("base_name"), str):
        raise CheckpointError("not the checkpoint of this run", where=checkpoint)
    if f"seed-{run.result.seed}" != own.parent.name:
        raise StoreError(f"the result is of seed {run.result.seed}", where=own)
    return run, described.digest


def _check_scores(
    told: CellResult | SeedResult,
    scores: Mapping[str, Mapping[str, object]],
    task: Task,
    where: Path,
) -> None:
    """Whether a result is one of the task, with all its metrics on each split; one of them selected.

    Raises:
        StoreError: it is not.
    """
    if told.task != task.name:
        raise StoreError(f"a result of '{told.task}', not of '{task.name}'", where=where)
    if told.selecting_split not in scores:
        raise StoreError(f"no scores on '{told.selecting_split}', which selected", where=where)
    for split, metrics in scores.items():
        if metrics.keys() != set(task.metrics):
            raise StoreError(f"the scores on '{split}' are not the task's metrics", where=where)


def _read_json(path: Path) -> Any:
    """What a JSON file holds, if it can be written again and shown.

    Raises:
        StoreError: it is none, or has infinite numbers, half or control characters or endless texts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"damaged ({type(error).__name__})", where=path) from None
    check_texts(content, path, StoreError)
    return content


def card(run: Run, summary: CellResult, repository: str, *, license: str) -> str:
    """The model card: how to use it, scores with their protocol, what trained, how, and on what."""
    task, result = run.task, run.result
    ledger, training = result.ledger, result.config["training"]
    method = run.method.name
    front: dict[str, Any] = {
        "library_name": "adaptertune",
        "pipeline_tag": "text-classification",
        "license": license,
        "tags": [
            *(["adapters"] if method == "adapter" else []),
            *(["parameter-efficient-fine-tuning"] if method != "full" else []),
            result.backbone.architecture,
            task.name,
        ],
    }
    # Without a commit it is a folder, whatever its name looks like.
    if result.backbone.commit and REPOSITORY.fullmatch(result.backbone.model):
        front["base_model"] = result.backbone.model
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
    is_frozen = isinstance(run.method, Full) and run.method.pooler == "frozen"
    but = " but for its pooler" if is_frozen else ""
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
    where, given = "the base model is fetched by its name", ""
    if not can_be_fetched(result.backbone):
        where = "its base model was a folder, which you need too: the weights' SHA-256 is below"
        given = " --backbone FOLDER"
    lines = [
        f"# {_plain(task.title)}: {method_label(run.method)} on {_plain(result.backbone.name)}",
        "",
        f"{TRAINED[method]}{but}, {trained}. This repository holds what "
        f"trained; {where}.",
        "",
        "```sh",
        f"adaptertune pull {repository}",
        f"adaptertune predict {summary.digest[:12]} {texts}{given}",
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


def can_be_fetched(backbone: BackboneFacts) -> bool:
    """Whether a run's base model has a name that others can load it by."""
    return backbone.commit is not None or catalogue.package(backbone.name) is not None


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
