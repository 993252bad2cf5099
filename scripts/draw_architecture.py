"""Draw docs/architecture.png, and write the table of rooms in docs/architecture.md: both from the package's imports.

usage: python scripts/draw_architecture.py

The picture omits two kinds of arrows: to rooms in the lowest row, which import nothing, and arrows that a longer way
implies. The table has every arrow, and so has the picture file, as text.
"""

import matplotlib.pyplot as plt
from drawing import BLUE, LINE, MUTED, PALE, PALE_BLUE, draw_box, save
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Curve
from pages import update
from rooms import NAME, PAGE, PICTURE, Arrows, describe, find_arrows, levels, write_table


def shown_arrows(arrows: Arrows) -> list[tuple[str, str]]:
    """Return the arrows of the picture."""
    reached = {room: reachable(room, arrows) for room in arrows}
    return [
        (room, target)
        for room, targets in arrows.items()
        for target in sorted(targets)
        if arrows[target] and not any(target in reached[other] for other in targets - {target})
    ]


def reachable(room: str, arrows: Arrows) -> set[str]:
    """Return all rooms that a room imports, directly or through others."""
    return set().union(arrows[room], *(reachable(target, arrows) for target in arrows[room]))


Point = tuple[str, str, int]
"""A room (name, "", row), or a place where an arrow (from, to, row) passes a row."""
Neighbours = dict[Point, list[Point]]


def arrange(arrows: Arrows) -> tuple[list[list[Point]], dict[Point, float]]:
    """Return the points of each arrow, from above, and how far each point is to the right."""
    rows = levels(arrows)
    grid: list[list[Point]] = [[] for _ in range(max(rows.values()) + 1)]
    for room, row in rows.items():
        grid[row].append((room, "", row))
    ways = []
    for start, end in shown_arrows(arrows):
        passed: list[Point] = [(start, end, row) for row in range(rows[start] - 1, rows[end], -1)]
        for point in passed:
            grid[point[2]].append(point)
        ways.append([(start, "", rows[start]), *passed, (end, "", rows[end])])
    neighbours: Neighbours = {}
    for way in ways:
        for upper, lower in zip(way, way[1:], strict=False):
            neighbours.setdefault(upper, []).append(lower)
            neighbours.setdefault(lower, []).append(upper)
    for sweep in range(40):
        for row in grid[1:] if sweep % 2 else reversed(grid[1:]):
            order = {point: number - len(line) / 2 for line in grid for number, point in enumerate(line)}
            row.sort(key=lambda point: _mean([order[other] for other in neighbours.get(point, [point])]))
    return ways, place(grid, neighbours)


def place(grid: list[list[Point]], neighbours: Neighbours) -> dict[Point, float]:
    """Return how far each point is to the right: near its neighbours, in order, and clear of the next."""
    places = {point: (number - len(row) / 2) * GAP for row in grid for number, point in enumerate(row)}
    for _ in range(60):
        for row in (*grid, *reversed(grid)):
            wanted = [_mean([places[other] for other in neighbours.get(point, [point])]) for point in row]
            places.update(zip(row, spread(wanted, [width_of(point) for point in row]), strict=True))
    lowest, others = grid[0], [places[point] for row in grid[1:] for point in row]
    middle = (min(others) + max(others)) / 2 if others else 0.0
    return places | {p: middle + (n - (len(lowest) - 1) / 2) * width_of(p) for n, p in enumerate(lowest)}


def spread(wanted: list[float], widths: list[float]) -> list[float]:
    """Return positions near the wanted ones, in their order, none nearer to the next than their widths allow."""
    offsets = [0.0]
    for left, right in zip(widths, widths[1:], strict=False):
        offsets.append(offsets[-1] + (left + right) / 2)
    blocks: list[list[float]] = []  # each is at the mean of the wanted positions
    for wish, offset in zip(wanted, offsets, strict=True):
        blocks.append([wish - offset])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    starts = [_mean(block) for block in blocks for _ in block]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def width_of(point: Point) -> float:
    """Return the room that a point takes: an arrow that passes needs little."""
    return 0.6 if point[1] else ROOM_WIDTH + GAP


ROOM_WIDTH, ROOM_HEIGHT, GAP, ROW = 2.5, 0.62, 0.5, 1.55


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def draw_way(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Draw one arrow as a smooth curve through points, upright at each of them and so clear of the rooms it passes."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x, y), (next_x, next_y) in zip(points, points[1:], strict=False):
        half = (y + next_y) / 2
        vertices += [(x, half), (next_x, half), (next_x, next_y)]
        codes += [Curve.CURVE4] * 3
    curve = Curve(vertices, codes)
    axes.add_patch(
        FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=9, linewidth=1.0, color=MUTED, zorder=0)
    )


def draw(arrows: Arrows) -> None:
    """Draw the rooms row by row, with the arrows between them."""
    ways, places = arrange(arrows)
    left, right = min(places.values()) - ROOM_WIDTH / 2 - 0.4, max(places.values()) + ROOM_WIDTH / 2 + 0.4
    width, height = right - left, max(row for _, _, row in places) * ROW + 1.8
    inches = min(11, 0.62 * width)
    figure = plt.figure(figsize=(inches, inches * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(-1.2, height - 1.2), aspect="equal")
    axes.axis("off")
    size = inches * 72 / width * 0.25
    for way in ways:
        edges = [
            (places[point], point[2] * ROW + half) for point in way for half in (ROOM_HEIGHT / 2, -ROOM_HEIGHT / 2)
        ]
        draw_way(axes, edges[1:-1])
    for room, target, row in places:
        if not target:
            fill, edge = (PALE_BLUE, BLUE) if row else (PALE, LINE)
            start = places[room, "", row] - ROOM_WIDTH / 2
            draw_box(axes, start, row * ROW - ROOM_HEIGHT / 2, ROOM_WIDTH, ROOM_HEIGHT, room, "", fill, edge, size)
    text = "the lowest row imports nothing of the package; arrows to it are not drawn"
    axes.text((left + right) / 2, -0.75, text, ha="center", va="center", fontsize=size * 0.85, color=MUTED)
    save(figure, PICTURE, describe(arrows))


def main() -> None:
    """Draw the picture and write the table."""
    arrows = find_arrows()
    draw(arrows)
    update(PAGE, NAME, write_table(arrows))


if __name__ == "__main__":
    main()
