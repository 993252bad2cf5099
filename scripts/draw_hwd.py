"""Draw docs/hwd.png: where HWD sits in RF-DETR, and the four Haar bands that its layer computes from a picture.

usage: python scripts/draw_hwd.py

The picture is painted by this script. The bands are the output of `rfdetr_hwd.HWD` with an identity as its weight.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional
from drawing import BLUE, INK, LINE, MUTED, ORANGE, PALE_BLUE, PALE_ORANGE, draw_arrow, draw_box, save
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from rfdetr_hwd import HWD

SIZE = 384
WIDTH, HEIGHT = 11, 6.3
"""Of the picture, in inches."""
Image = np.ndarray


def paint() -> Image:
    """Return a landscape with a lighthouse and a fence, shape (SIZE, SIZE, 3), values in [0, 1]."""
    fine = 3 * SIZE
    noise = np.random.default_rng(7)
    y, x = np.mgrid[0:fine, 0:fine] / fine
    scene = mix((0.42, 0.62, 0.80), (0.96, 0.83, 0.66), (y / 0.55).clip(0, 1))
    sun = np.hypot(x - 0.24, y - 0.30)
    scene = blend(scene, (1.0, 0.93, 0.74), np.exp(-((sun / 0.14) ** 2)))
    scene = blend(scene, (1.0, 0.97, 0.88), sun < 0.055)
    for number, (height, rough, colour) in enumerate(
        [(0.40, 0.10, (0.52, 0.60, 0.70)), (0.47, 0.07, (0.37, 0.48, 0.55)), (0.53, 0.04, (0.24, 0.36, 0.36))]
    ):
        edge = height + ridge(x[0], rough, number + 3)
        texture = 0.022 * grain(noise, fine, 22 - 4 * number)
        scene = blend(scene, colour, y > edge, texture)
    depth = ((y - 0.58) / 0.42).clip(0, 1)
    ripples = np.sin(260 * np.sqrt(depth + 0.02) + 3 * np.sin(9 * x + 20 * depth)) * (0.03 + 0.05 * depth)
    water = mix((0.62, 0.66, 0.68), (0.16, 0.31, 0.42), depth) + ripples[..., None]
    water += (np.exp(-(((x - 0.24) / (0.03 + 0.1 * depth)) ** 2)) * (ripples > 0.01) * 0.28)[..., None]
    scene = np.where((y > 0.58)[..., None], water, scene)
    scene = paint_lighthouse(scene, x, y)
    scene = paint_fence(scene, x, y, noise)
    return scene.reshape(SIZE, 3, SIZE, 3, 3).mean((1, 3)).clip(0, 1)


def paint_lighthouse(scene: Image, x: Image, y: Image) -> Image:
    """Paint a tower with a lantern on a rock."""
    rock = (y > 0.60 + 0.9 * (x - 0.71) ** 2 * 5 + 0.012 * np.sin(70 * x)) & (y < 0.70) & (abs(x - 0.71) < 0.16)
    scene = blend(scene, (0.23, 0.22, 0.22), rock, 0.05 * np.sin(140 * x + 60 * y))
    half = 0.030 + 0.055 * (y - 0.22)
    shade = 0.16 * (0.71 - x) / half
    tower = (abs(x - 0.71) < half) & (y > 0.22) & (y < 0.62)
    scene = blend(scene, (0.90, 0.88, 0.84), tower, shade)
    stripes = tower & ((y * 13.5) % 2 < 1)
    scene = blend(scene, (0.72, 0.22, 0.18), stripes, shade)
    scene = blend(scene, (0.20, 0.22, 0.25), (abs(x - 0.71) < 0.048) & (abs(y - 0.215) < 0.008))
    scene = blend(scene, (0.98, 0.90, 0.62), (abs(x - 0.71) < 0.022) & (y > 0.155) & (y < 0.207))
    return blend(scene, (0.60, 0.18, 0.15), (abs(x - 0.71) < 0.75 * (y - 0.11)) & (y > 0.11) & (y < 0.155))


def paint_fence(scene: Image, x: Image, y: Image, noise: np.random.Generator) -> Image:
    """Paint grass and, in front of it, posts and rails with crossed braces."""
    grass = y > 0.87 + 0.012 * np.sin(11 * x) + 0.006 * np.sin(57 * x)
    scene = blend(scene, (0.27, 0.35, 0.16), grass, 0.07 * grain(noise, len(x), 7))
    wood = 0.05 * np.sin(400 * x)
    across = (x * 8) % 1
    braces = (abs(across - 8 * (y - 0.79)) < 0.09) & (y > 0.79) & (y < 0.92)
    scene = blend(scene, (0.62, 0.52, 0.40), braces, wood)
    rails = (abs(y - 0.80) < 0.008) | (abs(y - 0.91) < 0.008)
    scene = blend(scene, (0.80, 0.72, 0.60), rails, wood)
    posts = (abs(across - 0.5) > 0.42) & (y > 0.755) & (y < 0.965)
    return blend(scene, (0.88, 0.81, 0.70), posts, wood)


def mix(first: tuple[float, ...], second: tuple[float, ...], weight: Image) -> Image:
    """Return a gradient between two colours."""
    return np.asarray(first) + (np.asarray(second) - np.asarray(first)) * weight[..., None]


def blend(scene: Image, colour: tuple[float, ...], mask: Image, shade: Image | float = 0.0) -> Image:
    """Lay a colour, lightened by a shade, over the scene where the mask is."""
    weight = np.asarray(mask, dtype=float)[..., None]
    return scene * (1 - weight) + (np.asarray(colour) + np.asarray(shade)[..., None]) * weight


def ridge(x: Image, rough: float, seed: int) -> Image:
    """Return the height of a ridge above its mean, for each x."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 9)
    return sum(rough / 1.75**k * np.sin(2**k * 3.1 * x + phases[k]) for k in range(9)) * 0.7


