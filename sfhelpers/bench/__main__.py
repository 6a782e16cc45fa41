"""Command line of the measurements; see the package's docstring."""

import argparse
import tempfile
from dataclasses import replace

from sfhelpers.backbones import load_backbone, write_tiny
from sfhelpers.backbones.presets import POCKET_FOLDER
from sfhelpers.bench.retrieval import metrics_table
from sfhelpers.bench.steps import drawing, steps
from sfhelpers.bench.widgets import updates

PARTS = ("metrics", "toyworld", "steps", "widgets")


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m sfhelpers.bench")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all if left out")
    parser.add_argument(
        "--backbone", default="", help="name or folder; pocket, or a tiny random one where it is missing"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--repeats", type=int, default=10, help="steps or updates timed for each way")
    parser.add_argument("--draws", type=int, default=1, help="noise draws an image")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    parts = args.parts or PARTS
    if "metrics" in parts:
        print(metrics_table())  # first, so that the memory it tells is its own
    if "toyworld" in parts:
        print(drawing())
    with tempfile.TemporaryDirectory() as folder:
        name = args.backbone or ("pocket" if POCKET_FOLDER.is_dir() else "")
        backbone = load_backbone(name or write_tiny(folder, widths=(32, 64, 96, 128)), args.device)
        if not name:
            backbone = replace(backbone, name="a random backbone")
        if "steps" in parts:
            print(steps(backbone, args.batch, args.repeats, args.draws))
        if "widgets" in parts:
            print(updates(backbone, args.repeats))


if __name__ == "__main__":
    main()
