"""Deterministic kernels, and where a GPU has none. On a CPU two runs are the same to the bit anyway."""

import os

import torch

NONDETERMINISTIC_ON_CUDA: dict[str, str] = {
    "grid_sampler_2d_backward_cuda": "deformable attention of the decoder: adds to the gradient atomically",
    "upsample_bicubic2d_backward_out_cuda": "position embeddings of the encoder, where they are resized and trained",
    "upsample_bilinear2d_backward_out_cuda": "a projector level that is resized, where there is one (P3)",
    "index_put_ / scatter_add_ / gather backward": "the loss: deterministic kernels with train.deterministic=true",
    "cuBLAS matrix products": "deterministic with train.deterministic=true, which sets CUBLAS_WORKSPACE_CONFIG",
}
"""Operators of this model that may give other bits in another run on a GPU, and where they are."""

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


def make_deterministic() -> None:
    """Use deterministic kernels wherever torch has them, and warn once where it has none.

    To be called before the first CUDA operation: cuBLAS reads its workspace setting when it starts.
    """
    os.environ.setdefault(CUBLAS_VARIABLE, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
