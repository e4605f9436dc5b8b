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
# # 05 · How few numbers flip an answer?
#
# *When Mary and John went to the store, John gave a book to* … Mary. Somewhere in the model is what makes it say *Mary*
# and not *John*. This notebook turns the volume of what is already there up and down, one number for each place where
# something happens, until a single knob moves the answer from one name to the other. Then it asks how few of these
# numbers are needed, and what they tell about the model.
#
# **Paper.** Stoehr et al., *Activation Scaling for Steering and Interpreting Language Models*, Findings of EMNLP 2024,
# [arXiv 2410.04962](https://arxiv.org/abs/2410.04962). Its code was never published, and we know the paper from its
# abstract, figures and other people's notes. So the form of each term below is **our reconstruction**, and is marked
# as such; results compare in kind, not in size.
#
# **After this notebook you can**
# 1. write down the three wishes of the paper as three functions, and say why each has the form it has;
# 2. fit one scalar per site and position with nnsight and Adam, and check it against the package;
# 3. read a map of scalars, and test by hand which of its cells are needed;
# 4. compare two methods on a Pareto front instead of at one lucky setting;
# 5. say what a fitted map does *not* prove.
#
# **You need** notebooks 00 and 01; 02 helps.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; "gemma-3-270m" is the real one; or any Hugging Face name
PROFILE = "quick"  # "paper": the whole grid of Figure 2 and all seeds, live (about an hour)
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
import functools
from collections.abc import Callable

import matplotlib.pyplot as plt
import nnsight
import pandas as pd
import torch
from IPython.display import display
from nnsight import TransformersModel

import steerlab as sl
from steerlab import diagrams, exercises, plots
from steerlab import objective as terms
from steerlab.experiments import beside, ledger, results, scaling

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
SEEDS = (0, 1, 2) if PROFILE == "paper" else (SEED,)


