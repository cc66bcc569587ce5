"""Features of the bundled weights, against values stored at commit c110291, whose towers agreed with the released codes.

The numbers hold everything that decides a feature: four-bit weights, activation, heads, normalisation, the position table at
another grid, the tokenizer, the V-V stream. `python tests/parity/test_stored_values.py` prints them anew.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.preprocess import Preprocess, normalise
from promptad.prompts.layout import PromptSet, Slot

STORED: dict[str, tuple[float, ...]] = {
    "vv from 1, taps: image": (0.11393, -0.62636, 0.36872, 0.07355, 10.51973, 27.86593),
    "vv from 1, taps: patch 112": (0.06431, -0.03436, 0.11109, -0.02292, 9.53956, 15.96418),
    "vv from 1, taps: layer 3, patch 112": (0.00959, -0.00313, -0.03022, -0.02038, 3.35498, -2.13495),
    "vv from 1, taps: layer 8, patch 112": (0.10149, -0.03913, -0.14600, -0.04562, 3.71062, -1.19087),
    "vv from 6, plain class token: image": (0.05729, -0.03590, 0.09789, 0.02075, 2.60149, 4.88723),
    "vv from 6, plain class token: patch 112": (0.21150, -0.00918, 0.20515, -0.04776, 9.32331, 16.89487),
    "vv from 6, plain class token: layer 12, patch 112": (-1.03679, -0.03391, -0.18854, 0.32295, 15.70502, -14.56602),
    "taps after the next attention: image": (0.11393, -0.62636, 0.36872, 0.07355, 10.51973, 27.86593),
    "taps after the next attention: patch 112": (0.19139, 0.64781, 0.25251, 0.00743, 9.37780, 11.17745),
    "taps after the next attention: layer 4, patch 112": (0.10691, -0.10126, -0.11190, -0.08713, 3.50148, -3.70490),
    "text": (0.70478, -0.34840, 0.39211, 2.93976, 50.14905, 105.79359),
    "prompt": (-0.30724, -0.79826, 0.35600, -0.68054, 45.54731, 44.53070),
    "prompt, deep tokens": (-0.29451, -0.69065, 0.60956, -0.59016, 44.47948, 45.35414),
}


def photo() -> np.ndarray:
    """(240, 320, 3) uint8: two ramps and a dark disc, the same everywhere."""
    y, x = np.mgrid[0:240, 0:320]
    disc = (y - 120) ** 2 + (x - 200) ** 2 < 40**2
    return np.stack([x * 255 // 319, y * 255 // 239, np.where(disc, 20, 160)], axis=-1).astype(np.uint8)


@torch.no_grad()
def measured(clip: Backbone) -> dict[str, list[float]]:
    """The first values, the length and the sum of every kind of feature."""
    layout = Preprocess(240, 16, "squash")
    pixels = layout.pixels(photo(), layout.views(240, 320)[0])
    images = torch.from_numpy(normalise(pixels, clip.mean, clip.std))[None]
    out = {}
    for name, request in {
        "vv from 1, taps": FeatureRequest((3, 8), LocalStream(1)),
        "vv from 6, plain class token": FeatureRequest(
            (12,), LocalStream(6), normalise_class=False, positions="bilinear"
        ),
        "taps after the next attention": FeatureRequest((4,), LocalStream(1, "maskclip"), "after_next_attention"),
    }.items():
        features = clip.vision(images, request)
        out[f"{name}: image"] = features.image[0]
        out[f"{name}: patch 112"] = features.patches[0, 112]
        for layer, tap in features.taps.items():
            out[f"{name}: layer {layer}, patch 112"] = tap[0, 112]
    out["text"] = clip.encode_texts(["a photo of a metal nut with scratch."])[0]
    prompts = PromptSet([[Slot("p"), "metal nut", "."]], {"p": (1, 4)}, clip)
    tokens = torch.linspace(-0.02, 0.02, 4 * prompts.width).view(1, 4, -1)
    out["prompt"] = clip.text.encode_embeddings(prompts.assemble({"p": tokens}), prompts.eot)[0]
    deep = [torch.full((3, prompts.width), 0.01)]
    out["prompt, deep tokens"] = clip.text.encode_embeddings(prompts.assemble({"p": tokens}), prompts.eot, deep)[0]
    return {k: [*map(float, v[:4]), float(v.norm()), float(v.sum())] for k, v in out.items()}


@pytest.fixture(scope="module")
def values() -> dict[str, list[float]]:
    return measured(load_backbone("starter"))


@pytest.mark.parametrize("name", STORED)
def test_features_of_the_starter_are_what_they_were(values, name):
    np.testing.assert_allclose(values[name], STORED[name], rtol=2e-4, atol=2e-4)


def test_every_feature_is_stored(values):
    assert values.keys() == STORED.keys()


if __name__ == "__main__":
    for key, row in measured(load_backbone("starter")).items():
        print(f"    {key!r}: ({', '.join(f'{value:.5f}' for value in row)}),")
