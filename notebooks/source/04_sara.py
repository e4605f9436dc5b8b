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
# # 04 · What if the edit looked at the prompt first?
#
# ActAdd adds the same vector to every prompt. SARA asks each neuron of *your* prompt two questions: how like are you to
# the same neuron under an attracting prompt, how like under a repelling one? Then it makes the neuron louder or softer
# by the difference. The edit is a **gain**, and it depends on what is steered.
#
# The idea is good, and the released code has traps worth a notebook: a sign that nobody chose, an edit that becomes
# another one once the model starts to write, and a baseline measured on different questions.
#
# **Paper.** Tlaie, *Exploring and steering the moral compass of large language models*, [arXiv
# 2405.17345](https://arxiv.org/abs/2405.17345), with its code, atlaie/ethical-llms.
#
# **After this notebook you can**
# 1. compute SARA's gain by hand, as released and in a form that means the same on every computer;
# 2. name the ways in which the released form is fragile, and measure each;
# 3. compare methods at equal dose instead of at equal coefficient;
# 4. compare shares of answers fairly: same dilemmas, same noise, intervals, controls;
# 5. read a questionnaire's scores off next-token probabilities instead of parsing replies.
#
# **You need** notebooks 00 to 02.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; or a Hugging Face name such as "google/gemma-2b-it", the paper's
PROFILE = "quick"  # "paper": five answers to each dilemma at each layer, as in the paper
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display

import steerlab as sl
from steerlab import diagrams, exercises, judges, plots
from steerlab.edit import components, contrast
from steerlab.experiments import beside, foundations, ledger, results
from steerlab.experiments import sara as experiments
from steerlab.experiments.sara import CONSEQUENCES, DUTY, PARENT

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
LAYER = lm.n_layers // 2  # where we look inside
swept = results.find("sara_dose_shares", lm)
BEST = LAYER if swept is None else int(swept.loc[swept["method"] == "sara", "layer"].iloc[0])  # section 7 tells how
REPEATS = 5 if PROFILE == "paper" else 1
JUDGE = judges.word_judge(lm)  # reads the bundled model's language alone: of another model set a judge of section 5
lm

# %%
for name, text in {"the dilemma": PARENT, "DUTY": DUTY, "CONSEQUENCES": CONSEQUENCES}.items():
    print(f"{name:13} {text}")

# %% [markdown]
# The dilemma is the paper's example, a parent who has committed a crime, in words that the bundled model knows. The two
# stances are ours; the model was trained on texts in which such a sentence comes first and the answer obeys it, but on
# neither of these two. The released prompts are `experiments.RELEASED`.
#
# ## 1 · The idea, then the formula
#
# Read three prompts up to block $\ell$: the one to be steered, the attracting and the repelling one. Each gives a
# matrix, neurons × tokens: $A_o$, $A_a$, $A_r$. They have different numbers of tokens, so neurons cannot be compared
# token by token. A thin SVD, $A = U \Sigma V^\top$, turns tokens into ranked components. Keep the first $k$ columns of
# $U\Sigma$, with $k$ the smallest of the three token counts. Then for each neuron $d$
#
# $$ \gamma_d = \cos\bigl((U_o\Sigma_o)_{d,:k},\ (U_a\Sigma_a)_{d,:k}\bigr) - \cos\bigl((U_o\Sigma_o)_{d,:k},\
# (U_r\Sigma_r)_{d,:k}\bigr) \qquad h \;\leftarrow\; h + c\,\gamma \odot h $$
#
# In the table of all five methods (notebook 00) this fills in one column: the **gain** $\gamma$, one number in
# $[-2, 2]$ per neuron, the same at all positions. In a picture (of a short prompt): all tokens, one layer, every pass.

# %%
picture = sl.sara(lm, "Should he keep the secret?", attract=DUTY, repel=CONSEQUENCES, layer=LAYER)
diagrams.intervention(
    lm, picture, "Should he keep the secret?", title="SARA: every neuron louder or softer, at every token"
)
plt.show()

# %% [markdown]
# | detail | what the released code does | `sl.sara(...)`, variant "anchored" |
# |---|---|---|
# | similarity | cosine of rows of $U\Sigma$ | cosine of rows of $U\Sigma U^\top$: no signs, no order of components |
# | BOS | counts in all three matrices | left out, since its norm drowns the rest |
# | cached decode steps | γ anew from the one token of that step | γ of the prompt, held |
# | batch | one prompt at a time | any, real tokens only |
# | precision | that of the model | float64 for the SVD |
#
# The left column is `variant="released"`, bit for bit. Section 4 shows why the default is easier to
# reproduce. It is not stronger: at equal $c$ its dose is about a third, so compare the two at equal dose (section 6).

# %% [markdown]
# ## 2 · By hand
#
# As released, in ten lines. What enters the block, from plain PyTorch:

