"""Dr. CLIP: CLIP with prompts and layer norms of each domain's own, trained by three losses, for every zero-shot
scenario of retrieval by sketch. Equations as in its paper, but for signs and directions that cannot be meant."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sfhelpers.backbones import Backbone
from sfhelpers.backbones.prompted import TUNED, PromptedTower
from sfhelpers.backbones.vision import VisionFeatures
from sfhelpers.datasets import Dataset, splits
from sfhelpers.datasets.records import listed
from sfhelpers.datasets.scenarios import scenario
from sfhelpers.datasets.splits import GROUP
from sfhelpers.fusion.extractor import learned_type
from sfhelpers.tasks import matchmaker
from sfhelpers.tasks.arms import Companion
from sfhelpers.tasks.compare import Frozen, Trial, compare
from sfhelpers.tasks.prepared import Prepared, take
from sfhelpers.tasks.retrieval import B_BOTH, B_CLIP, B_SD, CHANCE, SIDES, Retrieval, Vectors

FULL = ("FSC", "DBQ", "RP")
LOSSES = (*FULL, "CE", "triplet")  # the last two: FSC without the teacher, DBQ without wrong sketches
CHOICES = {"tuned": TUNED, "output": ("class token", "first prompt"), "teacher": ("frozen", "shared")}
CHOICES |= {"relation": ("gradient", "none"), "chosen_on": ("validation", "test")}
TEMPLATE = "a photo of a {}"
PROMPT_RATE = 10.0  # of prompts, times the others' rate: 1e-3 and 1e-4 in the paper
SPREAD = 0.02  # of the prompts at the start
MAIN, UNTOUCHED, PLAIN = "Dr. CLIP", "untouched CLIP", "plain tuning"


def forgetting(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over classes, a mean over images (Eq. 4, whose direction is not stated)."""
    known = teacher.log_softmax(1)
    return F.kl_div(logits.log_softmax(1), known, reduction="batchmean", log_target=True)


def triplet(sketch: Tensor, right: Tensor, wrong: Tensor, margin: float) -> Tensor:
    """Mean of max(0, d(s, right) - d(s, wrong) + margin), d = 1 - cosine; Eq. 6 prints similarities for distances."""
    return ((sketch * wrong).sum(1) - (sketch * right).sum(1) + margin).clamp(min=0).mean()


def quadruplet(sketch: Tensor, photo: Tensor, wrong_photo: Tensor, wrong_sketch: Tensor, margin: float) -> Tensor:
    """The photo must be nearer than a wrong photo, and nearer than a wrong sketch (Eq. 6 to 8)."""
    return triplet(sketch, photo, wrong_photo, margin) + triplet(sketch, photo, wrong_sketch, margin)


def relation(sketches: Tensor, photos: Tensor, same: Tensor) -> Tensor:
    """Mean squared difference of sigmoid(cosine of two class-logit vectors) and 1 or 0 (Eq. 9 to 11, with the minus).

    A cosine is at most 1 and sigmoid(1) = .73, so it never falls below sigmoid(-1)^2 = .072.
    """
    score = (F.normalize(sketches, dim=1) @ F.normalize(photos, dim=1).T).sigmoid()
    return (score - same.to(score)).square().mean()


def class_texts(vision: VisionFeatures, classes: Sequence[str]) -> Tensor:
    """(C, D) of length 1; ValueError for a name that the tokenizer cuts, which would be another class's text."""
    texts = [TEMPLATE.format(name.replace("_", " ")) for name in classes]
    short = vision.tokenizer(texts)
    whole = vision.tokenizer(texts, context_length=8 * short.shape[1])[:, : short.shape[1]]
    if cut := [name for name, differs in zip(classes, (short != whole).any(1), strict=True) if differs]:
        what = f"the tokenizer cuts the text of {listed(cut)} after {short.shape[1]} tokens"
        raise ValueError(f"{what}: give the class a shorter name.")
    return vision.embed_text(texts)


