"""The map of the collection, read from the notebooks themselves, so that it says what is there and nothing else.

Every notebook's first cell is Markdown: `# NN · Title: a subtitle`, and lines that begin with `**Question.**`,
`**Time and memory.**` and `**Paper.**`; each may run on until an empty line or the next bold word.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nbformat

from sfhelpers.notebooks import FOLDER, find

HEADING = re.compile(r"# (\d\d) · ([^:]+)(?:: (.+))?")
LINES = {"question": "Question", "time": "Time and memory", "paper": "Paper"}


@dataclass(frozen=True)
class Entry:
    """One notebook of the collection, in its own words.

    Attributes:
        number, title, subtitle: of its heading, e.g. "04", "Segmentation", "a sketch asks, every photo answers".
        question, time, paper: its lines of these names.
        file: its name, e.g. "04_segmentation.ipynb".
    """

    number: str
    title: str
    subtitle: str
    question: str
    time: str
    paper: str
    file: str


class Catalogue(tuple[Entry, ...]):
    """All entries in order; a notebook shows them as a table whose links are relative to the notebooks' folder."""

    def _repr_markdown_(self) -> str:
        return markdown(self)

    def __repr__(self) -> str:
        return "\n".join(f"{entry.number}  {entry.title}: {entry.question}" for entry in self)


def entries(folder: Path = FOLDER) -> Catalogue:
    """The entries of all notebooks NN_name.ipynb in a folder.

    Raises:
        ValueError: one sentence, for a notebook whose first cell lacks one of the lines, or that has another's number.
    """
    found = Catalogue(read(path) for path in find([], folder))
    for before, entry in pairwise(found):
        if before.number == entry.number:
            raise ValueError(f"{before.file} and {entry.file} have the same number: rename one of them.")
    return found


def read(path: Path) -> Entry:
    """The entry of one notebook; errors as `entries`."""
    cells = nbformat.read(path, as_version=4).cells
    text = cells[0].source if cells and cells[0].cell_type == "markdown" else ""
    heading = HEADING.fullmatch(text.partition("\n")[0].strip())
    if heading is None or heading[1] != path.name[:2]:
        raise ValueError(f'{path.name} does not begin with a text cell "# {path.name[:2]} · Title": write one.')
    return Entry(
        number=heading[1],
        title=heading[2].strip(),
        subtitle=(heading[3] or "").strip(),
        file=path.name,
        **{key: _line(text, word, path.name) for key, word in LINES.items()},
    )


def _line(text: str, word: str, file: str) -> str:
    """What follows a bold word at the start of a line, until an empty line or the next such word, in one line."""
    found = re.search(rf"^\*\*{word}\.\*\*(.*?)(?=\n\s*\n|\n\*\*|\Z)", text, re.MULTILINE | re.DOTALL)
    words = " ".join(found[1].split()) if found else ""
    if not words:
        raise ValueError(f"the first cell of {file} has no line **{word}.** with text behind it: write one.")
    return words


def markdown(found: tuple[Entry, ...]) -> str:
    """A Markdown table with relative links: notebook, question, paper."""
    lines = ["| notebook | its question | paper |", "|---|---|---|"]
    for entry in found:
        cells = (f"[{entry.number} · {entry.title}]({entry.file})", entry.question, entry.paper)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
