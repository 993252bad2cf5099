"""Write an audit: one page, and a COCO file of each split with its suggestions.

OUT/
    report.html                 the page, with everything in it
    suggestions-train.json      the annotations of a split, with the suggestions marked; -val, -test
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rfdetr_hwd.analysis.audit import Label
from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import replace_text
from rfdetr_hwd.report.audit import Audit, AuditedSplit, AuditInputs, Ranked
from rfdetr_hwd.report.audit_page import build_audit_page

PAGE = "report.html"


def write_audit(inputs: AuditInputs, found: Audit, limit: int, out: Path) -> list[Path]:
    """Write the page and the COCO files, and return the paths of the latter.

    Args:
        inputs: What was audited.
        found: What was found.
        limit: Largest number of suggestions on the page.
        out: Directory, made if it is missing.

    Raises:
        ConfigError: A file cannot be written.
    """
    page = build_audit_page(inputs, found, limit)
    files = {out / f"suggestions-{split.role}.json": split for split in inputs.splits}
    with writing("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        for path, split in files.items():
            ranked = [one for one in found.suggestions if one.split.role == split.role]
            replace_text(path, json.dumps(mark_suggestions(split, ranked)))
        replace_text(out / PAGE, page)
    return list(files)


def mark_suggestions(split: AuditedSplit, ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Return the annotations of a split in COCO's format, unchanged, with a `suggestion` where there is one.

    Objects that may be overlooked are added at the end of the list, with a `suggestion` whose `old` is `null`.

    Args:
        split: The split.
        ranked: Its suggestions.
    """
    truth = split.data.ground_truth()
    for image, name in zip(truth["images"], split.data.file_names.tolist(), strict=True):
        image["file_name"] = str(name)
    annotations: list[dict[str, Any]] = truth["annotations"]
    for one in ranked:
        index, new = one.suggestion.annotation, one.suggestion.new
        if index is not None:
            annotations[index]["suggestion"] = _describe(one)
        elif new is not None:
            added = {"id": len(annotations) + 1, "image_id": one.suggestion.image_id, **_as_coco(new)}
            area = new.box_xywh[2] * new.box_xywh[3]
            annotations.append({**added, "area": area, "iscrowd": 0, "suggestion": _describe(one)})
    return {**truth, "info": {"root": str(split.data.images), "split": split.data.name}}


def _describe(ranked: Ranked) -> dict[str, Any]:
    one = ranked.suggestion
    return {
        "rank": ranked.rank,
        "kind": one.kind,
        "score": one.score,
        "confidence": one.confidence,
        "old": one.old and _as_coco(one.old),
        "new": one.new and _as_coco(one.new),
        "twin": None if one.twin is None else one.twin + 1,  # annotations are numbered from 1
    }


def _as_coco(label: Label) -> Mapping[str, Any]:
    return {"category_id": label.category_id, "bbox": list(label.box_xywh)}
