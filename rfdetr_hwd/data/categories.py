"""The classes of a COCO file: its categories in the order of their ids, without the one that only groups the others."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from rfdetr_hwd.data.coco.read import RawSplit
from rfdetr_hwd.data.findings import Findings, name_entry, shown
from rfdetr_hwd.data.values import Id, describe_texts, is_name, number_ids, read_id


class Category(NamedTuple):
    """A class.

    Attributes:
        keys: Its ids, as annotations refer to them.
        id: The first of them as a number.
        name: Its name.
    """

    keys: tuple[Id, ...]
    id: int
    name: str


def index_categories(raw: RawSplit, findings: Findings) -> list[Category]:
    """Return the classes, ascending by id.

    A category 0 without annotations that only groups the others (Roboflow's) is no class. A category with the name of
    its group is merged with it. Without listed categories, the ids in the annotations become the names, if that kind
    of finding is accepted.

    Args:
        raw: The entries.
        findings: Receives the problems.
    """
    # Without listed categories, take the ids as names
    used = _used_ids(raw)
    entries = raw.categories
    if not entries and used:
        ids = ", ".join(shown(key) for key in used[:8]) + (", ..." if len(used) > 8 else "")
        reason = (
            f"no categories are listed, but the annotations have the category ids {ids}: add the id and name of each"
        )
        findings.add("unnamed_classes", raw.where, "", reason)
        entries = [{"id": key, "name": str(key)} for key in used]

    # Check the categories one by one, and merge those that are named like their group
    groups = [category.get("supercategory") for category in entries if isinstance(category, dict)]
    places: dict[Id, int] = {}
    keys: dict[str, list[Id]] = {}
    for number, category in enumerate(entries):
        who, problem = name_entry("category", number, category), _problem(category)
        key = None if problem else read_id(category["id"])
        if key is None:
            findings.add("bad_category", raw.where, who, problem)
            continue
        name = str(category["name"])
        if key == 0 and 0 not in used and name in groups and category.get("supercategory") != name:
            continue
        for kind, reason in _notices(category, key):
            findings.add(kind, raw.where, who, reason)
        if key in places:
            findings.add("duplicate_category", raw.where, who, "the id is listed twice")
        elif name not in keys:
            places[key], keys[name] = number, [key]
        elif category.get("supercategory") == name:
            keys[name].append(key)
            findings.add("group_name", raw.where, who, f"has the name of its group, {shown(name)}")
        else:
            findings.add("duplicate_category", raw.where, who, f"the name {shown(name)} is listed twice")

    # Number the ids that are text
    numbers = dict(zip(places, number_ids(places), strict=True))
    classes = [Category(tuple(same), numbers[same[0]], name) for name, same in keys.items()]
    return sorted(classes, key=lambda category: category.id)


def _used_ids(raw: RawSplit) -> list[Id]:
    """Return the category ids in the annotations, numbers first, each sorted."""
    values = {a.get("category_id") for a in raw.annotations if isinstance(a, dict) and _is_scalar(a.get("category_id"))}
    keys = {key for key in map(read_id, values) if key is not None}
    return sorted(keys, key=lambda key: (isinstance(key, str), key))


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, list | dict)


def _notices(category: dict[str, Any], key: Id) -> Iterator[tuple[str, str]]:
    if isinstance(key, str):
        yield "text_id", "the id is text"
    reason = describe_texts(category, ["id"], [])
    if reason:
        yield "text_value", reason
    if type(category["name"]) is int:
        yield "text_value", "name written as a number"


def _problem(category: Any) -> str:
    if not isinstance(category, dict):
        return f"must be an object, not {shown(category)}"
    if read_id(category.get("id")) is None:
        return f"id must be a whole number, not {shown(category.get('id'))}"
    name = category.get("name")
    if not is_name(name) and (type(name) is not int or read_id(name) is None):
        return f"name must be text, not {shown(name)}"
    return ""