def grain(noise: np.random.Generator, size: int, scale: int) -> Image:
    """Return smooth noise of a grain size in pixels, shape (size, size), standard deviation about 1."""
    coarse = torch.from_numpy(noise.standard_normal((1, 1, size // scale + 2, size // scale + 2)))
    return functional.interpolate(coarse, size=(size, size), mode="bicubic")[0, 0].numpy()


def find_bands(image: Image) -> Image:
    """Return LL, cH, cV and cD of an image (H, W, 3), as HWD computes them: (4, H / 2, W / 2, 3)."""
    layer = HWD(3, 12)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(12)[:, :, None, None])
        bands = layer(torch.from_numpy(image).float().permute(2, 0, 1)[None])[0]
    return bands.view(4, 3, *bands.shape[1:]).permute(0, 2, 3, 1).numpy()


def stretch(band: Image) -> Image:
    """Return a detail band around middle grey, its contrast stretched so that weak edges can be seen."""
    scaled = band / np.quantile(abs(band), 0.99)
    return 0.5 + 0.5 * (np.sign(scaled) * abs(scaled) ** 0.7).clip(-1, 1)


def draw_model(axes: Axes) -> None:
    """Draw RF-DETR from image to detections, with the two places for a downsampler."""
    axes.set(xlim=(0, 22), ylim=(0, 5.2), aspect="equal")
    axes.axis("off")
    draw_box(axes, 0.1, 2.0, 1.9, 1.3, "image", "H x W")
    draw_box(axes, 2.9, 1.85, 2.6, 1.6, "stem", "optional\ndownsampler", PALE_ORANGE, ORANGE)
    draw_box(axes, 6.4, 2.0, 2.3, 1.3, "patches", "embedding")
    draw_box(axes, 9.5, 2.0, 2.3, 1.3, "encoder", "DINOv2")
    axes.add_patch(
        FancyBboxPatch((12.75, 0.25), 4.3, 4.5, "round,pad=0,rounding_size=0.12", facecolor="white", edgecolor=LINE)
    )
    axes.text(14.9, 4.42, "projector", ha="center", va="center", fontsize=9, color=MUTED)
    draw_box(axes, 13.1, 2.75, 3.6, 1.25, "P4", "stride 1", PALE_BLUE, BLUE)
    draw_box(axes, 13.1, 0.6, 3.6, 1.7, "P5: HWD", "replaces the 3x3\nstride-2 convolution", PALE_ORANGE, ORANGE)
    draw_box(axes, 18.0, 2.0, 1.9, 1.3, "decoder", "queries")
    for start, end in [
        ((2.0, 2.65), (2.9, 2.65)),
        ((5.5, 2.65), (6.4, 2.65)),
        ((8.7, 2.65), (9.5, 2.65)),
        ((11.8, 2.75), (13.1, 3.35)),
        ((11.8, 2.55), (13.1, 1.5)),
        ((16.7, 3.35), (18.0, 2.85)),
        ((16.7, 1.5), (18.0, 2.45)),
        ((19.9, 2.65), (20.7, 2.65)),
    ]:
        draw_arrow(axes, start, end)
    axes.text(20.8, 2.65, "boxes,\nclasses", va="center", fontsize=9.5, linespacing=1.4)
    axes.text(4.2, 1.45, "downsample.site=stem", ha="center", va="center", fontsize=8, color=ORANGE, family="monospace")
    axes.text(
        14.9, -0.12, "downsample.site=projector", ha="center", va="center", fontsize=8, color=ORANGE, family="monospace"
    )


def draw_kernel(axes: Axes) -> None:
    """Draw the folded kernel: 2x2 taps in a 3x3 whose first row and column are zero."""
    axes.set(xlim=(-0.1, 3.1), ylim=(3.1, -0.1), aspect="equal")
    axes.axis("off")
    for row in range(3):
        for column in range(3):
            is_tap = row > 0 and column > 0
            fill, edge = (PALE_ORANGE, ORANGE) if is_tap else ("white", LINE)
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor=fill, edgecolor=edge, linewidth=1.2, zorder=1 + is_tap)
            )
            text = f"$k_{{{row - 1}{column - 1}}}$" if is_tap else "0"
            axes.text(
                column + 0.5, row + 0.52, text, ha="center", va="center", color=INK if is_tap else MUTED, zorder=3
            )


