"""A frozen vision transformer that also takes prompts: learned tokens that enter before its class token."""

import open_clip
import timm
import torch
from torch import Tensor, nn

STEMS = ("visual.conv1.", "visual.trunk.patch_embed.")  # what stands before any prompt
TUNED = ("norms", "all", "nothing")


class PromptedTower(nn.Module):
    """An open_clip model's image tower, of open_clip's own kind or timm's, in two halves.

    `stem` makes patch tokens of pixels, which no prompt changes, so they may be stored; `forward` goes on from there.
    ValueError for a tower without a class token to read, e.g. a convolutional one, and for timm's own, without texts.
    """

    def __init__(self, visual: nn.Module):
        super().__init__()
        trunk = getattr(visual, "trunk", None)
        if isinstance(trunk, timm.models.VisionTransformer):
            read, self.width = trunk.cls_token is not None and trunk.global_pool == "token", trunk.embed_dim
        elif isinstance(visual, open_clip.transformer.VisionTransformer):
            read, self.width = visual.pool_type == "tok" and visual.attn_pool is None, len(visual.class_embedding)
        else:
            read = False
        if not read:
            what = f"the image tower ({type(visual if trunk is None else trunk).__name__}) has no class token to read"
            remedy = "take an open_clip vision transformer, as pocket's or clip-l14-336"
            raise ValueError(f"{what}, or no texts beside it, so it cannot be prompted: {remedy}.")
        self.visual = visual

    @torch.no_grad()
    def stem(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W), standardised, to patch tokens without positions (B, N, width)."""
        if hasattr(self.visual, "trunk"):
            return self.visual.trunk.patch_embed(pixels)
        return self.visual.conv1(pixels).flatten(2).transpose(1, 2)

    def tokens(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, N, width) to those that the first block gets, the class token first, with positions."""
        if hasattr(self.visual, "trunk"):
            return self.visual.trunk._pos_embed(patches)
        first = self.visual.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1) + self.visual.positional_embedding

    def answer(self, tokens: Tensor, at: int = 0) -> Tensor:
        """(B, n, width), after all blocks what stands at one position, projected: (B, D)."""
        if hasattr(self.visual, "trunk"):
            trunk = self.visual.trunk
            tokens = trunk.norm(trunk.blocks(trunk.norm_pre(tokens)))
            return self.visual.head(trunk.forward_head(tokens[:, at:]))
        pooled, _ = self.visual._pool(self.visual.transformer(self.visual.ln_pre(tokens))[:, at:])
        return pooled @ self.visual.proj

    def forward(self, patches: Tensor, prompts: Tensor, at: int) -> Tensor:
        """Patch tokens (B, N, width) behind prompts (n, width) to the answer (B, D) at a position of prompts and class
        token; without prompts, at 0, it is the tower's own."""
        tokens = self.tokens(patches)
        return self.answer(torch.cat([prompts.to(tokens).expand(len(tokens), -1, -1), tokens], dim=1), at)

    def tunable(self, which: str) -> dict[str, nn.Parameter]:
        """Name -> parameter of what may learn in a copy: "norms", the LayerNorms' and the projection's, "all" behind
        the stem, or "nothing"."""
        if which not in TUNED:
            raise ValueError(f"tuned is {which!r}: use {', '.join(TUNED)}.")
        norms = {name for name, module in self.named_modules() if isinstance(module, nn.LayerNorm)}
        behind = {name: p for name, p in self.named_parameters() if not name.startswith(STEMS)}
        if which == "norms":
            last = ("visual.proj", "visual.head.")
            return {k: p for k, p in behind.items() if k.startswith(last) or k.rpartition(".")[0] in norms}
        return behind if which == "all" else {}
