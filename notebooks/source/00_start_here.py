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
# # 00 · Can I steer a model in five minutes?
#
# A language model turns text into vectors and passes them through a stack of blocks. Add something to those vectors
# halfway up, and the model goes on to write something else. No training, no new weights: one addition. That is
# *activation steering*, and at the end of this page you will have done it with words of your own.
#
# **Paper.** Turner et al., *Steering Language Models With Activation Engineering*, [arXiv
# 2308.10248](https://arxiv.org/abs/2308.10248).
#
# **After this notebook you can**
# 1. load a model and let it write;
# 2. make a steering vector from two short prompts, and steer with it;
# 3. see what it did, to whole completions and to the very next token;
# 4. save a vector and load it again;
# 5. say what five steering methods have in common.
#
# **You need** some PyTorch. No nnsight, no GPU, no account, no download: the model ships with the package. **Time:**
# five minutes to read, about half a minute to run on a laptop with two cores.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; or a Hugging Face name such as "openai-community/gpt2-xl"
PROFILE = "quick"  # "paper" draws more completions
SEED = 0
REMOTE = False  # this notebook runs locally

# For the last section: a prompt and a pair of your own.
YOUR_PROMPT = "In the evening we went to see the"
YOUR_PLUS, YOUR_MINUS = " ships", " "
YOUR_STRENGTH = 4

# %%
import matplotlib.pyplot as plt
import torch

import steerlab as sl
from steerlab import data, exercises, plots

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
lm

# %% [markdown]
# ## 1 · Let it write
#
# The bundled model is small. It has read old novels, fairy tales and short titled texts, and it writes like them.
# Each completion below is a row of a pandas DataFrame; the seed makes them the same every time.

# %%
PROMPT = "I went up to my friend and said"
N = 20 if PROFILE == "paper" else 4

for completion in lm.generate(PROMPT, n=3, seed=SEED).completion:
    print("·", completion.strip(), "\n")

# %% [markdown]
# ## 2 · Steer it
#
# Run the model on ` weddings`, run it on a single space, and subtract what goes into block `LAYER`. That difference
# is the vector. The leading space makes the word the token that it is in the middle of a sentence.

# %%
LAYER = 2  # the third block; notebook 02 tries them all
STRENGTH = 4

wedding = sl.actadd(lm, " weddings", " ", layer=LAYER)
wedding.norm()

# %% [markdown]
# > **Predict first.** The vector is added to the first two tokens of the prompt only, and to none of those that are
# > written afterwards. Will the end of a 40-token completion still be about weddings?
#
# Both rows below draw the same random numbers, so what differs comes from the vector.

# %% tags=["tour"]
samples = lm.generate([PROMPT, PROMPT], [None, STRENGTH * wedding], n=N, seed=SEED)
samples["condition"] = samples["row"].map({0: "unsteered", 1: "steered to weddings"})

for number, pair in samples.groupby("sample"):
    for sample in pair.itertuples():
        print(f"{number}  {sample.condition:<20}  {PROMPT}{sample.completion}".replace("\n", " "))
    print()

# %% [markdown]
# The same side by side, with the nine wedding words that the paper counts marked:

# %%
plots.completions_html(samples, words=data.topics()["weddings"])

# %% [markdown]
# **Why it lasts.** The vector changes the first two positions in every block above `LAYER`. Each later token attends
# to those positions, and so does each token that is generated.

# %% [markdown]
# ## 3 · The next token
#
# A completion is many draws. The model's answer to *what comes next* is one distribution, which can be looked at
# directly.

# %%
NEXT = "I went to see the"
plots.next_token_bars(lm, NEXT, STRENGTH * wedding)
plt.show()

# %% [markdown]
# `STRENGTH` is a knob. A list of interventions gives each row of a batch its own, so a whole range of strengths is
# one call, and one forward pass.
#
# > **Predict first.** What will a negative strength do? And a random vector of the same length?

# %%
strengths = torch.linspace(-8, 8, 33).tolist()
random = sl.random_like(wedding, seed=SEED)
token = lm.encode(" wedding")[0]

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained", facecolor="white")
for name, vector, style in (("weddings", wedding, "-"), ("random, same norm", random, "--")):
    logits = lm.logits([NEXT] * len(strengths), [c * vector for c in strengths])
    ax.plot(strengths, logits.softmax(-1)[:, token].cpu(), style, label=name)
ax.axvline(0, color="0.8", zorder=0)
ax.set(xlabel="strength", ylabel="probability that “ wedding” is next", yscale="log")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 4 · Keep it
#
# A vector is a small file. It remembers the model, the prompts and the versions that it was made with, and it is
# refused for another model.

# %%
path = wedding.save("weddings.safetensors")  # beside this notebook
again = sl.load_intervention(path, lm)