# %%
block = lm.hf.get_submodule(lm.layout.blocks)[LAYER]
bos = lm.tokenizer.bos_token_id


def stream_into_block(text: str) -> torch.Tensor:
    """What enters the block, [tokens, neurons], BOS included."""
    seen = []
    hook = block.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    with torch.no_grad():
        lm.hf(torch.tensor([[bos, *lm.encode(text)]], device=lm.device))
    hook.remove()
    return seen[0]


def released_gain(own: torch.Tensor, attract: torch.Tensor, repel: torch.Tensor) -> torch.Tensor:
    """γ [neurons] from activations [tokens, neurons], as the published code computes it."""
    k = min(len(own), len(attract), len(repel))
    rows = []
    for activations in (own, attract, repel):
        u, s, _ = torch.linalg.svd(activations.T, full_matrices=False)
        rows.append((u * s)[:, :k])
    o, a, r = rows
    return torch.cosine_similarity(o, a, dim=1) - torch.cosine_similarity(o, r, dim=1)


own, attract, repel = (stream_into_block(text).float() for text in (PARENT, DUTY, CONSEQUENCES))
by_hand = released_gain(own, attract, repel)
print("tokens:", [len(each) for each in (own, attract, repel)], " γ:", by_hand[:6])

# %% [markdown]
# The package's γ, and the assertion that both agree:

# %%
torch.testing.assert_close(sl.sara_gain(own, attract, repel, variant="released"), by_hand)

released = sl.sara(lm, PARENT, attract=DUTY, repel=CONSEQUENCES, layer=LAYER, variant="released")
hook = block.register_forward_pre_hook(lambda module, args: (args[0] * (1 + by_hand), *args[1:]))
with torch.no_grad():
    expected = lm.hf(torch.tensor([[bos, *lm.encode(PARENT)]], device=lm.device)).logits[:, -1].float()
hook.remove()

torch.testing.assert_close(lm.logits(PARENT, released).to(expected), expected, atol=1e-3, rtol=1e-3)
print("the package and the hook agree")

# %% [markdown]
# The anchored variant differs in one factor: multiply $U\Sigma$ by $U^\top$ from the right. $U\Sigma U^\top$ is the
# square root of $AA^\top$: its row $d$ says with which other neurons neuron $d$ goes together, and how strongly. That
# means the same in every prompt, whereas "the third component" does not. And a flipped sign of a column of $U$ meets
# itself in $U^\top$ and is gone.


# %%
def root(activations: torch.Tensor) -> torch.Tensor:
    """The square root of A Aᵀ, [neurons, neurons], from activations [tokens, neurons]."""
    u, s, _ = torch.linalg.svd(activations.T.double(), full_matrices=False)
    return (u * s) @ u.T


roots = [root(each[1:]) for each in (own, attract, repel)]  # without BOS
near, far = (torch.cosine_similarity(roots[0], other, dim=1) for other in roots[1:])

anchored = sl.sara(lm, PARENT, attract=DUTY, repel=CONSEQUENCES, layer=LAYER)
[(site, edit)] = anchored.edits
torch.testing.assert_close(edit.gain[0].double().cpu(), (near - far).cpu(), atol=1e-4, rtol=0)
print(site, tuple(edit.gain.shape), f"when={edit.when!r}", f"γ from {edit.gain.min():.2f} to {edit.gain.max():.2f}")

# %% [markdown]
# ## 3 · Steer: the paper's example
#
# One dilemma: unsteered, steered towards duty (the paper calls it Kantian, and *a priori*), and towards consequences
# (utilitarian), with the variant that the author released. Answers in one row share their noise, so that a difference
# comes from the steering. Words that tell of duty are marked.

# %% tags=["tour"]
weights = judges.word_judge().weights
DUTY_WORDS = set(weights.index[weights["duty"] - weights["consequence"] > np.log(4)])

example = experiments.seed_example(
    lm, JUDGE, layer=BEST, repeats=3, seed=SEED, variant="released", **experiments.ANSWERS
)
plots.completions_html(example.drop(columns="prompt"), words=DUTY_WORDS)

# %% [markdown]
# **You should see** unsteered answers that keep out of it, and steered ones that say something else. Some of those fall
# apart: section 4.2 says why. Three answers of each kind prove nothing; they are here so that you see what is counted
# later.
#
# ## 4 · The pitfalls of the released form
#
# ### 4.1 A sign that nobody chose
#
# If $u$ is a singular vector, so is $-u$. LAPACK returns one of the two, cuSOLVER perhaps the other, the next version
# of either perhaps the first again. The three SVDs choose independently, and γ compares their columns.
#
# > **Predict first.** We flip the signs of the *attracting and repelling* components at random, which leaves the SVD
# > exactly as right as it was. What happens to γ: nothing, a little, or everything?

# %%
coin = torch.Generator().manual_seed(SEED)


