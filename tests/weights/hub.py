"""A local stand-in for Hugging Face and for a plain file server; it can misbehave."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Served:
    """One file and how it is served.

    statuses: answered in turn to GETs of the bytes, before the file is. cuts: after how many bytes each GET is cut off,
    in turn. hub_status: of the hub, before it sends one on to the bytes; words: what it says then. announced_*: lies of
    the hub about what will come. length: lie in Content-Length; end_unknown: a 416 does not say where the file ends;
    unmeasured: none is sent, and the end of the connection is the end of the file.
    """

    body: bytes
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    hub_status: int = 200
    words: str = ""
    announced_size: int | None = None
    announced_sha256: str | None = None
    length: int | None = None
    unmeasured: bool = False
    end_unknown: bool = False
    content_type: str = "application/octet-stream"
    ignores_range: bool = False
    wrong_range: bool = False
    stall_after: int | None = None
    chunk_pause: float = 0.0


class Hub:
    """The server: `files` by (repository, name) or by path; `log` of (method, path, Range header)."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.log: list[tuple[str, str, str | None]] = []
        self.authorizations: list[str | None] = []
        self.bytes_sent = 0
        self.pointers: tuple[str, ...] = ()
        self.bytes_from: str | None = None  # another server's url, as the hub's bytes come from one
        self.released = threading.Event()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, repository: str, name: str, served: Served) -> Served:
        path = f"/{repository}/resolve/main/{name}"
        self.files[path] = served
        self.pointers += (path,)
        return served

    def ranges(self) -> list[str | None]:
        """The Range header of each GET of bytes, in order."""
        return [wanted for method, path, wanted in self.log if method == "GET" and not path.startswith(self.pointers)]


class _Handler(BaseHTTPRequestHandler):
    server_hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client was killed, which is the point
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        hub = self.server_hub
        hub.log.append((self.command, path, self.headers.get("Range")))
        hub.authorizations.append(self.headers.get("Authorization"))
        served = hub.files.get(path.removeprefix("/cdn"))
        if served is None:
            self._plain(404)
        elif path in hub.pointers:
            self._redirect_to_bytes(served, path)
        else:
            self._send_bytes(served)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _redirect_to_bytes(self, served: Served, path: str) -> None:
        if served.hub_status != 200:
            self._plain(served.hub_status, {"X-Error-Message": served.words} if served.words else None)
            return
        digest = served.announced_sha256 or hashlib.sha256(served.body).hexdigest()
        size = len(served.body) if served.announced_size is None else served.announced_size
        origin = self.server_hub.bytes_from or self.server_hub.url
        facts = {"X-Repo-Commit": "0" * 40, "X-Linked-Size": str(size), "X-Linked-Etag": f'"{digest}"'}
        self._plain(302, {"Location": f"{origin}/cdn{path}", "ETag": '"pointer"', **facts})

    def _send_bytes(self, served: Served) -> None:
        if served.statuses:
            self._plain(served.statuses.pop(0))
            return
        start = 0
        wanted = self.headers.get("Range")
        if wanted and not served.ignores_range:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(served.body):
                self._plain(416, {} if served.end_unknown else {"Content-Range": f"bytes */{len(served.body)}"})
                return
        body = served.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", served.content_type)
        if start:
            begin = 0 if served.wrong_range else start
            self.send_header("Content-Range", f"bytes {begin}-{len(served.body) - 1}/{len(served.body)}")
        if served.unmeasured:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
        self.end_headers()
        self._send_body(served, body[: served.cuts.pop(0)] if served.cuts else body)

    def _send_body(self, served: Served, body: bytes) -> None:
        step = 64 * 1024
        for begin in range(0, len(body), step):
            if served.stall_after is not None and begin >= served.stall_after:
                self.server_hub.released.wait(30)
            chunk = body[begin : begin + step]
            self.server_hub.bytes_sent += len(chunk)  # before whoever receives it can ask
            self.wfile.write(chunk)
            time.sleep(served.chunk_pause)
        self.close_connection = True
