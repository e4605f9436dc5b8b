"""SARA: a gain for every neuron, by its likeness to an attracting prompt and its unlikeness to a repelling one.

Tlaie, Exploring and steering the moral compass of large language models, arXiv 2405.17345 (the released code,
atlaie/ethical-llms, is what fixes the details).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..edit import components as leading_components
from ..edit import contrast
from ..intervention import Edit, Intervention, When
from ..model import SteerableModel
from ..passes import Call, Tap, activations, like
from ..prompts import Prompt, Prompts, as_list, as_one, is_single
from ..sampling import finite, require_finite
from ..site import Place, Site, sites_at

Variant = Literal["anchored", "released"]
Edits = tuple[tuple[Site, Edit], ...]


@overload
def sara(  # type: ignore[overload-overlap]  # text is a sequence of texts too, but always one prompt
    lm: SteerableModel,
    prompts: Prompt,
    *,
    attract: Prompt,
    repel: Prompt,
    layer: int | Sequence[int],
    coefficient: float = ...,
    components: int | None = ...,
    variant: Variant = ...,
    when: When = ...,
    place: Place = ...,
    skip_bos: bool = ...,
) -> Intervention: ...
@overload
def sara(
    lm: SteerableModel,
    prompts: Sequence[Prompt],
    *,
    attract: Prompt,
    repel: Prompt,
    layer: int | Sequence[int],
    coefficient: float = ...,
    components: int | None = ...,
    variant: Variant = ...,
    when: When = ...,
    place: Place = ...,
    skip_bos: bool = ...,
) -> list[Intervention]: ...
def sara(
    lm: SteerableModel,
    prompts: Prompt | Sequence[Prompt],
    *,
    attract: Prompt,
    repel: Prompt,
    layer: int | Sequence[int],
    coefficient: float = 1.0,
    components: int | None = None,
    variant: Variant = "anchored",
    when: When = "all",
    place: Place = "resid_pre",
    skip_bos: bool = True,
) -> Intervention | list[Intervention]:
    """Attract a prompt's activations to one prompt's and repel them from another's: h <- h + coefficient * γ ⊙ h.

    With A_o, A_a, A_r the activations [d_model, tokens] of the prompt, the attracting and the repelling one, and their
    thin SVDs A = U Σ Vᵀ, γ[d] = s_a[d] − s_r[d] is a number in [−2, 2] per neuron d, the same at every position:

        released    s_x[d] = cos of row d of U_o Σ_o with row d of U_x Σ_x, both cut to the smallest token count
        anchored    s_x[d] = cos of row d of U_o Σ_o U_oᵀ with row d of U_x Σ_x U_xᵀ  (the square roots of A Aᵀ)

    `released` does what the published code does: BOS counts, γ is found anew from the activations at every pass, and so
    at each cached decode step from a single token, where it can only be −2, 0 or 2. Singular vectors are defined up to
    their sign, so this γ depends on the linear algebra library. One prompt at a time, as published.

    `anchored` is the same idea made well-defined. It writes the rows of U Σ in the coordinates of the neurons, by the
    factor Uᵀ, which keeps their lengths and inner products. There a sign, and any rotation among equal singular values,
    cancels; what is compared is which neurons a neuron goes together with, and that means the same in two prompts,
    while "the third component" does not. γ is found once, in float64, from the prompt's real tokens without BOS (whose
    norm would drown the rest), and held while decoding.

    Why this rule: `benchmarks/sara.py --rules` measures it beside six others, on the bundled model at layers 1, 4 and
    7. Other signs moved a neuron's released γ by up to 3.8. To fix each sign by the largest entry, or by agreement with
    A_o, is to decide near-ties: rounding the activations to bfloat16 moved such γ by up to 42 % and 0.9 % of their
    norm, and this one by 0.3 %; float32 instead of float64 moved a neuron's γ by up to 7e-6 and 9e-6, and here by 8e-7.
    Absolute values, or the best rotation of one prompt onto the other, are free of signs, but as sensitive (1.3 and
    1.1 %; 5e-6 and 9e-6). Two prompts that are steered by the same pair get γ that correlate by 0.51 here, and by 0.12
    to 0.32 with those. The rows of A Aᵀ itself do as well; the root weighs components by Σ, as the paper does, not by
    Σ². What γ does was not what decided: on four dilemmas, only the largest entry moved the preference the right way in
    both directions at all three layers, by 0.04 and 0.11 nats per token; this rule did not.

    Args:
        lm: the model to steer.
        prompts: the prompt to steer, or several.
        attract: the prompt to move towards.
        repel: the prompt to move away from.
        layer: block whose input is steered, from 0, or -1 for the last; or several, whose γ all come from the
            unsteered activations.
        coefficient: strength; a negative one swaps attraction and repulsion exactly.
        components: how many leading components to keep; all by default (for `released` the smallest token count).
        variant: "anchored", or "released" for replication.
        when: passes to edit.
        place: the input of the block as in the paper, or another place.
        skip_bos: whether BOS is left out of γ; of no effect on `released`. (The gain applies to BOS all the same.)

    Returns:
        An intervention for one prompt, a list of one for each prompt otherwise.

    Raises:
        ValueError: a prompt is empty, a layer out of range, `components` above the smallest token count, the variant
            unknown, the coefficient not finite, or several prompts with `released`.
    """
    single, listed = is_single(prompts), as_list(prompts)
    if variant not in ("anchored", "released"):
        raise ValueError(f"variant={variant!r} is unknown: choose anchored or released")
    if variant == "released" and not single:
        raise ValueError(f"the released variant takes one prompt, not a list of {len(listed)}: call it for each")
    if not math.isfinite(coefficient):
        raise ValueError(f"coefficient {coefficient} is not a finite number")
    template = Edit(gain=torch.full((1, 1), float(coefficient)), when=when)  # refuses a wrong `when`
    sites = sorted(set(lm.check_layers(sites_at(place, layer))))
    by_role: dict[str, Prompts] = {"prompt": listed, "attract": as_one(attract), "repel": as_one(repel)}
    counted = {name: _counted(lm, name, text, variant == "anchored" and skip_bos) for name, text in by_role.items()}
    _check_components(components, {name: int(mask.sum(1).min()) for name, mask in counted.items()})
    if variant == "released":
        rows = [_released(lm, by_role, sites, template, components)]
    else:
        gains = _gains(lm, by_role, counted, sites, components)
        rows = [
            tuple((site, replace(template, gain=coefficient * gain[row, None])) for site, gain in gains.items())
            for row in range(len(counted["prompt"]))
        ]
    settings: dict[str, Any] = {"variant": variant, "place": place, "layers": [site.layer for site in sites]}
    settings |= {"coefficient": coefficient, "components": components, "skip_bos": variant == "anchored" and skip_bos}
    interventions = []
    for edits, prompt in zip(rows, listed, strict=True):
        texts = {"prompt": lm.text(prompt), "attract": lm.text(attract), "repel": lm.text(repel)}
        interventions.append(Intervention(edits, lm.info(method="sara", **settings, prompts=texts)))
    return interventions[0] if single else interventions


def sara_gain(
    prompt: Float[Tensor, "*#batch pos d_model"],
    attract: Float[Tensor, "*#batch attracting d_model"],
    repel: Float[Tensor, "*#batch repelling d_model"],
    *,
    components: int | None = None,
    variant: Variant = "anchored",
) -> Float[Tensor, "*#batch d_model"]:
    """SARA's γ from activations: what `sara` multiplies by its coefficient.

    Args:
        prompt: activations of the prompt; rows of zeros do not count for "anchored".
        attract: of the attracting prompt.
        repel: of the repelling prompt.
        components: how many leading components to keep; all by default (for `released` the smallest token count).
        variant: "anchored", or "released", which takes no batch.
    """
    if variant == "released":
        near, far = (leading_components(side)[:components] for side in (attract, repel))
        return contrast(prompt, near, far)
    root = _root(prompt, components)
    return _likeness(root, _root(attract, components)) - _likeness(root, _root(repel, components))


def shuffled(intervention: Intervention, seed: int = 0) -> Intervention:
    """A control for SARA: the same gains, handed to other neurons by a random permutation.

    The histogram of γ, and so the strength at which neurons are scaled, stays the same at every site; which neuron gets
    which gain does not.

    Raises:
        ValueError: an edit is no gain per neuron (SARA as released finds its gain only while it runs).
    """
    generator = torch.Generator().manual_seed(seed)
    edits = []
    for site, edit in intervention.edits:
        if edit.gain is None or edit.gain.shape[1] == 1 or len(edit.tensors) > 1:
            raise ValueError(f"the edit at {site} is no gain per neuron, so there is nothing to shuffle")
        edits.append((site, replace(edit, gain=edit.gain[:, torch.randperm(edit.gain.shape[1], generator=generator)])))
    return Intervention(tuple(edits), {**intervention.info, "method": "shuffled", "seed": seed})


def _counted(lm: SteerableModel, name: str, prompts: Prompts, skip_bos: bool) -> Bool[Tensor, "batch pos"]:
    """The tokens that γ is computed from: the real ones, less BOS."""
    if len(prompts) == 0:
        raise ValueError(f"{name} is empty: SARA compares the activations of its tokens")
    batch = lm.batch(prompts)
    counts = batch.content(lm.prefix) if skip_bos else batch.mask.bool()
    if not bool(counts.any(1).all()):
        raise ValueError(f"{name} holds nothing but BOS: SARA compares the activations of its tokens")
    return counts.cpu()


def _check_components(components: int | None, tokens: dict[str, int]) -> None:
    """Refuse more components than the shortest prompt has tokens."""
    if components is None or 1 <= components <= min(tokens.values()):
        return
    counts = ", ".join(f"{name} {count}" for name, count in tokens.items())
    raise ValueError(f"components={components} is out of range: 1 to the smallest token count ({counts})")


def _released(
    lm: SteerableModel, by_role: dict[str, Prompts], sites: list[Site], template: Edit, components: int | None
) -> Edits:
    """Edits that hold the reference prompts' components; γ is found in the model's pass."""
    near_prompt, far_prompt = by_role["attract"], by_role["repel"]
    read = lm.together([lambda lm: lm.activations(near_prompt, sites), lambda lm: lm.activations(far_prompt, sites)])
    edits = []
    for site in sites:
        near, far = (leading_components(finite(chosen.row(0, site)))[:components] for chosen in read)
        edits.append((site, replace(template, attract=near, repel=far)))
    return tuple(edits)


def _gains(
    lm: SteerableModel,
    by_role: dict[str, Prompts],
    counted: dict[str, Bool[Tensor, "_ _"]],
    sites: list[Site],
    components: int | None,
) -> dict[Site, Float[Tensor, "batch d_model"]]:
    """Anchored γ of every prompt, from unsteered activations in which the tokens that do not count are zeros."""
    read = {name: (lm.batch(prompts).plain, counted[name]) for name, prompts in by_role.items()}
    gives = [like(len(counted["prompt"]), lm.d_model, dtype=torch.float64)] * len(sites)
    (gains,) = lm.run([Call(gains_beside, (read, lm.taps({}, sites), components), gives)])
    return {
        site: gain.to(torch.promote_types(lm.dtype, torch.float32)) for site, gain in zip(sites, gains, strict=True)
    }


def gains_beside(model: Any, read: dict[str, Any], taps: Sequence[Tap], components: int | None) -> list[Tensor]:
    """Anchored γ at each tap, computed where the activations are; travels, as `passes.py` says."""
    states = {name: activations(model, batch, taps, False) for name, (batch, _) in read.items()}
    gains = []
    for i in range(len(taps)):
        for name in states:
            require_finite(states[name][i])
        a = {name: states[name][i].cpu().double() * counts[..., None] for name, (_, counts) in read.items()}
        gains.append(sara_gain(a["prompt"], a["attract"], a["repel"], components=components))
    return gains


def _root(
    activations: Float[Tensor, "*batch pos d_model"], count: int | None
) -> tuple[Float[Tensor, "*batch d_model k"], Float[Tensor, "*batch d_model k"]]:
    """U Σ and U of the thin SVD of A = activationsᵀ: the two factors of the root U Σ Uᵀ, which is never formed."""
    u, s, _ = torch.linalg.svd(activations.mT, full_matrices=False)
    u, s = u[..., :count], s[..., None, :count]
    return u * s, u


def _likeness(root: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Float[Tensor, "*batch d_model"]:
    """Row by row, the cosine of two roots; 0 for a neuron that is silent in one of them, but for rounding."""
    (scaled, u), (other_scaled, v) = root, other
    inner = ((scaled @ (u.mT @ v)) * other_scaled).sum(-1)
    norms = [factor.norm(dim=-1) for factor in (scaled, other_scaled)]
    heard = [norm > 1e3 * torch.finfo(norm.dtype).eps * norm.amax(-1, keepdim=True) for norm in norms]
    return torch.where(heard[0] & heard[1], inner / (norms[0] * norms[1]), 0)
