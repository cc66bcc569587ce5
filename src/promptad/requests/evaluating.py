"""A request to measure methods on a labelled data set: `promptad evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptad.annotations import Above0, Positive
from promptad.data.files import shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.methods.catalogue import FACTS as METHOD_FACTS
from promptad.methods.catalogue import Facts, method_facts, require_memory
from promptad.notices import gathered_notices, notice
from promptad.requests.asked import INPUT_RANGE, LAYOUT, add_once, asked, require_file
from promptad.requests.data import chosen_classes
from promptad.requests.measuring import MeasuringRequest
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.bench.protocol import Protocol
    from promptad.bench.run import Outcome
    from promptad.bench.tables import Report
    from promptad.bench.variants import Variant
    from promptad.clip.backbone import Backbone
    from promptad.data.records import Record
    from promptad.saved.prompts import Learned


@dataclass(frozen=True)
class EvaluateRequest(MeasuringRequest):
    """Methods measured on a labelled data set, zero-shot and few-shot in one table."""

    dataset: Path = asked(
        "Data set: its folder as it was unpacked, one class of it, or a meta.json.", Path(), place="argument"
    )
    method: tuple[str, ...] = asked(
        f"{', '.join(METHOD_FACTS)}; several with commas. Default: those of the given trained prompts, else promptad.",
        (),
        commas=True,
    )
    preset: tuple[str, ...] = asked(
        "clean (recommended), paper, release; several with commas. Default: clean; trained prompts bring theirs.",
        (),
        commas=True,
    )
    weights: tuple[Path, ...] = asked(
        "Trained prompts instead of the package's; repeat for more rows. Files that differ only in their seed are runs of "
        "one row.",
        (),
    )
    parts: tuple[str, ...] = asked(
        "Rows from each fit, with commas: text, memory, fused of promptad; guided, classifier, sum of rwda. Default: the "
        "whole.",
        (),
        commas=True,
    )
    classes: tuple[str, ...] = asked("Only these classes, with commas. Default: all.", (), commas=True)
    normal: tuple[str, ...] = asked(
        "Folders of good photos that have another name than good, ok, pass, ..., with commas.", (), commas=True
    )
    layout: str = asked(LAYOUT, "auto")
    object: str | None = asked("What the photos of a data set of one class show. Default: its folder's name.", None)
    eval_size: Positive | Literal["photo"] | None = asked(
        "Side in pixels to which maps and masks are brought, or photo: each photo's own. Default: the preset's, 400 or "
        "(faprompt, anomalyclip as printed) 518.",
        None,
    )
    convention: Mapping[str, Any] = asked(
        "How all rows are measured, instead of as each preset's paper does: masks=nearest|nearest_1024|bilinear, "
        "pixels=photo|inspected, shot_order=sorted|directory; repeat for more.",
        {},
    )
    shots_from: tuple[Path, ...] = asked(
        "JSON with the good photos to use instead of a draw: names, SHA-256 or numbers in a listing, or a manifest from an "
        "earlier run's shots folder; repeat for more.",
        (),
    )
    oracle_test: bool = asked(
        "Also choose the epoch on the test set, as some published numbers do; marked oracle.", False
    )
    input_range: Above0 | None = asked(INPUT_RANGE, None)
    settings: Mapping[str, Any] = asked(
        "Any setting of the methods as key=value, e.g. epochs=200; repeat for more.", {}, option="--set"
    )
    output: Path | None = asked(
        "Folder for tables and results. Default: ./evaluate-DATASET.", None, option="-o --output"
    )

    def check(self) -> None:
        """What needs no photo, before anything is loaded."""
        super().check()
        if not self.method and not self.weights:  # with files, these say it when they are read
            object.__setattr__(self, "method", ("promptad",))
        facts = [method_facts(name) for name in self.method]
        for name in self.method if self.memory_backbone is not None else ():
            require_memory(name)
        if self.oracle_test and "selection" in self.convention:
            raise ConfigError(
                f"selection is given twice, as {argument('oracle_test')} and among {argument('convention')}"
            )
        if "eval_size" in self.convention and self.eval_size is not None:
            raise ConfigError(
                f"eval_size is given twice, as {argument('eval_size')} and among {argument('convention')}"
            )
        if facts and not any(self.shots) and all(entry.good_photos == "needed" for entry in facts):
            raise ConfigError(
                f"{self.method[0]} learns from good photos; give {argument('shots')} of at least 1, such as 1,2,4"
            )
        self.check_draws(self.method)
        if facts:
            self._refuse_without_effect(facts)

    def _refuse_without_effect(self, facts: Sequence[Facts]) -> None:
        """Refuses inputs that none of the methods has a use for. Raises ConfigError."""
        named = ", ".join(self.method)
        oracle = self.oracle_test or self.convention.get("selection", "last") != "last"
        if oracle and "promptad" not in self.method:
            raise ConfigError(
                f"{argument('oracle_test')} chooses an epoch of promptad's fit; add {argument('method', 'promptad')}"
            )
        for part in self.parts:
            known = {part for entry in METHOD_FACTS.values() for part in entry.parts}
            if part in known and not any(part in entry.parts for entry in facts):
                raise ConfigError(f"{argument('parts', part)}: {named} gives no such row; leave it out")
        if all(entry.good_photos == "unused" for entry in facts):
            learns = f"nothing is drawn for {named}, which learns from no good photo; leave it out"
            self.refuse(["shots_from"], learns)
            if "shot_order" in self.convention:
                raise ConfigError(f"{argument('convention', 'shot_order')}: {learns}")
        if not any(entry.maps for entry in facts):
            maps = f"{named} gives no anomaly maps to compare with masks; leave it out"
            self.refuse(["eval_size"], maps)
            for name in ("eval_size", "masks", "pixels"):
                if name in self.convention:
                    raise ConfigError(f"{argument('convention', name)}: {maps}")
        if "masks" in self.convention and "photo" in (self.eval_size, self.convention.get("eval_size")):
            raise ConfigError(
                f"{argument('convention', 'masks')}: masks keep their own size ({argument('eval_size', 'photo')}), so nothing "
                "brings them to another; leave one out"
            )

    def _say_without_effect(self) -> None:
        """Says which inputs change nothing, because all methods here lack what they are about."""
        facts = [method_facts(name) for name in self.method]
        named = ", ".join(self.method)
        if all(entry.good_photos == "unused" for entry in facts):
            idle = [argument(name) for name in self.given(("shots", "seeds")) if name != "shots" or any(self.shots)]
            idle += [f"seed among {argument('settings')}"] if "seed" in self.settings else []
            if idle:
                notice(
                    f"{', '.join(idle)}: not used, since {named} learns from no good photo and draws nothing: one row each, "
                    "one run for each file of trained prompts"
                )
        elif all(entry.good_photos == "needed" for entry in facts) and 0 in self.shots and self.given(["shots"]):
            notice(f"{argument('shots', '0')}: not used, {named} cannot do without good photos")

    def run(self, *, progress: Progress | None = None) -> Evaluated:
        """Measures everything and writes the tables.

        Args:
            progress: called with photos done and photos in all.

        Raises:
            PromptadError: whatever stops the run, or nothing could be measured.
        """
        from promptad.data.datasets import load_dataset

        for path in self.weights:
            require_file(path, "file of trained prompts")
        if not self.method:
            return self._with_methods_of_files().run(progress=progress)
        self._say_without_effect()
        self.require_backbone()
        records = chosen_classes(load_dataset(self.dataset, self.layout, self.normal), self.classes)
        objects = self._objects(records)
        from promptad.bench.draw import read_given_shots
        from promptad.bench.protocol import Protocol
        from promptad.bench.run import Evaluation, run
        from promptad.bench.variants import plain_variants
        from promptad.data.lock import prepared_folder
        from promptad.learning.features import GIB

        shots, measured = tuple(dict.fromkeys(self.shots)), self._conventions()
        plain = plain_variants(list(self.method), list(self.preset or ("clean",)))
        draws: dict[str, Any] = {"limit": self.limit, "anomalies": self.anomalies, "anomaly_draw": self.anomaly_draw}
        Protocol(plain, shots, self.seeds, conventions=measured, **draws)  # before weights are loaded
        given = read_given_shots(list(self.shots_from), records) if self.shots_from else None
        variants, base_seed, clip = self._variants()
        protocol = Protocol(variants, shots, self.seeds, base_seed, measured, objects, given, **draws)
        root = self.dataset.resolve() if self.dataset.is_dir() else self.dataset.resolve().parent
        out = self.output or Path(f"evaluate-{root.name}")
        keep = int(self.feature_memory * GIB)
        with prepared_folder(out), gathered_notices():
            store = self.feature_store()
            outcome = run(Evaluation(protocol, records, clip, out, root, store, keep, self.fresh, progress))
        if not outcome.units:
            reasons = [failure.reason for failure in outcome.failures] or outcome.problems
            for reason in reasons[1:]:
                notice(reason)
            raise DataError(
                f"{root.name}: nothing could be evaluated; {reasons[0] if reasons else 'it has no test photo'}"
            )
        return Evaluated(outcome, protocol, clip, root.name, out)

    def _with_methods_of_files(self) -> EvaluateRequest:
        """The same for the methods that the given trained prompts are of, which meet the same rules then."""
        from promptad.saved.prompts import read_learned

        files = {path: read_learned(path).method for path in self.weights}
        notice(
            "evaluated is the method of the given trained prompts: "
            + ", ".join(f"{method} ({shown(path)})" for path, method in files.items())
        )
        return replace(self, method=tuple(dict.fromkeys(files.values())))

    def _conventions(self) -> dict[str, Any]:
        """What holds for all rows; checked by `bench.conventions.Conventions`."""
        values = dict(self.convention)
        if self.eval_size is not None:
            values["eval_size"] = self.eval_size
        if self.oracle_test:
            values["selection"] = "oracle_test"
        return values

    def _objects(self, records: Sequence[Record]) -> dict[str, str]:
        classes = list(dict.fromkeys(record.class_name for record in records))
        if self.object is not None and len(classes) > 1:
            raise ConfigError(
                f"{argument('object')} names one class, {self.dataset} has {len(classes)}; choose one "
                f"({argument('classes')})"
            )
        return {classes[0]: self.object} if self.object is not None else {}

    def _variants(self) -> tuple[tuple[Variant, ...], int, Backbone]:
        """What is evaluated, its base seed, and the loaded backbone; settings are checked before anything is loaded."""
        from promptad.bench.variants import DEFAULT_SEED, make_variants

        values = dict(self.settings)
        if self.input_range is not None:
            add_once(values, "input_range", self.input_range, "input_range")
        base_seed = values.pop("seed", DEFAULT_SEED)
        if not isinstance(base_seed, int) or isinstance(base_seed, bool):
            raise ConfigError(f"{argument('settings', f'seed={base_seed}')}: expected a whole number")
        methods, presets, parts = list(self.method), list(self.preset or ("clean",)), list(self.parts)
        make_variants(methods, presets, values, parts)
        clip = self.open_backbone()
        learned = self._trained_prompts(clip)
        for file in learned:
            if self.preset and file.preset not in presets:
                raise ConfigError(
                    f"{argument('preset', ','.join(presets))}: {file.path.name} was trained with preset {file.preset}; "
                    f"train with `promptad train {file.method} --preset {presets[0]}` and give the file "
                    f"({argument('weights')})"
                )
        return make_variants(methods, presets, values, parts, learned), base_seed, clip

    def _trained_prompts(self, clip: Backbone) -> list[Learned]:
        """The trained prompts of these methods: a person's own, else the package's.

        Raises:
            ConfigError: a file of a method that is not evaluated. WeightsError: unreadable, or none in the package.
        """
        from promptad.saved.prompts import find_learned, read_learned

        own = [read_learned(path) for path in self.weights]
        for learned in own:
            if learned.method not in self.method:
                raise ConfigError(
                    f"{argument('weights')}: {learned.path} holds prompts of {learned.method}; add it "
                    f"({argument('method')})"
                )
        given = {learned.method for learned in own}
        missing = [name for name in self.method if method_facts(name).trained_on is not None and name not in given]
        return own + [find_learned(name, clip) for name in missing]


@dataclass(frozen=True)
class Evaluated:
    """What was measured, by which protocol, with which backbone, on which data set, and where its files lie."""

    outcome: Outcome
    protocol: Protocol
    backbone: Backbone
    title: str
    out: Path

    @property
    def lines(self) -> list[str]:
        """One for everything that could not be measured, and every photo that could not be used."""
        return [*(failure.reason for failure in self.outcome.failures), *self.outcome.problems]

    def write(self) -> tuple[Report, list[Path]]:
        """Writes the tables; gives the report and its files.

        Raises:
            DataError: it cannot be written.
        """
        from promptad.bench.files import write_report
        from promptad.bench.tables import make_report

        report = make_report(self.title, self.protocol, (self.backbone.title, self.backbone.identity), self.outcome)
        return report, list(write_report(report, self.out))
