"""A quantized graph is refused above its AP loss, by a message that says what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfdetr_hwd.export.ap_gate import ApLoss, ApLossError
from rfdetr_hwd.export.quantization import Quantization

BEFORE = {"AP": 0.405, "AP50": 0.7, "AP/cat": 0.5, "AP/[dog]": 0.31, "AP/bird": None}
AFTER = {"AP": 0.4, "AP50": 0.1, "AP/cat": 0.52, "AP/[dog]": 0.28, "AP/bird": None}

aps = st.floats(0, 1)


def test_losses_of_all_classes_and_of_each() -> None:
    """The class that loses most comes first; a class without ground truth has no loss."""
    loss = ApLoss(BEFORE, AFTER)
    assert loss.total == 0.005
    assert [(name, round(lost, 9)) for name, _, _, lost in loss.classes()] == [("[dog]", 0.03), ("cat", -0.02)]


def test_the_table_shows_every_class(capsys: pytest.CaptureFixture[str]) -> None:
    ApLoss(BEFORE, AFTER).print("int8")
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["all", "0.4050", "0.4000", "+0.0050"],
        ["[dog]", "0.3100", "0.2800", "+0.0300"],
        ["cat", "0.5000", "0.5200", "-0.0200"],
    ]


def test_a_loss_of_the_limit_passes_and_a_larger_one_is_refused() -> None:
    """0.405 - 0.4 is 0.0050000000000000044 in binary fractions."""
    ApLoss(BEFORE, AFTER).check(Quantization("int8", max_ap_loss=0.005))
    with pytest.raises(ApLossError) as refusal:
        ApLoss(BEFORE, AFTER).check(Quantization("int8", 64, max_ap_loss=0.004))
    assert str(refusal.value) == (
        "int8 loses 0.0050 AP (0.4050 to 0.4000), more than --max-ap-loss 0.004. The file was removed. "
        "To export it, calibrate on more images (--calibration-images, now 64), or use --format onnx --quantize fp16, "
        "or accept the loss with --max-ap-loss 0.005"
    )
    assert refusal.value.exit_code == 1
    with pytest.raises(ApLossError, match=r"To export it, accept the loss with --max-ap-loss 0\.005$"):
        ApLoss(BEFORE, AFTER).check(Quantization("fp16", max_ap_loss=0.004))


def test_no_ap_at_all_is_the_whole_loss() -> None:
    with pytest.raises(ApLossError, match=r"loses 0\.4000 AP \(0\.4000 to -\)"):
        ApLoss({"AP": 0.4}, {"AP": None}).check(Quantization("fp16", max_ap_loss=0.1))


@given(before=aps, after=aps, limit=aps)
def test_what_the_message_advises_is_accepted(before: float, after: float, limit: float) -> None:
    loss = ApLoss({"AP": before}, {"AP": after})
    try:
        loss.check(Quantization("fp16", max_ap_loss=limit))
    except ApLossError as refusal:
        assert before - after > limit - 1e-9
        advised = float(str(refusal).rpartition(" ")[-1])
        assert 0 <= advised <= 1
        loss.check(Quantization("fp16", max_ap_loss=advised))
    else:
        assert before - after <= limit + 1e-9