def flipped(activations: torch.Tensor) -> torch.Tensor:
    """Components of the prompt, each with a sign drawn anew."""
    parts = components(activations).cpu()
    return parts * (torch.randint(0, 2, (len(parts), 1), generator=coin) * 2 - 1)


other = contrast(own.cpu(), flipped(attract), flipped(repel))
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", facecolor="white")
axes[0].plot(by_hand.cpu(), other, ".", alpha=0.5, color=plots.PALETTE[0])
axes[0].plot([-2, 2], [-2, 2], color="#777777", linewidth=0.8)
axes[0].set(xlabel="γ, LAPACK's signs", ylabel="γ, other signs", title="released: one dot per neuron", aspect="equal")
test = experiments.load_dilemmas("test")
signs = experiments.sensitivity(lm, test, "signs", layer=LAYER)
plots.bars(
    experiments.sensitivity_table(signs),
    "value",
    "cosine",
    labels=("draw of the signs (0 is LAPACK's)", "cosine of γ with LAPACK's"),
    ax=axes[1],
)
axes[1].set(xlim=(-1.05, 1.05), title="mean over dilemmas, least and largest")
plt.show()
change = signs["shift"].groupby([signs["value"], signs["id"]]).mean().unstack()
spread = (change.max() - change.min()).mean()
print(f"A neuron's γ moves by up to {signs['largest'].max():.2f}, of a range of 4.")
print(f"The effect on the preference for duty differs by {spread:.3f} nats per token between draws of the signs.")

# %% [markdown]
# The anchored γ does not move: its formula holds no sign.

# %%
gain = sl.sara_gain(own.double(), attract.double(), repel.double())
u, s, vt = torch.linalg.svd(attract.double(), full_matrices=False)
same_prompt = (u * -1) @ torch.diag(s) @ (vt * -1)  # all signs flipped, the same activations
torch.testing.assert_close(sl.sara_gain(own.double(), same_prompt, repel.double()), gain)
print("anchored: the same γ")

# %% [markdown]
# ### 4.2 What happens while it writes
#
# With a key-value cache, every pass after the first sees *one* token. Then $A_o$ has one column, $k = 1$, and the
# cosine of two numbers is $\pm 1$.
#
# > **Predict first.** Which values can $\gamma_d$ take at such a step, and by which factors are neurons then multiplied
# > at $c = 1$?

# %%
gains = experiments.decode_gains(lm, [PARENT, *test["prompt"][:2]], layer=LAYER, max_new_tokens=16, seed=SEED)
experiments.plot_decode_gains(gains)
plt.title("while it writes, a neuron is left alone, turned round or tripled")
plt.show()
steps = gains[gains["step"] > 0].groupby(["row", "step", "gamma"])["share"].first().unstack()
released_dose, anchored_dose = float(by_hand.square().mean().sqrt()), float(edit.gain.square().mean().sqrt())
print(f"root mean square of γ, on the prompt: {released_dose:.2f} released, {anchored_dose:.2f} anchored")
print(f"root mean square of γ, while it writes: {np.sqrt(4 * (1 - steps[0])).mean():.2f} released, the same anchored")

# %% [markdown]
# There is nothing in between, though nearly all neurons are left alone: both prompts begin with BOS, whose long
# activation makes their first components alike, and where these have the same sign the two cosines cancel. Mind the
# first line: **at the same coefficient the two variants have different doses.**
#
# What the decode steps do to the text, by the full run where there is one. *Released, prompt only* edits the first pass
# and nothing else. Perplexity is that of the unsteered model; *new words* is the share of words that are no repeats.

# %%
table = results.find("sara_decode_texts", lm)
if table is None:
    texts = experiments.decode_texts(lm, [PARENT, *test["prompt"][:1]], JUDGE, layer=LAYER, repeats=2, seed=SEED)
    table = experiments.texts_table(texts)
table = table.rename(columns={"distinct": "new words"})
display(table[["condition", "perplexity", "new words", "low", "high", "n"]].round(2))

# %% [markdown]
# ### 4.3 The order of words is lost
#
# $U\Sigma = AV$ is the same, up to signs, whatever the order of the columns of $A$. The attracting *activations* may be
# permuted at will. γ sees word order only as far as attention has written it into the activations. This is a limit of
# the method, and the anchored variant has it too.

# %%
order = torch.randperm(len(attract), generator=coin)
exact = attract.double()
torch.testing.assert_close(components(exact[order]).abs(), components(exact).abs())
torch.testing.assert_close(sl.sara_gain(own.double(), exact[order], repel.double()), gain)

words = DUTY.rstrip(".").split()
mixed = " ".join(words[i] for i in torch.randperm(len(words), generator=coin).tolist()) + "."
swapped = sl.sara(lm, PARENT, attract=mixed, repel=CONSEQUENCES, layer=LAYER).edits[0][1].gain[0]
likeness = float(torch.cosine_similarity(swapped, edit.gain[0], dim=0))
print("permuted activations: the same γ, up to signs for released")
print(f"permuted words, {mixed!r}: cosine with the γ before {likeness:.2f}")