class PromptedClip(nn.Module):
    """Images to unit vectors by CLIP's frozen image tower, with what a domain has of its own: prompts, and copies of
    the layer norms and of the projection.

    Args:
        prompts: tokens a domain, before the class token (3 in the paper).
        tuned: "norms", or "all" behind the stem, or "nothing" beside the prompts.
        output: what is the image's vector. The paper says the class token's (its Sec. 2.1); the released code reads the
            first prompt's, which starts as noise and not as what CLIP knows. The class token is the default here.
        losses: any of LOSSES; without any, nothing may learn.
        weights: of the KL within FSC, of DBQ (or triplet) and of RP.
        teacher, relation, chosen_on: "shared", "none" and "test" do as the released code: the teacher is the trained
            sketch branch without prompts, RP has no gradient, and the test's own queries choose the epoch.
    """

    rates: ClassVar[dict[str, float]] = {"prompts.": PROMPT_RATE}

    def __init__(
        self, backbone: Backbone, seed: int = 0, prompts: int = 3, losses: Collection[str] = FULL,
        weights: Sequence[float] = (15.0, 4.0, 4.0), margin: float = 0.3, **choices: str,
    ):  # fmt: skip
        super().__init__()
        choices = {name: some[0] for name, some in CHOICES.items()} | choices
        _check(prompts, losses, margin, choices)
        self.backbone, self.seed = backbone, seed
        self.settings: dict[str, Any] = {"prompts": prompts, "losses": list(losses), "weights": list(weights)}
        self.settings |= {"margin": margin, **choices}
        # In a tuple, since a module's modules are trained with it and kept with it.
        self.shared = (PromptedTower(backbone.vision.tower),)
        like, dice = next(self.tower.parameters()), torch.Generator().manual_seed(seed)
        self.none = like.new_zeros(0, self.tower.width, dtype=learned_type(like))
        self.tuned = nn.ModuleDict({side: nn.ParameterDict() for side in SIDES})
        for side, (name, parameter) in product(SIDES, self.tower.tunable(choices["tuned"]).items()):
            self.tuned[side][name.replace(".", "/")] = nn.Parameter(parameter.detach().to(self.none, copy=True))
        start = {side: SPREAD * torch.randn(prompts, self.tower.width, generator=dice) for side in SIDES}
        self.prompts = nn.ParameterDict({k: nn.Parameter(p.to(self.none)) for k, p in start.items()} if prompts else {})
        self.classes: tuple[str, ...] = ()
        self.texts = self.none  # (C, D) of `classes`

    @property
    def tower(self) -> PromptedTower:
        return self.shared[0]

    def teach(self, classes: Sequence[str]) -> "PromptedClip":
        """Fix the classes whose texts the losses compare with."""
        self.classes, self.texts = tuple(classes), class_texts(self.backbone.vision, classes).to(self.none)
        return self

    @torch.no_grad()
    def frozen(self, images: Tensor) -> Prepared:
        """All that no training changes: patch tokens before any prompt, and CLIP's own vector, the frozen teacher's."""
        patches = self.tower.stem(self.backbone.vision.pixels(images))
        return {"patches": patches, "teacher": F.normalize(self.tower(patches, self.none, 0).to(self.none), dim=1)}

    def forward(self, prepared: Prepared, side: str, prompted: bool = True) -> Tensor:
        """What `frozen` gave, of "sketches" or of "photos", to (B, D) of length 1."""
        prompts = self.prompts[side] if prompted and side in self.prompts else self.none
        at = len(prompts) if self.settings["output"] == "class token" else 0
        like = next(self.tower.parameters())
        own = {name.replace("/", "."): value.to(like.dtype) for name, value in self.tuned[side].items()}
        found = functional_call(self.tower, own, (prepared["patches"].to(like), prompts, at))
        return F.normalize(found.to(self.none), dim=1)

    def embed(self, images: Tensor, side: str) -> Tensor:
        """(B, 3, H, W) in [0, 1], of "sketches" or of "photos", to (B, D) of length 1."""
        return self(self.frozen(images), side)

    def logits(self, vectors: Tensor) -> Tensor:
        """Cosines with the class texts over CLIP's temperature, (B, C)."""
        return self.backbone.vision.model.logit_scale.exp() * vectors @ self.texts.T

    @torch.no_grad()
    def taught(self, prepared: Prepared) -> Tensor:
        """The teacher's vectors (B, D)."""
        if self.settings["teacher"] == "shared":
            return self(prepared, "sketches", prompted=False)
        return prepared["teacher"].to(self.none)

    def terms(self, prepared: Mapping[str, Prepared], labels: Mapping[str, Tensor], same: Tensor) -> dict[str, Tensor]:
        """The losses asked for, weighed. A side's first half are the sketches, or their photos, its second half the
        wrong ones; `labels` are of `classes`, `same` (S, P) says which share a class."""
        vectors = {side: self(prepared[side], side) for side in SIDES}
        logits = {side: self.logits(some) for side, some in vectors.items()}
        (s, s_wrong), (p, p_wrong) = (vectors[side].chunk(2) for side in SIDES)
        found, margin = {}, self.settings["margin"]
        suppress, balance, relate = self.settings["weights"]
        if {"FSC", "CE"} & set(self.settings["losses"]):
            found["CE"] = sum(F.cross_entropy(logits[side], labels[side]) for side in SIDES)
        if "FSC" in self.settings["losses"]:
            lost = sum(forgetting(logits[side], self.logits(self.taught(prepared[side]))) for side in SIDES)
            found["FSC"] = found.pop("CE") + suppress * lost
        if "DBQ" in self.settings["losses"]:
            found["DBQ"] = balance * quadruplet(s, p, p_wrong, s_wrong, margin)
        if "triplet" in self.settings["losses"]:
            found["triplet"] = balance * triplet(s, p, p_wrong, margin)
        if "RP" in self.settings["losses"]:
            related = relation(*logits.values(), same)
            found["RP"] = relate * (related if self.settings["relation"] == "gradient" else related.detach())
        return found


