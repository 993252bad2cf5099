"""Settings of a quantized export that cannot work are refused before the model is loaded."""

import importlib.util

import pytest

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.formats import PACKAGES, Format
from rfdetr_hwd.export.quantization import PRECISIONS, Precision, Quantization, choose_quantization
from rfdetr_hwd.export.runtimes import check_device


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Quantization("int8", max_ap_loss=1.5), "--max-ap-loss 1.5 is not between 0 and 1"),
        (Quantization("int8", max_ap_loss=-0.1), "--max-ap-loss -0.1 is not between 0 and 1"),
        (Quantization("int8", max_ap_loss=float("nan")), "--max-ap-loss nan is not between 0 and 1"),
        (Quantization("int8", num_images=0), "--calibration-images 0: calibration needs at least 1 image"),
        (Quantization("int8", seed=-1), "--calibration-seed -1 is negative"),
        (Quantization("fp16", format="openvino"), "--quantize fp16: not for --format openvino. Choose one of onnx"),
        (
            Quantization("int8", format="rfdetr"),
            r"rfdetr. Choose one of onnx \(fp16 or int8\), openvino \(int8\), tens",
        ),
        (Quantization("int8", format="tensorrt"), r"not for --format tensorrt. Choose .*, tensorrt \(fp16\)"),
        (Quantization("float32", max_ap_loss=2, format="tensorrt"), "--max-ap-loss 2 is not between 0 and 1"),
    ],
)
def test_settings_that_cannot_work(settings: Quantization, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.check()


def test_options_of_a_quantization_go_with_a_precision() -> None:
    assert choose_quantization("onnx", None, None, None, None) is None
    assert choose_quantization("onnx", "int8", None, 3, None) == Quantization("int8", seed=3)
    expected = Quantization("fp16", max_ap_loss=0.0, format="tensorrt")
    assert choose_quantization("tensorrt", "fp16", None, None, 0.0) == expected
    with pytest.raises(ConfigError, match="--max-ap-loss goes with --quantize or --format tensorrt"):
        choose_quantization("onnx", None, None, None, 0.1)


@pytest.mark.parametrize(("format", "precision"), [("tensorrt", None), ("onnx", None), ("onnx", "fp16")])
def test_options_of_the_calibration_go_with_int8(format: Format, precision: Precision | None) -> None:
    with pytest.raises(ConfigError, match="--calibration-images goes with --quantize int8"):
        choose_quantization(format, precision, 5, None, None)
    with pytest.raises(ConfigError, match="--calibration-seed goes with --quantize int8"):
        choose_quantization(format, precision, None, 0, None)


def test_an_engine_has_a_gate_without_a_precision() -> None:
    assert choose_quantization("tensorrt", None, None, None, None) == Quantization("float32", format="tensorrt")
    assert choose_quantization("tensorrt", None, None, None, 0.1).max_ap_loss == 0.1  # type: ignore[union-attr]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("nncf", "tensorrt") else object())
    Quantization("int8").check()
    with pytest.raises(ConfigError, match=r"--quantize needs nncf: pip install 'rfdetr-hwd\[quantize\]'"):
        Quantization("int8", format="openvino").check()
    with pytest.raises(ConfigError, match=r"--format tensorrt needs tensorrt: pip install 'rfdetr\[tensorrt\]'"):
        Quantization("float32", format="tensorrt").check()


def test_every_format_has_its_packages() -> None:
    assert PRECISIONS.keys() == PACKAGES.keys()


def test_the_metadata_has_no_calibration_where_there_was_none() -> None:
    assert Quantization("fp16").describe() == {"quantization": "fp16", "max_ap_loss": "0.005"}
    assert Quantization("int8", 40, 7).describe() == {
        **{"quantization": "int8", "max_ap_loss": "0.005"},
        **{"calibration_images": "40", "calibration_seed": "7"},
    }


def test_an_engine_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_device("onnx")
    with pytest.raises(ConfigError, match="this machine has no CUDA device"):
        check_device("tensorrt")
