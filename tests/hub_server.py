"""A small local copy of the Hugging Face Hub, for tests that must not need the internet.

`HubServer` answers enough of the Hub's HTTP interface that the real client libraries
(`huggingface_hub`, `datasets`, `transformers`) download from it and upload to it unchanged:

    with HubServer() as hub:
        sha = hub.add_repo("dataset", "nyu-mll/glue", {"README.md": b"...", ...})
        subprocess.run([sys.executable, "-c", code], env=hub.env(tmp_path / "hf"), check=True)
        assert all(sha in request for request in hub.requests)

The clients read their environment when they are imported, so a test starts them in a process of
their own, with the variables that `HubServer.env` returns.  Which endpoint serves which client call
stands in `ROUTES`.  What is left out: the Xet storage (the server never announces it, and `env`
turns it off because the upload code would use it unasked), pull requests, branches other than
`main`, private and gated repositories.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlencode

Kind = Literal["model", "dataset"]

KINDS: tuple[Kind, ...] = ("model", "dataset")
USER = "tester"
DATE = "2024-01-30T07:41:18.000Z"  # of every commit; the clients only parse it
LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".pt", ".h5", ".msgpack", ".onnx", ".arrow")


def _url_prefix(kind: Kind) -> str:
    """What stands before the repository's name in the URLs that are not under /api/."""
    return "" if kind == "model" else f"{kind}s/"


def _is_true(value: object) -> bool:
    """Of a query's or a form's value, as the clients spell it: true, True, 1."""
    return str(value).lower() in ("true", "1")


def _git_blob_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _lfs_pointer(data: bytes) -> bytes:
    """What git itself stores in the place of a file that is kept in LFS."""
    lines = (
        "version https://git-lfs.github.com/spec/v1",
        f"oid sha256:{hashlib.sha256(data).hexdigest()}",
        f"size {len(data)}",
    )
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True)
class Repo:
    """One revision of a repository."""

    kind: Kind
    repo_id: str
    sha: str
    files: dict[str, bytes]

    def folders(self) -> set[str]:
        """Every folder that holds a file, however deep."""
        found = {str(folder) for path in self.files for folder in PurePosixPath(path).parents}
        return found - {"."}


def _commit_sha(kind: Kind, repo_id: str, files: Mapping[str, bytes]) -> str:
    """A commit's name made of its contents: the same files always give the same sha."""
    digest = hashlib.sha1(f"{kind} {repo_id}\n".encode())
    for path in sorted(files):
        digest.update(f"{path}\0{_git_blob_sha1(files[path])}\n".encode())
    return digest.hexdigest()


