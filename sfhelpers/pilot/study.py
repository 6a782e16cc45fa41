"""The pilot study's numbers: every measure for every source, with its standard error, and swept over the settings."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.backbones import randomised
from sfhelpers.fusion.modules import to_grid
from sfhelpers.pilot import agreement
from sfhelpers.pilot.agreement import GRID, jackknife
from sfhelpers.pilot.maps import FeatureMaps, Settings
from sfhelpers.pilot.pairs import ToyPairs
from sfhelpers.pilot.pca import fit_pca, project
from sfhelpers.pilot.spectra import coloured_noise, low_frequency_share

CLASS = "[CLASS]"
PROMPTS = ("", f"a photo of {CLASS}", f"a sketch of {CLASS}")
CUT, BAND = 2.0, 5.0  # cycles per image; a grid of 10 positions, CLIP's with pocket, ends at 5
SIDES = ("sketch", "photo")
STEP = 2  # every second pixel of a mask is asked, which a map of 24 positions cannot tell from all of them

_MATCH = f"share of visible keypoints whose most similar position (cosine, {GRID} x {GRID}) lies within 0.1 of the side"
_AUC = "area under the ROC curve of the first principal component of all {0}s, object against ground"
_SHARE = (
    f"share of the power up to {BAND:g} cycles per image that lies at or below {CUT:g}, Hann window, no mean, {{0}}s"
)
MEASURES: dict[str, str] = {
    "CKA": "debiased linear CKA of sketch and photo features at the keypoints visible in both",
    "agreement": f"{_MATCH}, sketch to its own photo",
    "agreement, offsets removed": f"{_MATCH}, channels standardised over all sketches and over all photos",
    "sketch to other photo": f"{_MATCH}, sketch to the photo of another individual of its category",
    "photo to other photo": f"{_MATCH}, photo to the photo of another individual of its category",
    "sketch to other sketch": f"{_MATCH}, sketch to the sketch of another individual of its category",
    **{f"object AUC, {side}": f"{_AUC.format(side)}, sign from the other images" for side in SIDES},
    **{f"object AUC, {side}, best of 3": f"{_AUC.format(side)}, or of the second or third" for side in SIDES},
    **{f"object AUC, {side}, wrong mask": f"{_AUC.format(side)} of another category" for side in SIDES},
    **{f"low-frequency share, {side}": _SHARE.format(side) for side in SIDES},
}
BRIEF = ("CKA", "agreement", *(f"{what}, {side}" for what in ("object AUC", "low-frequency share") for side in SIDES))


@dataclass(frozen=True)
class Score:
    """A measured value.

    Attributes:
        value: mean over the noise seeds.
        error: its standard error over categories, by leaving one out at a time; mean over the noise seeds.
        n: pairs.
        spread: sample standard deviation over the noise seeds; None for a single one.
    """

    value: float
    error: float
    n: int
    spread: float | None = None


Table = dict[str, dict[str, Score]]  # source or setting -> measure -> score


def pair_maps(maps: FeatureMaps, images: Tensor, labels: Sequence[str], settings: Settings) -> Tensor:
    """Feature maps (N, 2, C, h, w) of pairs (N, 2, 3, H, W); [CLASS] in the prompt becomes each pair's category."""
    if CLASS not in settings.prompt:
        return maps(images.flatten(0, 1), settings).unflatten(0, images.shape[:2])
    found: list[Tensor | None] = [None] * len(labels)
    for label in dict.fromkeys(labels):
        which = [k for k, other in enumerate(labels) if other == label]
        worded = replace(settings, prompt=settings.prompt.replace(CLASS, label.replace("_", " ")))
        made = maps(images[which].flatten(0, 1), worded).unflatten(0, (len(which), 2))
        for k, one in zip(which, made, strict=True):
            found[k] = one
    return torch.stack(found)


def measure(features: Tensor, pairs: ToyPairs, only: Sequence[str] = tuple(MEASURES)) -> dict[str, Score]:
    """All measures of one source.

    Args:
        features: (N, 2, C, h, w), sketch and photo.
        pairs: whose features they are, of two categories or more.
        only: which measures.

    Returns:
        measure -> Score. Left out are measures that cannot be taken: of other individuals where each category has but
        one, and shares up to 5 cycles per image on a grid that ends before.
    """
    made = {"CKA": lambda: _cka(features, pairs)}
    made |= _matching(features, pairs) | _separating(features, pairs) | _spectral(features)
    found = {name: made[name]() for name in only if name in made}
    scores = {name: value if isinstance(value, tuple) else _mean(value, pairs) for name, value in found.items()}
    return {name: Score(value, error, len(pairs)) for name, (value, error) in scores.items() if np.isfinite(value)}


