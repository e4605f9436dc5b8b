"""Activations as `lm.activations` gives them: one tensor per site."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from .site import Site


@dataclass(frozen=True, repr=False)
class Activations(Mapping[Site, Tensor]):
    """Activations by site, [batch, pos, d_model], left-padded as `mask` says."""

    values_: dict[Site, Tensor]
    mask: Int[Tensor, "batch pos"]

    def __repr__(self) -> str:
        """Sites and shape, not the numbers."""
        shape = [*self.mask.shape, next(iter(self.values_.values())).shape[-1]]
        return f"Activations({', '.join(map(str, self.values_))}: {shape} each)"

    def __getitem__(self, site: Site) -> Float[Tensor, "batch pos d_model"]:
        """All rows at a site."""
        return self.values_[site]

    def __iter__(self) -> Iterator[Site]:
        """Sites in the order of the forward pass."""
        return iter(self.values_)

    def __len__(self) -> int:
        """Number of sites."""
        return len(self.values_)

    def row(self, index: int, site: Site) -> Float[Tensor, "pos d_model"]:
        """One row at a site, without its padding."""
        return self.values_[site][index, self.mask[index].bool().to(self.values_[site].device)]
