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
# A language model cuts a text into tokens, turns each token into a vector, and passes the vectors through a stack of
# blocks. Add something to the vectors on their way up, and the model goes on to write something else. No training, no
# new weights: one addition. That is *activation steering*, and at the end of this page you will have done it with
# words of your own.
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
# **You need** some PyTorch. No nnsight, no GPU, no account, no download: the model ships with the package.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; or a Hugging Face name such as "openai-community/gpt2-xl"
PROFILE = "quick"  # "paper" draws more completions
SEED = 0
REMOTE = False  # this notebook runs locally

# For the last section: a pair of your own, and the words by which its topic is known.
YOUR_PLUS, YOUR_MINUS = " ships", " "
YOUR_TOPIC = "ships"
YOUR_STRENGTH = 2

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
WEDDING = data.topics()["weddings"]

for completion in lm.generate(PROMPT, n=3, seed=SEED).completion:
    print("·", completion.strip(), "\n")

# %% [markdown]
# ## 2 · Steer it: the friend hears of weddings
#
# Run the model on ` weddings`, then on a single space. Take the vectors that enter block `LAYER` in the two runs, and
# subtract: the difference is the steering vector. Keep the leading space: ` weddings` is the token for the word inside
# a sentence. In front of every prompt stands BOS, the token that begins a text, so each of the two prompts has two
# tokens.

# %%
LAYER = 2  # the third block; notebook 02 tries them all
STRENGTH = 2

wedding = sl.actadd(lm, " weddings", " ", layer=LAYER)
wedding.norm()

# %% [markdown]
# That is the vector's length, at the site where it will be added.
#
# > **Predict first.** The vector is added to the first two tokens of the prompt only, and to none of those that are
# > written afterwards. Will the end of a 40-token completion still be about weddings?
#
# The two completions of a pair draw the same random numbers, so what differs comes from the vector.

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
plots.completions_html(samples, words=WEDDING)

# %% [markdown]
# **You should see** about three of four steered completions with a wedding word, and none of the unsteered ones. (We
# counted 30 of 40, and 0 of 40.)
#
# **Why it lasts.** The vector changes the first two positions in every block above `LAYER`. Each later token attends
# to those positions, and so does each token that is generated. So yes, the end is about weddings too.

# %% [markdown]
# ## 3 · The next token: *wedding* rises, *journey* falls
#
# A completion is a chain of random draws. What the model says of the next token alone is a probability for each token
# that it knows, and we can look at it directly. The bars show the tokens that change most.

# %%
NEXT = "She told me all about the"
plots.next_token_bars(lm, NEXT, STRENGTH * wedding)
plt.show()

# %% [markdown]
# **You should see** *wedding* rise from 0.3 % to about 4 %, together with *white*, *flowers* and *roses*, while
# *journey* and *walk* fall. No single word becomes certain: what has changed is the subject.
#
# `STRENGTH` multiplies the vector. The next cell gives each copy of the prompt a strength of its own, so a whole range
# of them is one call, and one forward pass.
#
# > **Predict first.** What will a negative strength do? And a random vector of the same length?

# %%
strengths = torch.linspace(-8, 8, 65).tolist()
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
# **You should see** three things.
#
# - *Weddings*, to the right: a steep rise, about seventeen times the unsteered probability at strength 1, and a slow
#   fall beyond it. More is not always more. (For whole completions 2 is better than 1, as notebook 02 will show.)
# - *Negative*, to the left: the word becomes rarer, by a factor of three. Subtracting weddings does not give divorces,
#   only fewer weddings.
# - *Random*: a push of the same size in a random direction also makes the word rarer, on both sides alike. Any push
#   disturbs the text. Only the right one disturbs it *towards* something.

# %% [markdown]
# ## 4 · Play
#
# Change the words, the layer, the strength. The bars follow the slider; the button writes completions. Try a strength
# of 0, a negative one, and 16. Then move the layer up to 5: the effect is gone, and notebook 02 asks why.
#
# The two strips below the bars show a given text, token by token. The upper one: how far the vector moves the model's
# prediction at that place, as a KL divergence, which is 0 where nothing moves. The lower one: whether it makes the
# token that stands there more likely (blue) or less likely (red).

# %%
from steerlab.widgets import playground

panel = playground(lm, words=WEDDING, prompt=NEXT, layer=LAYER, strength=STRENGTH, seed=SEED)
panel

# %% [markdown]
# ## 5 · Keep it
#
# A vector is a small file. It remembers the model, the prompts and the versions that it was made with, and does not
# load for another model.

# %%
path = wedding.save("weddings.safetensors")  # beside this notebook
again = sl.load_intervention(path, lm)

assert torch.equal(lm.logits(PROMPT, again), lm.logits(PROMPT, wedding))
print(f"{path.stat().st_size:,} bytes, made from {again.info['prompts']}")

# %% [markdown]
# ## 6 · Five methods, one equation
#
# ActAdd adds. Other methods scale, or add something that they have learned. All five methods of the course are one
# edit of an activation $h$ at a *site*, which is a place in a block, and at some of the token positions:
#
# $$ h \;\leftarrow\; h + \beta \,\bigl[\, (\gamma + \langle w, h \rangle) \odot h + a \,\bigr] $$
#
# $\beta$ is the strength. The *shift* $a$ is added. The *gain* $\gamma$ scales $h$ entry by entry ($\odot$). The
# *probe* $w$ looks at $h$ first: its dot product with $h$ says how much to scale. Each method fills in one of the three
# and leaves the others at zero.
#
# | method | shift $a$ | gain $\gamma$ | probe $w$ | found by |
# |---|---|---|---|---|
# | ActAdd ([2308.10248](https://arxiv.org/abs/2308.10248)) | $h_+ - h_-$, first tokens | – | – | two forward passes |
# | SARA ([2405.17345](https://arxiv.org/abs/2405.17345)) | – | $\gamma$, one per neuron | – | three SVDs |
# | ActivScalar ([2410.04962](https://arxiv.org/abs/2410.04962)) | – | $\alpha$, one per position | – | gradient |
# | SteerVec ([2410.04962](https://arxiv.org/abs/2410.04962)) | $v$, one per position | – | – | gradient |
# | DynScalar ([2410.04962](https://arxiv.org/abs/2410.04962)) | – | – | $w$ | gradient |
#
# And as pictures: which tokens, at which layers. A column is a token, and those to the right of the dashed line are
# still to be written; a row is a layer, the lowest at the bottom. Blue is a shift, orange a gain, green a probe. (Skip
# the code. Only ActAdd's and SARA's numbers are real here; the others are learned in their notebooks.)

