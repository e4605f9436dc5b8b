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
# 5. say when a push is too strong, and what goes wrong then.
#
# **You need** notebooks 00 and 01.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; "gemma-3-270m" is the real one; or any Hugging Face name
PROFILE = "quick"  # "paper": 200 completions for each setting, as in the paper
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display

import steerlab as sl
from steerlab import data, diagrams, exercises, plots
from steerlab.experiments import actadd as experiments
from steerlab.experiments import beside, ledger, results

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
# In the table of all five methods (notebook 00) this fills in one column: the **shift** $a$. In a picture: two tokens,
# one layer, one pass.

# %%
picture = sl.actadd(lm, " weddings", " ", layer=LAYER)
diagrams.intervention(lm, picture, PROMPT, title="ActAdd: a vector on the first tokens, once")
plt.show()

# %% [markdown]
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
STRENGTH = 2


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
# What happens to the very next token? After "said" the model always writes a comma, so we take a prompt whose next word
# can be about weddings. The bars are the tokens that change most.

# %%
NEXT = "She told me all about the"
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
# ## 5 · Which layer, how strong? The sweep, with controls
#
# One good completion proves nothing. The paper samples 200 completions of *I went up to my friend and said* for each
# layer and counts those with at least one of nine wedding words (`WEDDING`). We do the same over all layers and several
# strengths $c$, which the code calls `coefficient`, against three controls:
#
# - **zero**: the same call with strength 0, which is the unsteered model;
# - **random**: a random vector with the same norm at each position, at every layer and strength;
# - **prompt only**: ` weddings` simply written in front of the prompt.
#
# > **Predict first.** Which layers will work best: early, middle, late? Will a random vector of the same norm do
# > anything to the *count of wedding words*? And to the text? Write it down before you run the next cell.

# %%
N = 200 if PROFILE == "paper" else 16
COEFFICIENTS = (1, 2, 4)
sweep = experiments.layer_sweep(lm, coefficients=COEFFICIENTS, n=N, seed=SEED)
shares = experiments.summarise(sweep)
for ax, rows in beside.axes(beside.tables("actadd_layer_sweep", lm, shares), size=(6.8, 3.8)):
    front = rows[rows["position"] == "front"] if "position" in rows else rows
    plots.shares_by_layer(front, ax=ax)
plt.show()

# %%
steered = shares[shares.condition == "steered"]
best = steered.loc[steered["share"].idxmax()]
prompted = shares[shares.condition == "prompt"].iloc[0]
display(best[["layer", "coefficient", "share", "low", "high", "n"]].to_frame("best").T)

# %%
ledger.box("ActAdd", "B")

# %% [markdown]
# The table comes from longer runs that were kept: the paper's number, that of a real model (Gemma 3 270M), and that of
# the bundled one. Brackets, bands and the columns *low* and *high* are 95 % intervals.
#
# **You should see**, in your own figure (on the right), one layer stand out. A vector into block 2 gives wedding words
# in every completion at c = 2 and in most at c = 4; into a block above it in none, and into one below it in a few at
# most. On Gemma (on the left) most layers can be steered, though neither the first nor the last. There the random
# vector gives next to no wedding words, and here none. It does change the *text*: read its column below.
#
# The best of many settings was picked because it was best, so its number is too good. Draw new completions at that
# setting, with another seed:

# %%
again = experiments.layer_sweep(
    lm, layers=[int(best.layer)], coefficients=[best.coefficient], n=200 if PROFILE == "paper" else 50, seed=SEED + 1
)
fresh = experiments.summarise(again)
display(fresh[["condition", "layer", "coefficient", "n", "share", "low", "high"]].round(3))

