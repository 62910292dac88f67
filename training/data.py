"""Stage 1, the data: draw scenes, render each under several looks, keep pictures, nearness, labels and captions.

    python -m training.data --out data/train --scenes 6000 --looks 3 --size 256 --seed 1

Each scene is made from (seed, its number) alone, so an interrupted run goes on where it stopped, and the number of
processes changes nothing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from .render import render
from .scenes import FAMILIES, Scene, draw_scene, nearness
from .words import Look, draw_look

__all__ = ["Dataset", "draw_sample", "generate"]


class Dataset:
    """The folder `generate` fills: memory-mapped arrays and one look per picture.

    pictures (n, k, s, s, 3) uint8; nearness (n, s, s) float16 in [0, 1], near = 1; labels (n, s, s) uint8.
    """

    def __init__(self, folder: Path) -> None:
        self.pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        self.nearness = np.load(folder / "nearness.npy", mmap_mode="r")
        self.labels = np.load(folder / "labels.npy", mmap_mode="r")
        lines = (folder / "looks.jsonl").read_text().splitlines()
        records = sorted((json.loads(line) for line in lines), key=lambda record: record["scene"])
        self.families = [record["family"] for record in records]
        self.looks = [[Look(**look) for look in record["looks"]] for record in records]

    def __len__(self) -> int:
        return len(self.looks)


def draw_sample(seed: int, number: int, size: int, looks: int, family: str | None = None) -> tuple[Scene, list[Look]]:
    """Scene `number` of the stream `seed`, and its looks."""
    rng = np.random.default_rng([seed, number])
    scene = draw_scene(rng, size, family)
    return scene, [draw_look(rng, scene.subject, scene.places) for _ in range(looks)]


def _one(job: tuple[str, int, int, int, int, str | None]) -> str:
    folder, seed, number, size, looks, family = job
    scene, drawn = draw_sample(seed, number, size, looks, family)
    arrays = {
        name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r+") for name in ("pictures", "nearness", "labels")
    }
    for index, look in enumerate(drawn):
        arrays["pictures"][number, index] = render(scene, look)
    arrays["nearness"][number] = nearness(scene.buffer.distance)
    arrays["labels"][number] = scene.buffer.label
    return json.dumps({"scene": number, "family": scene.family, "looks": [asdict(look) for look in drawn]})


def generate(
    folder: Path, *, scenes: int, looks: int, size: int, seed: int, family: str | None = None, processes: int = 2
) -> None:
    """Fill `folder` with `scenes` scenes (of one `family`) of `looks` looks each; a run that was stopped goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "looks.jsonl"
    shapes = {"pictures": ((scenes, looks, size, size, 3), np.uint8), "nearness": ((scenes, size, size), np.float16),
              "labels": ((scenes, size, size), np.uint8)}  # fmt: skip
    for name, (shape, dtype) in shapes.items():
        if not (folder / f"{name}.npy").exists():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape).flush()
    done = {json.loads(line)["scene"] for line in record.read_text().splitlines()} if record.exists() else set()
    jobs = [(str(folder), seed, number, size, looks, family) for number in range(scenes) if number not in done]
    with record.open("a") as lines:
        if processes > 1:
            with get_context("fork").Pool(processes) as pool:
                for line in pool.imap_unordered(_one, jobs, chunksize=8):
                    print(line, file=lines, flush=True)
        else:
            for job in jobs:
                print(_one(job), file=lines, flush=True)


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--looks", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", choices=FAMILIES, default=None, help="scenes of one kind only")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    sizes = {"scenes": given.scenes, "looks": given.looks, "size": given.size}
    generate(given.out, **sizes, seed=given.seed, family=given.family, processes=given.processes)


if __name__ == "__main__":
    main()