# %% [markdown]
# Length, the number of components and padding are in Appendix A.
#
# ### Play
#
# Choose a dilemma, write the two sides yourself, move the coefficient; the button writes answers.

# %%
from steerlab.widgets import sara_panel

panel = sara_panel(lm, judge=JUDGE, layer=BEST)
panel

# %% [markdown]
# ## 5 · Who judges the answers?
#
# The paper asked a chat model to name one of eight ethical schools, and pooled them into three groups: *a priori* (our
# duty), *consequentialist* and *individual*. Here a classifier ships with the package: naive Bayes over the words of
# the bundled model's training grammar. It sees the answer, never how the answer came about, and it knows nothing of
# *individual*, which therefore stays empty below. How good is it, on texts that it was not made from?

# %%
verdict = judges.validate(JUDGE, experiments.validation_texts())
accuracy = verdict.accuracy
print(f"accuracy {accuracy.value:.0%} [{accuracy.low:.0%}, {accuracy.high:.0%}], n = {accuracy.n}; true groups down:")
verdict.confusion

# %% [markdown]
# These are clean sentences. Answers of a small model wander, and mix both kinds of argument. So section 7 also uses a
# measure that needs no judge, the **preference**: how much more likely the model finds the written arguments from duty
# than those from consequences, in nats per token. Other judges fit the same slot: `judges.ZeroShotJudge(model)` takes
# any Hugging Face zero-shot classifier, `judges.ChatJudge(model, url)` any endpoint that speaks OpenAI's chat
# completions.
#
# ## 6 · Shares of answers
#
# The paper's main figure: the share of answers in each group, pooled over layers and repeats. Our design differs:
#
# - every steered answer has an **unsteered twin**: same dilemma, same sampling, same noise. The release compared one
#   dilemma's steered answers with the unsteered answers to all seven, and its figure swaps two of the unsteered labels
#   (the crosses below have them mended);
# - **ActAdd** with the same two sentences stands beside;
# - **shuffled** is a control: SARA's own γ, handed to other neurons. Same histogram, no meaning;
# - **prompt** is the honest rival: the attracting sentence is simply written in front.
#
# > **Predict first.** Which of the four will move the shares? Will *shuffled* do nothing?

# %%
held_out = experiments.held_out_dilemmas()
kept = [results.find(f"sara_{name}", lm) for name in ("shares", "effects", "dilemmas", "layers")]
if any(table is None for table in kept):  # nothing is kept of this model: run it small
    live = experiments.dilemma_study(
        lm, held_out, JUDGE, repeats=REPEATS, seed=SEED, progress=False, **experiments.ANSWERS
    )
    kept = [experiments.shares(live), *(experiments.effects(live, by) for by in ([], ["id"], ["layer"]))]
shares, effects, dilemmas, layers = kept
experiments.plot_shares(shares[shares["method"].isin({"unsteered", "sara", "shuffled"})], paper=True)
plt.title("anchored, c = 1: crosses are the paper's, of another model")
plt.show()
display(effects[["method", "direction", "baseline", "share", "gain", "low", "high", "n", "spill"]].round(3))

# %% [markdown]
# *Share* is that of the target group, *gain* is taken answer by answer against the unsteered twins, and its interval is
# over the five dilemmas: it asks what a sixth would do, and is wide. *Spill* adds up the gains of all other groups. The
# paper's own pair of numbers is not a fair one: the first is over seven dilemmas, the second over one.

# %%
ledger.box("SARA", "1", "2", "3", "5", "7")

# %% [markdown]
# ### Seven models, and an eighth
#
# Before it steers, the paper asks seven models which of eight schools of ethics they answer by. Left: its figure prints
# two of Gemma-2B's labels the wrong way round, which its own counts show. Right: how often a model gives one question
# the same label five times over, and how often two judges agree. Ours is a chat model that judges its own answers, with
# a way out that the paper's judge did not have: *none*, for an answer that takes no stand.

# %%
QWEN = "qwen2.5-coder-1.5b-instruct"
names = ("schools", "schools_consistency", "schools_agreement")
schools, consistency, agreement = (results.find(f"sara_{name}", QWEN) for name in names)
if schools is None or consistency is None or agreement is None:
    print(f"no run of {QWEN} is kept here")
else:
    eighth = {"model": "Qwen2.5-Coder 1.5B", "consistency": consistency["value"].iloc[0]}
    eighth["agreement"] = agreement.query("method == 'all'")["value"].iloc[0]
    experiments.plot_published(pd.DataFrame([eighth]))
    plt.show()
    experiments.plot_schools({f"{eighth['model']}, n = {schools['n'].iloc[0]}": schools})
    plt.show()

