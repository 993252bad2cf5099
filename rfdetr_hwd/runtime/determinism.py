"""Deterministic kernels, and operators without one on a GPU. On a CPU two runs are bit-identical anyway."""

import os

import torch

NONDETERMINISTIC_ON_CUDA = {
    "grid_sample, backward": "deformable attention of the decoder",
    "interpolate (bicubic), backward": "position embeddings of the encoder, at resolutions other than the model's own "
    "(not used with train.multi_scale=false)",
}
"""Operators of this model that have no deterministic kernel on a GPU: their place in the model.

From the list of `torch.use_deterministic_algorithms` (torch 2.14), against the operators of rfdetr 1.11.
"""

DETERMINISTIC_ON_REQUEST = {
    "convolutions, matrix products": "everywhere",
    "gather and indexing, backward": "choice of the queries, matched boxes of the loss",
    "cumsum": "sine position encoding",
    "attention, backward": "encoder and decoder; as matrix products, because the fused kernels are not deterministic",
}
"""Operators of this model whose kernels on a GPU are deterministic with `train.deterministic=true` alone."""

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


def make_deterministic() -> None:
    """Use deterministic kernels wherever torch has them, and warn once where it has none.

    To be called before the first CUDA operation: cuBLAS reads its workspace setting when it starts.
    """
    os.environ.setdefault(CUBLAS_VARIABLE, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if torch.cuda.is_available():  # with `warn_only` the fused kernels would not be the deterministic ones
        for enable in ("enable_flash_sdp", "enable_mem_efficient_sdp", "enable_cudnn_sdp"):
            getattr(torch.backends.cuda, enable)(False)
