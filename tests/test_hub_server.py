"""The real client libraries work against the local Hub of `hub_server`, online and then offline.

Each case is a process of its own, because those libraries read their environment when they are
imported.  What such a process finds out it leaves in `answer`, which comes back as JSON.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_server import HubError, HubServer

GLUE = "nyu-mll/glue"
GLUE_SHA = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"  # of the real one; the contents are not
BERT = "google-bert/bert-base-uncased"


def run_client(
    hub: HubServer,
    home: Path,
    code: str,
    *,
    offline: bool = False,
    token: str | None = None,
    **variables: str,
) -> Any:
    """What `code` leaves in `answer`, run in a process that knows only this Hub."""
    script = f"import json\n{textwrap.dedent(code)}\nprint(json.dumps(answer))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=hub.env(home, offline=offline, token=token) | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- a GLUE of a few made-up rows ----

NLI = ("entailment", "neutral", "contradiction")
TRAIN = ("train", "validation", "test")
MNLI = ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
PAIR = ("sentence1", "sentence2")
# Each config's text columns, label names (none: a number) and splits, as in nyu-mll/glue.
GLUE_CONFIGS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "ax": (("premise", "hypothesis"), NLI, ("test",)),
    "cola": (("sentence",), ("unacceptable", "acceptable"), TRAIN),
    "mnli": (("premise", "hypothesis"), NLI, MNLI),
    "mnli_matched": (("premise", "hypothesis"), NLI, TRAIN[1:]),
    "mnli_mismatched": (("premise", "hypothesis"), NLI, TRAIN[1:]),
    "mrpc": (PAIR, ("not_equivalent", "equivalent"), TRAIN),
    "qnli": (("question", "sentence"), ("entailment", "not_entailment"), TRAIN),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), TRAIN),
    "rte": (PAIR, ("entailment", "not_entailment"), TRAIN),
    "sst2": (("sentence",), ("negative", "positive"), TRAIN),
    "stsb": (PAIR, (), TRAIN),
    "wnli": (PAIR, ("not_entailment", "entailment"), TRAIN),
}


def glue_rows(config: str, split: str, rows: int = 4, mark: str = "") -> dict[str, list[Any]]:
    """The columns of one split; in a test split the labels are unknown, which is -1."""
    texts, labels, _ = GLUE_CONFIGS[config]
    known = not split.startswith("test")
    columns: dict[str, list[Any]] = {
        text: [f"{mark}{text} {number} of {config} {split}" for number in range(rows)]
        for text in texts
    }
    if labels:
        columns["label"] = [number % len(labels) if known else -1 for number in range(rows)]
    else:
        columns["label"] = [number * 1.25 if known else -1.0 for number in range(rows)]
    return columns | {"idx": list(range(rows))}


def glue_parquet(config: str, split: str, rows: int = 4, mark: str = "") -> bytes:
    columns = glue_rows(config, split, rows, mark)
    types = {"label": pa.int64() if GLUE_CONFIGS[config][1] else pa.float32(), "idx": pa.int32()}
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def glue_readme(rows: int = 4) -> bytes:
    """The front matter by which `datasets` finds the configs, laid out as the real one."""
    infos, configs = ["dataset_info:"], ["configs:"]
    for config, (texts, labels, splits) in GLUE_CONFIGS.items():
        infos += [f"- config_name: {config}", "  features:"]
        for text in texts:
            infos += [f"  - name: {text}", "    dtype: string"]
        infos += ["  - name: label"]
        if labels:
            infos += ["    dtype:", "      class_label:", "        names:"]
            infos += [f"          '{number}': {name}" for number, name in enumerate(labels)]
        else:
            infos += ["    dtype: float32"]
        infos += ["  - name: idx", "    dtype: int32", "  splits:"]
        configs += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            infos += [f"  - name: {split}", "    num_bytes: 1", f"    num_examples: {rows}"]
            configs += [f"  - split: {split}", f"    path: {config}/{split}-*"]
        infos += ["  download_size: 1", "  dataset_size: 1"]
    return "\n".join(["---", *infos, *configs, "---", "# Not GLUE", ""]).encode()


def glue_files(rows: int = 4, mark: str = "") -> dict[str, bytes]:
    """All the files of the repository."""
    return {"README.md": glue_readme(rows)} | {
        f"{config}/{split}-00000-of-00001.parquet": glue_parquet(config, split, rows, mark)
        for config, (_, _, splits) in GLUE_CONFIGS.items()
        for split in splits
    }


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


def small_files(mark: str = "") -> dict[str, bytes]:
    return {
        "README.md": f"hello {mark}".encode(),
        "config.json": b"{}",
        "weights/model.safetensors": bytes(range(256)) * 40,
        "weights/deep/notes.txt": b"notes",
    }


# ---- datasets ----


def test_load_dataset_at_a_pinned_revision_then_offline(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("dataset", GLUE, glue_files(), sha=GLUE_SHA)
    hub.add_repo("dataset", GLUE, glue_files(mark="newer "))
    code = f"""
        from datasets import load_dataset
        answer = {{}}
        for config in ("rte", "mnli", "stsb"):
            loaded = load_dataset("{GLUE}", config, revision="{GLUE_SHA}")
            for split, rows in loaded.items():
                label = rows.features["label"]
                names = getattr(label, "names", label.dtype if config == "stsb" else None)
                answer[f"{{config}}/{{split}}"] = [rows.to_dict(), names]
    """
    expected = {
        f"{config}/{split}": [glue_rows(config, split), list(labels) or "float32"]
        for config, (_, labels, splits) in GLUE_CONFIGS.items()
        if config in ("rte", "mnli", "stsb")
        for split in splits
    }
    assert run_client(hub, tmp_path, code) == expected
    fetched = [request for request in hub.requests if request.startswith("GET /datasets/")]
    assert f"GET /datasets/{GLUE}/resolve/{GLUE_SHA}/rte/train-00000-of-00001.parquet" in fetched
    assert len(fetched) == 1 + len(expected)  # the README and each split, once
    assert all(GLUE_SHA in request for request in hub.requests)
    assert hub.unserved == []

    hub.stop()
    assert run_client(hub, tmp_path, code, offline=True) == expected


def test_load_dataset_names_what_is_missing(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("dataset", GLUE, glue_files(), sha=GLUE_SHA)
    code = f"""
        from datasets import load_dataset
        answer = []
        for repo, config, revision in (
            ("nyu-mll/glues", "rte", "{GLUE_SHA}"),
            ("{GLUE}", "rte", "{"0" * 40}"),
            ("{GLUE}", "rtes", "{GLUE_SHA}"),
        ):
            try:
                load_dataset(repo, config, revision=revision)
            except Exception as error:
                answer.append(f"{{type(error).__name__}}: {{error}}")
    """
    no_repo, no_revision, no_config = run_client(hub, tmp_path, code)
    assert no_repo.startswith("DatasetNotFoundError: Dataset 'nyu-mll/glues' doesn't exist")
    assert no_revision.startswith(f"DatasetNotFoundError: Revision '{'0' * 40}' doesn't exist")
    assert no_config.startswith("ValueError: BuilderConfig 'rtes' not found")


# ---- transformers ----


def test_from_pretrained_by_folder_and_by_name_then_offline(
    hub: HubServer, tmp_path: Path, tiny_bert: Path
) -> None:
    files: dict[str, bytes | Path] = {path.name: path for path in tiny_bert.iterdir()}
    sha = hub.add_repo("model", BERT, files | {"tf_model.h5": b"not wanted"})
    code = f"""
        from pathlib import Path
        from huggingface_hub import snapshot_download
        from transformers import AutoModel, AutoTokenizer

        folder = snapshot_download(
            "{BERT}", revision="{sha}", allow_patterns=["*.json", "*.safetensors", "vocab.txt"]
        )
        other = "{tmp_path / "by-name"}"  # a second cache, so that nothing comes from the first
        answer = [sorted(path.name for path in Path(folder).iterdir())]
        for name, where in (
            (folder, {{}}),
            ("{BERT}", {{"cache_dir": other, "revision": "{sha}"}}),
            ("{BERT}", {{"cache_dir": other}}),
        ):
            model = AutoModel.from_pretrained(name, **where)
            tokens = AutoTokenizer.from_pretrained(name, **where)("word3 word1cab", "word44")
            total = sum(weight.double().sum().item() for weight in model.parameters())
            answer.append([tokens["input_ids"], tokens["token_type_ids"], total])
    """
    names, *loads = run_client(hub, tmp_path / "hf", code)
    assert names == sorted(files)
    assert loads[0] == loads[1] == loads[2]
    # [CLS] word3 word1 ##c ##a ##b [SEP] word44 [SEP]
    assert loads[0][0] == [2, 8, 6, 52, 50, 51, 3, 49, 3]
    assert loads[0][1] == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    weights = f"GET /{BERT}/resolve/{sha}/model.safetensors"
    assert hub.requests.count(weights) == 2  # once into either cache
    assert not any("tf_model.h5" in request for request in hub.requests)
    assert hub.unserved == []

    hub.stop()
    assert run_client(hub, tmp_path / "hf", code, offline=True) == [names, *loads]


# ---- huggingface_hub, reading ----


def test_listings(tmp_path: Path) -> None:
    code = f"""
        from huggingface_hub import HfApi
        api = HfApi()
        model = api.model_info("{BERT}", files_metadata=True)
        info = api.dataset_info("{GLUE}")
        lfs = {{f.rfilename: f.lfs.sha256 for f in model.siblings if f.lfs}}
        answer = {{
            "model": [model.id, model.sha, {{f.rfilename: f.size for f in model.siblings}}, lfs],
            "dataset": [info.id, info.sha, [f.rfilename for f in info.siblings]],
            "files": api.list_repo_files("{BERT}"),
            "tree": [entry.path for entry in api.list_repo_tree("{BERT}")],
            "inside": [entry.path for entry in api.list_repo_tree("{BERT}", "weights/deep")],
            "paths": [
                [entry.path, type(entry).__name__]
                for entry in api.get_paths_info("{BERT}", ["weights", "config.json", "absent"])
            ],
            "commits": [commit.commit_id for commit in api.list_repo_commits("{BERT}")],
            "branches": [ref.target_commit for ref in api.list_repo_refs("{BERT}").branches],
            "exist": [api.repo_exists("{BERT}"), api.repo_exists("google-bert/none")],
        }}
    """
    files = small_files()
    with HubServer(page_size=2) as hub:
        first = hub.add_repo("model", BERT, small_files("first"))
        sha = hub.add_repo("model", BERT, files)
        dataset = hub.add_repo("dataset", GLUE, {"README.md": b"-"})
        answer = run_client(hub, tmp_path, code)
        weights = "weights/model.safetensors"
        lfs = {weights: hub.etag(weights, files[weights])}
        assert hub.unserved == []
        assert sum("cursor=" in request for request in hub.requests) == 3  # 6 files in 2s, 3 in 2s
    assert answer == {
        "model": [BERT, sha, {path: len(data) for path, data in files.items()}, lfs],
        "dataset": [GLUE, dataset, ["README.md"]],
        "files": sorted(files),
        "tree": ["README.md", "config.json", "weights"],
        "inside": ["weights/deep/notes.txt"],
        "paths": [["weights", "RepoFolder"], ["config.json", "RepoFile"]],
        "commits": [sha, first],
        "branches": [sha],
        "exist": [True, False],
    }


def test_downloads_of_two_revisions_then_offline(hub: HubServer, tmp_path: Path) -> None:
    old = hub.add_repo("model", BERT, small_files("old"))
    new = hub.add_repo("model", BERT, small_files("new"))
    code = f"""
        from pathlib import Path
        from huggingface_hub import hf_hub_download, snapshot_download
        answer = [Path(hf_hub_download("{BERT}", "README.md", revision=revision)).read_text()
                  for revision in ("main", "{old}", "{new}")]
        only = dict(allow_patterns="weights/*", ignore_patterns="*.txt")
        folder = Path(snapshot_download("{BERT}", **only))
        answer += [folder.name] + [path.name for path in folder.rglob("*") if path.is_file()]
    """
    expected = ["hello new", "hello old", "hello new", new, "README.md", "model.safetensors"]
    answer = run_client(hub, tmp_path, code)
    assert answer[:4] == expected[:4]
    assert sorted(answer[4:]) == expected[4:]
    hub.requests.clear()
    hub.stop()
    assert run_client(hub, tmp_path, code, offline=True) == answer

    hub.start()  # again on the same address; what is pinned and cached is not asked for again
    code = f"""
        from huggingface_hub import hf_hub_download, snapshot_download
        hf_hub_download("{BERT}", "README.md", revision="{old}")
        snapshot_download("{BERT}", revision="{new}", allow_patterns="weights/*.safetensors")
        answer = None
    """
    run_client(hub, tmp_path, code)
    assert hub.requests == []


def test_errors_have_the_clients_own_types(hub: HubServer, tmp_path: Path) -> None:
    sha = hub.add_repo("model", BERT, small_files())
    code = f"""
        from huggingface_hub import HfApi, errors, hf_hub_download, snapshot_download
        def kind(call, *args, **options):
            try:
                call(*args, **options)
            except Exception as error:
                return type(error).__name__
        api = HfApi()
        answer = [
            kind(hf_hub_download, "google-bert/none", "config.json"),
            kind(hf_hub_download, "{BERT}", "config.json", revision="v2"),
            kind(hf_hub_download, "{BERT}", "none.json"),
            kind(snapshot_download, "google-bert/none"),
            kind(snapshot_download, "{BERT}", revision="{"0" * 40}"),
            kind(api.model_info, "google-bert/none"),
            kind(api.dataset_info, "{BERT}"),
            kind(api.model_info, "{BERT}", revision="v2"),
            kind(lambda: list(api.list_repo_tree("{BERT}", "none"))),
            kind(api.whoami),
            kind(api.create_repo, "me/new"),
        ]
    """
    assert run_client(hub, tmp_path, code) == [
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "RemoteEntryNotFoundError",
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "RepositoryNotFoundError",
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "RemoteEntryNotFoundError",
        "LocalTokenNotFoundError",
        "HfHubHTTPError",
    ]
    assert sha in {path.name for path in tmp_path.rglob(".no_exist/*")}  # it remembers none.json


# ---- faults ----


def test_faults(hub: HubServer, tmp_path: Path) -> None:
    weights = "weights/model.safetensors"
    files = small_files()
    sha = hub.add_repo("model", BERT, files)
    code = f"""
        from huggingface_hub import hf_hub_download
        try:
            with open(hf_hub_download("{BERT}", "{weights}", revision="{sha}"), "rb") as file:
                answer = file.read().hex()
        except Exception as error:
            answer = type(error).__name__
    """
    get = f"GET /{BERT}/resolve/{sha}/{weights}"

    hub.truncate(weights)  # the client asks for the rest
    assert run_client(hub, tmp_path / "truncated", code) == files[weights].hex()
    assert hub.requests.count(get) == 2

    hub.fail_next(1, status=503, path=weights)  # the client tries again
    assert run_client(hub, tmp_path / "busy", code) == files[weights].hex()

    hub.fail_next(1, status=403)  # the client gives up
    assert run_client(hub, tmp_path / "forbidden", code) == "LocalEntryNotFoundError"

    hub.corrupt(weights)  # the client does not look, and keeps the wrong bytes
    wrong = bytes(byte ^ 0xFF for byte in files[weights]).hex()
    assert run_client(hub, tmp_path / "corrupt", code) == wrong
    assert run_client(hub, tmp_path / "corrupt", code) == wrong


def fetch(url: str, **headers: str) -> tuple[int, bytes, str]:
    """Status, body and Content-Range, past any proxy of the environment."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read(), answer.headers.get("Content-Range", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b"", ""


