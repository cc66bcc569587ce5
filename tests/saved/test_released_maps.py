"""APRIL-GAN's linear maps in the form in which its authors publish them, against a scoring of their raw tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from promptad import Detector
from promptad.cli.models import app
from promptad.clip import backbone as backbone_module
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import Features
from promptad.clip.tokenizer import clip_tokenizer
from promptad.errors import ConfigError, WeightsError
from promptad.notices import collected_notices
from promptad.prompts.words import ensemble
from promptad.saved.prompts import read_learned
from promptad.saved.released import import_released
from promptad.scoring.prototypes import ensemble_prototype
from tiny import SIZES, tiny_backbone

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Towers with the exact GELU, as the released code runs them."""
    return random_backbone(replace(SIZES, activation="gelu"), clip_tokenizer(), 3)


def published(number: int = 4) -> dict[str, Tensor]:
    """`LinearLayer.state_dict()` of the released code: a module list `fc`."""
    generator, state = torch.Generator().manual_seed(5), {}
    for layer in range(number):
        state[f"fc.{layer}.weight"] = torch.randn(24, 32, generator=generator) * 0.2
        state[f"fc.{layer}.bias"] = torch.randn(24, generator=generator) * 0.1
    return state


def save(path: Path, state: dict[str, Tensor], **more: object) -> Path:
    torch.save({"trainable_linearlayer": state, **more}, path)
    return path


def slow_map(backbone: Backbone, state: dict[str, Tensor], view: Features) -> np.ndarray:
    """Sum over the four blocks of softmax(enlarged 100 cos)[1], the corners of both grids in the same place."""
    sides = [ensemble_prototype(backbone.encode_texts(sentences)) for sentences in ensemble("april_gan", "metal_nut")]
    total = torch.zeros(48, 48)
    for number in range(4):
        tokens = view.taps[number + 1][0] @ state[f"fc.{number}.weight"].T + state[f"fc.{number}.bias"]
        logits = 100 * F.normalize(tokens, dim=-1) @ torch.stack(sides).T
        planes = logits.T.reshape(1, 2, 6, 6)
        total += F.interpolate(planes, (48, 48), mode="bilinear", align_corners=True).softmax(dim=1)[0, 1]
    return total.numpy()


@pytest.mark.parametrize("form", ["as saved", "alone", "wrapped", "half"])
def test_published_maps_score_as_their_raw_tensors_say(backbone, tmp_path, form):
    state = published()
    path, output = tmp_path / "epoch_3.pth", tmp_path / "maps.safetensors"
    if form == "alone":
        torch.save(state, path)
    elif form == "wrapped":
        save(path, {f"module.{key}": value for key, value in state.items()})
    elif form == "half":
        state = {key: value.half().float() for key, value in state.items()}
        save(path, {key: value.half() for key, value in state.items()})
    else:
        save(path, state)
    import_released(path, output, "aprilgan", backbone, trained_on="MVTec AD test")
    learned = read_learned(output)
    assert (learned.method, learned.preset) == ("aprilgan", "release")
    assert (learned.config["tower_activation"], learned.config["class_names"]) == ("gelu", "raw")
    method = learned.entry.build(backbone, learned.make_config({}), "metal_nut")
    learned.load_into(method, backbone)
    with torch.no_grad():
        view = backbone.vision(torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1)), method.request)
    np.testing.assert_allclose(method.score(view).map[0].numpy(), slow_map(backbone, state, view), atol=1e-5)


def test_a_detector_judges_with_published_maps_and_with_good_photos(backbone, tmp_path):
    output = tmp_path / "maps.safetensors"
    import_released(save(tmp_path / "epoch_15.pth", published()), output, "aprilgan", backbone, preset="clean")
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (60, 60, 3), dtype=np.uint8) for _ in range(3)]
    detector = Detector(weights=output, object="metal_nut", backbone=backbone)
    alone = detector.predict(photos[2]).score
    detector.fit(photos[:2])
    assert 0 <= alone <= 1 and detector.predict(photos[2]).score != alone


def test_what_the_file_does_not_say_gets_a_line(backbone, tmp_path):
    state = published() | {"temperature": torch.ones(1)}
    path = save(tmp_path / "epoch_3.pth", state, optimizer={"lr": 0.1})
    with collected_notices() as lines:
        import_released(path, tmp_path / "a.safetensors", "aprilgan", backbone)
    assert "not used: optimizer" in lines[0] and "with which CLIP" in lines[1] and "activation gelu" in lines[1]
    assert "not used: temperature" in lines[2] and "trained_on puts" in lines[3] and len(lines) == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("fc.0.weight"), "holds no fc.0.weight but fc.0.bias"),
        (lambda s: s.pop("fc.3.weight"), r"linear maps \[0, 1, 2\] are incomplete or of other layers.*1, 2, 3, 4"),
        (lambda s: s.pop("fc.2.bias"), "incomplete"),
        (lambda s: s.update({"fc.4.weight": torch.zeros(24, 32), "fc.4.bias": torch.zeros(24)}), "of other layers"),
        (
            lambda s: s.update({"fc.1.weight": torch.zeros(768, 1024)}),
            r"\(768, 1024\), layer 2 .* needs \(24, 32\).*backbone",
        ),
        (lambda s: s.update({"fc.1.bias": torch.zeros(5)}), "another shape"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(backbone, tmp_path, change, says):
    state = published()
    change(state)
    path, output = save(tmp_path / "epoch_3.pth", state), tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match=says) as caught:
        import_released(path, output, "aprilgan", backbone)
    assert "\n" not in str(caught.value) and "epoch_3.pth" in str(caught.value) and not output.exists()


def test_files_of_the_other_kind_are_named(backbone, tmp_path):
    maps = save(tmp_path / "maps.pth", published())
    with pytest.raises(WeightsError, match="holds no ctx_pos and ctx_neg but a trainable_linearlayer"):
        import_released(maps, tmp_path / "a.safetensors", "anomalyclip", backbone)
    torch.save({"prompt_learner": {"ctx_pos": torch.zeros(1), "ctx_neg": torch.zeros(1)}}, tmp_path / "prompts.pth")
    with pytest.raises(WeightsError, match=r"holds no fc.0.weight but a prompt_learner"):
        import_released(tmp_path / "prompts.pth", tmp_path / "a.safetensors", "aprilgan", backbone)


def test_towers_with_another_activation_than_the_authors_are_refused(tmp_path):
    path = save(tmp_path / "epoch_3.pth", published())
    with pytest.raises(ConfigError, match="activation"):
        import_released(path, tmp_path / "a.safetensors", "aprilgan", tiny_backbone())
    import_released(path, tmp_path / "a.safetensors", "aprilgan", tiny_backbone(), preset="clean")
    assert read_learned(tmp_path / "a.safetensors").config["tower_activation"] == "any"


def test_the_command_hands_the_activation_on(backbone, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(backbone_module, "load_backbone", lambda name, **how: given.update(how, name=name) or backbone)
    path, output = save(tmp_path / "epoch_15.pth", published()), tmp_path / "p.safetensors"
    options = ["--method", "aprilgan", "-o", str(output), "--activation", "gelu", "--preset", "paper-visa"]
    done = CliRunner().invoke(app, ["import", str(path), *options])
    assert done.exit_code == 0, done.output
    assert given == {"name": "ViT-L-14-336/openai", "activation": "gelu"}
    card = read_learned(output).card
    assert card["command"].endswith("--preset paper-visa --activation gelu") and "paper-visa" in card["title"]
