"""The files that can be installed, as data: names, sizes, hashes, where they still are, and under which licence.

Stability's own repositories are gone; these copies were reported with identical hashes. A size is only stated where it
is known to the byte. The two v2.1 hashes begin with the prefix in the files' official names; in full they are what
other public projects pin for the same release files. Those of Depth Anything V2 and of its copies are pinned alike by
several projects; that of dpt_swin2_large_384 by one; of dpt_swin2_tiny_256 none was found.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InstallError

__all__ = [
    "ESTIMATORS",
    "FILES",
    "HUB",
    "VARIANTS",
    "CatalogFile",
    "Copy",
    "HubSource",
    "Licence",
    "UrlSource",
    "estimator_file",
    "file_for",
    "file_with_sha256",
    "variant",
]

PLAUSIBLE = 0.02  # how far a size may be from one that is only roughly known
GUESSED = 0.5  # and from one that was worked out from the network, of a file that nobody has told anything of


@dataclass(frozen=True)
class Licence:
    """A licence and where to read it. ``commercial``: whether the weights may be used to earn money."""

    name: str
    url: str
    commercial: bool = True

    def __str__(self) -> str:
        return self.name if self.commercial else f"{self.name}, not for commercial use"


HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HubSource:
    """A file in a Hugging Face model repository."""

    repository: str
    filename: str

    def __str__(self) -> str:
        return f"Hugging Face {self.repository}: {self.filename}"

    @property
    def path(self) -> str:
        """Where it lies on Hugging Face, and on mirrors of it."""
        return f"/{self.repository}/resolve/main/{self.filename}"

    @property
    def url(self) -> str:
        """Where a browser finds it, on any machine; downloads go by HF_ENDPOINT instead."""
        return HUB + self.path


@dataclass(frozen=True)
class UrlSource:
    """A file at a plain address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Copy:
    """The same weights in a file of another form, as other programs keep them: used where it is found, not installed.

    names: what it is called there.
    """

    names: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class CatalogFile:
    """One file: what it is called once installed, how to know it, and where to get it, best source first.

    nbytes: the exact size, or None where only `about_bytes` (to a percent) is known.
    sha256: None where no trustworthy one is known; such a file is taken as its source sends it, which `remark` says.
    variant: which form of the model pair's checkpoint this is, if it is one.
    estimator: the depth estimation preset these weights are for; None also for weights no preset here runs.
    """

    name: str
    nbytes: int | None
    about_bytes: int
    sha256: str | None
    sources: tuple[HubSource | UrlSource, ...]
    licence: Licence
    variant: str | None = None
    estimator: str | None = None
    copies: tuple[Copy, ...] = ()

    def may_have(self, nbytes: int) -> bool:
        """Whether a file of so many bytes may be this one."""
        if self.nbytes is not None:
            return nbytes == self.nbytes
        return abs(nbytes - self.about_bytes) <= (PLAUSIBLE if self.sha256 else GUESSED) * self.about_bytes

    def is_not(self, sha256: str) -> bool:
        """Whether a file with this sha256 is certainly another one."""
        return self.sha256 not in (None, sha256)

    @property
    def remark(self) -> str:
        """What is to be said to whoever gets it; mostly nothing."""
        return "" if self.sha256 else f"No sha256 of {self.name} is known to compare with: it is taken as it comes."

    @property
    def names(self) -> tuple[str, ...]:
        """What the file is called, here and at its sources."""
        at_sources = (
            source.filename if isinstance(source, HubSource) else source.url.rsplit("/", 1)[-1]
            for source in self.sources
        )
        return tuple(dict.fromkeys((self.name, *at_sources)))

    @property
    def size_text(self) -> str:
        """Its size in words, as exact as it is known."""
        return f"{self.nbytes:,} bytes" if self.nbytes is not None else f"about {self.about_bytes / 1e9:.2f} GB"


RAIL = Licence("CreativeML Open RAIL++-M", "https://huggingface.co/sd2-community/stable-diffusion-2-depth")
MIT_MIDAS = Licence("MIT", "https://github.com/isl-org/MiDaS/blob/master/LICENSE")
APACHE_DAV2 = Licence("Apache-2.0", f"{HUB}/depth-anything/Depth-Anything-V2-Small")
NC_DAV2 = Licence("CC-BY-NC-4.0", "https://creativecommons.org/licenses/by-nc/4.0/", commercial=False)
MIT_DPT = Licence("MIT", "https://github.com/isl-org/DPT/blob/main/LICENSE")

DPT_RELEASE = "https://github.com/intel-isl/DPT/releases/download/1_0"
MIDAS_V21_RELEASE = "https://github.com/AlexeyAB/MiDaS/releases/download/midas_dpt"
MIDAS_RELEASES = "https://github.com/isl-org/MiDaS/releases/download"

