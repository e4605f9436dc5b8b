"""Interventions from tensors of your own: a vector to add, numbers to scale by."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..intervention import Anchor, Edit, Intervention, When
from ..site import Place, Site, sites_at

Layers = int | Sequence[int] | None


def add(
    vector: ArrayLike | Tensor | Mapping[int | Site, Any],
    *,
    layer: Layers = None,
    place: Place = "resid_post",
    anchor: Anchor = "all",
    start: int = 0,
    when: When = "prompt",
) -> Intervention:
    """Add a vector of your own: h <- h + vector.

        >>> sl.add(torch.ones(320), layer=6, when="all")
        Intervention(add: shift at resid_post.6, all positions, all passes, norm 17.9)
        >>> sl.add({4: torch.ones(320), 5: torch.zeros(320)})
        Intervention(add: shift at 2 sites, resid_post.4 to resid_post.5, all positions, prompt, norm 17.9)

    Args:
        vector: [d_model], or [positions, d_model] with the anchor "front" or "back"; a tensor, an array or a list. Or
            a mapping from layers or sites to such vectors.
        layer: block, from 0, or -1 for the last; a list adds the vector in each. None with a mapping.
        place: what is added to in the block: its output, or another place.
        anchor: "all" positions, or those from `start` at the "front" of the prompt, or its last ones ("back").
        start: first position of a front edit.
        when: passes to edit: over the "prompt", those that "decode", or "all".

    Raises:
        TypeError: the vector holds no numbers, or the layer is no whole number.
        ValueError: there is no layer, or what `Edit` refuses.
    """
    return _made("shift", vector, layer, place, {"anchor": anchor, "start": start, "when": when})


def scale(
    alpha: ArrayLike | Tensor | Mapping[int | Site, Any],
    *,
    layer: Layers = None,
    place: Place = "resid_post",
    anchor: Anchor = "all",
    start: int = 0,
    when: When = "prompt",
) -> Intervention:
    """Scale activations by numbers of your own: h <- h + alpha * h. So 0 changes nothing, and -1 removes.

        >>> sl.scale(-1, layer=3, place="attn_out")
        Intervention(scale: gain at attn_out.3, all positions, prompt, norm 1)

    Args:
        alpha: a number; or [d_model], one per neuron; or [positions, 1] or [positions, d_model], with the anchor
            "front" or "back"; a tensor, an array or a list. Or a mapping from layers or sites to such.
        layer: block, from 0, or -1 for the last; a list scales in each. None with a mapping.
        place: what is scaled in the block: its output, or another place.
        anchor: "all" positions, or those from `start` at the "front" of the prompt, or its last ones ("back").
        start: first position of a front edit.
        when: passes to edit: over the "prompt", those that "decode", or "all".

    Raises:
        TypeError: alpha holds no numbers, or the layer is no whole number.
        ValueError: there is no layer, or what `Edit` refuses.
    """
    return _made("gain", alpha, layer, place, {"anchor": anchor, "start": start, "when": when})


def _made(
    name: Literal["shift", "gain"], tensors: Any, layer: Layers, place: Place, options: dict[str, Any]
) -> Intervention:
    """Edits of one tensor each."""
    if isinstance(tensors, Mapping) == (layer is not None):
        raise ValueError("say where, once: a tensor with layer=6, or a mapping {6: tensor} without layer")
    sites = {site: tensors for site in sites_at(place, layer)} if layer is not None else _mapped(tensors, place)
    edits = {site: Edit(**options | {name: _matrix(name, tensor)}) for site, tensor in sites.items()}
    return Intervention(edits, {"method": "add" if name == "shift" else "scale"})


def _mapped(tensors: Mapping[int | Site, Any], place: Place) -> dict[Site, Any]:
    """Tensors by site."""
    return {at if isinstance(at, Site) else Site(place, at): tensor for at, tensor in tensors.items()}


def _matrix(name: str, value: Any) -> Tensor:
    """A tensor as `Edit` takes it, [positions or 1, width or 1]."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{type(value).__name__} is no tensor of numbers: give a tensor, an array or a list") from None
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TypeError(f"{tensor.dtype} is no dtype of activations: give real numbers")
    if not tensor.is_floating_point() or not isinstance(value, Tensor | np.ndarray):
        tensor = tensor.to(torch.get_default_dtype())
    if tensor.ndim == 0 and name == "shift":
        raise ValueError(f"{value} is no vector: add takes d_model numbers, scale takes one")
    return tensor.reshape(1, -1) if tensor.ndim < 2 else tensor
