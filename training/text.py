"""Stage 4, the text encoder: a small OpenCLIP text tower that learns what a caption says, before any picture.

    python -m training.text --out runs/text

It learns to name the subject, its colour and material, the place, its colour and the light from every token at or after
the end of the caption. The UNet's cross-attention sees all 77 tokens, so the meaning then is wherever it looks.
Tokens that no caption uses stay zero, which makes unknown words silent, and known ones are heard among them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from ldm.modules.encoders.modules import FrozenOpenCLIPEmbedder
from torch import nn

from lib_depth2img.checkpoint.small_model import ARCHITECTURE, register_architecture

from .loop import Settings, add_settings, settings_from, train
from .scenes import INDOORS, OUTDOORS, TABLE
from .words import COLOURS, LIGHTS, MATERIALS, PLACES, SUBJECTS, Look, caption, draw_look

__all__ = ["build", "known_tokens", "train_text"]

_ASPECTS = {"colour": tuple(COLOURS), "material": tuple(MATERIALS), "light": tuple(LIGHTS), "place": tuple(PLACES),
            "place_colour": tuple(COLOURS), "subject": SUBJECTS}  # fmt: skip


def build() -> nn.Module:
    """The untrained text stage, as ldm wraps it."""
    register_architecture()
    return FrozenOpenCLIPEmbedder(arch=ARCHITECTURE, version=None, device="cpu", freeze=False, layer="last")


def draw_caption(rng: np.random.Generator) -> tuple[Look, str]:
    """A look that needs no scene, and a caption of it."""
    subject = str(rng.choice(SUBJECTS))
    places = [INDOORS, OUTDOORS, TABLE, ("wall",)][rng.integers(4)]
    look = draw_look(rng, subject, places)
    return look, caption(look, rng)


def known_tokens(count: int = 4000) -> torch.Tensor:
    """The ids of all tokens that captions are made of."""
    rng = np.random.default_rng(0)
    return open_clip.tokenize([draw_caption(rng)[1] for _ in range(count)] + [""]).unique()


def _answers(look: Look, text: str) -> list[int]:
    """The class of each aspect, or the one after the last class where the caption does not say."""
    said = text.replace(",", " ").split()
    found = []
    for aspect, classes in _ASPECTS.items():
        value = getattr(look, aspect)
        silent = value not in said or (aspect == "place_colour" and PLACES[look.place].colour is not None)
        found.append(len(classes) if silent else classes.index(value))
    return found


class _Reader(nn.Module):
    """The text stage with one linear question per aspect."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = build()
        width = self.stage.model.ln_final.normalized_shape[0]
        self.heads = nn.ModuleList(nn.Linear(width, len(classes) + 1) for classes in _ASPECTS.values())


def _noisy(rng: np.random.Generator, tokens: torch.Tensor) -> torch.Tensor:
    """Now and then an unknown word between the known ones."""
    for row in tokens:
        if rng.random() < 0.25:
            at, end = int(rng.integers(1, 4)), int(row.argmax())
            row[at + 1 : end + 2] = row[at : end + 1].clone()
            row[at] = int(rng.integers(1000, 49000))
    return tokens


def train_text(folder: Path, settings: Settings, *, batch: int = 48) -> nn.Module:
    """Train; return the text stage with its averaged weights."""
    torch.manual_seed(settings.seed)
    model = _Reader().to(settings.device)
    table = model.stage.model.token_embedding.weight
    known = torch.zeros(table.shape[0], 1)
    known[known_tokens()] = 1
    with torch.no_grad():
        table *= known * 25  # to deviation 0.5: the words are most of what this encoder knows
    table.register_hook(lambda gradient: gradient * known)
    model.stage.model.visual = None

    def loss(rng: np.random.Generator, _step: int) -> dict[str, torch.Tensor]:
        drawn = [draw_caption(rng) for _ in range(batch)]
        drawn = [(look, "" if rng.random() < 0.02 else text) for look, text in drawn]
        tokens = _noisy(rng, open_clip.tokenize([text for _, text in drawn]))
        wanted = torch.tensor([_answers(look, text) for look, text in drawn])
        states = model.stage.encode_with_transformer(tokens.to(settings.device))
        ends = tokens.argmax(1)
        at = torch.stack([ends, *(ends + torch.from_numpy(rng.integers(0, 77 - ends.numpy())) for _ in range(5))], 1)
        heard = states[torch.arange(batch)[:, None], at].flatten(0, 1)
        answers = wanted.repeat_interleave(at.shape[1], 0)
        losses, right = [], []
        for head, answer in zip(model.heads, answers.T, strict=True):
            guess = head(heard)
            losses.append(F.cross_entropy(guess, answer))
            right.append((guess.argmax(1) == answer).float().mean())
        return {"loss": torch.stack(losses).mean(), "accuracy": torch.stack(right).mean()}

    return train(model, loss, folder, settings).stage


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    add_settings(parser, steps=900, learning_rate=1e-3)
    given = parser.parse_args()
    stage = train_text(given.out, settings_from(given, weight_decay=0.0, average=0.99))
    torch.save({k: v for k, v in stage.state_dict().items() if "visual" not in k}, given.out / "text.pt")
    print(json.dumps({"tokens known": len(known_tokens())}))


if __name__ == "__main__":
    main()
