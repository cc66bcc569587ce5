"""Equations and sections are cited by the numbers that the papers print, and each by its own subject."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import promptad
from promptad.learning import deviation, losses, map_losses
from promptad.methods.faprompt.method import FAPrompt
from promptad.methods.promptad import method as few_shot
from promptad.methods.promptad import prompt_sets
from promptad.methods.promptad_zs import dual_branch
from promptad.methods.promptad_zs import method as zero_shot
from promptad.methods.rwda import method as rwda
from promptad.prompts import random_words
from promptad.scoring import fusion, prototypes
from promptad.scoring.memory import MemoryBank

ROOT = Path(promptad.__file__).parent
DOCS = ROOT.parents[1] / "docs" / "methods"
PAPERS = {"promptad": "000_", "faprompt": "002_", "rwda": "003_", "promptad-zs": "004_"}
# Sources and pages of each paper; a file of several papers is not searched, its parts stand in SUBJECTS.
FILES = {
    "promptad": ["methods/promptad/*.py", "learning/losses.py", "scoring/fusion.py", "scoring/memory.py"],
    "faprompt": ["methods/faprompt/*.py", "learning/map_losses.py"],
    "rwda": ["methods/rwda/*.py", "prompts/random_words.py"],
    "promptad-zs": ["methods/promptad_zs/*.py", "learning/deviation.py"],
}
# What cites, what it cites, and what the paper prints in that equation or under that heading.
SUBJECTS: list[tuple[str, Any, str, str]] = [
    ("promptad", MemoryBank.distance, "eq. 8", r"\min_{\mathbf{r} \in \mathbf{R}} \frac{1}{2} (1 -"),
    ("promptad", MemoryBank.distance, "section 4.1", "Overview"),
    ("promptad", prompt_sets.build_prompts, "eq. 9", r"\mathbf{s}^n ="),
    ("promptad", prompt_sets.build_prompts, "eq. 10", "[with][color][stain]"),
    ("promptad", prompt_sets.build_prompts, "eq. 11", r"\mathbf{s}^{l} ="),
    ("promptad", prompt_sets, "section 4.2", "Semantic Concatenation"),
    ("promptad", losses.one_class_contrastive, "eq. 12", r"\mathcal{L}_{clip}"),
    ("promptad", losses.explicit_anomaly_margin, "eq. 13", r"\mathcal{L}_{ema}"),
    ("promptad", losses.explicit_anomaly_margin, "section 4.3", "Explicit Anomaly Margin"),
    ("promptad", few_shot, "eq. 14", r"\bar{\mathbf{w}}^a = \frac"),
    ("promptad", losses.mean_alignment, "eq. 15", r"\mathcal{L}_{align}"),
    ("promptad", prototypes.anomalous_probability, "eq. 16", "score ="),
    ("promptad", prototypes.anomalous_probability, "section 4.4", "Anomaly Detection"),
    ("promptad", fusion.harmonic, "eqs. 17 and 18", r"\mathbf{M}_{pix}"),
    ("faprompt", FAPrompt._prior_patches, "equation 3", "Select top"),
    ("faprompt", map_losses.pairwise_cosine, "eq. 2", "L}_{oc}"),
    ("faprompt", map_losses.prior_of_normal, "equation 5", "L}_{prior}"),
    ("faprompt", map_losses.map_loss, "equation 7", "L}_{local}"),
    ("faprompt", map_losses.binary_focal, "eq. 10", "L}_{global}"),
    ("faprompt", FAPrompt.score, "eq. 11", "anomaly map"),
    ("rwda", rwda, "section 3.1", "Prompt-Guided Anomaly Detection"),
    ("rwda", random_words, "section 3.2", "Random Word Data Augmentation"),
    ("rwda", rwda, "section 3.3", "Training and Inference"),
    ("rwda", rwda, "section 4.2", "Implementation Details"),
    ("promptad-zs", dual_branch.DualBranch.forward, "(eq. 1)", "s_{abn}^{intra} - s_{nor}^{cross}"),
    ("promptad-zs", dual_branch.DualBranch.forward, "(eq. 2)", "s_{abn}^{cross} - s_{nor}^{intra}"),
    ("promptad-zs", dual_branch.interaction_mask, "eqs. 3, 4", r"\mathsf{ReLU}"),
    ("promptad-zs", dual_branch.interaction_mask, "section 3.5", "Cross-view Mutual Interaction"),
    ("promptad-zs", deviation.deviation_loss, "eq. 5", r"max(0, \alpha"),
    ("promptad-zs", deviation.deviation_loss, "section 3.6", "Training and Inference"),
    ("promptad-zs", zero_shot, "section 3.3", "Intra-view Modeling"),
]
NUMBERS = re.compile(
    r"\b(eqs?\.|equations?|sections?)\s+((?:\d+(?:\.\d+)*)(?:(?:,| and| to|, and)\s+\d+(?:\.\d+)*)*)", re.IGNORECASE
)


@pytest.fixture(scope="module")
def printed(shared: Path) -> Callable[[str], tuple[dict[str, str], dict[str, str]]]:
    """Paper -> the text of its equations, and its headings, by number."""
    folder = shared / "papers"
    if not folder.is_dir():
        pytest.skip("needs the papers' text in ../shared/papers")

    def read(paper: str) -> tuple[dict[str, str], dict[str, str]]:
        (path,) = folder.glob(f"{PAPERS[paper]}*.txt")
        text = path.read_text()
        headings = {}
        for line in re.finditer(r"^[ #*]*(\d(?:\.\d)*)\.?\s+([A-Z].*)$", text, re.MULTILINE):
            headings.setdefault(line[1], line[2])
        equations = {}
        for mark in re.finditer(
            r"\\tag\{(\d+)\}|\\quad \((\d+)\)|^ ?\((\d+)\)$|\\right\]\s*\((\d+)\)", text, re.MULTILINE
        ):
            stop = text.rfind("$$", 0, mark.start()) if mark[3] else mark.start()
            equations[next(filter(None, mark.groups()))] = text[text.rfind("$$", 0, stop) : stop]
        if paper == "faprompt":  # no equation is printed; Algorithm 1 names them
            for line in text.splitlines():
                for names in re.findall(r"\(?Eqs?\. ?\(?([\d, ]+)\)", line):
                    for number in re.findall(r"\d+", names):
                        equations[number] = line
        if paper == "promptad-zs":  # its numbers 1, 2 and 5 stand alone on a line
            for number, start in (("1", "$$s_a ="), ("2", "$$s_n ="), ("5", "L(x) = (1 - y)")):
                equations[number] = text[text.index(start) :][:200]
        return equations, headings

    return read


def citations(text: str) -> list[tuple[str, str]]:
    """("equation", "12") or ("section", "4.2") for every number cited, ranges with their ends."""
    out = []
    for match in NUMBERS.finditer(" ".join(text.split())):
        kind = "section" if match[1].lower().startswith("section") else "equation"
        numbers = re.findall(r"\d+(?:\.\d+)*", match[2])
        if kind == "equation" and " to " in match[2]:
            numbers = [str(n) for n in range(int(numbers[0]), int(numbers[-1]) + 1)]
        out += [(kind, number) for number in numbers]
    return out


def test_citations_are_found_in_their_forms():
    text = "eq. 12, eqs. 17 and 18 (section 4.4), equations 1 to 3; sections 3.1, 3.3 and 4.2; eq.\n 5"
    assert citations(text) == [
        *[("equation", number) for number in ("12", "17", "18")],
        ("section", "4.4"),
        *[("equation", number) for number in ("1", "2", "3")],
        *[("section", number) for number in ("3.1", "3.3", "4.2")],
        ("equation", "5"),
    ]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_number_that_is_cited_is_printed(printed, paper):
    equations, headings = printed(paper)
    texts = {str(path): path.read_text() for pattern in FILES[paper] for path in ROOT.glob(pattern)}
    page = DOCS / f"{paper}.md"
    if page.is_file():
        texts[str(page)] = page.read_text()
    cited = {(name, kind, number) for name, text in texts.items() for kind, number in citations(text)}
    assert cited
    assert [
        (name, kind, number)
        for name, kind, number in sorted(cited)
        if number not in (headings if kind == "section" else equations)
    ] == []


@pytest.mark.parametrize(("paper", "where", "number", "content"), SUBJECTS)
def test_what_is_cited_is_what_is_meant(printed, paper, where, number, content):
    text = " ".join(inspect.getsource(where).split()) if inspect.isfunction(where) else " ".join(where.__doc__.split())
    assert set(citations(number)) <= set(citations(text))
    (first, *_) = re.findall(r"\d+(?:\.\d+)*", number)
    equations, headings = printed(paper)
    assert content in (headings if "section" in number else equations)[first]
