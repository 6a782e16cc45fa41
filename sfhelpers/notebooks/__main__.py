"""Command line of the notebook tools; see the package's docstring."""

import argparse
import sys
from pathlib import Path

from sfhelpers.notebooks import FOLDER, find, runner
from sfhelpers.notebooks.clean import problems


def check(paths: list[Path]) -> bool:
    """Print what keeps each notebook from being committed; True if nothing does."""
    found = [f"{path.name}: {problem}" for path in paths for problem in problems(path)]
    print("\n".join(found) or f"{len(paths)} notebooks are clean")
    return not found


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 if a notebook failed or is not clean, and 2 if it is not there."""
    parser = argparse.ArgumentParser(prog="python -m sfhelpers.notebooks")
    parser.add_argument("command", choices=("run", "execute", "check"))
    parser.add_argument("names", nargs="*", help="04, 04_segmentation or a path; all if left out")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where `run` writes (default: runs)")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that `run` executes at a time (default: 1)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the notebooks are")
    options = parser.parse_args(words)
    try:
        paths = find(options.names, options.folder)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if options.command == "run":
        fine = runner.run(paths, options.out, options.jobs)
    else:
        fine = (runner.execute if options.command == "execute" else check)(paths)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