# %% [markdown]
# ### At equal dose
#
# All of this is the *anchored* variant at $c = 1$, whose γ is a third as large as that of the author's. That says
# nothing about his method. Four full runs with the same noise: as released; anchored; anchored where γ has the released
# γ's root mean square on the same dilemma and layer; and anchored where the next token moves by 0.7 nats.

# %%
if (equal := results.find("sara_equal", lm)) is None:  # nothing is kept of this model: run it small
    few = {"methods": ("sara",), "layers": [LAYER], "repeats": REPEATS, "seed": SEED, "progress": False}
    study = partial(experiments.dilemma_study, lm, held_out, JUDGE, **few, **experiments.ANSWERS)
    equal = pd.concat(experiments.effects(study(**dose)).assign(dose=name) for name, dose in experiments.DOSES.items())
ax = plots.bars(equal, "dose", "gain", by="direction", level=0, labels=("", "gain of the target's share, paired"))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.title(f"{equal['n'].iloc[0]} answers each, to {equal['units'].iloc[0]} dilemmas")
plt.show()

# %% [markdown]
# As released, 6 % more answers turn to duty and 25.5 % more to consequences; anchored at the same coefficient 4 and
# 16 %. With a γ of the same size it is 15 and 22.5 %, at 0.7 nats 16.5 and 38.5 %. So a coefficient is not a dose: the
# anchored variant looked weaker at equal coefficient, and does not at equal dose. More can't be said. The intervals are
# over five dilemmas, and all but the last reach across 0.
#
# ### One dilemma at a time
#
# The paper steered its answers to a single dilemma. We have five.
#
# > **Predict first.** Do the pooled gains above come from all five alike?

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", facecolor="white", sharey=True)
for ax, direction in zip(axes, ("duty", "consequence"), strict=True):
    cells = dilemmas[dilemmas["direction"] == direction]
    plots.bars(cells, "id", "gain", by="method", level=0, labels=("", "gain of the target's share, paired"), ax=ax)
    ax.set(title=f"to {direction}", xlim=(-1.02, 1.02))
axes[1].get_legend().remove()
plt.show()

# %% [markdown]
# A mean that one dilemma makes says that *this* dilemma can be steered, not that the method steers. The intervals of
# this figure speak of further answers to each dilemma; those of the table above, of further dilemmas. With a single
# one, as in the paper, one cannot even ask.
#
# ## 7 · How strong, and at what price?
#
# Coefficient 1 is the release's choice and has no deeper meaning: ActAdd's 1 and SARA's 1 are different doses. So sweep
# the coefficient from −4 to 4 (below 0 the two prompts are swapped), and put both methods on one axis of *price*: the
# KL divergence of the next token's distribution from the unsteered one. Each method has a layer of its own, the one at
# which $c = 1$ and $c = -1$ differ most on twelve other dilemmas.

# %%
dose, answers = results.find("sara_dose", lm), results.find("sara_dose_shares", lm)
if dose is None or answers is None:
    few = experiments.dose_answers(
        lm, held_out, JUDGE, layer=LAYER, coefficients=(-4, 0, 4), repeats=2 * REPEATS, seed=SEED, progress=False
    )
    dose = experiments.dose_table(experiments.dose_response(lm, test, layer=LAYER, seed=SEED))
    answers = experiments.shares(few, by=("method", "layer", "coefficient"))
order = {"sara": 0, "actadd": 1, "shuffled": 2}  # so that each keeps its colour
dose, answers = (
    each.sort_values("method", key=lambda name: name.map(order), kind="stable") for each in (dose, answers)
)
own_layer = answers.groupby("method")["layer"].first()
names = {method: f"{method}, layer {layer}" for method, layer in own_layer.items()}
curve = dose[dose["layer"] == dose["method"].map(own_layer)]
curve = curve.assign(price=curve["kl"] * np.sign(curve["coefficient"]), name=curve["method"].map(names))
judged = answers.merge(curve[["method", "coefficient", "price", "name"]], on=["method", "coefficient"])

figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained", facecolor="white")
labels = ("KL(steered ‖ unsteered), nats; left of 0: c < 0", "shift of the preference for duty,\nnats per token")
plots.lines(curve, "price", "shift", by="name", level=0, labels=labels, ax=axes[0])
for ax, group in zip(axes[1:], ("duty", "consequence"), strict=True):
    plots.lines(judged[judged["group"] == group], "coefficient", "share", by="name", ax=ax)
    ax.set(ylim=(0, 1), xlabel="coefficient", ylabel=f"share of answers of {group}")
    ax.get_legend().remove()
plt.show()

# %% [markdown]
# A line that rises from lower left to upper right steers. One that is level does nothing; one that has the same sign on
# both sides pushes the text, but not in the direction that was asked for.
#
# *Shuffled* may well move the shares too, since a gain of this size changes what is written whatever its pattern. What
# it cannot know is *which way*. So one number for both directions, from the shares at $c$ and $-c$:
#
# $$ \text{parted} = \tfrac12 \bigl[(\text{duty at } c - \text{duty at } {-c}) + (\text{consequence at } {-c} -
# \text{consequence at } c)\bigr] $$
#
# 1 is perfect obedience, 0 none, and a shuffled gain may lie on either side of 0. How far from it do twenty draws lie?

