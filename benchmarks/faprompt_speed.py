"""FAPrompt against plain implementations, in one run: `python benchmarks/faprompt_speed.py [--photos 24] [--epochs 2]`.

Scoring, photo by photo. Plain: what a direct reading of the method does. For every photo all 11 prompts, and after the
prior the normal and the 10 refined prompts again, run through the text tower padded to 77 tokens. "Plain, first prompts
kept" encodes the unrefined prompts only once. Ours: unrefined prompts are encoded once, the tokens that all refined prompts
begin with once per call, and the tower stops at the last end token. The script fails unless maps and image scores agree
to 1e-5. Two ratios: "scoring" is text tower and scores from features that are there already, "with image" adds encoding
the photo, which is the same on both sides.

Training. Plain: every step encodes its photos again, from pixels in memory. Ours: an epoch after photos were encoded once.
Both have our text side; the script fails unless the losses of the first epoch agree to 1e-3.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from promptad.clip.backbone import load_backbone
from promptad.clip.features import Features, concatenate
from promptad.clip.preprocess import Preprocess
from promptad.data.photos import read_photo
from promptad.data.records import Record
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import epoch_generator
from promptad.learning.features import Encoder
from promptad.methods.faprompt.method import FAPrompt
from promptad.methods.registry import find_method
from promptad.prompts.layout import PromptSet

COOKIES = Path(__file__).resolve().parents[1] / "src/promptad/demo_photos/cookies"


def demo_records(count: int) -> list[Record]:
    """The demo's labelled photos, good and anomalous in turn."""
    good = [Record(path, 0, None, "cookie", "good") for path in sorted((COOKIES / "test/good").iterdir())]
    bad = [
        Record(path, 1, COOKIES / f"ground_truth/broken/{path.stem}_mask.png", "cookie", "broken")
        for path in sorted((COOKIES / "test/broken").iterdir())
    ]
    mixed = [record for pair in zip(good, bad, strict=False) for record in pair]
    return (mixed + bad[len(good) :] + good[len(bad) :])[:count]


def plain_encode(method: FAPrompt, prompts: PromptSet, shift: torch.Tensor | None = None) -> torch.Tensor:
    """(P, E) features of all prompts over all positions of the context, with the deep tokens."""
    embeddings = prompts.assemble(dict(method.module.slots.items()))
    if shift is not None:
        embeddings = prompts.assemble(dict(method.module.slots.items()), {"abnormal": shift})[0]
    tower, deep = method.backbone.text, method.module.deep_sets()
    x = F.pad(embeddings, (0, 0, 0, tower.sizes.context_length - embeddings.shape[1])) + tower.position_embedding
    for index, block in enumerate(tower.blocks):
        if 1 <= index <= len(deep):
            own = deep[index - 1]
            x = torch.cat([x[:, :1], own.expand(len(x), -1, -1), x[:, 1 + len(own) :]], dim=1)
        x = block(x, causal=True)
    return tower.projection(tower.ln_final(x[torch.arange(len(x)), prompts.eot]))


