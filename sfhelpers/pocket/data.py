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

from sfhelpers.pocket import captions
from sfhelpers.toyworld import CATEGORIES, SEEN, render_scene, render_sketch
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
        words, things = f"{captions.KINDS[kind][index % 3]} {captions.article(category)}", (category,)
    else:
        pixels, found = render_scene(category, index, seed, difficulty=0.5, things=1 if kind == "photo" else 0)
        words, things = captions.caption(stream("caption", kind, index), found), tuple(t.category for t in found)
    return torch.from_numpy(pixels).permute(2, 0, 1), words, things


def resized(images: Tensor, size: int = SIZE) -> Tensor:
    """(N, 3, H, W) uint8 to (N, 3, size, size) float in [-1, 1], averaged over pixels where it shrinks."""
    return F.interpolate(images / 127.5 - 1, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def prompt(category: str, domain: str, template: int = 0) -> str:
    """The prompt of a category in a domain, "photo" or "sketch": `a photo of a wine glass`."""
    return TEMPLATES[domain][template].format(captions.article(category))


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
    learner.train_from_iterator(captions.bank() + prompts, trainer)
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
