"""A hub on this machine: as much of the real one's HTTP interface as uploading and loading a model needs."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_of_the_tests"


class Hub:
    """Repositories, all of them private: by name the commits in order, each with all files by path."""

    def __init__(self):
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.requests: list[str] = []
        self.address = ""

    def files(self, name, revision):
        """The commit that a branch or digest stands for."""
        commits = self.commits[name]
        return commits[-1] if revision == "main" else next(commit for commit in commits if commit[0] == revision)

    def commit(self, name, lines):
        """Take a commit in the hub's own form: one JSON object a line, contents in base 64."""
        files = dict(self.commits[name][-1][1])
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[name].append((digest, files))
        return digest


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def _answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": len(body), "Content-Type": "application/json", **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refused(self):
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        self._answer({"error": "Repository not found"}, 401, X_Error_Code="RepoNotFound", X_Error_Message="no")
        return True

    def do_POST(self):
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._refused():
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.commits.setdefault(name, [("0" * 40, {})])
            self._answer({"url": f"{self.hub.address}/{name}", "name": name, "id": "1"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = [{"path": each["path"], "uploadMode": "regular"} for each in json.loads(body)["files"]]
            self._answer({"files": [{**each, "shouldIgnore": False} for each in files]})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            digest = self.hub.commit(found[1], [json.loads(line) for line in body.splitlines()])
            address = f"{self.hub.address}/{found[1]}/commit/{digest}"
            self._answer({"success": True, "commitOid": digest, "commitUrl": address})
        else:
            self._answer({"error": "no such page"}, 404)

    def do_GET(self):
        path = unquote(self.path)
        self.hub.requests.append(f"{self.command} {path}")
        if self._refused():
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(\w+))?(?:\?.*)?", path):
            digest, files = self.hub.files(found[1], found[2] or "main")
            siblings = [{"rfilename": name} for name in sorted(files)]
            told = {"id": found[1], "sha": digest, "siblings": siblings, "private": True, "downloads": 0, "tags": []}
            self._answer(told)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(\w+)(?:\?.*)?", path):
            _, files = self.hub.files(found[1], found[2])
            rows = [(name, files[name]) for name in sorted(files)]
            self._answer(
                [{"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in rows]
            )
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            digest, files = self.hub.files(found[1], found[2])
            if found[3] not in files:
                self._answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=digest)
                return
            content = files[found[3]]
            mark = hashlib.sha1(content).hexdigest()
            self._answer(content, ETag=f'"{mark}"', X_Repo_Commit=digest, Content_Type="application/octet-stream")
        else:
            self._answer({"error": "no such page"}, 404)

    do_HEAD = do_GET

    def log_message(self, *said):
        """Say nothing."""


@contextmanager
def serve():
    """Run a hub for a while."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