FILES: tuple[CatalogFile, ...] = (
    CatalogFile(
        name="512-depth-ema.ckpt",
        nbytes=5_707_592_867,
        about_bytes=5_707_592_867,
        sha256="ece79d931a1f3c27fb98a0c0bc6aa7d61168879cd52b4ad7b26e3106f9748ef1",
        sources=(
            HubSource("sd2-community/stable-diffusion-2-depth", "512-depth-ema.ckpt"),
            HubSource("ckpt/stable-diffusion-2-depth", "512-depth-ema.ckpt"),
        ),
        licence=RAIL,
        variant="ckpt",
    ),
    CatalogFile(
        name="512-depth-ema.safetensors",
        nbytes=None,
        about_bytes=5_710_000_000,
        sha256="59cb052d4409654936139693b57e4632d119bdd38df9a3cdf30d4a63799a4853",
        sources=(
            HubSource("sd2-community/stable-diffusion-2-depth", "512-depth-ema.safetensors"),
            HubSource("webui/stable-diffusion-2-depth", "512-depth-ema.safetensors"),
            HubSource("radames/stable-diffusion-2-depth-img2img", "512-depth-ema.safetensors"),
        ),
        licence=RAIL,
        variant="safetensors",
    ),
    CatalogFile(
        name="512-depth-ema-fp16.safetensors",
        nbytes=None,
        about_bytes=2_850_000_000,
        sha256="1edad0394713bc4393bbdc06f1940c77ed78c6be4cc8c3a25da972caf5003903",
        sources=(HubSource("webui/stable-diffusion-2-depth", "512-depth-ema-fp16.safetensors"),),
        licence=RAIL,
        variant="fp16",
    ),
    CatalogFile(
        name="dpt_hybrid-midas-501f0c75.pt",
        nbytes=492_757_791,
        about_bytes=492_757_791,
        sha256="501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853",
        sources=(
            UrlSource(f"{DPT_RELEASE}/dpt_hybrid-midas-501f0c75.pt"),
            HubSource("lllyasviel/Annotators", "dpt_hybrid-midas-501f0c75.pt"),
        ),
        licence=MIT_DPT,
        estimator="dpt_hybrid",
    ),
    CatalogFile(
        name="dpt_large-midas-2f21e586.pt",
        nbytes=1_376_378_527,
        about_bytes=1_376_378_527,
        sha256="2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69",
        sources=(
            UrlSource(f"{DPT_RELEASE}/dpt_large-midas-2f21e586.pt"),
            UrlSource(f"{MIDAS_RELEASES}/v3/dpt_large_384.pt"),
        ),
        licence=MIT_DPT,
        estimator="dpt_large",
    ),
    CatalogFile(
        name="midas_v21-f6b98070.pt",
        nbytes=422_509_849,
        about_bytes=422_509_849,
        sha256="f6b980704cfd7259c7cc2b058c2f160159c55e84b3b6c08331b4156a84629f70",
        sources=(
            UrlSource(f"{MIDAS_V21_RELEASE}/midas_v21-f6b98070.pt"),
            UrlSource(f"{MIDAS_RELEASES}/v2_1/midas_v21_384.pt"),
        ),
        licence=MIT_MIDAS,
        estimator="midas_v21",
    ),
    CatalogFile(
        name="midas_v21_small-70d6b9c8.pt",
        nbytes=85_761_505,
        about_bytes=85_761_505,
        sha256="70d6b9c891758c67f974a6097fb0c608c7ee67fb81ac3e5588847d5596d56fca",
        sources=(
            UrlSource(f"{MIDAS_V21_RELEASE}/midas_v21_small-70d6b9c8.pt"),
            UrlSource(f"{MIDAS_RELEASES}/v2_1/midas_v21_small_256.pt"),
        ),
        licence=MIT_MIDAS,
        estimator="midas_v21_small",
    ),
    CatalogFile(
        name="depth_anything_v2_vits.pth",
        nbytes=99_218_434,
        about_bytes=99_218_434,
        sha256="715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378",
        sources=(HubSource("depth-anything/Depth-Anything-V2-Small", "depth_anything_v2_vits.pth"),),
        licence=APACHE_DAV2,
        estimator="depth_anything_v2_small",
        copies=(
            Copy(
                ("depth_anything_v2_vits.safetensors", "depth_anything_v2_vits_fp16.safetensors"),
                "a7c1a8c8cdd7885fb8391069cd1eee789126c8d896f7de6750499b1097f817ea",
            ),
            Copy(
                ("depth_anything_v2_vits_fp32.safetensors",),
                "cb2d537ed6e45921f27f61f0b605dcfafb6b97c7d1a15e551280bdd867605c86",
            ),
        ),
    ),
    CatalogFile(
        name="depth_anything_v2_vitb.pth",
        nbytes=389_961_218,
        about_bytes=389_961_218,
        sha256="0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
        sources=(HubSource("depth-anything/Depth-Anything-V2-Base", "depth_anything_v2_vitb.pth"),),
        licence=NC_DAV2,
        estimator="depth_anything_v2_base",
        copies=(
            Copy(
                ("depth_anything_v2_vitb.safetensors", "depth_anything_v2_vitb_fp16.safetensors"),
                "386758cbd2a2cac62ca62286d3ba810734561b3097d86a585dd3dac357153941",
            ),
            Copy(
                ("depth_anything_v2_vitb_fp32.safetensors",),
                "faf1f5673511fb897525781a177c5001fc790c266cff518b95e516f4912cc42b",
            ),
        ),
    ),
    CatalogFile(
        name="depth_anything_v2_vitl.pth",
        nbytes=1_341_395_338,
        about_bytes=1_341_395_338,
        sha256="a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        sources=(HubSource("depth-anything/Depth-Anything-V2-Large", "depth_anything_v2_vitl.pth"),),
        licence=NC_DAV2,
        estimator="depth_anything_v2_large",
        copies=(
            Copy(
                ("depth_anything_v2_vitl.safetensors", "depth_anything_v2_vitl_fp16.safetensors"),
                "f075a9099f94bae54a5bfe21a1423346429309bae40abb85b9935985b1f35a09",
            ),
            Copy(
                ("depth_anything_v2_vitl_fp32.safetensors",),
                "203aba6a1b551aa6a1818652b92ac9a43a50fdc7daef9780eb265e4ee9c7521e",
            ),
        ),
    ),
    CatalogFile(
        name="dpt_beit_large_512.pt",
        nbytes=1_581_966_003,
        about_bytes=1_581_966_003,
        sha256="9e9e900747e9e8b3112df716979219836a27716277b3d0dc53889cbba8b82328",
        sources=(UrlSource(f"{MIDAS_RELEASES}/v3_1/dpt_beit_large_512.pt"),),
        licence=MIT_MIDAS,
        estimator="dpt_beit_large_512",
    ),
    CatalogFile(
        name="dpt_beit_large_384.pt",
        nbytes=1_441_465_011,
        about_bytes=1_441_465_011,
        sha256="9a86e82345dee25004eeacbc25db11fae827d32cd6939a9056eb7db6ef895413",
        sources=(UrlSource(f"{MIDAS_RELEASES}/v3_1/dpt_beit_large_384.pt"),),
        licence=MIT_MIDAS,
        estimator="dpt_beit_large_384",
    ),
    CatalogFile(
        name="dpt_swin2_large_384.pt",
        nbytes=None,
        about_bytes=880_000_000,
        sha256="8820c77a09e6b1d4bf2bcf71d1f52509239aa07c5f51709d8eee95c8775d5ec8",
        sources=(UrlSource(f"{MIDAS_RELEASES}/v3_1/dpt_swin2_large_384.pt"),),
        licence=MIT_MIDAS,
        estimator="dpt_swin2_large_384",
    ),
    CatalogFile(
        name="dpt_swin2_tiny_256.pt",
        nbytes=None,
        about_bytes=172_000_000,
        sha256=None,
        sources=(UrlSource(f"{MIDAS_RELEASES}/v3_1/dpt_swin2_tiny_256.pt"),),
        licence=MIT_MIDAS,
        estimator="dpt_swin2_tiny_256",
    ),
)