# %% [markdown]
# ### Then what is steering for?
#
# Look at the row *prompt*. Writing ` weddings` in front does as well as the vector, costs nothing to make, and
# everybody can do it. For *this* task on *this* model, type the word. A vector is for what typing can't do:
#
# - **a dose**: a strength between nothing and all of it, or below zero. A word is there or it isn't;
# - **mixtures**: `0.5 * wedding + 0.5 * ships`, or the mean of many pairs, none of which is a sentence;
# - **a place**: only at this layer, only at these tokens, only from now on. So it is also an instrument: *where* does a
#   model hold its topic? The next section uses it as one;
# - **what nobody can put into words**: a direction found by a gradient (05, 06) or in other texts;
# - **a prompt that is not yours to change**, or that the reader must not see.
#
# The strength is such a dose. The line shows the share of completions with a wedding word.

# %%
doses = [-2, 0, 0.5, 1, 1.5, 2, 4, 8]
dosed = pd.concat(
    lm.generate(PROMPT, c * wedding, n=N, seed=SEED, **experiments.PAPER_SAMPLING).assign(strength=c) for c in doses
)
by_dose = experiments.summarise(experiments.count_topic_words(dosed, WEDDING), by=["strength"])
plots.lines(by_dose, "strength", "share", labels=("strength", "completions with a wedding word"))
plt.axhline(prompted["share"], color="#777777", linestyle="--", linewidth=1)
plt.text(doses[0], prompted["share"] - 0.07, "the word typed in front", color="#777777")
plt.ylim(-0.02, 1.05)
plt.show()

# %% [markdown]
# **You should see** the share rise between c = 1 and c = 2, and stay near all of them. More does no harm here: only one
# token is changed, and each block normalises what it reads, so ever longer vectors look ever more alike. In notebook
# 00 the probability of *wedding* as the *next token* was highest at c = 1. That is another measure, with a best
# strength of its own.
#
# ### Why these layers?
#
# GPT-2-XL can be steered from its first blocks on, best at the 6th of 48, and ever less above. Where does the bundled
# model stop listening, and why? Do the opposite. Write ` weddings` in front of the prompt, so that the model *is* in
# its wedding state, and then take the vector away again, at the same position, at each layer in turn.
#
# > **Predict first.** If block 3 still needs the word at position 1, what will removing it there do?

# %%
headed = " weddings " + PROMPT
removal = pd.concat(
    lm.generate(headed, -1 * vector, n=N, seed=SEED, **experiments.PAPER_SAMPLING).assign(layer=layer)
    for layer, vector in enumerate(sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(lm.n_layers))
)
removed = experiments.summarise(experiments.count_topic_words(removal, WEDDING), by=["layer"])
plots.lines(
    removed, "layer", "share", labels=("layer at which the word is taken away", "completions with a wedding word")
)
plt.ylim(-0.03, 1.05)
plt.show()

# %% [markdown]
# **You should see** a step, between layers 3 and 4. Up to layer 3, position 1 is still read: take the word away there,
# and the topic is lost. From layer 4 on the later positions have read it and carry it on themselves, so removing the
# word changes nothing. That explains why late layers do nothing. It does not explain the early ones: blocks 0 to 3 all
# read position 1, yet only block 2 could be steered. Why?
#
# ### What to subtract?
#
# The vector lies *over* the prompt's first word, `I`. What the later positions see is
# $h_{\text{I}} + c\,(h_{\text{weddings}} - h_{\text{space}})$. That is not the state of ` weddings`, whatever $c$ is:
# a space is taken away, and it is not a space that stood there. How near does it come?

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
named = pd.DataFrame(nearness).assign(strength=lambda frame: frame["coefficient"].map("c = {:g}".format))
plots.lines(named, "layer", "cosine", by="strength", labels=axes)
plt.show()

# %% [markdown]
# It comes nearest at layer 2, the one that worked. (A low cosine need not mean failure, nor a high one success. It is a
# hint at a cause, and the next experiment tests it.)
#
# Subtract what actually stands there, `I` (as the first word, it has no space in front), and at $c = 1$ the state at
# position 1 *becomes* that of ` weddings`.
#
# > **Predict first.** With `I` in place of the space, which layers and strengths will work?

