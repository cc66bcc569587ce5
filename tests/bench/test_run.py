"""Runs: units, resume, interruption, oracle rows, parts, failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn_data import SETTINGS, make_class, photo, save
from promptad.bench.conventions import CONVENTIONS, Conventions
from promptad.bench.draw import read_given_shots
from promptad.bench.protocol import Protocol
from promptad.bench.run import Evaluation, Outcome, run
from promptad.bench.tables import make_report, text
from promptad.bench.testset import TestSet
from promptad.bench.variants import make_variants
from promptad.data.datasets import load_dataset
from promptad.data.files import sha256_file
from promptad.data.shots import draw_shots, read_manifest
from promptad.errors import ConfigError, DataError
from promptad.learning.features import Encoder, FeatureStore
from tiny import tiny_backbone

BACKBONE = tiny_backbone()


def protocol(
    *methods: str,
    parts: tuple[str, ...] = (),
    shots: tuple[int, ...] = (2,),
    runs: int = 1,
    selection: str = "last",
    **settings: Any,
) -> Protocol:
    given = {**SETTINGS, **settings}
    if methods == ("clip",):  # it has no epochs and no memory
        given = {key: given[key] for key in ("map_size", "smoothing")}
    variants = make_variants(methods or ["promptad"], settings=given, parts=parts)
    return Protocol(variants, shots, runs, conventions={"eval_size": 24, "selection": selection})


def evaluate(root: Path, out: Path, chosen: Protocol | None = None, **options: Any) -> Outcome:
    return run(Evaluation(chosen or protocol(), load_dataset(root), BACKBONE, out, root=root, **options))


def metrics(outcome: Outcome, selection: str = "last") -> dict[tuple, dict]:
    return {
        (unit["class"], unit["shots"], unit["run"], row["parts"]): row["metrics"]
        for unit in outcome.units
        for row in unit["rows"]
        if row["selection"] == selection
    }


@pytest.fixture
def cup(tmp_path: Path) -> Path:
    return make_class(tmp_path / "data", "cup")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("this was to be taken from the earlier run")

    monkeypatch.setattr(TestSet, "scores", forbidden)
    monkeypatch.setattr(Encoder, "encode", forbidden)


def test_a_unit_says_all_that_a_result_needs(cup: Path, out: Path) -> None:
    [unit] = evaluate(cup, out).units
    on_disk = json.loads((out / "units" / f"{unit['key']}.json").read_text(encoding="utf-8"))
    assert len(on_disk.pop("sha256")) == 64 and on_disk == unit
    assert (unit["method"], unit["preset"], unit["class"], unit["shots"], unit["seed"]) == (
        "promptad",
        "clean",
        "cup",
        2,
        111,
    )
    assert unit["config"]["seed"] == 111 and unit["config"]["epochs"] == 3
    assert unit["conventions"]["eval_size"] == 24 and unit["backbone"]["sha256"] == BACKBONE.sha256
    assert unit["photos"]["training"] == 4 and (unit["photos"]["normal"], unit["photos"]["anomalous"]) == (
        3,
        3,
    )
    assert unit["versions"]["torch"] and unit["seconds"]["fit"] > 0 and unit["problems"] == []
    [row] = unit["rows"]
    assert row["selection"] == "last" and row["epochs"] is None and row["map_sizes"] == [[24, 24]]
    assert all(0 <= value <= 1 for value in row["metrics"].values())
    assert row["threshold"]["normal"] == 3 and row["threshold"]["anomalous"] == 3


def test_the_good_photos_are_drawn_by_the_run_and_their_manifest_verifies(cup: Path, out: Path) -> None:
    units = evaluate(cup, out, protocol(runs=2)).units
    records = load_dataset(cup)
    for number, unit in enumerate(units):
        manifest = read_manifest(out / "shots" / f"{unit['key']}.json")
        assert manifest.paths == [photo.path for photo in draw_shots(records, 2, 111 + number)]
        assert (manifest.seed, manifest.k) == (111 + number, 2) and unit["config"]["seed"] == 111 + number
        assert [photo["sha256"] for photo in unit["good_photos"]] == [sha256_file(path) for path in manifest.paths]
        assert unit["good_photos"][0]["file"].startswith("train/good/")
    manifest.paths[0].write_bytes(b"another photo")
    with pytest.raises(DataError, match="1 of 2 shots changed"):
        read_manifest(out / "shots" / f"{unit['key']}.json")


def test_rows_of_one_fit_equal_separate_fits(cup: Path, tmp_path: Path) -> None:
    names = ("text", "memory", "fused")
    together = metrics(evaluate(cup, tmp_path / "together", protocol(parts=names)))
    values = {tuple(row.values()) for row in together.values()}
    assert len(together) == 3 and len(values) > 1  # the parts do differ
    for name in names:
        [alone] = metrics(evaluate(cup, tmp_path / name, protocol(parts=(name,)))).values()
        assert alone == pytest.approx(together["cup", 2, 0, name], abs=1e-6)


def test_a_second_run_scores_nothing(cup: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = protocol("promptad", "clip", shots=(1, 2))
    first = evaluate(cup, out, chosen)
    assert (first.scored, first.reused) == (3, 0)
    no_work(monkeypatch)
    second = evaluate(cup, out, chosen)
    assert (second.scored, second.reused) == (0, 3)
    assert json.dumps(second.units) == json.dumps(first.units)
    with pytest.raises(AssertionError, match="earlier run"):
        evaluate(cup, out, chosen, fresh=True)


def test_a_changed_photo_a_damaged_file_or_another_setting_is_computed_again(cup: Path, out: Path) -> None:
    chosen = protocol(shots=(1, 2))
    first = evaluate(cup, out, chosen)
    (out / "units" / f"{first.units[0]['key']}.json").write_text('{"format": "promptad', encoding="utf-8")
    damaged = evaluate(cup, out, chosen)
    assert (damaged.scored, damaged.reused) == (1, 1) and metrics(damaged) == metrics(first)
    assert evaluate(cup, out, protocol(shots=(1, 2), epochs=2)).scored == 2
    save(cup / "test/good", "000.png", photo(999))
    assert evaluate(cup, out, chosen).scored == 2
    second = draw_shots(load_dataset(cup), 2, 111)[1].path
    save(second.parent, second.name, photo(998))
    assert evaluate(cup, out, chosen).scored == 1  # the one-shot unit does not see it


def test_an_interrupted_run_goes_on_and_gives_the_same_table(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("cup", "mug"):
        make_class(root, name)
    chosen = protocol(shots=(1, 2), runs=2)

    def table(outcome: Outcome) -> str:
        return text(make_report("data", chosen, ("random", BACKBONE.identity), outcome))

    whole = evaluate(root, tmp_path / "whole", chosen)
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(root, tmp_path / "parts", chosen, progress=interrupt)
    finished = len(list((tmp_path / "parts/units").iterdir()))
    assert 0 < finished < 8 and all(path.suffix == ".json" for path in (tmp_path / "parts/units").iterdir())
    resumed = evaluate(root, tmp_path / "parts", chosen, progress=lambda *pair: seen.append(pair))
    assert (resumed.scored, resumed.reused) == (8 - finished, finished)
    assert table(resumed) == table(whole)
    assert seen[-1][0] == seen[-1][1]  # the progress ends where it said it would


def test_photos_are_encoded_once_for_all_units(cup: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    encode = Encoder._encoded

    def counted(self: Encoder, batch: Any, reference: bool = False) -> Any:
        seen.extend([reference] * len(batch))
        return encode(self, batch, reference)

    monkeypatch.setattr(Encoder, "_encoded", counted)
    evaluate(cup, out, protocol("clip", "promptad", shots=(1, 2, 4), runs=2))
    assert sorted(seen) == [False] * 6 + [True] * 4  # six test photos, four good ones
    assert len(list((out / "units").iterdir())) == 7


def test_features_come_from_the_disk_in_the_next_run(
    cup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "store")
    first = evaluate(cup, tmp_path / "a", cache=store)
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pytest.fail("features were on disk"))
    assert metrics(evaluate(cup, tmp_path / "b", cache=store)) == metrics(first)


# -- oracle ---------------------------------------------------------------------------------------------


def test_oracle_rows_are_at_least_the_last_epoch_and_marked(cup: Path, tmp_path: Path) -> None:
    parts = ("text", "memory", "fused")
    chosen = protocol(parts=parts, selection="oracle_test", epochs=6, shots=(1,), runs=2)
    outcome = evaluate(cup, tmp_path / "oracle", chosen)
    last, best = metrics(outcome), metrics(outcome, "oracle_test")
    assert len(last) == 6 and {key[3] for key in best} == {"text", "fused"}  # no epoch changes the memory
    for key, row in best.items():
        for name in ("image_auroc", "pixel_auroc"):
            assert row[name] >= last[key][name]
    for unit in outcome.units:
        for row in unit["rows"]:
            if row["selection"] == "oracle_test":
                assert set(row["epochs"]) == {"image", "pixel"} and all(1 <= e <= 6 for e in row["epochs"].values())
    plain = metrics(evaluate(cup, tmp_path / "plain", protocol(parts=parts, epochs=6, shots=(1,), runs=2)))
    assert plain == last  # looking at the test set does not change the training


def test_without_masks_the_oracle_chooses_the_image_prompts_alone(tmp_path: Path, out: Path) -> None:
    cup = make_class(tmp_path / "data", "cup", masks=False)
    [unit] = evaluate(cup, out, protocol(selection="oracle_test")).units
    last, best = unit["rows"]
    assert best["epochs"]["image"] in (1, 2, 3) and best["epochs"]["pixel"] is None
    assert best["metrics"]["pixel_auroc"] is None and best["metrics"]["image_auroc"] >= last["metrics"]["image_auroc"]


# -- what is asked for ----------------------------------------------------------------------------------


def test_given_photos_are_learned_from_and_a_manifest_gives_the_same_run_again(cup: Path, tmp_path: Path) -> None:
    path = tmp_path / "shots.json"
    listed = {"format": "promptad shot list 1", "classes": {"cup": [[3, 1], [0, 2]]}}
    path.write_text(json.dumps(listed), encoding="utf-8")
    given = read_given_shots([path], load_dataset(cup))
    outcome = evaluate(cup, tmp_path / "a", replace(protocol(runs=2), given=given))
    files = [[Path(shot["file"]).name for shot in unit["good_photos"]] for unit in outcome.units]
    assert files == [["003.png", "001.png"], ["000.png", "002.png"]]
    assert all(unit["given_shots"] == str(path) for unit in outcome.units)
    manifests = [tmp_path / "a/shots" / f"{unit['key']}.json" for unit in outcome.units]
    again = read_given_shots(manifests, load_dataset(cup))
    assert metrics(evaluate(cup, tmp_path / "b", replace(protocol(runs=2), given=again))) == metrics(outcome)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("kind", ["png", "bmp"])  # the file itself, and its pixels in another one
def test_a_test_photo_that_is_learned_from_is_left_out_of_that_test_and_named(
    cup: Path, out: Path, kind: str, channels: str
) -> None:
    shots, chosen = draw_shots(load_dataset(cup), 2, 111), protocol(shots=(1, 2), test_channels=channels)
    before = evaluate(cup, out / "before", chosen).units[1]
    copy = cup / f"test/good/copy.{kind}"
    if kind == "png":
        copy.write_bytes(shots[1].path.read_bytes())
    else:
        Image.open(shots[1].path).save(copy)
    first, two = evaluate(cup, out, chosen).units
    assert first["learned_from"] == [] and len(first["test"]) == 7
    assert two["learned_from"] == [[f"test/good/{copy.name}", f"train/good/{shots[1].path.name}"]]
    assert two["rows"][0]["metrics"] == before["rows"][0]["metrics"] and len(two["rows"][0]["scores"]) == 6
    shown = text(
        make_report("cup", protocol(), ("random", BACKBONE.identity), evaluate(cup, out, protocol(shots=(1, 2))))
    )
    assert f"test/good/{copy.name} was learned from" in shown


@pytest.mark.parametrize("way", ["jpg", "smaller", "turned"])
def test_a_near_copy_of_a_learned_photo_is_named_and_stays_in_the_test(cup: Path, out: Path, way: str) -> None:
    shots, chosen = draw_shots(load_dataset(cup), 2, 111), protocol(shots=(1, 2))
    copy = cup / f"test/good/copy.{'jpg' if way == 'jpg' else 'png'}"
    for shot in shots:  # larger photos with some structure: of few pixels nobody can tell
        noise = np.random.default_rng(len(shot.path.name) + ord(shot.path.stem[-1])).integers(0, 256, (24, 32, 3))
        Image.fromarray(noise.astype(np.uint8)).resize((320, 240), Image.Resampling.BICUBIC).save(shot.path)
    image = Image.open(shots[1].path)
    if way == "smaller":
        image = image.resize((160, 120))
    elif way == "turned":
        image = image.transpose(Image.Transpose.ROTATE_180)
    image.save(copy, **({"quality": 90} if way == "jpg" else {}))
    first, two = evaluate(cup, out, chosen).units
    assert first["near_copies"] == [] and first["learned_from"] == two["learned_from"] == []
    assert two["near_copies"] == [[f"test/good/{copy.name}", f"train/good/{shots[1].path.name}"]]
    assert len(two["test"]) == len(first["test"]) == 7
    shown = text(make_report("cup", protocol(), ("random", BACKBONE.identity), evaluate(cup, out, chosen)))
    assert f"test/good/{copy.name} shows the same as train/good/{shots[1].path.name}" in shown


def test_a_limit_takes_so_many_photos_of_each_kind(cup: Path, out: Path) -> None:
    [unit] = evaluate(cup, out, replace(protocol(), limit=2)).units
    assert (unit["rows"][0]["n_normal"], unit["rows"][0]["n_anomalous"]) == (2, 2) and unit["limit"] == 2
    assert evaluate(cup, out).scored == 1  # the whole set is another result


def test_presets_are_measured_by_their_own_conventions_on_one_encoding(
    cup: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = Encoder.encode

    def counted(self: Encoder, photos: Any, **options: Any) -> Any:
        seen.append(len(photos))
        return encode(self, photos, **options)

    monkeypatch.setattr(Encoder, "encode", counted)
    monkeypatch.setitem(CONVENTIONS, ("clip", "paper"), Conventions(eval_size=20, masks="bilinear"))
    variants = make_variants(["clip"], ["clean", "paper"], {"fit": "squash", "local": "vv", "map_size": 48})
    outcome = evaluate(cup, out, Protocol(variants, (0,), 1))
    assert [unit["conventions"]["eval_size"] for unit in outcome.units] == [400, 20]
    assert [unit["rows"][0]["map_sizes"] for unit in outcome.units] == [[[400, 400]], [[20, 20]]]
    assert sum(seen) == 6  # the six test photos, once for both


def test_scores_are_those_of_the_detector(cup: Path, out: Path) -> None:
    from promptad.detector import Detector

    [unit] = evaluate(cup, out).units
    detector = Detector("promptad", object="cup", backbone=BACKBONE, seed=111, **SETTINGS)
    detector.fit([cup / shot["file"] for shot in unit["good_photos"]])
    for photo_, score in zip(unit["test"], unit["rows"][0]["scores"], strict=True):
        assert detector.predict(cup / photo_["file"]).score == pytest.approx(score, abs=1e-5)


# -- what is not there ----------------------------------------------------------------------------------


def test_missing_masks_are_said_in_words(tmp_path: Path, out: Path) -> None:
    cup = make_class(tmp_path / "data", "cup", masks=False)
    outcome = evaluate(cup, out)
    [row] = outcome.units[0]["rows"]
    assert row["metrics"]["pixel_auroc"] is None and row["metrics"]["image_auroc"] is not None
    assert row["skipped"]["aupro_30"] == "no masks (3 photos not labelled normal left out)"
    shown = text(make_report("cup", protocol(), ("random", BACKBONE.identity), outcome))
    assert "cup: pixel metrics skipped: no masks (3 photos not labelled normal left out)" in shown
    assert "pixel level" not in shown


def test_classes_that_cannot_be_evaluated_get_a_line_and_the_others_go_on(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "data"
    make_class(root, "cup")
    make_class(root, "few", train=1)
    make_class(root, "none", train=0)
    make_class(root, "untested", good=0, bad=0)
    outcome = evaluate(root, out, protocol(shots=(1, 2)))
    assert [(unit["class"], unit["shots"]) for unit in outcome.units] == [("cup", 1), ("cup", 2), ("few", 1)]
    reasons = {failure.class_name: failure.reason for failure in outcome.failures}
    assert len(outcome.failures) == 3
    assert reasons["few"].startswith("few: 2 good photos were asked for, train has 1; ")
    assert reasons["none"].startswith("none: no normal training photos; ")
    assert reasons["untested"].startswith("untested: no test photos; ")


def test_a_class_whose_training_diverges_does_not_end_the_run(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptad.detector import Detector

    root = tmp_path / "data"
    for name in ("cup", "mug"):
        make_class(root, name)
    fit = Detector.fit_features

    def diverging(self: Detector, *arguments: Any, **options: Any) -> Detector:
        if self.object == "cup":
            raise ConfigError("training diverged in epoch 1")
        return fit(self, *arguments, **options)

    monkeypatch.setattr(Detector, "fit_features", diverging)
    outcome = evaluate(root, out)
    assert [unit["class"] for unit in outcome.units] == ["mug"]
    assert [failure.reason for failure in outcome.failures] == ["cup: training diverged in epoch 1"]


def test_photos_that_cannot_be_read_are_listed_and_the_rest_is_evaluated(cup: Path, out: Path, monkeypatch) -> None:
    (cup / "test/stain/002.png").write_bytes(b"no photo")
    drawn = [photo.path for photo in draw_shots(load_dataset(cup), 4, 111)]
    drawn[0].write_bytes(b"")
    outcome = evaluate(cup, out)
    [unit] = outcome.units
    assert [cup / photo["file"] for photo in unit["good_photos"]] == drawn[1:3]
    assert unit["rows"][0]["n_anomalous"] == 2 and unit["rows"][0]["n_normal"] == 3
    assert len(unit["problems"]) == 2 and outcome.problems == unit["problems"]
    assert drawn[0].name in unit["problems"][0] and "stain/002.png" in unit["problems"][1]
    no_work(monkeypatch)
    assert evaluate(cup, out).problems == outcome.problems  # a resumed run says so too
    shown = text(make_report("cup", protocol(), ("random", BACKBONE.identity), outcome))
    assert sum(line.startswith("- left out: ") for line in shown.splitlines()) == 2


def test_the_untrained_method_is_evaluated_once_without_good_photos(tmp_path: Path, out: Path) -> None:
    cup = make_class(tmp_path / "data", "cup", train=0)
    [unit] = evaluate(cup, out, protocol("clip", shots=(1, 2, 4), runs=3)).units
    assert unit["shots"] == 0 and unit["good_photos"] == [] and unit["rows"][0]["parts"] == ""
    assert unit["rows"][0]["threshold"] is None and not (out / "shots").exists()


def test_words_for_a_class_reach_the_method(cup: Path, out: Path) -> None:
    chosen = protocol("clip")
    plain = evaluate(cup, out, chosen)
    named = evaluate(cup, out, replace(chosen, objects={"cup": "tea cup"}))
    assert named.scored == 1 and named.units[0]["object"] == "tea cup" and plain.units[0]["object"] == "cup"
    assert metrics(named) != metrics(plain)


def test_settings_that_cannot_work_are_said_before_any_work(cup: Path, out: Path) -> None:
    with pytest.raises(ConfigError):
        evaluate(cup, out, protocol(state_bank="nowhere"))
    assert not out.exists()
    with pytest.raises(DataError, match="no photos to evaluate"):
        run(Evaluation(protocol(), [], BACKBONE, out))


def test_two_evaluations_in_one_folder_the_second_is_refused(cup, tmp_path):
    said: list[str] = []

    def second(done: int, total: int) -> None:
        if not said:
            with pytest.raises(DataError, match=r"another run is at work here \(process \d+ on ") as refused:
                evaluate(cup, tmp_path / "out")
            said.append(str(refused.value))

    assert evaluate(cup, tmp_path / "out", progress=second).scored == 1
    assert len(said) == 1 and "\n" not in said[0]
    assert evaluate(cup, tmp_path / "out").reused == 1
