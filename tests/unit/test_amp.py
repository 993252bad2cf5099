"""One precision decision: always CUDA and bfloat16, silent without a GPU, outputs in float32."""

import logging
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from rfdetr_hwd import amp


@pytest.fixture(autouse=True)
def _forget_what_was_said() -> None:
    amp._say_once.cache_clear()


@pytest.fixture
def pretended_gpu():
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
    ):
        yield


def state() -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")


@pytest.mark.usefixtures("pretended_gpu")
def test_context_is_cuda_and_bfloat16() -> None:
    with amp.amp_context(SimpleNamespace(amp=True)):
        assert state() == (True, torch.bfloat16)
    assert not torch.is_autocast_enabled("cuda")


@pytest.mark.usefixtures("pretended_gpu")
def test_amp_false_turns_it_off() -> None:
    with amp.amp_context(SimpleNamespace(amp=False)):
        assert not torch.is_autocast_enabled("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_cuda_it_is_off_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rfdetr_hwd"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            with amp.amp_context(SimpleNamespace(amp=True)):
                assert not torch.is_autocast_enabled("cuda")
    assert [record.message for record in caplog.records] == ["mixed precision is off: this machine has no CUDA device"]


def test_emulated_bfloat16_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.is_bf16_supported", side_effect=supported),
        caplog.at_level(logging.WARNING, "rfdetr_hwd"),
    ):
        for _ in range(2):
            with amp.amp_context(SimpleNamespace(amp=True)):
                assert state() == (True, torch.bfloat16)
    assert len(caplog.records) == 1
    assert "amp=false" in caplog.records[0].message


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def tf32() -> Iterator[None]:
    """TF32 in every way that torch has to ask for it; put back to torch's default afterwards."""
    torch.backends.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.mkldnn.conv.fp32_precision = "tf32"
    torch.set_float32_matmul_precision("high")
    yield
    torch.backends.fp32_precision = torch.backends.mkldnn.conv.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.usefixtures("pretended_gpu", "tf32")
@pytest.mark.parametrize("enabled", [True, False])
def test_float32_is_float32_in_every_forward(enabled: bool) -> None:
    args = SimpleNamespace(amp=enabled)
    with amp.amp_context(args):
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == torch.backends.mkldnn.conv.fp32_precision == "ieee"
        assert not torch.backends.cuda.matmul.allow_tf32
    ieee = {"float32_matmul": "ieee", "float32_conv": "ieee"}
    assert amp.describe_precision(args, CUDA) == {"precision": "bfloat16 mixed" if enabled else "float32", **ieee}
    assert amp.describe_precision(args, CPU) == {"precision": "float32", **ieee}


@pytest.mark.usefixtures("pretended_gpu", "tf32")
def test_what_is_recorded_is_read_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the switches were not set, the record would say so."""
    monkeypatch.setattr(amp, "use_ieee_float32", lambda: None)
    rounded = {"float32_matmul": "tf32", "float32_conv": "tf32"}
    for device, precision in ((CUDA, "bfloat16 mixed"), (CPU, "float32")):
        assert amp.describe_precision(SimpleNamespace(amp=True), device) == {"precision": precision, **rounded}


@pytest.mark.parametrize("value", [None, 1, "true"])
def test_amp_must_be_a_boolean(value: object) -> None:
    with pytest.raises(TypeError, match="amp must be true or false"):
        amp.amp_context(SimpleNamespace(amp=value))


def test_outputs_leave_in_float32() -> None:
    outputs = {"a": [torch.ones(2, dtype=torch.bfloat16)], "n": torch.tensor([1]), "t": (torch.zeros(1).half(),)}
    result = amp.forward_in_amp(lambda _: outputs, torch.zeros(1), SimpleNamespace(amp=True))
    assert result["a"][0].dtype == result["t"][0].dtype == torch.float32
    assert result["n"].dtype == torch.int64
