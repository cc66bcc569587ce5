"""Papers' tables: which printed rows and sets belong to one, where sets are found, and when a difference to print is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import miniature_sets
from promptad.bench.published import METRICS, published
from promptad.data.datasets.facts import all_facts
from promptad.errors import ConfigError, DataError
from promptad.methods.registry import METHODS, find_method
from promptad.methods.settings import config_dict
from promptad.requests.benchmarking import BenchRequest
from promptad.suite.papers.dry import paper_lines
from promptad.suite.papers.embeddings import coco_captions, embedded
from promptad.suite.papers.experiments import experiments, find_experiment
from promptad.suite.papers.places import Places, find_sets
from promptad.suite.papers.plans import Wish, needed_sets, paper_plan
from promptad.suite.papers.printed import GROUPS, measured_sets, printed, printed_rows, table_numbers

NAMES = experiments()
EVERYWHERE = Places({key: Path(key) for key in all_facts()}, [])


def test_the_papers_captions_are_all_there():
    wanted = {f"cvpr24-table{n}" for n in range(1, 19)} | {f"cvpr24-fig{n}" for n in (1, 3, 4, 5, 6, 8, 9, 10, 11, 12)}
    wanted |= {f"iccv25-table{n}" for n in range(1, 17)} | {f"iccv25-fig{n}" for n in range(1, 17)}
    wanted |= {f"bmvc23-table{n}" for n in range(1, 11)} | {f"bmvc23-fig{n}" for n in (3, 4, 5)}
    wanted |= {f"wacv24-table{n}" for n in range(1, 5)} | {"wacv24-fig4", "wacv24-fig5"}
    assert set(NAMES) == wanted


def test_every_printed_number_stands_in_a_table():
    shown = {id(number) for experiment in NAMES.values() for _, number in printed(experiment).means}
    missing = [
        (data_set.key, n.source, n.table, n.method, n.metric, n.shots)
        for data_set in published()
        for n in data_set.numbers
        if id(n) not in shown
    ]
    assert not missing
    columns = {id(column) for experiment in NAMES.values() for column in printed(experiment).classes}
    assert columns == {id(column) for data_set in published() for column in data_set.class_numbers}


@pytest.mark.parametrize(
    ("words", "numbers"),
    [("Table 3", {3}), ("Tables 1, 4, 15 and 16", {1, 4, 15, 16}), ("Tables 7 to 10", {7, 8, 9, 10})],
)
def test_tables_in_words(words: str, numbers: set[int]):
    assert table_numbers(words) == numbers


@pytest.mark.parametrize("name", NAMES)
def test_what_an_experiment_names_exists(name: str):
    experiment = NAMES[name]
    assert set(experiment.metrics) <= set(METRICS)
    assert set(experiment.sets) <= {*all_facts(), *GROUPS}
    assert set(experiment.classes) <= set(measured_sets(experiment))
    assert all(row.method in METHODS for row in experiment.rows)
    every = {n.method for data_set in published() for n in data_set.numbers if n.source == experiment.paper.source}
    assert {method for more in experiment.also for method in more.methods} <= every
    assert set(experiment.backbones) <= every
    for key, layout in experiment.layouts.items():
        assert layout in all_facts()[key].layouts
    for key, names in experiment.classes.items():
        known = all_facts()[key].classes(all_facts()[key].layouts[0])
        assert not known or set(names) <= set(known)


@pytest.mark.parametrize("name", [name for name, e in NAMES.items() if e.kind in ("means", "classes") and e.table])
def test_every_row_of_print_is_measured_with_the_settings_that_it_belongs_to(name: str):
    """Our line of each planned row and part is the counterpart of the number, by the published numbers' own rule."""
    experiment = NAMES[name]
    made = paper_plan(experiment, EVERYWHERE, Wish())
    wanted = {(row.method, row.ours.parts) for row in printed_rows(experiment)}
    assert wanted == {(method, part) for (_, part), method in made.names.items()}
    for row in made.plan.rows:
        for part in row.parts or ("",):
            method = made.names[row.name, part]
            own = next(p for p in printed_rows(experiment) if (p.method, p.ours.parts) == (method, part))
            config = find_method(row.method).make_config(
                row.preset, **{**row.settings, **({"parts": part} if part else {})}
            )
            assert own.ours.fits(row.method, part, config_dict(config))


