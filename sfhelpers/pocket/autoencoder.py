"""The embedded autoencoder: an AutoencoderKL whose encoder *is* a whitened patch PCA, and a small trained decoder.

A KL autoencoder trained from nothing on a small budget ends far below the closed-form linear solution, so the
encoder's weights are written down instead of learnt: its convolutions cut the image into 4 x 4 patches and project
them on the first principal components, its residual branches are zero, and its last norm and SiLU are undone.
"""

import torch
from diffusers import AutoencoderKL
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

FACTOR = 4  # pixels a latent position, a side
CHANNELS = 8
CARRIER = 100.0  # size of the constant channels that keep the last GroupNorm from rescaling each image
GROUPS = 4


def patch_pca(images: Tensor, n: int = CHANNELS) -> tuple[Tensor, Tensor, Tensor]:
    """Principal components of FACTOR x FACTOR patches.

    Args:
        images: (N, 3, H, W) in [-1, 1].

    Returns:
        mean (48,), components (n, 48) and their standard deviations (n,); a patch is ordered (channel, row, column).
    """
    patches = F.unfold(images, FACTOR, stride=FACTOR).transpose(1, 2).reshape(-1, 3 * FACTOR**2)
    pca = PCA(n, svd_solver="covariance_eigh").fit(patches.double().numpy())
    mean, components = torch.from_numpy(pca.mean_), torch.from_numpy(pca.components_)
    components = components * components.sum(1, keepdim=True).sign()  # a sign that does not depend on the solver
    return mean.float(), components.float(), torch.from_numpy(pca.explained_variance_).sqrt().float()


def build(images: Tensor, seed: int = 0) -> AutoencoderKL:
    """An AutoencoderKL with the PCA of `images`, (N, 3, H, W) in [-1, 1], for an encoder.

    Its decoder is untrained and starts where `seed` says.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 32, 32), layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=GROUPS,
            sample_size=96, scaling_factor=1.0,
            use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False,
        )  # fmt: skip
    _write_encoder(model.encoder, *patch_pca(images))
    return model.eval()


@torch.no_grad()
def _write_encoder(encoder: nn.Module, mean: Tensor, components: Tensor, spread: Tensor) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.zero_()
            module.bias.zero_()
    centre, shortcut = (1, 1), encoder.down_blocks[1].resnets[0].conv_shortcut
    for c in range(3):  # the image's colours pass
        encoder.conv_in.weight[c, c, *centre] = 1
    first = encoder.down_blocks[0].downsamplers[0].conv.weight  # 2 x 2 pixels become 12 channels
    for c in range(3):
        for row in range(2):
            for column in range(2):
                first[c * 4 + row * 2 + column, c, row, column] = 1
    for k in range(12):
        shortcut.weight[k, k, 0, 0] = 1
    second = encoder.down_blocks[1].downsamplers[0].conv  # 2 x 2 of those become components
    in_patch = components.reshape(CHANNELS, 3, 2, 2, 2, 2)  # (k, colour, coarse row, fine row, coarse col, fine col)
    for k in range(CHANNELS):
        plus, minus = _channels(k)
        weight = in_patch[k].permute(0, 2, 4, 1, 3).reshape(12, 2, 2) / spread[k]
        offset = components[k] @ mean / spread[k]
        for channel, sign in ((plus, 1.0), (minus, -1.0)):
            second.weight[channel, :12, :2, :2] = sign * weight
            second.bias[channel] = -sign * offset
        # GroupNorm divides by about CARRIER / 2; SiLU(x) - SiLU(-x) = x undoes the activation.
        encoder.conv_out.weight[k, plus, *centre] = CARRIER / 2
        encoder.conv_out.weight[k, minus, *centre] = -CARRIER / 2
    for group in range(GROUPS):
        second.bias[group * 8 + 4], second.bias[group * 8 + 5] = CARRIER, -CARRIER
    encoder.conv_out.bias[CHANNELS:] = -20.0  # log-variance: the latent is the mean


def _channels(k: int) -> tuple[int, int]:
    """Where component k and its negative stand: two components and two carriers in each group of eight."""
    group, place = divmod(k, CHANNELS // GROUPS)
    return group * 8 + place * 2, group * 8 + place * 2 + 1


def train_decoder(model: AutoencoderKL, images: Tensor, steps: int, batch_size: int = 16, seed: int = 0) -> list[float]:
    """Train the decoder on squared error with the encoder fixed; returns the loss of each step.

    Args:
        images: (N, 3, 96, 96) in [-1, 1].
    """
    model.encoder.requires_grad_(False)
    optimiser = torch.optim.AdamW(model.decoder.parameters(), lr=2e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=max(steps, 1))
    order, losses = torch.Generator().manual_seed(seed), []
    model.decoder.train()
    for _ in tqdm(range(steps), desc="decoder", leave=False):
        batch = images[torch.randint(len(images), (batch_size,), generator=order)]
        with torch.no_grad():
            latents = model.encode(batch).latent_dist.mode()
        loss = F.mse_loss(model.decode(latents).sample, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    model.eval().requires_grad_(False)
    return losses
