"""What backbones there are, whether one is on this machine, and how it comes here."""

import argparse
import sys

from sfhelpers.backbones.fetching import fetch
from sfhelpers.backbones.finding import find, find_vision
from sfhelpers.backbones.presets import DIFFUSION, VISION
from sfhelpers.backbones.sealed import files

COMMANDS = {
    "list": "all halves, with what they need",
    "check": "what is read of a backbone, and whether it is here",
    "fetch": "bring it into the hub's cache, going on from what was cut off",
}
ROW = "{:<20}{:>5}{:>9}{:>7}{:>7}  {:<23}{}"


def listed() -> str:
    """The tables, a line a half: GB in single precision, as loaded; GFLOP for one image's features."""
    lines = [ROW.format("name", "px", "millions", "GB", "GFLOP", "licence", "from")]
    for name, half in (DIFFUSION | VISION).items():
        about = half.millions, f"{half.millions * 4e-3:.1f}", half.gflop or "-", half.licence
        lines.append(ROW.format(name, half.size or "-", *about, half.ids[0] if name != "pocket" else "data/pocket"))
    return "\n".join(lines)


def checked(name: str) -> str:
    """What is read of a backbone, or of a half, on this machine; errors as of `find` and `files` where it is not."""
    if name.partition(":")[0] in VISION:
        found = files(find_vision(name)[1])
    else:
        found = files((both := find(name)).parts, both.unet)
    sizes = {path: path.stat().st_size / 1e9 for path in found.values()}
    lines = [f"{size:8.3f} GB  {path}" for path, size in sizes.items()]
    return "\n".join([*lines, f"{sum(sizes.values()):8.3f} GB  {name} is here"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m sfhelpers.backbones", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, told in COMMANDS.items():
        added = commands.add_parser(command, help=told)
        if command != "list":
            added.add_argument("name", help="as in sd21, sd21+dinov3-b16, or one half")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "fetch":
            fetch(asked.name)
        print(listed() if asked.command == "list" else checked(asked.name))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
