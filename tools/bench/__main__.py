"""One table of what things take, as seconds and ratios of one run.

python -m tools.bench [PART ...] [--backbone NAME] writes into data/results/bench.json what it prints.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from sfhelpers.backbones import load_backbone
from sfhelpers.files import given
from sfhelpers.results import COMMITTED
from tools.bench import galleries, steps, systems
from tools.bench.measuring import Rows, keep, tell

PARTS = {  # titles; the first two first, so that the memory they tell is their own
    "metrics": "Scoring retrieval",
    "search": "The 200 nearest of a gallery",
    "reading": "Reading photos",
    "steps": "One training step, by how it gets at what is frozen; and keeping it",
    "speed": "Layouts, attention, compiling, batched draws",
    "growth": "Growth of a plain pass",
    "widgets": "One update of a widget, from the change to the new picture",
    "companions": "The companions",
}
ALONE = ("metrics", "search", "reading")  # what needs no backbone


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--backbone", default="pocket", help=f"name, folder, or {steps.FULL_SIZE} of random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, help="how often each is timed; 1 warms nothing up")
    parser.add_argument("--batch", type=int, default=8, help="images a step; a multiple of four for the companions")
    parser.add_argument("--out", type=Path, default=COMMITTED / "bench.json")
    return parser.parse_args()


def main() -> None:
    """Measure what the command line names."""
    args = asked()
    full = args.backbone == steps.FULL_SIZE
    backbone = cache(partial(steps.full_size if full else partial(load_backbone, args.backbone), args.device))
    copies = (1, 2, 4) if full else (steps.COPIES,)

    def within(part: Callable[[Path], Rows]) -> Rows:
        with tempfile.TemporaryDirectory() as folder:
            return part(Path(folder))

    ways: dict[str, Callable[[], Rows]] = {
        "metrics": lambda: galleries.metrics(args.repeats),
        "search": lambda: galleries.exact(args.repeats),
        "reading": lambda: within(partial(systems.reading, args.repeats)),
        "steps": lambda: within(lambda folder: steps.steps(backbone(), args.repeats, args.batch, folder, copies)),
        "speed": lambda: steps.speed(backbone(), args.repeats, args.batch),
        "growth": lambda: steps.growth(backbone(), args.repeats),
        "widgets": lambda: within(partial(systems.widgets, backbone(), args.repeats)),
        "companions": lambda: systems.companions(backbone(), args.batch),
    }
    for part in PARTS:
        if part in args.parts or "all" in args.parts:
            rows, name = ways[part](), "" if part in ALONE else f", {Path(args.backbone).name}"
            tell(f"{PARTS[part]}{name}", rows)
            keep(given(args.out), f"{part}{name}", rows)


if __name__ == "__main__":
    main()
