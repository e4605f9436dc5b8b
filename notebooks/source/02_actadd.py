# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · How do two prompts make a steering vector?
#
# Run a model on ` weddings`, run it on a space, subtract. Add the difference while the model reads something else
# entirely, and it starts to talk about weddings. That is *activation addition*, ActAdd for short: no training, no
# data, two forward passes.
#
# **Paper.** Turner et al., *Steering Language Models With Activation Engineering*, [arXiv
# 2308.10248](https://arxiv.org/abs/2308.10248).
#
# **After this notebook you can**
# 1. build a steering vector from a contrast pair by hand, and say what each of its rows is;
# 2. say exactly where, when and on which tokens it is added;
# 3. measure its effect against three controls, with intervals;
# 4. choose a layer and a strength from a sweep instead of by luck;
# 5. say what goes wrong when the strength is too high.
#
# **You need** notebooks 00 and 01. **Time:** two and a half minutes to run on a laptop with two cores.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; or a Hugging Face name such as "openai-community/gpt2-xl"
PROFILE = "quick"  # "paper": 200 completions for each setting, as in the paper
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown, display

import steerlab as sl
from steerlab import data, exercises, plots
from steerlab.experiments import actadd as experiments

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
LAYER = 2  # block whose input is steered; section 5 tries them all
WEDDING = data.topics()["weddings"]
PROMPT = "I went up to my friend and said"
lm

# %% [markdown]
# ## 1 · The idea, then the formula
#
# A language model that has just read *weddings* is in another state than one that has just read a space. If that
# difference is a direction in the residual stream, we can put the model into the wedding state without writing the
# word.
#
# With $h^\ell_+$ and $h^\ell_-$ the streams that enter block $\ell$ for the two prompts (one row for each of their
# $T_s$ tokens), and $c$ the strength:
#
# $$ h^\ell_{1:T_s} \;\leftarrow\; h^\ell_{1:T_s} + c\,\bigl(h^\ell_+ - h^\ell_-\bigr) $$
#
# In the table of all five methods (notebook 00) this fills in one column: the **shift** $a$.
#
# | detail | what the authors' code does | here |
# |---|---|---|
# | start token | BOS stands in front of both prompts | the same |
# | unequal lengths | the shorter prompt is padded on its right with spaces | the same |
# | which tokens | the first $T_s$ of the prompt, counted from the front | the same |
# | which pass | the pass over the prompt; later tokens feel it through the cache | `when="prompt"` |

# %% [markdown]
# ## 2 · By hand
#
# The two prompts have two tokens each: BOS and one more.

# %%
for prompt in (" weddings", " "):
    print(repr(prompt).ljust(14), lm.tokens(prompt))

# %% [markdown]
# Ten lines with a plain PyTorch hook, so that nothing is hidden.

# %%
block = lm.hf.get_submodule(lm.layout.blocks)[LAYER]
bos = lm.tokenizer.bos_token_id


def stream_into_block(ids: list[int]) -> torch.Tensor:
    """What enters the block, [tokens, d_model]."""
    seen = []
    hook = block.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    with torch.no_grad():
        lm.hf(torch.tensor([ids]))
    hook.remove()
    return seen[0]


by_hand = stream_into_block([bos, *lm.encode(" weddings")]) - stream_into_block([bos, *lm.encode(" ")])
by_hand.norm(dim=-1)

# %% [markdown]
# The first row is exactly zero. Both prompts begin with BOS, and in a decoder the first position sees nothing else.
# So the vector starts to act at position 1, on the first real token of your prompt.
#
# The package's call, and the assertion that both agree:

# %%
wedding = sl.actadd(lm, " weddings", " ", layer=LAYER)
[(site, edit)] = wedding.edits

torch.testing.assert_close(edit.shift, by_hand, rtol=1e-4, atol=1e-3)  # norms here are in the hundreds
print(site, tuple(edit.shift.shape), edit.when)

# %% [markdown]
# And adding it by hand gives the same logits as the package:

# %%
STRENGTH = 4


def add_by_hand(module, args):
    """The hook of the paper: add to the first positions of the prompt."""
    steered = args[0].clone()
    steered[:, : len(by_hand)] += STRENGTH * by_hand
    return (steered, *args[1:])


hook = block.register_forward_pre_hook(add_by_hand)
with torch.no_grad():
    expected = lm.hf(torch.tensor([[bos, *lm.encode(PROMPT)]])).logits[:, -1]
hook.remove()

torch.testing.assert_close(lm.logits(PROMPT, STRENGTH * wedding), expected, rtol=1e-4, atol=1e-3)
print("the package and the hook agree")