def test_auxiliary_sets_are_needed_and_never_the_measured_one():
    assert needed_sets(NAMES["iccv25-table7"]) == ["mvtec", "visa"]
    assert needed_sets(NAMES["iccv25-table11"]) == ["visa", "mvtec"]
    assert needed_sets(NAMES["cvpr24-table1"]) == ["mvtec", "visa"]
    alone = Places({"mvtec": Path("mvtec")}, [])
    made = paper_plan(NAMES["iccv25-table7"], alone, Wish())
    assert {row.method for row in made.plan.rows} & {"faprompt", "anomalyclip", "coop"} == set()
    assert any("visa is not there" in line for line in made.missing)


def test_sets_are_found_by_what_they_hold(tmp_path: Path):
    miniature_sets.btad(tmp_path / "some name")
    miniature_sets.visa(tmp_path / "deep" / "er")
    places = find_sets([str(tmp_path)], ["visa", "btad", "mvtec"])
    assert places.sets["visa"] == tmp_path / "deep" / "er" and "btad" in places.sets
    [line] = places.missing
    assert "MVTec AD" in line and "licence" in line and "mvtec=" in line
    named = find_sets([f"btad={places.sets['btad']}"], ["btad"])
    assert named.sets == {"btad": places.sets["btad"]} and not named.missing


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"paper": "cvpr24-table99"}, "cvpr24-table9"),
        ({"paper": "cvpr24-table1", "shots": "1"}, "says what is measured"),
        ({"paper": "cvpr24-table1", "preset": "clean,paper"}, "has its own settings"),
        ({"paper": "cvpr24-table1", "preset": "clean"}, "has its own settings"),
        ({"paper": "cvpr24-table1", "data": ("no/such",)}, "there is no such folder"),
        ({"paper": "cvpr24-table1", "data": ("mvtek=.",)}, "no set has the key"),
        ({"data": (".",), "on": (Path(),), "method": "clip"}, "goes with a table or figure"),
        ({"paper": "cvpr24-table1", "settings": {"epocs": 1}}, "epochs"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(given: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words) as error:
        BenchRequest(**given).read_paper()
    assert "\n" not in str(error.value)


def test_a_dry_run_says_what_is_missing_and_what_differs():
    request = BenchRequest(paper="cvpr24-table2", data=())
    lines = paper_lines(request.read_paper()[0])
    text = "\n".join(lines)
    assert "MVTec AD is not among" in text and "licence" in text
    assert "printed    alone: RegAD (published only)" in text
    assert "five draws" in text and "in all     0 units, 0 trainings" in lines
    # What it would be with all sets: 15 classes, five draws of PromptAD with 1 and 4, of FastRecon with 8; one run with all photos.
    assert lines[-1].startswith(f"whole      with every set there: {15 * (5 * 3 + 2)} units, 0 trainings")
    assert any(line.startswith("missing    checkpoint 'ViT-B-16-plus-240/laion400m_e32'") for line in lines)


def test_a_dry_run_counts_a_training_once_for_all_sets_that_it_serves():
    lines = paper_lines(BenchRequest(paper="iccv25-table6", data=()).read_paper()[0])
    trained = [line for line in lines if line.startswith("train ")]
    # Length 4 and 9 layers are one training; MVTec AD itself is in none of the two means.
    assert len(trained) == 7 and all(", on mvtec: 1 training; measured on visa, mpdd" in line for line in trained)
    assert ", 7 trainings at most" in lines[-1]
    lines = paper_lines(BenchRequest(paper="wacv24-table3").read_paper()[0])
    [line] = [line for line in lines if line.startswith("train      promptad-zs")]
    assert "without each class in turn: 150 trainings" in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bmvc23-fig5", "missing    captions of COCO: get annotations_trainval2017.zip"),
        ("bmvc23-fig5", "train      rwda, on words alone: 1 training"),
        ("iccv25-table3", "missing    checkpoint 'ViT-L-14-336/openai'"),
        ("cvpr24-fig11", "missing    checkpoint 'ViT-B-16-plus-240/laion400m_e32'"),
        ("iccv25-table1", "photos are counted"),
    ],
)
def test_a_dry_run_of_what_measures_nothing_says_what_it_needs(name: str, words: str):
    assert any(words in line for line in paper_lines(BenchRequest(paper=name).read_paper()[0]))


