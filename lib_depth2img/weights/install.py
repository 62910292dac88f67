"""Install a file of the catalogue: downloaded, resumed, verified, and only then given its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InstallError
from ..progress import Progress, Reporter
from ..replacing import when_let_go
from .addresses import SourceError, locate
from .catalog import CatalogFile, HubSource, UrlSource
from .download import as_install_error, fetch
from .hashing import sha256_of

__all__ = ["DigestOf", "computed", "install", "make_folder"]

DigestOf = Callable[[Path, Callable[[], str]], str]
"""The sha256 of the file at a path: from a note of before, or by calling the function beside it, and noted."""

LOCK_POLL = 0.5  # seconds between two looks at a lock that somebody else holds


def computed(_path: Path, compute: Callable[[], str]) -> str:
    """Nothing is noted: the digest is computed each time."""
    return compute()


def install(
    file: CatalogFile,
    target_dir: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    digest_of: DigestOf = computed,
) -> Path:
    """Make sure that `file` lies in `target_dir` under its own name, with the right size and sha256; returns its path.

    A file already there is verified and kept. Otherwise the sources are tried in order; what was downloaded before, in
    this run or one that was killed, is not asked for again. `progress` is called a few times a second, `cancelled` is
    asked as often. Two installations of the same file wait for each other, across processes too. `digest_of` may know
    the sha256 of a file that was verified before, which spares reading gigabytes; by default it is computed.

    Raises:
        InstallCancelled: `cancelled` said so; what was downloaded is kept.
        InstallError: another file lies there under the name, no source had the file (the text lists them and the way by
            hand), no disk space, another program holds the file, or the folder cannot be read or written to.
    """
    target = Path(target_dir).expanduser() / file.name
    reporter = Reporter(file.name, progress, cancelled)
    with as_install_error(target):
        if target.exists():
            return _kept(file, target, reporter, digest_of)
        make_folder(target.parent)
        part = target.with_name(f"{file.name}.{(file.sha256 or 'unknown')[:8]}.part")
        with _lock(part.with_suffix(".lock"), reporter):
            if target.exists():  # whoever held the lock has brought it in
                return _kept(file, target, reporter, digest_of)
            _download(file, part, reporter)
            _name(part, target, reporter)
        if file.sha256:
            verified = file.sha256  # this very moment: to be noted, not to be read
            digest_of(target, lambda: verified)
    return target


def _kept(file: CatalogFile, target: Path, reporter: Reporter, digest_of: DigestOf) -> Path:
    """Verify what lies there; it may be somebody's own work under this name, so it is never removed."""
    size = target.stat().st_size
    if file.nbytes is not None and size != file.nbytes:
        raise InstallError(
            f"{target} is already there but is another file: {size:,} bytes, expected {file.nbytes:,} "
            f"(sha256 {file.sha256}). Move it away and start again."
        )
    digest = digest_of(target, lambda: sha256_of(target, reporter))
    if file.is_not(digest):
        raise InstallError(
            f"{target} is already there but is another file: sha256 {digest}, expected {file.sha256}. "
            "Move it away and start again."
        )
    return target


def make_folder(folder: Path) -> None:
    """Make the folder and those it lies in. Raises: InstallError."""
    with as_install_error(folder, "cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)


def _name(part: Path, target: Path, reporter: Reporter) -> None:
    """Give the verified download its name, as soon as whoever looks at the fresh file lets go of it."""
    problem = "is complete and verified, but cannot be renamed, most likely since another program holds it"
    with as_install_error(part, problem, remedy="Start again in a moment: nothing is downloaded anew."):
        when_let_go(lambda: part.replace(target), meanwhile=reporter.check)


@contextmanager
def _lock(path: Path, reporter: Reporter) -> Iterator[None]:
    """Hold a lock of the operating system, which ends with its process, however that ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=LOCK_POLL)
            break
        except Timeout:
            reporter.at("waiting", 0, None)
    try:
        yield
    finally:
        lock.release()
    # Only after success, and harmless then: whoever still waits for the removed one finds the file in place.
    with suppress(OSError):
        path.unlink()


def _download(file: CatalogFile, part: Path, reporter: Reporter) -> None:
    tried: list[str] = []
    for source in file.sources:
        try:
            return _download_from(source, file, part, reporter=reporter)
        except SourceError as error:
            tried.append(f"{source} ({error})")
    sha256 = f"must be {file.sha256}" if file.sha256 else "is not known"
    raise InstallError(
        f"{file.name} could not be downloaded. Tried: {'; '.join(tried)}. "
        f"By hand: get {file.sources[0].url} in any way, save it as {part.with_name(file.name)}, and install again, "
        f"which verifies it. Its sha256 {sha256}, its size {file.size_text}."
    )


def _download_from(source: HubSource | UrlSource, file: CatalogFile, part: Path, *, reporter: Reporter) -> None:
    reporter.at("asking", 0, None)
    remote = locate(source, file)
    while True:
        resumed = part.exists() and part.stat().st_size > 0
        _check_space(part, file.nbytes or file.about_bytes)
        fetch(remote, part, reporter)
        digest = when_let_go(lambda: sha256_of(part, reporter), meanwhile=reporter.check)
        if not file.is_not(digest) and file.nbytes in (None, part.stat().st_size):
            return
        size = part.stat().st_size
        when_let_go(part.unlink, meanwhile=reporter.check)
        if not resumed:
            raise SourceError(
                f"it sent a wrong file of {size:,} bytes, which was removed: sha256 {digest}, expected {file.sha256}"
            )
        # The wrong bytes may stem from an earlier run and another source: once more, all of it from this one.


def _check_space(part: Path, nbytes: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if free < nbytes - have:
        raise InstallError(
            f"{part.parent} has {free / 1e9:.2f} GB free, but {(nbytes - have) / 1e9:.2f} GB are still needed. "
            "Make room or choose another folder."
        )
