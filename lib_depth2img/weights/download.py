"""Bring a file in over HTTP, going on where an earlier attempt stopped.

One streaming loop with Range requests for every kind of source: it resumes what another source or another run has
begun, to the byte, and can be cancelled.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import InstallError
from ..progress import Reporter
from .addresses import Remote, SourceError
from .catalog import CatalogFile

if TYPE_CHECKING:
    import requests

__all__ = ["as_install_error", "fetch"]

PIECE_BYTES = 128 * 1024  # at most
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a single byte
ATTEMPTS = 4  # in a row without a new byte
PAUSE = 1.0  # seconds before the second attempt, doubled for each one after
WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


class _BrokenOffError(Exception):
    """The connection broke or the server is busy; the same source may go on."""


def fetch(remote: Remote, part: Path, reporter: Reporter) -> None:
    """Download `remote` into `part`, whose bytes so far are kept; returns when it is complete.

    Raises:
        SourceError: the source refuses, sends something else, or breaks off again and again.
        InstallCancelled: the user said so; `part` is kept.
        InstallError: the disk is full or not writable.
    """
    with as_install_error(part):
        _fetch(remote, part, reporter)


@contextmanager
def as_install_error(
    path: Path,
    problem: str = "cannot be read or written",
    remedy: str = "Choose a folder that can be read and written to.",
) -> Iterator[None]:
    """Let what the system refuses leave as an `InstallError`: what of `path` failed, why, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = f"The disk of {path} is full. Make room and start again; what was downloaded is kept."
        elif error.errno == errno.EFBIG:
            text = f"The file system of {path} takes no file that large; choose another folder."
        else:
            text = f"{path} {problem}: {error.strerror or error}. {remedy}"
        raise InstallError(text) from error


def _fetch(remote: Remote, part: Path, reporter: Reporter) -> None:
    failures = 0
    while True:
        before = _size_of(part)
        try:
            _stream(remote, part, reporter)
        except _BrokenOffError as error:
            failures = 1 if _size_of(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise SourceError(f"{error} ({failures} times in a row)") from error
            _pause(PAUSE * 2 ** (failures - 1), reporter)
        else:
            return


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _pause(seconds: float, reporter: Reporter) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reporter.check()
        time.sleep(min(0.1, seconds))


def _stream(remote: Remote, part: Path, reporter: Reporter) -> None:
    import requests

    nbytes = remote.file.nbytes
    have = _size_of(part)
    if nbytes is not None and have >= nbytes:
        if have == nbytes:
            return
        _truncate(part)
        have = 0
    headers = {**remote.headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
    check = {"response": partial(_check_announced, file=remote.file)}
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=timeout, hooks=check) as response:
            if _ends_at(response, have):
                return
            start, total = _accept(response, part, have=have, file=remote.file)
            done = _write_body(response, part, reporter, start=start, total=total)
    except requests.RequestException as error:
        raise _BrokenOffError(f"broke off: {type(error).__name__} from {urlsplit(remote.url).netloc}") from error
    if total is not None and done < total:
        raise _BrokenOffError(f"the connection closed at byte {done:,} of {total:,}")


def _check_announced(response: requests.Response, *_: object, file: CatalogFile, **__: object) -> None:
    """Hugging Face says which file it has before it sends one on to where the bytes are.

    Raises:
        SourceError: it is another one.
    """
    sha256 = SHA256.search(response.headers.get("X-Linked-Etag", "").lower())
    if sha256 and file.is_not(sha256[0]):
        raise SourceError(f"it holds another file of this name: sha256 {sha256[0]}, expected {file.sha256}")
    size = _announced_size(response)
    if size is not None and not file.may_have(size):
        raise SourceError(f"it announces {size:,} bytes, the file has {file.size_text}")


def _announced_size(response: requests.Response) -> int | None:
    sizes = (answer.headers.get("X-Linked-Size", "") for answer in (*response.history, response))
    return next((int(size) for size in sizes if size.isdecimal()), None)


def _ends_at(response: requests.Response, have: int) -> bool:
    """Whether a server that was asked for what follows byte `have` says that nothing does: the part is complete."""
    ends = response.headers.get("Content-Range") == f"bytes */{have}" or _announced_size(response) == have
    return response.status_code == 416 and ends


def _accept(response: requests.Response, part: Path, *, have: int, file: CatalogFile) -> tuple[int, int | None]:
    """Where the body starts and where the whole file ends, as this response says.

    A server that ignores Range answers 200 and starts from the beginning.
    """
    status = response.status_code
    answer = f"HTTP {status} {response.headers.get('X-Error-Message') or response.reason}"[:200]
    if status in WORTH_RETRYING:
        raise _BrokenOffError(answer)
    if status == 416:
        # Our part is longer than this source's file: it came from elsewhere, or is broken. From the beginning, then.
        _truncate(part)
        raise _BrokenOffError(f"HTTP 416: it has no byte {have:,}")
    if status not in (200, 206):
        raise SourceError(answer)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise SourceError("it sends a web page: perhaps the network wants a login first")
    start, total = _content_range(response, have) if status == 206 else (0, _content_length(response))
    if total is not None and not file.may_have(total):
        raise SourceError(f"it sends {total:,} bytes, the file has {file.size_text}")
    return start, total if total is not None else file.nbytes


def _content_range(response: requests.Response, have: int) -> tuple[int, int | None]:
    match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != have:
        raise SourceError(f"it was asked for byte {have:,} and answered {response.headers.get('Content-Range')!r:.100}")
    return have, None if match[2] == "*" else int(match[2])


def _content_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _write_body(response: requests.Response, part: Path, reporter: Reporter, *, start: int, total: int | None) -> int:
    """Append the body from `start`; each piece is handed to the system at once, so that a killed process loses none."""
    done = start
    with _opened(part) as file:
        file.truncate(start)
        file.seek(start)
        reporter.at("downloading", done, total)
        for piece in _arriving(response):
            if total is not None and done + len(piece) > total:
                raise SourceError(f"it sends more than the {total:,} bytes it announced")
            file.write(piece)
            file.flush()
            done += len(piece)
            reporter.at("downloading", done, total)
    return done


def _arriving(response: requests.Response) -> Iterator[bytes]:
    """The body in the pieces in which it arrives.

    `Response.iter_content` gathers them to a size, and throws away what it has when the line breaks before that. So
    does all of urllib3 before 2.2; the standard library's response under it has `read1` everywhere.
    """
    body = response.raw._original_response
    left = _content_length(response)
    while left is None or left > 0:
        try:
            piece = body.read1(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
        except (OSError, HTTPException) as error:
            raise _BrokenOffError(f"broke off: {type(error).__name__} from {urlsplit(response.url).netloc}") from error
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _opened(part: Path) -> BufferedRandom:
    part.touch()
    return part.open("r+b")


def _truncate(part: Path) -> None:
    with _opened(part) as file:
        file.truncate(0)
