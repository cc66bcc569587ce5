"""A second image tower for the memory: every method that has one, from photos to saved files."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from promptad import Detector
from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream, concatenate
from promptad.clip.memory_tower import MemoryTower
from promptad.clip.preprocess import Preprocess, normalise
from promptad.data.tensor_file import read_saved
from promptad.errors import ConfigError, WeightsError
from promptad.judging import JudgedViews
from promptad.learning.features import Encoder, FeatureStore
from promptad.methods.catalogue import FACTS
from promptad.methods.contract import Scores, WordScores
from promptad.notices import PromptadNotice
from promptad.scoring.fusion import harmonic
from promptad.scoring.maps import onto_grid, upsample, values_a_patch
from tiny import dino_official, tiny_backbone, tiny_dino

METHODS = [name for name, facts in FACTS.items() if facts.memory]
FAST = {"promptad": {"epochs": 2}, "simplenet": {"steps": 80}, "padim": {"dimensions": 40}}


def both(side: int = 84, **other: object) -> Backbone:
    """A tiny CLIP, 6 x 6 patches at 48 pixels, with a tiny DINOv2 of `side` / 14 patches a side."""
    tower = MemoryTower("tiny-dino", "1" * 64, tiny_dino(**other), input_size=side)
    return replace(tiny_backbone(), memory=tower)


def photo(seed: int, size: tuple[int, int] = (60, 60)) -> np.ndarray:
    """A noisy grey square."""
    return np.random.default_rng(seed).integers(90, 130, (*size, 3), dtype=np.uint8)


def broken(size: tuple[int, int] = (60, 60), at: tuple[int, int] = (6, 36)) -> np.ndarray:
    """The same with a white spot of 14 pixels, by default in the upper right."""
    out = photo(9, size)
    out[at[0] : at[0] + 14, at[1] : at[1] + 14] = 255
    return out


def fitted(method: str, side: int = 84, *, backbone: Backbone | None = None, **settings: object) -> Detector:
    detector = Detector(
        method, object="metal nut", backbone=backbone or both(side), **{**FAST.get(method, {}), **settings}
    )
    return detector.fit([photo(seed) for seed in range(3)])


# -- features ----------------------------------------------------------------------------------------------------------


def test_features_of_both_towers_lie_side_by_side_and_travel_together():
    backbone = both()
    request = FeatureRequest(local=LocalStream(), memory=FeatureRequest(taps=(2, 4)))
    encoder = Encoder(backbone, Preprocess(48, 8, "squash"), request)
    first, second = (encoded.features[0] for encoded in encoder.encode([photo(0), photo(1)]))
    assert first.grid == (6, 6) and first.memory.grid == (6, 6) and first.taps == {} and first.tapped is first.memory
    assert sorted(first.tensors()) == ["image", "memory.image", "memory.tap2", "memory.tap4", "patches"]
    # Photo -> pixels at the tower's own size, with its own normalisation.
    pixels = np.asarray(Image.fromarray(photo(0)).resize((84, 84), Image.Resampling.BICUBIC))
    images = torch.from_numpy(normalise(pixels, backbone.memory.mean, backbone.memory.std))[None]
    assert torch.allclose(first.memory.taps[4], backbone.memory.tower(images, (4,))[4].patches, atol=1e-5)
    together = concatenate([first, second])
    assert len(together) == 2 and torch.equal(together[1:2].memory.taps[2], second.memory.taps[2])
    assert Features.with_tensors(together.tensors(), *together.grids).grids == ((6, 6), (6, 6))
    with pytest.raises(ValueError, match="patch grids do not fit"):
        Features.with_tensors(first.tensors(), (6, 6))
    assert first.nbytes > replace(first, memory=None).nbytes


def test_the_store_keeps_both_and_its_key_knows_the_second_tower(tmp_path):
    Image.fromarray(photo(0)).save(tmp_path / "a.png")
    request = FeatureRequest(memory=FeatureRequest(taps=(1,)))
    encoders = [
        Encoder(backbone, Preprocess(48, 8), request, cache=FeatureStore(tmp_path / "store"))
        for backbone in (both(), both(), both(side=98))
    ]
    first, again, other = (encoder.encode_files([tmp_path / "a.png"])[0].features[0] for encoder in encoders)
    keys = [encoder.key(tmp_path / "a.png") for encoder in encoders]
    assert keys[0] == keys[1] != keys[2]
    assert first.grids == again.grids == ((6, 6), (6, 6)) and other.grids == ((6, 6), (7, 7))
    assert all(torch.equal(value, again.tensors()[name]) for name, value in first.tensors().items())


def test_an_encoder_without_the_tower_that_is_asked_for_is_refused():
    with pytest.raises(ConfigError, match="has no second image tower"):
        Encoder(tiny_backbone(), Preprocess(48, 8), FeatureRequest(memory=FeatureRequest(taps=(1,))))
    with pytest.raises(ConfigError, match=r"must lie in 1..4"):
        Encoder(both(), Preprocess(48, 8), FeatureRequest(memory=FeatureRequest(taps=(9,))))


# -- methods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "side"),
    # 48 patches are too few for SimpleNet's networks.
    [(method, side) for method in METHODS for side in (56, 84, 126) if (method, side) != ("simplenet", 56)],
)
def test_methods_with_a_memory_find_the_spot_on_the_second_towers_grid(method, side):
    """4, 6 and 9 patches a side beside CLIP's 6."""
    detector = fitted(method, side, **({"parts": "memory"} if method == "promptad" else {}))
    assert detector.method.request.memory.taps == (2, 3)
    scores = detector.method.score(detector.encode(broken()).features[0])
    assert scores.map.shape == (1, side // 14, side // 14)
    result = detector.predict(broken())
    assert result.map.shape == (60, 60)
    row, column = np.unravel_index(result.map.argmax(), result.map.shape)
    assert row < 32 and column > 28, (row, column)
    assert result.score > detector.predict(photo(7)).score
    assert "tiny-dino" in result.backbone


@pytest.mark.parametrize("method", METHODS)
def test_saved_detectors_name_both_towers_and_score_the_same(method, tmp_path):
    detector = fitted(method, 98)
    path = detector.save(tmp_path / "d.safetensors")
    header = read_saved(path).header["backbone"]
    assert header["memory"] == "tiny-dino" and header["decides"]["memory"]["sha256"] == "1" * 64
    again = Detector.load(path, backbone=both(98))
    assert again.predict(broken()).score == detector.predict(broken()).score
    assert pickle.loads(pickle.dumps(detector)).predict(broken()).score == detector.predict(broken()).score
    assert copy.deepcopy(detector).backbone.memory is detector.backbone.memory
    for wrong in (tiny_backbone(), both(112)):
        with pytest.raises(WeightsError, match=r"memory differ"):
            Detector.load(path, backbone=wrong)


def test_words_and_prompts_stay_those_of_clip():
    plain = Detector("promptad", object="metal nut", backbone=tiny_backbone(), epochs=2, parts="text")
    plain.fit([photo(seed) for seed in range(3)])
    detector = fitted("promptad", 126)
    own, other = detector.method.prompt_features("image"), plain.method.prompt_features("image")
    assert all(torch.equal(own[name], other[name]) for name in own)
    # One map of both: the text's is brought to the memory's grid, then they are joined patch by patch.
    view = detector.encode(broken()).features[0]
    with_parts = {}
    for part in ("text", "memory"):
        detector.method.config = replace(detector.config, parts=part, fusion="harmonic")
        with_parts[part] = detector.method.score(view).map
    assert with_parts["text"].shape == (1, 6, 6) and with_parts["memory"].shape == (1, 9, 9)
    detector.method.config = replace(detector.config, parts="fused", fusion="harmonic")
    fused = harmonic(with_parts["memory"], onto_grid(with_parts["text"], (9, 9)))
    assert torch.allclose(detector.method.score(view).map, fused, atol=1e-6)


def test_the_word_of_the_hottest_patch_is_that_of_the_same_place():
    """On a map of 9 x 9 values whose largest lies in the upper right, over CLIP's 6 x 6 patches."""
    values = torch.zeros(1, 9, 9)
    values[0, 1, 7] = 1.0
    patches = torch.zeros(1, 36, 2)
    patches[0, :, 0] = 1.0
    patches[0, 1 * 6 + 5] = torch.tensor([0.0, 1.0])
    features = Features(torch.zeros(1, 4), None, grid=(6, 6))
    views = Preprocess(48, 8).views(48, 48)

    class Method:
        @staticmethod
        def words(_: Features) -> WordScores:
            return WordScores(("dent", "scratch"), torch.tensor([[0.5, 0.5]]), patches)

    from promptad.learning.features import PhotoFeatures

    judged = JudgedViews(PhotoFeatures((48, 48), views, [features]), [Scores(torch.ones(1), values, {})])
    assert judged.defects(Method())[0].words == "scratch"


@pytest.mark.parametrize(
    "settings", [{"fit": "tiles"}, {"finest_defect": 6}, {"fit": "area"}, {"fit": "multicrop"}, {"fit": "crop"}]
)
def test_layouts_of_photos_that_are_not_square_work_for_both(settings):
    detector = Detector("patchcore", object="nut", backbone=both(126), **settings)
    detector.fit([photo(seed, (60, 150)) for seed in range(2)])
    result = detector.predict(broken((60, 150), (20, 70)))
    assert result.map.shape == (60, 150)
    row, column = np.unravel_index(result.map.argmax(), result.map.shape)
    assert 10 < row < 44 and 60 < column < 94, (row, column)


def test_turned_copies_are_tapped_by_the_second_tower():
    detector = fitted("promptad", memory_turns=2, memory_mirrored=True, parts="memory")
    memory = detector.method._memory
    assert {key[0] for key in memory.banks} == {2, 3}
    assert all(
        len(bank) == 3 * 4 * 36 and sorted(set(bank.turns.tolist())) == [0, 1, 2, 3] for bank in memory.banks.values()
    )
    turned = np.ascontiguousarray(photo(0)[::-1, ::-1])
    still = fitted("promptad", parts="memory")
    assert detector.predict(turned).score < 1e-3 < still.predict(turned).score


def test_layers_and_points_of_the_second_tower_can_be_named():
    detector = fitted("promptad", parts="memory", memory_backbone_layers=(1, 4), memory_backbone_point="next_norm")
    assert detector.method.request.memory == FeatureRequest(taps=(1, 4), tap_point="next_norm")
    assert fitted("patchcore", layers=(4,)).method.request.memory.taps == (4,)
    with pytest.warns(PromptadNotice, match="names layers of CLIP's tower, which the memory does not read"):
        Detector("promptad", object="nut", backbone=both(), memory_layers=(2,))
    with pytest.raises(ConfigError, match="names blocks of a second image tower, and there is none"):
        Detector("promptad", object="nut", backbone=tiny_backbone(), memory_backbone_layers=(2,), memory_layers=(2,))
    with pytest.raises(ConfigError, match=r"tapped layers \[5\] must lie in 1..4"):
        Detector("promptad", object="nut", backbone=both(), memory_backbone_layers=(5,))


def test_linear_layers_still_read_clips_own_blocks():
    detector = fitted("promptad", local="linear", memory_point="block")
    assert detector.method.request.taps == (1, 2, 3, 4) and detector.method.request.memory.taps == (2, 3)
    assert 0 <= detector.predict(broken()).score <= 1


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_presets_of_promptad_either_work_or_say_what_to_change(preset):
    settings = {"memory_point": "block"} if preset == "release" else {}
    detector = Detector("promptad", object="nut", preset=preset, backbone=both(), epochs=1, **settings)
    assert np.isfinite(detector.fit([photo(0), photo(1)]).predict(broken()).score)
    if preset == "release":
        with pytest.raises(ConfigError, match="tap_point=after_next_attention is a slip of a released code"):
            Detector("promptad", object="nut", preset=preset, backbone=both(), epochs=1)


def test_without_a_memory_the_second_tower_is_refused_or_named_as_not_used():
    with pytest.raises(ConfigError, match=r"has no memory that a second image tower could make.*promptad, patchcore"):
        Detector("clip", object="nut", backbone=both())
    with pytest.warns(PromptadNotice, match="the memory backbone tiny-dino is not used"):
        detector = Detector("promptad", object="nut", backbone=both(), parts="text", epochs=1)
    assert detector.fit([photo(0)]).predict(photo(1)).map is not None and detector.method.request.memory is None


def test_a_tower_given_by_its_file_is_found_again_or_asked_for(tmp_path):
    torch.save(dino_official(tiny_dino()), tmp_path / "tower.pth")
    clip = load_backbone("starter")
    detector = Detector(
        "patchcore", object="nut", backbone=clip, memory_backbone=f"{tmp_path / 'tower.pth'}@84", fit="squash"
    )
    detector.fit([photo(0), photo(1)])
    path, score = detector.save(tmp_path / "d.safetensors"), detector.predict(broken()).score
    assert "tower.pth" in repr(detector) and clip.memory is None
    assert Detector.load(path).predict(broken()).score == score
    (tmp_path / "tower.pth").rename(tmp_path / "moved.pth")
    with pytest.raises(WeightsError, match=r"no weights at .*tower.pth"):
        Detector.load(path)
    moved = Detector.load(path, memory_backbone=tmp_path / "moved.pth")
    assert moved.predict(broken()).score == score and moved.backbone.memory.input_size == 84
    torch.save(dino_official(tiny_dino(1)), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"is not the memory's image tower .* that it was"):
        Detector.load(path, memory_backbone=tmp_path / "other.pth")
    plain = Detector("patchcore", object="nut", backbone=clip).fit([photo(0)]).save(tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="was made without a memory backbone"):
        Detector.load(plain, memory_backbone=tmp_path / "moved.pth")


def test_a_header_that_does_not_say_the_tower_is_one_line(tmp_path):
    from promptad.data.tensor_file import saved_bytes

    saved = read_saved(fitted("patchcore").save(tmp_path / "d.safetensors"))
    header = json.loads(json.dumps(saved.header))
    del header["backbone"]["decides"]["memory"]["positions"]
    header["backbone"]["name"] = "starter"
    Path(tmp_path / "x.safetensors").write_bytes(saved_bytes(header, saved.tensors))
    with pytest.raises(WeightsError, match="memory") as error:
        Detector.load(tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


# -- maps --------------------------------------------------------------------------------------------------------------


def test_maps_are_brought_to_another_grid_by_bilinear_interpolation():
    values = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(0))
    assert onto_grid(values, (4, 6)) is values
    assert torch.allclose(onto_grid(values, (9, 13))[1], upsample(values[1], (9, 13)), atol=1e-6)
    smaller = onto_grid(values, (2, 3))
    assert smaller.shape == (2, 2, 3) and torch.allclose(smaller.mean(), values.mean(), atol=0.02)
    assert (
        values_a_patch(torch.zeros(23, 32), (11, 15)) == 32 / 15 and values_a_patch(torch.zeros(30, 22), (15, 11)) == 2
    )
