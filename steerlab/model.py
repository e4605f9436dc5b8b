"""A causal language model to read, edit and generate with. With `remote.py` the only file that imports nnsight.

Every trace lives in a small function of `passes.py`, because nnsight re-runs the source of its `with` block: users pass
prompts, interventions and tensors, never blocks, and one lock per model makes threads and widgets wait, not crash.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, reduce
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd
import torch
import transformers
from jaxtyping import Float
from nnsight import TransformersModel
from torch import Tensor

from . import identity, passes, scoring
from .activations import Activations
from .completions import Sampling, as_frame, completed, completion_call
from .intervention import Intervention, Stack, Steer, per_row, stack_rows
from .jobs import Jobs, Local, Runner
from .layout import Layout, find_entrance
from .passes import Call, Tap, like
from .prompts import Batch, Prompt, Prompts, as_list, as_one, chat_text, encode, is_chat, special_prefix
from .sampling import check_options, finite
from .sharing import portable_name
from .site import Site

warnings.filterwarnings("ignore", message=r".*was never reached: the loop asked for a step")
# nnsight wraps a model in a pipeline, which complains of those that read images too, and is not used.
logging.getLogger("transformers.pipelines.base").addFilter(lambda record: "is not supported" not in record.getMessage())

SHOWN = (
    *("activations", "batch", "collect", "d_model", "device", "dry_run", "dtype", "encode", "generate", "hf", "layout"),
    *("logits", "logprobs", "n_layers", "n_vocab", "name", "remote", "submit", "together", "tokenizer", "tokens"),
)
"""What `dir(lm)`, and so the Tab key, shows."""


class SteerableModel(Jobs):
    """A transformers causal LM with names for its activations; made by `steerlab.load`.

    The weights are frozen and never changed: an intervention is given to each call.
    """

    def __init__(
        self,
        hf: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        layout: Layout,
        name: str,
        revision: str | None,
        runner: Runner | None = None,
        bos: bool | None = None,
        asked: str | None = None,
    ) -> None:
        """Wrap a loaded model; use `steerlab.load`, which checks what it is given."""
        self.hf: transformers.PreTrainedModel = hf.requires_grad_(False)
        self.hf.train(False)
        self.tokenizer = tokenizer
        self.layout = layout
        self.name = name
        self.revision = revision
        self.prefix = special_prefix(tokenizer, bos)
        self.lock = threading.RLock()
        self.runner = runner or Local(self.device)
        place = {"device": "meta", "revision": asked} if hf.device.type == "meta" else {}
        self._traced = TransformersModel(hf, tokenizer=_twin(tokenizer), **place)
        self._blocks = _follow(self._traced, layout.blocks)
        self.top = self._find_top()

    def __repr__(self) -> str:
        """Name, size, device and dtype in one line."""
        dtype = str(self.dtype).removeprefix("torch.")
        shape = f"{self.n_layers} layers x {self.d_model}"
        return f"SteerableModel({self.name}: {self.n_params / 1e6:.1f}M parameters, {shape}, {self.runner}, {dtype})"

    def __dir__(self) -> list[str]:
        """What a notebook is to be shown; what carries the calls is left out."""
        return [name for name in super().__dir__() if name in SHOWN or name.startswith("__")]

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.hf.get_submodule(self.layout.blocks))

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.hf.config.get_text_config().hidden_size)

    @property
    def n_vocab(self) -> int:
        """Number of tokens that the model has logits for."""
        return int(self.hf.config.get_text_config().vocab_size)

    @cached_property
    def n_params(self) -> int:
        """Number of parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.hf.parameters())

    @property
    def device(self) -> torch.device:
        """Where the inputs go; those of a model without weights travel from the CPU."""
        return torch.device("cpu" if self.hf.device.type == "meta" else self.hf.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations."""
        return self.hf.dtype

    @cached_property
    def tokenizer_hash(self) -> str:
        """A hash of the vocabulary."""
        return identity.tokenizer_hash(self.tokenizer)

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of the weights; None where they are elsewhere."""
        return identity.fingerprint(self.hf)

    def info(self, **more: Any) -> Mapping[str, Any]:
        """What an intervention made with this model carries: what tells the model from others, versions, and `more`."""
        versions = {package: version(package) for package in ("steerlab", "torch", "transformers", "nnsight")}
        this = {"model": portable_name(self.name), "revision": self.revision, "tokenizer": self.tokenizer_hash}
        return MappingProxyType(this | {"weights": self.fingerprint, "versions": versions} | more)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text without BOS."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as the model reads it; see `batch`."""
        return encode(self.tokenizer, as_one(prompt), self.prefix)

    def text(self, prompt: Prompt) -> str:
        """A prompt as text: a chat as its template writes it."""
        only = as_one(prompt)
        if is_chat(only):
            return chat_text(self.tokenizer, only)
        return only if isinstance(only, str) else str(self.tokenizer.decode(self.ids(only)))

    def tokens(self, prompt: Prompt) -> list[str]:
        """The tokens of a prompt as text, BOS included: what the positions of an edit count."""
        return [str(self.tokenizer.decode([token])) for token in self.ids(prompt)]

    def batch(self, prompts: Prompts, new: int = 1) -> Batch:
        """Prompts as left-padded ids.

        Text begins with what the tokenizer itself puts there (BOS as a rule; `load(bos=)` says otherwise), once: text
        that begins with it already is left alone. Messages go through the chat template, which adds the opening of the
        answer. Ids are taken as they are, those of a tokenizer's encoding without their padding.

        Args:
            prompts: one or more.
            new: how many tokens the model's context must have room for; the last is never fed back.

        Raises:
            TypeError: what is given is no prompt.
            ValueError: there is no prompt, or one is empty, too long for the model's context, not of its tokens, or a
                chat for a tokenizer without a template.
        """
        listed = as_list(prompts)
        rows = [self.ids(prompt) for prompt in listed]
        self.check_prompts(listed, rows, new)
        return Batch.of(rows, self.filler, self.device)

    @cached_property
    def filler(self) -> int:
        """A token for padding: since the mask hides it, any that the model has will do."""
        wanted = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((int(token) for token in wanted if token is not None and 0 <= token < self.n_vocab), 0)

    def activations(self, prompts: Prompts, sites: Site | Sequence[Site], steer: Steer = None) -> Activations:
        """Activations at sites, after the edits of `steer`; nothing is computed above the last site.

        Args:
            prompts: one or more.
            sites: one or more.
            steer: nothing, one intervention, or one per prompt.

        Returns:
            Activations by site, [batch, pos, d_model] in the model's dtype, left-padded.

        Raises:
            ValueError: a layer out of range, or what `check` refuses.
        """
        asked = sorted({sites} if isinstance(sites, Site) else set(sites))
        if not asked:
            raise ValueError("no sites given: name at least one, such as Site('resid_pre', 0)")
        counted = self.check_layers(asked)
        wanted = sorted(set(counted))
        batch = self.batch(prompts)
        stacks = self.check(steer, batch)
        taps = self.taps({site: stack for site, stack in stacks.items() if not wanted[-1] < site}, wanted)
        gives = [like(*batch.ids.shape, self.d_model, dtype=self.dtype)] * len(wanted)
        args = (batch.plain, taps, self._needs_grad(stacks), not self.runner.at_once)
        (kept,) = self.run([Call(passes.activations, args, gives)])
        values = dict(zip(wanted, kept, strict=True))
        return Activations({site: values[own] for site, own in zip(asked, counted, strict=True)}, batch.mask)

    def logits(
        self, prompts: Prompts, steer: Steer = None, *, position: Literal["last", "all"] = "last"
    ) -> Float[Tensor, "batch *pos vocab"]:
        """Next-token logits in float32, differentiable in the tensors of `steer` that require a gradient.

        Args:
            prompts: one or more.
            steer: nothing, one intervention, or one per prompt.
            position: "last" gives [batch, vocab] after each prompt, "all" gives [batch, pos, vocab], left-padded.

        Raises:
            ValueError: what `batch` and `check` refuse.
        """
        if position not in ("last", "all"):
            raise ValueError(f"position={position!r} is unknown: choose last or all")
        batch = self.batch(prompts)
        logits = finite(self.forward(batch, self.check(steer, batch), position))
        return logits[:, -1] if position == "last" else logits

    def forward(
        self, batch: Batch, stacks: Mapping[Site, list[Stack]], position: Literal["last", "all"]
    ) -> Float[Tensor, "batch pos vocab"]:
        """`logits` for a batch and stacks that are ready: what a loop calls at each step."""
        (logits,) = self.run([self.logits_call(batch, stacks, position)])
        return logits.float()

    def logprobs(
        self, texts: Prompts, steer: Steer = None, *, given: Prompts | None = None, batch_size: int = 16
    ) -> pd.DataFrame:
        """Log-probabilities in nats of the tokens of given texts.

        Args:
            texts: what to score.
            steer: nothing, one intervention, or one per text.
            given: a prompt for each text, which is then its continuation; only the text is scored.
            batch_size: rows of one forward pass.

        Returns:
            One row per scored token: `row`, `position` (BOS is 0), `token`, `logprob`.

        A text goes through the model in one pass, its prompt with it. So "prompt" and "all" edits hold for both and
        "decode" edits for neither, and "front" and "back" are those of prompt and text together.

        Raises:
            ValueError: prompts and texts differ in number, or what `batch` and `check` refuse.
        """
        return scoring.logprobs(self, texts, steer, given, batch_size)

    def generate(
        self,
        prompts: Prompts,
        steer: Steer = None,
        *,
        n: int = 1,
        max_new_tokens: int = 40,
        temperature: float = 1.0,
        top_p: float = 1.0,
        frequency_penalty: float = 0.0,
        seed: int = 0,
        batch_size: int = 64,
        **options: Any,
    ) -> pd.DataFrame:
        """Completions, by `transformers.generate`.

        The noise of a row depends on the seed, the ids of its prompt and the number of its sample alone. So a row is
        the same in any batch (in float32: lower precision rounds otherwise in other batches), prompts are drawn
        independently, and samples that differ only in `steer` share their noise, which makes them comparable.

        Of the checkpoint's own generation config the tokens that end a completion hold, and the tokenizer's beside
        them; all else of it (temperature, penalties, forced or suppressed tokens, lengths, beams, the cache) does not.
        Padding is masked and never ends a completion, whatever token it is.

        Args:
            prompts: one or more.
            steer: nothing, one intervention, or one per prompt; its edits hold on the passes that their `when` says.
            n: samples of each prompt.
            max_new_tokens: length at which a completion is cut; it may end earlier.
            temperature: of the softmax; 0 is greedy.
            top_p: nucleus.
            frequency_penalty: subtracted from a token's logit for each time it stands in prompt or completion.
            seed: of the sampling.
            batch_size: rows of one run.
            options: others of `transformers.generate` that shift logits or end a completion, such as
                `repetition_penalty`; see `steerlab.sampling.ALLOWED`.

        Returns:
            One row per completion: `row` (of its prompt), `prompt`, `sample`, `completion`, `n_tokens`, `seed`.

        Raises:
            ValueError: what `batch` and `check` refuse, an option outside its range or not open, or logits that are
                not finite.
        """
        check_options({}, n=n, batch_size=batch_size)
        sampling = Sampling(max_new_tokens, temperature, top_p, frequency_penalty, seed, options)
        listed = as_list(prompts)
        ids = [self.ids(prompt) for prompt in listed]
        self.check_prompts(listed, ids, max_new_tokens)
        interventions = self.check_steer(steer, ids)
        if any(intervention is not None and intervention.one_by_one for intervention in interventions):
            batch_size = 1
        rows = [(row, sample) for row in range(len(ids)) for sample in range(n)]
        calls = (
            completion_call(
                self,
                [ids[row] for row, _ in chunk],
                [interventions[row] for row, _ in chunk],
                [sample for _, sample in chunk],
                sampling,
            )
            for chunk in (rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
        )
        new = [tokens for batch in self.run(calls) for tokens in completed(self, batch, sampling)]
        return as_frame(self, listed, rows, new, seed)

    def check(self, steer: Steer, batch: Batch, first: int = 0) -> dict[Site, list[Stack]]:
        """Everything that can be wrong with an intervention, said before the model runs; returns it stacked.

        Args:
            steer: nothing, one intervention, or one per row.
            batch: the prompts.
            first: the number by which the first of them is called.

        Raises:
            TypeError: something else than interventions.
            ValueError: what `check_steer` refuses, or SARA as released for several rows.
        """
        self.check_steer(steer, batch.rows, first)
        unresolved = stack_rows(steer, len(batch.ids))
        stacks: dict[Site, list[Stack]] = {}
        for site, stacked in zip(self.check_layers(unresolved), unresolved.values(), strict=True):
            stacks.setdefault(site, []).extend(stacked)
        return stacks

    def check_steer(self, steer: Steer, rows: Sequence[Sequence[int]], first: int = 0) -> list[Intervention | None]:
        """The intervention of each row, none of which does not fit the model or the row's token ids; see `check`.

        Raises:
            TypeError: something else than interventions.
            ValueError: a list of another length than the rows, a layer out of range, tensors of another width, with NaN
                or infinite values, or for more positions than the prompt has.
        """
        interventions = per_row(steer, len(rows))
        for intervention in {id(steering): steering for steering in interventions if steering is not None}.values():
            self.check_intervention(intervention)
        for row, steering in enumerate(interventions):
            for site, edit in steering.edits if steering is not None else ():
                if edit.anchor != "all" and edit.start + edit.length > len(rows[row]):
                    raise ValueError(
                        f"prompt {first + row} has {len(rows[row])} tokens, fewer than the {edit.start + edit.length} "
                        f"positions of the intervention at {site}: use a longer prompt or a shorter steering prompt"
                    )

        return interventions

    def check_intervention(self, intervention: Intervention) -> None:
        """Refuse layers out of range, and tensors of another width or that are not finite numbers.

        Raises:
            ValueError: one is so.
        """
        self.check_layers(intervention.sites)
        for site, edit in intervention.edits:
            if edit.width not in (1, self.d_model):
                raise ValueError(
                    f"the intervention at {site} has width {edit.width}, {self.name} has {self.d_model}: "
                    "it was made for another model"
                )
            if not all(bool(torch.isfinite(tensor).all()) for tensor in edit.tensors.values()):
                raise ValueError(f"the intervention at {site} holds NaN or infinite values: all must be finite")

    def check_prompts(self, prompts: Sequence[Prompt], rows: Sequence[list[int]], new: int = 1) -> None:
        """Refuse what is no prompt of this model; see `batch`."""
        if not rows:
            raise ValueError("no prompts given: one at least is needed")
        context = getattr(self.hf.config.get_text_config(), "max_position_embeddings", None) or math.inf
        vocabulary = self.n_vocab
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
            if len(prompt) == 0 or not row:
                raise ValueError(f"prompt {i} is empty ({prompt!r}): it needs at least one token")
            if not 0 <= min(row) <= max(row) < vocabulary:
                odd = next(token for token in row if not 0 <= token < vocabulary)
                raise ValueError(f"prompt {i} holds token id {odd}: {self.name} has ids 0 to {vocabulary - 1}")
            if len(row) + new - 1 > context:
                more = f" and {new} new ones" if new > 1 else ""
                raise ValueError(f"prompt {i} has {len(row)} tokens{more}: {self.name} has a context of {context}")

    def check_layers(self, sites: Iterable[Site]) -> list[Site]:
        """The sites in this model, their layers counted from 0: -1 is the last.

        Raises:
            ValueError: a layer is out of range.
        """
        listed, count = list(sites), self.n_layers
        for site in listed:
            if not -count <= site.layer < count:
                known = f"{self.name} has layers 0 to {count - 1}"
                counted = f", or -{count} to -1 from the end" if site.layer < 0 else ""
                raise ValueError(f"layer {site.layer} is out of range: {known}{counted}")
            if self.layout.attn is None and site.place in ("attn_out", "mlp_out"):
                raise ValueError(
                    f"{site} is no sublayer's output in {self.name}, where resid_pre + attn_out + mlp_out = resid_post "
                    "does not hold: use resid_pre or resid_post"
                )
        return [Site(site.place, site.layer % count) for site in listed]

    def logits_call(self, batch: Batch, stacks: Mapping[Site, list[Stack]], position: Literal["last", "all"]) -> Call:
        """What `forward` gives to `run`: logits, [batch, 1, vocab] or [batch, pos, vocab]."""
        last, width = position == "last", batch.ids.shape[1]
        gives = like(len(batch.ids), 1 if last else width, self.n_vocab, dtype=self.dtype)
        return Call(passes.logits, (batch.plain, self.taps(stacks), last, self._needs_grad(stacks)), gives)

    def _needs_grad(self, stacks: Mapping[Site, list[Stack]]) -> bool:
        """Whether a tensor of the stacks is being learned here."""
        every = (stack[name] for site in stacks.values() for stack in site for name in ("shift", "gain", "probe"))
        wanted = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in every)
        if wanted and self.runner.at_once:
            raise ValueError(
                "a tensor of the intervention requires a gradient, which does not travel: use steerlab.fit"
            )
        return wanted

    def _find_top(self) -> tuple[Any, Any, float | None] | None:
        """The module above the blocks, the head, and the cap of the logits; None where the tree does not show them."""
        output = self.hf.get_output_embeddings()
        head = next((name for name, module in self.hf.named_modules() if module is output), "")
        decoder = self.layout.blocks.rpartition(".")[0]
        if not (decoder and head):
            return None
        cap = getattr(self.hf.config.get_text_config(), "final_logit_softcapping", None)  # Gemma 2's
        return _follow(self._traced, decoder), _follow(self._traced, head), cap

    def _tap(self, site: Site) -> tuple[Any, bool]:
        """The nnsight envoy of a site, and whether its input (rather than its output) is meant."""
        block = self._blocks[site.layer]
        if site.place == "resid_post":
            return block, False
        if site.place == "resid_pre":
            return self._entering(site.layer)
        return _follow(block, (self.layout.attn if site.place == "attn_out" else self.layout.mlp) or ""), False

    def _entering(self, layer: int) -> tuple[Any, bool]:
        """The tap of the stream that enters a block: the output of what comes before it.

        A block's own input is the last resort: what crosses to a server's sandbox with it is a copy of the whole
        key-value cache, to which the block then writes.
        """
        if layer:
            return self._blocks[layer - 1], False
        path = find_entrance(self.hf, self.hf.config.get_text_config().model_type)
        return (self._blocks[0], True) if path is None else (_follow(self._traced, path), False)

    def taps(self, stacks: Mapping[Site, list[Stack]], read: Sequence[Site] = (), *, cached: bool = False) -> list[Tap]:
        """(envoy, is_input, stacks, read?) for each site to visit, in the order of the forward pass.

        Raises:
            ValueError: with `cached`, for a pass that keeps keys and values on a server: a block's input is meant.
        """
        taps = [(*self._tap(site), stacks.get(site, []), site in read) for site in sorted({*stacks, *read})]
        if cached and any(is_input for _, is_input, _, _ in taps):
            raise ValueError(
                f"resid_pre.0 of {self.name} cannot be edited while a remote model writes, since no module's output is "
                "that stream: take layer 1 or above, or resid_post"
            )
        return taps


def _twin(tokenizer: transformers.PreTrainedTokenizerBase) -> transformers.PreTrainedTokenizerBase:
    """A tokenizer for nnsight, which sets its padding; the fields are the same objects, dicts apart."""
    twin = copy.copy(tokenizer)
    for name, value in vars(tokenizer).items():
        if type(value) is dict:
            setattr(twin, name, value.copy())
    return twin


def _follow(envoy: Any, path: str) -> Any:
    """The envoy at a dotted path."""
    return reduce(getattr, path.split("."), envoy)
