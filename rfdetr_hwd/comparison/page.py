"""The page of a comparison."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from rfdetr_hwd.comparison import plots, results
from rfdetr_hwd.comparison.results import Comparison
from rfdetr_hwd.report.page import Picture, Section, Table, build_page
from rfdetr_hwd.report.plots import render

_VERDICTS = (
    "Differences are paired: the same seeds and the same images. An arm is better or worse when the 95 % interval is "
    "away from 0, and equivalent when the difference lies in the margin by two one-sided tests. All else is undecided."
)
_NOISE = (
    "What these runs can show. A smaller true difference than the one shown at 80 % power would probably be missed, "
    "whatever the table of verdicts says."
)
_SIZES = (
    "AP of the objects of each tenth of the sizes, at the size in which the model sees them. A downsampler that keeps "
    "detail should show it on the left."
)
_ERRORS = "How much AP50 each arm would gain if all errors of one type were fixed, as a mean over the seeds."
_SMALL = 0.001
"""Change of AP50 that is not worth a sentence."""
_ROBUSTNESS = "On shifted and on corrupted images. These intervals hold other seeds, but not other images."
_COST = "Cost of the model as it is shipped, on this machine. The forward passes of one image took turns."


def build_comparison_page(comparison: Comparison) -> str:
    """Return the page as HTML, with its verdict in the first sentences."""
    sections = [
        Section(
            "Verdicts",
            _VERDICTS,
            tables=[Table(results.VERDICT_HEADER, results.verdict_rows(comparison))],
            pictures=[_picture(plots.plot_differences(comparison), "Difference of each metric, with its interval.")],
        ),
        Section(
            "Values",
            "Means over the seeds, with the lowest and the highest value in brackets.",
            tables=[_value_table(comparison)],
            pictures=[_picture(plots.plot_seeds(comparison), "Lines join the runs of one seed.")],
        ),
        Section("Noise", _NOISE, tables=[Table(results.NOISE_HEADER, results.noise_rows(comparison))]),
        *_sections_of_detail(comparison),
        Section("Protocol", tables=[Table(("", "value"), _protocol_rows(comparison.protocol, comparison.notes))]),
    ]
    title = f"{' and '.join(name for name, _ in comparison.verdicts())} against {comparison.baseline}"
    return build_page(title, "", sections, lead=comparison.lead())


def _sections_of_detail(comparison: Comparison) -> list[Section]:
    """Return the sections that only some comparisons have."""
    arms = comparison.arms.values()
    sections = []
    if all(arm.by_size for arm in arms):
        picture = _picture(plots.plot_sizes(comparison), "AP of each arm by object size.")
        sections.append(Section("Object size", _SIZES, pictures=[picture]))
    if all(arm.error_costs for arm in arms):
        picture = _picture(plots.plot_errors(comparison), "AP50 lost to each type of error.")
        sections.append(Section("Errors", " ".join([_ERRORS, *_changes(comparison)]), pictures=[picture]))
    if any(len(arm.by_class) > 1 for arm in arms):
        text = "AP of each class. The verdicts are adjusted by Holm's method for the number of classes."
        sections.append(Section("Classes", text, tables=[Table(results.VERDICT_HEADER, _class_rows(comparison))]))
    if rows := results.robustness_rows(comparison):
        sections.append(Section("Robustness", _ROBUSTNESS, tables=[Table(results.ROBUSTNESS_HEADER, rows)]))
    if costs := results.cost_rows(comparison):
        sections.append(Section("Cost", _COST, tables=[Table(results.COST_HEADER, costs)]))
    return sections


def _changes(comparison: Comparison) -> list[str]:
    """Return where each arm loses more than the baseline, a sentence each."""
    before = comparison.arms[comparison.baseline].error_costs
    sentences = []
    for name, arm in comparison.verdicts():
        changes = {kind: arm.error_costs[kind] - before[kind] for kind in before}
        kind = max(changes, key=lambda kind: changes[kind])
        if changes[kind] > _SMALL:
            sentences.append(f"Where {name} loses more than {comparison.baseline}, most of it is {kind} boxes.")
    return sentences


def _value_table(comparison: Comparison) -> Table:
    header = (*results.VALUE_HEADER, *comparison.metrics)
    return Table(header, results.value_rows(comparison), numeric=comparison.metrics)


def _class_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    return [
        (name, metric.removeprefix("AP/"), verdict.text)
        for name, arm in comparison.verdicts()
        for metric, verdict in arm.by_class.items()
    ]


def _protocol_rows(protocol: Mapping[str, object], notes: Sequence[str]) -> list[tuple[str, str]]:
    rows = [(name, ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for name, v in protocol.items()]
    return [*rows, *(("note", note) for note in notes)]


def _picture(figure: Figure, caption: str) -> Picture:
    return Picture(render(figure), caption)