def compare(maps: FeatureMaps, pairs: ToyPairs, seeds: Iterable[int] = (0,)) -> Table:
    """Every source of the study over noise seeds, and two controls: an untrained UNet, and the pixels themselves.

    The UNet is initialised anew with each seed; all else differs in the noise alone. The pixels are averaged to the
    grid on which maps are compared.
    """
    plan = {source: Settings(source) for source in ("SD f1", "SD f2", "SD f3", "SD f4", "CLIP tokens")}
    plan["SD+CLIP concatenated"] = Settings("SD+CLIP concatenated")
    plan["SD f3, injected"] = Settings("SD f3", "up")
    plan["fused"] = Settings("fused", "up")
    plan["late fusion"] = Settings("fused", "late")
    plan["fused (fixed random injection)"] = Settings("fused", "random")
    plan["SD aggregated alone"] = Settings("fused", "none")
    pixels = F.interpolate(pairs.images.flatten(0, 1), size=GRID, mode="area").unflatten(0, (len(pairs), 2))
    tables = []
    for seed in seeds:
        control = FeatureMaps(randomised(maps.backbone, seed), {}, maps.megabytes, maps.batch_size)
        asked = [(name, maps, settings) for name, settings in plan.items()]
        asked += [(f"random UNet f{k}", control, Settings(f"SD f{k}")) for k in (2, 3)]
        bar = tqdm(asked, desc=f"sources, noise seed {seed}", leave=False, delay=1)
        table = {name: _measured(m, pairs, replace(s, seed=seed), tuple(MEASURES)) for name, m, s in bar}
        tables.append({**table, "pixels": measure(pixels, pairs)})
    return _over_seeds(tables)


def by_part(maps: FeatureMaps, pairs: ToyPairs, seed: int = 0) -> dict[str, Table]:
    """The main measures of the main sources on seen and on unseen categories; a part with one category is left out."""
    plan = {name: Settings(name, seed=seed) for name in ("SD f2", "SD f3", "CLIP tokens")}
    plan["fused"] = Settings("fused", "up", seed=seed)
    found = {}
    for part, wanted in (("seen categories", True), ("unseen categories", False)):
        some = pairs[[k for k, seen in enumerate(pairs.seen) if seen == wanted]]
        if len(set(some.labels)) > 1:
            found[part] = {name: _measured(maps, some, settings, BRIEF) for name, settings in plan.items()}
    return found


def sweep(
    maps: FeatureMaps, pairs: ToyPairs, name: str, values: Sequence[Any], seeds: Iterable[int] = (0,),
    sources: Sequence[str] = ("SD f1", "SD f2", "SD f3", "SD f4"),
) -> dict[Any, Table]:  # fmt: skip
    """The main measures for every value of one setting ("timestep", "prompt", "draws"), all else as by default."""
    found: dict[Any, list[Table]] = {value: [] for value in values}
    plan = [(value, seed) for seed in seeds for value in values]
    for value, seed in tqdm(plan, desc=f"sweep over {name}", leave=False, delay=1):
        settings = [Settings(source, seed=seed, **{name: value}) for source in sources]
        found[value].append({s.source: _measured(maps, pairs, s, BRIEF) for s in settings})
    return {value: _over_seeds(tables) for value, tables in found.items()}


def yardsticks(grid: int = GRID) -> Table:
    """The spectral measures of white noise and of noise whose amplitude falls as 1/f, by these names.

    The error is over the channels drawn.
    """
    made: Table = {}
    for name, exponent in (("white noise", 0), ("1/f", 1)):
        channels = coloured_noise(grid, exponent).transpose(0, 1)
        shares = low_frequency_share(channels, CUT, BAND)
        score = Score(float(shares.mean()), float(shares.std(ddof=1) / len(shares) ** 0.5), len(shares))
        made[name] = {f"low-frequency share, {side}": score for side in SIDES}
    return made


def baselines(pairs: ToyPairs) -> dict[str, Score]:
    """What the measures give without any features, by their names, "chance" and "same place" of the agreement apart.

    For the object AUC it is nearness to the middle of the image, where most objects are.
    """
    (sketch, photo), visible = pairs.points.unbind(1), pairs.visible.all(dim=1)
    steps = torch.linspace(-1, 1, GRID)
    middle = -torch.hypot(steps[:, None], steps).expand(len(pairs), 1, GRID, GRID)
    found = {
        "agreement, chance": agreement.chance_agreement(photo, visible),
        "agreement, same place": agreement.same_place_agreement(sketch, photo, visible),
    }
    for side, masks in zip(SIDES, _masks(pairs), strict=True):
        found[f"object AUC, {side}, nearness to the middle"] = agreement.foreground_auc(middle, masks)[:, 0]
    return {name: Score(*_mean(values, pairs), len(pairs)) for name, values in found.items()}


def _measured(maps: FeatureMaps, pairs: ToyPairs, settings: Settings, only: Sequence[str]) -> dict[str, Score]:
    return measure(pair_maps(maps, pairs.images, pairs.labels, settings), pairs, only)


