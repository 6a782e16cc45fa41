"""The doctor: counts a dataset's files, compares with what is published, and names what is missing or surplus.

Folders are streamed, so memory does not grow with their files, but for the names of photos that sketches are drawn of.
"""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sfhelpers import images
from sfhelpers.datasets import layouts, psc6k, published, quickdraw, records, sketchy
from sfhelpers.datasets.layouts import Keys, Tree
from sfhelpers.datasets.records import Dataset, listed
from sfhelpers.files import shown
from sfhelpers.params import data_folder

ENDINGS = (*images.EXTENSIONS, ".svg")
JUNK = re.compile(r"\..*|__MACOSX|thumbs\.db|desktop\.ini|filelist\.txt", re.IGNORECASE)
PACKED = (".zip", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".rar")
PICKLED = (".pkl", ".pickle", "_coordinate")


@dataclass
class Report:
    """What was found, a line each, and what is wrong, a sentence each."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    odd: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # kind -> its first three places
    times: Counter[str] = field(default_factory=Counter)

    def say(self, word: str, text: str) -> None:
        self.lines.append(f"{word:<8} {text}")

    def note(self, kind: str, place: str) -> None:
        self.times[kind] += 1
        self.odd[kind] += [place] * (len(self.odd[kind]) < 3)

    def count(self, what: str, number: int, expected: Iterable[int], about: float = 0) -> None:
        """Say a number beside the published ones, and complain if it is none of them."""
        told = " or ".join(f"{count:,}" for count in expected)
        word, _, more = what.partition(" ")
        self.say(word, f"{number:,} {more}".strip() + (f"; published: {told}" if told else ""))
        if told and not any(abs(number - count) <= about * count for count in expected):
            less = min((count - number for count in expected), key=abs)
            self.problems.append(f"{what}: {abs(less):,} {'missing' if less > 0 else 'surplus'}, {number:,} of {told}.")

    def closed(self) -> "Report":
        for kind, places in sorted(self.odd.items()):
            more = f" and {self.times[kind] - len(places):,} more" * (self.times[kind] > len(places))
            self.problems.append(f"{kind}: {', '.join(map(shown, places))}{more}.")
        return self


def examine(name: str, root: str | Path, every: bool = False) -> Report:
    """Compare what lies in a folder with what is published of a dataset; with `every`, open every image and drawing
    too. Errors as of `data_folder`."""
    entry, report = published.DATASETS[name], Report()
    base = data_folder(name, root).resolve()
    report.say("title", entry["title"])
    {"quickdraw": _drawings, "psc6k": _keypoints}.get(name, _folders)(entry, base, every, report)
    report.say("licence", entry["licence"])
    return report.closed()


def _place(entry: dict, base: Path, root: Path, report: Report) -> None:
    report.say("folder", shown(base))
    if said := layouts.moved(base, entry, root):
        report.say("moved", said)


def _folders(entry: dict, root: Path, every: bool, report: Report) -> None:
    tree = layouts.locate(entry, root)
    _place(entry, tree.base, root, report)
    photos: set[tuple[str, str]] = set()
    classes: dict[str, set[str]] = {}
    for domain, side in entry["sides"].items():
        if not tree.places[domain]:
            packed = listed(item.name for item in _scanned(tree.base) if item.name.lower().endswith(PACKED))
            more = f"; {packed} is there and packed." if packed else "."
            report.problems.append(layouts.lacking(entry, tree, domain)[:-1] + more)
            continue
        by_name, by_class = _counted(entry, domain, tree, photos, every, report)
        classes[domain] = set(by_class)
        for pattern, counts in side["names"].items():
            kind = f" named {pattern}" * (len(side["names"]) > 1)
            report.count(f"{domain}{kind}", by_name[pattern], counts, side.get("about", 0))
        each = published.each(entry, side)
        if wrong := [f"{n} {by_class[n]:,} of {k:,}" for n, k in each.items() if by_class[n] not in (0, k)]:
            report.problems.append(f"{len(wrong)} classes have another number of {domain} files: {listed(wrong, 5)}.")
    wanted = set(published.spellings(entry).values()) or set().union(*classes.values())
    for domain, there in classes.items():
        report.say("classes", f"{len(there)} of {len(wanted)} with a {domain}")
        if lacking := sorted(wanted - there):
            report.problems.append(f"{len(lacking)} classes have no {domain}: {listed(lacking, 10)}.")
    for item in _scanned(tree.base):
        if item.name.lower().endswith(PICKLED):
            report.note("pickles, which run any program when they are opened, and are not", item.name)
    _lists(entry, tree.base, report)
    _audit(entry, report)


def _counted(
    entry: dict, domain: str, tree: Tree, photos: set[tuple[str, str]], every: bool, report: Report
) -> tuple[Counter[str], Counter[str]]:
    """Files by pattern of `names`, and by class as it is published; what is odd goes to the report."""
    side, spelled, keys = entry["sides"][domain], published.spellings(entry), layouts.keys(entry, tree)
    patterns = [(name, re.compile(name)) for name in side["names"]]
    order = {name: k * side["ids"] for k, name in enumerate(spelled.values())} if "ids" in side else {}
    by_name, by_class, folders = Counter(), Counter(), {}
    for called, item in (found for place in tree.places[domain] for found in _files(place, report)):
        known = spelled.get(published.compared(called)) if spelled else records.nfc(called)
        if (known is None and item is None) or not (called or "category" in entry):
            report.note(f"surplus {domain} classes, or files in none", called or item.name)
        elif folders.setdefault(known, called) != called:
            report.note("two folders of one class", f"{folders[known]} and {called}")
        if item is None or known is None:
            continue
        stem, ending = os.path.splitext(item.name)
        name = next((name for name, pattern in patterns if pattern.fullmatch(stem)), "")
        if trouble := _trouble(item, ending.lower(), name, domain if every else ""):
            report.note(trouble, f"{called}/{item.name}")
            continue
        if known in order and not 0 < int(stem) - order[known] <= side["ids"]:
            report.note("sketches with a number of another class", f"{called}/{item.name}")
        by_name[name] += 1
        by_class[entry.get("category", known)] += 1
        if domain == "photo" and keys.sketch:
            photos.add((known * ("classes" in entry), Keys.of(keys.photo, called, stem)))
        elif keys.sketch and (known * ("classes" in entry), Keys.of(keys.sketch, called, stem)) not in photos:
            report.note("sketches without their photo", f"{called}/{item.name}")
    return by_name, by_class


def _trouble(item: os.DirEntry, ending: str, name: str, opened_as: str) -> str:
    """What is wrong with a file, as a kind of which there may be more."""
    if not item.is_file():
        return "links that lead nowhere, or folders in class folders"
    if ending not in ENDINGS:
        return "surplus files, no images"
    if not name:
        return "surplus files, named otherwise"
    if not item.stat().st_size:
        return "empty files"
    said = images.problem(item.path, opened_as) if opened_as and ending != ".svg" else ""
    return said and f"files that cannot be used, each {said}"


def _files(place: Path, report: Report) -> Iterator[tuple[str, os.DirEntry | None]]:
    """Every file with its class folder, if it is in one; before a folder's files its name and None."""
    for item in _scanned(place):
        if not item.is_dir():
            yield "", item
            continue
        yield item.name, None
        try:
            yield from ((item.name, inner) for inner in _scanned(item.path))
        except OSError as error:
            report.note(f"folders that cannot be read ({error.strerror})", item.name)


