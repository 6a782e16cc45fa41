"""The untrained CLIP of vit.py: image tower, text tower, tokenizer folder, trunk from ImageNet."""
import json, shutil
from pathlib import Path
import open_clip, timm, torch
import sfhelpers.backbones.hybrid  # noqa: F401, registers the tower

ROOT = Path("runs/next")
CONFIG = {
    "model_cfg": {
        "embed_dim": 128, "custom_text": True,
        "vision_cfg": {"timm_model_name": "vit_hybrid_lite0", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "image_size": 160},
        "text_cfg": {"context_length": 24, "vocab_size": 589, "width": 128, "heads": 4, "layers": 2, "hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "whitespace"}},
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
}

def write_words(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(ROOT / "tokenizer" / name, folder / name)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")

def imagenet():
    """The whole ImageNet tower, stride 32, pooled (B, 1280)."""
    theirs = torch.load(ROOT / "efficientnet-lite0-57934424.pth", map_location="cpu", weights_only=True)
    tower = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    tower.load_state_dict(dict(zip(tower.state_dict(), list(theirs.values())[:-2], strict=True)))
    return tower.eval()

def new_clip(seed=0):
    torch.manual_seed(seed)
    cfg = CONFIG["model_cfg"]
    model = open_clip.model.CustomTextCLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"])
    trunk = model.visual.trunk.patch_embed.backbone
    found = trunk.load_state_dict({k: v for k, v in imagenet().state_dict().items() if k in trunk.state_dict()})
    return model.eval()

@torch.no_grad()
def start_as_pooling(model, top, power=0.5):
    """The image tower starts as what a convolutional one ends with: the mean over places of what its trunk found.

    Tokens start as the trunk's principal components (`top` (N, 320, 10, 10) of some pictures), spreads evened by `power`;
    in the last block the class token attends everywhere alike and takes what it finds as it is.
    """
    tower = model.visual.trunk
    width, values = tower.embed_dim, top.float().permute(0, 2, 3, 1).reshape(-1, top.shape[1])
    mean = values.mean(0)
    _, spread, components = torch.linalg.svd((values - mean)[torch.randperm(len(values))[:20000]], full_matrices=False)
    scaled = components[:width] / (spread[:width, None] / spread[0]) ** power
    scaled = scaled / ((values - mean) @ scaled.T).std()
    tower.patch_embed.proj.weight.copy_(scaled[:, :, None, None])
    tower.patch_embed.proj.bias.copy_(-scaled @ mean)
    last = tower.blocks[-1].attn
    last.qkv.weight[: 2 * width] *= 0.1
    last.qkv.weight[2 * width :] = torch.eye(width)
    last.proj.weight.copy_(torch.eye(width))
    model.visual.head.proj.weight.copy_(torch.eye(*model.visual.head.proj.weight.shape))
    return model
