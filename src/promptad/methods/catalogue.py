"""What is known of the methods before anything is loaded: what they learn from and what they give.

No torch here: requests are checked against it before the seconds that loading takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from promptad.errors import ConfigError
from promptad.inputs import argument

Role = Literal["needed", "optional", "unused"]
GoodPhotos = Role
Needs = Literal["masks", "labels", "nothing"]


@dataclass(frozen=True)
class Facts:
    """One method.

    Attributes:
        title: as reports write it.
        good_photos: "needed" to score at all, "optional" to score better, or "unused" but for the threshold.
        trained_on: what it is trained on once, away from the product: photos with "masks", photos with "labels", or
            "nothing" but words; None for methods without such training.
        maps: whether it gives anomaly maps. seed: whether anything in it is drawn.
        parts: scores that can be had one by one with the setting `parts`, the whole one last; () without that setting.
        anomalies: the same as `good_photos` of labelled defective photos: whether the method learns from them.
        memory: whether it keeps tapped tokens of good photos, which may then be those of a second image tower.
        tuned: whether it has settings that `promptad.tuning` chooses on good photos.
        unlabelled: whether what it learns from may be good or defective, so that it sets no threshold.
    """

    title: str
    good_photos: GoodPhotos
    trained_on: Needs | None = None
    maps: bool = True
    seed: bool = True
    parts: tuple[str, ...] = ()
    anomalies: Role = "unused"
    memory: bool = False
    tuned: bool = False
    unlabelled: bool = False


FACTS: dict[str, Facts] = {
    "promptad": Facts("PromptAD (CVPR 2024)", "needed", parts=("text", "memory", "fused"), memory=True, tuned=True),
    "faprompt": Facts("FAPrompt (ICCV 2025)", "unused", "masks"),
    "anomalyclip": Facts("AnomalyCLIP (ICLR 2024)", "unused", "masks"),
    "aprilgan": Facts("APRIL-GAN (VAND 2023)", "optional", "masks"),
    "uniadet": Facts("UniADet (2026)", "optional", "masks"),
    "mrad": Facts("MRAD (ICLR 2026)", "unused", "masks"),
    "winclip": Facts("WinCLIP (CVPR 2023)", "optional", seed=False),
    "patchcore": Facts("PatchCore (CVPR 2022) on CLIP", "needed", memory=True),
    "padim": Facts("PaDiM (ICPR 2021) on CLIP", "needed", memory=True),
    "spade": Facts("SPADE (2020) on CLIP", "needed", seed=False, memory=True),
    "fastrecon": Facts("FastRecon (ICCV 2023) on CLIP", "needed", memory=True),
    "simplenet": Facts("SimpleNet (CVPR 2023) on CLIP", "needed", memory=True),
    "devnet": Facts("DevNet (KDD 2019) on CLIP", "needed", anomalies="needed"),
    "dra": Facts("DRA (CVPR 2022) on CLIP", "needed", anomalies="needed"),
    "mlep-proxy": Facts("stand-in for MLEP (IJCAI 2019) on CLIP", "needed", maps=False, anomalies="needed"),
    "clip": Facts("CLIP text ensemble, untrained", "unused", seed=False),
    "anovl": Facts("AnoVL (2023)", "unused"),
    "transmm": Facts("Trans-MM (ICCV 2021) on CLIP", "unused", seed=False),
    "coop": Facts("CoOp (IJCV 2022), zero-shot", "unused", "labels"),
    "cocoop": Facts("CoCoOp (CVPR 2022), zero-shot", "unused", "labels"),
    "tcp": Facts("TCP (CVPR 2024), zero-shot", "unused", "labels"),
    "coop-oneclass": Facts("CoOp (IJCV 2022), one-class", "needed"),
    "cocoop-oneclass": Facts("CoCoOp (CVPR 2022), one-class", "needed"),
    "maple": Facts("MaPLe (CVPR 2023), one-class", "needed"),
    "musc": Facts("MuSc (ICLR 2024)", "needed", unlabelled=True),
    "promptad-zs": Facts("PromptAD zero-shot (WACV 2024)", "optional", "labels"),
    "devnet-zs": Facts("DevNet (KDD 2019) on CLIP, zero-shot", "unused", "labels"),
    "dra-zs": Facts("DRA (CVPR 2022) on CLIP, zero-shot", "optional", "labels"),
    "mlep-proxy-zs": Facts("stand-in for MLEP (IJCAI 2019) on CLIP, zero-shot", "unused", "labels", maps=False),
    "rwda": Facts("RWDA (BMVC 2023)", "optional", "nothing", maps=False, parts=("guided", "classifier", "sum")),
}


def names(*roles: GoodPhotos) -> str:
    """The methods for which good photos are that, in words for help texts."""
    return ", ".join(name for name, facts in FACTS.items() if facts.good_photos in roles)


def names_for_unlabelled() -> str:
    """The methods that learn from photos that may be good or defective, in words for help texts."""
    return ", ".join(name for name, facts in FACTS.items() if facts.unlabelled)


def names_for_anomalies() -> str:
    """The methods that learn from labelled defective photos, in words for help texts."""
    return ", ".join(name for name, facts in FACTS.items() if facts.anomalies != "unused")


def method_facts(name: str) -> Facts:
    """The facts of a method. Raises ConfigError naming the known ones."""
    if name not in FACTS:
        near = get_close_matches(name, FACTS, n=1)
        hint = f"did you mean {near[0]}? All are" if near else "expected one of"
        raise ConfigError(f"method {name!r} unknown; {hint} {', '.join(FACTS)}")
    return FACTS[name]


def require_anomalies(name: str, photos: int, where: str = "defective") -> None:
    """Raises ConfigError where a method learns from labelled defective photos and there are none.

    Args:
        photos: how many there are. where: the input that gives them, for the error.
    """
    facts = method_facts(name)
    if facts.anomalies == "needed" and not photos:
        raise ConfigError(
            f"{facts.title} learns from labelled defective photos beside good ones; give at least one ({argument(where)})"
        )


def names_with_memory() -> str:
    """The methods whose memory may be of a second image tower's tokens, in words."""
    return ", ".join(name for name, facts in FACTS.items() if facts.memory)


def require_memory(name: str) -> None:
    """Raises ConfigError where a second image tower is given to a method that has no memory of tapped tokens."""
    facts = method_facts(name)
    if not facts.memory:
        raise ConfigError(
            f"{facts.title} has no memory that a second image tower could make ({argument('memory_backbone')}); methods that "
            f"have one are {names_with_memory()}"
        )


def require_tuned(name: str) -> None:
    """Raises ConfigError where tuning is asked for of a method without settings to tune."""
    facts = method_facts(name)
    if not facts.tuned:
        known = ", ".join(key for key, other in FACTS.items() if other.tuned)
        raise ConfigError(
            f"{facts.title} has no settings that are chosen on good photos ({argument('tune', 'True')}); {known} has"
        )


def trained_facts(name: str) -> Facts:
    """The same of a method that is trained once. Raises ConfigError for the others, naming what to do instead."""
    facts = method_facts(name)
    if facts.trained_on is None:
        known = ", ".join(key for key, other in FACTS.items() if other.trained_on is not None)
        instead = (
            "learns from good photos: use `promptad fit`" if facts.good_photos == "needed" else "has nothing to train"
        )
        raise ConfigError(f"{name} {instead}; methods that are trained once are {known}")
    return facts
