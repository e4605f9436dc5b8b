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
# # 06 · Can the scalars find their own positions?
#
# The scalars of notebook 05 belong to positions: one more word in front, and they act on the wrong tokens. *DynScalar*
# reads the scalar from the activation itself. A direction $w$ is learned, and wherever the activation points along it,
# there the volume is turned up. Nothing says *where* any more. So it works on prompts of any length, if it works.
#
# **Paper.** Stoehr et al., *Activation Scaling for Steering and Interpreting Language Models*, section 5 and Figure 5,
# [arXiv 2410.04962](https://arxiv.org/abs/2410.04962). That one $w$ serves all positions of a site, without bias, norm
# or squashing, is **our reconstruction**.
#
# **After this notebook you can**
# 1. write the edit whose size depends on what it edits, and check it against the package;
# 2. fit it on prompts of mixed lengths, and test it on lengths that it has never seen;
# 3. read a map that is different for every prompt;
# 4. say what *held out* should mean for such a claim, and where it ends.
#
# **You need** notebook 05. As there, the real model's kept runs stand beside the bundled model wherever there are any;
# `MODEL = "gemma-3-270m"` runs the notebook on it, and `python -m steerlab.experiments.scaling lengths --model
# gemma-3-270m` makes its tables again.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; "gemma-3-270m" is the real one; or any Hugging Face name
PROFILE = "quick"  # "paper": three seeds, live
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display

import steerlab as sl
from steerlab import diagrams, exercises, plots
from steerlab.experiments import beside, ledger, results, scaling
from steerlab.metrics import means, share
from steerlab.tasks.ioi import TEMPLATES

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
lm

# %% [markdown]
# ## 1 · The idea, then the formula
#
# Notebook 05 had one number $\alpha$ for each place, layer and position. Here it is computed:
#
# $$ \alpha = \langle w, h \rangle, \qquad h \;\leftarrow\; h\,(1 + \beta\,\alpha) $$
#
# with one $w$ for each place and layer. In the table of all five methods (notebook 00) this is the last column, the
# **probe** $w$. Note the shape of it: $h$ comes in twice, so the edit is quadratic in $h$. An activation without any
# component along $w$ is left exactly as it is.
#
# | | numbers | prompts |
# |---|---|---|
# | ActivScalar | sites × positions | of one length |
# | SteerVec | sites × positions × width | of one length |
# | DynScalar | sites × width | of any length |

# %%
PROMPT = "When Mary and John went to the store, John gave a book to"
sites = sl.DynScalar().sites(lm)
picture = sl.DynScalar().intervention(sites, torch.ones(len(sites), 1, lm.d_model), {})
diagrams.intervention(lm, picture, PROMPT, new_tokens=1, title="DynScalar: one probe per place and layer, every token")
plt.show()

# %% [markdown]
# ## 2 · By hand
#
# One site, a direction drawn at random, a plain PyTorch hook:

# %%
LAYER = lm.n_layers // 2
block = lm.hf.get_submodule(lm.layout.blocks)[LAYER]
w = 0.02 * torch.randn(lm.d_model, generator=torch.Generator().manual_seed(SEED)).to(lm.device)
BETA = 0.7


def scale_by_itself(module, args, output):
    """h <- h (1 + β <w, h>) at every position."""
    h = output[0] if isinstance(output, tuple) else output
    new = h * (1 + BETA * (h @ w))[..., None]
    return (new, *output[1:]) if isinstance(output, tuple) else new


hook = block.get_submodule(lm.layout.attn).register_forward_hook(scale_by_itself)
with torch.no_grad():
    by_hand = lm.hf(lm.batch(PROMPT).ids).logits[:, -1].float()
hook.remove()

# %% [markdown]
# The package's call, and the assertion that both agree:

# %%
steer = sl.Intervention({sl.Site("attn_out", LAYER): sl.Edit(probe=w[None])})

torch.testing.assert_close(lm.logits(PROMPT, BETA * steer), by_hand, rtol=1e-4, atol=1e-4)
moved = float((by_hand - lm.logits(PROMPT)).abs().max())
print(f"the package and the hook agree; the logits moved by up to {moved:.2f}")

# %% [markdown]
# ## 3 · Prompts in which the answer stands elsewhere
#
# The giving sentences of notebook 05, now in *both* orders (the receiver is named first, or the giver), and after
# openings of several lengths. The fit sees two of the lengths; the test has five, with other names, places and objects.

# %%
task = scaling.task_of_lengths(lm, 200, SEED)
sides = {"training": task.train, "test": task.test}
lengths = {name: side["prompt"].map(lambda text: len(lm.tokens(text))) for name, side in sides.items()}
display(pd.DataFrame({name: each.value_counts() for name, each in lengths.items()}).fillna(0).astype(int))
shortest, longest = lengths["test"].idxmin(), lengths["test"].idxmax()
for i in (shortest, longest):
    print(task.test.loc[i, "prompt"], "→", task.test.loc[i, "correct"])

# %% [markdown]
# ActivScalar can't be asked at all, and says so before anything is run:

# %%
try:
    sl.fit(lm, task.train, sl.ActivScalar())