# %% [markdown]
# ## 3 · Steer
#
# One intervention for each row of a batch: row 0 is left alone, row 1 is steered. Samples are drawn with the same
# noise in both rows, so a difference between them comes from the vector.

# %% tags=["tour"]
samples = lm.generate([PROMPT, PROMPT], [None, STRENGTH * wedding], n=4, seed=SEED, top_p=0.9)
samples["condition"] = samples.row.map({0: "unsteered", 1: f"weddings, layer {LAYER}, strength {STRENGTH}"})
plots.completions_html(samples, words=WEDDING)

# %% [markdown]
# What happens to the very next token? After *said* comes a comma, whatever the topic. So we ask where the topic shows.

# %%
NEXT = "I went to see the"
plots.next_token_bars(lm, NEXT, STRENGTH * wedding, k=8)
plt.show()

# %% [markdown]
# ## 4 · Play
#
# Change the pair, the layer, the strength. The bars follow the slider; the button writes completions. Try a strength
# of 0, a negative one, and one that is far too high.

# %%
from steerlab.widgets import playground

start = {"plus": " weddings", "minus": " ", "layer": LAYER, "strength": STRENGTH, "prompt": NEXT, "seed": SEED}
panel = playground(lm, words=WEDDING, **start)
panel

# %% [markdown]
# The same panel as a static picture:

# %%
panel.figure()
plt.show()

# %% [markdown]
# ## 5 · Which layer, how strong? The sweep, with controls
#
# One good completion proves nothing. The paper samples 200 completions of *I went up to my friend and said* for each
# layer and counts those with at least one of nine wedding words. We do the same over all layers and several
# strengths, against three controls:
#
# - **zero**: the same call with strength 0, which is the unsteered model;
# - **random**: a random vector with the same norm at each position, at every layer and strength;
# - **prompt only**: ` weddings` simply written in front of the prompt.
#
# > **Predict first.** Which layers will work best: early, middle, late? Will a random vector of the same norm do
# > anything to the *count of wedding words*? And to the text? Write it down before you run the next cell.

# %%
N = 200 if PROFILE == "paper" else 40
COEFFICIENTS = (1, 2, 4, 8)
sweep = experiments.layer_sweep(lm, coefficients=COEFFICIENTS, n=N, seed=SEED)
shares = experiments.summarise(sweep)
plots.shares_by_layer(shares)
plt.show()

# %%
steered = shares[shares.condition == "steered"]
best = steered.loc[steered["share"].idxmax()]
control = {name: shares[shares.condition == name] for name in ("zero", "random", "prompt")}


def interval(row: pd.Series) -> str:
    """A share with its 95 % interval."""
    return f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"


zero, prompted = control["zero"].iloc[0], control["prompt"].iloc[0]
worst_random = control["random"].loc[control["random"]["share"].idxmax()]
display(
    Markdown(
        f"""
| completions with a wedding word | paper, GPT-2-XL (c = 1, l = 6) | measured here, n = {N} |
|---|---|---|
| steered, best setting | over 90 % | **{interval(best)}** (layer {best.layer:.0f}, c = {best.coefficient:.0f}) |
| zero | about 2 % | {interval(zero)} |
| random vector, its best setting | not reported for this count | {interval(worst_random)} |
| prompt only | not reported for this count | {interval(prompted)} |
"""
    )
)

# %% [markdown]
# The best of many settings is a little flattered by having been picked. So we draw new completions at that setting,
# with another seed:

# %%
again = experiments.layer_sweep(lm, layers=[int(best.layer)], coefficients=[best.coefficient], n=200, seed=SEED + 1)
fresh = experiments.summarise(again)
display(fresh[["condition", "layer", "coefficient", "n", "share", "low", "high"]].round(3))

# %% [markdown]
# ### Why these layers?
#
# GPT-2-XL can be steered from its first blocks on, best at the 6th of 48, and ever less above. Where does the bundled
# model stop listening, and why? The opposite experiment tells. Write ` weddings` in front of the prompt, so that the
# model *is* in its wedding state, and then take the vector away again, at the same position, at each layer in turn.
#
# > **Predict first.** If block 3 still needed the word at position 1, what would removing it there do?

# %%
headed = " weddings " + PROMPT
removal = pd.concat(
    lm.generate(headed, -1 * vector, n=40, seed=SEED, **experiments.PAPER_SAMPLING).assign(layer=layer)
    for layer, vector in enumerate(sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(lm.n_layers))
)
removed = experiments.summarise(experiments.count_topic_words(removal, WEDDING), by=["layer"])
plots.lines(
    removed, "layer", "share", labels=("layer at which the word is taken away", "completions with a wedding word")
)
plt.ylim(0, 1)
plt.show()

