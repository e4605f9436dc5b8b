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
# # 07 · Which method when?
#
# Five methods, three papers, and each shows itself on the task that it was made for. Here all of them get the same
# prompts, and are compared at the same *dose*: the strength at which the next token's distribution has moved by 0.1,
# 0.3 or 1 nat of KL divergence. Three rivals stand beside them: a random vector, a plain mean difference of many pairs,
# and words typed in front. Two of the methods are also added.
#
# **After this notebook you can**
# 1. put methods with different units on one axis;
# 2. say for an answer, a topic and a tone which of them moves most at a given dose;
# 3. say what each costs: numbers, passes, seconds, and text that it should have left alone;
# 4. choose.
#
# **You need** notebooks 02, 04, 05 and 06.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; "gemma-3-270m" is the real one; or any Hugging Face name
PROFILE = "quick"  # "paper": all three tasks live, with more prompts and longer fits
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
import pandas as pd
import torch
from IPython.display import display

import steerlab as sl
from steerlab import exercises
from steerlab.experiments import beside, results, side_by_side

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
QUICK = {"n": 6, "steps": 20, "sentences": 4, "facts": 8, "tasks": ["topic"]}
QUICK["costs"] = results.find("side_by_side_methods", lm) is None  # else the kept run has them
PAPER = {"n": 24, "steps": 100, "sentences": 16, "facts": 48}
OPTIONS = PAPER if PROFILE == "paper" else QUICK


def tables(name: str) -> dict[str, pd.DataFrame]:
    """A table of the real model's kept run, and of this model: the kept one, or the live one where there is none."""
    kept = results.find(f"side_by_side_{name}", lm) if PROFILE == "quick" else None
    return beside.tables(f"side_by_side_{name}", lm, live[name] if kept is None else kept)


lm

# %% [markdown]
# **Two models.** One task runs here, on this model. All three tasks were run before on the bundled model and on a real
# one, Gemma 3 270M; their tables are kept, and these commands make them again:

# %%
for name in dict.fromkeys((beside.REAL, results.short_name(lm))):
    print(name, *results.runs("side_by_side", name)["command"], sep="\n", end="\n\n")

# %% [markdown]
# ## 1 · Three tasks, one readout
#
# Each task is a frame of prompts of one length, with a wanted token and another one. The effect is the rise of
# $\text{logit}(\text{wanted}) - \text{logit}(\text{other})$, in nats, on prompts that no method has seen. The
# unsteered model has 0, at a KL of 0.
#
# - **answer**: the other name, which the bare model does not give (the sentences of 05);
# - **topic**: ` wedding` rather than ` journey`;
# - **tone**: ` good` rather than ` bad`.

# %%
tasks = side_by_side.contests(lm, OPTIONS["n"], SEED)
for name, contest in tasks.items():
    row = contest.test.iloc[0]
    print(f"{name}: {row.prompt!r} -> {row.correct!r} rather than {row.wrong!r}; {len(contest.test)} held out")

# %% [markdown]
# What each method gets:
#
# | method | gets | learns |
# |---|---|---|
# | ActAdd | one pair of texts, one layer | nothing |
# | mean difference | all training prompts with either token written out; the last token's difference | nothing |
# | SARA | an attracting and a repelling text, and the prompt itself | nothing |
# | ActivScalar, SteerVec, DynScalar | the training prompts | by gradient |
# | ActAdd + ActivScalar | both, each first at 0.3 nats of its own, then scaled as one | by gradient |
# | random vector | the norm of ActAdd's | nothing |
# | typed in front | some words | nothing |
#
# > **Predict first.** The learned methods were made for the answer: by how much will they lead there at equal KL? And
# > on the topic, where two forward passes were enough?

# %% [markdown]
# ## 2 · At equal KL, and at its best
#
# Live, on one task. The strength for each KL is found on the test prompts, the *best* strength on the training prompts:
# the one of nine with the largest mean effect there.

# %%
live = side_by_side.compare(lm, seed=SEED, **OPTIONS)
side_by_side.effects(live["methods"])

