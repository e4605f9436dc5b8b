"""What γ hangs on and should not: the attracting prompt's length, how many components are kept, the SVD's signs."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ...edit import components, contrast
from ...intervention import Edit, Intervention
from ...judges import preference
from ...methods.sara import Variant, sara
from ...model import SteerableModel
from ...site import Site
from .dilemmas import CONSEQUENCES, DUTY
from .study import need_known

Varied = Literal["length", "components", "signs"]
VARIED: tuple[Varied, ...] = ("length", "components", "signs")


def sensitivity(
    lm: SteerableModel,
    dilemmas: pd.DataFrame,
    vary: Varied,
    *,
    layer: int,
    values: Sequence[int] | None = None,
    variants: Sequence[Variant] = ("anchored", "released"),
    coefficient: float = 1.0,
    duty: str = DUTY,
    consequence: str = CONSEQUENCES,
) -> pd.DataFrame:
    """How γ, and what it does, hang on something that should not matter much. "released" is held as at the prompt pass.

    Args:
        lm: the model.
        dilemmas: with arguments, from `load_dilemmas`.
        vary: "length": the attracting prompt says the same thing `value` times over (the post speaks of prompts that
            differ tenfold); "components": `value` components are kept; "signs": the singular vectors of the steering
            prompts come out with other signs, each choice as right as the library's own, which is value 0. The
            anchored γ is the same function of the activations whatever the signs, so only "released" has rows there.
        layer: where to steer.
        values: the first is what the others are compared with. By default 1 to 10; from the smallest token count to 1;
            0 to 10.
        variants: of SARA.
        coefficient: of SARA.
        duty: attracting prompt.
        consequence: repelling prompt.

    Returns:
        One row per variant, value and dilemma: `variant`, `value`, `id`, `cosine` (of γ with that of the first value),
        `largest` (change of a neuron's γ), `size` (root mean square of γ), `shift` (of the preference for duty, in nats
        per token).

    Raises:
        ValueError: there is nothing of that name to vary.
    """
    need_known("vary", [vary], VARIED)
    most = min(len(lm.batch(text).ids[0]) for text in (duty, consequence)) - len(lm.prefix)
    defaults = {"length": range(1, 11), "components": range(most, 0, -1), "signs": range(11)}
    chosen = list(defaults[vary] if values is None else values)
    site, prompts = Site("resid_pre", layer), list(dilemmas["prompt"])
    plain = preference(lm, dilemmas)["preference"]
    frames = []
    for variant in ("released",) if vary == "signs" else variants:
        gains = [_gains(lm, prompts, duty, consequence, site, variant, vary, value) for value in chosen]
        for value, gain in zip(chosen, gains, strict=True):
            steer = [Intervention({site: Edit(gain=coefficient * own[None], when="all")}) for own in gain]
            shift = preference(lm, dilemmas, steer)["preference"] - plain
            columns = {"variant": variant, "value": value, "id": dilemmas["id"], "shift": shift}
            frames.append(pd.DataFrame({**columns, **_compare(gain, gains[0])}))
    return pd.concat(frames, ignore_index=True)


def sensitivity_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of `sensitivity`, a row per variant and value: the dilemmas' mean, and the least and the largest."""
    summary = frame.groupby(["variant", "value"], sort=False).agg(
        cosine=("cosine", "mean"),
        low=("cosine", "min"),
        high=("cosine", "max"),
        largest=("largest", "max"),
        size=("size", "mean"),
        shift=("shift", "mean"),
    )
    return summary.reset_index()


def _gains(
    lm: SteerableModel, prompts: list[str], near: str, far: str, site: Site, variant: str, vary: str, value: int
) -> Float[Tensor, "dilemma d_model"]:
    """γ of every dilemma at one value of what is varied."""
    near = " ".join([near] * value) if vary == "length" else near
    k = value if vary == "components" else None
    if variant == "anchored":
        made = sara(lm, prompts, attract=near, repel=far, layer=site.layer, components=k)
        return torch.cat([edit.gain for steer in made for _, edit in steer.edits if edit.gain is not None])
    a, r = (components(lm.activations(text, site).row(0, site).cpu())[:k] for text in (near, far))
    if vary == "signs" and value:
        generator = torch.Generator().manual_seed(value)
        a, r = (each * (torch.randint(0, 2, (len(each), 1), generator=generator) * 2 - 1) for each in (a, r))
    read = lm.activations(prompts, site)
    return torch.stack([contrast(read.row(row, site).cpu(), a, r).float() for row in range(len(prompts))])


def _compare(gains: Float[Tensor, "row d_model"], first: Float[Tensor, "row d_model"]) -> dict[str, list[float]]:
    """Row by row, how gains stand to those that they are compared with."""
    return {
        "cosine": torch.cosine_similarity(gains, first).tolist(),
        "largest": (gains - first).abs().amax(1).tolist(),
        "size": gains.square().mean(1).sqrt().tolist(),
    }