# %% [markdown]
# Below the step in this curve position 1 is still read: disturb it there and the topic is lost. Above it, the later
# positions have read it and carry it on themselves. That explains why late layers do nothing. It does not explain the
# early ones: every block below the step listens to position 1, but the sweep did not find them all alike. Why?
#
# ### What to subtract?
#
# The vector lies *over* the prompt's first word, ` I`. What the later positions see is
# $h_{\text{I}} + c\,(h_{\text{weddings}} - h_{\text{space}})$. That is not the state of ` weddings`, whatever $c$ is:
# the space is taken away, but it is not what stood there. How near does it come?

# %%
streams = lm.activations([PROMPT, " weddings", " "], [sl.Site("resid_pre", layer) for layer in range(lm.n_layers)])
nearness = []
for layer in range(lm.n_layers):
    word, weddings, space = (streams.row(row, sl.Site("resid_pre", layer))[1] for row in range(3))
    for coefficient in COEFFICIENTS:
        steered_state = word + coefficient * (weddings - space)
        cosine = torch.nn.functional.cosine_similarity(steered_state, weddings, dim=0)
        nearness.append({"layer": layer, "coefficient": coefficient, "cosine": float(cosine)})
axes = ("layer", "cosine of the steered state with the word's")
plots.lines(pd.DataFrame(nearness), "layer", "cosine", by="coefficient", labels=axes)
plt.show()

# %% [markdown]
# Compare with the sweep: does it work best where the steered state comes nearest? (A low cosine need not mean failure,
# nor a high one success. It is a hint at a cause, and the next experiment tests it.)
#
# Subtract what actually stands there, ` I`, and at $c = 1$ the state at position 1 *becomes* that of ` weddings`.
#
# > **Predict first.** With ` I` in place of the space, which layers and strengths will work?

