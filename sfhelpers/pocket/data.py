"""What the embedded models learn from: individuals that no data set contains, and the words for them."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import CLIPTokenizer

from sfhelpers.toyworld import CATEGORIES, SEEN, Thing, keypoint_names, render_scene, render_sketch
from sfhelpers.toyworld.categories import COLOURS
from sfhelpers.toyworld.shapes import stream

# The data sets that notebooks train and test on are drawn from seeds 0, 1, 2, ...; these are drawn from this one,
# so that no picture is ever in both. Nothing is drawn of the nine unseen categories, not even in the background.
TRAINING_SEED = 20_250_321
SIZE = 96  # pixels that the UNet's latents are made from, a side
LENGTH = 24  # tokens that both text encoders read, with both ends
TEMPLATES = {
    "photo": ("a photo of {}", "a picture of {}", "{} in a cluttered scene"),
    "sketch": ("a sketch of {}", "a drawing of {}", "a freehand line drawing of {}"),
}
KINDS = {"photo": ("a photo of", "a picture of"), "sketch": ("a sketch of", "a drawing of", "a line drawing of")}
PLACES = ("left of", "right of", "above", "below")


def pictures(kind: str, start: int, count: int) -> tuple[Tensor, list[str], list[tuple[str, ...]]]:
    """Training pictures number `start` to `start + count`: (count, 3, 160, 160) uint8, words, and what is in each."""
    plan = tqdm(range(start, start + count), f"rendering {kind}", leave=False)
    drawn, words, things = zip(*(picture(kind, SEEN[k % len(SEEN)], k, TRAINING_SEED) for k in plan), strict=True)
    return torch.stack(drawn), list(words), list(things)


def picture(kind: str, category: str, index: int, seed: int) -> tuple[Tensor, str, tuple[str, ...]]:
    """One picture, (3, 160, 160) uint8, a sentence about it, and the categories in it, the asked one first.

    `kind` is "photo" (of one thing), "scene" (a photo of two to four) or "sketch" (the individual's first).
    """
    if kind == "sketch":
        pixels = np.repeat(render_sketch(category, index, 0, seed, difficulty=0.5)[0][..., None], 3, axis=2)
        words, things = f"{KINDS[kind][index % 3]} {article(category)}", (category,)
    else:
        pixels, found = render_scene(category, index, seed, difficulty=0.5, things=1 if kind == "photo" else 0)
        words, things = caption(stream("caption", kind, index), found), tuple(t.category for t in found)
    return torch.from_numpy(pixels).permute(2, 0, 1), words, things


def resized(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 to (N, 3, SIZE, SIZE) float in [-1, 1], averaged over pixels where it shrinks."""
    return F.interpolate(images / 127.5 - 1, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)


def caption(rng: np.random.Generator, things: tuple[Thing, ...]) -> str:
    """A random true sentence about a photo, such as "a photo of a red cup left of a fish"; 14 words at most."""
    start = KINDS["photo"][rng.integers(2)]
    first, *others = (things[k] for k in rng.permutation(len(things)))
    if not others or rng.random() < 0.25:
        visible = np.array(keypoint_names(first.category))[first.keypoints[:, 2] > 0]
        if len(visible) and rng.random() < 0.4:
            return f"{start} {named(rng, first)} with {article(visible[rng.integers(len(visible))])}"
        return f"{start} {named(rng, first)}"
    if len(others) == 1 or rng.random() < 0.6:
        return f"{start} {named(rng, first)} {place(first, others[0])} {named(rng, others[0])}"
    *before, last = (named(rng, thing, 0.2) for thing in (first, *others))
    return f"{start} {', '.join(before)} and {last}"


def place(one: Thing, other: Thing) -> str:
    """Where the middle of one is from the middle of another: the larger of both distances decides."""
    (y, x), (y0, x0) = (np.argwhere(thing.mask).mean(0) for thing in (one, other))
    left, right, above, below = PLACES
    if abs(x - x0) >= abs(y - y0):
        return left if x < x0 else right
    return above if y < y0 else below


def named(rng: np.random.Generator, thing: Thing, coloured: float = 0.6) -> str:
    """A thing with its article and, with a probability, its main colour."""
    return article(f"{thing.colour} {thing.category}" if rng.random() < coloured else thing.category)


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun.replace('_', ' ')}"


def bank() -> list[str]:
    """Every word that a caption may hold, in sentences; unseen categories are never named."""
    parts = sorted({part for category in SEEN for part in keypoint_names(category)})
    nouns = [*SEEN, *parts, *(f"{colour} thing" for colour in COLOURS)]
    found = [f"{start} {article(noun)}" for noun in nouns for starts in KINDS.values() for start in starts]
    return found + [f"a photo of a cup {where} a fish , a tree and a house with a door" for where in PLACES]


def prompt(category: str, domain: str, template: int = 0) -> str:
    """The prompt of a category in a domain, "photo" or "sketch": `a photo of a wine glass`."""
    return TEMPLATES[domain][template].format(article(category))


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Learn a tokenizer from captions and prompts and write it in CLIP's format; words in none fall into letters."""
    names = [f"a {category.replace('_', ' ')}" for category in CATEGORIES]
    prompts = [words.format(name) for name in names for domain in TEMPLATES.values() for words in domain]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = [chr(code) for code in range(33, 127)]
    # Named first, last letters have fixed ids; else these, and the merges that tie, would be another's every time.
    last = [letter + "</w>" for letter in letters]
    told = {"end_of_word_suffix": "</w>", "initial_alphabet": letters, "special_tokens": last}
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, **told)
    learner.train_from_iterator(bank() + prompts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    words = [w for w in sorted(learnt["vocab"], key=learnt["vocab"].get) if not w.startswith("<|")]
    vocabulary = {w: k for k, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}  # last, as in CLIP
    merges = [" ".join(m) if isinstance(m, list) else m for m in learnt["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    told = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)
