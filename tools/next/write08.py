# argv: OUT VARIANT...: rows of 08 as its own cells make them, and of some variants
import json
from pathlib import Path
own = "".join(next(c for c in json.loads(Path("08_matchmaker.ipynb").read_text())["cells"] if c["id"] == "mm-48")["source"])
exec(own, globals())
chosen = {name: VARIANTS[name] for name in argv[1:] if name in VARIANTS}
varied = trained(only(), "variants", chosen) if chosen else []
results.write(own_rows + own_tests + varied, argv[0])
print("DONE")
for split in ("strict", "clip-style", "fine-grained"):
    for gallery in ("all", "class"):
        for m in (AP(), Acc(1), Acc(5), Acc(10)):
            some = results.table([r for r in own_rows + varied if r.split == split], gallery, m.name, m.definition)
            if some: print(split, gallery, m.name, {k: (round(v[0], 4), round(v[1] or 0, 4)) for k, v in some.items()})
print({r.split for r in own_rows})