# %% [markdown]
# **You should see** on the bundled model about 2 to 3 nats for every method at 0.3 nat, the mean difference and
# SteerVec in front. The random vector reaches none of the three KLs at any strength.
#
# Brackets are 95 % intervals over the n test prompts. The last column is the effect at a method's best, and the KL that
# it takes. Typed words have no strength, so they stand there with the KL that they happen to have. A dash: no strength
# from 0.01 to 20 reaches that KL.
#
# All three tasks, of both models:

# %%
for name, methods in tables("methods").items():
    print(name)
    display(side_by_side.effects(methods))

# %%
for name, methods in tables("methods").items():
    side_by_side.plot_matched(methods).suptitle(name)

# %% [markdown]
# **You should see**, on the bundled model at 0.3 nat:
#
# - **answer**: SteerVec about 5 nats, the other two learned methods not told apart from it. ActAdd reaches no KL at
#   all: one pair of names says hardly anything about another pair;
# - **topic**: the mean difference about 3, ActAdd 2.6 from two texts, the learned methods 2 to 3;
# - **tone**: SteerVec about 13, DynScalar 5. ActAdd's pair ` good` − ` bad`, laid over the first words, does nothing.
#
# At its best SteerVec moves 23 to 42 nats, at a KL of 7 to 14: that is no longer steering, it is one token forced. A
# best may lie below a matched row, since it is one of nine strengths, and was chosen on other prompts.
#
# ## 3 · What it costs
#
# At 0.3 nats on the task's own prompts:
#
# - **unrelated KL**: of the next token after the beginnings of essays on something else;
# - **perplexity**: of sentences from such essays, steered over plain; 1 is untouched;
# - **P@10**: change of the share of simple facts whose answer is among the ten likeliest tokens, the same facts paired;
# - **numbers**: that the intervention holds; **forward + backward**: prompts read to make it, and gone back through;
# - **time of a pass**: steered over plain.

# %%
for name, methods in tables("methods").items():
    print(name)
    display(side_by_side.costs(methods))

# %% [markdown]
# **You should see**, on the bundled model: the mean difference and SARA, which act on every token, move unrelated text
# by 0.1 to 0.6 nats, and typed words about double its perplexity or more. ActAdd multiplies the perplexity by 1.27 on
# the topic, a learned method by at most 1.07. Of P@10 every interval holds 0: 24 facts show large losses only. Learned
# methods read 640 prompts and go back through them, ActAdd reads 2.
#
# The passes are exact. Seconds depend on what else the machine does, and a time within a tenth of 1 is noise.
#
# **A trap.** ActivScalar and SteerVec sit on the positions of the task's prompts, ActAdd on the first few. An essay's
# next token comes well after those, so their unrelated KL is small by construction. The perplexity counts every token,
# also the steered ones, and is the fairer price.
#
# ## 4 · Effect against cost
#
# The same as a picture: a line over strengths for each method, and filled what no other point beats in both.

# %%
for name, curves in tables("curves").items():
    side_by_side.plot_fronts(curves).suptitle(f"{name}, n = {curves['n'].max()}")

# %% [markdown]
# Up and left is better: much effect, unrelated text left alone. The lines end at 3 nats. Beyond, a method breaks the
# model: the wanted token wins over the other one in a text that means nothing.
#
# ## 5 · Do methods add up?
#
# ActAdd + ActivScalar less either alone, on the same prompts at the same KL. Above 0 the sum moves more.

# %%
for name, sums in tables("sums").items():
    print(name)
    display(side_by_side.sums(sums))

# %% [markdown]
# **You should see**, on the bundled model, that the sum lies between the two: on the topic at 1 nat 0.7 nats less than
# ActAdd alone, 0.5 more than ActivScalar alone. Two methods at equal KL share one budget. On the real model they do add
# up: at 0.3 nats the sum moves 0.9 nats more than ActAdd alone and 1.4 more than ActivScalar alone. A task is missing
# where one of the two alone does not reach 0.3 nats, so that there is nothing to balance.
#
# ## 6 · By hand: the panel
#
# Interventions on one prompt at equal KL.