class HubError(Exception):
    """An answer that is an error, as the Hub words it: the clients go by `code`."""

    def __init__(self, status: int, code: str, message: str, sha: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code  # RepoNotFound, RevisionNotFound, EntryNotFound, ...
        self.sha = sha  # of the commit that lacks the file; the clients cache "no such file" by it


class HubServer:
    """The repositories, and the HTTP server on 127.0.0.1 that serves them."""

    def __init__(
        self, *, page_size: int = 1000, lfs_suffixes: tuple[str, ...] = LFS_SUFFIXES
    ) -> None:
        self.page_size = page_size  # entries per page of a listing, as the real Hub's 1000
        self.lfs_suffixes = lfs_suffixes  # () stores, and takes, every file as a regular one
        self.requests: list[str] = []  # "METHOD path?query", in the order they came
        self.unserved: list[str] = []  # those that fit no route: what a newer client may ask for
        self.lfs_objects: dict[str, bytes] = {}  # by sha256
        self._revisions: dict[tuple[Kind, str], dict[str, Repo]] = {}  # by sha, oldest first
        self._main: dict[tuple[Kind, str], str] = {}
        self._damage: dict[str, tuple[str, int]] = {}  # path -> (how, how many times more)
        self._failures: list[tuple[int, str]] = []  # (status, part of the path), one per failure
        self.lock = threading.RLock()
        self._port = 0
        self._server: _ThreadingServer | None = None

    # ---- running ----

    def __enter__(self) -> HubServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        if self._server is None:
            self._server = _ThreadingServer(("127.0.0.1", self._port), self)
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening: from now on a client sees a refused connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def running(self) -> bool:
        return self._server is not None

    def env(self, home: Path, *, offline: bool = False, token: str | None = None) -> dict[str, str]:
        """The environment for a client process that knows only this Hub, its cache in `home`."""
        ours = ("HF_", "HUGGING", "TRANSFORMERS_", "DATASETS_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        env |= {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",  # else uploads go to Xet whenever hf_xet is installed
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # else load_dataset calls s3.amazonaws.com
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        if offline:
            env["HF_HUB_OFFLINE"] = "1"
        if token is not None:
            env["HF_TOKEN"] = token
        return env

    # ---- the repositories ----

    def add_repo(
        self, kind: Kind, repo_id: str, files: Mapping[str, bytes | Path], sha: str | None = None
    ) -> str:
        """Add a repository, or a further revision of one, which becomes its `main`; return its sha.

        A `sha` that is given stands in the place of the one made of the contents, so that a test
        can serve its own files at the very revision the program pins.
        """
        contents = {
            path: data.read_bytes() if isinstance(data, Path) else data
            for path, data in files.items()
        }
        sha = sha or _commit_sha(kind, repo_id, contents)
        if not re.fullmatch("[0-9a-f]{40}", sha):
            raise ValueError(f"not a commit sha: {sha!r}")
        with self.lock:
            revisions = self._revisions.setdefault((kind, repo_id), {})
            revisions.pop(sha, None)  # so that it comes last
            revisions[sha] = Repo(kind, repo_id, sha, contents)
            self._main[kind, repo_id] = sha
            for path, data in contents.items():
                if self.is_lfs(path, len(data)):
                    self.lfs_objects[hashlib.sha256(data).hexdigest()] = data
        return sha

    def delete_repo(self, kind: Kind, repo_id: str) -> None:
        self.repo(kind, repo_id)
        with self.lock:
            del self._revisions[kind, repo_id], self._main[kind, repo_id]

    def repo(self, kind: Kind, repo_id: str, revision: str = "main") -> Repo:
        """The repository at a revision: `main` or a full sha.  `HubError` where there is none."""
        with self.lock:
            revisions = self._revisions.get((kind, repo_id))
            if revisions is None:
                raise HubError(404, "RepoNotFound", "Repository not found")
            sha = self._main[kind, repo_id] if revision == "main" else revision
            if sha not in revisions:
                raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return revisions[sha]

    def history(self, repo: Repo) -> list[str]:
        """The shas from this revision back to the first one."""
        with self.lock:
            shas = list(self._revisions[repo.kind, repo.repo_id])
        return shas[shas.index(repo.sha) :: -1]

    def is_lfs(self, path: str, size: int) -> bool:
        """Whether the file is kept in LFS; the clients never send an empty one there."""
        return size > 0 and path.endswith(self.lfs_suffixes)

    def etag(self, path: str, data: bytes) -> str:
        """The name of the file's contents, which is also its name in the client's cache."""
        is_lfs = self.is_lfs(path, len(data))
        return hashlib.sha256(data).hexdigest() if is_lfs else _git_blob_sha1(data)

    def describe(self, repo: Repo, path: str) -> dict[str, Any]:
        """A file as the listings have it (`RepoFile` in huggingface_hub)."""
        data = repo.files[path]
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
        if self.is_lfs(path, len(data)):
            pointer = _lfs_pointer(data)
            oid = hashlib.sha256(data).hexdigest()
            lfs = {"oid": oid, "size": len(data), "pointerSize": len(pointer)}
            return entry | {"oid": _git_blob_sha1(pointer), "lfs": lfs}
        return entry | {"oid": _git_blob_sha1(data)}

    # ---- faults ----

    def fail_next(self, n: int = 1, status: int = 503, path: str = "") -> None:
        """Answer the next `n` requests that have `path` somewhere in their path with `status`."""
        with self.lock:
            self._failures += [(status, path)] * n

    def truncate(self, path: str, times: int = 1) -> None:
        """Break the connection after half of the file's bytes, the next `times` it is fetched."""
        self._damage[path] = ("truncate", times)

    def corrupt(self, path: str, times: int = 1) -> None:
        """Send wrong bytes of the right length, with the right ETag, the next `times`."""
        self._damage[path] = ("corrupt", times)

    def take_failure(self, request_path: str) -> int | None:
        """The status this request is to fail with, if any; it counts as one failure."""
        with self.lock:
            for failure in self._failures:
                if failure[1] in request_path:
                    self._failures.remove(failure)
                    return failure[0]
        return None

    def take_damage(self, path: str) -> str | None:
        """How to damage this answer, if at all; it counts as one time."""
        with self.lock:
            how, times = self._damage.get(path, ("", 0))
            if times == 0:
                return None
            self._damage[path] = (how, times - 1)
            return how


class _ThreadingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], hub: HubServer) -> None:
        super().__init__(address, _Handler)
        self.hub = hub