VARIANTS: tuple[str, ...] = tuple(file.variant for file in FILES if file.variant)
ESTIMATORS: tuple[str, ...] = tuple(file.estimator for file in FILES if file.estimator)


def file_for(name: str) -> CatalogFile:
    """The entry of the file called `name` once installed.

    Raises:
        InstallError: no such file.
    """
    for file in FILES:
        if file.name == name:
            return file
    raise InstallError(f"No file {name!r} is known; known are {', '.join(file.name for file in FILES)}.")


def file_with_sha256(digest: str) -> CatalogFile | None:
    """The entry with this sha256 (hexadecimal, any case), or with a copy of it; or None."""
    wanted = digest.lower()
    return next(
        (file for file in FILES if wanted in (file.sha256, *(copy.sha256 for copy in file.copies))),
        None,
    )


def estimator_file(preset: str) -> CatalogFile:
    """The weights of a depth estimation preset, such as "dpt_hybrid".

    Raises:
        InstallError: no weights are known for it.
    """
    for file in FILES:
        if file.estimator == preset:
            return file
    raise InstallError(f"No weights are known for the estimator {preset!r}; known are {', '.join(ESTIMATORS)}.")


def variant(name: str) -> CatalogFile:
    """The model pair's checkpoint in the form "ckpt", "safetensors" or "fp16".

    Raises:
        InstallError: no such form.
    """
    for file in FILES:
        if file.variant == name:
            return file
    raise InstallError(f"The depth checkpoint comes as {', '.join(VARIANTS)}, not as {name!r}.")
