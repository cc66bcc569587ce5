"""Untrained text ensembles: the rows of the papers' tables that need no training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.methods.registry import find_method
from promptad.prompts.words import ensemble
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def test_the_templates_of_clip_ac_are_eighty_different_ones():
    normal, anomalous = ensemble("clip_ac", "metal nut")
    assert len(set(normal)) == len(set(anomalous)) == 80
    assert "a photo of a large normal metal nut." in normal and "a photo of a large anomalous metal nut." in anomalous
    assert all(sentence.endswith(".") or sentence.endswith("in a video game.") for sentence in normal)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["clean", "paper", "release", "clip-ac", "maskclip"])
def test_every_preset_is_the_softmax_of_two_prototypes(backbone, preset):
    entry = find_method("clip")
    config = entry.make_config(preset)
    method = entry.build(backbone, config, "metal nut")
    features = backbone.vision(torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)), method.request)
    scores = method.score(features)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=-1, keepdims=True)  # noqa: E731
    sides = [
        unit(unit(backbone.encode_texts(sentences).double().numpy()).mean(axis=0))
        for sentences in ensemble(config.sentences, "metal nut")
    ]
    for rows, ours in ((features.image, scores.image), (features.patches, scores.map.flatten(1))):
        logits = 100 * unit(rows.double().numpy()) @ np.stack(sides, axis=1)
        np.testing.assert_allclose(ours.numpy(), 1 / (1 + np.exp(logits[..., 0] - logits[..., 1])), atol=1e-5)
    assert method.request.local.attention == {"clean": "vv", "maskclip": "maskclip_official"}.get(preset, "qk")