# Which endpoint serves which client call.  A method of `_Handler` has the name of the third column;
# what the pattern names is what it is given.
_REPO = "(?P<repo_id>[^/]+/[^/]+)"
_API = f"/api/(?P<kind>models|datasets)/{_REPO}"
_WEB = f"/(?P<kind>datasets/)?{_REPO}"
ROUTES: tuple[tuple[str, str, str], ...] = (
    # hf_hub_download, and through it snapshot_download, from_pretrained and load_dataset: HEAD for
    # the ETag and the commit, then GET for the bytes, with a Range to go on after a break
    ("HEAD GET", f"{_WEB}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    # model_info, dataset_info, repo_info, resolve_revision, repo_exists
    ("GET", f"{_API}(?:/revision/(?P<revision>[^/]+))?", "info"),
    # list_repo_tree, list_repo_files, snapshot_download, HfFileSystem (load_dataset's patterns)
    ("GET", f"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    # get_paths_info, file_exists, HfFileSystem.info
    ("POST", f"{_API}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", f"{_API}/refs", "refs"),  # list_repo_refs
    ("GET", f"{_API}/commits/(?P<revision>[^/]+)", "commits"),  # list_repo_commits
    ("GET", "/api/whoami-v2", "whoami"),  # whoami
    ("POST", "/api/repos/create", "create"),  # create_repo
    ("DELETE", "/api/repos/delete", "delete"),  # delete_repo
    # upload_file, upload_folder, create_commit, push_to_hub: these, in this order
    ("POST", "/api/validate-yaml", "validate_yaml"),
    ("POST", f"{_API}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", "/lfs-storage/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("POST", "/lfs-verify", "lfs_verify"),
    ("POST", f"{_API}/commit/(?P<revision>[^/]+)", "commit"),
)
_COMPILED = [(verbs.split(), re.compile(pattern), name) for verbs, pattern, name in ROUTES]
_TOKENLESS = ("paths_info", "lfs_put")  # they need no token: a reading one, and a signed URL


class _Handler(BaseHTTPRequestHandler):
    """One connection; the requests on it come one after another."""

    server: _ThreadingServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's ACK
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr: the tests read `HubServer.requests`."""

    def _handle(self) -> None:
        self.hub = self.server.hub
        if not self.hub.running:  # a connection that was open before `stop`
            self.close_connection = True
            return
        self.body = self._read_body()
        path, _, query = self.path.partition("?")
        self.query = {name: values[-1] for name, values in parse_qs(query).items()}
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {self.path}")
        try:
            status = self.hub.take_failure(path)
            if status is not None:
                raise HubError(status, "", "a failure that the test asked for")
            handler, arguments = self._route(path)
            handler(**arguments)
        except HubError as error:
            self._send_error(error)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _route(self, path: str) -> tuple[Callable[..., None], dict[str, Any]]:
        """The method that serves a path, and its arguments."""
        for verbs, pattern, name in _COMPILED:
            match = pattern.fullmatch(path)
            if match is None or self.command not in verbs:
                continue
            if self.command not in ("GET", "HEAD") and name not in _TOKENLESS:
                self._require_token()
            arguments: dict[str, Any] = {
                key: unquote(value) for key, value in match.groupdict().items() if value is not None
            }
            if "kind" in pattern.groupindex:
                is_dataset = arguments.get("kind", "").startswith("dataset")
                arguments["kind"] = "dataset" if is_dataset else "model"
            return getattr(self, name), arguments
        self.hub.unserved.append(f"{self.command} {self.path}")
        raise HubError(404, "", f"this test server does not serve {self.command} {path}")

    # ---- reading ----

    def resolve(self, kind: Kind, repo_id: str, revision: str, path: str) -> None:
        """A file's bytes.

        The real Hub sends an LFS file's request on to another host; here the answer comes at once,
        with the headers of both, so that `HubServer.requests` shows the file's name.
        """
        repo = self.hub.repo(kind, repo_id, revision)
        if path not in repo.files:
            raise HubError(404, "EntryNotFound", "Entry not found", repo.sha)
        data = repo.files[path]
        etag = self.hub.etag(path, data)
        headers = {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": repo.sha,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if self.hub.is_lfs(path, len(data)):
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if self.command == "HEAD":
            self._send(200, data, headers)
            return
        status = 200
        damage = self.hub.take_damage(path)
        if damage == "corrupt":
            data = data.translate(bytes(range(255, -1, -1)))  # every bit the other way
        span = self._requested_range(len(data))
        if span is not None:
            status = 206
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{len(data)}"
            data = data[span.start : span.stop]
        self._send(status, data, headers, keep=len(data) // 2 if damage == "truncate" else None)

    def info(self, kind: Kind, repo_id: str, revision: str = "main") -> None:
        repo = self.hub.repo(kind, repo_id, revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(repo.files)]
        if _is_true(self.query.get("blobs")):
            for sibling in siblings:
                entry = self.hub.describe(repo, sibling["rfilename"])
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    lfs = entry["lfs"]
                    sibling["lfs"] = {
                        "sha256": lfs["oid"],
                        "size": lfs["size"],
                        "pointerSize": lfs["pointerSize"],
                    }
        answer = {
            "id": repo_id,
            "author": repo_id.split("/")[0],
            "sha": repo.sha,
            "createdAt": DATE,
            "lastModified": DATE,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
        self._send_json(answer | ({"modelId": repo_id} if kind == "model" else {}))

    def tree(self, kind: Kind, repo_id: str, revision: str, path: str = "") -> None:
        repo = self.hub.repo(kind, repo_id, revision)
        if path and path not in repo.folders():
            raise HubError(404, "EntryNotFound", f"no folder {path} at {revision}", repo.sha)
        inside = f"{path}/" if path else ""
        names = sorted(name for name in repo.folders() | set(repo.files) if name.startswith(inside))
        if not _is_true(self.query.get("recursive")):
            names = [name for name in names if "/" not in name.removeprefix(inside)]
        start = int(self.query.get("cursor", "0"))
        end = start + min(self.hub.page_size, int(self.query.get("limit", "1000")))
        headers = {}
        if end < len(names):
            query = urlencode(self.query | {"cursor": str(end)})
            address = self.hub.url + self.path.partition("?")[0]
            headers["Link"] = f'<{address}?{query}>; rel="next"'
        expand = _is_true(self.query.get("expand"))
        self._send_json([self._entry(repo, name, expand) for name in names[start:end]], headers)

    def paths_info(self, kind: Kind, repo_id: str, revision: str) -> None:
        """As `tree`, of the paths asked for; those that do not exist are left out."""
        repo = self.hub.repo(kind, repo_id, revision)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            question = json.loads(self.body)
            paths, expand = question["paths"], _is_true(question.get("expand"))
        else:
            form = parse_qs(self.body.decode())
            paths = form.get("paths", [])
            expand = _is_true(form.get("expand", [""])[-1])
        known = repo.folders() | set(repo.files)
        found = [path.strip("/") for path in paths if path.strip("/") in known]
        self._send_json([self._entry(repo, path, expand) for path in found])

    def _entry(self, repo: Repo, path: str, expand: bool) -> dict[str, Any]:
        """A file or a folder of a listing."""
        if path in repo.files:
            entry = self.hub.describe(repo, path)
        else:
            oid = hashlib.sha1(f"{repo.sha} {path}".encode()).hexdigest()
            entry = {"type": "directory", "path": path, "size": 0, "oid": oid}
        if expand:
            entry["lastCommit"] = {"id": repo.sha, "title": "commit", "date": DATE}
        return entry

    def refs(self, kind: Kind, repo_id: str) -> None:
        sha = self.hub.repo(kind, repo_id).sha
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": sha}
        self._send_json({"branches": [main], "converts": [], "tags": [], "pullRequests": []})

    def commits(self, kind: Kind, repo_id: str, revision: str) -> None:
        shas = self.hub.history(self.hub.repo(kind, repo_id, revision))
        rest = {"title": "commit", "message": "", "date": DATE, "authors": [{"user": USER}]}
        self._send_json([{"id": sha, **rest} for sha in shas])

    # ---- writing ----

    def whoami(self) -> None:
        self._require_token()
        token = {"displayName": "test", "role": "write"}
        user = {"type": "user", "id": "0", "name": USER, "fullname": USER, "orgs": []}
        self._send_json(user | {"auth": {"type": "access_token", "accessToken": token}})

    def _named_repo(self) -> tuple[Kind, str]:
        question = json.loads(self.body)
        kind = question.get("type") or "model"
        if kind not in KINDS:
            raise HubError(400, "", f"this test server has no repositories of type {kind!r}")
        return kind, f"{question.get('organization') or USER}/{question['name']}"

    def create(self) -> None:
        kind, repo_id = self._named_repo()
        answer = {"url": f"{self.hub.url}/{_url_prefix(kind)}{repo_id}", "name": repo_id}
        try:
            self.hub.repo(kind, repo_id)
        except HubError:
            lines = [f"*{end} filter=lfs diff=lfs merge=lfs -text" for end in self.hub.lfs_suffixes]
            self.hub.add_repo(kind, repo_id, {".gitattributes": "\n".join(lines).encode()})
            self._send_json(answer)
        else:
            message = f"You already created this {kind} repo"
            self._send_json(answer | {"error": message}, status=409)

    def delete(self) -> None:
        self.hub.delete_repo(*self._named_repo())
        self._send(200, b"OK", {})

    def validate_yaml(self) -> None:
        """Of a README.md's front matter; here all of them are good."""
        self._send_json({"errors": [], "warnings": []})

    def preupload(self, kind: Kind, repo_id: str, revision: str) -> None:
        """For each file: is it to be sent to LFS or inside the commit, and is it here already."""
        repo = self.hub.repo(kind, repo_id, revision)
        files = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            data = repo.files.get(path)
            files.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if self.hub.is_lfs(path, file["size"]) else "regular",
                    "shouldIgnore": False,
                    "oid": None if data is None else self.hub.etag(path, data),
                }
            )
        self._send_json({"commitOid": repo.sha, "files": files})

    def lfs_batch(self, kind: Kind, repo_id: str) -> None:
        """Where to send the LFS files; those without `actions` are here already."""
        self.hub.repo(kind, repo_id)
        objects = []
        for item in json.loads(self.body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in self.hub.lfs_objects:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs-storage/{item['oid']}"},
                    "verify": {"href": f"{self.hub.url}/lfs-verify"},
                }
            objects.append(answer)
        self._send_json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "", f"the bytes sent are not those of {oid}")
        with self.hub.lock:
            self.hub.lfs_objects[oid] = self.body
        self._send(200, b"", {"ETag": f'"{oid}"'})

    def lfs_verify(self) -> None:
        question = json.loads(self.body)
        self._send_json({"size": len(self._lfs_object(question["oid"]))})

    def _lfs_object(self, oid: str) -> bytes:
        if oid not in self.hub.lfs_objects:
            raise HubError(400, "", f"LFS object {oid} was not uploaded")
        return self.hub.lfs_objects[oid]

    def commit(self, kind: Kind, repo_id: str, revision: str) -> None:
        """One line of JSON per operation, after a header; they all happen or none does."""
        if revision != "main" or "create_pr" in self.query:
            raise HubError(400, "", "this test server takes commits to main only")
        with self.hub.lock:
            repo = self.hub.repo(kind, repo_id)
            files = dict(repo.files)
            for operation, value in self._ndjson():
                path = value.get("path", "")
                if operation == "header":
                    if value.get("parentCommit", repo.sha) != repo.sha:
                        raise HubError(412, "", "A commit has happened since. Please refresh.")
                elif operation == "file":
                    files[path] = base64.b64decode(value["content"])
                elif operation == "lfsFile":
                    files[path] = self._lfs_object(value["oid"])
                elif operation == "deletedFile" and path in files:
                    del files[path]
                elif operation == "deletedFolder":
                    folder = path.rstrip("/") + "/"
                    files = {name: files[name] for name in files if not name.startswith(folder)}
                else:
                    raise HubError(400, "", f"cannot do {operation!r} of {path!r}")
            sha = self.hub.add_repo(kind, repo_id, files)
        address = f"{self.hub.url}/{_url_prefix(kind)}{repo_id}/commit/{sha}"
        self._send_json({"success": True, "commitOid": sha, "commitUrl": address})

    def _ndjson(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for line in self.body.splitlines():
            item = json.loads(line)
            yield item["key"], item["value"]

    # ---- the HTTP under it ----

    def _require_token(self) -> None:
        """Any token will do, but there has to be one."""
        if not self.headers.get("Authorization", "").startswith("Bearer "):
            raise HubError(401, "", "Invalid username or password.")

    def _requested_range(self, size: int) -> range | None:
        """The bytes a Range header asks for; None where there is none."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None or match.groups() == ("", ""):
            return None
        first, last = match.groups()
        if first == "":  # the last so many bytes
            span = range(max(size - int(last), 0), size)
        else:
            span = range(int(first), min(int(last) + 1, size) if last else size)
        if not span:
            raise HubError(416, "", f"no such range of {size} bytes")
        return span

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers, up to an empty line
            pass
        return body

    def _send_json(
        self, answer: object, headers: Mapping[str, str] | None = None, status: int = 200
    ) -> None:
        content = {"Content-Type": "application/json; charset=utf-8"}
        self._send(status, json.dumps(answer).encode(), content | dict(headers or {}))

    def _send_error(self, error: HubError) -> None:
        message = str(error).encode("ascii", "replace").decode()  # what a header can carry
        headers = {"Content-Type": "application/json", "X-Error-Message": message}
        if error.code:
            headers["X-Error-Code"] = error.code
        if error.sha is not None:
            headers["X-Repo-Commit"] = error.sha
        self._send(error.status, json.dumps({"error": str(error)}).encode(), headers)

    def _send(
        self, status: int, data: bytes, headers: Mapping[str, str], keep: int | None = None
    ) -> None:
        """The answer; of its bytes only the first `keep`, and then the connection breaks."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:keep])
        if keep is not None:
            self.close_connection = True
