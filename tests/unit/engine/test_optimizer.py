"""The schedule is a pure function of the step; the average is the stated one."""

import math

import pytest
import torch
from torch import nn

from rfdetr_hwd.engine.optimizer import Schedule, build_adamw, build_average, moments_by_name, restore_moments


def test_cosine_worked_example() -> None:
    schedule = Schedule("cosine", warmup_steps=2, total_steps=10, final_factor=0.1)
    assert [schedule.factor(step) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert schedule.factor(6) == pytest.approx(0.55)
    assert schedule.factor(10) == pytest.approx(0.1)
    assert schedule.factor(99) == pytest.approx(0.1)


def test_schedule_keeps_the_ratios_of_the_groups() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = build_adamw([("a", a, 1e-3, 0.1), ("b", b, 1e-4, 0.0)])
    Schedule("constant", 4, 10).apply(optimizer, 1)
    assert [group["lr"] for group in optimizer.param_groups] == [5e-4, 5e-5]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_parameters_with_the_same_rates_share_a_group() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    rates = [(1e-3, 0.1), (1e-4, 0.0), (1e-3, 0.1), (1e-3, 0.0)]
    optimizer = build_adamw([(str(i), p, *r) for i, (p, r) in enumerate(zip(parameters, rates, strict=True))])
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1, 1]


def test_moments_go_to_the_parameters_of_their_names() -> None:
    """Other rates make other groups, in which the parameters come in another order."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    rates = {"0.weight": 1.0, "0.bias": 2.0, "1.weight": 1.0, "1.bias": 2.0}
    before = build_adamw([(name, parameter, rates[name], 0.0) for name, parameter in network.named_parameters()])
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    before.step()
    after = build_adamw([(name, parameter, 3.0, 0.1) for name, parameter in network.named_parameters()])
    restore_moments(after, network, moments_by_name(before, network))
    for number, parameter in enumerate(network.parameters()):
        assert after.state[parameter]["exp_avg"].flatten()[0] == pytest.approx(0.1 * (number + 1))
        assert after.state[parameter]["step"] == 1
    assert [(group["lr"], group["weight_decay"]) for group in after.param_groups] == [(3.0, 0.1)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"2.weight": {}}, "2.weight"),
        ({"0.bias": {"exp_avg": torch.zeros(2)}}, "0.bias"),
        ({"0.bias": {"step": torch.zeros(()), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(2)}}, "0.bias"),
        ({"0.weight": None}, "0.weight"),
    ],
)
def test_moments_of_other_parameters_are_refused(change: dict[str, dict[str, torch.Tensor] | None], named: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    optimizer = build_adamw([(name, parameter, 1.0, 0.0) for name, parameter in network.named_parameters()])
    moments = {"0.weight": {}, "0.bias": {}, **change}
    with pytest.raises(ValueError, match=named):
        restore_moments(optimizer, network, {name: entry for name, entry in moments.items() if entry is not None})
    restore_moments(optimizer, network, {"0.weight": {}, "0.bias": {}})


def test_average_rises_to_its_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    step = 0
    average = build_average(network, decay=0.9, tau=2.0, step=lambda: step)
    expected = None
    for step in (1, 2, 3):
        network.weight.data.fill_(float(step))
        average.update_parameters(network)
        decay = 0.9 * (1 - math.exp(-step / 2))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert not average.module.weight.requires_grad