def _check(prompts: int, losses: Collection[str], margin: float, choices: Mapping[str, str]) -> None:
    if unknown := set(choices) - set(CHOICES):
        raise ValueError(f"there is no setting {min(unknown)!r}: use some of {', '.join(CHOICES)}.")
    for name, value in choices.items():
        if value not in CHOICES[name]:
            raise ValueError(f"{name} is {value!r}: use {' or '.join(CHOICES[name])}.")
    if type(prompts) is not int or prompts < (least := int(choices["output"] == "first prompt")):
        raise ValueError(f"prompts is {prompts!r}: give a whole number of {least} or more.")
    if isinstance(losses, str) or set(losses) - set(LOSSES) or {"FSC", "CE"} <= set(losses):
        raise ValueError(f"losses is {losses!r}: give a list of {', '.join(LOSSES)}; FSC has CE in it.")
    if not losses and (prompts or choices["tuned"] != "nothing"):
        raise ValueError("there is no loss to learn by: name one, or give prompts=0 and tuned='nothing'.")
    if not margin > 0:
        raise ValueError(f"margin is {margin}: give a number above 0, for example 0.3.")


class DrClip(Retrieval):
    """One of the four scenarios, trained by quadruplets; `batch_size` counts these, of two sketches and two photos."""

    name, main = "drclip", MAIN

    def __init__(
        self, name: str, data: Sequence[Dataset], epochs: int, learning_rate: float, batch_size: int,
        tested: Collection[str] = (),
    ):  # fmt: skip
        dataset, problem = scenario(name, data, tested)
        super().__init__(dataset, epochs, learning_rate, GROUP * batch_size, {name: problem})
        self.whole, self.baselines = dataset, (CHANCE,)  # all images, of both data sets where there are two
        place = {category: k for k, category in enumerate(problem.split.train)}
        self.labels = {s: torch.tensor([place.get(r.category, -1) for r in self.parts[s]]) for s in SIDES}

    def plain(self, backbone: Backbone, seed: int) -> Companion:
        return arm(UNTOUCHED, backbone, seed)

    def model(self, extractor: PromptedClip, frozen: Frozen) -> PromptedClip:
        return extractor.teach(self.first.split.train)

    def loss(self, model: PromptedClip, frozen: Frozen, indices: Tensor) -> Tensor:
        return sum(self.terms(model, frozen, indices).values())

    def terms(self, model: PromptedClip, frozen: Frozen, indices: Tensor) -> dict[str, Tensor]:
        """The weighed losses of the quadruplets at some indices, by name."""
        drawn = frozen["train"].draw(indices, model.seed)
        places = {"sketches": drawn[:, [0, 3]].T.flatten(), "photos": drawn[:, [1, 2]].T.flatten()}
        prepared = {side: take(frozen[side], at, model.none.device) for side, at in places.items()}
        labels = {side: self.labels[side][at].to(model.none.device) for side, at in places.items()}
        asked, shown = self.asked_for[places["sketches"]], self.shown[places["photos"]]
        return model.terms(prepared, labels, (asked[:, None, None] == shown).any(2))

    def validate(self, model: PromptedClip, frozen: Frozen) -> float:
        """Mean AP at the scenario's level, of the validation's sketches and photos; the arm that says so takes the
        test's own."""
        places, about = frozen["validation"], self.first
        if model.settings["chosen_on"] == "test":
            places = tuple(pool[at] for pool, at in zip(about.places, about.tests["zero-shot"], strict=True))
        return self._precision(self.embedded_by(model, frozen, places), {**frozen, "validation": places})

    def predict(self, model: PromptedClip, frozen: Frozen) -> Vectors:
        return Vectors(*self.embedded_by(model, frozen, self.first.places))

    @torch.no_grad()
    def embedded_by(self, model: PromptedClip, frozen: Frozen, places: Sequence[Tensor]) -> list[Tensor]:
        """(S, D) and (P, D) on the CPU of the sketches and photos at some places."""
        sides = ((side, which.split(64)) for side, which in zip(SIDES, places, strict=True))
        return [torch.cat([model(take(frozen[k], some), k).cpu() for some in parts]) for k, parts in sides]


