"""Command line of the measurements; see the package's docstring."""

import argparse

from sfhelpers.backbones import load_backbone
from sfhelpers.bench.retrieval import metrics_table
from sfhelpers.bench.steps import drawing, steps
from sfhelpers.bench.widgets import updates

PARTS = ("metrics", "toyworld", "steps", "widgets")


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m sfhelpers.bench")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all if left out")
    parser.add_argument("--backbone", default="pocket", help="name or folder")
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
    backbone = load_backbone(args.backbone, args.device)
    if "steps" in parts:
        print(steps(backbone, args.batch, args.repeats, args.draws))
    if "widgets" in parts:
        print(updates(backbone, args.repeats))


if __name__ == "__main__":
    main()
