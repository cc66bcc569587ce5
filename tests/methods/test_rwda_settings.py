"""Settings of RWDA: presets, the word pairs of the paper's table, the registry, and what makes no sense."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promptad.errors import ConfigError
from promptad.methods.registry import METHODS
from promptad.methods.rwda.config import PAIR_PRESETS, PRESETS, RWDAConfig
from promptad.methods.settings import FREE_SETTINGS, config_dict
from promptad.prompts.random_words import word_pairs


def test_presets():
    paper, release, clean = (RWDAConfig(**PRESETS[name]) for name in ("paper", "release", "clean"))
    assert paper == release
    for config in (paper, clean):
        assert (config.pairs, config.batch_pairs, config.epochs, config.seed) == (10_000, 64, 2, 111)
        assert (config.shortest_word, config.longest_word, config.parts) == (5, 10, "sum")
        assert config.guides == ("a", "a damaged") and config.hidden == (512, 256, 128) and config.dropout == 0.5
        recipe = config.recipe()
        assert (recipe.optimiser, recipe.epochs, recipe.lr, recipe.weight_decay) == ("adamw", 2, 1e-3, 1e-4)
        assert (recipe.decay_every, recipe.decay, recipe.seed) == (1, 0.1, 111)
    assert (paper.fit, paper.view_score, paper.normalize_input, paper.noise) == ("multicrop", "mean", False, 0)
    assert (paper.scale, paper.reference_weight) == (100, 1)
    assert (paper.articles, clean.articles, RWDAConfig().articles) == ("guide", "agree", "agree")
    assert (clean.fit, clean.view_score, clean.normalize_input, clean.noise) == ("auto", "max", True, 2)
    assert (clean.scale, clean.reference_weight) == (10, 1)


def test_every_word_pair_of_the_table_is_a_preset():
    assert len(PAIR_PRESETS) == 16 and set(PRESETS) == {"clean", "paper", "release", *PAIR_PRESETS}
    configs = {name: METHODS["rwda"].make_config(name) for name in PAIR_PRESETS}
    assert [config.guides for config in configs.values()] == word_pairs()
    assert configs["paper-a-damaged"] == METHODS["rwda"].make_config("paper")
    assert configs["paper-flawless-anomalous"].guides == ("a flawless", "an anomalous")
    assert {replace(config, normal_words="a", anomalous_words="a damaged") for config in configs.values()} == {
        configs["paper-a-damaged"]
    }


def test_the_registry_knows_what_may_differ_from_training():
    entry = METHODS["rwda"]
    assert entry.trained and entry.good_photos == "optional" and entry.parts == ("guided", "classifier", "sum")
    assert set(entry.free) - set(FREE_SETTINGS) == {"scale", "name_object", "reference_weight", "parts"}
    assert set(entry.free) <= {*entry.setting_names, *entry.config.idle}
    assert entry.read_config(config_dict(entry.make_config("paper"))) == entry.make_config("paper")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"parts": "memory"}, "guided, classifier, sum"),
        ({"normal_words": "a damaged"}, "are both"),
        ({"anomalous_words": ""}, "must be words"),
        ({"alphabet": "greek"}, "alphabet"),
        ({"articles": "sound"}, "articles"),
        ({"normal_words": "an", "anomalous_words": "a"}, "are both"),
        ({"shortest_word": 11}, "longest_word"),
        ({"pairs": 0}, "pairs"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": (5, 0)}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
        ({"batch_pairs": 0}, "batch_pairs"),
        ({"epochs": 0}, "epochs"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"reference_weight": -1.0}, "reference_weight"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_settings_that_make_no_sense(values, says):
    with pytest.raises(ConfigError, match=says) as caught:
        RWDAConfig(**values)
    assert "\n" not in str(caught.value)
