"""Where an activation is read or edited, and the order in which a forward pass reaches it."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, get_args

Place = Literal["resid_pre", "attn_out", "mlp_out", "resid_post"]
"""A place in a decoder block, in the order of the forward pass.

`resid_pre` is the residual stream that enters the block, `resid_post` the one that leaves it; `attn_out` and `mlp_out`
are what the sublayer adds to the stream (after Gemma-2's post-norms).
"""

PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True)
class Site:
    """A place in one block.

    Args:
        place: one of `PLACES`.
        layer: the block, counted from 0; -1 is the last one of the model that the site is used with, -2 the one below.

    Raises:
        TypeError: the layer is no whole number.
        ValueError: the place is unknown.
    """

    place: Place
    layer: int

    def __post_init__(self) -> None:
        """Refuse what no model has; a model refuses what it lacks itself."""
        if self.place not in PLACES:
            raise ValueError(f"place {self.place!r} is unknown: choose one of {', '.join(PLACES)}")
        if not isinstance(self.layer, Integral):
            raise TypeError(f"layer {self.layer!r} is no whole number: layers count 0, 1, 2 ...")
        object.__setattr__(self, "layer", int(self.layer))  # NumPy's integers are no JSON

    def __lt__(self, other: "Site") -> bool:
        """Order of the forward pass; layers that are counted from the end come last."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[bool, int, int]:
        return self.layer < 0, self.layer, PLACES.index(self.place)

    def __str__(self) -> str:
        """As it is written in frames and files: `resid_pre.6`."""
        return f"{self.place}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read what `str(site)` wrote.

        Raises:
            ValueError: the text is no site.
        """
        place, _, layer = text.partition(".")
        if not layer.removeprefix("-").isdecimal():
            raise ValueError(f"{text!r} is no site: write it as place.layer, such as resid_pre.6")
        return cls(place, int(layer))  # type: ignore[arg-type]  # checked on construction


def sites_at(place: Place, layers: int | Iterable[int]) -> list[Site]:
    """A place in one layer or several.

    Raises:
        TypeError: a layer is no whole number.
        ValueError: the place is unknown, or there is no layer.
    """
    if isinstance(layers, str) or not isinstance(layers, Iterable):  # Site refuses text
        return [Site(place, layers)]
    sites = [Site(place, layer) for layer in layers]
    if not sites:
        raise ValueError("no layers given: name at least one, such as layer=6 or layer=[6, 7]")
    return sites