VARIANTS: dict[str, dict[str, Any]] = {  # an arm each; what it does otherwise than MAIN
    MAIN: {},
    UNTOUCHED: {"losses": (), "prompts": 0, "tuned": "nothing"},
    PLAIN: {"losses": ("CE", "triplet")},
    "without FSC": {"losses": ("DBQ", "RP")}, "without DBQ": {"losses": ("FSC", "RP")},
    "without RP": {"losses": ("FSC", "DBQ")}, "FSC alone": {"losses": ("FSC",)}, "DBQ alone": {"losses": ("DBQ",)},
    "RP alone": {"losses": ("RP",)},
    "cross-entropy alone": {"losses": ("CE",)}, "triplet alone": {"losses": ("triplet",)},
    "plain tuning of all": {"losses": ("CE", "triplet"), "prompts": 0, "tuned": "all"},
    "without LayerNorms": {"tuned": "nothing"}, "without prompts": {"prompts": 0}, "1 prompt": {"prompts": 1},
    "8 prompts": {"prompts": 8},
    "as released: RP without gradient": {"relation": "none"}, "as released: shared teacher": {"teacher": "shared"},
    "as released: output at the first prompt": {"output": "first prompt"},
    "as released: all three": {"relation": "none", "teacher": "shared", "output": "first prompt"},
    "epoch chosen on the test set": {"chosen_on": "test"},
}  # fmt: skip
EIGHT = (MAIN, "without FSC", "without DBQ", "without RP", "FSC alone", "DBQ alone", "RP alone", UNTOUCHED)
CORE = (MAIN, UNTOUCHED, PLAIN, "without DBQ", "without RP")
ARMS = {"core": CORE, "losses": tuple(dict.fromkeys((*CORE, *EIGHT))), "all": tuple(VARIANTS)}


def arm(name: str, backbone: Backbone, seed: int) -> Companion:
    return Companion(name, seed, backbone, VARIANTS[name], make=PromptedClip)


def arms(which: str, backbone: Backbone, seeds: Iterable[int]) -> list[Companion]:
    """Those of ARMS; what is not trained once."""
    seeds = tuple(seeds)
    return [arm(name, backbone, seed) for name in ARMS[which] for seed in (seeds[:1] if name == UNTOUCHED else seeds)]


MEETING = "the meeting"


def meeting(
    dataset: Dataset, models: Backbone, seeds: Sequence[int], epochs: int, checkpoints: Path | None = None, **how: Any
) -> tuple[Retrieval, list[Trial]]:
    """SketchFusion, SD-PL, Dr. CLIP and what they stand on, on one strict split of one gallery; `how` as of `compare`.

    Every system learns at its own notebook's rate and batch, by the rule that ends all trainings. Returns the task
    that measures all trials alike, and these.
    """
    found = splits.apply(dataset, replace(splits.strict(dataset), name=MEETING))
    place = {record.path: k for side in (dataset.sketches, dataset.photos) for k, record in enumerate(side)}
    problem = {MEETING: splits.problem_of(found, "category", place)}
    task = Retrieval(dataset, epochs, 1e-4, 2 * GROUP, problem)
    of_sdpl = matchmaker.SD_PL, matchmaker.PLAIN
    prompts = [matchmaker.arm_of(name, models, seed, draws=1) for name in of_sdpl for seed in seeds]
    clips = [arm(name, models, seed) for name in (MAIN, PLAIN) for seed in seeds]
    trials = []
    for system, methods in (
        (task, ("fused", B_CLIP, B_SD, B_BOTH, CHANCE)),
        (matchmaker.Matchmaker(dataset, epochs, 1e-3, 2 * GROUP, problem), prompts),
        (DrClip("cgsbir", [dataset], epochs, 1e-4, GROUP), [*clips, arm(UNTOUCHED, models, seeds[0])]),
    ):
        kept = checkpoints and checkpoints / type(system).__name__
        trials += compare(models, system, methods, seeds, checkpoints=kept, **how)[0]
    return task, [replace(trial, problem=MEETING) for trial in trials]