# %%
control = results.find("sara_dose_control", lm)
if control is None:
    options = {"layer": LAYER, "methods": ("shuffled",), "coefficients": (-4, 4), "repeats": REPEATS, "progress": False}
    draws = [experiments.dose_answers(lm, held_out, JUDGE, seed=seed, **options).assign(draw=seed) for seed in range(4)]
    control = experiments.parted(experiments.shares(pd.concat(draws), by=("draw", "coefficient")), by="draw")
apart = experiments.parted(answers).set_index("method")["parted"]
ax = plt.subplots(figsize=(7, 1.9), layout="constrained", facecolor="white")[1]
ax.plot(control["parted"], np.zeros(len(control)), "D", color="#777777", alpha=0.5, label="shuffled, a dot per draw")
for method, marker, colour in (("sara", "o", plots.PALETTE[0]), ("actadd", "s", plots.PALETTE[1])):
    ax.plot(apart[method], 0, marker, color=colour, markersize=9, label=names[method])
ax.axvline(0, color="#777777", linewidth=0.8)
ax.set(xlabel="parted, at c = ±4", xlim=(-1, 1), yticks=[])
ax.spines[["top", "right", "left"]].set_visible(False)
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
beaten, draws = int((control["parted"] >= apart["sara"]).sum()), len(control)
print(f"{beaten} of {draws} shuffled gains do as well as SARA (p = {(beaten + 1) / (draws + 1):.2g})")

# %% [markdown]
# ## 8 · A questionnaire before and after
#
# The paper also gave its models the Moral Foundations Questionnaire and parsed their replies. A reply can go amiss; a
# probability cannot. So the score of an item is the expected answer under the next-token probabilities of the scale
# from 0 to 5, asked in six wordings, each of which stands for one person:
#
# $$ \text{score} = \frac{\sum_i i \, P(i \mid \text{item})}{\sum_j P(j \mid \text{item})} $$
#
# The bundled model gets items of ours, four to a foundation; the chat model the author's thirty, asked as a chat in one
# wording and steered at layer 18.

# %%
profile, tests = results.find("foundations_profile", lm), results.find("foundations_tests", lm)
if profile is None or tests is None:
    scores = foundations.before_and_after(lm, foundations.load_items(own=True), layer=BEST)
    profile = foundations.profile(scores, by=["condition"]).assign(mass=scores["mass"].median(), layer=BEST)
    tests = foundations.compare_all(scores)
chat = results.find("foundations_profile", QWEN)
profiles = ({} if chat is None else {QWEN: chat}) | {results.short_name(lm): profile}
for ax, rows in beside.axes(profiles):
    foundations.plot_profile(rows, paper=True, ax=ax)
plt.show()
for name, rows in profiles.items():
    print(f"{name}: median probability of the whole scale {rows['mass'].iloc[0]:.2g}")
display(tests[["condition", "foundation", "difference", "low", "high", "p", "p_adjusted", "effect"]].round(3).head(6))

# %%
ledger.box("SARA", "4")

# %% [markdown]
# Look at the probability of the scale before you look at a score. The bundled model puts nearly nothing on it: it does
# not answer the question, and its flat profile is an exercise in method. A model that answers puts most of its
# probability there. The same six wordings are asked before and after, so the test is paired (Wilcoxon's signed ranks,
# adjusted by Benjamini and Hochberg); the release took before and after for two samples. Six wordings are not six
# people, but they show how much hangs on the wording.
#
# ## 9 · Exercises
#
# **9.1 · The anchored gain.** ●●○ about 10 minutes. From activations `[tokens, neurons]` to γ `[neurons]`, by the
# square roots of $AA^\top$.


# %%
def anchored_gain(own: torch.Tensor, attract: torch.Tensor, repel: torch.Tensor) -> torch.Tensor:
    """γ from activations [tokens, neurons] of the prompt, the attracting and the repelling one."""
    return torch.zeros(own.shape[1])  # your code here


exercises.check_anchored_gain(anchored_gain)