assert torch.equal(lm.logits(PROMPT, again), lm.logits(PROMPT, wedding))
print(f"{path.stat().st_size:,} bytes, made from {again.info['prompts']}")

# %% [markdown]
# ## 5 · One equation
#
# ActAdd adds. Other methods scale, or add something that they have learned. All five methods of the course are one
# edit of an activation $h$ at a *site*, which is a place in a block, and at some of the token positions:
#
# $$ h \;\leftarrow\; h + \beta \,\bigl[\, (\gamma + \langle w, h \rangle) \odot h + a \,\bigr] $$
#
# | method | shift $a$ | gain $\gamma$ | probe $w$ | found by |
# |---|---|---|---|---|
# | ActAdd ([2308.10248](https://arxiv.org/abs/2308.10248)) | $h_+ - h_-$, first tokens | – | – | two forward passes |
# | SteerVec ([2410.04962](https://arxiv.org/abs/2410.04962)) | $v$, one per position | – | – | gradient |
# | ActivScalar ([2410.04962](https://arxiv.org/abs/2410.04962)) | – | $\alpha$, one per position | – | gradient |
# | SARA ([2405.17345](https://arxiv.org/abs/2405.17345)) | – | $\gamma$, one per neuron | – | three SVDs |
# | DynScalar ([2410.04962](https://arxiv.org/abs/2410.04962)) | – | – | $w$ | gradient |
#
# So the package has one value that is applied, saved, added and scaled, the `Intervention`, and several ways to
# choose its tensors. Interventions behave like vectors:

# %%
ships = sl.actadd(lm, " ships", " ", layer=LAYER)
mixed = 3 * wedding + 2 * ships - 0.5 * random

print("sites:   ", *mixed.sites)
print("norms:   ", {str(site): round(norm, 1) for site, norm in mixed.norm().items()})
print("cosine of weddings and ships:", {str(site): round(value, 2) for site, value in wedding.cosine(ships).items()})

# %% [markdown]
# ## 6 · Your turn
#
# Go up to the cell of parameters, write a prompt and a pair of your own, and run everything again from there (in
# JupyterLab: *Run → Run Selected Cell and All Below*). Or write them here, in place of the comment.
#
# Good words to try first are topics that the bundled model knows: ` ships`, ` ghosts`, ` war`, ` music`, ` gardens`,
# ` horses`, ` money`, ` winter`. A pair can also be a real contrast, such as ` happy` and ` sad`.

# %%
# YOUR_PROMPT, YOUR_PLUS, YOUR_MINUS, YOUR_STRENGTH = "...", " ...", " ...", 4

yours = YOUR_STRENGTH * sl.actadd(lm, YOUR_PLUS, YOUR_MINUS, layer=LAYER)
exercises.check_own_pair(lm, yours, YOUR_PROMPT, given=(" ships", " "))

# %%
own = lm.generate([YOUR_PROMPT, YOUR_PROMPT], [None, yours], n=N, seed=SEED)
own["condition"] = own["row"].map({0: "unsteered", 1: f"{YOUR_PLUS!r} − {YOUR_MINUS!r}, strength {YOUR_STRENGTH}"})
plots.completions_html(own)

# %%
plots.next_token_bars(lm, YOUR_PROMPT, yours)
plt.show()

# %% [markdown]
# <details><summary>It does not do much?</summary>
#
# - Is the word one token? `lm.tokens(" weddings")` shows it. Several tokens work too, if the prompt is at least as
#   long.
# - Is the layer one that listens? The bundled model reads the front of a text in its first blocks, so a vector that is
#   put there later changes little. Notebook 02 shows it.
# - Try another strength. Too little is not seen, too much leaves no sentence standing.
#
# </details>
#
# ## 7 · What could be wrong?
#
# A few good samples convince quickly, and prove little.
#
# - **Luck.** Four completions are an anecdote. Notebook 02 counts hundreds, with intervals.
# - **Any push might do.** The dashed line above, a random vector of the same norm, is the first control.
# - **The word itself might do as well.** Would ` weddings` written in front of the prompt have done the same? That is
#   the second control, and notebook 02 draws it.
# - **This model was made for the lesson.** It has read many texts whose first words name their topic. On another
#   model the best layer and strength are others: set `MODEL` and see.
#
# ## 8 · Where next?
#
# | notebook | question |
# |---|---|
# | **00** (this one) | Can I steer a model in five minutes? |
# | [01 · tracing](01_tracing.ipynb) | How do I read and edit an activation with nnsight? |
# | [02 · ActAdd](02_actadd.ipynb) | How do two prompts make a steering vector? |
#
# To understand what `sl.actadd` and `steer=` do inside, go on with 01. To see how well it works, and to play with a
# panel of sliders, go to 02.
