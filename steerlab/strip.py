"""A small picture of where numbers lie, layer × position, as SVG that reads on a light and on a dark page."""

from collections.abc import Mapping, Sequence
from html import escape

from .site import Place, Site

Cells = Mapping[tuple[Site, int | None], float]
"""A number of at least 0 for a site and a position: from 0 at the front, to -1 at the back, None for all of them."""

WIDTH, HEIGHT = 16, 12
COLUMNS, ROWS = 48, 64
"""More than this many positions or layers are not drawn."""


def svg(cells: Cells) -> str:
    """A map for each place: layers upwards, positions to the right; the stronger the colour, the larger the number."""
    largest = max(cells.values(), default=0.0)
    places: list[Place] = list(dict.fromkeys(site.place for site, _ in sorted(cells, key=lambda cell: cell[0])))
    layers, drawn, left = _layers([site for site, _ in cells]), [], 4
    for place in places:
        panel_cells = {
            (site.layer, position): value for (site, position), value in cells.items() if site.place == place
        }
        panel, width = _panel(place, panel_cells, layers, largest or 1.0)
        drawn.append(f'<g transform="translate({left},0)">{panel}</g>')
        left += width
    height = 18 + HEIGHT * len(layers) + 18
    style = 'font-family="sans-serif" font-size="10" fill="currentColor"'
    return f'<svg width="{left}" height="{height}" role="img" {style}>{"".join(drawn)}</svg>'


def _layers(sites: Sequence[Site]) -> list[int]:
    """The rows, from the top: all layers between the lowest and the highest, or those alone that hold something."""
    named = [site.layer for site in sorted(set(sites))]
    every = list(dict.fromkeys(named))
    if every[0] >= 0 and every[-1] >= 0 and every[-1] - every[0] < ROWS:
        every = list(range(every[0], every[-1] + 1))
    return every[::-1][:ROWS]


def _columns(positions: Sequence[int | None]) -> list[int | None]:
    """The columns: from the front, all, from the back."""
    front = sorted(position for position in positions if position is not None and position >= 0)
    back = sorted(position for position in positions if position is not None and position < 0)
    return [*front[:COLUMNS], *([None] if None in positions else []), *back[-COLUMNS:]]


def _panel(
    place: Place, values: Mapping[tuple[int, int | None], float], layers: Sequence[int], largest: float
) -> tuple[str, int]:
    """The map of one place, and its width."""
    columns, indent = _columns(list({position for _, position in values})), 24
    parts = [_text(indent, 11, place)]
    for row, layer in enumerate(layers):
        top = 18 + HEIGHT * row
        if row % max(1, len(layers) // 8) == 0:
            parts.append(_text(indent - 4, top + 9, layer, "end"))
        for column, position in enumerate(columns):
            title = f"{Site(place, layer)}, {'all positions' if position is None else f'position {position}'}"
            parts.append(_cell(indent + WIDTH * column, top, values.get((layer, position)), largest, title))
    for column, position in enumerate(columns):
        if column % max(1, len(columns) // 8) == 0:
            middle = indent + WIDTH * column + WIDTH // 2
            parts.append(_text(middle, 29 + HEIGHT * len(layers), "all" if position is None else position, "middle"))
    return "".join(parts), indent + max(WIDTH * len(columns), 7 * len(place)) + 16


def _cell(x: int, y: int, value: float | None, largest: float, title: str) -> str:
    """A rectangle, whose tooltip is its number."""
    frame = f'<rect x="{x}" y="{y}" width="{WIDTH - 1}" height="{HEIGHT - 1}"'
    if value is None:
        return f'{frame} fill="none" stroke="currentColor" stroke-opacity="0.15"/>'
    colour = f'fill="#3d8fe8" fill-opacity="{0.1 + 0.9 * value / largest:.2f}"'
    return f"{frame} {colour}><title>{escape(title)}: {value:.3g}</title></rect>"


def _text(x: int, y: int, words: object, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(str(words))}</text>'