# %%
against_i = experiments.layer_sweep(lm, minus="I", coefficients=(1, 2), n=N // 2, seed=SEED)
plots.shares_by_layer(experiments.summarise(against_i), title="' weddings' − 'I'")
plt.show()

# %% [markdown]
# **You should see** every completion steered at layers 0 to 2, with both strengths. The contrast prompt is half of the
# vector. The paper's space is a fair default for a prompt that you do not know; the word that you overlay is better
# where you know it. It also shows what steering at the front is: at $c = 1$ it replaces the first word, for the blocks
# from there on.

# %% [markdown]
# ### Read the text, not only the count
#
# A count says nothing about quality. Here are unselected completions at that setting: the first three of each kind.

# %%
shown = again[(again["sample"] < 3) & again.condition.isin(["zero", "steered", "random", "prompt"])]
plots.completions_html(shown, words=WEDDING)

# %% [markdown]
# ### On a real model: the gallery
#
# What everybody remembers of ActAdd are its samples. Here are the twelve vectors that the authors released for
# GPT-2-XL, now on Gemma 3 270M: their strengths, the same relative depths, three unselected completions each. Unsteered
# is on the left, steered on the right, with the vector's words marked. Nothing was tuned for this model, and what fails
# is shown too.
#
# > **Predict first.** Which of the twelve will work on a model six times smaller than theirs?

# %%
gallery = results.find("actadd_gallery", beside.REAL)
words = {vector.name: vector.words for vector in experiments.VECTORS}
for name, rows in gallery.groupby("vector", sort=False) if gallery is not None else []:
    kind = rows["coefficient"].map("c = {:g}".format).where(rows["coefficient"] != 0, "unsteered")
    about = rows.iloc[-1]
    print(f"{name}: {about.plus!r} − {about.minus!r}, layer {about.layer}")
    display(plots.completions_html(rows.assign(condition=kind), words=words[name]))

# %%
if gallery is not None:
    hits = gallery.assign(kind=gallery["coefficient"].eq(0).map({True: "unsteered", False: "steered"}))
    display(hits.groupby(["vector", "kind"], sort=False)["hit"].sum().unstack())
    print("no more words than unsteered:", ", ".join(experiments.failures(gallery)))

# %%
ledger.box("ActAdd", "qualitative vectors")

# %% [markdown]
# Five of the twelve bring more of their words than no steering. But three completions are an impression, not a
# measurement: a vector may work and its words not come, or the words come by chance. Read them. With
# `MODEL = "gemma-3-270m"` this whole notebook runs on the real model. The kept runs were made by these commands:

# %%
ran = results.runs("actadd", beside.REAL)
print(*ran.loc[ran["command"].str.contains("gallery|layer-sweep|best"), "command"], sep="\n")

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
print("size at c = 1, by layer:", [round(size, 2) for size in relative])
print("cosine with layer 0's vector, by layer:", [round(float(value), 2) for value in cosine[0]])

# %% [markdown]
# **How large?** At every layer 1.4 to 1.9 times as long as the stream that it is added to. So at $c = 2$ the vector is
# about three times as long as what stood there, and most of what the model reads at that position is ours.
#
# **Merely the token?** No. Layer 0's vector is the difference of two embeddings, and one block later the vector has
# nearly nothing in common with it (cosine 0.12). From there on it turns slowly from layer to layer.

# %% [markdown]
# ## 7 · The fine print: place, passes, padding
#
# **Front, back, or room of its own.** At the front the vector lies over the prompt's first words. `make_room` puts
# spaces in after BOS, so that it lies over those instead. At layer 0 and strength 1, adding $h_+ - h_{\text{space}}$ to
# a space *is* writing the word:

# %%
at_zero = sl.actadd(lm, " weddings", " ", layer=0)
with_room = sl.make_room(lm, PROMPT, at_zero)
typed = lm.logits([torch.tensor([bos, *lm.encode(" weddings"), *lm.encode(PROMPT)])])

torch.testing.assert_close(lm.logits(with_room, at_zero), typed, rtol=1e-4, atol=1e-3)
print("at layer 0, adding the vector to a space is the same as typing the word")

# %% [markdown]
# With room of its own, then, steering begins where prompting is. The variants at the best setting:

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
by_place = experiments.summarise(experiments.count_topic_words(places, WEDDING), by=["condition"])
display(by_place[["condition", "n", "share", "low", "high"]].round(3))
print(*places.loc[places["condition"] == "one vector, every pass", "completion"].head(2), sep="\n")

# %% [markdown]
# **Passes.** `when="prompt"` edits one pass only. The completion is steered all the same, because every later token
# attends to the edited positions through the cache. `when="all"` pushes at each new token as well, and that is too much
# at this strength: the two texts above are no longer English, and hold none of the words.
#
# **Penalty.** The paper samples with a *frequency penalty*: a token's logit falls by a fixed amount for each time it
# has come. That is not the repetition penalty of `transformers`, which divides, once. `lm.generate(...,
# frequency_penalty=1.0)` is the paper's.

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
# **8.2 · ActAdd with generation, in nnsight, on a batch.** ●●● about 25 minutes. *The most important exercise of the
# course: after it you can steer without the package.* Prompts of unequal length, a vector of $T_s$ rows, greedy texts.
# Notebook 01 (section 7) has the trace for one prompt. The checker compares with `lm.generate`.


# %%
import nnsight  # noqa: F401  # for your trace
from nnsight import TransformersModel

traced = TransformersModel(lm.hf, tokenizer=lm.tokenizer)
blocks = traced.get(lm.layout.blocks)


def steered_texts(prompts: list[str], vector: torch.Tensor, layer: int, new: int) -> list[str]:
    """Greedy continuations of `new` tokens; the vector [T_s, d_model] is added where block `layer` is entered."""
    return prompts  # your code here: begin with batch = lm.batch(prompts), which has .ids, .mask and .pad


exercises.check_steered_texts(steered_texts, lm)

# %% [markdown]
# <details><summary>Hint 1</summary>What enters block <code>layer</code> is what leaves block <code>layer - 1</code>. A
# bare body runs in the pass over the prompt, which is the only one to edit.</details>
#
# <details><summary>Hint 2</summary>8.1 is the edit: <code>add_at_front(h, vector, batch.pad)</code>. Make a new tensor
# and assign it to <code>.output</code>.</details>
#
# <details><summary>Hint 3</summary><code>traced.generate(batch.ids, attention_mask=batch.mask, max_new_tokens=new,
# do_sample=False)</code>, and save <code>tracer.result</code> in the body. It holds the prompt too: cut it
# off.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def steered_texts(prompts, vector, layer, new):
#     batch = lm.batch(prompts)
#     columns = batch.pad[:, None] + torch.arange(len(vector))
#     rows = torch.arange(len(prompts))[:, None]
#     options = {"attention_mask": batch.mask, "max_new_tokens": new, "do_sample": False}
#     with torch.no_grad(), traced.generate(batch.ids, **options) as tracer:
#         h = blocks[layer - 1].output.clone()
#         h[rows, columns] += vector
#         blocks[layer - 1].output = h
#         ids = nnsight.save(tracer.result)
#     return [lm.tokenizer.decode(row[batch.ids.shape[1] :]) for row in ids]
# ```
#
# </details>
#
# **8.3 · Another topic.** ●○○ about 5 minutes. Take ships, or another topic from `data.topics()`, and choose a layer
# and a strength, such that more completions hold a word of the topic than without steering. The checker draws 60
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
# - **The prompt alone might do it.** Writing the word is the rival to beat, and here it does as well.
# - **The best of many settings is lucky.** So its share was drawn again with another seed.
# - **One prompt.** Over another first word other layers work: with *She told me all about the* and c = 2, layer 0 makes
#   the next token ` wedding` with 25 %, layer 2 with 4 %.
# - **A word count is not meaning.** A text that repeats *wedding* forty times scores full marks. Read the samples.
# - **This model is small and was made for the purpose.** It was trained on texts whose first words name their topic
#   (`steerlab/bundled/README.md`). That steering works here says how it works, not how well it works on a large
#   model.
#
# **Open questions:** Why can block 3 read the word and yet not be steered? What does the vector do to text that has
# nothing to do with weddings? Does the same word make a good vector in another language?