# %%
from steerlab import diagrams
from steerlab.experiments.sara import CONSEQUENCES, DUTY


def unfitted(method: sl.ActivScalar | sl.SteerVec | sl.DynScalar, *shape: int) -> sl.Intervention:
    """A learned method with all its numbers, before they are learned."""
    sites = method.sites(lm)
    return method.intervention(sites, torch.ones(len(sites), *shape), {})


length = len(lm.tokens(NEXT))
five = {
    "ActAdd: add, first tokens": wedding,
    "SARA: gain, every pass": sl.sara(lm, NEXT, attract=DUTY, repel=CONSEQUENCES, layer=lm.n_layers // 2),
    "ActivScalar: gains": unfitted(sl.ActivScalar(), length, 1),
    "SteerVec: vectors": unfitted(sl.SteerVec(), length, lm.d_model),
    "DynScalar: probes": unfitted(sl.DynScalar(), 1, lm.d_model),
}
figure, axes = plt.subplots(1, 5, figsize=(13, 2.5), layout="constrained", facecolor="white")
for ax, (name, steer) in zip(axes, five.items(), strict=True):
    diagrams.intervention(lm, steer, NEXT, labels=False, title=name, ax=ax)
    ax.title.set_fontsize(10)
plt.show()

# %% [markdown]
# So the package has one object, the `Intervention`. You apply it, save it, add it and scale it; the five methods are
# five ways to fill it. Interventions behave like vectors:

# %%
ships = sl.actadd(lm, " ships", " ", layer=LAYER)
mixed = 3 * wedding + 2 * ships - 0.5 * random

print("sites:   ", *mixed.sites)
print("norms:   ", {str(site): round(norm, 1) for site, norm in mixed.norm().items()})
print("cosine of weddings and ships:", {str(site): round(value, 2) for site, value in wedding.cosine(ships).items()})

# %% [markdown]
# **You should see** a cosine of about 0.86: the vectors of weddings and ships point nearly the same way. Is the method
# broken? No. Both are "a word stands here" minus "a space stands here", and that part is the same for every word. The
# topic is in the small rest. Notebook 03 takes the shared part away, with ` weddings` − ` ships`.

# %% [markdown]
# ## 7 · Your turn
#
# Choose a word for your vector, and a topic: a list of words by which we know that it worked. The package has 24 such
# lists: `print(*data.topics())`. Good ones to try first on the bundled model are `ghosts`, `war`, `winter`, `money`,
# `music`. Take the `#` away from the first line below, and fill it in. The checker draws 30 completions of each kind,
# which takes a quarter of a minute. It wants a word of your topic in more of them than *without* steering, and than
# under a *random* vector of the same norm.

# %%
# YOUR_PLUS, YOUR_MINUS, YOUR_TOPIC, YOUR_STRENGTH = " ...", " ", "...", 2

yours = YOUR_STRENGTH * sl.actadd(lm, YOUR_PLUS, YOUR_MINUS, layer=LAYER)
your_words = data.topics()[YOUR_TOPIC]  # or a list of your own: ["snow", "frost", "ice"]
exercises.check_own_pair(lm, yours, your_words, PROMPT, given=(" ships", " "))

# %%
own = lm.generate([PROMPT, PROMPT], [None, yours], n=N, seed=SEED)
own["condition"] = own["row"].map({0: "unsteered", 1: f"{YOUR_PLUS!r} − {YOUR_MINUS!r}, strength {YOUR_STRENGTH}"})
plots.completions_html(own, words=your_words)

# %% [markdown]
# <details><summary>It does not do much?</summary>
#
# - Is the word one token? `lm.tokens(" weddings")` shows it. Several tokens work too, if the prompt is at least as
#   long.
# - Try a lower layer: the bundled model reads the first tokens only in blocks 0 to 2.
# - Try another strength. Below 1 little is seen; beyond 4 little more changes.
# - Is it a topic? The bundled model knows headings, not moods: ` happy` against ` sad` moved 2 of 20 completions, as
#   many as no vector at all.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# YOUR_PLUS, YOUR_MINUS, YOUR_TOPIC, YOUR_STRENGTH = " ghosts", " ", "ghosts", 2
# ```
#
# </details>
#
# ## 8 · What could be wrong?
#
# A few good samples convince quickly, and prove little.
#
# - **Luck.** Four completions are an anecdote. Notebook 02 counts hundreds, with intervals.
# - **Any push might do.** The dashed line above, a random vector of the same norm, is the first control.
# - **The word itself might do as well.** Would ` weddings` written in front of the prompt have done the same? That is
#   the second control. Notebook 02 draws it, and says what steering is for if it would.
# - **This model was made for the lesson.** It has read many texts whose first words name their topic. On another
#   model the best layer and strength are others: set `MODEL` and see.
#
# **Next:** 01, to understand what `sl.actadd` and `steer=` do inside; or straight to 02, to see how well it works.
