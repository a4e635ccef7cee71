"""Draws the figure of the model: python docs/figures/model.py writes model.svg beside this file.

Equation numbers are those of docs/method.md.
"""

import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FOREGROUND, BACKGROUND, MOVER = "#d9542b", "#2b6fb3", "#7a4fa3"
OTHER, SAMPLER = "#444444", "#2e8b57"


def box(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    colour: str,
    *,
    width: float = 1.5,
    height: float = 0.8,
    filled: bool = False,
    size: float = 10.5,
) -> None:
    """A rounded box centred at (x, y)."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            edgecolor=colour,
            facecolor=colour if filled else "white",
            linewidth=1.8,
        )
    )
    axes.text(
        x, y, text, ha="center", va="center", fontsize=size, color="white" if filled else "#111111"
    )


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = OTHER,
    *,
    style: str = "-",
) -> None:
    """An arrow between two points."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=14,
            linewidth=1.6,
            color=colour,
            linestyle=style,
            shrinkA=0,
            shrinkB=0,
        )
    )


def draw(axes: Axes) -> None:
    """The whole figure, left to right: latents, generators, maps, mixing, image."""
    rows = {"f": 5.2, "b": 3.2, "s": 1.2}
    colours = {"f": FOREGROUND, "b": BACKGROUND, "s": MOVER}
    maps = {"f": "image $I_f$,  logit $m_f$", "b": "image $I_b$,  logit $m_b$", "s": "grid $g$"}

    box(axes, 0.7, 3.2, "prior\n$E(z)$\n(1.5)", OTHER, width=1.3, height=1.7)
    for part, y in rows.items():
        box(axes, 2.6, y, f"$z_{part}$", colours[part], width=0.9, size=14)
        arrow(axes, (1.38, 3.2 + 0.25 * (y - 3.2)), (2.12, y), OTHER)
        box(axes, 4.6, y, f"$G_{part}$", colours[part], width=1.3, filled=True, size=15)
        arrow(axes, (3.08, y), (3.92, y), colours[part])
        box(axes, 7.1, y, maps[part], colours[part], width=2.3)
        arrow(axes, (5.28, y), (5.92, y), colours[part])
    arrow(axes, (4.6, 2.78), (4.6, 1.64), BACKGROUND, style="--")
    axes.text(4.72, 2.2, "$h_b$, no gradient back", fontsize=10, va="center", color=BACKGROUND)

    box(axes, 9.75, 3.2, "grid sample (1.2)\n$I_b',\\ m_b'$", BACKGROUND, width=2.0, height=1.1)
    arrow(axes, (8.28, 3.2), (8.72, 3.2), BACKGROUND)
    arrow(axes, (8.28, 1.2), (9.75, 2.62), MOVER)
    box(
        axes,
        12.35,
        4.3,
        "softmax (1.3): $\\pi_f,\\ \\pi_b$\nmix (1.4)",
        OTHER,
        width=2.5,
        height=1.1,
    )
    arrow(axes, (8.28, 5.2), (11.06, 4.57), FOREGROUND)
    arrow(axes, (10.78, 3.2), (11.5, 3.72), BACKGROUND)
    box(axes, 14.6, 4.3, "$\\hat{x}$", OTHER, width=0.9, size=16)
    arrow(axes, (13.63, 4.3), (14.12, 4.3))
    box(axes, 14.6, 2.0, "$x$", OTHER, width=0.9, size=16)
    axes.text(14.6, 1.35, "observed", ha="center", fontsize=10)
    box(
        axes,
        12.35,
        2.0,
        "regions compete:\n$\\gamma_k,\\ J$  (1.8, 1.9)",
        OTHER,
        width=2.3,
        height=1.1,
    )
    arrow(axes, (14.12, 2.0), (13.53, 2.0))
    arrow(axes, (12.35, 3.72), (12.35, 2.58))

    axes.plot([12.35, 12.35], [1.43, -0.1], color=SAMPLER, linewidth=2.2)
    axes.plot([12.35, 2.6], [-0.1, -0.1], color=SAMPLER, linewidth=2.2)
    arrow(axes, (2.6, -0.1), (2.6, 0.77), SAMPLER)
    axes.text(
        7.5,
        -0.45,
        "Langevin dynamics (3.1) moves $z_f$, $z_b$, $z_s$ down the posterior energy $U_1$ (1.10)",
        ha="center",
        va="center",
        fontsize=12,
        color=SAMPLER,
    )


def main() -> None:
    plt.rcParams["svg.hashsalt"] = "drc_jax"  # the same file every time
    figure, axes = plt.subplots(figsize=(13, 5.6))
    axes.set_xlim(-0.1, 15.2)
    axes.set_ylim(-0.8, 5.8)
    axes.set_aspect("equal")
    axes.axis("off")
    draw(axes)
    target = pathlib.Path(__file__).with_suffix(".svg")
    figure.savefig(target, metadata={"Date": None}, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