def full_run(name: str, here: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The kept frame of a full run on this model; where there is none, it is made here, smaller."""
    kept = results.find(f"scaling_{name}", lm) if PROFILE == "quick" else None
    print("from the full run, notebooks/results" if kept is not None else "made here")
    return here() if kept is None else kept


lm

# %% [markdown]
# **Two models.** The bundled model runs here. Beside it stand, wherever they are kept, the full runs of a real model,
# Gemma 3 270M: a figure then has two panels, and the boxes (*paper, real model, bundled model*) fill themselves. With
# `MODEL = "gemma-3-270m"` above the notebook itself runs on it. The commands that make its tables again:

# %%
for name in (beside.REAL, results.short_name(lm)):
    ran = results.runs("scaling", name)
    print(f"{name}: {len(ran)} commands kept")
    print(*ran["command"], sep="\n", end="\n\n")

# %% [markdown]
# ## 1 · The idea, then the formula
#
# Steering with a vector *adds* something to an activation. Scaling only makes what is there larger or smaller:
#
# $$ h \;\leftarrow\; h\,(1 + \beta\,\alpha) $$
#
# Each place (here what attention and MLP add to the stream), layer and token position has a scalar $\alpha$ of its own.
# $\beta$ is the knob, one for all of them: 0 is the untouched model, $\beta = 1$ is to favour the correct answer,
# $\beta = -1$ the wrong one. A scalar is a *relative* change: $\alpha = 0.5$ is half as much again, $\alpha = -1$
# silences the activation at $\beta = 1$, and below $-1$ it points the other way.
#
# In the table of all five methods (notebook 00) this is the **gain** $\gamma$, with one number per position. Its rival,
# *SteerVec*, has a vector in each of the same places, $h \leftarrow h + \beta v$: the **shift**, and `d_model` times
# as many numbers. In a picture, for one sentence of the task:

# %%
SENTENCE = "When Mary and John went to the store, John gave a book to"
places = sl.ActivScalar(("attn_out", "mlp_out")).sites(lm)
ones = torch.ones(len(places), len(lm.tokens(SENTENCE)), 1)
picture = sl.ActivScalar(("attn_out", "mlp_out")).intervention(places, ones, {})
diagrams.intervention(lm, picture, SENTENCE, new_tokens=1, title="ActivScalar: one number per place, layer and token")
plt.show()

# %% [markdown]
# The task: the receiver's name or the giver's? Words of the test never occur in the training prompts. The numbers
# belong to positions, so all prompts have one length, and the receiver is always named first.

# %%
task = sl.tasks.ioi(lm, 200, seed=SEED, orders=["ABBA"])
display(task.train[["prompt", "correct", "wrong"]].head(3))
row = task.test.iloc[0]
pd.DataFrame({"token": lm.tokens(row.prompt), "role": row.roles}).T

# %% [markdown]
# ## 2 · What do we want? Three terms
#
# **Effectiveness.** Let $\Delta(\beta)$ be the logit of the correct name minus that of the wrong one. The answer
# follows the knob if $\Delta(1) > 0$ and $\Delta(-1) < 0$. A step has no slope, so we ask for a margin $m$, and pay
# for each nat that is missing:
#
# $$ L_E = \max\bigl(0,\, m - \Delta(1)\bigr) + \max\bigl(0,\, m + \Delta(-1)\bigr) $$
#
# Without the hinge the best answer would be infinitely strong. With it, a prompt that is done no longer pulls.
#
# **Faithfulness.** Nothing else should change. The two names must move, so they are left out: of all *other* tokens,
# compare the distribution before and after, each summing to 1:
#
# $$ L_F = \mathrm{KL}\bigl(p_{\text{others}} \,\|\, p^{\beta}_{\text{others}}\bigr)
# \quad \text{averaged over } \beta = \pm 1 $$
#
# **Minimality.** Few numbers: $L_M = \sum |\alpha|$. The sum of absolute values has the same slope however small a
# number is, so it drives numbers to exactly zero; a sum of squares would only make them small.
#
# $$ L = L_E + \lambda_F L_F + \lambda_M L_M $$
#
# *Our reconstruction*: that the hinge has this form, that the answers are left out of the divergence and which way it
# points, and that the three are added like this. Appendix A tries the alternatives.
#
# By hand on one prompt, with some scalars drawn at random, and beside it the package's functions:

# %%
method = sl.ActivScalar(("attn_out", "mlp_out"))
sites = method.sites(lm)
length = len(lm.tokens(row.prompt))
some = 0.3 * torch.randn(len(sites), length, 1, generator=torch.Generator().manual_seed(SEED))
steer = method.intervention(sites, some, {})

correct, wrong = (token.cpu() for token in sl.tasks.answer_tokens(lm, task.test.head(1)))
base, plus, minus = lm.logits([row.prompt] * 3, [None, steer, -steer]).cpu().unsqueeze(1)
delta = {beta: float(z[0, correct] - z[0, wrong]) for beta, z in ((0, base), (1, plus), (-1, minus))}
MARGIN = 10
L_E = max(0, MARGIN - delta[1]) + max(0, MARGIN + delta[-1])


def others(z: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of all tokens but the two answers."""
    keep = torch.ones(z.shape[-1], dtype=torch.bool)
    keep[[int(correct), int(wrong)]] = False
    return z[0, keep].log_softmax(-1)


L_F = sum(float((others(base).exp() * (others(base) - others(z))).sum()) for z in (plus, minus)) / 2
L_M = float(some.abs().sum())

pair = [terms.difference(z, correct, wrong) for z in (plus, minus)]
faithful = [terms.faithfulness(z, base, correct, wrong) for z in (plus, minus)]
torch.testing.assert_close(terms.effectiveness(*pair, MARGIN), torch.tensor([L_E]), rtol=1e-4, atol=1e-4)
torch.testing.assert_close(sum(faithful) / 2, torch.tensor([L_F]), rtol=1e-3, atol=1e-4)
torch.testing.assert_close(terms.minimality([some]), torch.tensor(L_M), rtol=1e-4, atol=1e-4)
print(f"L_E {L_E:.2f} nats short of the margin, L_F {L_F:.3f} nats, L_M {L_M:.1f}: by hand and by the package alike")

# %%
moved = "flips" if delta[1] > 0 > delta[-1] else "does not flip"
print(f"with random scalars Δ is {delta[1]:.1f} at β = 1, {delta[-1]:.1f} at β = -1, bare {delta[0]:.1f}: this {moved}")

# %% [markdown]
# ## 3 · From scratch, in nnsight
#
# The pass with scaled sublayers is a trace as in notebook 01. Note what is *not* there: no cached activations. Each
# layer works on what the layers below it have made of their own changes.

# %%
traced = TransformersModel(lm.hf, tokenizer=lm.tokenizer)
blocks = traced.get(lm.layout.blocks)
few = task.train.head(8)
ids = lm.batch(list(few.prompt)).ids
yes, no = (token[:, None] for token in sl.tasks.answer_tokens(lm, few))


def scaled(alpha: torch.Tensor, beta: float) -> torch.Tensor:
    """Next-token logits [prompt, vocab] under scalars alpha [layer, place, position]."""
    with traced.trace(ids):
        for layer, block in enumerate(blocks):
            for place, path in enumerate((lm.layout.attn, lm.layout.mlp)):
                module = block.get(path)
                whole = module.output
                h = whole[0] if isinstance(whole, tuple) else whole
                new = h * (1 + beta * alpha[layer, place, :, None])
                module.output = (new, *whole[1:]) if isinstance(whole, tuple) else new
        logits = nnsight.save(traced.output.logits[:, -1])
    return logits.float()


# %% [markdown]
# And the fit: ten lines. The model is frozen, so the only gradient is that of the scalars.

# %%
STEPS = 10
alpha = torch.zeros(lm.n_layers, 2, ids.shape[1], device=lm.device, requires_grad=True)
adam, total = torch.optim.Adam([alpha], lr=0.02), torch.zeros_like(alpha)
hide = torch.cat([yes, no], 1)
log_p = scaled(torch.zeros_like(alpha), 0).scatter(1, hide, -1e9).log_softmax(-1)

for _ in range(STEPS):
    loss = alpha.abs().sum()
    for beta in (1, -1):
        z = scaled(alpha, beta)
        gap = z.gather(1, yes) - z.gather(1, no)
        log_q = z.scatter(1, hide, -1e9).log_softmax(-1)
        loss = loss + (MARGIN - beta * gap).relu().mean() + (log_p.exp() * (log_p - log_q)).sum(1).mean() / 2
    adam.zero_grad()
    loss.backward()
    adam.step()
    total += alpha.detach()
by_hand = total / STEPS
print(f"loss after {STEPS} steps: {loss.item():.2f}; largest scalar {by_hand.abs().max():.2f}")

# %% [markdown]
# The package's call, with the same eight prompts in every step, and the assertion that both agree. (It returns the
# mean of the last steps and not the very last, which takes out the optimiser's jitter; so did we.)

# %%
same = sl.fit(
    lm, few, method, sl.Objective(margin=10, faithfulness=1, minimality=1), steps=STEPS, patience=STEPS, batch_size=8
)
package = torch.stack([edit.gain for _, edit in same.intervention.edits]).view_as(by_hand)
torch.testing.assert_close(package, by_hand, rtol=1e-3, atol=1e-3)
print(f"the package and the loop agree: they differ by at most {(package - by_hand).abs().max():.0e}")

# %% [markdown]
# ## 4 · The package's call
#
# A hundred prompts, a few of them in each step. The fit stops when the loss no longer falls. We take larger steps and
# smaller batches than the package does by default, since this notebook fits many times; the full run `options` has
# both.

# %%
OBJECTIVE = sl.Objective(margin=10, faithfulness=1, minimality=1)
OPTIONS = scaling.CHEAP
print(OPTIONS)
fit = sl.fit(lm, task.train, method, OBJECTIVE, seed=SEED, **OPTIONS)
fit

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained", facecolor="white")
for ax, (column, name) in zip(
    axes, {"loss": "loss, nats", "minimality": "Σ |α|", "flip_rate": "flips in the batch"}.items(), strict=True
):
    ax.plot(fit.history["step"], fit.history[column], color=plots.PALETTE[0])
    ax.set(xlabel="step", ylabel=name, ylim=(0, None))
plt.show()

# %% [markdown]
# Does it work on names, places and objects that the fit has not seen? A flip is $\Delta(1) > 0$ *and* $\Delta(-1) < 0$.
# Two controls: the same numbers at other locations, shuffled, and the same numbers on sentences in which the giver is
# named first.
#
# > **Predict first.** The scalars belong to positions, and position 2 now holds the *giver*. Will the knob still move
# > from receiver to giver? Or from first name to second?

# %% tags=["tour"]
swapped = sl.tasks.ioi(lm, 200, seed=SEED, orders=["BABA"]).test


def summary(frame: pd.DataFrame, steer: sl.Intervention) -> dict[str, float]:
    """Held-out flips with their interval, how often the other name is then said, and the terms in nats."""
    metrics = sl.evaluate(lm, frame, steer).set_index("metric")
    other = sl.tasks.answer_tokens(lm, frame)[1]
    said = (lm.logits(list(frame["prompt"]), -1 * steer).argmax(-1) == other).float().mean()
    low, high = metrics.loc["flip_rate", ["low", "high"]]
    flips = {"flips": metrics["value"]["flip_rate"], "low": low, "high": high, "other name said": float(said)}
    return flips | metrics["value"][["effectiveness", "faithfulness", "locations"]].to_dict()


measured = pd.DataFrame(
    {
        "learned": summary(task.test, fit.intervention),
        "the same numbers, shuffled": summary(task.test, scaling.shuffled_locations(fit.intervention, SEED)),
        "learned, giver named first": summary(swapped, fit.intervention),
    }
).T
display(measured.round(2))

# %% [markdown]
# **You should see** nearly all answers flip, and fewer in which the *other name* is then what the model says: a flip is
# a sign, and a third name may stand above both. Faithfulness says at what price, in nats of the other tokens. Shuffled
# numbers flip next to nothing. Where the giver is named first the scalars fail: they know positions, not roles.
# Notebook 06 mends that.

# %%
ledger.box("Activation scaling", "3")

# %% [markdown]
# ### The other task, and a trap
#
# Capitals: ` Rome is in` → Italy, not France. *In conflict*, the prompt first says that Rome is in France, so both
# countries can be copied or remembered. *Plain*, the wrong country is drawn at random, and nothing in the prompt
# names it. At $\beta = -1$ the scalars can then do only one thing: push the right country below any other.

# %%
softer = sl.Objective(margin=10, faithfulness=0.1, minimality=0.1)
plain = sl.tasks.ccc(lm, 100, SEED)
fitted = sl.fit(lm, plain.train, sl.ActivScalar(), softer, seed=SEED, **OPTIONS)
pd.DataFrame({"plain capitals": summary(plain.test, fitted.intervention)}).T.round(2)

# %% [markdown]
# Half of them flip, and the other country is hardly ever said. A story at hand: an early layer has erased what the
# model knows, and then nothing is left above for a scalar to turn round. So scale the upper half of the layers only.
# Or is it just this start?
#
# > **Predict first.** Which of the two helps: only the upper half of the layers, or another seed? And will capitals in
# > conflict need either?

# %%
upper = tuple(range(lm.n_layers // 2, lm.n_layers))


def small_table() -> pd.DataFrame:
    """Both kinds of capitals, in all layers and in the upper half, with two seeds."""
    methods = [sl.ActivScalar(), sl.ActivScalar(layers=upper)]
    both = [plain, sl.tasks.ccc(lm, 200, SEED, conflict=True)]
    return scaling.table(lm, both, methods, softer, seeds=(SEED, SEED + 1), **OPTIONS)


fits = full_run("table", small_table).query("condition == 'learned' and method == 'ActivScalar'")
capitals = fits[fits["task"].str.startswith("ccc") & fits["places"].str.startswith("attn_out")]
capitals.pivot_table("flip_rate", ["task", "places"], "seed").round(2)

# %% [markdown]
# **You should see**, on the bundled model, that the seed decides and not the layers: plain, seeds 1 and 2 flip all
# answers in either, and seed 0 half of them or a third. In conflict all flip anyway. With seed 0 alone, as this page
# had it at first, the upper half once looked like a cure (100 % against 56 %), and the story was good. A gradient
# follows the first slope that it finds. When a fit fails, was it stuck, or is there nothing to find? Only another
# start can tell. (The kept fits are longer than the one above, with $\lambda_M = 0.01$.)
#
# ## 5 · Where? The map
#
# The paper's Figure 3 scales the residual stream itself, `resid_post`, on GPT2-XL: one scalar for each layer and token,
# and beneath it the two answers as $\beta$ goes from −1 to 1.
#
# > **Predict first.** Which tokens will carry large scalars? The two names, the place, the last token? Early layers or
# > late ones? And which row of the map *can't* matter, whatever its scalars are?


# %%
@functools.cache
def stream() -> sl.Fit:
    """The fit of this notebook, where there is no kept one."""
    return sl.fit(lm, task.train, sl.ActivScalar(("resid_post",)), OBJECTIVE, seed=SEED, **OPTIONS)


def answers() -> pd.DataFrame:
    """The mean probabilities of the two answers over β."""
    return scaling.mean_answers(scaling.beta_sweep(lm, task.test, stream().intervention))


where = full_run("map", lambda: scaling.scalars_by_token(lm, stream().intervention, row))
by_beta = full_run("beta", answers)
for ax, rows in beside.axes(beside.tables("scaling_map", lm, where), size=(7, 4)):
    plots.scalar_map(rows, ax=ax)
for ax, rows in beside.axes(beside.tables("scaling_beta", lm, by_beta), size=(7, 3)):
    plots.lines(rows, "beta", "p", by="answer", labels=("β", "mean probability"), ax=ax)
plt.show()

# %% [markdown]
# Where the two lines cross, the answer flips. Look also at how high they are at $\beta = -1$: where both are low, the
# scalars have *erased* a name rather than put the other in its place.
#
# The last layer's row can do nothing. The final norm divides by the size of the stream, so scaling all of it by a
# positive number changes no logit. The same holds, less strictly, in every row: a block reads the stream through a
# norm, so making $h$ larger is the same as making *all that later layers add* smaller. A large $\alpha$ at one token
# means "what this token knows by now is to weigh more than what it will still be told". Checked:

# %%
double = sl.scale(1, layer=-1)
change = float((lm.logits(row.prompt, double) - lm.logits(row.prompt)).abs().max())
print(f"the last stream doubled: logits change by at most {change:.0e}")

# %% [markdown]
# The same scalars serve all prompts. What does one prompt alone ask for? A fit for each of some prompts, averaged by
# the role of the token:

# %%
COUNT = 20 if PROFILE == "paper" else 2
some = task.test.head(COUNT)
examples = full_run("examples", lambda: scaling.by_role(scaling.example_maps(lm, some, objective=OBJECTIVE, **OPTIONS)))
for ax, rows in beside.axes(beside.tables("scaling_examples", lm, examples), size=(5.5, 4)):
    plots.scalar_map(rows, x="role", ax=ax)
plt.show()

# %%
ledger.box("Activation scaling", "Figure 3")

# %% [markdown]
# *Why they differ.* Other models with fewer layers, prompts of our own, and an objective that is reconstructed. A name
# that stands before the answer is copied by attention; where in depth that happens is a property of the model. On the
# real model one prompt alone asks for few large scalars: the giver's second mention up in layers 7 and 8 (0.25 and
# 0.42, n = 10), and in layer 11 its first mention up and the receiver's name down (0.52 and −0.25).
#
# ### Minimality, felt by hand
#
# Of all these numbers, how many does the flip need? Keep the largest $k$ and set the others to zero, without fitting
# again. On fifty held-out prompts:

# %%
spots = sl.locations(fit.intervention)
rows = []
for k in (1, 2, 3, 5, 13, 34):
    kept = sl.keep(fit.intervention, spots.nlargest(k, "norm"))
    rows.append(summary(task.test.head(50), kept) | {"kept": k})
pruned = pd.DataFrame(rows).melt("kept", ["flips", "other name said"], "held-out prompts")
labels = ("largest locations kept", "share of held-out prompts")
plots.lines(pruned, "kept", "value", by="held-out prompts", log=True, labels=labels)
plt.ylim(-0.02, 1.02)
plt.show()

# %%
spots.nlargest(3, "norm")[["place", "layer", "position", "value"]].round(2)

# %% [markdown]
# On the bundled model one location flips nine prompts of ten. In seven of ten the other name is then what the model
# says; with four more locations in nine.
#
# Now with your own hands. Pick a test prompt, move $\beta$, press cells of the map to switch them off, or cut by a
# threshold: does the flip survive?

# %%
from steerlab.widgets import scalar_panel

panel = scalar_panel(lm, fit, task.test)
panel

# %% [markdown]
# ## 6 · Scalars against vectors: the Pareto front
#
# Which method is better? That depends on how much of each wish you want. So the paper fits both over a whole grid,
# $m, \lambda_F, \lambda_M \in \{0, 1, 10, 100\}$, and compares the *fronts*: the settings that no other beats in both
# respects (its Figure 2).
#
# > **Predict first.** SteerVec can do all that a scalar can on one prompt, and has hundreds of times more numbers. On
# > training prompts, whose front lies lower? And on held-out ones?
#
# The whole grid takes an hour, so the figure shows the full run. A model that has none gets a small grid here.

# %%
grid = sl.Objective.grid() if PROFILE == "paper" else sl.Objective.grid((10,), (0, 10), (1,))
fronts = full_run(
    "pareto", lambda: scaling.pareto(lm, task, objectives=grid, seeds=SEEDS, **OPTIONS).assign(task=task.name)
)

names = list(fronts["task"].unique())
for cost in ("faithfulness", "minimality"):
    for ax, rows in beside.axes(beside.tables("scaling_pareto", lm, fronts, by="task"), size=(5.5, 3.7)):
        plots.fronts(rows, cost, ax=ax)
plt.show()

# %% [markdown]
# Points are settings on held-out prompts, crosses the same on training prompts; the lines are the held-out fronts of
# one seed. *Minimality* adds up different things for the two methods, scalars and components of vectors, so look at how
# many numbers there are as well. What does each pay for the same effectiveness? We take the settings on the training
# front, measure them on held-out prompts and interpolate. (We first tried the most faithful setting that is strong
# enough, and changed it after seeing the result: the two methods then came out at different effectiveness, and vectors
# cost less at one level of four.)

# %%
equal = pd.concat(scaling.at_equal_effectiveness(fronts[fronts["task"] == name]).assign(task=name) for name in names)
paid = equal.groupby(["task", "level", "method"])[["faithfulness", "kl", "flip_rate", "numbers", "parameters"]].mean()
paid.round(2)

# %%
ledger.box("Activation scaling", "Figure 2")

# %% [markdown]
# *Why they differ.* $\lambda_F$ and $\lambda_M$ mean something only relative to the form of the terms, which is ours.
# The l1 norm is a sum over all numbers, so at equal $\lambda_M$ a vector is punished far more than a scalar. Gemma's
# grid shows it at its barest. It is coarse (1 and 10, ten training prompts, 40 steps), minimality weighs at least 1,
# and no vector leaves the random numbers that it began with. Its two fronts don't meet, so they don't compare the
# methods; the rows of equal effectiveness in the box do, and they are of fits with a small $\lambda_M$.
#
# ## 7 · Do the vectors agree with each other?
#
# SteerVec starts from small random numbers, so two runs differ. The paper's Figure 4 asks what of a run comes out the
# same: *where* the vectors change the length of the activations, and their *direction*.
#
# Without minimality this time. The $\ell_1$ norm adds up tens of thousands of components, so that even a small price on
# each outweighs the answer, and vectors stay at the random numbers they began with.
#
# > **Predict first.** Three runs with other seeds: will they choose the same places? The same directions?

# %%
vector = sl.SteerVec(("resid_post",))
free = sl.Objective(margin=10, faithfulness=1, minimality=0)


@functools.cache
def runs() -> list[sl.Fit]:
    """Two runs of this notebook, where there are no kept ones."""
    return [sl.fit(lm, task.train, vector, free, seed=seed, **OPTIONS) for seed in (SEED, SEED + 1)]


def changes_here() -> pd.DataFrame:
    """What the vectors of these runs change."""
    return pd.concat(scaling.vector_changes(lm, task.test, run.intervention).assign(seed=run.seed) for run in runs())


tokens = dict(enumerate(lm.tokens(row.prompt)))
changes = full_run("vectors", changes_here)
changes["token"] = changes["position"].map(tokens)
for column, label in {"change": "‖h+v‖ − ‖h‖", "turn": "1 − cos(h, h+v)"}.items():
    for ax, rows in beside.axes(beside.tables("scaling_vectors", lm, changes), size=(6, 3.4)):
        rows = rows.assign(turn=1 - rows["cosine"])[rows["seed"] == rows["seed"].min()]
        plots.scalar_map(rows, value=column, label=label, ax=ax)
    plt.show()

# %%
full_run("runs", lambda: scaling.run_agreement(lm, task.test, runs(), [stream()])).round(2)

# %%
ledger.box("Activation scaling", "Figure 4")

# %% [markdown]
# *Why they may differ.* The paper writes ρ for Kendall's statistic; the vectors' start is our choice (normal, 0.01),
# and so is to leave minimality out. Most scalars are nearly zero, and the order of those is noise: that pulls the
# second τ towards 0.
#
# ## 8 · Everything in one table, and two other maps
#
# Methods × tasks × places with one objective for all, each beside a control: its own numbers at shuffled locations.
# The full run has three seeds; `ioi, both orders` mixes sentences that name the receiver first with those that name
# the giver first. There the seed decides, not the method: three fits of ActivScalar on the sublayers flip 41, 49 and
# 90 % of the held-out prompts. Do two of them stop too early? They do, but it is not all (`scaling restarts`): with a
# longer window (`patience=100`, `steps=800`) three fits flip 100, 98 and 96 % of the hundred prompts that they learn
# from, and 97, 44 and 47 % of the held-out ones. So scalars can do it, and a patient fit learns its prompts, but two
# seeds of three learn those prompts and not the task. Only held-out prompts tell them apart. (Gemma's kept fits are of
# one order alone, and flip all.)

# %%
whole = full_run("table", lambda: scaling.table(lm, [task], [sl.ActivScalar()], OBJECTIVE, seeds=SEEDS, **OPTIONS))
learned = whole[whole["condition"] == "learned"].groupby(["task", "places", "method"])
control = whole[whole["condition"] == "shuffled"].groupby(["task", "places", "method"])["flip_rate"].mean()
table = learned[["flip_rate", "faithfulness", "locations", "parameters"]].mean()
table.insert(1, "shuffled", control)
table.round(2)

# %% [markdown]
# The paper also sets its maps beside *activation patching*: put the activation of the sentence with the other answer
# in the place of this one's, at one location, and see how far the logit difference falls; and *attribution patching*,
# which estimates all of these falls from one gradient. Both say what a location *carries*. A scalar says what it is
# *good to turn up*. These are different questions, and the maps need not agree.

# %%
patched = full_run("patching", lambda: scaling.patching(lm, task.test.head(20 if PROFILE == "paper" else 4)))
patched["token"] = patched["position"].map(tokens)
for column in ("patching", "attribution"):
    for ax, rows in beside.axes(beside.tables("scaling_patching", lm, patched), size=(6, 3.2)):
        plots.scalar_map(rows, value=column, label=f"{column}: fall of Δ, nats", ax=ax)
    plt.show()
full_run("patching_agreement", lambda: scaling.map_agreement(patched, stream().intervention)).round(3)

# %%
ledger.box("Activation scaling", "patching")

# %% [markdown]
# Patching says that the answer travels by the second mention and the last token; the bundled model's scalars stand on
# the receiver's name. Both are right: one finds where the information is *read*, the other what is *good to turn up*.
# On the real model the two meet at the giver's second mention, where patching in layers 3 to 8 turns 12 nats, and yet
# over all 270 locations their orders have little in common.
#
# ## 9 · Exercises
#
# **9.1 · The first wish.** ●○○ about 5 minutes. Write $L_E$ for a batch of prompts.

# %%


def my_effectiveness(plus: torch.Tensor, minus: torch.Tensor, margin: float) -> torch.Tensor:
    """plus: Δ(+1) [batch], minus: Δ(-1) [batch]; returns [batch], 0 where the margin is reached on both sides."""
    return minus - plus  # your code here


exercises.check_effectiveness(my_effectiveness)

# %% [markdown]
# <details><summary>Hint</summary>What should a prompt pay that is better than asked for? <code>.relu()</code> forgets
# what is below zero; apply it to each sign on its own.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def my_effectiveness(plus, minus, margin):
#     return (margin - plus).relu() + (margin + minus).relu()
# ```
#
# </details>
#
# **9.2 · Fewer, and still the other name.** ●●○ about 15 minutes. Keep as few locations of `fit.intervention` as you
# can. Two things must hold on the held-out prompts: 95 % flip, and after 90 % the model at $\beta = -1$ really *says*
# the other name. A flip is a sign: the right name falls below the other one, while a third name may stand above both.
# Start with the single largest location. Which of the two does it fail, and why? (You may scale: `1.5 * kept`.)

# %%
my_kept = sl.keep(fit.intervention, spots)  # all of them so far

exercises.check_fewer(lm, my_kept, fit.intervention, task.test)

# %% [markdown]
# <details><summary>Hint 1</summary>Start from the curve in section 5. Size is a good guide.</details>
#
# <details><summary>Hint 2</summary>A location that only <em>erases</em> the right name leaves it to chance which name
# is said instead. The flip then needs a second one that turns the other name up.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# best = spots.nlargest(3, "norm")
# print(best.round(2))
# my_kept = sl.keep(fit.intervention, best)
# ```
#
# The largest alone flips 88 % of the prompts, but the other name is said after 70 % only; two reach 94 % and 87 %,
# three 99 % and 92 %, and with all of them it is 99 % and 94 %.
#
# </details>
#
# **9.3 · An answer pair of your own.** ●●● about 30 minutes. *Important: the whole method, on your own question.* Write
# sentences with an answer that the model knows and another that it could give: a template of your own, or a frame of
# `prompt`, `correct`, `wrong` for `sl.tasks.from_frame`. Fit scalars, and keep three locations at most. On held-out
# prompts the right answer has to stay at $\beta = 1$, and at $\beta = -1$ 80 % have to flip and half of them say the
# other one.

# %%
own = sl.tasks.ioi(lm, 120, seed=SEED, orders=["ABBA"])  # our sentences: write your own
own_kept = 0 * fit.intervention  # fit on own.train, then sl.keep

exercises.check_own_answers(lm, own.train, own.test, own_kept)

# %% [markdown]
# <details><summary>Hint 1</summary><code>sl.tasks.ioi(lm, templates=["Today {P} met {Q} ..."])</code> fills in names,
# places and objects that are single tokens. Let a word stand before the first name, or it is another token.</details>
#
# <details><summary>Hint 2</summary>A softer objective lets the flip grow:
# <code>sl.Objective(margin=10, faithfulness=0.1, minimality=0.1)</code>. And a few scalars can be turned further
# together: <code>1.5 * kept</code>.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# template = "Today {P} met {Q} at the {place}, and {S} gave the {object} to"
# own = sl.tasks.ioi(lm, 200, seed=1, templates=[template], orders=["ABBA"])
# fitted = sl.fit(lm, own.train, sl.ActivScalar(), sl.Objective(10, 0.1, 1), seed=0, **scaling.CHEAP).intervention
# own_kept = 1.5 * sl.keep(fitted, sl.locations(fitted).nlargest(3, "norm"))
# ```
#
# </details>
#
# ## 10 · What could be wrong?
#
# - **Any change might flip names.** That is what the shuffled control is for: the same numbers elsewhere.
# - **It might know positions, not roles.** The test with the giver named first says which. A tied scalar is an answer
#   to *where*, and the template decides what stands there.
# - **One setting might be lucky.** So fronts are compared, over a grid and several seeds, and settings are chosen on
#   training prompts only.
# - **A map is not a mechanism.** Patching asks another question and gives another map. A cell that is large may serve
#   only to undo what another does; switch it off in the panel and see.
# - **Faithfulness is only the next token's.** What happens to the rest of the text is not asked. With names left out,
#   what remains after *gave a book to* is little probability, and its divergence can be large where nobody looks.
# - **Flipping at both signs is not symmetric.** The bare model is right on most prompts already, so $\beta = 1$ has
#   little to do, and nearly all the work is at $\beta = -1$.
#
# **Open questions:** Do the few
# locations that suffice stay the same in another template? Does a map of scalars fitted on one model size predict that
# of the next? What would a *signed* faithfulness, on text that should not change, look like?

# %% [markdown]
# ## Appendix A · Which of our choices matter?
#
# The reconstruction had to decide. Each alternative alone, against what was decided, on held-out prompts:

# %%
shown = results.find("scaling_choices", lm) if PROFILE == "quick" else None
if shown is None:
    shown = scaling.choices(lm, task, OBJECTIVE, **OPTIONS)
shown.pivot_table("value", "choice", "metric", sort=False)[
    ["flip_rate", "effectiveness", "faithfulness", "kl", "minimality", "locations"]
].round(2)

# %% [markdown]
# ## Appendix B · Without gradients
#
# Some models can be run but not differentiated, as on a shared server that returns logits only. *SPSA* (Spall, 1992)
# estimates the slope from forward passes alone: push all numbers by a small random ±c, once this way and once that way,
# and see which of the two is better; a few such pairs side by side in one batch. For a few hundred scalars that is
# affordable; for SteerVec's tens of thousands the noise drowns the signal. Minimality has to weigh little here: each
# noisy step moves *all* numbers, and $\sum|\alpha|$ adds that up.

# %%
shown = results.find("scaling_gradients", lm) if PROFILE == "quick" else None
if shown is None:
    shown = scaling.gradients(lm, task, method, scaling.SOFT, **OPTIONS | {"steps": 90, "lr": 0.03})
smooth = shown.assign(loss=shown.groupby("gradient")["loss"].transform(lambda side: side.rolling(5, 1).mean()))
plots.lines(smooth, "forwards", "loss", by="gradient", log=True, labels=("rows run through the model", "loss, nats"))
plt.show()
