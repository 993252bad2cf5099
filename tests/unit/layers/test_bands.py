import pytest
import torch
from torch import nn

from rfdetr_hwd.layers.bands import band_energies
from rfdetr_hwd.layers.hwd import HWD
from rfdetr_hwd.layers.linear import Conv2x2, Conv3x3, HaarLowPass, SpaceToDepth, draw_equal_kernel


def test_one_kernel_has_the_same_energies_in_every_basis() -> None:
    kernel = draw_equal_kernel(6, 4)
    found = []
    for kind in (HWD, SpaceToDepth, Conv2x2):
        layer = kind(6, 4)
        layer.fit(kernel)
        found.append(list(band_energies(nn.ModuleDict({"p5": layer})).values()))
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0] == pytest.approx(found[2], abs=1e-6)
    assert sum(found[0]) == pytest.approx(1)


def test_the_energies_of_hwd_are_those_of_its_weight() -> None:
    layer = HWD(3, 2)
    with torch.no_grad():
        for band, value in enumerate((3.0, 1.0, 2.0, 0.0)):
            layer.coefficients()[:, band] = value
    assert band_energies(nn.Sequential(layer)) == pytest.approx(
        {"bands/0/LL": 9 / 14, "bands/0/cH": 1 / 14, "bands/0/cV": 4 / 14, "bands/0/cD": 0, "bands/0/outside": 0}
    )


def test_what_a_2x2_kernel_cannot_hold_is_outside() -> None:
    layer = Conv3x3(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1)
    energies = band_energies(nn.Sequential(layer))
    assert energies["bands/0/LL"] == pytest.approx(4 / 9)
    assert energies["bands/0/outside"] == pytest.approx(5 / 9)
    assert band_energies(nn.Sequential(HaarLowPass(2, 2)))["bands/0/LL"] == pytest.approx(1)
    assert band_energies(nn.Sequential(nn.Conv2d(2, 2, 3))) == {}
