"""Where an activation is read or edited, and the order in which a forward pass reaches it."""

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
        layer: the block, counted from 0.

    Raises:
        TypeError: the layer is no whole number.
        ValueError: the place is unknown or the layer is negative.
    """

    place: Place
    layer: int

    def __post_init__(self) -> None:
        """Refuse what no model has; a model refuses what it lacks itself."""
        if self.place not in PLACES:
            raise ValueError(f"place {self.place!r} is unknown: choose one of {', '.join(PLACES)}")
        if not isinstance(self.layer, Integral):
            raise TypeError(f"layer {self.layer!r} is no whole number: layers count 0, 1, 2 ...")
        if self.layer < 0:
            raise ValueError(f"layer {self.layer} is negative: layers count from 0")

    def __lt__(self, other: "Site") -> bool:
        """Order of the forward pass."""
        return (self.layer, PLACES.index(self.place)) < (other.layer, PLACES.index(other.place))

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
        if not layer.isdigit():
            raise ValueError(f"{text!r} is no site: write it as place.layer, such as resid_pre.6")
        return cls(place, int(layer))  # type: ignore[arg-type]  # checked on construction
