"""Whether a long film needs more memory than a short one, and whether a killed run loses or changes anything.

    python benchmarks/video.py [--frames 10000] [--kills 3] [--folder FOLDER]

Makes a synthetic film, runs `video --depth-only --estimator small` on it twice: once in one go, with its memory looked
at, once killed (SIGKILL) at random moments and started again. Prints peak memory of either half and what differs.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
SIZE = (64, 48)
SHOT = 400


def make_film(path: Path, frames: int) -> None:
    """A bar that wanders over a ground, another ground for each shot."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for number in range(frames):
            rng = np.random.default_rng(number // SHOT)
            coarse = rng.integers(0, 200, (SIZE[1] // 8, SIZE[0] // 8, 3))
            picture = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
            left = number % 48
            picture[16:30, left : left + 12] = (250, 240, 20)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def start(film: Path, output: Path) -> psutil.Popen:
    words = ["video", str(film), "-o", str(output), "--depth-only", "--estimator", "small", "--quiet"]
    return psutil.Popen([sys.executable, "-m", "lib_depth2img", *words], cwd=ROOT, stdout=subprocess.DEVNULL)


def done_in(output: Path) -> int:
    """How much is done: maps, then frames."""
    maps = output / ".depth2img" / "maps"
    return sum(1 for folder in (maps, output) if folder.is_dir() for _ in folder.iterdir())


def watched(process: psutil.Popen, output: Path, frames: int) -> list[tuple[int, int]]:
    """(how much is done, memory in bytes), once a second until the end."""
    seen = []
    while process.poll() is None:
        try:
            seen.append((done_in(output), process.memory_info().rss))
        except psutil.NoSuchProcess:
            break
        time.sleep(1)
    assert process.returncode == 0, f"{process.returncode} after {seen[-1:]} of {frames}"
    return seen


def digest_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.png"))}


def main() -> None:
    """Make, run, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    film, whole, killed, frames = folder / "film.mp4", folder / "whole", folder / "killed", arguments.frames
    make_film(film, frames)
    began = time.monotonic()
    seen = watched(start(film, whole), whole, frames)
    print(f"{frames} frames in one go: {time.monotonic() - began:.0f} s", flush=True)
    warm = [(done, memory) for done, memory in seen if done > 50]
    halves = [[memory for done, memory in warm if low <= done < low + frames // 2] for low in (0, frames // 2)]
    first, second = (max(half) / 2**20 for half in halves)
    print(
        f"peak of the first half {first:.0f} MiB, of the second {second:.0f} MiB ({second / first - 1:+.1%})",
        flush=True,
    )
    rng = random.Random(arguments.seed)
    for moment in sorted(rng.sample(range(20, 2 * frames - 20), arguments.kills)):
        process = start(film, killed)
        while process.poll() is None and done_in(killed) < moment:
            time.sleep(0.2)
        process.kill()
        process.wait()
        print(f"killed with {done_in(killed)} of {2 * frames} files written", flush=True)
    watched(start(film, killed), killed, frames)
    one, other = digest_of(whole), digest_of(killed)
    differing = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    print(f"{len(one)} frames, {len(differing)} differ", flush=True)
    if arguments.folder is None:
        shutil.rmtree(folder)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
