"""The words the embedded models know: a prompt bank, and a byte-level BPE tokenizer learnt from it."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sfhelpers.toyworld import CATEGORIES

TEMPLATES = {
    "photo": ("a photo of a {}", "a picture of a {}", "a {} in a cluttered scene"),
    "sketch": ("a sketch of a {}", "a drawing of a {}", "a freehand line drawing of a {}"),
}
LENGTH = 16  # tokens a prompt, start and end included


def prompt(category: str, domain: str, template: int = 0) -> str:
    """The prompt of a category in a domain, "photo" or "sketch": `a photo of a wine glass`."""
    return TEMPLATES[domain][template].format(category.replace("_", " "))


def write_tokenizer(folder: Path) -> None:
    """Learn a tokenizer from the prompt bank and write it in CLIP's format (vocab.json, merges.txt, configs).

    Unknown words fall into letters. Start and end tokens are the last two ids, as in CLIP.
    """
    bank = [prompt(c, d, k) for c in CATEGORIES for d in TEMPLATES for k in range(3)]
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
    vocabulary = {w: k for k, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    merges = [" ".join(m) if isinstance(m, list) else m for m in learnt["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=0), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