# %%
against_i = experiments.layer_sweep(lm, minus=" I", coefficients=(1, 2), n=N // 2, seed=SEED)
plots.shares_by_layer(experiments.summarise(against_i), title="' weddings' − ' I'")
plt.show()

# %% [markdown]
# The contrast prompt is half of the vector. The paper's space is a fair default for a prompt that you do not know; the
# word that you overlay is the better one where you know it. It also shows what steering at the front is on this model:
# at $c = 1$ little more than exchanging the first word, seen from the block where it is done.

# %% [markdown]
# ### Read the text, not only the count
#
# A count says nothing about quality. Here are unselected completions at that setting: the first three of each kind.

# %%
shown = again[(again["sample"] < 3) & again.condition.isin(["zero", "steered", "random", "prompt"])]
plots.completions_html(shown, words=WEDDING)

# %% [markdown]
# ## 6 · What is in the vector?
#
# Two questions that a careful reader asks. How large is the vector compared with the stream that it is added to? And
# is it merely the token ` weddings`, handed on from layer to layer?

# %%
sites = [sl.Site("resid_pre", layer) for layer in range(lm.n_layers)]
stream = lm.activations(PROMPT, sites)
vectors = [sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(lm.n_layers)]
rows = torch.stack([vector.edits[0][1].shift[1] for vector in vectors])
streams = [stream.row(0, site)[1:].norm(dim=-1).mean() for site in sites]
relative = [float(row.norm() / mean) for row, mean in zip(rows, streams, strict=True)]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.plot(relative, marker="o")
left.set(xlabel="layer", ylabel="‖vector‖ / mean ‖stream‖", title="Size at c = 1", ylim=(0, None))
cosine = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
image = right.imshow(cosine, vmin=0, vmax=1, cmap="cividis")
right.set(xlabel="layer", ylabel="layer", title="Cosine between the layers' vectors")
figure.colorbar(image, ax=right)
plt.show()

# %% [markdown]
# ## 7 · The fine print: place, passes, padding
#
# **Front, back, or room of its own.** At the front the vector lies over the prompt's first words. `make_room` puts
# spaces in after BOS, so that it lies over those instead. At layer 0 this has an exact meaning: adding $h_+ -
# h_{\text{space}}$ to a space *is* writing the word.

# %%
at_zero = sl.actadd(lm, " weddings", " ", layer=0)
with_room = sl.make_room(lm, PROMPT, at_zero)
typed = lm.logits([torch.tensor([bos, *lm.encode(" weddings"), *lm.encode(PROMPT)])])

torch.testing.assert_close(lm.logits(with_room, at_zero), typed, rtol=1e-4, atol=1e-3)
print("at layer 0, adding the vector to a space is the same as typing the word")

# %% [markdown]
# So at layer 0 and strength 1 steering *is* prompting, over the prompt's first word instead of in front of it. What
# typing can't do is the rest: other strengths, the opposite, sums of vectors, and every layer above. The variants at
# the best setting:

# %%
setting = {"layer": int(best.layer), "coefficient": float(best.coefficient)}
variants = {
    "front": (PROMPT, sl.actadd(lm, " weddings", " ", **setting)),
    "room of its own": (sl.make_room(lm, PROMPT, 1)[0], sl.actadd(lm, " weddings", " ", **setting)),
    "back": (PROMPT, sl.actadd(lm, " weddings", " ", position="back", **setting)),
    "one vector, all positions": (PROMPT, sl.actadd(lm, " weddings", " ", vector="last", **setting)),
    "one vector, every pass": (PROMPT, sl.actadd(lm, " weddings", " ", vector="last", when="all", **setting)),
}
places = pd.concat(
    lm.generate(prompt, steer, n=N, seed=SEED, **experiments.PAPER_SAMPLING).assign(condition=name)
    for name, (prompt, steer) in variants.items()
)
experiments.summarise(experiments.count_topic_words(places, WEDDING), by=["condition"]).round(3)

# %% [markdown]
# **Passes.** `when="prompt"` edits one pass only. The completion is steered all the same, because every later token
# attends to the edited positions through the cache. `when="all"` pushes at each new token as well: a much stronger
# dose at the same strength.
#
# **Penalty.** The paper samples with a *frequency penalty*: a token's logit falls by $c$ for each time it has come.
# That is not the repetition penalty of `transformers`, which divides, once. `lm.generate(..., frequency_penalty=1.0)`
# is the paper's.

# %% [markdown]
# ## 8 · Exercises
#
# **8.1 · Add at the front, with padding.** ●●○ about 10 minutes. In a batch, shorter prompts are padded on the
# *left*. Write the function that adds a vector of $T_s$ rows to the first $T_s$ *real* tokens of each row.

# %%


def add_at_front(h: torch.Tensor, vector: torch.Tensor, pad: torch.Tensor) -> torch.Tensor:
    """h: [batch, pos, d_model], vector: [T_s, d_model], pad: [batch], padding tokens at the left of each row."""
    return h  # your code here


exercises.check_add_at_front(add_at_front)

# %% [markdown]
# <details><summary>Hint</summary>Row <code>b</code> begins at column <code>pad[b]</code>. Loop over rows, then try
# <code>pad[:, None] + torch.arange(T_s)</code> as an index.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def add_at_front(h, vector, pad):
#     out = h.clone()
#     columns = pad[:, None] + torch.arange(len(vector))
#     rows = torch.arange(len(h))[:, None]
#     out[rows, columns] += vector
#     return out
# ```
#
# </details>
#
# **8.2 · A pair of your own.** ●○○ about 5 minutes. Choose a topic from `data.topics()`, a pair, a layer and a
# strength, such that more completions hold a word of the topic than without steering. The checker draws 60
# completions of each.

# %%
my_topic = "ships"
my_steer = sl.actadd(lm, " ships", " ", layer=2, coefficient=0.0)  # change the layer and the strength

exercises.check_topic_shift(lm, my_steer, data.topics()[my_topic], prompt=PROMPT)

# %% [markdown]
# <details><summary>Hint</summary>The sweep above says which layers listen to the front of the text. Strength 0 does
# nothing.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# my_steer = sl.actadd(lm, " ships", " ", layer=int(best.layer), coefficient=float(best.coefficient))
# ```
#
# </details>
#
# ## 9 · What could be wrong?
#
# - **Any push might do it.** That is what the random vector of equal norm is for. Look at its line in the sweep.
# - **The prompt alone might do it.** Writing the word is the honest rival, and it costs no forward pass to build.
#   Where the prompt does better, say so.
# - **The best of many settings is lucky.** So its share was drawn again with another seed.
# - **A word count is not meaning.** A text that repeats *wedding* forty times scores full marks. Read the samples.
# - **This model is small and was raised for the purpose.** It was trained on texts whose first words name their topic
#   (`steerlab/bundled/README.md`). That steering works here says how it works, not how well it works on a large
#   model.
#
# **Next:** 00 has the map of the course. **Open questions:** Why do some layers not listen? What does the vector do
# to text that has nothing to do with weddings? Does the same word make a good vector in another language?
