"""The methods by name. A new method is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from promptad.clip.backbone import Backbone
from promptad.methods import one_class
from promptad.methods.anomalyclip import config as anomalyclip
from promptad.methods.anomalyclip.method import AnomalyCLIP
from promptad.methods.aprilgan import config as aprilgan
from promptad.methods.aprilgan.method import AprilGAN
from promptad.methods.baselines import (
    anovl,
    cocoop,
    cocoop_oneclass,
    coop,
    coop_oneclass,
    devnet,
    devnet_zs,
    dra,
    dra_zs,
    ensemble,
    fastrecon,
    maple,
    mlep_proxy,
    mlep_proxy_zs,
    padim,
    patchcore,
    simplenet,
    spade,
    tcp,
    transmm,
    winclip,
)
from promptad.methods.catalogue import FACTS, Facts, GoodPhotos, method_facts
from promptad.methods.contract import Method, ScoreKind
from promptad.methods.faprompt import config as faprompt
from promptad.methods.faprompt.method import FAPrompt
from promptad.methods.mrad import config as mrad
from promptad.methods.mrad.method import MRAD
from promptad.methods.musc import method as musc
from promptad.methods.promptad import config as promptad
from promptad.methods.promptad.method import PromptAD
from promptad.methods.promptad_zs import config as promptad_zs
from promptad.methods.promptad_zs.method import PromptADZeroShot
from promptad.methods.rwda import config as rwda
from promptad.methods.rwda.method import RWDA
from promptad.methods.settings import FREE_SETTINGS, ScoringConfig, check_keys, make_config
from promptad.methods.uniadet import config as uniadet
from promptad.methods.uniadet.method import UniADet


@dataclass(frozen=True)
class Entry:
    """How a method is made.

    Attributes:
        build: (backbone, config, object name) -> method. config: its dataclass. presets: named settings.
        facts: what is known of it without loading it.
        map_range: where the colours of heat maps begin and end as long as no good photo sets them.
        map_bounds: values that become black and white in 16-bit map files.
        score_kind: what its image scores are, which decides how a threshold is extrapolated from few good photos.
            part_kinds: the same of single parts where they are another kind; see :meth:`kind_of`.
        free: settings that may differ from those of training.
    """

    build: Callable[[Backbone, Any, str], Method]
    config: type[ScoringConfig]
    presets: Mapping[str, Mapping[str, Any]]
    facts: Facts
    map_range: tuple[float, float] = (0.5, 1.0)
    map_bounds: tuple[float, float] = (0.0, 1.0)
    score_kind: ScoreKind = "deviation"
    part_kinds: Mapping[str, ScoreKind] = field(default_factory=dict)
    free: tuple[str, ...] = FREE_SETTINGS

    @property
    def title(self) -> str:
        """As reports write it."""
        return self.facts.title

    @property
    def good_photos(self) -> GoodPhotos:
        """Whether good photos are "needed" to score at all, "optional" to score better, or "unused" but for the threshold."""
        return self.facts.good_photos

    @property
    def needs_good_photos(self) -> bool:
        """Whether it cannot score before it has seen a good photo."""
        return self.good_photos == "needed"

    @property
    def learns_anomalies(self) -> bool:
        """Whether labelled defective photos are something to learn from."""
        return self.facts.anomalies != "unused"

    @property
    def trained(self) -> bool:
        """Whether it needs prompts that were trained once (`methods.contract.Trained`), shipped or a person's own."""
        return self.facts.trained_on is not None

    @property
    def parts(self) -> tuple[str, ...]:
        """Scores that can be had one by one with the setting `parts`, the whole one last; () without that setting."""
        return self.facts.parts

    def kind_of(self, config: ScoringConfig) -> ScoreKind:
        """What the scores are with this config."""
        return self.part_kinds.get(config.scored_parts, self.score_kind)

    def map_range_of(self, config: ScoringConfig) -> tuple[float, float]:
        """Its `map_range`, or that of maps that are of another range with this config."""
        return config.own_map_range or self.map_range

    @property
    def setting_names(self) -> tuple[str, ...]:
        """The fields of the config that the method has a use for."""
        return tuple(field.name for field in fields(self.config) if field.name not in self.config.idle)

    def make_config(self, preset: str = "clean", **overrides: Any) -> Any:
        """The config of a preset with overrides. Raises ConfigError for unknown names."""
        return make_config(self.config, preset, self.presets, overrides, self.title)

    def read_config(self, values: Mapping[str, Any]) -> Any:
        """The config from saved values, of earlier versions too. Raises ConfigError for unknown names."""
        return self.config(**check_keys(self.config, values, saved=True))


