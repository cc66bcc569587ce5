"""``promptad evaluate`` as a person runs it, on tiny data with the tiny backbone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import miniature_sets
import promptad
from promptad.cli import build
from promptad.clip import backbone
from promptad.errors import DataError
from promptad.notices import PromptadNotice, collected_notices
from promptad.requests.evaluating import EvaluateRequest
from promptad.training import train_prompts
from tiny import tiny_backbone

APP = build()


def run(arguments: list[str], **options: object) -> Result:
    return CliRunner().invoke(APP, ["evaluate", *arguments], **options)


QUICK = [
    "--seeds",
    "2",
    "--eval-size",
    "24",
    "--set",
    "epochs=2",
    "--set",
    "memory_layers=[1,3]",
    "--set",
    "map_size=48",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tiny tensors gain nothing from threads, and lose minutes where other programs want the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTAD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(backbone, "load_backbone", lambda *_, **__: tiny_backbone())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two classes of plain tiles: normal ones grey, anomalous ones with a dark corner and a mask."""
    root = tmp_path / "tiles"
    for name, level in (("red", 180), ("blue", 120)):
        for place, number in (("train/good", 3), ("test/good", 2), ("test/dark", 2)):
            for index in range(number):
                picture = Image.new("RGB", (48, 48), (level, 100 + 9 * index, 255 - level))
                path = root / name / place / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                if place == "test/dark":
                    picture.paste((5, 5, 5), (0, 0, 20, 20 + index))
                    mask = Image.new("L", (48, 48))
                    mask.paste(255, (0, 0, 20, 20 + index))
                    target = root / name / "ground_truth/dark" / f"{index}_mask.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    mask.save(target)
                picture.save(path)
    return root


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_prints_the_tables_and_names_the_files(dataset: Path, tmp_path: Path) -> None:
    shown = good(
        run(
            [
                str(dataset),
                "--shots",
                "1,2",
                "--method",
                "promptad,clip",
                "--parts",
                "text,memory,fused",
                *QUICK,
            ]
        )
    )
    out = tmp_path / "evaluate-tiles"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "units",
        "shots",
        "table.md",
        "summary.csv",
        "per-class.csv",
        "scores.csv",
        "comparisons.csv",
    }
    assert all(name in shown for name in ("image level", "pixel level", "every class", "evaluate-tiles/table.md"))
    levels = shown[shown.index("image level") : shown.index("differences in image AUROC")]
    lines = [line for line in levels.splitlines() if line.startswith(("promptad", "clip"))]
    assert lines[0].startswith("clip clean  ") and " untrained " in lines[0]
    assert sum("memory only" in line for line in lines) == 4
    assert "units      10 computed, 0 from an earlier run" in shown
    assert "settings   epochs=2, memory_layers=[1, 3], map_size=48" in shown
    assert "run r has seed 111 + r - 1" in shown


def test_the_same_command_goes_on_and_fresh_begins_anew(dataset: Path) -> None:
    arguments = [str(dataset), "--shots", "2", "-o", "kept", *QUICK]
    first = good(run(arguments))
    again = good(run(arguments))
    assert "4 computed, 0 from" in first and "0 computed, 4 from" in again
    assert again.split("units ")[0] == first.split("units ")[0]
    assert "4 computed, 0 from" in good(run([*arguments, "--fresh"]))


