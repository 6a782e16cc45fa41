"""What is published of each dataset: layouts, counts, splits, licences and sources, read from `tables/`."""

import csv
import json
from functools import cache
from pathlib import Path

from sfhelpers.datasets.records import nfc

TABLES = Path(__file__).parent / "tables"
_TABLE = json.loads((TABLES / "datasets.json").read_text(encoding="utf-8"))
DATASETS: dict[str, dict] = _TABLE["datasets"]  # its fields stand in tables/README.md
ALIASES: dict[str, str] = _TABLE["aliases"]  # TU-Berlin's rooster is not Sketchy's chicken


def compared(name: str) -> str:
    """A class name as it is compared: letters and digits in lower case, aliases and published misspellings made one."""
    letters = "".join(letter for letter in nfc(name).casefold() if letter.isalnum())
    return ALIASES.get(letters, letters or nfc(name))


@cache
def classes(name: str) -> tuple[str, ...]:
    """A published list, such as "sketchy_test21"; its source is in `sources`."""
    return tuple((TABLES / f"{name}.txt").read_text(encoding="utf-8").splitlines())


@cache
def table(name: str) -> tuple[dict[str, str], ...]:
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def sources() -> dict[str, dict[str, str]]:
    """List -> its `n_classes`, `status`, `source` and `note`."""
    return {row["file"].removesuffix(".txt"): row for row in table("SOURCES.csv")}


def spellings(entry: dict) -> dict[str, str]:
    """Every class of a dataset, as `compared`, -> as its folders spell it; empty where it has none."""
    return {compared(name): name for name in classes(entry["classes"])} if "classes" in entry else {}


def unseen(entry: dict, split: str) -> tuple[str, ...]:
    """The test classes of a split; "default" is the first one."""
    found = entry.get("splits", {})
    return classes(found[next(iter(found)) if split == "default" else split][1]) if found else ()


def names_of(entry: dict) -> tuple[str, ...]:
    """The splits that a dataset has, "default" first, which is the next one."""
    return "default", *entry.get("splits", {}), *entry.get("tested", {})


def each(entry: dict, side: dict) -> dict[str, int]:
    """Files a class, by its folder's spelling, of the classes for which that is published."""
    told = side.get("each", {})
    if isinstance(told, int):
        return dict.fromkeys(classes(entry["classes"]), told)
    return {row["class"]: int(row[told[1]]) for row in table(told[0])} if told else {}


def where(entry: dict) -> str:
    """Where a dataset is to be had, in words that follow on a colon."""
    return f"ask where it is kept ({entry['ask']}; licence: {entry['licence']})."