# %% [markdown]
# <details><summary>Hint 1</summary>A neuron is a column of <code>x</code>. The prompts differ in their number of
# tokens, so what you compare must be neurons × neurons: take the SVD of <code>x.T</code>.</details>
#
# <details><summary>Hint 2</summary>The function <code>root</code> of section 2 gives the square root; compare rows with
# <code>torch.cosine_similarity(..., dim=1)</code>. You can also take it from
# <code>torch.linalg.eigh(x.T @ x)</code>.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def anchored_gain(own, attract, repel):
#     roots = []
#     for x in (own, attract, repel):
#         u, s, _ = torch.linalg.svd(x.T, full_matrices=False)
#         roots.append((u * s) @ u.T)
#     o, a, r = roots
#     return torch.cosine_similarity(o, a, dim=1) - torch.cosine_similarity(o, r, dim=1)
# ```
#
# </details>
#
# **9.2 · The same SVD, another edit.** ●○○ about 5 minutes. You get the attracting prompt's components `[K, neurons]`.
# Return components that are exactly as right, with which the released γ of some neuron changes by at least 0.5.


# %%
def other_signs(parts: torch.Tensor) -> torch.Tensor:
    """Components as right as the ones given."""
    return parts  # your code here


exercises.check_other_signs(other_signs)

# %% [markdown]
# <details><summary>Hint</summary>A row of <code>parts</code> is $\sigma_i u_i$. What else could the library have
# returned for $u_i$? Which row weighs most?</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def other_signs(parts):
#     signs = torch.ones(len(parts), 1)
#     signs[0] = -1
#     return signs * parts
# ```
#
# </details>
#
# **9.3 · Equal dose.** ●●● about 20 minutes. *Important: without it no two methods can be compared.* Find the strength
# $c > 0$ at which an intervention moves the next token's distribution by a given $\mathrm{KL}(\text{steered} \,\Vert\,
# \text{unsteered})$, in nats, for any intervention. From `lm.logits` and PyTorch alone: `sl.strength_for_kl` is the
# package's, and off limits.


# %%
def equal_dose(lm: sl.SteerableModel, steer: sl.Intervention, prompt: str, target: float) -> float:
    """The strength at which KL(steered ‖ unsteered) of the next token is `target` nats, to 5 %."""
    return 1.0  # your code here: c * steer is the intervention at strength c


exercises.check_dose(equal_dose, lm, prompt=PARENT, pair=(DUTY, CONSEQUENCES))

# %% [markdown]
# <details><summary>Hint 1</summary>$\mathrm{KL}(p \Vert q) = \sum_i p_i (\log p_i - \log q_i)$, with $p$ steered. Use
# <code>log_softmax(-1)</code>.</details>
#
# <details><summary>Hint 2</summary>Double $c$ until the KL is above the target. Then halve the interval: thirty
# halvings are plenty.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def equal_dose(lm, steer, prompt, target):
#     q = lm.logits(prompt)[0].log_softmax(-1)
#
#     def kl(c):
#         p = lm.logits(prompt, c * steer)[0].log_softmax(-1)
#         return float((p.exp() * (p - q)).sum())
#
#     low, high = 0.0, 0.01
#     while kl(high) < target:
#         low, high = high, 2 * high
#     for _ in range(12):
#         middle = (low + high) / 2
#         low, high = (middle, high) if kl(middle) < target else (low, middle)
#     return high
# ```
#
# </details>
#
# ## 10 · What could be wrong?
#
# - **The stance may not be in the model.** If writing the sentence in front moves little (row *prompt* in section 6),
#   no edit made from that sentence can be expected to do more.
# - **Any gain might do it.** That is what *shuffled* is for.
# - **The judge counts words.** Its accuracy on clean sentences is not its accuracy on rambling answers.
# - **Few dilemmas.** Intervals over five are wide, and five chosen by us are no sample of all.
# - **Many cells.** With this many layers, directions and methods some intervals miss zero by luck. Look at the pooled
#   rows, and at the layer that was chosen on other dilemmas.
# - **The stance may not be in the next token.** The panel's bars show one token; what the paper says changes are the
#   reasons that an answer gives.
#
# **On a real model.** Moral questions need a model that answers them. A chat model may refuse the plain question ("As
# an AI language model, I cannot ..."); give the answer's opening ("They should") in all conditions alike, and it takes
# a stance. Choose doses by KL, and let answers give reasons. Set `MODEL` and a judge that knows its language, and every
# cell runs unchanged. These commands write the tables that the boxes read; stopped, they go on where they were:

# %%
for paper in ("sara", "foundations"):
    for name in (beside.REAL, results.short_name(lm)):
        ran = results.runs(paper, name)
        print(f"{name}, {paper}: {len(ran)} commands kept")
        print(*ran["command"], sep="\n", end="\n\n")

# %% [markdown]
# **Open questions:** Is there a similarity between prompts of different lengths that keeps the order of words? What if
# γ were found from many pairs of stances instead of one?
#
# # Appendix
#
# ## A · Length, components, padding, and the rule
#
# The author's post speaks of prompts that differ tenfold in length. So: say the attracting sentence one to ten times
# over. It says the same; does γ? And how much hangs on $k$?

