"""Prompts that are trained once: from data sets to a file, through interruptions, into a detector and a table."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_data import make_class, photo
from promptad.bench.protocol import Protocol
from promptad.bench.run import Evaluation, run
from promptad.bench.tables import make_report, text
from promptad.bench.variants import make_variants
from promptad.clip.backbone import load_backbone
from promptad.data.datasets import load_dataset
from promptad.data.photos import read_mask
from promptad.data.tensor_file import read_saved, write_saved
from promptad.detector import Detector, load
from promptad.errors import ConfigError, DataError, WeightsError
from promptad.learning.features import FeatureStore
from promptad.methods.registry import METHODS
from promptad.notices import PromptadNotice
from promptad.saved.prompts import SHIPPED, read_learned
from promptad.training import Source, Training, train_prompts
from tiny import tiny_backbone

BACKBONE = tiny_backbone()
# Small enough for seconds; what is not named stays as recommended.
QUICK = {
    "faprompt": {"epochs": 2, "local_start": 2, "map_size": 48, "patch_count": 4, "abnormal_prompts": 3},
    "anomalyclip": {"epochs": 2, "local_start": 2, "map_size": 48},
    "rwda": {"epochs": 2, "pairs": 128, "hidden": [16, 8, 4]},
    "promptad-zs": {"epochs": 2, "iterations": 2, "batch_size": 6, "width": 8, "heads": 2, "feedforward": 16,
                    "map_size": 48},
}  # fmt: skip
QUICK["aprilgan"] = {"epochs": 2, "batch_size": 4, "mosaic": 0.5, "map_size": 48}
QUICK["uniadet"] = {"epochs": 2, "batch_size": 4, "copies": 1, "map_size": 48}
QUICK["mrad"] = {"variant": "ft", "temperature": 1.0, "epochs": 2, "batch_size": 4, "map_size": 48}
QUICK |= {name: {"epochs": 2, "map_size": 48} for name in ("coop", "cocoop", "tcp")}
SEEN_HEADS = ("devnet-zs", "dra-zs", "mlep-proxy-zs")
QUICK |= {name: {"epochs": 2, "iterations": 2, "batch_size": 6} for name in SEEN_HEADS}
METHOD_NAMES = sorted(QUICK)
UNSHIPPED = {
    "aprilgan",
    "coop",
    "cocoop",
    "tcp",
    "mrad",
    *SEEN_HEADS,
}  # trained by a person alone: what the papers compare with
SHIPPED_NAMES = sorted(set(METHOD_NAMES) - UNSHIPPED)


def test_every_trained_method_is_tested_here():
    assert sorted(name for name, entry in METHODS.items() if entry.trained) == METHOD_NAMES


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in ("tile", "nut"):
        make_class(root / "train", name, good=5, bad=4)
    make_class(root / "test", "cup")
    return root


@pytest.fixture(scope="module")
def starter():
    return load_backbone()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> FeatureStore:
    return FeatureStore(tmp_path_factory.mktemp("cache"))


def train(method: str, root: Path, output: Path, cache: FeatureStore, *, on: str = "train", **options) -> Training:
    sources = [] if method == "rwda" else [Source("drawn", "CC0", load_dataset(root / on))]
    settings = QUICK[method] | options.pop("settings", {})
    return train_prompts(method, sources, BACKBONE, output, settings=settings, cache=cache, **options)


@pytest.fixture(scope="module", params=METHOD_NAMES)
def trained(request, root, cache, tmp_path_factory) -> Training:
    output = tmp_path_factory.mktemp("prompts") / f"{request.param}.safetensors"
    return train(request.param, root, output, cache, command="promptad train ...")


def method_of(trained: Training) -> str:
    return trained.path.stem


def test_the_file_says_what_it_was_trained_on(trained, root):
    learned = read_learned(trained.path)
    assert learned.method == method_of(trained) and learned.backbone["sha256"] == BACKBONE.sha256
    assert learned.card["losses"] == trained.losses and len(trained.losses) == 2
    assert learned.card["command"] == "promptad train ..."
    if learned.method == "rwda":
        assert learned.card["data"] == [] and learned.photos == ()
    else:
        [data] = learned.card["data"]
        assert data["licence"] == "CC0" and data["classes"] == ["nut", "tile"]
        assert data["normal"] + data["anomalous"] == len(learned.photos) > 4
    assert not list(trained.path.parent.glob("*.training.safetensors"))
    assert trained.path.stat().st_size < 2_000_000


def test_a_detector_judges_a_product_of_which_it_has_seen_no_photo(trained, tmp_path):
    detector = Detector(weights=trained.path, object="cup", defects=["with stain"], backbone=BACKBONE)
    size = (60, 80)
    result = detector.predict(photo(3, size=size))
    assert result.verdict == "no threshold" and np.isfinite(result.score)
    assert (result.map is not None) == METHODS[method_of(trained)].facts.maps
    if result.map is not None:
        assert result.map.shape == size
    assert "with stain" in [word.words for word in result.defects]
    regional = [word.region_probability is not None for word in result.defects]
    assert set(regional) == {method_of(trained) not in ("aprilgan", "rwda", "promptad-zs", "uniadet", *SEEN_HEADS)}
    # Good photos set a threshold, for all of them; the detector is then one file.
    detector.fit([photo(seed, size=size) for seed in range(4)])
    assert detector.calibration is not None and detector.calibration.good == 4
    assert "trained prompts that are not the package's" in detector.calibration.unlike
    again = load(detector.save(tmp_path / "cup.safetensors"), backbone=BACKBONE)
    assert again.predict(photo(9)).score == pytest.approx(detector.predict(photo(9)).score, abs=1e-5)
    assert read_saved(tmp_path / "cup.safetensors").header["trained"]["command"] == "promptad train ..."


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_killed_and_started_again_gives_the_same_file(name, root, cache, tmp_path):
    whole = train(name, root, tmp_path / "whole.safetensors", cache)

    seen = []

    def watch(done: int, total: int) -> None:
        seen.append((done, total))

    train(name, root, tmp_path / "watched.safetensors", cache, training=watch)
    last = seen[-1][0]
    for killed in (2, last // 2 + 1, last):

        def kill(done: int, _: int, at: int = killed) -> None:
            if done >= at:
                raise Killed

        output = tmp_path / f"at{killed}.safetensors"
        with pytest.raises(Killed):
            train(name, root, output, cache, training=kill)
        assert not output.exists()
        done = train(name, root, output, cache)
        assert done.losses == whole.losses
        first, second = read_learned(whole.path).tensors, read_learned(output).tensors
        assert all(np.array_equal(first[key].numpy(), second[key].numpy()) for key in first)


def test_a_finished_training_is_not_repeated_and_another_is_not_overwritten(root, cache, tmp_path):
    output = tmp_path / "p.safetensors"
    first = train("anomalyclip", root, output, cache)
    content = output.read_bytes()
    again = train("anomalyclip", root, output, cache)
    assert again.reused and again.losses == first.losses and output.read_bytes() == content
    with pytest.raises(ConfigError, match=r"another training.*fresh=True"):
        train("anomalyclip", root, output, cache, settings={"lr": 0.01})
    other = train("anomalyclip", root, output, cache, settings={"lr": 0.01}, fresh=True)
    assert not other.reused and output.read_bytes() != content


def test_wrong_data_is_refused(root, cache, tmp_path):
    output = tmp_path / "p.safetensors"
    with pytest.raises(ConfigError, match="name a data set"):
        train_prompts("faprompt", [], BACKBONE, output)
    with pytest.raises(ConfigError, match="words alone"):
        train_prompts("rwda", [Source("x", "", load_dataset(root / "train"))], BACKBONE, output)
    for name, words in (("promptad", "promptad fit"), ("clip", "nothing to train")):
        with pytest.raises(ConfigError, match=words):
            train_prompts(name, [], BACKBONE, output)
    folder = make_class(tmp_path / "bare", "tile", masks=False)
    with pytest.raises(DataError, match=r"all 3 usable photos are good.*has no mask"):
        train("anomalyclip", tmp_path, output, cache, on="bare")
    for path in (folder / "test/stain").iterdir():
        path.unlink()
    for name in ("anomalyclip", "promptad-zs"):
        with pytest.raises(DataError):
            train(name, tmp_path, output, cache, on="bare")
    assert not output.exists()


def test_missing_and_wrong_masks_get_one_line_each(cache, tmp_path):
    folder = make_class(tmp_path / "odd", "tile", bad=4)
    (folder / "ground_truth/stain/000_mask.png").unlink()
    (folder / "test/stain/001.png").write_bytes(b"no photo")
    done = train("anomalyclip", tmp_path, tmp_path / "p.safetensors", cache, on="odd")
    assert len(done.problems) == 2 and done.card["data"][0]["anomalous"] == 2


def test_a_table_of_zero_shot_and_few_shot_rows(trained, root, cache, tmp_path):
    learned = read_learned(trained.path)
    variants = make_variants([learned.method, "clip"], learned=[learned])
    protocol = Protocol(variants, shots=(0, 2), runs=2, conventions={"eval_size": 48})
    outcome = run(Evaluation(protocol, load_dataset(root / "test"), BACKBONE, tmp_path, cache=cache))
    assert not outcome.failures and not outcome.problems
    shots = sorted((unit["method"], unit["shots"], unit["run"]) for unit in outcome.units)
    few = [(learned.method, 2, 0), (learned.method, 2, 1)] if METHODS[learned.method].good_photos == "optional" else []
    assert shots == sorted([("clip", 0, 0), (learned.method, 0, 0), *few])
    shown = text(make_report("cups", protocol, ("tiny", "tiny"), outcome))
    assert "trained elsewhere" in shown and "untrained" in shown and "NOT zero-shot" not in shown
    assert ("trained on drawn (" in shown) == (learned.method != "rwda")
    again = run(Evaluation(protocol, load_dataset(root / "test"), BACKBONE, tmp_path, cache=cache))
    assert again.reused == len(outcome.units) and not again.scored


def test_two_ways_of_storing_one_training_are_two_rows_and_one_file_is_one(root, cache, tmp_path):
    for name, compact in (("a", False), ("b", True)):
        train("anomalyclip", root, tmp_path / name / "p.safetensors", cache, compact=compact)
    files = [read_learned(tmp_path / name / "p.safetensors") for name in ("a", "b", "a")]
    variants = make_variants(["anomalyclip"], learned=files)
    assert [len(v.learned) for v in variants] == [1, 1]
    assert len({v.name for v in variants}) == 2 and all(v.name.startswith("p ") for v in variants)


def test_what_was_read_again_for_an_edited_word_file_is_not_reused(root, cache, tmp_path):
    path, words = train("faprompt", root, tmp_path / "p.safetensors", cache).path, tmp_path / "words.toml"
    identities = []
    for defect in ("rust", "dent"):
        words.write_text(f'[states]\nall = ["[c] with {defect}"]\n')
        identities.append(Detector(weights=path, backbone=BACKBONE, state_bank=str(words)).identity())
    assert identities[0] != identities[1]


def test_a_saved_detector_keeps_the_prompts_its_threshold_was_set_with(root, cache, tmp_path):
    path, words = train("promptad-zs", root, tmp_path / "p.safetensors", cache).path, tmp_path / "words.toml"
    words.write_text('[states]\nall = ["[c] with rust"]\n')
    detector = Detector(weights=path, object="cup", backbone=BACKBONE, state_bank=str(words))
    before = detector.fit([photo(1), photo(2)]).predict(photo(9)).score
    saved = detector.save(tmp_path / "d.safetensors")
    words.write_text('[states]\nall = ["[c] with dent", "[c] with a hole"]\n')
    again = load(saved, backbone=BACKBONE)
    assert again.predict(photo(9)).score == pytest.approx(before, abs=1e-5)
    once_more = load(again.save(tmp_path / "e.safetensors"), backbone=BACKBONE)
    assert once_more.trained == detector.trained and once_more.trained["losses"]


def test_settings_that_cannot_be_are_no_fault_of_the_photos(root, cache, tmp_path):
    for method, settings, words in (
        ("promptad-zs", {"layers": [99]}, r"tapped layers \[99\]"),
        ("faprompt", {"local_start": 99}, "local stream starts at block 99"),
        ("rwda", {"seed": -1}, "seed must be from 0 to 4294967295"),
        ("anomalyclip", {"seed": 10**20}, "seed must be from 0 to 4294967295"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(method, root, tmp_path / "p.safetensors", cache, settings=settings)


def test_a_table_on_the_training_photos_says_so(root, cache, tmp_path):
    learned = read_learned(train("anomalyclip", root, tmp_path / "p.safetensors", cache).path)
    protocol = Protocol(
        make_variants(["anomalyclip"], learned=[learned]), shots=(0,), runs=1, conventions={"eval_size": 48}
    )
    outcome = run(Evaluation(protocol, load_dataset(root / "train"), BACKBONE, tmp_path, cache=cache))
    assert {unit["seen_in_training"] for unit in outcome.units} == {9}
    made = make_report("drawn", protocol, ("tiny", "tiny"), outcome)
    assert "NOT zero-shot: 9 of its photos" in text(made)
    assert all(cell is None for line in made.lines for cell in line.cells.values())  # no mean over what was trained on


def test_seeds_are_runs_of_one_row_and_other_settings_are_rows_of_their_own(root, cache, tmp_path):
    files = []
    for name, settings in {"a": {}, "b": {"seed": 112}, "wide": {"hidden": [32, 8, 4]}}.items():
        files.append(train("rwda", root, tmp_path / f"{name}.safetensors", cache, settings=settings).path)
    variants = make_variants(["rwda"], parts=["guided", "sum"], learned=[read_learned(path) for path in files])
    assert [(v.name, len(v.learned)) for v in variants] == [("a", 2), ("wide", 1)]
    chosen = Protocol(variants, shots=(0,), runs=5, conventions={"eval_size": 48})
    outcome = run(Evaluation(chosen, load_dataset(root / "test"), BACKBONE, tmp_path, cache=cache))
    assert len(outcome.units) == 3 and all(len(unit["rows"]) == 2 for unit in outcome.units)
    lines = make_report("cups", Protocol(variants, shots=(0,)), ("tiny", "tiny"), outcome).lines
    labels = {line.label: line.cells["image_auroc"].runs for line in lines}
    assert labels == {"rwda clean, a, CLIP": 2, "rwda clean, a, CLIP + ours": 2, "rwda clean, wide, CLIP": 1,
                      "rwda clean, wide, CLIP + ours": 1}  # fmt: skip


def test_settings_of_training_are_fixed_and_the_others_free(root, cache, tmp_path):
    path = train("faprompt", root, tmp_path / "p.safetensors", cache).path
    detector = Detector(weights=path, backbone=BACKBONE, smoothing=0.0, epochs=2)
    assert detector.config.smoothing == 0.0
    with pytest.raises(ConfigError, match="'epochs' was fixed when these prompts were trained"):
        Detector(weights=path, backbone=BACKBONE, epochs=3)
    with pytest.raises(ConfigError, match="did you mean smoothing"):
        Detector(weights=path, backbone=BACKBONE, smoothin=3)
    with pytest.raises(ConfigError, match="holds prompts of the method 'faprompt', not 'anomalyclip'"):
        Detector("anomalyclip", weights=path, backbone=BACKBONE)
    with pytest.raises(ConfigError, match="preset 'clean', not 'paper'"):
        Detector(weights=path, preset="paper", backbone=BACKBONE)


def test_wrong_files_get_one_line(root, cache, tmp_path):
    path = train("anomalyclip", root, tmp_path / "p.safetensors", cache).path
    with pytest.raises(WeightsError, match=r"trained with backbone random .* but random here"):
        Detector(weights=path, backbone=tiny_backbone(5))
    with pytest.raises(WeightsError, match=r"is a file of trained prompts, not a saved detector; give it as weights"):
        load(path, backbone=BACKBONE)
    saved = Detector(object="cup", backbone=BACKBONE, epochs=1, memory_layers=(1, 3)).fit([photo(1), photo(2)])
    with pytest.raises(WeightsError, match=r"is a saved detector, not a file of trained prompts; give it as model"):
        Detector(weights=saved.save(tmp_path / "d.safetensors"), backbone=BACKBONE)
    with pytest.raises(WeightsError, match="no such file of trained prompts"):
        Detector(weights=tmp_path / "none.safetensors", backbone=BACKBONE)
    with pytest.raises(WeightsError, match="package has none for the backbone random"):
        Detector("faprompt", backbone=BACKBONE)
    whole = read_saved(path, "prompts")
    for change, words in (
        (lambda h: h.pop("card"), "does not fit"),
        (lambda h: h.update(method="clip"), "not trained"),
    ):
        header = json.loads(json.dumps(whole.header))
        change(header)
        write_saved(tmp_path / "x.safetensors", header, whole.tensors)
        with pytest.raises(WeightsError, match=words):
            read_learned(tmp_path / "x.safetensors")
    write_saved(tmp_path / "x.safetensors", whole.header, dict(list(whole.tensors.items())[1:]))
    with pytest.raises(WeightsError, match=r"x\.safetensors: .*"):
        Detector(weights=tmp_path / "x.safetensors", backbone=BACKBONE)


def test_prompts_are_tied_to_how_the_weights_are_read(root, cache, tmp_path):
    """The same weights with another activation or normalisation give other features than the prompts were trained on."""
    path = train("anomalyclip", root, tmp_path / "p.safetensors", cache).path
    for change, words in (
        ({"sizes": replace(BACKBONE.sizes, activation="gelu")}, "activation, quick_gelu then and gelu now, differ"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean differ"),
        ({"input_size": 64}, "input_size differ"),
    ):
        other = replace(BACKBONE, **change)
        with pytest.raises(WeightsError, match=f"trained with the weights of random, but read otherwise .{words}"):
            Detector(weights=path, backbone=other)
        with pytest.raises(ConfigError, match="another training"):
            train_prompts(
                "anomalyclip",
                [Source("drawn", "CC0", load_dataset(root / "train"))],
                other,
                path,
                settings=QUICK["anomalyclip"],
            )
    Detector(weights=path, backbone=replace(BACKBONE, precision="bf16"))  # a choice, as for detectors
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptadNotice)
        Detector(weights=path, backbone=BACKBONE)
    whole = read_saved(path, "prompts")
    whole.header["backbone"].pop("decides")
    write_saved(path, whole.header, whole.tensors)
    with pytest.warns(
        PromptadNotice, match=r"does not say how the weights of random were read .* as now \(quick_gelu\)"
    ):
        Detector(weights=path, backbone=BACKBONE)


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_prompts_of_the_package_are_refused_where_the_starter_is_read_otherwise(name):
    with pytest.raises(WeightsError, match="activation, quick_gelu then and gelu now"):
        Detector(name, activation="gelu")


def test_untrained_prompts_neither_score_nor_pretend(tmp_path):
    for name in METHOD_NAMES:
        entry = METHODS[name]
        method = entry.build(BACKBONE, entry.make_config("clean", **QUICK[name]), "cup")
        detector = Detector("clip", backbone=BACKBONE)
        features = detector.encode(photo(1)).features[0]
        with pytest.raises(ConfigError, match="promptad train"):
            method.score(features)


def test_the_package_has_prompts_of_the_papers_own_methods_and_they_name_a_licence():
    shipped = {path.stem: read_learned(path) for path in SHIPPED.glob("*.safetensors")}
    assert sorted(shipped) == SHIPPED_NAMES
    for name, learned in shipped.items():
        assert learned.method == name and learned.preset == "clean" and learned.backbone["name"] == "starter"
        assert learned.card["command"].startswith(f"promptad train {name}")
        assert all(data["licence"] == "CC0 and MIT" for data in learned.card["data"])
        # Trained with the settings that the preset has today, or the preset would not be what is shipped.
        assert learned.make_config({}) == METHODS[name].make_config("clean")
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.safetensors")) < 3_600_000


@pytest.mark.parametrize("name", sorted(UNSHIPPED))
def test_a_method_without_prompts_in_the_package_says_how_to_get_them(name, starter):
    line = rf"needs trained prompts, and the package has none for the backbone starter; train them with `promptad train {name} "
    with pytest.raises(WeightsError, match=line):
        Detector(name, object="cup", backbone=starter)


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_prompts_of_the_package_tell_a_broken_bottle_from_a_whole_one(name, starter, shared_data):
    detector = Detector(name, object="bottle", backbone=starter)
    folder = shared_data / "mvtec/bottle/test"
    whole, broken = (
        [detector.predict(folder / kind / f"{i:03}.png") for i in (0, 1)] for kind in ("good", "broken_large")
    )
    assert min(scored.score for scored in broken) > max(scored.score for scored in whole)
    if broken[0].map is not None:
        mask = read_mask(shared_data / "mvtec/bottle/ground_truth/broken_large/000_mask.png")
        assert broken[0].map[mask].mean() > 2 * broken[0].map[~mask].mean()


def test_a_file_of_another_training_is_refused_before_photos_are_read(root, cache, tmp_path, monkeypatch):
    output = train("anomalyclip", root, tmp_path / "prompts.safetensors", cache).path
    monkeypatch.setattr("promptad.training.AuxiliarySet", lambda *_, **__: pytest.fail("photos were read"))
    for method, options in (
        ("anomalyclip", {"settings": {"epochs": 3}}),
        ("anomalyclip", {"preset": "paper", "settings": {"input_size": 48}}),
        ("promptad-zs", {}),
    ):
        with pytest.raises(ConfigError, match="holds prompts of another training"):
            train(method, root, output, cache, **options)