except ValueError as refused:
    print(refused)

# %% [markdown]
# DynScalar can. All components of $w$ count in the l1 norm, a whole width of them for each site, so $\lambda_M$ has
# to be far smaller than for single scalars; and the steps may be larger.

# %% tags=["tour"]
OBJECTIVE = sl.Objective(margin=10, faithfulness=1, minimality=0.01)
fit = sl.fit(lm, task.train, sl.DynScalar(), OBJECTIVE, seed=SEED, **scaling.CHEAP)
fit

# %% [markdown]
# ## 4 · Lengths that it has never seen
#
# Three questions, three groups of prompts. *Training prompts*: did the optimiser find anything? *Other prompts, same
# lengths*: does it hold for other names? *Other lengths*: does it hold where the positions differ? Only a loss at the
# third step is about length.
#
# > **Predict first.** Flips at the two lengths of the training, and at the three others: a little worse, half, none? Is
# > a length between the two easier than one beyond both?

# %% tags=["tour"]
every = results.find("scaling_lengths", lm) if PROFILE == "quick" else None
print("from the run above" if every is None else "from the full run, notebooks/results")
if every is None:
    every = scaling.by_length(lm, task, fit.intervention).assign(seed=SEED, task=task.name)

for ax, rows in beside.axes(beside.tables("scaling_lengths", lm, every), size=(5.5, 3.6)):
    cells = means(rows[rows["split"] == "test"], "flips", ["task", "length", "seen"], over="row")  # seeds share prompts
    for (name, part), colour in zip(cells.groupby("task"), plots.PALETTE, strict=False):
        part = part.sort_values("length")
        spread = [part["value"] - part["low"], part["high"] - part["value"]]
        ax.errorbar(part["length"], part["value"], yerr=spread, color=colour, capsize=2, label=name)
        for seen, marker in ((True, "o"), (False, "s")):
            some, face = part[part["seen"] == seen], colour if seen else "white"
            ax.plot(some["length"], some["value"], marker, color=colour, markerfacecolor=face)
    ax.set(xlabel="tokens of the prompt (filled: a length of the training)", ylabel="flips", ylim=(-0.02, 1.05))
    ax.legend(frameon=False)
plt.show()

# %%
for name, rows in beside.tables("scaling_lengths", lm, every).items():
    groups = rows["split"].where(rows["split"] == "train", rows["seen"].map({True: "same", False: "other"}))
    named = groups.map({"train": "1 training prompts", "same": "2 same lengths", "other": "3 other lengths"})
    table = means(rows.assign(prompts=named), "flips", ["task", "prompts"], over=["split", "row"])
    print(name)
    display(table[["task", "prompts", "value", "low", "high", "units"]].round(2))

# %%
other = sl.tasks.answer_tokens(lm, task.test)[1]
said = (lm.logits(list(task.test["prompt"]), -1 * fit.intervention).argmax(-1) == other).float().cpu()
by_length = task.test.assign(length=lengths["test"], said=said.numpy()).groupby("length")["said"].mean()
print("at β = -1 the other name is what the model says, by length:", by_length.map("{:.0%}".format).to_dict())

# %% [markdown]
# A flip is a sign: the right name falls below the other one, and a third may stand above both. So the last line asks
# what the model then says. For capitals faithfulness weighs a tenth; at equal weights they stay where they are. The
# bundled model's full run is the third that was looked at, held-out flips included, so take its shares as those of one
# choice among three. Where the bare model itself is less sure, less is there to be scaled.
#
# ## 5 · The map follows the words
#
# The paper's Figure 5: the same scalars on prompts in which the answer stands at another position. Here the map is
# computed for each prompt; nothing in it was learned for a position.
#
# > **Predict first.** Which tokens will be scaled up, which down? Will they move with the words?

# %%
figure, axes = plt.subplots(2, 1, figsize=(12, 9), layout="constrained", facecolor="white")
maps = [scaling.scalars_by_token(lm, fit.intervention, task.test.loc[i]) for i in (shortest, longest)]
limit = max(float(scalars["value"].abs().quantile(0.995)) for scalars in maps)
for ax, scalars in zip(axes, maps, strict=True):
    plots.scalar_map(scalars, limit=limit, ax=ax)
plt.show()

# %% [markdown]
# **And the paper's question: is the largest scalar on the answer?** Counted over the prompts of lengths never seen (of
# the kept runs: over all test prompts). BOS is set aside: it is the same in all prompts, and can't know the answer.

# %%
trained = set(lengths["training"])
unseen = task.test[~lengths["test"].isin(trained)]
largest = results.find("scaling_largest", lm)
if largest is None:
    largest = scaling.largest_by_role(lm, unseen, fit.intervention).assign(task=task.name)
for ax, rows in beside.axes(beside.tables("scaling_largest", lm, largest, by="task"), size=(5.5, 3)):
    labels = ("role of the token", "prompts with the scalar there")
    plots.bars(rows, "role", "share", by="which", labels=labels, ax=ax)
    ax.set_xlim(-0.03, 1.03)
plt.show()

# %%
ledger.box("Activation scaling", "Figure 5")