def _over_seeds(tables: list[Table]) -> Table:
    def joined(scores: list[Score]) -> Score:
        values = [score.value for score in scores]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Score(float(np.mean(values)), float(np.mean([s.error for s in scores])), scores[0].n, spread)

    return {
        name: {m: joined([t[name][m] for t in tables]) for m in measures} for name, measures in tables[0].items()
    }  # fmt: skip


def _mean(values: np.ndarray, pairs: ToyPairs) -> tuple[float, float]:
    """Mean over the pairs that have the measure, and its standard error; NaN where none has."""
    known = np.isfinite(values)
    if not known.any():
        return float("nan"), float("nan")
    kept = values[known]
    return jackknife(lambda which: kept[which].mean(), np.asarray(pairs.labels)[known])


def _cka(features: Tensor, pairs: ToyPairs) -> tuple[float, float]:
    visible = pairs.visible.all(dim=1)
    points = pairs.points.unbind(1)
    sized = (to_grid(maps.float(), (GRID, GRID)) for maps in features.unbind(1))
    sketch, photo = (
        agreement.kernel(agreement.sample(maps, where)[visible]) for maps, where in zip(sized, points, strict=True)
    )
    groups = np.repeat(pairs.labels, visible.sum(dim=1).numpy())
    return jackknife(lambda which: agreement.alignment(sketch[which][:, which], photo[which][:, which]), groups)


def _matching(features: Tensor, pairs: ToyPairs) -> dict[str, Callable[[], np.ndarray]]:
    maps = dict(zip(SIDES, features.unbind(1), strict=True))
    points = dict(zip(SIDES, pairs.points.unbind(1), strict=True))
    visible = dict(zip(SIDES, pairs.visible.unbind(1), strict=True))
    other = torch.tensor(_others(pairs.labels))
    lonely = (other == torch.arange(len(pairs))).numpy()

    def own(standardise: bool) -> np.ndarray:
        a, b = (_standardised(maps[side]) if standardise else maps[side] for side in SIDES)
        return agreement.keypoint_agreement(a, b, *points.values(), visible["sketch"] & visible["photo"])

    def across(a: str, b: str) -> np.ndarray:
        seen = visible[a] & visible[b][other]
        found = agreement.keypoint_agreement(maps[a], maps[b][other], points[a], points[b][other], seen)
        return np.where(lonely, np.nan, found)

    made = {"agreement": lambda: own(False), "agreement, offsets removed": lambda: own(True)}
    ways = (("sketch", "photo"), ("photo", "photo"), ("sketch", "sketch"))
    return made | {f"{a} to other {b}": lambda a=a, b=b: across(a, b) for a, b in ways}


def _separating(features: Tensor, pairs: ToyPairs) -> dict[str, Callable[[], np.ndarray]]:
    made: dict[str, Callable[[], np.ndarray]] = {}
    for maps, masks, side in zip(features.unbind(1), _masks(pairs), SIDES, strict=True):

        def auc(best: bool, wrong: bool, maps: Tensor = maps, masks: Tensor = masks) -> np.ndarray:
            scores = project(fit_pca(maps), maps)
            truth = masks.roll(len(masks) // 2, dims=0) if wrong else masks  # ordered by category: half way round
            return agreement.oriented(agreement.foreground_auc(scores if best else scores[:, :1], truth), best)

        kinds = {"": (False, False), ", best of 3": (True, False), ", wrong mask": (False, True)}
        made |= {f"object AUC, {side}{kind}": lambda auc=auc, how=how: auc(*how) for kind, how in kinds.items()}
    return made


def _spectral(features: Tensor) -> dict[str, Callable[[], np.ndarray]]:
    if min(features.shape[3:]) < 2 * BAND:
        return {}
    sides = zip(SIDES, features.unbind(1), strict=True)
    return {
        f"low-frequency share, {side}": lambda maps=maps: low_frequency_share(maps, CUT, BAND) for side, maps in sides
    }


def _masks(pairs: ToyPairs) -> tuple[Tensor, Tensor]:
    return pairs.silhouettes[:, ::STEP, ::STEP], pairs.masks[:, ::STEP, ::STEP]


def _standardised(maps: Tensor) -> Tensor:
    """(N, C, h, w), every channel with mean 0 and spread 1 over all maps: no offset between domains is left."""
    mean, spread = maps.mean(dim=(0, 2, 3), keepdim=True), maps.std(dim=(0, 2, 3), keepdim=True)
    return (maps - mean) / spread.clamp(min=1e-6)


def _others(labels: Sequence[str]) -> list[int]:
    """For each pair the next one of its category, the first after the last; itself where it is alone."""
    members: dict[str, list[int]] = {}
    for k, label in enumerate(labels):
        members.setdefault(label, []).append(k)
    following = {k: m[(n + 1) % len(m)] for m in members.values() for n, k in enumerate(m)}
    return [following[k] for k in range(len(labels))]