@pytest.mark.parametrize("name", NAMES)
def test_every_dry_run_says_units_trainings_and_what_is_missing(name: str):
    lines = paper_lines(BenchRequest(paper=name).read_paper()[0])
    assert lines[0].startswith("makes") and any(line.startswith("in all") for line in lines)
    needed = len(needed_sets(NAMES[name]))
    assert sum(line.startswith("missing") and "is not among" in line and "licence" in line for line in lines) == needed
    assert NAMES[name].kind == "counts" or any("checkpoint" in line or line.startswith("backbone") for line in lines)


def test_a_wish_is_said_and_a_row_keeps_what_it_varies():
    made = paper_plan(find_experiment("cvpr24-fig5"), EVERYWHERE, Wish(settings={"epochs": 3, "alignment_weight": 9.0}))
    assert {row.settings["alignment_weight"] for row in made.plan.rows} == {0.0, 0.0001, 0.001, 0.01, 0.1, 1.0}
    assert all(row.settings["epochs"] == 3 for row in made.plan.rows)
    assert any("epochs=3" in line and "not the paper's" in line for line in made.remarks)
    assert [point.x for point in made.points.values()] == ["0", "0.0001", "0.001", "0.01", "0.1", "1"]


def test_captions_with_either_word_are_read(tmp_path: Path):
    (tmp_path / "annotations").mkdir()
    texts = ["A normal day.", "heavy damage to a car", "a cat", "Normal"]
    content = ", ".join(f'{{"caption": "{text}"}}' for text in texts)
    (tmp_path / "annotations" / "captions_val.json").write_text(f'{{"annotations": [{content}]}}')
    assert coco_captions([tmp_path]) == {"normal": ["A normal day.", "Normal"], "anomalous": ["heavy damage to a car"]}


@pytest.mark.parametrize("content", ["{", "[]", '{"annotations": 3}', '{"annotations": [{"id": 1}]}', "[" * 10**5])
def test_what_is_no_file_of_captions_is_one_line_that_names_it(tmp_path: Path, content: str):
    (tmp_path / "captions_val.json").write_text(content)
    with pytest.raises(DataError, match=r"captions_val\.json: is not COCO's file of captions") as error:
        coco_captions([tmp_path])
    assert "\n" not in str(error.value)


def test_a_plane_keeps_neighbours_together():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    groups = {name: torch.randn(20, 8, generator=generator) + 20 * place for place, name in enumerate(("a", "b"))}
    plane = embedded(groups)
    assert plane == embedded(groups) and {name: len(points) for name, points in plane.items()} == {"a": 20, "b": 20}
    a, b = (torch.tensor(plane[name]) for name in ("a", "b"))
    inside = torch.cdist(a, a).amax() + torch.cdist(b, b).amax()
    assert torch.cdist(a, b).amin() > 0 and (a.mean(0) - b.mean(0)).norm() > inside / 4


def test_a_plan_without_rows_is_refused():
    made = paper_plan(NAMES["cvpr24-table1"], Places({}, []), Wish())
    with pytest.raises(ConfigError, match="names no data set"):
        replace(made.plan, rows=()).require_content()
