"""How much of a downsampler's weight lies in each band of the Haar transform."""

import torch
from torch import nn

from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.wavelet import HAAR_BANDS, haar_kernels


@torch.no_grad()
def band_energies(network: nn.Module) -> dict[str, float]:
    """Return the fraction of each linear downsampler's energy in each Haar band.

    The kernel that computes the same is expressed in the Haar bands of its 2x2 blocks, so that `hwd`, `spd` and
    `conv2x2` can be compared. The rest of a 3x3 kernel, outside its 2x2 block, is called `outside`.

    Returns:
        Fractions in [0, 1] by `bands/<path of the module>/<band>`. Those of one module add up to 1.
    """
    found: dict[str, float] = {}
    for path, module in network.named_modules():
        if not isinstance(module, LinearDownsample):
            continue
        kernel = module.fold()  # (O, C, 3, 3)
        haar = haar_kernels(torch.float64).to(kernel.device).flatten(1)  # (4, 4), orthonormal
        in_bands = (kernel[:, :, 1:, 1:].flatten(2) @ haar.T).square().sum(dim=(0, 1))  # (4,)
        total = kernel.square().sum().clamp_min(1e-300)
        energies = dict(zip(HAAR_BANDS, in_bands.tolist(), strict=True))
        energies["outside"] = float(total - in_bands.sum())
        found |= {f"bands/{path}/{band}": max(0.0, energy) / float(total) for band, energy in energies.items()}
    return found
