"""WinCLIP against looking at one window after the other, and its sentences against padding. `python benchmarks/winclip_speed.py`

The same photo, 240 x 240 pixels, in the same run, one thread: features of the photo and its 365 windows in batches as the package
runs them, and window by window; and the 242 sentences cut at their last end token, as the package runs them, and padded to the 77
tokens of the context. Rounds alternate, medians are compared. The maps of both ways are compared too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from promptad.clip.backbone import Backbone, load_backbone, random_backbone
from promptad.clip.features import Features, window_patches
from promptad.clip.tokenizer import clip_tokenizer
from promptad.clip.zoo import find_checkpoint
from promptad.methods.registry import find_method
from promptad.prompts.words import ensemble

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what the work gave."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def one_by_one(backbone: Backbone, photo: torch.Tensor, sides: tuple[int, ...]) -> Features:
    """Features of a photo and its windows, one run of the tower each."""
    tower, _ = backbone.vit("this benchmark")
    method = find_method("winclip")
    request = replace(method.build(backbone, method.make_config(), "bottle").request, windows=())
    whole = tower(photo, request)
    windows = {
        side: torch.cat(
            [tower.encode_windows(photo, window[None]) for window in window_patches(whole.grid, side)], dim=1
        )
        for side in sides
    }
    return replace(whole, windows=windows)


def padded(backbone: Backbone, sentences: list[str]) -> torch.Tensor:
    """Text features, every sentence over the whole context."""
    rows, eot = backbone.tokenizer.batch(sentences)
    context = backbone.sizes.text.context_length
    ids = torch.tensor([[*row, *([0] * (context - len(row)))] for row in rows])
    tower = backbone.text
    x = tower.token_embedding(ids) + tower.position_embedding
    for block in tower.blocks:
        x = block(x, causal=True)
    return tower.projection(tower.ln_final(x[torch.arange(len(ids)), torch.tensor(eot)])).float()


def large_text() -> Backbone:
    """A text tower of the size that WinCLIP's backbone has (random weights; time does not depend on them)."""
    from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes

    row = find_checkpoint("ViT-B-16-plus-240/laion400m_e32")
    sizes = ClipSizes(row.embed_dim, row.activation, VisionSizes(32, 1, 2, 64, 16, 48), TextSizes(**row.text))
    return random_backbone(sizes, clip_tokenizer())


@torch.no_grad()
def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone()
    entry = find_method("winclip")
    method = entry.build(backbone, entry.make_config(), "bottle")
    photo = torch.randn(1, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    sides = method.config.windows
    times: dict[str, list[float]] = {"batched": [], "plain": [], "cut": [], "padded": []}
    texts = large_text()
    sentences = [sentence for side in ensemble("winclip", "bottle") for sentence in side]
    for _ in range(options.rounds):
        seconds, ours = timed(lambda: backbone.vision(photo, method.request))
        times["batched"].append(seconds)
        seconds, theirs = timed(lambda: one_by_one(backbone, photo, sides))
        times["plain"].append(seconds)
        seconds, cut = timed(lambda: texts.encode_texts(sentences))
        times["cut"].append(seconds)
        seconds, whole = timed(lambda: padded(texts, sentences))
        times["padded"].append(seconds)
    maps = (method.score(features).map for features in (ours, theirs))
    medians = {name: statistics.median(values) for name, values in times.items()}
    difference = (next(maps) - next(maps)).abs().max()
    print(f"photo and 365 windows: {medians['batched']:.2f} s batched, {medians['plain']:.2f} s window by window")
    print(f"ratio {medians['plain'] / medians['batched']:.1f}; largest difference of the maps {difference:.1e}")
    print(f"{len(sentences)} sentences: {medians['cut']:.2f} s cut, {medians['padded']:.2f} s padded to 77 tokens")
    print(f"ratio {medians['padded'] / medians['cut']:.1f}; largest difference {(cut - whole).abs().max():.1e}")


if __name__ == "__main__":
    main()
