"""What a pass says at every token: the logit lens, how far an edit moves the stream, where steering acts in a text."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from .intervention import Edit, Intervention
from .metrics import kl
from .model import SteerableModel
from .passes import capped
from .prompts import Prompt
from .scoring import continued
from .site import Site


def logit_lens(lm: SteerableModel, prompt: Prompt, steer: Intervention | None = None) -> pd.DataFrame:
    """What the model would say next at each token if it ended at each layer (nostalgebraist 2020).

    The final norm and the unembedding are applied to the stream that leaves a block: softmax(W_U norm(resid_post)). At
    the last layer that is the model itself. Early layers do not write for this norm: there the lens is a guess.

    Args:
        lm: the model, with its weights here.
        prompt: one prompt.
        steer: an intervention under which it is read.

    Returns:
        One row per layer and token that is read: `layer`, `position` (BOS is 0), `token`, the most probable next token
        `top` and its `probability`.

    Raises:
        ValueError: the model is remote, or its final norm is not known: the lens of the last layer is not the model.
    """
    if lm.runner.at_once:
        raise ValueError("the lens needs the model's weights: load it without remote=")
    ids = torch.tensor(lm.ids(prompt))
    sites = [Site("resid_post", layer) for layer in range(lm.n_layers)]
    streams = lm.activations(ids, sites, steer)
    top = _top(lm)
    tokens, rows = lm.tokens(ids), []
    with torch.no_grad():
        for site in sites:
            logits = top(streams.row(0, site)).float()
            best = logits.softmax(-1).max(-1)
            rows += [
                {
                    "layer": site.layer,
                    "position": i,
                    "token": token,
                    "top": lm.tokenizer.decode([top]),
                    "probability": p,
                }
                for i, (token, top, p) in enumerate(
                    zip(tokens, best.indices.tolist(), best.values.tolist(), strict=True)
                )
            ]
    if not torch.allclose(logits[-1], lm.logits(ids, steer)[0], rtol=1e-2, atol=1e-2):
        raise ValueError(f"the lens of the last layer is not what {lm.name} says: its final norm is not known")
    return pd.DataFrame(rows)


def moved(lm: SteerableModel, prompt: Prompt, steer: Intervention) -> pd.DataFrame:
    """How far an intervention moves the stream behind each block: |h' - h| / mean |h|, without unit.

    The mean norm is that of the layer's unsteered activations, without BOS, as in `strength.relative_size`.

    Args:
        lm: the model.
        prompt: one prompt.
        steer: the intervention.

    Returns:
        One row per layer and token: `layer`, `position` (BOS is 0), `token`, `moved`.

    Raises:
        ValueError: what `lm.activations` refuses.
    """
    ids = torch.tensor(lm.ids(prompt))
    real = lm.batch(ids).content(lm.prefix)[0]
    sites = [Site("resid_post", layer) for layer in range(lm.n_layers)]
    both = lm.activations([ids, ids], sites, [None, steer])
    tokens, rows = lm.tokens(ids), []
    for site in sites:
        plain, edited = both[site].float()
        sizes = (edited - plain).norm(dim=-1) / plain.norm(dim=-1)[real.to(plain.device)].mean()
        rows += [
            {"layer": site.layer, "position": i, "token": token, "moved": size}
            for i, (token, size) in enumerate(zip(tokens, sizes.tolist(), strict=True))
        ]
    return pd.DataFrame(rows)


def token_effects(lm: SteerableModel, prompt: Prompt, text: str, steer: Intervention) -> pd.DataFrame:
    """Where steering acts in a text: at each token, how much else the model expected there, and of this token.

    Prompt and text go through the model in one pass, with the edits where they would hold if the text were written
    after the prompt (`replay`).

    Args:
        lm: the model.
        prompt: one prompt.
        text: what comes after it.
        steer: the intervention.

    Returns:
        One row per token but the first: `position` (BOS is 0), `token`, `given` (whether it is the prompt's), its
        log-probability `plain` and `steered`, their difference `shift`, and `kl` = KL(steered || unsteered) of the
        distribution from which it comes; all in nats.

    Raises:
        ValueError: the text is empty, SARA as released, or what `lm.logits` and `lm.check` refuse.
    """
    if not text:
        raise ValueError("the text is empty: give what comes after the prompt")
    given = lm.ids(prompt)
    lm.check(steer, lm.batch(torch.tensor(given)))
    ids = continued(lm, given, text)
    row = torch.tensor(ids)
    scores = lm.logits([row, row], [None, replay(steer, len(given), len(ids) - len(given))], position="all").cpu()
    plain, steered = scores.log_softmax(-1)[:, :-1].gather(-1, row[None, 1:, None].expand(2, -1, -1))[..., 0]
    divergence = kl(scores[1, :-1], scores[0, :-1])
    return pd.DataFrame(
        {
            "position": range(1, len(ids)),
            "token": lm.tokens(row)[1:],
            "given": [position < len(given) for position in range(1, len(ids))],
            "plain": plain.numpy(),
            "steered": steered.numpy(),
            "shift": (steered - plain).numpy(),
            "kl": divergence.numpy(),
        }
    )


def replay(steer: Intervention, prompt: int, text: int) -> Intervention:
    """An intervention for one pass over a prompt and a text, which edits what it would have while the text was written.

    Then "prompt" edits hold for the prompt alone, "decode" edits for the text alone, and those at the "back" at the
    prompt's end.

    Args:
        steer: as it is given to `lm.generate`.
        prompt: tokens of the prompt, BOS included.
        text: tokens of the text.

    Raises:
        ValueError: SARA as released, which compares each pass as a whole.
    """
    return Intervention([(site, _tied(edit, prompt, text)) for site, edit in steer.edits], steer.info)


def _tied(edit: Edit, prompt: int, text: int) -> Edit:
    """An edit tied to the positions at which it would hold."""
    if edit.references:
        raise ValueError("SARA as released compares each pass as a whole: no single pass replays it")
    if edit.anchor == "front":
        return edit
    if edit.anchor == "back":
        return replace(edit, anchor="front", start=prompt - edit.length)
    first, count = {"prompt": (0, prompt), "decode": (prompt, text), "all": (0, prompt + text)}[edit.when]
    gain = next(iter(edit.tensors.values())).new_zeros(1, 1) if edit.gain is None else edit.gain
    return replace(edit, gain=gain.expand(count, -1), anchor="front", start=first, when="prompt")


def _top(lm: SteerableModel) -> Callable[[Tensor], Tensor]:
    """What makes logits of the last stream: final norm, unembedding, and a scale or cap where there is one."""
    decoder, config = lm.hf.get_submodule(lm.layout.blocks.rpartition(".")[0]), lm.hf.config.get_text_config()
    norms = [module for name, module in decoder.named_children() if "norm" in name or name.startswith("ln_")]
    head = lm.hf.get_output_embeddings()
    scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2

    def top(stream: Tensor) -> Tensor:
        return capped(scale * head(norms[-1](stream) if norms else stream), cap)

    return top