def test_features_are_cached_on_disk_unless_that_is_not_wanted(dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "home" / "features"
    good(run([str(dataset), "--shots", "1", "--no-cache", *QUICK]))
    assert not list(store.rglob("*.safetensors"))
    good(run([str(dataset), "--shots", "1", "--fresh", *QUICK]))
    assert list(store.rglob("*.safetensors"))


def test_classes_objects_and_seeds_can_be_chosen(dataset: Path, tmp_path: Path) -> None:
    shown = good(
        run(
            [
                str(dataset),
                "--classes",
                "red",
                "--object",
                "roof tile",
                "--shots",
                "1",
                *QUICK,
                "--set",
                "seed=7",
            ]
        )
    )
    assert "1: red" in shown and "run r has seed 7 + r - 1" in shown
    unit = next((tmp_path / "evaluate-tiles/units").iterdir()).read_text(encoding="utf-8")
    assert '"object": "roof tile"' in unit


def test_oracle_rows_are_marked(dataset: Path) -> None:
    shown = good(run([str(dataset), "--classes", "red", "--shots", "1", "--oracle-test", *QUICK]))
    tables, footer = shown.split("* F1-max", 1)
    rows = [line.split("  ") for line in tables.splitlines() if line.startswith("promptad clean")]
    rows = [row for row in rows if not any("AUROC" in cell or "bootstrap" in cell or "DeLong" in cell for cell in row)]
    marks = [next(cell.strip() for cell in row if cell.strip() in ("last", "oracle")) for row in rows]
    assert marks == ["last", "oracle"] * 2
    assert "oracle minus last epoch of the same runs: image AUROC +" in footer


def test_photos_and_classes_that_cannot_be_used_are_warned_of(dataset: Path) -> None:
    (dataset / "red/test/good/0.png").write_bytes(b"no photo")
    for path in (dataset / "blue/train/good").iterdir():
        path.unlink()
    done = run([str(dataset), "--shots", "1", *QUICK])
    shown = done.stdout
    assert done.exit_code == 3
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert "blue: no normal training photos" in warnings[0] and "red/test/good/0.png" in warnings[1]
    assert "- not evaluated: blue: no normal" in shown and "- left out: " in shown and "1: red" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--classes", "green"], "--classes green: the data set has no such class; it has blue, red"),
        (["--object", "tile"], "--object names one class"),
        (["--shots", "one"], "--shots must be a list such as 3, 8; got 'one'"),
        (["--shots", "-1"], "--shots must be from 0 to 1000000, or all; got -1"),
        (["--shots", "0"], "promptad learns from good photos; give --shots of at least 1"),
        (["--eval-size", "big"], "--eval-size must be a whole number, such as 4, or photo; got 'big'"),
        (["--eval-size", "0"], "--eval-size must be from 1 to 1000000"),
        (
            ["--convention", "masks"],
            "--convention 'masks': expected key=value, for example --convention masks=bilinear",
        ),
        (["--convention", "masks=soft"], "masks must be one of nearest, nearest_1024, bilinear"),
        (["--set", "selection=oracle_test"], "selection is no setting of a method any more: benchmarks choose epochs"),
        (["--shots-from", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--method", "winclap"], "method 'winclap' unknown"),
        (["--method", ""], "--method is empty; give a value"),
        (["--parts", "all"], "part 'all' unknown"),
        (["--set", "epoch=3"], "did you mean --set epochs?"),
        (["--set", "seed=first"], "expected a whole number"),
        (["--method", "clip", "--oracle-test"], "--oracle-test"),
        (["--device", "moon"], "device 'moon': not usable here"),
        (["--shots", "4", "--set", "memory_layers=1,3"], "nothing could be evaluated"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(dataset: Path, arguments: list[str], words: str) -> None:
    done = run([str(dataset), *arguments])
    assert done.exit_code == 2 and done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0] and "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shots", "0"],
        ["--shots", "one"],
        ["--set", "epoch=3"],
        ["--preset", "best"],
        ["--convention", "masks=soft"],
        ["--classes", "green"],
        ["--method", "faprompt,winclap"],
    ],
)
def test_what_needs_no_weights_is_said_before_they_are_loaded(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(backbone, "load_backbone", lambda *_, **__: pytest.fail("weights were loaded first"))
    done = run([str(dataset), *arguments])
    assert done.exit_code == 2 and "error: " in done.stderr


def test_a_data_set_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = run([str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and "there is no such data set" in done.stderr


def test_ctrl_c_keeps_what_is_finished(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptad.bench.testset import TestSet

    measure, calls = TestSet.measure, iter(range(9))

    def stopping(self, *arguments, **options):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return measure(self, *arguments, **options)

    monkeypatch.setattr(TestSet, "measure", stopping)
    arguments = [str(dataset), "--shots", "1", "-o", str(tmp_path / "out"), *QUICK]
    done = run(arguments)
    assert done.exit_code == 130 and "finished results are kept" in done.stderr
    assert len(list((tmp_path / "out/units").iterdir())) == 1
    assert "3 computed, 1 from an earlier run" in good(run(arguments))


def test_the_command_imports_no_torch_before_it_runs() -> None:
    code = "import promptad.cli.evaluate, sys; sys.exit('torch' in sys.modules)"
    source = {**os.environ, "PYTHONPATH": str(Path(promptad.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=source, check=False).returncode == 0


def test_the_method_of_given_prompts_is_evaluated_and_said(dataset: Path, tmp_path: Path) -> None:
    train_prompts("rwda", [], tiny_backbone(), tmp_path / "words.safetensors", settings={"epochs": 1, "input_size": 48})
    with pytest.warns(PromptadNotice, match=r"evaluated is the method of the given trained prompts: rwda \("):
        done = run([str(dataset), "--weights", str(tmp_path / "words.safetensors"), "--shots", "0"])
    assert done.exit_code == 0, done.output
    assert "rwda" in done.stdout and "promptad clean" not in done.stdout
    refused = run([str(dataset), "--weights", str(tmp_path / "words.safetensors"), "--eval-size", "64"])
    assert refused.exit_code == 2 and "rwda gives no anomaly maps" in refused.stderr
    other = run([str(dataset), "--weights", str(tmp_path / "words.safetensors"), "--method", "faprompt"])
    assert other.exit_code == 2 and "holds prompts of rwda; add it (--method)" in other.stderr


def test_nothing_evaluated_is_an_error_in_python_too(dataset: Path) -> None:
    request = EvaluateRequest(dataset=dataset, shots=(9,), settings={"epochs": 1, "memory_layers": [1, 3]})
    with pytest.raises(DataError, match=r"nothing could be evaluated; .*9 good photos were asked for"):
        request.run()


def test_logical_and_structural_anomalies_stand_apart(tmp_path: Path) -> None:
    root = miniature_sets.loco(tmp_path / "loco")
    arguments = [str(root), "--method", "clip", "--shots", "0", "-o", "out"]
    plain = run(arguments)
    assert plain.exit_code == 0, plain.output
    assert "AU-sPRO@0.05 and AU-sPRO@0.3 skipped" in plain.output and "image AUROC, structural" in plain.output
    assert "saturation areas are pixels of whole photos; --eval-size photo measures it" in " ".join(
        plain.output.split()
    )
    whole = run([*arguments, "--eval-size", "photo"])
    assert whole.exit_code == 0, whole.output
    page, summary = Path("out/table.md").read_text(), Path("out/summary.csv").read_text().splitlines()
    assert "## logical and structural" in page and "AU-sPRO@0.3, logical" in page
    cells = dict(zip(summary[0].split(","), summary[1].split(","), strict=True))
    both = [float(cells[f"spro_05_{kind}"]) for kind in ("logical", "structural")]
    assert float(cells["spro_05"]) == pytest.approx(sum(both) / 2, abs=1e-6) and cells["spro_05_classes"] == "2"


def test_words_of_a_benchmark_are_one_line_for_all_its_objects(dataset: Path) -> None:
    (dataset / "red").rename(dataset / "bottle")
    (dataset / "blue").rename(dataset / "cable")
    with collected_notices() as lines:
        good(run([str(dataset), "--method", "promptad", "--shots", "1", *QUICK]))
    notes = [line for line in lines if "of MVTec AD" in line]
    assert len(notes) == 1 and "'bottle', 'cable' are objects of MVTec AD" in notes[0]
