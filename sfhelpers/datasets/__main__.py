"""`python -m sfhelpers.datasets`: looks after data sets on disk; `--help` says how."""

import argparse
import sys
from pathlib import Path

import resvg_py

from sfhelpers.datasets import archives, doctor, published
from sfhelpers.files import make_folder, read_file, replace_file, shown


def main(arguments: list[str]) -> int:
    """Ends 0 where all is well, and 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m sfhelpers.datasets", description="Data sets on disk.")
    add = parser.add_subparsers(dest="what", required=True).add_parser
    look = add("doctor", help="count, compare with what is published, name what is missing or surplus")
    look.add_argument("name", choices=published.DATASETS)
    look.add_argument("root", help="the folder that holds it")
    look.add_argument("--every", action="store_true", help="open every image and drawing too, which takes long")
    fetch = add("fetch", help="fetch it where its licence allows that, or say where to ask")
    fetch.add_argument("name", choices=published.DATASETS)
    fetch.add_argument("root", type=Path)
    fetch.add_argument("categories", nargs="*", help="of Quick, Draw!")
    unpack = add("unpack", help="unpack a zip or tar archive, safely")
    draw = add("draw", help="draw the SVG files of a folder as PNG files, in a new folder laid out as it is")
    for command, source in ((unpack, "archive"), (draw, "source")):
        command.add_argument(source, type=Path)
        command.add_argument("folder", type=Path)
    draw.add_argument("--side", type=int, default=512, help="pixels")
    given = parser.parse_args(arguments)
    try:
        return globals()[f"_{given.what}"](given)
    except (ValueError, OSError) as error:
        print(f"problem: {error}", file=sys.stderr)
        return 1


def _doctor(given: argparse.Namespace) -> int:
    report = doctor.examine(given.name, given.root, given.every)
    print(*report.lines, sep="\n")
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


def _fetch(given: argparse.Namespace) -> int:
    make_folder(given.root)
    for file, address in archives.addresses(given.name, given.categories).items():
        path = given.root / file
        print(f"{shown(path)}  sha256 {archives.fetch(address, path)}")
        if path.suffix == ".zip":
            print(*map(shown, archives.unpack(path, given.root)), sep="\n")
    return 0


def _unpack(given: argparse.Namespace) -> int:
    print(*map(shown, archives.unpack(given.archive, given.folder)), sep="\n")
    return 0


def _draw(given: argparse.Namespace) -> int:
    for path in sorted(given.source.rglob("*.svg")):
        picture = given.folder / path.relative_to(given.source).with_suffix(".png")
        make_folder(picture.parent)
        try:
            drawn = resvg_py.svg_to_bytes(
                svg_string=read_file(path).decode(), width=given.side, background="white", skip_system_fonts=True
            )
        except ValueError as error:
            raise ValueError(f"{shown(path)} cannot be drawn ({error}): repair it or take it away.") from error
        replace_file(picture, bytes(drawn))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
