"""`fit` of PromptAD against a plain implementation, in one run: `python benchmarks/fit_speed.py [--steps 100]`.

Plain: what a direct reading of the method does. Image prompts and pixel prompts are trained one after the other; every
step encodes the four photos again and runs every prompt over the padded 77 tokens. Ours: photos are encoded once, both
prompt sets share one pass, common beginnings of prompts are encoded once, and the text tower stops at the last end token.
Both sides start from the same values; the script fails unless their losses agree to 1e-3 over the first five steps. (Later
steps drift apart where Adam is used: it divides by gradients of the size of rounding errors.)

With fewer than 100 `--steps` both sides run that many and the ratio is of what was run; our one-time encoding then weighs
more, so the ratio at 100 steps is larger, not smaller.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.preprocess import Preprocess
from promptad.data.photos import read_photo
from promptad.learning.features import Encoder
from promptad.learning.optimise import Schedule, optimise
from promptad.methods.promptad.method import TASKS, PromptAD
from promptad.methods.registry import find_method

PHOTOS = Path(__file__).resolve().parents[1] / "src/promptad/demo_photos/cookies/train/good"


def plain_fit(method: PromptAD, encoder: Encoder, photos: list) -> list[float]:
    """Trains the same prompt sets the slow way and gives the loss of every step, both sets together."""
    histories = []
    config, context = method.config, method.backbone.sizes.text.context_length
    for task in TASKS:
        prompts = method._sets[task]

        def loss(task: str = task, prompts=prompts) -> torch.Tensor:
            features = [view for photo in encoder.encode(photos, reference=True) for view in photo.features]
            embeddings = prompts.compiled.assemble(prompts.parameters)
            padded = F.pad(embeddings, (0, 0, 0, context - embeddings.shape[1]))
            tower = method.backbone.text
            x = padded + tower.position_embedding
            for block in tower.blocks:
                x = block(x, causal=True)
            rows = x[torch.arange(len(x)), prompts.compiled.eot]
            raw = tower.projection(tower.ln_final(rows))
            if task == "image":
                groups = [F.normalize(torch.cat([f.image for f in features]), dim=-1).unsqueeze(1)]
            else:
                groups = [torch.cat([F.normalize(f.patches, dim=-1) for f in features])]
            return method._loss(task, raw, groups)

        lr = config.lr if task == "image" else config.lr_pixel or config.lr
        schedule = Schedule(config.optimiser, config.epochs, lr, config.momentum, config.weight_decay, config.final_lr)
        histories.append(optimise(prompts.parameters, loss, schedule))
    method._freeze()
    return [sum(values) for values in zip(*histories, strict=True)]


def compare(backbone: Backbone, preset: str, steps: int) -> None:
    """Prints both times and their ratio for one preset."""
    entry = find_method("promptad")
    config = replace(entry.make_config(preset, fit="squash"), epochs=steps)
    photos = [read_photo(path) for path in sorted(PHOTOS.iterdir())]
    layout = Preprocess(backbone.input_size, backbone.sizes.vision.patch_size, "squash")
    ours, plain = PromptAD(backbone, config, "cookie"), PromptAD(backbone, config, "cookie")
    encoder = Encoder(backbone, layout, ours.request)
    encoder.encode(photos[:1])  # warm up
    began = time.perf_counter()
    ours.fit([photo.features for photo in encoder.encode(photos, reference=True)])
    fast = time.perf_counter() - began
    began = time.perf_counter()
    history = plain_fit(plain, encoder, photos)
    slow = time.perf_counter() - began
    worst = max(abs(a - b) / abs(b) for a, b in list(zip(ours.history, history, strict=True))[:5])
    counts = {task: sum(ours.prompt_counts(task).values()) for task in TASKS}
    print(
        f"{backbone.name}, preset {preset}, {len(photos)} shots, {steps} steps, prompts {counts}: "
        f"ours {fast:.1f} s, plain {slow:.1f} s, ratio {slow / fast:.1f}; losses of the first steps differ by {worst:.1e}",
        flush=True,
    )
    if worst > 1e-3:
        raise SystemExit("the two sides do not compute the same")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--preset", default="clean,paper")
    parser.add_argument("--backbone", default="starter")
    options = parser.parse_args()
    backbone = load_backbone(options.backbone)
    for preset in options.preset.split(","):
        compare(backbone, preset, options.steps)


if __name__ == "__main__":
    main()