# %%
from steerlab.widgets import compare

makers = side_by_side.makers(lm, tasks["topic"], lm.n_layers // 3, OPTIONS["steps"], SEED)
prompt = tasks["topic"].test["prompt"].iloc[0]
vectors = {name: makers[name]().steers([prompt])[0] for name in ("ActAdd", "mean difference", "random vector")}
panel = compare(lm, vectors, prompt=prompt, target=0.32, seed=SEED)
panel

# %% [markdown]
# ## 7 · Decide
#
# Computed from the tables above, for each task and dose. Considered are methods whose interval lies above zero, and
# above the random vector's where that reaches the dose. *Not told apart*: intervals that overlap with the first one's.
# Among the first and these, which takes the fewest passes to make, and which raises the perplexity of other text least?

# %%
TITLES = {"most": "moves most", "close": "not told apart", "fewest": "fewest passes", "gentlest": "lowest perplexity"}
decisions = {name: side_by_side.decide(methods) for name, methods in tables("methods").items()}
for name, decision in decisions.items():
    print(name)
    with pd.option_context("display.max_colwidth", 120):
        display(decision.rename(columns=TITLES).set_index(["task", "target"]))

# %% [markdown]
# Where do the two models disagree?

# %%
if len(decisions) == 2:
    sentences, apart = side_by_side.differences(decisions)
    print(sentences)
    display(apart)

# %% [markdown]
# So a choice is one for a task, a dose and a model. Read your row: of those that are not told apart take the one with
# the fewest passes (of as many, the fewest numbers), and look at its perplexity before you use it.
#
# ## 8 · Exercise
#
# **8.1 · The rival that is always there.** ●●○ about 15 minutes. *Important: whoever proposes a method has to beat this
# one.* The mean difference of many pairs, also called CAA: read every text, take the stream that *enters* a block at
# the text's *last* token, and subtract the mean of one side from the mean of the other. The texts differ in length.
# From `lm.activations` or a trace of your own.


# %%
def mean_difference(lm: sl.SteerableModel, plus: list[str], minus: list[str], layer: int) -> torch.Tensor:
    """The vector [d_model] from the texts of the one side to those of the other."""
    return torch.zeros(lm.d_model)  # your code here


exercises.check_mean_difference(mean_difference, lm)

# %% [markdown]
# <details><summary>Hint 1</summary><code>lm.activations(text, sl.Site("resid_pre", layer))</code> holds one text;
# <code>.row(0, site)</code> is its stream, [tokens, d_model].</details>
#
# <details><summary>Hint 2</summary>In a batch shorter texts are padded on the left, so the last column is the last
# token of every row; the first column is not the first token.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def mean_difference(lm, plus, minus, layer):
#     site = sl.Site("resid_pre", layer)
#     means = []
#     for texts in (plus, minus):
#         last = [lm.activations(text, site).row(0, site)[-1] for text in texts]
#         means.append(torch.stack(last).mean(0))
#     return means[0] - means[1]
# ```
#
# </details>
#
# Then look at the tables of sections 2 and 3 once more: on which task does the learned method earn its passes?
#
# ## 9 · What could be wrong?
#
# - **One readout.** A rise of one token's logit is the start of an effect, not a text. 02 and 03 count texts.
# - **One layer for four of the methods.** ActAdd, SARA, the mean difference and the random vector are all put a third
#   of the way up, which need not be the best layer for any of them. The learned methods have all layers.
# - **Unequal preparation.** ActAdd gets one pair that we wrote; the learned methods get what they are tested on, with
#   other names.
# - **Equal KL is a mean.** A method may move some prompts far and others not at all.
# - **Many comparisons.** Twelve rows a model, eight methods a row: some first places are luck. Intervals that overlap
#   are no proof of a tie either.
# - **Few prompts, short fits, few facts.** `PROFILE = "paper"` has more of each.
#
# **Open questions:** Does the ranking survive a larger model? Do three methods add up where two do? Which layer would
# each method choose for itself?
