import json, shutil
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer
from sfhelpers.backbones.presets import POCKET_FOLDER
from sfhelpers.pocket.captions import bank
from sfhelpers.pocket.data import TEMPLATES, prompt
from sfhelpers.toyworld import CATEGORIES

folder = Path("runs/pocket/tokenizer")
folder.mkdir(exist_ok=True)
texts = bank() + [prompt(c, d, k) for c in CATEGORIES for d in TEMPLATES for k in range(3)]
texts = [t.replace(",", " ,") for t in texts]
learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
letters = [chr(code) for code in range(33, 127)]
last = [l + "</w>" for l in letters]
learner.train_from_iterator(
    texts,
    trainers.BpeTrainer(
        vocab_size=900, end_of_word_suffix="</w>", initial_alphabet=letters, special_tokens=last, show_progress=False
    ),
)
learnt = json.loads(learner.to_str())["model"]
words = [w for w in sorted(learnt["vocab"], key=learnt["vocab"].get) if not w.startswith("<|")]
(folder / "vocab.json").write_text(
    json.dumps({w: k for k, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])})
)
(folder / "merges.txt").write_text(
    "#version: 0.2\n" + "\n".join(" ".join(m) if isinstance(m, list) else m for m in learnt["merges"]) + "\n"
)
shutil.copyfile(POCKET_FOLDER / "vision" / "tokenizer_config.json", folder / "tokenizer_config.json")
t = CLIPTokenizer.from_pretrained(folder)
print(
    len(t),
    t.tokenize("a photo of a purple wine glass left of an orange windmill with a left blade tip, a cat and a church"),
)
