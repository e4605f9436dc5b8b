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
# # 09 · Can I answer a question of my own?
#
# You have seen five methods on other people's questions. This page takes one of yours, from the question to a page that
# you can show: pick a model, write pairs, see where the model listens, choose layer and strength on *some* prompts,
# test on *others*, beside controls and with the price. It runs as it stands, on a question about winter; then change
# the cell of parameters.
#
# **After this notebook you can**
# 1. turn "can the model be made to ..." into a number with an interval;
# 2. choose a setting on one half of your prompts and report it on the other;
# 3. say what your vector does that a random one, and the word typed in front, do not;
# 4. hand over a vector and a page by which others can check you.
#
# **You need** notebooks 00 and 02. For a model of yours, the line `MODEL`, and patience.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; a Hugging Face name; a GGUF file; with REMOTE = True a model on NDIF
PROFILE = "quick"  # "paper": ten times as many completions
SEED = 0
REMOTE = False

QUESTION = "Can a vector make a small model write of winter, whatever it is asked to continue?"
PLUS, MINUS = [" winter", " snow"], [" ", " "]  # pairs: as many of each; the vector is their mean
TYPED = " winter"  # the rival: what you would type in front instead
WORDS = ["winter", "snow", "snowy", "ice", "icy", "frost", "frozen", "cold", "freeze"]  # the effect, as it is counted
ANSWER = ""  # in your own words, when you have seen the table

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown

import steerlab as sl
from steerlab import data, exercises, plots
from steerlab.experiments import own

lm = sl.load(MODEL, remote=REMOTE)
N = 40 if PROFILE == "paper" else 4
lm

# %% [markdown]
# ## 1 · A question is an effect that can be counted
#
# *Does it write more wintry?* cannot be answered. *Do more completions hold one of these nine words than without
# steering?* can. Write the list before you look at any completion. Words that only your topic has are better than words
# that are merely near: *cold* is also a dinner.
#
# And a rule that is easy to keep and hard to regret: the prompts on which you **choose** are not those on which you
# **report**. The best of twelve settings looks good on the prompts that picked it.

# %%
prompts = list(data.prompts("plain")[6:18])
choosing, reporting = prompts[::2], prompts[1::2]
print("to choose on: ", *choosing[:3], "...", sep="\n   ")
print("to report on: ", *reporting[:3], "...", sep="\n   ")

# %% [markdown]
# ## 2 · Where does the model listen?
#
# The KL divergence of the next token at every layer, for each prompt. This costs one pass a layer.
#
# > **Predict first.** Which layers will move the next token most? And will these be the ones that write of winter?

# %%
heard = own.listening(lm, PLUS, MINUS, choosing)
summary = heard.groupby("layer")["kl"].agg(["mean", "min", "max"]).reset_index()
plots.lines(
    summary.rename(columns={"min": "low", "max": "high"}),
    "layer",
    "mean",
    labels=("layer", "KL of the next token, nats"),
)
plt.show()

# %% [markdown]
# The band runs from the least to the largest of the prompts. A layer at 0 is not worth a sweep. But KL is not effect:
# it says that the text is disturbed, not that it is about winter.

# %%
LISTENS = [int(layer) for layer in summary.nlargest(4, "mean")["layer"].sort_values()]
print("layers to try:", LISTENS)

# %% [markdown]
# ## 3 · Choose

# %%
chosen = own.choose(lm, PLUS, MINUS, choosing, WORDS, layers=LISTENS, strengths=(1, 2, 4), n=N, seed=SEED)
best = chosen.iloc[0]
chosen.head(5).round(2)

# %% [markdown]
# If the best row is not well above nothing, stop here and think: another pair? more pairs? a lower layer? Trying on
# until something sticks is allowed *on this half*.
#
# ## 4 · Test, beside three controls

# %%
steer = sl.actadd(lm, PLUS, MINUS, layer=int(best["layer"]), coefficient=float(best["strength"]))
samples, tested = own.held_out(lm, steer, reporting, WORDS, prefix=TYPED, n=2 * N, seed=SEED + 1)
plots.bars(tested, "condition", "share", labels=("", "completions with one of the words"))
plt.show()
tested[["condition", "n", "share", "low", "high", "gain", "gain_low", "gain_high", "p"]].round(3)

# %% [markdown]
# Read it in this order. *Steered* against *zero*: is the interval of the gain above 0? Against *random*: would any push
# have done it? Against *prompt*: would typing the word have done it? If so, say it, and say what the vector is good for
# all the same. (Intervals are over prompts: with six they are wide, and ask what a seventh would do.)
#
# ## 5 · The price

# %%
unrelated = [text for topic, texts in data.essays().items() if topic not in ("weddings", "winter") for text in texts]
cost = own.price(lm, steer, unrelated)
cost.round(3)

# %% [markdown]
# A ratio of 1.05 means that the model finds each token of unrelated text 5 % less probable, on average.
#
# ## 6 · The page

# %%
page = own.report(QUESTION, lm, steer, tested, cost, samples, answer=ANSWER, path="report.md")
path = steer.save("mine.safetensors")
Markdown(page)

# %% [markdown]
# `report.md` and `mine.safetensors` lie beside this notebook. Whoever has both can check you:
# `sl.load_intervention("mine.safetensors", lm)` refuses another model. `steer.push_to_hub("you/winter")` shares it
# with a card.
#
# ## 7 · Exercise
#
# **7.1 · A page of your own.** ●●● about 60 minutes, in groups of three. *The most important one after 02's 8.2.* Take
# one of the projects below or a question of yours, and hand in `report.md` with an `ANSWER` of at most three sentences:
# what you asked, what came out, what you do *not* know. The checker looks whether the vector that you tested does more
# than chance on prompts that you have not chosen on.

# %%
exercises.check_topic_shift(lm, 0 * steer, WORDS, prompt=reporting[0])  # yours in place of 0 * steer

# %% [markdown]
# <details><summary>Hint 1</summary>No effect at any layer? Print three steered completions before you change anything.
# Often the words are missing from the list, not from the text.</details>
#
# <details><summary>Hint 2</summary>Prompts whose first words carry the sentence lose them under the vector.
# <code>sl.make_room(lm, prompt, steer)</code> puts spaces there first.</details>
#
# <details><summary>Solution</summary>
#
# There is none. A clear *no*, with its interval and its controls, is as good a page as a *yes*.
#
# </details>
#
# ## 8 · Five projects
#
# | | project | where to start |
# |---|---|---|
# | ●○○ | Which of the 24 topics can be reached? What have the others in common? | section 3, `data.topics()` |
# | ●○○ | One pair or many: does the mean of ten synonyms steer better than the best of them? | `PLUS` as a list |
# | ●●○ | Is $-c$ the opposite? Compare it with the vector of the antonym. | sections 3 and 4, negative strengths |
# | ●●○ | An answer instead of a topic: fit scalars for a pair of words. | 05, `sl.fit` with a frame of your own |
# | ●●● | What of this page survives on a real model? | `MODEL = "gemma-3-270m"`; NDIF: 08 |
#
# ## 9 · What could be wrong?
#
# - **The list was written afterwards.** Then it counts what the vector happens to do.
# - **Six prompts.** They are ours, and alike. A seventh of another kind may behave otherwise.
# - **You stopped when it worked.** The choosing half allows that; say how many settings you tried (the table of section
#   3 has them all).
#
# **Open questions**, from the three papers. Does a vector made in one language steer in another? Why do some layers
# listen and not obey? Can a vector that was found for a base model be used for its chat model? How many numbers does a
# *stance* need, compared with an answer? What would show that a steered model has changed its mind, and not its words?