METHODS: dict[str, Entry] = {
    "promptad": Entry(
        PromptAD,
        promptad.PromptADConfig,
        promptad.PRESETS,
        FACTS["promptad"],
        score_kind="distance",
        part_kinds={"text": "probability"},
    ),
    "faprompt": Entry(
        FAPrompt,
        faprompt.FAPromptConfig,
        faprompt.PRESETS,
        FACTS["faprompt"],
        score_kind="probability",
        map_range=(0.1, 0.5),  # most pixels are normal, so defects seldom reach probabilities above a half
    ),
    "anomalyclip": Entry(
        AnomalyCLIP,
        anomalyclip.AnomalyCLIPConfig,
        anomalyclip.PRESETS,
        FACTS["anomalyclip"],
        score_kind="probability",
        map_range=(0.1, 0.5),  # most pixels are normal, so defects seldom reach probabilities above a half
    ),
    "aprilgan": Entry(
        AprilGAN,
        aprilgan.AprilGANConfig,
        aprilgan.PRESETS,
        FACTS["aprilgan"],
        score_kind="probability",
        map_range=(0.4, 2.0),  # a probability of each of four layers, most of them low even on defects
        map_bounds=(0.0, 12.0),  # and with good photos a distance of at most 2 of each
        free=aprilgan.FREE,
    ),
    "uniadet": Entry(
        UniADet,
        uniadet.UniADetConfig,
        uniadet.PRESETS,
        FACTS["uniadet"],
        score_kind="probability",
        map_range=(0.1, 0.5),  # most pixels are normal, so defects seldom reach probabilities above a half
        free=uniadet.FREE,
    ),
    "mrad": Entry(
        MRAD,
        mrad.MRADConfig,
        mrad.PRESETS,
        FACTS["mrad"],
        map_range=(0.1, 0.5),  # shares of anomalous keys
    ),
    "winclip": Entry(
        winclip.WinCLIP,
        winclip.WinCLIPConfig,
        winclip.PRESETS,
        FACTS["winclip"],
        score_kind="probability",
    ),
    "patchcore": Entry(
        patchcore.PatchCore,
        patchcore.PatchCoreConfig,
        patchcore.PRESETS,
        FACTS["patchcore"],
        score_kind="distance",
        map_bounds=(0.0, 16.0),  # squared distances of four layers of length 1 reach 16
    ),
    "padim": Entry(
        padim.PaDiM,
        padim.PaDiMConfig,
        padim.PRESETS,
        FACTS["padim"],
        score_kind="distance",
        map_range=(0.0, 150.0),
        map_bounds=(0.0, 600.0),
    ),
    "spade": Entry(
        spade.SPADE,
        spade.SPADEConfig,
        spade.PRESETS,
        FACTS["spade"],
        score_kind="distance",
        map_bounds=(0.0, 2.0),
    ),
    "fastrecon": Entry(
        fastrecon.FastRecon,
        fastrecon.FastReconConfig,
        fastrecon.PRESETS,
        FACTS["fastrecon"],
        score_kind="distance",
        map_bounds=(0.0, 2.0),
    ),
    "simplenet": Entry(
        simplenet.SimpleNet,
        simplenet.SimpleNetConfig,
        simplenet.PRESETS,
        FACTS["simplenet"],
        map_range=(-1.0, 1.0),
        map_bounds=(-4.0, 4.0),
    ),
    "devnet": Entry(
        devnet.DevNet,
        devnet.DevNetConfig,
        devnet.PRESETS,
        FACTS["devnet"],
        map_range=(0.0, 5.0),
        map_bounds=(0.0, 50.0),
    ),
    "dra": Entry(
        dra.DRA,
        dra.DRAConfig,
        dra.PRESETS,
        FACTS["dra"],
        map_range=(0.0, 15.0),
        map_bounds=(0.0, 100.0),
    ),
    "mlep-proxy": Entry(
        mlep_proxy.MLEPProxy,
        mlep_proxy.MLEPProxyConfig,
        mlep_proxy.PRESETS,
        FACTS["mlep-proxy"],
    ),
    "clip": Entry(
        ensemble.TextEnsemble,
        ensemble.EnsembleConfig,
        ensemble.PRESETS,
        FACTS["clip"],
        score_kind="probability",
    ),
    "anovl": Entry(
        anovl.AnoVL,
        anovl.AnoVLConfig,
        anovl.PRESETS,
        FACTS["anovl"],
        map_range=(0.38, 0.5),  # without temperature probabilities stay close to one half, the adapter lowers them
        score_kind="probability",
    ),
    "transmm": Entry(
        transmm.TransMM,
        transmm.TransMMConfig,
        transmm.PRESETS,
        FACTS["transmm"],
        map_range=(0.0, 0.05),  # of all blocks with the starter weights; few patches reach more
        map_bounds=(-0.5, 1.0),  # the difference of two relevances can be negative
        score_kind="probability",
    ),
    "coop": Entry(
        coop.CoOp,
        coop.CoOpConfig,
        coop.PRESETS,
        FACTS["coop"],
        score_kind="probability",
    ),
    "cocoop": Entry(
        cocoop.CoCoOp,
        cocoop.CoCoOpConfig,
        cocoop.PRESETS,
        FACTS["cocoop"],
        score_kind="probability",
    ),
    "tcp": Entry(
        tcp.TCP,
        tcp.TCPConfig,
        tcp.PRESETS,
        FACTS["tcp"],
        score_kind="probability",
    ),
    "coop-oneclass": Entry(
        coop_oneclass.CoOpOneClass,
        coop_oneclass.CoOpOneClassConfig,
        one_class.PRESETS,
        FACTS["coop-oneclass"],
        score_kind="probability",
    ),
    "cocoop-oneclass": Entry(
        cocoop_oneclass.CoCoOpOneClass,
        cocoop_oneclass.CoCoOpOneClassConfig,
        one_class.PRESETS,
        FACTS["cocoop-oneclass"],
        score_kind="probability",
    ),
    "maple": Entry(
        maple.MaPLe,
        maple.MaPLeConfig,
        one_class.PRESETS,
        FACTS["maple"],
        score_kind="probability",
    ),
    "musc": Entry(
        musc.MuSc,
        musc.MuScConfig,
        musc.PRESETS,
        FACTS["musc"],
        score_kind="distance",
        map_range=musc.MAP_RANGE,
        map_bounds=(0.0, 2.0),  # Euclidean distances of unit vectors
    ),
    "promptad-zs": Entry(
        PromptADZeroShot,
        promptad_zs.PromptADZeroShotConfig,
        promptad_zs.PRESETS,
        FACTS["promptad-zs"],
        map_bounds=(-50.0, 50.0),
        map_range=(0.0, 30.0),  # scores are unbounded: defects of objects that were not trained on reach 20 to 40
        free=(*FREE_SETTINGS, "definition", "image_score", "scored", "few_shot"),
    ),
    "devnet-zs": Entry(
        devnet_zs.DevNetZeroShot,
        devnet_zs.DevNetZeroShotConfig,
        devnet_zs.PRESETS,
        FACTS["devnet-zs"],
        map_range=(0.0, 5.0),
        map_bounds=(0.0, 50.0),
    ),
    "dra-zs": Entry(
        dra_zs.DRAZeroShot,
        dra_zs.DRAZeroShotConfig,
        dra_zs.PRESETS,
        FACTS["dra-zs"],
        map_range=(0.0, 15.0),
        map_bounds=(0.0, 100.0),
        free=(*FREE_SETTINGS, "few_shot"),
    ),
    "mlep-proxy-zs": Entry(
        mlep_proxy_zs.MLEPProxyZeroShot,
        mlep_proxy_zs.MLEPProxyZeroShotConfig,
        mlep_proxy_zs.PRESETS,
        FACTS["mlep-proxy-zs"],
    ),
    "rwda": Entry(
        RWDA,
        rwda.RWDAConfig,
        rwda.PRESETS,
        FACTS["rwda"],
        score_kind="sum",
        part_kinds={"guided": "probability", "classifier": "probability"},
        free=rwda.FREE,
    ),
}


def find_method(name: str) -> Entry:
    """The entry of that name. Raises ConfigError naming the known ones."""
    method_facts(name)
    return METHODS[name]
