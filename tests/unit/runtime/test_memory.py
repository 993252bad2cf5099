"""A lack of memory is known by its words, in the words of whoever lacks it; words that may mean it, by the memory."""

import logging
import weakref

import pytest
import torch

from rfdetr_hwd.runtime.memory import is_out_of_memory, noting_shortage

PLAIN = [
    "CUDA out of memory. Tried to allocate 2.60 GiB. GPU 0 has a total capacity of 3.81 GiB",
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com/cuda",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY: failed to load a kernel",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "GET was unable to find an engine to execute this computation; cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
    "std::bad_alloc",
]
AMBIGUOUS = [
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb, m, n, k, &falpha, a)`",
    "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasLtMatmul`",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART",
    "cuDNN error: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED",
    "FIND was unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm to run convolution",
]
OTHER = [
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`",
    "cuDNN error: CUDNN_STATUS_BAD_PARAM",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED_SHARED_MEMORY_INSUFFICIENT",
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "element 0 of tensors does not require grad and does not have a grad_fn",
]


def gpu_with(monkeypatch: pytest.MonkeyPatch, free_mib: int) -> None:
    """Let torch find a GPU of 8 GiB with so much memory free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_mib << 20, 8 << 30))


@pytest.mark.parametrize("text", PLAIN)
def test_what_says_no_memory_is_one_whatever_is_free(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_with(monkeypatch, 4096)
    assert is_out_of_memory(RuntimeError(text))


def test_the_type_alone_says_it() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("no room"))


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_what_may_mean_it_does_on_a_full_gpu(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu_with(monkeypatch, 200)
    with caplog.at_level(logging.WARNING):
        assert is_out_of_memory(RuntimeError(f"{text}\nmore lines"))
    assert caplog.messages == [f"treated as out of memory, with 200 MiB free on the GPU: {text}"]
    gpu_with(monkeypatch, 4096)
    assert not is_out_of_memory(RuntimeError(text))


def test_a_gpu_that_answers_no_more_lacks_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an illegal access every call of CUDA fails with the same error."""

    def sticky() -> tuple[int, int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", sticky)
    assert not is_out_of_memory(RuntimeError(AMBIGUOUS[0]))


@pytest.mark.parametrize("text", OTHER)
def test_other_errors_are_others_on_a_full_gpu(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_with(monkeypatch, 1)
    assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
@pytest.mark.parametrize("text", AMBIGUOUS)
def test_without_a_gpu_they_mean_nothing(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))


def test_a_shortage_is_noted_and_other_errors_are_raised() -> None:
    with noting_shortage() as shortage:
        pass
    assert not shortage.is_out
    with noting_shortage() as shortage:
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert shortage.is_out
    with pytest.raises(RuntimeError, match="shapes"), noting_shortage():
        raise RuntimeError("the shapes differ")


def test_a_shortage_holds_no_tensors() -> None:
    """The traceback would: of the frames that it passes, which hold what did not fit."""

    def run() -> weakref.ref[torch.Tensor]:
        big = torch.zeros(3)
        kept.append(weakref.ref(big))
        raise torch.OutOfMemoryError("CUDA out of memory")

    kept: list[weakref.ref[torch.Tensor]] = []
    with noting_shortage() as shortage:
        run()
    assert shortage.is_out
    assert kept[0]() is None