# %% [markdown]
# IO is the receiver, the answer. **On the bundled model the answer is no:** the map moves with the words, but what it
# marks most is another token, such as the comma after the names. A map that follows the words has not thereby found
# what you were looking for.
#
# Play: choose a prompt, move $\beta$, switch locations off.

# %%
from steerlab.widgets import scalar_panel

panel = scalar_panel(lm, fit, task.test)
panel

# %% [markdown]
# ## 6 · How far does it carry?
#
# Another length is one thing, another *sentence* is another. The same intervention on templates that the fit has not
# seen (nor, word for word, has the model):

# %%
rows = []
for template in TEMPLATES:
    other = sl.tasks.ioi(lm, 80, SEED, templates=[template]).test
    scored = sl.score(lm, other, fit.intervention)
    flips, bare = share(scored["flips"]), share(scored["bare"] > 0)
    rows.append({"template": template, "flips": flips.value, "low": flips.low, "high": flips.high, "bare": bare.value})
templates = pd.DataFrame(rows)
with pd.option_context("display.max_colwidth", 90):
    display(templates.round(2))

# %% [markdown]
# **You should see** nearly all prompts of the first template flip, and a third to two thirds of the others: the probes
# have learned a kind of sentence, and not only the people in it.
#
# ## 7 · Exercises
#
# **7.1 · Scale by itself.** ●○○ about 5 minutes. Write the edit for a batch.

# %%


def scale_dynamically(h: torch.Tensor, w: torch.Tensor, beta: float) -> torch.Tensor:
    """h: [batch, pos, d_model], w: [d_model]; returns h scaled by 1 + β <w, h>, each position by its own."""
    return h  # your code here


exercises.check_dynamic(scale_dynamically)

# %% [markdown]
# <details><summary>Hint</summary><code>h @ w</code> has the shape [batch, pos]. What has to be added to it before it
# can multiply <code>h</code>?</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def scale_dynamically(h, w, beta):
#     return h * (1 + beta * (h @ w))[..., None]
# ```
#
# </details>
#
# **7.2 · On paper.** ●●○ about 10 minutes. You apply DynScalar with $\beta = 1$ to the residual stream of two layers
# in a row, and both have the same $w$. By how much is an activation scaled in all? Why can't the map of the bare
# model, which this notebook draws, show that?
#
# <details><summary>Solution</summary>With $a = \langle w, h \rangle$ the first layer gives $h(1 + a)$. The second sees
# that (if the block adds nothing), so its scalar is $a(1 + a)$, and in all it is $(1 + a)(1 + a + a^2)$. The map is
# read from activations that nobody has edited, so it shows $a$ twice. Far from $\beta = 0$ the live scalars are others,
# and the deeper, the more so. That is also why edits are recomputed through the layers while fitting.</details>
#
# **7.3 · A probe for another length.** ●●● about 20 minutes. Train DynScalar on prompts of your choice, and show that
# it works on prompts of a length that its training did not have: 80 % of them have to flip. You choose sentences,
# openings, places, objective. Begin with one opening in training; if it fails, what has the probe learned?

# %%
own = sl.tasks.ioi(lm, 120, seed=SEED, templates=TEMPLATES[:1])  # give test_templates of another length
my_probe = 0 * fit.intervention

exercises.check_probe(lm, my_probe, own.train, own.test)

# %% [markdown]
# <details><summary>Hint</summary><code>sl.tasks.ioi</code> takes <code>templates</code> for the training and
# <code>test_templates</code> for the test: put an opening of your own in front of the same sentence.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# sentence = "When {P} and {Q} went to the {place}, {S} gave a {object} to"
# own = sl.tasks.ioi(lm, 200, seed=1, templates=[sentence, "It was a fine day. " + sentence],
#                    test_templates=["So it was. " + sentence])
# objective = sl.Objective(margin=10, faithfulness=0.1, minimality=0.01)
# middle = sl.DynScalar(layers=(2, 3, 4, 5))
# long = {"steps": 100, "patience": 50, "batch_size": 4, "lr": 0.1}  # about ten seconds
# my_probe = sl.fit(lm, own.train, middle, objective, seed=0, **long).intervention
# ```
#
# </details>
#
# ## 8 · What could be wrong?
#
# - **The lengths may be too alike.** An opening in front is the mildest change there is: the sentence with the names is
#   the same. Section 6 is the harder test.
# - **It need not have found the names.** A direction that marks *the last token of such a sentence* would flip
#   answers at any length too, without knowing a name. The bars of section 5 say where the largest scalars stand.
# - **A map of the bare model.** Scalars are read before any edit; see exercise 7.2.
# - **Padding.** Rows of a batch are padded on the left, and a padded row must come out as it does alone. Tests of the
#   package check that, and that padding is never edited into the answer.
# - **Many numbers again.** A direction for each site is as much as SteerVec has for one position. Whether the l1 norm
#   makes $w$ sparse depends on the axes of the stream, which mean nothing by themselves.
#
# **Open questions:** Would a probe found by regression, without
# any steering, do the same? Does $w$ point along the names' own embeddings, or along *is the receiver*?
