"""What requests to measure methods have in common: what is drawn from a data set, and how much of it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from promptad.annotations import Count, Positive, Shots
from promptad.inputs import argument
from promptad.methods.catalogue import method_facts, names_for_anomalies, require_anomalies
from promptad.requests.asked import FeaturesRequest, TowersRequest, asked


@dataclass(frozen=True)
class MeasuringRequest(FeaturesRequest, TowersRequest):
    """Draws of good photos and labelled anomalies, and the test photos."""

    shots: tuple[Shots, ...] = asked(
        "Numbers of good photos, with commas; 0 for methods that can do without, all for every training photo.",
        (0, 1, 2, 4),
        commas=True,
    )
    anomalies: tuple[Positive, ...] = asked(
        f"Numbers of labelled anomalies that {names_for_anomalies()} learn from, with commas, e.g. 1,10; they leave the test.",
        (),
        commas=True,
    )
    anomaly_draw: Literal["general", "hard"] = asked(
        "How they are drawn: general, of all types of damage; hard, of one type, of which no photo stays in the test.",
        "general",
    )
    seeds: Positive = asked("Runs, each with its own draw of good photos and initial prompts.", 5)
    limit: Count = asked("A first look: at most so many normal and anomalous test photos a class; 0: all.", 0)
    fresh: bool = asked("Compute everything again, whatever an earlier run left.", False)

    def check_draws(self, methods: Sequence[str]) -> None:
        """Refuses draws that none of the methods learns from, or that one cannot do without. Raises ConfigError.

        Args:
            methods: names; none where they are not known yet.
        """
        for name in methods:
            require_anomalies(name, len(self.anomalies), "anomalies")
        if not self.anomalies:
            self.refuse(
                ["anomaly_draw"], f"no labelled anomalies are drawn; give their number ({argument('anomalies')})"
            )
        if methods and all(method_facts(name).anomalies == "unused" for name in methods):
            self.refuse(
                ["anomalies"],
                f"{', '.join(methods)} learns nothing from labelled anomalies; leave it out, or add "
                f"{argument('method', 'devnet')}",
            )
