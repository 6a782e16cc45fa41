"""What the embedded models learn from: individuals that no data set contains, and the words for them."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import CLIPTokenizer

from sfhelpers.backbones.presets import POCKET_FOLDER
from sfhelpers.toyworld import CATEGORIES, SEEN, render_photo, render_sketch

# The data sets that notebooks train and test on are drawn from seeds 0, 1, 2, ...; these are drawn from this one,
# so that no picture is ever in both. Nothing is drawn of the nine unseen categories, not even in the background.
TRAINING_SEED = 20_250_321
SIZE = 96  # pixels that the UNet's latents are made from, a side
TEMPLATES = {
    "photo": ("a photo of a {}", "a picture of a {}", "a {} in a cluttered scene"),
    "sketch": ("a sketch of a {}", "a drawing of a {}", "a freehand line drawing of a {}"),
}


def pictures(domain: str, start: int, count: int) -> tuple[Tensor, list[str]]:
    """Training pictures number `start` to `start + count`, (count, 3, 160, 160) uint8, and the category of each."""
    numbers = range(start, start + count)
    categories = [SEEN[k % len(SEEN)] for k in numbers]
    plan = tqdm(zip(categories, numbers, strict=True), f"rendering {domain}s", count, leave=False)
    return torch.stack([picture(domain, category, k, TRAINING_SEED) for category, k in plan]), categories


def picture(domain: str, category: str, index: int, seed: int) -> Tensor:
    """One picture, (3, 160, 160) uint8; `domain` is "photo" or "sketch" (the individual's first)."""
    if domain == "photo":
        pixels = render_photo(category, index, seed, difficulty=0.5)[0]
    else:
        pixels = np.repeat(render_sketch(category, index, 0, seed, difficulty=0.5)[0][..., None], 3, axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resized(images: Tensor, size: int = SIZE) -> Tensor:
    """(N, 3, H, W) uint8 to (N, 3, size, size) float in [-1, 1], averaged over pixels where it shrinks."""
    return F.interpolate(images / 127.5 - 1, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def prompt(category: str, domain: str, template: int = 0) -> str:
    """The prompt of a category in a domain, "photo" or "sketch": `a photo of a wine glass`."""
    return TEMPLATES[domain][template].format(category.replace("_", " "))


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Learn a tokenizer from all prompts and write it in CLIP's format; unknown words fall into letters."""
    bank = [prompt(category, domain, k) for category in CATEGORIES for domain in TEMPLATES for k in range(3)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = [chr(code) for code in range(33, 127)]
    # Named first, last letters have fixed ids; else these, and the merges that tie, would be another's every time.
    last = [letter + "</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=600, end_of_word_suffix="</w>", initial_alphabet=letters, special_tokens=last, show_progress=False
    )
    learner.train_from_iterator(bank, trainer)
    learnt = json.loads(learner.to_str())["model"]
    words = [w for w in sorted(learnt["vocab"], key=learnt["vocab"].get) if not w.startswith("<|")]
    vocabulary = {w: k for k, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}  # last, as in CLIP
    merges = [" ".join(m) if isinstance(m, list) else m for m in learnt["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=0), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    shutil.copyfile(POCKET_FOLDER / "vision" / "tokenizer_config.json", folder / "tokenizer_config.json")
    return CLIPTokenizer.from_pretrained(folder)