def _scanned(place: str | Path) -> Iterator[os.DirEntry]:
    with os.scandir(place) as items:
        yield from (item for item in items if not JUNK.fullmatch(item.name))


def _lists(entry: dict, base: Path, report: Report) -> None:
    """Compare published lists with their lengths, and training lists with test lists."""
    lists = entry.get("lists", {})
    there = {name: list(layouts.stems(base / name)) for name in lists if (base / name).is_file()}
    for name, stems in there.items():
        report.count(f"list {name}", len(stems), lists[name])
        tested = there.get(name.replace("_train", "_test"), []) if "_train" in name else []
        if both := sorted({*stems} & {*tested}):
            report.problems.append(f"{name} and its test list both name {listed(both)}: what is tested is trained on.")
    names = next(iter(entry.get("tested", {}).values()), [])
    if names and not any((base / name).exists() for name in names):
        report.problems.append(f"no list of what is tested: expected {names[0]} in {shown(base)}.")


def _audit(entry: dict, report: Report) -> None:
    """Which split would be used, and that no class, whatever its spelling, is on both of its sides or on none."""
    if "splits" not in entry:
        tested = (f"{name}, of what is in {' or '.join(places)}" for name, places in entry.get("tested", {}).items())
        report.say("split", entry.get("split") or "; others: ".join(tested))
        return
    split, (train, test) = next(iter(entry["splits"].items()))
    source = published.sources()[test]
    sides = [{published.compared(name): name for name in published.classes(side)} for side in (train, test)]
    both = [sides[1][key] for key in sides[0] if key in sides[1]]
    others = ", ".join([*entry["splits"]][1:]) or "none"
    report.say("split", f"{split} ({test}.txt: {source['source']}); others: {others}")
    report.say("audit", f"{len(sides[0])} classes train, {len(sides[1])} are tested, {len(both)} are on both sides")
    if both:
        report.problems.append(f"split {split} trains on classes that it tests: {listed(both, 10)}.")
    if neither := [name for key, name in published.spellings(entry).items() if key not in sides[0] | sides[1]]:
        report.problems.append(f"split {split} has {listed(neither, 10)} on neither side.")