def show(axes: Axes, image: Image, title: str, text: str) -> None:
    """Show an image with a title and a word of explanation beneath it."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(LINE)
    axes.set_title(title, fontsize=10, weight="bold", pad=4)
    axes.set_xlabel(text, fontsize=8, color=MUTED, labelpad=3)


def main() -> None:
    """Draw the picture."""
    image = paint()
    bands = find_bands(image)
    figure = plt.figure(figsize=(WIDTH, HEIGHT))
    square = WIDTH / HEIGHT  # height of a square of width 1, in fractions of the figure
    draw_model(figure.add_axes((0.015, 0.613, 0.97, 0.97 * 5.2 / 22 * square)))
    sheet = figure.add_axes((0, 0, 1, 1))
    sheet.set(xlim=(0, 22), ylim=(0, 22 / square))
    sheet.axis("off")
    sheet.plot([0.4, 21.6], [7.27, 7.27], color=LINE, linewidth=0.8)
    middle = 3.75

    def place(left: float, centre: float, side: float) -> Axes:
        """Return axes for a square, in the units of the sheet."""
        return figure.add_axes((left / 22, (centre - side / 2) / 22 * square, side / 22, side / 22 * square))

    show(place(0.45, middle, 5.1), image, "feature map or image", "C channels, H x W")
    names = [("LL", "low-pass"), ("cH", "horizontal edges"), ("cV", "vertical edges"), ("cD", "diagonals")]
    for number, ((name, meaning), band) in enumerate(zip(names, bands, strict=True)):
        left, centre = 7.2 + 3.2 * (number % 2), middle + 1.72 - 3.44 * (number // 2)
        show(place(left, centre, 2.5), band / 2 if number == 0 else stretch(band.mean(-1)), name, meaning)
    draw_arrow(sheet, (5.8, middle), (6.95, middle))
    sheet.text(6.35, middle + 0.2, "Haar", ha="center", fontsize=9, color=MUTED)
    draw_arrow(sheet, (13.15, middle), (14.2, middle))
    draw_box(sheet, 14.3, middle - 0.65, 2.2, 1.3, "1x1", "convolution", PALE_ORANGE, ORANGE)
    sheet.text(17.1, middle, "=", ha="center", va="center", fontsize=18, color=MUTED)
    draw_kernel(place(17.7, middle, 3.1))
    sheet.text(19.25, middle + 2.1, "one convolution, stride 2", ha="center", va="center", fontsize=10, weight="bold")
    text = "a stock 3x3 kernel whose first row\nand column are zero:\nit exports as stock RF-DETR"
    sheet.text(19.25, middle - 2.25, text, ha="center", va="center", fontsize=8, color=MUTED, linespacing=1.45)
    save(figure, "hwd.png")


if __name__ == "__main__":
    main()
