"""The schedule is a pure function of the step; the average is the stated one."""

import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from rfdetr_hwd.training.optimizer import (
    ExponentialMovingAverage,
    Schedule,
    build_adamw,
    moments_by_name,
    restore_moments,
)
from tests.rehearsal.fake_device import fake_cuda


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


def averaged(weights: list[float], decay: float, tau: float) -> list[float]:
    """Return the average after each step, by its formula."""
    values: list[float] = []
    for step, weight in enumerate(weights, start=1):
        share = 1 - decay * (1 - math.exp(-step / tau) if tau else 1.0)
        values.append(weight if step == 1 else values[-1] + share * (weight - values[-1]))
    return values


@pytest.mark.parametrize("tau", [2.0, 0.0])
def test_average_rises_to_its_decay(tau: float) -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = ExponentialMovingAverage(network, decay=0.9, tau=tau)
    for step, expected in enumerate(averaged([1.0, 2.0, 3.0], 0.9, tau), start=1):
        network[0].weight.data.fill_(float(step))
        network[1].running_mean.fill_(float(step))
        average.update(network, step)
        assert average.module[0].weight.item() == pytest.approx(expected, rel=1e-6)
        assert average.module[1].running_mean.item() == step, "buffers are copied"
    assert not average.module[0].weight.requires_grad
    assert network[0].weight.requires_grad


def test_the_average_is_that_of_torch_to_the_bit() -> None:
    """Which earlier checkpoints hold, so that a run resumes from them."""
    network = nn.Linear(7, 5)
    rate = lambda step: 1 - 0.993 * (1 - math.exp(-step / 100.0))  # noqa: E731
    ours, steps = ExponentialMovingAverage(network, 0.993, 100.0), iter(range(2, 6))
    torchs = AveragedModel(network, multi_avg_fn=lambda a, b, _: torch._foreach_lerp_(a, b, rate(next(steps))))
    for step in range(1, 6):
        network.weight.data.normal_()
        ours.update(network, step)
        torchs.update_parameters(network)
        assert torch.equal(ours.module.weight, torchs.module.weight)


def test_an_average_on_a_gpu_asks_it_for_nothing() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with fake_cuda() as traffic:
        network = network.to("cuda")
        average = ExponentialMovingAverage(network, decay=0.9, tau=2.0)
        traffic.clear()
        for step in (1, 2):
            average.update(network, step)
    assert (dict(traffic.copies), dict(traffic.reads)) == ({}, {})
