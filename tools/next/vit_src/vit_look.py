"""vit_look.py RUN/first.pt ...: a look at the real photos and sketches; every look is written to vit_looks.log."""
import sys
sys.path.insert(0, "runs/next/vit_src")
from vit_eval import *
torch.set_num_threads(1)
import open_clip
for name in sys.argv[1:]:
    model = new_clip()
    states = [torch.load(ROOT / "vit_runs" / part, weights_only=True)["model"] for part in name.split("+")]
    model.load_state_dict({k: sum(s[k] for s in states) / len(states) if states[0][k].is_floating_point() else states[0][k] for k in states[0]})
    tok = open_clip.get_tokenizer(f"local-dir:{(ROOT / 'vit_runs' / name.split('+')[0]).parent}")
    row = report(model.eval(), tok, ("real",), "second" in name)
    with open(ROOT / "vit_looks.log", "a") as f:
        print(name, json.dumps(row), file=f)
    print(name, json.dumps(row))