def _drawings(entry: dict, root: Path, every: bool, report: Report) -> None:
    base, files = quickdraw.find(root)
    _place(entry, base, root, report)
    spelled, looked = published.spellings(entry), 0
    for category, path in sorted(files.items()):
        if (own := published.compared(category)) not in spelled:
            report.note("surplus files, of no category that there is", path.name)
        parts: Counter[str] = Counter()
        for doodle, _, problem, said in islice(quickdraw.scan(path, category), None if every else quickdraw.FIRST):
            parts[doodle.part] += 1
            if problem:
                report.note(f"drawings that {problem}", doodle.where)
            elif published.compared(str(said.get("word", category))) != own:
                report.note("drawings of another category", f"{doodle.where} of {said['word']}")
        looked += parts.total()
        if every and path.suffix.lower() == ".npz" and dict(parts) != entry["parts"]:
            report.note("files with other parts than 70,000, 2,500 and 2,500", path.name)
    report.say("sketch", f"{looked:,} drawings looked at, {'all' if every else f'at most {quickdraw.FIRST} a file'}")
    report.count("files", len(files), [len(spelled)])
    if lacking := sorted(spelled[key] for key in set(spelled) - set(map(published.compared, files))):
        report.problems.append(f"{len(lacking)} categories have no file: {listed(lacking, 10)}.")
    for path in records.entries(base):
        if path not in files.values():
            report.note("surplus files, of none of the formats ndjson, bin and npz, or of a category again", path.name)
    _audit(entry, report)


def _keypoints(entry: dict, root: Path, every: bool, report: Report) -> None:
    source = published.DATASETS["sketchy"]
    tree = layouts.locate(source, root)
    _place(source, tree.base, root, report)
    try:
        with warnings.catch_warnings(action="ignore"):
            found = sketchy.read(tree.base, published.unseen(source, "default"))
            pairs = psc6k.load(Dataset("psc6k", tree.base, "default", tuple(found))).pairs
    except (ValueError, OSError) as error:
        report.problems.append(f"{str(error).rstrip('.')}; {published.where(entry)}")
    else:
        report.count("pairs", len(pairs), [entry["pairs"]])
        report.count("photos", len({pair.photo for pair in pairs}), [entry["photos"]])
    _audit(entry, report)