@torch.no_grad()
def plain_score(
    method: FAPrompt, features: Features, first: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image score and patch map of one photo, equation by equation; `first` are unrefined prompt features to use."""
    scale = method.config.scale

    def probability(x: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        pair = F.normalize(torch.stack([encoded[0], encoded[1:].mean(0)]), dim=-1)
        return (scale * F.normalize(x, dim=-1) @ pair.T).softmax(-1)

    encoded = plain_encode(method, method.prompts) if first is None else first
    patches = features.patches[0]
    s = probability(patches, encoded)
    top = s[:, 1].topk(method.config.patch_count).indices
    prior = method.module.prior(F.normalize(patches[top], dim=-1).flatten()[None])
    if first is None:
        refined = plain_encode(method, method.prompts, prior)
    else:
        refined = torch.cat([encoded[:1], plain_encode(method, method._refined, prior)])
    hatted = probability(patches, refined)
    text = probability(features.image[0], refined)[1]
    score = (text + (2 * s[:, 1].max() + hatted[:, 1].max()) / 3) / 2
    quarter = (s[:, 1] + 1 - s[:, 0] + hatted[:, 1] + 1 - hatted[:, 0]) / 4
    return score, quarter.view(features.grid)


def compare_training(method: FAPrompt, data: AuxiliarySet, photos: list, epochs: int) -> None:
    """Prints the time of an epoch of both sides and their ratio."""
    encoder, config = data.encoder, method.config
    steps = len(data.shuffled(torch.Generator().manual_seed(0), config.batch_size))
    ticks = [time.perf_counter()]
    history = method.train(data, progress=lambda done, total: ticks.append(time.perf_counter()))
    ours = median(ticks[(e + 1) * steps] - ticks[e * steps] for e in range(1, epochs))

    plain = FAPrompt(method.backbone, config)
    optimiser = torch.optim.Adam(plain.module.parameters(), lr=config.lr, betas=config.betas)
    losses = []
    began = time.perf_counter()
    for rows in data.shuffled(epoch_generator(config.seed, 1), config.batch_size):
        fresh = [photo.features[0] for photo in encoder.encode([photos[data.examples[row].photo] for row in rows])]
        kept = data.batch(rows)
        optimiser.zero_grad()
        loss = plain.loss(Batch(concatenate(fresh), kept.labels, kept.masks, kept.class_names))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    slow = time.perf_counter() - began
    worst = abs(sum(losses) / len(losses) - history[0]) / history[0]
    print(
        f"training, {len(data)} photos, {steps} steps an epoch: ours {ours:.2f} s an epoch after the first, plain "
        f"{slow:.2f} s, ratio {slow / ours:.1f}; losses of the first epoch differ by {worst:.1e}",
        flush=True,
    )
    if worst > 1e-3:
        raise SystemExit("the two sides do not compute the same")


def compare_scoring(method: FAPrompt, encoder: Encoder, photos: list) -> None:
    """Prints the median times of a photo and their ratios."""
    times: dict[str, list[float]] = {"image": [], "ours": [], "plain": [], "plain, first prompts kept": []}
    with torch.no_grad():
        first = plain_encode(method, method.prompts)
    worst = 0.0
    for number, photo in enumerate([photos[0], *photos]):
        began = time.perf_counter()
        (features,) = encoder.encode([photo])[0].features
        encoded = time.perf_counter()
        scores = method.score(features)
        ours = time.perf_counter()
        score, plain_map = plain_score(method, features)
        plain = time.perf_counter()
        plain_score(method, features, first)
        kept = time.perf_counter()
        worst = max(worst, float((scores.map[0] - plain_map).abs().max()), abs(float(scores.image[0] - score)))
        if number:  # the first one warms up, and has our unrefined prompts encoded
            for name, value in zip(times, (encoded - began, ours - encoded, plain - ours, kept - plain), strict=True):
                times[name].append(value)
    typical = {name: median(values) for name, values in times.items()}
    print(", ".join(f"{name} {1000 * value:.1f} ms" for name, value in typical.items()))
    image = typical["image"]
    for name in ("plain", "plain, first prompts kept"):
        scoring = typical[name] / typical["ours"]
        whole = (image + typical[name]) / (image + typical["ours"])
        print(f"{name}: ratio of scoring {scoring:.1f}, with image {whole:.2f}; values differ by at most {worst:.1e}")
    if worst > 1e-5:
        raise SystemExit("the two sides do not compute the same")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=24, help="at most 24, at least 2")
    parser.add_argument("--epochs", type=int, default=3, help="of our training, at least 2")
    parser.add_argument("--backbone", default="starter")
    options = parser.parse_args()
    backbone = load_backbone(options.backbone)
    method = FAPrompt(
        backbone, find_method("faprompt").make_config("clean", epochs=max(2, options.epochs), fit="squash")
    )
    layout = Preprocess(backbone.input_size, backbone.sizes.vision.patch_size, "squash")
    encoder = Encoder(backbone, layout, method.request)
    records = demo_records(options.photos)
    photos = [read_photo(record.path) for record in records]
    data = AuxiliarySet(method.choose(records), encoder, masks=True)
    print(f"{backbone.name}, preset clean, {len(photos)} photos, {torch.get_num_threads()} threads")
    compare_training(method, data, photos, max(2, options.epochs))
    compare_scoring(method, encoder, photos)


if __name__ == "__main__":
    main()