# %%
varied = results.find("sara_sensitivity", lm)
if varied is None:
    few = {"length": [1, 2, 4, 10], "components": None}
    varied = pd.concat(
        experiments.sensitivity_table(experiments.sensitivity(lm, test, vary, layer=LAYER, values=values)).assign(
            vary=vary
        )
        for vary, values in few.items()
    )
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained", facecolor="white")
titles = {"length": "the attracting prompt, said over and over", "components": "components kept (of the first value)"}
for ax, (vary, title) in zip(axes, titles.items(), strict=True):
    own_rows = varied[varied["vary"] == vary]
    plots.lines(own_rows, "value", "cosine", by="variant", labels=(title, "cosine with the first γ"), ax=ax)
    ax.set(ylim=(-1.05, 1.05))
plt.show()

# %% [markdown]
# The bands run from the least to the largest of the dilemmas. On the left the first value is one repetition, on the
# right all components of the shortest prompt.
#
# In a padded batch the padding's activations would join the SVD. The anchored variant counts real tokens only, so a row
# gets the γ that it gets alone; the released one refuses a batch, as its code could not take one.

# %%
prompts = [PARENT, "Should he keep the secret?"]
both = sl.sara(lm, prompts, attract=DUTY, repel=CONSEQUENCES, layer=LAYER)
torch.testing.assert_close(both[0].edits[0][1].gain, edit.gain, atol=1e-3, rtol=0)
try:
    sl.sara(lm, prompts, attract=DUTY, repel=CONSEQUENCES, layer=LAYER, variant="released")
except ValueError as error:
    print(error)

# %% [markdown]
# **Why this rule?** Signs can be fixed in other ways: largest entry positive, agreement with $A_o$, absolute values,
# the best rotation of one prompt onto the other. `python benchmarks/sara.py --rules` measures seven rules: how far γ
# moves with other signs, with float32 instead of float64, with bfloat16 activations; whether two dilemmas steered by
# the same pair get similar γ, and two pairs that mean the same. The reasons are in the docstring of `sl.sara`. In
# short: a rule that *decides* a sign turns near-ties into jumps; a formula without signs has none to decide.
#
# Swapping the two prompts negates γ exactly, the same prompt twice gives zero, and strength 0 is the bare model to the
# last bit:

# %%
back = sl.sara(lm, PARENT, attract=CONSEQUENCES, repel=DUTY, layer=LAYER)
nothing = sl.sara(lm, PARENT, attract=DUTY, repel=DUTY, layer=LAYER)
assert torch.equal(back.edits[0][1].gain, -edit.gain)
assert not nothing.edits[0][1].gain.any()
assert torch.equal(lm.logits(PARENT, 0 * anchored), lm.logits(PARENT))

# %% [markdown]
# ## B · By depth
#
# The paper pools early, middle and late layers and leaves layer 0 out. Here it is in, and each layer has a point of its
# own.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", facecolor="white", sharey=True)
for ax, direction in zip(axes, ("duty", "consequence"), strict=True):
    cells = layers[(layers["direction"] == direction) & (layers["method"] != "prompt")]
    labels = ("layer", "gain of the target's share, paired")
    plots.lines(cells, "layer", "gain", by="method", level=0, labels=labels, ax=ax)
    ax.set_title(f"to {direction}")
plt.show()

# %%
ledger.box("SARA", "6")

# %% [markdown]
# The same dilemma on the chat model, beside two doses of the anchored variant, in every second layer:

# %%
released, matched = results.find("sara_released_depths", QWEN), results.find("sara_equal_depths", QWEN)
if released is None or matched is None:
    print(f"no run of {QWEN} is kept here")
else:
    chat = pd.concat([released.assign(dose="released"), matched])
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", facecolor="white", sharex=True)
    for ax, (direction, cells) in zip(axes, chat.groupby("direction", sort=False), strict=True):
        labels = ("layers", "gain of the target's share, paired")
        plots.bars(cells, "depth", "gain", by="dose", level=0, labels=labels, ax=ax)
        ax.set_title(f"{QWEN}, to {direction}")
    plt.show()

# %% [markdown]
# Anchored at either dose, answers turn to duty at every depth, and most in the late layers: 7 % unsteered, 54 % steered
# (gain .46 [.31, .60], 56 answers). But look right as well. Unsteered, 93 % already argue from consequences, so there
# is no way up; and pushed *towards* consequences the model speaks of duty more often, too, in 38 % [26, 51] of its
# answers where γ is as large, against 54 % [41, 66] when pushed to duty. Most of the effect comes with either push,
# away from what the model says anyway. Only the difference belongs to the direction, and the intervals overlap.
#
# The box has SARA as released, on one dilemma. The chat model is the paper's: in its late layers 8 of 12 answers turn
# to duty, in the middle ones 1 of 12, unsteered none (gain in the late layers .67 [.25, .98]). The bundled model is the
# reverse, 10 of 15 in the middle and 0 of 10 late. Our guess is that it has chosen its words by then: in section 1 of
# notebook 03 no late layer of it listens either. Where to steer is a fact about a model, not about a method.
