"""Tensors by key in one folder, which any number of processes read and write at once."""

import contextlib
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from sfhelpers.files import given, make_folder, reading, replace_file, shown, writing
from sfhelpers.store import shards
from sfhelpers.store.shards import Block

FORMAT = 1  # raise it when items would be read in another way, or other numbers kept under the same key
MARK = "store.json"
SHARD, BUDGET = 500_000_000, 100_000_000_000  # bytes
WAIT = 120.0  # s, for another process to end its writing: a shard of 1 GB takes a few


def item_key(made_by: Mapping[str, Any], image: str = "", flip: bool = False) -> str:
    """Under which an item is kept: the sha256 of everything that changes a value.

    Args:
        made_by: JSON's values by name: hash of the weights, sizes, timestep, prompt, noise seed and draws, dtypes.
        image: what tells an image from all others, as the sha256 of its file.
        flip: whether it was mirrored first.
    """
    told = json.dumps([FORMAT, made_by, image, bool(flip)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(told.encode()).hexdigest()


class Store:
    """Items, each some named tensors under a key: a cache, to be deleted when unused. Each thread opens its own.

    When `put` returns, its items are on the disk, whatever is killed afterwards. Each `put` makes a small shard; as
    soon as these come to `shard` bytes they are joined into one, so that it has 1 to 2 times that.

    Args:
        path: the folder, made if there is none and `create`.
        budget: bytes that the shards may take together; a `put` beyond it is refused.
        shard: bytes.

    FileNotFoundError or ValueError if the folder is no store, or one of another version.
    """

    def __init__(self, path: str | Path, budget: float = BUDGET, shard: float = SHARD, create: bool = True):
        self.root, self.budget, self.shard = given(path).absolute(), int(budget), int(shard)
        self.index: dict[str, list[Block]] = {}  # of each shard, by its file's name
        self.places: dict[str, tuple[str, int, int]] = {}  # key -> file name, number of the block, row in it
        if create:
            make_folder(self.root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no store {shown(self.root)}: check the path.")
        others = any(path.name[0] != "." for path in self.root.iterdir())
        if not (mark := self.root / MARK).exists():  # what another process is making has its mark first
            if others or not create:
                said = f"{shown(self.root)} has no {MARK} and is no store"
                raise ValueError(f"{said}: name one, or an empty folder to begin one in.")
            replace_file(mark, json.dumps({"format": FORMAT}).encode())
        with reading(mark):
            text = mark.read_text(errors="replace")
        if text != json.dumps({"format": FORMAT}):
            said = f"the store {shown(self.root)} was written by another version of sfhelpers ({text[:40]!r}"
            raise ValueError(f"{said}, not {FORMAT}): name another folder, or delete it.")

    def sizes(self) -> dict[str, int]:
        """File name -> bytes of every shard, oldest first."""
        found = []
        with reading(self.root):
            for path in self.root.glob(shards.NAMES):
                with contextlib.suppress(FileNotFoundError):  # joined with others meanwhile
                    found.append((path.stat().st_mtime_ns, path.name, path.stat().st_size))
        return {name: size for _, name, size in sorted(found)}

    def refresh(self) -> None:
        """Look for what was written or removed since; ValueError if a new shard is damaged."""
        while True:
            names = self.sizes()
            try:
                new = {name: shards.blocks(self.root / name) for name in names if name not in self.index}
                break
            except FileNotFoundError:  # joined with others meanwhile
                continue
        if not self.index.keys() <= names.keys():
            new |= {name: found for name, found in self.index.items() if name in names}
            self.index, self.places = {}, {}
        self.index |= new
        for name, found in new.items():
            for number, block in enumerate(found):
                self.places |= {key: (name, number, row) for row, key in enumerate(block["keys"])}

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that no item is under, in their order."""
        if any(key not in self.places for key in keys):
            self.refresh()
        return [key for key in keys if key not in self.places]

    def get(self, keys: Sequence[str], names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The tensors (n, ...) of n items in the order of their keys, of the dtypes that `put` was given.

        Only the rows and `names` (None: all) that are asked for are read, by memory mapping. LookupError if an item is
        not there; ValueError if a shard cannot be read.
        """
        while True:
            if gone := self.missing(keys):
                said = f"{len(gone)} of {len(keys)} items are not in the store {shown(self.root)}"
                raise LookupError(f"{said}: fill it again, and remove nothing from it while it is used.")
            try:
                return self._rows(keys, names)
            except FileNotFoundError:  # joined with others since it was looked for
                self.refresh()

    def _rows(self, keys: Sequence[str], names: Collection[str] | None) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        wanted: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for at, (shard, number, row) in enumerate(self.places[key] for key in keys):
            wanted[shard][number].append((at, row))
        for shard, numbers in wanted.items():
            with shards.opened(self.root / shard) as file:  # not for long: what is mapped counts as the process's own
                for number, pairs in numbers.items():
                    at, rows = torch.tensor(pairs).unbind(1)
                    for name, dtype in self.index[shard][number]["dtypes"].items():
                        if names is None or name in names:
                            values = file.get_tensor(f"{number}.{name}")[rows].to(getattr(torch, dtype))
                            if name not in result:
                                result[name] = values.new_empty(len(keys), *values.shape[1:])
                            result[name][at] = values
        return result

    def put(
        self,
        keys: Sequence[str],
        tensors: Mapping[str, Tensor],
        made_by: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Keep n items, but those that are there already.

        Args:
            keys: n of them, from `item_key`.
            tensors: (n, ...) each, on any device.
            made_by: as given to `item_key`, for `info` to tell.
            dtype: torch.float16 or bfloat16, of floats as they are kept; `info` tells how far off they are at most.

        Nothing is written and nothing lost on a ValueError: beyond the budget, or values that a half type cannot hold;
        an OSError: a full disk, or (TimeoutError) another process that does not end its writing.
        """
        with self._alone():
            new = set(self.missing(keys))
            if not (rows := [row for key, row in dict(zip(keys, range(len(keys)), strict=True)).items() if key in new]):
                return
            own = {name: tensor.detach()[rows].cpu().contiguous() for name, tensor in tensors.items()}
            kept = {name: shards.halved(name, tensor, dtype) for name, tensor in own.items()}
            dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in own.items()}
            block = {"keys": [keys[row] for row in rows], "dtypes": dtypes, "made_by": dict(made_by or {})}
            block["error"] = max(error for _, error in kept.values())
            named = {f"0.{name}": tensor for name, (tensor, _) in kept.items()}
            self.check_room(sum(tensor.nbytes for tensor in named.values()), len(rows))
            shards.write(self.root, named, [block])
            self._join(self.shard)

    def check_room(self, size: int, n: int) -> None:
        """ValueError unless n items of so many bytes in all are within the budget, and the disk has room for them."""
        held, free = sum(self.sizes().values()), shutil.disk_usage(self.root).free
        told = f"{n} items need {size / 1e6:,.3f} MB, and of"
        if held + size > self.budget:
            told = f"{told} a budget of {self.budget / 1e6:,.3f} MB {held / 1e6:,.3f} are taken: raise budget"
        elif size > free:
            told = f"{told} its disk {free / 1e6:,.3f} are free: name a folder on another one"
        else:
            return
        raise ValueError(f"the store {shown(self.root)} has no room: {told}, or python -m sfhelpers.store gc.")

    @contextlib.contextmanager
    def claim(self, keys: Sequence[str], most: int) -> Iterator[list[str]]:
        """At most `most` of the keys, that no item is under and nobody else has claimed, until the block ends. What
        a killed process had claimed is free again."""
        make_folder(self.root / "claims")
        with contextlib.ExitStack() as locks:
            claimed: list[str] = []
            for key in self.missing(keys):
                path = self.root / "claims" / key
                with contextlib.suppress(Timeout), writing(self.root, "make that folder writable"):
                    locks.enter_context(FileLock(path, timeout=0))
                    locks.callback(path.unlink, missing_ok=True)  # before it is released
                    claimed.append(key)
                if len(claimed) == most:
                    break
            self.refresh()  # what another has ended between our look and our claim
            yield self.missing(claimed)

    def verify(self) -> list[Path]:
        """The shards that are not as they were written; every byte is read."""
        wrong = []
        for path in (self.root / name for name in self.sizes()):
            with contextlib.suppress(FileNotFoundError):  # joined with others meanwhile
                if not shards.is_whole(path):
                    wrong.append(path)
        return wrong

    def gc(self, budget: float | None = None) -> list[Path]:
        """Remove damaged shards, items kept twice, what kills left, and the oldest shards beyond a budget in bytes.

        Returns the shards that are gone. RuntimeError while another process fills the store: nothing is removed.
        """
        with self._alone(), contextlib.ExitStack() as locks:
            for path in (self.root / "claims").glob("*"):
                try:
                    locks.enter_context(FileLock(path, timeout=0))
                except Timeout:
                    said = f"the store {shown(self.root)} is being written by another process"
                    raise RuntimeError(f"{said}: wait until it has ended; nothing was removed.") from None
                path.unlink(missing_ok=True)
            gone = self.verify()
            for path in gone:
                path.unlink()
            sizes = self.sizes()
            while budget is not None and sum(sizes.values()) > budget:
                gone.append(self.root / next(iter(sizes)))
                gone[-1].unlink()
                del sizes[gone[-1].name]
            self._join(0)
            return gone

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else adds or removes a shard meanwhile."""
        lock = FileLock(self.root / ".lock", timeout=WAIT)
        try:
            with writing(self.root, "make that folder writable"):
                lock.acquire()
        except Timeout:
            said = f"the store {shown(self.root)} has been written by another process for {WAIT:.0f} s"
            raise TimeoutError(f"{said}: wait until it has ended, or end it.") from None
        try:
            yield
        finally:
            lock.release()

    def _join(self, least: int) -> None:
        """Make one shard of the small ones, if they come to `least` bytes: each is checked first, since a new checksum
        would hide what a disk has spoilt. What a kill leaves in two shards the next joining finds."""
        small = {name: size for name, size in self.sizes().items() if size < self.shard}
        if sum(small.values()) < least:
            return
        self.refresh()
        kept = {key for name, found in self.index.items() if name not in small for b in found for key in b["keys"]}
        tensors: dict[str, Tensor] = {}
        index: list[Block] = []
        for name in small:
            if not shards.is_whole(self.root / name):
                raise shards.damaged(self.root / name)
            with shards.opened(self.root / name) as file:  # what it gives stays mapped: no copy is made in memory
                for number, block in enumerate(self.index[name]):
                    if not kept.issuperset(block["keys"]):
                        tensors |= {f"{len(index)}.{x}": file.get_tensor(f"{number}.{x}") for x in block["dtypes"]}
                        kept.update(block["keys"])
                        index.append(block)
        whole = shards.write(self.root, tensors, index) if index else ""
        for name in small.keys() - {whole}:  # if all others were copies, the new shard is the first of them
            (self.root / name).unlink()
