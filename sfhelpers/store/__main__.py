"""What a store of frozen features holds, whether it is as it was written, and how it gets smaller."""

import argparse
import json
import sys
from collections import Counter

from sfhelpers.store import Store, shards

COMMANDS = {
    "info": "what is kept, and how far off half precision is",
    "verify": "compare every shard with its sha256",
    "gc": "remove damaged shards and what kills left, and join small shards",
}


def told(store: Store) -> str:
    """A line a kind of item: how many, their tensors, the largest error by half precision, and what made them."""
    store.refresh()
    sizes, items, errors = store.sizes(), Counter(), {}
    for block in (block for name in sizes for block in store.index[name]):
        kind = f"{' '.join(sorted(block['dtypes']))}  {json.dumps(block['made_by'])}"
        items[kind] += len(block["keys"])
        errors[kind] = max(errors.get(kind, 0), block["error"])
    lines = [f"{n:9,} items  error {errors[kind]:.1e} of the largest value  {kind}" for kind, n in items.items()]
    return "\n".join(
        [*lines, f"{len(store.places):,} items in {len(sizes)} shards, {sum(sizes.values()) / 1e6:,.3f} MB"]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m sfhelpers.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, help_text in COMMANDS.items():
        added = commands.add_parser(command, help=help_text)
        added.add_argument("path", help="the store's folder")
        if command == "gc":
            added.add_argument("--budget", type=float, help="GB; the oldest shards beyond it are removed, too")
    asked = parser.parse_args(arguments)
    try:
        store = Store(asked.path, create=False)
        if asked.command == "info":
            print(told(store))
            return 0
        if asked.command == "gc":
            gone = store.gc(None if asked.budget is None else asked.budget * 1e9)
            print("\n".join([*(f"{path} is removed." for path in gone), told(store)]))
            return 0
        if not (wrong := store.verify()):
            print(f"all {len(store.sizes())} shards are as they were written.")
        for path in wrong:
            print(shards.damaged(path), file=sys.stderr)
        return bool(wrong)
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