def test_ranges(hub: HubServer) -> None:
    hub.add_repo("model", BERT, {"digits.txt": b"0123456789"})
    url = f"{hub.url}/{BERT}/resolve/main/digits.txt"
    assert fetch(url) == (200, b"0123456789", "")
    assert fetch(url, Range="bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert fetch(url, Range="bytes=7-") == (206, b"789", "bytes 7-9/10")
    assert fetch(url, Range="bytes=-3") == (206, b"789", "bytes 7-9/10")
    assert fetch(url, Range="bytes=8-99") == (206, b"89", "bytes 8-9/10")
    assert fetch(url, Range="bytes=10-") == (416, b"", "")
    assert fetch(f"{hub.url}/api/spaces/a/b") == (404, b"", "")
    assert hub.unserved == ["GET /api/spaces/a/b"]


# ---- huggingface_hub, writing ----

UPLOAD = """
    from pathlib import Path
    from huggingface_hub import HfApi
    api = HfApi()
    folder = Path(FOLDER)
    repo = api.create_repo("adapters", exist_ok=True).repo_id
    first = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="first")
    again = api.upload_folder(repo_id=repo, folder_path=folder)
    (folder / "config.json").write_text("[]")
    second = api.upload_folder(
        repo_id=repo, folder_path=folder, delete_patterns="weights/deep/*", ignore_patterns="*.txt"
    )
    copied = Path(api.hf_hub_download(repo, "weights/model.safetensors")).read_bytes()
    answer = [
        api.whoami()["name"], repo, first.oid, again.oid, second.oid,
        copied == (folder / "weights/model.safetensors").read_bytes(),
    ]
"""


@pytest.mark.parametrize("by_lfs", [True, False])
def test_uploads(tmp_path: Path, by_lfs: bool) -> None:
    files = small_files() | {"empty.bin": b""}
    folder = tmp_path / "folder"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    code = UPLOAD.replace("FOLDER", repr(str(folder)))
    # Without LFS the newer way to upload, which needs Xet for all else, works here too.
    with HubServer() if by_lfs else HubServer(lfs_suffixes=()) as hub:
        user, repo_id, first, again, second, same = run_client(
            hub, tmp_path / "hf", code, token="hf_x", HF_HUB_DISABLE_XET="1" if by_lfs else "0"
        )
        assert (user, repo_id, same) == ("tester", "tester/adapters", True)
        assert again == first
        assert hub.repo("model", repo_id).sha == second
        created = {".gitattributes": hub.repo("model", repo_id).files[".gitattributes"]}
        assert hub.repo("model", repo_id, first).files == files | created
        left = {path: data for path, data in files.items() if path != "weights/deep/notes.txt"}
        assert hub.repo("model", repo_id).files == left | created | {"config.json": b"[]"}
        sent = [request for request in hub.requests if request.startswith("PUT ")]
        assert len(sent) == int(by_lfs)  # the weights, once
        commits = [request for request in hub.requests if "/commit/" in request]
        assert len(commits) == 2  # none where nothing had changed
        assert hub.unserved == []


def test_commits_of_every_kind(hub: HubServer, tmp_path: Path) -> None:
    code = f"""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
        api = HfApi()
        url = api.create_repo("{GLUE}", repo_type="dataset")
        try:
            api.create_repo("{GLUE}", repo_type="dataset")
        except Exception as error:
            taken = error.response.status_code
        options = dict(repo_id="{GLUE}", repo_type="dataset")
        api.upload_file(path_or_fileobj=b"12345", path_in_repo="rte/a.parquet", **options)
        api.upload_file(path_or_fileobj=b"hello", path_in_repo="README.md", **options)
        old = api.dataset_info("{GLUE}").sha
        operations = [
            CommitOperationAdd("mnli/a.parquet", b"12345"),
            CommitOperationDelete("rte/"),
            CommitOperationDelete("README.md"),
        ]
        api.create_commit(operations=operations, commit_message="all", parent_commit=old, **options)
        try:
            late = [CommitOperationAdd("b.txt", b"b")]
            api.create_commit(operations=late, commit_message="x", parent_commit=old, **options)
        except Exception as error:
            answer = [str(url), taken, error.response.status_code]
    """
    url, taken, late = run_client(hub, tmp_path, code, token="hf_x")
    assert url == f"{hub.url}/datasets/{GLUE}"
    assert (taken, late) == (409, 412)
    assert set(hub.repo("dataset", GLUE).files) == {".gitattributes", "mnli/a.parquet"}
    assert sum(request.startswith("PUT ") for request in hub.requests) == 1  # the bytes were there
    code = f"""
        from huggingface_hub import HfApi
        HfApi().delete_repo("{GLUE}", repo_type="dataset")
        answer = None
    """
    run_client(hub, tmp_path, code, token="hf_x")
    with pytest.raises(HubError, match="Repository not found"):
        hub.repo("dataset", GLUE)
    assert hub.unserved == []


# ---- the server's own side ----


def test_repositories_and_their_revisions(tmp_path: Path) -> None:
    hub = HubServer()
    (tmp_path / "b").write_bytes(b"from a file")
    one = hub.add_repo("model", BERT, {"a": b"1"})
    two = hub.add_repo("model", BERT, {"a": b"2", "b": tmp_path / "b"})
    assert one != two
    assert hub.add_repo("dataset", BERT, {"a": b"1"}) != one  # another repository
    assert hub.repo("model", BERT).sha == two
    assert hub.repo("model", BERT, one).files == {"a": b"1"}
    assert hub.repo("model", BERT).files["b"] == b"from a file"
    assert hub.add_repo("model", BERT, {"a": b"1"}) == one  # made of the contents
    assert hub.repo("model", BERT).sha == one
    with pytest.raises(ValueError, match="not a commit sha"):
        hub.add_repo("model", BERT, {}, sha="main")
    with pytest.raises(HubError, match="Invalid rev id: v1"):
        hub.repo("model", BERT, "v1")
