"""Which versions the estimators, weights, checkpoints and the depth stage are tested with, as data.

Not every pair of every version: each version once, and the pairs that hosts have.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REFERENCE", "ROWS", "SUITE", "Environment", "Row"]


@dataclass(frozen=True)
class Environment:
    """A Python and what is installed in it; of several Pythons the first that is on the machine.

    Without any it is the one that the suite runs in, whose packages are those of ``requirements-dev.txt``.
    """

    name: str
    pythons: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One run. ``timm`` is put before what is installed, if it is named; ``tests`` are pytest's arguments.

    ``refused``: estimators that this timm is too old for. ``ignored``: beginnings of FutureWarnings that these packages
    cause one another; all other warnings are errors.
    """

    name: str
    environment: Environment
    timm: str | None
    tests: tuple[str, ...]
    refused: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()


_TESTING = ("pytest>=8", "hypothesis")
_DOWNLOADING = ("requests", "filelock", "tqdm")

_A1111 = (
    "numpy==1.26.2",
    "Pillow==9.5.0",
    "safetensors==0.4.2",
    "omegaconf==2.2.3",
    "scikit-image==0.21.0",
    "opencv-python==4.11.0.86",
)

SUITE = Environment("suite")

IPEX = Environment(  # what A1111 installs on Intel's graphics cards: --use-ipex
    "torch2.0",
    ("3.10",),
    ("torch==2.0.1", "torchvision==0.15.2", *_A1111, *_DOWNLOADING, *_TESTING),
)
FORGE = Environment(  # and A1111 on a Mac
    "torch2.3",
    ("3.10",),
    ("torch==2.3.1", "torchvision==0.18.1", *_A1111, *_DOWNLOADING, *_TESTING),
)
REFORGE = Environment(
    "torch2.9",
    ("3.11",),
    (
        "torch==2.9.0",
        "torchvision==0.24.0",
        "numpy==1.26.4",
        "Pillow==10.4.0",
        "safetensors==0.5.2",
        "omegaconf==2.2.3",
        "scikit-image==0.25.1",
        "opencv-python==4.11.0.86",
        *_DOWNLOADING,
        *_TESTING,
    ),
)
NEWEST = Environment(  # of the day it is made: `make clean` lets it be made again
    "newest",
    ("3.14", "3.13", "3.12"),
    (
        "torch",
        "torchvision",
        "numpy",
        "Pillow",
        "safetensors",
        "omegaconf",
        "scikit-image",
        "opencv-python",
        "transformers",
        *_DOWNLOADING,
        *_TESTING,
    ),
)

_ESTIMATORS = (
    "tests/estimators",
    "tests/webui/hooks/test_depth_stage.py",
    "tests/webui/hooks/test_other_devices.py",
)
_CHECKPOINTS = ("tests/weights", "tests/checkpoint")
_WITHOUT_A_HOST = (
    "tests/estimators",
    "--ignore=tests/estimators/test_parity.py",  # Stability's ldm, geffnet
    "--ignore=tests/estimators/test_depth_anything.py",  # the authors' package
    "tests/weights",
    "--ignore=tests/weights/test_reading.py",  # pytorch_lightning
    "tests/weights/test_catalog.py",  # convert, inspect and transplant take their names from Stability's ldm
    "tests/weights/test_install.py",
    "tests/weights/test_install_interrupted.py",
)

REFERENCE = Row("host", SUITE, None, _ESTIMATORS + _CHECKPOINTS)
"""A1111 v1.10.1: the values of all others are compared with those of this one."""

ROWS = (
    REFERENCE,
    # The newest that ControlNet beside us allows. Parity is shown by the values, which are those of the row above.
    Row("controlnet", SUITE, "timm==0.9.5", (*_ESTIMATORS, "--ignore=tests/estimators/test_parity.py")),
    # A timm of 2022 builds its backbones in one size only, and test_midas31 wants small ones.
    Row(
        "ipex",
        IPEX,
        "timm==0.6.7",
        (*_WITHOUT_A_HOST, "--ignore=tests/estimators/test_midas31.py"),
        refused=frozenset({"depth_anything_v2_small"}),
    ),
    Row("forge", FORGE, "timm==1.0.14", _WITHOUT_A_HOST),
    Row("reforge", REFORGE, "timm==1.0.14", _WITHOUT_A_HOST),
    Row("newest", NEWEST, "timm", (*_WITHOUT_A_HOST, "tests/versions/against_transformers.py")),
    Row(
        "newest-controlnet", NEWEST, "timm==0.9.5", _WITHOUT_A_HOST, ignored=("`torch.jit.",)
    ),  # which this timm is built on
)
