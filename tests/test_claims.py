"""What README and the methods' cards say of who is best stands in the cards' tables, and says on which products."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from promptad.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
CARDS = (ROOT / "docs/methods/cards.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs/guide.md").read_text("utf-8")
# A product in the tables -> a word by which sentences name it.
PRODUCTS = {
    "bottle": "bottle",
    "cookies": "cookie",
    "tile": "tile",
    "solar cell": "solar cell",
    "woven textile": "textile",
}
SUPERLATIVE = re.compile(r"\b(best|better|leads?|outperforms?|stronger|beats?)\b")


def reached() -> dict[str, dict[str, float]]:
    """Product -> method -> its best row's image AUROC, from the first table of "What they reach" and that of "Where they fail"."""
    out: dict[str, dict[str, float]] = {}
    for heading, wanted in (
        ("**image AUROC**", ("bottle", "cookies", "tile")),
        ("## Where they fail", ("solar cell", "woven textile")),
    ):
        table = re.search(r"^\|.*?(?=\n\n)", CARDS[CARDS.index(heading) :], re.M | re.S)
        assert table is not None
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
        for product in wanted:
            for row in rows:
                value = float(row[head.index(product)].split(" / ")[0])
                of_product = out.setdefault(product, {})
                of_product[row[0]] = max(value, of_product.get(row[0], 0.0))
    return out


def leaders(product: str) -> set[str]:
    """The methods with the highest number there."""
    values = reached()[product]
    return {method for method, value in values.items() if value == max(values.values())}


def test_the_tables_are_read():
    table = reached()
    assert set(table) == set(PRODUCTS) and all(len(methods) >= 5 for methods in table.values())
    assert table["bottle"]["promptad-zs"] == 95.3 and table["woven textile"]["faprompt"] == 67.8


@pytest.mark.parametrize("text", [README, GUIDE], ids=["README", "guide"])
def test_who_ranks_photos_best_is_who_has_the_highest_number_there(text):
    [sentence] = re.findall(r"`faprompt` rank(?:s|ed) photos.*?(?=;)", text, re.S)
    told = re.split(r",\s+(?:and\s+)?(?=`|untrained)", sentence.replace("\n", " "))
    assert len(told) == 3
    for part in told:
        methods = set(re.findall(r"`([a-z-]+)`", part))
        named = [product for product, word in PRODUCTS.items() if re.search(rf"\b{word}s?\b", part)]
        assert named and methods
        for product in named:
            assert methods <= leaders(product), (part, product)


def test_each_of_them_fails_on_another_product():
    """README says so: ten points and more behind the best of one of the five."""
    assert "fails on another of the five" in " ".join(README.split())
    for method in {row for rows in reached().values() for row in rows}:
        behind = {product: max(rows.values()) - rows[method] for product, rows in reached().items()}
        assert max(behind.values()) >= 10, method


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/methods/cards.md"])
def test_a_claim_to_be_better_says_on_what(page):
    """A paragraph or point that names a method and calls it better names a product, a data set or a table too."""
    text = (ROOT / page).read_text("utf-8")
    paragraphs = re.split(r"\n\n|\n(?=- )", re.sub(r"```.*?```", "", text, flags=re.S))
    claims = [part for part in paragraphs if SUPERLATIVE.search(part) and any(f"`{name}`" in part for name in METHODS)]
    assert page != "docs/methods/cards.md" or len(claims) >= 3
    places = [*PRODUCTS.values(), "MVTec", "VisA", "what-they-reach", "where-they-fail"]
    assert [part for part in claims if not any(place in part for place in places)] == []
