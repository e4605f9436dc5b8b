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
# Notebook 02 made a model talk about weddings. That is a demonstration. Evidence is something else: numbers with
# intervals, rivals that had a fair chance, and a look at everything that was *not* meant to change. Here are the
# experiments with which the ActAdd paper made its case, one by one, on a model that you can run.
#
# **Paper.** Turner et al., *Steering Language Models With Activation Engineering*, [arXiv
# 2308.10248](https://arxiv.org/abs/2308.10248), with the authors' released code and post. Versions differ in models and
# claims; the boxes say which one is quoted.
#
# **After this notebook you can**
# 1. choose a setting on one set of prompts and report it on another;
# 2. measure what steering does to text on and off its topic, by perplexity;
# 3. test whether a model still knows what it knew;
# 4. tell an effect of the vector from an effect of its size, its place or its first word;
# 5. write the one page that says what ActAdd changes on *your* model.
#
# **You need** notebooks 00 to 02. The figures show the
# full-size runs that are kept in `notebooks/results` in a folder for each model, if there are any, and each cell
# measures a small version again beside them.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; or a Hugging Face name such as "openai-community/gpt2-xl"
PROFILE = "quick"  # "paper": every experiment is run again at full size
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown, display

import steerlab as sl
from steerlab import data, exercises, metrics, plots
from steerlab.experiments import actadd as experiments
from steerlab.experiments import results

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL)
QUICK = PROFILE == "quick"
lm

# %% [markdown]
# Three small helpers: the table to show, an interval in words, and the box that ends each experiment.


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


def percent(row: pd.Series) -> str:
    """A share with its 95 % interval."""
    return f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"


def times(row: pd.Series) -> str:
    """A perplexity ratio with its 95 % interval."""
    return f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def box(paper: str, measured: str, why: str) -> None:
    """Paper says / we measured / why they differ."""
    display(
        Markdown(f"| paper says | we measured | why they differ |\n|---|---|---|\n| {paper} | {measured} | {why} |")
    )


# %% [markdown]
# Each full run: the command, the sample size, and its time on two CPU cores. (A resumed run shows the remaining time
# only.)

# %%
ran = results.runs("actadd", lm)
print(ran.astype({"n": "Int64"}).to_string(index=False, na_rep="all"))
print(f"all together: {ran['seconds'].sum() / 60:.0f} minutes")

# %% [markdown]
# ## 1 · First choose, then report
#
# A sweep over many settings has a best cell even if nothing works. So the setting is chosen here, on prompts, noise and
# essays that are not used again, and reported below on others. For each layer, strength and place we ask two things:
# how many completions hold a wedding word, and how much worse unrelated text is read (perplexity ratio of essays on
# winter and school; 1 is untouched).
#
# - **front**: the vector lies over the first tokens of the text, as in the paper's figures;
# - **pad**: spaces are put in after BOS for it to lie over, as in the release's comparison with prompting.
#
# Two settings are carried through the notebook: the **strongest**, and the **gentle** one, which steers most among
# those that change the perplexity of unrelated text by at most 2 %. If no setting that steers stays within 2 %, the
# gentle one is the one that comes nearest.
#
# > **Predict first.** Does the setting that steers most also cost most? Does room of its own make a vector more gentle,
# > because no word is covered?

# %%
small = {"coefficients": (1, 4), "prompts": data.prompts("plain")[:3], "n": 2} if QUICK else {}
choice = full("choice", experiments.choose(lm, seed=SEED + 1000, **small), ["layer", "coefficient", "position"])
picked = {"strongest": experiments.pick(choice), "gentle": experiments.pick(choice, 0.02)}

ax = sns.scatterplot(choice, x="ratio", y="share", hue="layer", style="position", palette="cividis", s=60)
ax.axvspan(0.98, 1.02, color="#777777", alpha=0.2, linewidth=0)
ax.set(xlabel="perplexity ratio of unrelated text", ylabel="completions with a wedding word", ylim=(-0.03, 1.03))
ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
sns.despine()
plt.show()

steers = choice[choice.gain_low > 0]  # compared with the unsteered model prompt by prompt
within = steers[(steers.ratio - 1).abs() <= 0.02]
for name, setting in picked.items():
    print(f"{name}: {setting}")
print(f"{len(steers)} of {len(choice)} settings steer beyond luck; {len(within)} of them cost at most 2 %")
if not len(within) and len(steers):
    nearest = steers.loc[(steers["ratio"] - 1).abs().idxmin()]
    print(f"so the gentle one is only that which comes nearest, at a ratio of {nearest['ratio']:.2f}")

# %% [markdown]
# ## 2 · Which layers, how strong
#
# *The paper's layer figure: 200 completions of "I went up to my friend and said" for each layer of GPT-2-XL, the share
# with at least one of nine wedding words.*
#
# > **Predict first.** In GPT-2-XL a vector steers from the first layer on, best at the 6th of 48, and less and less
# > above. Where will this model of eight layers stop listening?

# %%
n, strengths = (10, (1, 4)) if QUICK else (200, (1, 2, 4))
swept = [
    experiments.summarise(
        experiments.layer_sweep(lm, coefficients=strengths, room=position == "pad", n=n, seed=SEED),
        baseline={"condition": "zero"},
    ).assign(position=position)
    for position in ("front", "pad")
]
shares = full("layer_sweep", pd.concat(swept), ["condition", "layer", "coefficient", "position"])
for position, own in shares.groupby("position"):
    plots.shares_by_layer(own, title=position)
    plt.show()

# %% [markdown]
# The setting that was chosen in section 1, on the paper's prompt and with other noise, beside its three controls:
# strength zero, random directions of the same norm, and ` weddings` simply written in front.

# %%
parts = []
for name, setting in picked.items():
    where = {"layers": [setting.layer], "coefficients": [setting.coefficient], "room": setting.room}
    own = experiments.layer_sweep(lm, n=50 if QUICK else 200, seed=SEED + 1, **where)
    compared = experiments.summarise(own, baseline={"condition": "zero"})
    parts.append(compared.assign(setting=name, where=str(setting)))
best = full("best", pd.concat(parts), ["setting", "condition"])
display(best[["setting", "where", "condition", "n", "share", "low", "high"]].round(3))

cell = best.set_index(["setting", "condition"]).sort_index()
top = {condition: cell.loc[("strongest", condition)] for condition in ("steered", "zero", "random", "prompt")}
rivals = [name for name in ("zero", "random") if top["steered"]["low"] > top[name]["high"]]
beats = "above " + " and ".join(rivals) if rivals else "not above its controls"
against = "above" if top["steered"]["low"] > top["prompt"]["high"] else "below"
close = max(top["steered"]["low"], top["prompt"]["low"]) <= min(top["steered"]["high"], top["prompt"]["high"])
if not cell.loc[("gentle", "steered"), "gain_low"] > 0:
    print(
        "the gentle setting does not steer on this prompt; it was chosen on six others, and section 6 tries twenty more"
    )
steered_layers = sorted(shares[(shares.condition == "steered") & (shares.low > top["zero"]["high"])].layer.unique())
box(
    "over 90 % at layer 6 of GPT-2-XL, about 2 % unsteered; it works from the first layers on and fades above",
    f"{percent(top['steered'])} ({picked['strongest']}), {beats}; zero {percent(top['zero'])}, "
    f"random {percent(top['random'])}, prompt {percent(top['prompt'])} "
    f"({'level with' if close else against} the prompt). Layers that steer somewhere in the sweep: "
    f"{', '.join(f'{layer:.0f}' for layer in steered_layers) or 'none'} of 0 to {lm.n_layers - 1}",
    "the bundled model was trained on texts whose first words name the topic, and reads those words in its lower "
    "blocks only (notebook 02 shows where): what is added at the front above them goes unread. Where the border lies "
    "depends on the prompt, as section 6 shows",
)

# %% [markdown]
# ## 3 · Other topics
#
# *The paper's topic table: steering towards many topics by their one-word names, judged by a language model. We count
# the topic's own words.*
#
# > **Predict first.** The setting was chosen for weddings. For how many of 24 topics will it do something?

# %%
strong = picked["strongest"]
where = {"layer": strong.layer, "coefficient": strong.coefficient, "room": strong.room}
some = ["weddings", "ships", "dogs", "music", "war", "money"] if QUICK else None
control = experiments.topic_control(lm, topics=some, n=20 if QUICK else 1000, seed=SEED, **where)
shares = experiments.summarise(control, by=["topic", "condition"], baseline={"condition": "zero"})
topics = full("topics", shares, ["topic", "condition"])
plots.bars(topics, "topic", "share", by="condition", labels=("", "completions with a word of the topic"))
plt.show()

pairs = topics[topics.condition == "steered"].set_index("topic")
gain = pairs["gain"].sort_values()
worked = (pairs["gain_low"] > 0).sum()
box(
    "relevance rises by 5 to 25 percentage points on all topics (final version, c = 2; a language model judges)",
    f"{worked} of {len(pairs)} topics rise beyond their intervals; most: {gain.index[-1]} (+{gain.iloc[-1]:.0%}), "
    f"least: {gain.index[0]} ({gain.iloc[0]:+.0%})",
    "words of a topic are stricter than a judge's relevance, and the bundled model has read all 24 names as headings",
)

# %% [markdown]
# ## 4 · Perplexity by topic density
#
# *The paper's OpenWebText figure.* Does steering towards weddings make wedding text more probable, and leave the rest
# alone? Documents are binned by their share of wedding words; each sentence is read alone, steered and not. With $X$
# the mean over tokens of $\log P_{\text{steered}} - \log P_{\text{plain}}$, the **perplexity ratio** is $e^{-X}$: below
# 1 steering helps, at 1 it changes nothing. Offline, documents are mixed from sentences of our own essays (topics that
# the choice has not seen), so every density occurs; intervals are a bootstrap over distinct sentences.
#
# Sentences are short, so a vector that lies over their first word is never far away. In a whole document most words are
# far from it. So the question is asked twice: for sentences as in the release, and for whole documents. The first $T_s$
# tokens are not counted in either reading. They would cost some 7 nats whatever the vector says, where spaces stand in
# front: after a space the model expects a word without one, such as *The*, and reads *␣The*.
#
# > **Predict first.** Four lines: strongest and gentle, sentences and whole documents. Which lie nearest to 1 at
# > density 0? Which fall?

# %%
documents = data.documents(n=120 if QUICK else 1000, seed=SEED, leave_out=experiments.choice.UNRELATED)
parts = []
for name, setting in picked.items():
    for read in ("sentences", "whole documents"):
        shifts = experiments.sentence_shifts(
            lm, setting.vector(lm), documents, room=setting.room, whole=read != "sentences", progress=False
        )
        if (name, read) == ("strongest", "sentences"):
            token_shifts = shifts
        binned = experiments.perplexity_by_density(shifts, documents, width=0.02, least=5 if QUICK else 20)
        parts.append(binned.assign(setting=name, read=read))
ratios = full("perplexity", pd.concat(parts), ["setting", "read", "density"])
plots.lines(
    ratios.assign(line=ratios.setting + ", " + ratios.read),
    "density",
    "ratio",
    by="line",
    level=1,
    labels=("share of wedding words in the document", "perplexity ratio"),
)
plt.axhspan(0.98, 1.02, color="#777777", alpha=0.15, linewidth=0)
plt.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
plt.show()

# %%
ends = {}
for (name, read), own in ratios.sort_values("density").groupby(["setting", "read"]):
    ends[name, read] = (own.iloc[0], own.iloc[-1])
lines = []
for (name, read), (none, dense) in ends.items():
    fall = "falls" if dense["high"] < none["low"] else ("rises" if dense["low"] > none["high"] else "no clear slope")
    kept = "within 1 ± 0.02" if abs(none["ratio"] - 1) <= 0.02 else "outside 1 ± 0.02"
    lines.append(f"{name}, {read}: unrelated {times(none)} ({kept}), densest {times(dense)} ({fall})")
box(
    "falls with density, by up to about 4 %; near 1 for unrelated text (GPT-2-XL, layer 16, c = 1)",
    "<br>".join(lines),
    "sections 5 and 6 look for the reason: what the word *written* in front does, and what no vector could do better",
)

# %% [markdown]
# **Which tokens?** The mean shift of each token type, as quantiles against those of a normal distribution. The paper
# finds a straight bulk and a tail of wedding words at the upper end. Which end has the longer tail here?

# %%
types = experiments.shifts_by_token(token_shifts, least=5 if QUICK else 20)
kept = results.find("actadd_tokens", lm) if QUICK else None
types = types if kept is None else kept
plots.qq(types["shift"])
plt.show()
wedding = set(experiments.WEDDING)
tail = types.head(15)
hits = [token.strip().lower() in wedding for token in tail["token"].astype(str)]
print("most promoted:", ", ".join(repr(token) for token in tail["token"]))
print("most suppressed:", ", ".join(repr(token) for token in types.tail(15)["token"][::-1]))
low, middle, high = types["shift"].quantile([0.05, 0.5, 0.95])
print(f"shift at the 5th, 50th and 95th percentile of the types: {low:+.1f}, {middle:+.1f}, {high:+.1f} nats")
print(
    f"{sum(hits)} of these {len(hits)} are wedding words; of all {len(types)} types "
    f"{np.mean([token.strip().lower() in wedding for token in types['token'].astype(str)]):.1%} are"
)

# %% [markdown]
# ## 5 · Steering against prompting, on essays
#
# *The authors' post compares adding the vector (over spaces of its own) with writing the word in the same place. On
# GPT-2-XL steering read a wedding essay at 0.875 and one about shipping at 0.994; the prompt 0.890 and 1.132.*
#
# > **Predict first.** Prompting is the honest rival. On unrelated text, which of the two costs more?

# %%
others = [topic for topic in data.essays() if topic not in experiments.choice.UNRELATED]
parts = [
    experiments.essays(
        lm, layer=setting.layer, coefficient=setting.coefficient, topics=others[:2] if QUICK else others
    ).assign(setting=name)
    for name, setting in picked.items()
]
essays = full("essays", pd.concat(parts), ["setting", "topic", "condition"])
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharex=True, sharey=True, layout="constrained")
for ax, (name, own) in zip(axes, essays.groupby("setting", sort=False), strict=True):
    plots.bars(own, "topic", "ratio", by="condition", level=1, labels=("", "perplexity ratio"), ax=ax)
    ax.set_title(f"{name}: {picked[name]}", fontsize=10)
axes[1].get_legend().remove()
plt.show()

on = essays[essays.topic == "weddings"].set_index(["setting", "condition"])
off = essays[essays.topic == "ships"].set_index(["setting", "condition"])
written = {name: frame.loc[("strongest", "prompted")] for name, frame in (("on", on), ("off", off))}
if written["off"]["low"] <= 1.02:
    why = "the word in front costs unrelated text little on this model; so what steering costs is its own doing"
elif written["on"]["high"] < written["off"]["low"]:
    why = (
        "on this model the *word itself* spoils unrelated text more than wedding text: in its training a heading was "
        "obeyed to the end. Steering brings about the same belief and pays the same price"
    )
else:
    why = (
        "on this model the *word itself* spoils both essays alike. Under a heading it expects not only the topic but "
        "the wording of its own training texts, and an essay on weddings is no more like those than one on ships. "
        "Steering brings about the same belief and pays the same kind of price"
    )
box(
    "wedding essay: steering 0.875, prompting 0.890; shipping essay: steering 0.994, prompting 1.132 (layer 16, c = 1)",
    "<br>".join(
        f"{name}: {kind} weddings {times(on.loc[(name, kind)])}, ships {times(off.loc[(name, kind)])}"
        for name in picked
        for kind in ("steered", "prompted")
    ),
    why,
)

# %% [markdown]
# The same over all layers, with a negative strength too: wedding essays and essays about ships.

# %%
room = picked["strongest"].room
quick = experiments.essay_sweep(lm, coefficients=(-1, 1), room=room, progress=False)
essay_sweep = full(
    "essay_sweep",
    quick.assign(position="pad" if room else "front"),
    ["layer", "coefficient", "text", "position"],
)
own = essay_sweep[(essay_sweep.position == ("pad" if room else "front")) & essay_sweep.coefficient.isin([-1, 1])]
named = own.assign(line=own.text + own.coefficient.map(", c = {:g}".format))
plots.lines(named, "layer", "ratio", by="line", level=1, labels=("layer", "perplexity ratio"))
plt.show()

# %% [markdown]
# **Reviews.** *The post's experiment on Yelp: the vector of ` worst`, on reviews by their stars.* We use thirty short
# reviews of our own; `data.reviews("yelp")` loads the public ones.
#
# > **Predict first.** In which order will bad, middling and good reviews lie?

# %%
quick = experiments.essay_sweep(lm, " worst", " ", coefficients=(1,), texts=data.reviews(), room=room, progress=False)
reviews = full(
    "reviews", quick.assign(position="pad" if room else "front"), ["layer", "coefficient", "text", "position"]
)
own = reviews[(reviews.position == ("pad" if room else "front")) & (reviews.coefficient == 1)]
plots.lines(own, "layer", "ratio", by="text", level=1, labels=("layer", "perplexity ratio"))
plt.show()

order = own.pivot(index="layer", columns="text", values="ratio")
sorted_layers = int(((order["bad"] < order["middling"]) & (order["middling"] < order["good"])).sum())
box(
    "negative < neutral < positive at nearly every layer of GPT-2-XL",
    f"in that order at {sorted_layers} of {len(order)} layers; at layer {strong.layer}: "
    + ", ".join(f"{text} {order.loc[strong.layer, text]:.3f}" for text in ("bad", "middling", "good")),
    "thirty short reviews, read by a model that has seen reviews only in templates: the intervals in the figure are "
    "wide, so an order by itself proves little",
)

# %% [markdown]
# ## 6 · The least that it can cost
#
# *Our own question; the paper does not ask it.* Sections 4 and 5 find a price on unrelated text that GPT-2-XL did not
# pay. Part of it is the text: essays of today are strange to a model that was trained on old novels. So take the
# mildest text that there is, what the *unsteered model itself* writes after a prompt, and ask how cheap steering could
# be.
#
# Let steering raise the share of completions of $T$ tokens that hold a wedding word from $p$ to $q$. Forget everything
# about a completion but this: hit or miss. That cannot raise the KL divergence (the data-processing inequality), so it
# is at least that of two coins:
#
# $$ T \, \log(\text{ratio}) = \mathrm{KL}(P_\text{unsteered} \,\Vert\, P_\text{steered})
#    \;\ge\; p \log\frac{p}{q} + (1 - p) \log\frac{1 - p}{1 - q} $$
#
# A vector that turns *every* completion has no finite price on such text. (The 100 % of section 2 is one prompt under
# the release's sampling, which keeps to the likeliest words; the bound speaks of plain sampling.) Text of another kind
# is not bound by it: longer text, or text whose own words speak against the vector, as those of a web page may.
#
# > **Predict first.** $T = 40$ and $p \approx 0$: up to which share $q$ does the bound allow a ratio of 1.02? And will
# > the vector pay twice as many nats as it must, or ten times?
#
# Left: plain sampling, with the bound. Right: the same prices, against shares under the release's sampling. The numbers
# are strengths.

# %%
parts = []
for name, setting in picked.items():
    at_one, told = replace(setting, coefficient=1.0).vector(lm), {"n": 25}
    if QUICK:
        told = {"strengths": (0.5, setting.coefficient), "prompts": data.prompts("plain")[6:9], "n": 4}
    own = experiments.price(lm, at_one, room=setting.room, seed=SEED, progress=False, **told)
    parts.append(own.assign(setting=name, where=str(setting)))
price = full("price", pd.concat(parts), ["setting", "sampling", "strength"])
place = {True: "over spaces of its own", False: "over the first tokens"}
price["line"] = price["setting"].map({name: f"layer {one.layer}, {place[one.room]}" for name, one in picked.items()})

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
for ax, (sampling, rows) in zip(axes, price.groupby("sampling", sort=False), strict=True):
    for (line, own), colour, marker in zip(rows.groupby("line", sort=False), plots.PALETTE, "os", strict=False):
        across = [own["share"] - own["low"], own["high"] - own["share"]]
        up = [own["ratio"] - own["ratio_low"], own["ratio_high"] - own["ratio"]]
        ax.errorbar(own["share"], own["ratio"], yerr=up, xerr=across, fmt=marker, color=colour, label=line, linewidth=1)
        for _, row in own.iterrows():
            ax.annotate(f" {row['strength']:g}", (row["share"], row["ratio"]), fontsize=8, va="bottom", color=colour)
    ax.axhspan(0.98, 1.02, color="#777777", alpha=0.15, linewidth=0)
    ax.set(xlabel=f"completions with a wedding word, {sampling} sampling", xlim=(-0.03, 1.05))
plain = price[price["sampling"] == "plain"]
zero, tokens = plain.loc[plain["strength"] == 0, "share"].mean(), plain["tokens"].mean()
q = np.linspace(zero, 0.99, 200)
axes[0].plot(q, [experiments.floor(zero, one, tokens) for one in q], color="#777777", label="the least possible")
axes[0].set(ylabel="perplexity ratio, model's own text", ylim=(0.97, 1.05 * price["ratio"].max()))
axes[0].legend(loc="upper left", frameon=False)
sns.despine()
plt.show()

needed = [experiments.floor(zero, max(zero, low), tokens) for low in plain["low"]]
assert (plain["ratio_high"] >= needed).all()  # nothing is cheaper than the bound allows

beyond = price[price["gain_low"] > 0]
mild = beyond[(beyond["ratio"] - 1).abs() <= 0.02]
mildest = beyond.sort_values(["ratio", "share"], ascending=[True, False]).head(1)
furthest = plain.nlargest(1, "share")


def told_price(rows: pd.DataFrame) -> str:
    """A point of the figure in words."""
    row = rows.iloc[0]
    found = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]"
    nats = np.log(row["ratio"]) / np.log(row["floor"])
    bound = f", {nats:.0f} times the nats of the bound ({row['floor']:.3f})" if row["sampling"] == "plain" else ""
    return f"{row['line']}, c = {row['strength']:g}, {row['sampling']} sampling: {percent(row)} at {found}{bound}"


here = plain[plain["strength"] == plain["setting"].map({name: one.coefficient for name, one in picked.items()})]
texts = [
    f"{row.setting}: own text {row.ratio:.2f}, essays' sentences {ends[row.setting, 'sentences'][0]['ratio']:.2f}"
    for row in here.itertuples()
]
box(
    "not asked. About 1 on unrelated web text at layer 16, c = 1; the share of wedding words peaks at layer 6 and is "
    "lower there",
    f"the bound allows 1.02 up to q = {1 - 1.02**-tokens:.0%} (p = 0). Of {len(beyond)} points that steer beyond luck "
    f"{len(mild)} lie within 1 ± 0.02. The mildest tried: "
    f"{told_price(mildest) if len(beyond) else 'none'}.<br>The strongest by plain sampling: {told_price(furthest)}",
    f"strange text makes a part of the price (at the two settings: {'; '.join(texts)}), the bound another. The rest "
    f"buys more than one mention ({furthest['mean_count'].iloc[0]:.1f} wedding words a completion at the strongest) "
    "or is waste. Why effect and price both fall at the largest strengths we have not looked into",
)

# %% [markdown]
# ## 7 · Does it still know what it knew?
#
# *The paper's ConceptNet figure: P@K, the share of clozes whose answer is among the K best tokens, steered towards
# weddings and not.* Offline the clozes are facts in phrasings that the bundled model has not read; with `STEERLAB_DATA`
# also ConceptNet's triples in our phrasings, and LAMA's for those who have it.
#
# > **Predict first.** The vector is made to change the next token. Will it change the answers to *A baby dog is
# > called a*?
#
# The same clozes are asked twice, so they are compared one by one. At a given K: how many were known and are lost, how
# many are won (McNemar's test)? And whatever K: are the ranks of the answers worse (Wilcoxon's)? Two shares whose
# intervals overlap may well differ, if it is always the same clozes that are lost.

# %%
clozes = data.facts("test").sample(120, random_state=SEED) if QUICK else data.facts("test")
parts = [
    experiments.knowledge(lm, setting.vector(lm), clozes, room=setting.room, progress=False).assign(setting=name)
    for name, setting in picked.items()
]
known = full("knowledge", pd.concat(parts), ["setting", "condition", "k"])
public = results.find("actadd_clozes", lm)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
for ax, name in zip(axes, picked, strict=True):
    own = known[known.setting == name]
    plots.lines(own, "k", "share", by="condition", log=True, labels=("K", "P@K"), ax=ax)
    ax.set_title(f"{name}: {picked[name]}", fontsize=10)
plt.show()


def told_ranks(steered: pd.DataFrame) -> str:
    """Whether the ranks of the same clozes have changed."""
    row = steered.iloc[0]
    return f"ranks worse for {row.worse:.0f}, better for {row.better:.0f} of {row.n:.0f} (p = {row.p_ranks:.2g})"


lines = []
every = known.assign(set="own facts")
every = every if public is None else pd.concat([every, public])
for (name, kind), own in every.groupby(["setting", "set"], sort=False):
    plain, steered = (own[own.condition == one].set_index("k") for one in ("plain", "steered"))
    lines.append(
        f"{name}, {kind}: P@9: plain {percent(plain.loc[9])}, steered {percent(steered.loc[9])}, lost "
        f"{steered.loc[9].lost:.0f}, won {steered.loc[9].won:.0f}; {told_ranks(steered)}"
    )
box(
    "no visible change at any K (GPT-2-XL, layer 16, c = 1, 29,774 sentences)",
    "<br>".join(lines),
    "the clozes are short, so a vector at the front is never more than a few tokens away; and this model's knowledge "
    "of new phrasings is thin to begin with",
)

# %% [markdown]
# ## 8 · Sentiment and toxicity
#
# *The paper's tables: does ` Love` minus ` Hate` change the tone of completions, and at which cost in fluency?* One
# decoding for all (temperature 1, nothing cut), unsteered and prompted baselines beside it. Scorer: pleasant against
# unpleasant words, a hit where the pleasant ones prevail; disfluency: the perplexity of the completion after the bare
# prompt, under the unsteered bundled model itself. `metrics.classifier_scorer` puts any Hugging Face classifier there,
# `metrics.lexicon_scorer` VADER's words.
#
# Beside the paper's pair stands a second one: the same word against a space, as ` weddings` had it.
#
# > **Predict first.** Up and to the left is good. Who will be there: the prompt, the pair of opposites, or the word
# > against a space? Each of the two words, as a heading, makes this model write of feelings.

# %%
lists = {"pleasant": (" Love", " Hate"), "unpleasant": (" Hate", " Love")}


def both_pairs(prompts, scorer, plus, minus, n, setting):
    """The three conditions at a setting, with the vector of the opposites and with that of one word alone."""
    told = {"prefix": plus, "room": setting.room, "n": n, "seed": SEED, "progress": False}
    parts = [
        experiments.summarise_tone(
            experiments.tone(lm, setting.vector(lm, plus, against), prompts, scorer, **told)
        ).assign(minus=against.strip() or "space")
        for against in (minus, " ")
    ]
    return pd.concat(parts)


parts = []
for wanted, (plus, minus) in lists.items():
    [other] = set(lists) - {wanted}
    scorer = metrics.word_scorer(data.words(wanted), data.words(other))
    for name, setting in picked.items():
        scored = both_pairs(data.prompts("pleased"), scorer, plus, minus, 2 if QUICK else 50, setting)
        parts.append(scored.assign(setting=name, towards=wanted))
tone = full("tone", pd.concat(parts), ["setting", "towards", "minus", "condition"])
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, towards in zip(axes, lists, strict=True):
    own = tone[tone.towards == towards]
    steered = own.setting + ", minus " + own["minus"]
    shown = own.assign(condition=np.where(own.condition == "steered", steered, own.condition))
    plots.tradeoff(shown.drop_duplicates("condition"), ax=ax, labels=("disfluency", f"{towards} completions"))
plt.show()

# %%
rude = both_pairs(
    data.prompts("rude"), metrics.word_scorer(data.words("rude")), " Love", " Hate", 4 if QUICK else 167, strong
)
toxicity = full("toxicity", rude.assign(setting="strongest"), ["setting", "minus", "condition"])


def told_by_pair(rows):
    """Shares and disfluency of the three conditions, the steered one with either vector."""
    rows = rows[rows.setting == "strongest"].drop_duplicates(["minus", "condition"]).set_index(["minus", "condition"])
    opposite = next(minus for minus, _ in rows.index if minus != "space")
    columns = {"unsteered": (opposite, "zero"), "prompted": (opposite, "prompted")}
    columns |= {f"steered, minus {minus}": (minus, "steered") for minus in (opposite, "space")}
    return "; ".join(
        f"{name} {percent(rows.loc[key])}, disfluency {rows.loc[key, 'disfluency']:.0f}"
        for name, key in columns.items()
    )


def moves(rows, minus):
    """Whether the share rises prompt by prompt, beyond the interval of the gain."""
    rows = rows[(rows.setting == "strongest") & (rows["minus"] == minus)].set_index("condition")
    return rows.loc["steered", "gain_low"] > 0


reasons = []
for towards, (_, minus) in lists.items():
    own = tone[tone.towards == towards]
    opposites, alone = moves(own, minus.strip()), moves(own, "space")
    reasons.append(
        f"{towards}: the pair of opposites {'moves' if opposites else 'does not move'} the tone, "
        f"the word against a space {'does' if alone else 'does not'}"
    )
box(
    "positive to negative 0.21 unsteered, 0.27 prompted, 0.40 steered; disfluency 17, 18, 29. Toxicity 0.127 to 0.101; "
    "disfluency 16 to 20 (final version; it withdraws the claim of state of the art)",
    "<br>".join(f"{towards}: {told_by_pair(tone[tone.towards == towards])}" for towards in lists)
    + f"<br>rude words: {told_by_pair(toxicity)}",
    "; ".join(reasons) + ". Section 9 tests a reason for that: what two headings share cancels in their difference. "
    "Setting: chosen for weddings, the paper searched one for each task. Another scorer, another judge of fluency, "
    "other prompts: compare the order, not the numbers",
)

# %% [markdown]
# ## 9 · What is in the vector?
#
# *The short experiments of the release and the post.* Would any push do? How many of its dimensions are needed? Must it
# lie at the front? Is it more than the embedding of the word?
#
# > **Predict first.** A random vector of the same norm: will it move the next-token distribution less than the wedding
# > vector, as much, or more? And how many wedding words will it write?

# %%
vector = strong.vector(lm)
stress = experiments.random_vectors(
    lm, vector, data.prompts()[:12] if QUICK else None, room=strong.room, draws=3 if QUICK else 10, progress=False
)
stress = stress.groupby(["condition", "prompt"], sort=False)["relative"].mean().reset_index()
random_vectors = full("random_vectors", metrics.means(stress, "relative", ["condition"]), ["condition"])

n = 10 if QUICK else 100
cut = experiments.dimension_sweep(
    lm, vector, room=strong.room, prompts=data.prompts("plain")[6 : 8 if QUICK else 9], n=n, seed=SEED
)
dimensions = full("dimensions", experiments.summarise(cut, by=["dimensions"]), ["dimensions"])
laid = {"layer": strong.layer, "coefficient": strong.coefficient, "n": n, "seed": SEED}
places = full("places", experiments.summarise(experiments.place_sweep(lm, **laid), by=["condition"]), ["condition"])
moved = experiments.summarise(experiments.just_tokens(lm, room=strong.room, **laid), by=["source", "condition"])
sources = full("just_tokens", moved, ["source", "condition"])

figure, ((first, second), (third, fourth)) = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
plots.bars(random_vectors, "condition", "value", labels=("", "KL / entropy of the next token"), ax=first)
plots.lines(dimensions, "dimensions", "share", labels=("part of the dimensions", "with a wedding word"), ax=second)
plots.bars(places, "condition", "share", labels=("", "with a wedding word"), ax=third)
plots.lines(
    sources,
    "source",
    "share",
    by="condition",
    labels=("layer that the vector comes from", "with a wedding word"),
    ax=fourth,
)
fourth.axvline(strong.layer, color="#777777", linewidth=0.8)
plt.show()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
plots.lines(experiments.relative_sizes(lm), "layer", "size", labels=("layer", "‖vector‖ / ‖stream‖, c = 1"), ax=left)
left.set_ylim(0, None)
shares_of_kl = experiments.kl_shares(lm, vector, "I went to see the", room=strong.room)
right.barh([repr(token) for token in shares_of_kl["token"]], shares_of_kl["share"], color=plots.PALETTE[0])
right.invert_yaxis()
right.set(xlabel="share of KL(steered ‖ plain) after “I went to see the”")
sns.despine()
plt.show()

far = random_vectors.set_index("condition")
at = {place: places.set_index("condition").loc[place] for place in places.condition}
embedding = sources[(sources.source == 0) & (sources.condition == "as it is")].iloc[0]
half = dimensions.iloc[(dimensions.dimensions - 0.5).abs().argmin()]
whole = dimensions.iloc[dimensions.dimensions.argmax()]
own_source = sources[(sources.source == strong.layer) & (sources.condition == "as it is")].iloc[0]
source_note = (
    "the vector is that of layer 0 itself, so here the question answers itself"
    if strong.layer == 0
    else f"the embeddings' vector at layer {strong.layer}: {percent(embedding)}; the layer's own {percent(own_source)}"
)
box(
    "a random vector moves the logits more than Anger − Calm, and changes behaviour less; the effect grows smoothly "
    "with the dimensions; the back is less coherent; embeddings moved to layer 20 do almost nothing; ` wedding` makes "
    "78 % of the KL",
    f"KL / entropy: vector {far.loc['vector', 'value']:.2f}, random {far.loc['random', 'value']:.2f}, nonsense "
    f"{far.loc['nonsense', 'value']:.2f}; half of the dimensions {percent(half)}, all {percent(whole)}, both "
    "on other prompts; on the paper's "
    + ", ".join(f"{place} {percent(row)}" for place, row in at.items())
    + f"; {source_note}; {shares_of_kl.token[0]!r} makes {shares_of_kl.share[0]:.0%} of the KL",
    "on the bundled model the embedding is not enough either, but layers 2 and 3 can stand in for each other, and a "
    "heading is obeyed wherever it lies. Why random directions, which moved GPT-2-XL further than the vector did, "
    "hardly move this model we do not know",
)

# %% [markdown]
# **What a difference loses.** In section 8 ` Love` − ` Hate` did less than ` Love` − space. Our guess: both words are
# headings, and *that* they are cancels in their difference. To test it, estimate the shared part from third headings,
# as the mean of (heading − space), and add it to the difference; or add noise of the same norm, in case any push will
# do. Not only for these two words: for ` weddings` against each of the 23 other topics, too, where the third headings
# are the 22 topics left.
#
# > **Predict first.** ` weddings` − ` ships` knows nothing of headings. Will it still write of weddings? And with the
# > mean of dogs, music, war and the rest added?

# %%
others = [f" {topic}" for topic in data.topics() if topic != "weddings"]
told = {**where, "seed": SEED, "n": 5 if QUICK else 20}
weddings = experiments.shared_part(lm, " weddings", others[:3] if QUICK else others, **told)
some, pleasant = data.prompts("plain")[6 : 10 if QUICK else 26], data.words("pleasant")
love = experiments.shared_part(lm, " Love", [" Hate"], prompts=some, words=pleasant, **told)
parts = {"weddings − another topic": weddings, "Love − Hate": love}
zero = {"condition": "zero"}
quick = [experiments.summarise(own, by=["condition"], baseline=zero).assign(pair=pair) for pair, own in parts.items()]
taken = full("pairs", pd.concat(quick), ["pair", "condition"])
figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained", sharey=True)
for ax, (pair, own), kind in zip(axes, taken.groupby("pair", sort=False), ("wedding", "pleasant"), strict=True):
    plots.bars(own, "condition", "share", labels=("", f"completions with a {kind} word"), ax=ax)
    ax.set(title=pair, xlim=(-0.03, 1.03))
plt.show()


def verdict(pair: str) -> str:
    """Whether what third headings share is what the difference lacks."""
    own = taken[taken["pair"] == pair].set_index("condition")
    both = own.loc["headings + difference"]
    if own.loc["alone", "low"] <= own.loc["difference", "high"]:
        return f"{pair}: the difference has lost nothing that is seen here"
    if any(both["low"] <= own.loc[one, "high"] for one in ("difference", "headings", "noise + difference")):
        return f"{pair}: third headings do not give back what the difference has lost"
    part = "all" if both["high"] >= own.loc["alone", "low"] else "a part"
    numbers = ", ".join(f"{one} {percent(row)}" for one, row in own.iterrows())
    return f"{pair}: third headings give back {part} of what the difference has lost, noise does not ({numbers})"


display(Markdown("\n".join(f"- {verdict(pair)}." for pair in parts)))

# %% [markdown]
# Two things stay open. The mean of 22 other topics writes of weddings by itself, more often than no vector does: so it
# says more than "here is a heading". And for feelings the topics' mean gives back a part only; a heading of feelings
# may not be one of topics.

# %% [markdown]
# ## 10 · What does it cost in time?
#
# *The paper's overhead figure: premium = time steered / time plain − 1, which is to fall with the size of the model.*
# Models of GPT-2's shapes with random weights; order alternates, both are warmed up. The premium here is that of our
# package: it stacks the vectors and enters the trace, which takes the same time whatever the model's size.
#
# > **Predict first.** From a million parameters to a hundred million: by how much does the premium fall?

# %%
timed = experiments.overhead_by_size(["1M", "10M", "gpt2"], rows=4, repeats=5 if QUICK else 20, warmup=1)
overhead = full("overhead", experiments.summarise_overhead(timed), ["model"])
ax = plots.lines(overhead, "n_params", "premium", log=True, level=0, labels=("parameters", "premium"))
plt.show()
least, most = overhead.iloc[0], overhead.iloc[-1]
falls = most["high"] < least["low"]


def told_premium(row) -> str:
    """A model's premium with its 95 % interval."""
    return f"{row.model} {row.premium:+.1%} [{row.low:+.1%}, {row.high:+.1%}]"


box(
    "falls with size; the figure's axis runs to 0.4 % (batch of 32 rows × 64 tokens, on a GPU)",
    "; ".join(map(told_premium, overhead.itertuples()))
    + f": {'it falls' if falls else 'no clear fall'} from first to last ({most.rows} rows × {most.width} tokens)",
    f"a smaller batch on a CPU, so that a fixed cost weighs more: {1000 * least.premium * least.plain:.1f} ms on "
    f"{least.model}, whose pass takes {1000 * least.plain:.0f} ms; a pass of {most.model} takes {most.plain:.1f} s, "
    "and the premium is lost in the noise of the clock",
)

# %% [markdown]
# ## 11 · Exercises
#
# **11.1 · Steer for little.** ●●○ about 10 minutes. Find a setting that writes more wedding words than the unsteered
# model, beyond luck, and changes the perplexity of the model's own unsteered text by less than 5 %. Layer, strength and
# place are yours. Then ask for the paper's 2 %: `cost=0.02`. (A check takes half a minute: it writes 600 completions.)

# %%
mine = experiments.Choice(layer=0, coefficient=0.0, room=False)  # change all three

exercises.check_gentle(lm, mine.vector(lm), room=mine.room)

# %% [markdown]
# <details><summary>Hint</summary>The points of section 6, on the right. Which of them lie low and to the right?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# mine = experiments.Choice(layer=3, coefficient=8, room=True)
# ```
#
# For 2 % on the bundled model: the same with coefficient 0.54, barely, for one completion in thirty.
#
# </details>
#
# **11.2 · Break it.** ●○○ about 5 minutes. Find a vector and a strength at which the completions are no language any
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
# **11.3 · Where it fails.** ●●○ about 10 minutes. Find a topic, named by a word and counted by words of your own, that
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
# ## 12 · What could be wrong?
#
# - **One prompt.** The paper's layer figure rests on a single prompt, and Wilson's interval beside its shares speaks of
#   further completions of that prompt only. The choice of section 1 was made on others, which is why its numbers differ
#   from those of section 2. Where several prompts are pooled (sections 1, 6, 8, 9) the intervals are over prompts: a
#   thousand completions of twenty prompts say about as much of other prompts as two or three hundred would.
# - **Few sentences.** Our essays have some two hundred distinct sentences. Mixing them into a thousand documents makes
#   no more of them; that is why the intervals are over sentences.
# - **A judge that is judged.** Disfluency is taken under the same model that wrote. It shares its blind spots.
# - **Words for meaning.** Word lists count what is said, not what is meant, and miss irony altogether.
# - **A model made for the purpose.** What a vector does at the front of a text here, it does because training made
#   the front decide. On a large model run the notebook again: `MODEL` is the only line to change.
#
# ## 13 · The page
#
# All of the above on one page, for the model that is loaded.

# %%
model_name = lm.name
gentle = cell.loc[("gentle", "steered")]
unrelated = {name: ends[name, "sentences"][0] for name in picked}
unrelated_whole = {name: ends[name, "whole documents"][0] for name in picked}
dense = {name: ends[name, "sentences"][1] for name in picked}
released = price[price["sampling"] == "released"].set_index(["setting", "strength"])
others = {name: released.loc[(name, setting.coefficient)] for name, setting in picked.items()}


def touched(name: str) -> str:
    """Whether the ranks of the answers change at a setting."""
    steered = known[(known.setting == name) & (known.condition == "steered")]
    return ("**changed**: " if steered["p_ranks"].iloc[0] < 0.05 else "no change seen: ") + told_ranks(steered)


display(
    Markdown(
        f"""
### ActAdd on {model_name}, {lm.n_layers} layers × {lm.d_model}

| | strongest: {picked["strongest"]} | gentle: {picked["gentle"]} |
|---|---|---|
| **changes:** completions with a wedding word | **{percent(top["steered"])}** | **{percent(gentle)}** |
| the same after twenty other prompts | {percent(others["strongest"])} | {percent(others["gentle"])} |
| unsteered | {percent(top["zero"])} | {percent(cell.loc[("gentle", "zero")])} |
| random vector of the same norm | {percent(top["random"])} | {percent(cell.loc[("gentle", "random")])} |
| the word written in front | {percent(top["prompt"])} | {percent(cell.loc[("gentle", "prompt")])} |
| perplexity of the densest wedding text | {times(dense["strongest"])} | {times(dense["gentle"])} |
| **leaves alone?** unrelated sentences | {times(unrelated["strongest"])} | {times(unrelated["gentle"])} |
| unrelated documents, read whole | {times(unrelated_whole["strongest"])} | {times(unrelated_whole["gentle"])} |
| facts: ranks of the answers | {touched("strongest")} | {touched("gentle")} |

- **Where:** layers {", ".join(f"{layer:.0f}" for layer in steered_layers) or "none"} of 0 to {lm.n_layers - 1} steer at
  some strength of the sweep; {worked} of {len(pairs)} topics can be reached at the strongest setting.
- **How strong:** of {len(choice)} settings tried, {len(steers)} steer beyond luck and {len(within)} of these cost
  unrelated sentences at most 2 %.
- **Against the rival:** written in front, the word reaches {percent(top["prompt"])}; on an essay about ships it costs
  {times(off.loc[("strongest", "prompted")])}, the vector {times(off.loc[("strongest", "steered")])}.
- **The least that it costs:** on the model's own text the mildest setting that steers beyond luck costs
  {f"{mildest.ratio.iloc[0] - 1:.1%}, for {mildest.share.iloc[0]:.0%} of completions" if len(beyond) else "too much"}.
  The largest share by plain sampling, {furthest.share.iloc[0]:.0%}, costs {furthest.ratio.iloc[0] - 1:.0%}; its bound
  is {furthest.floor.iloc[0] - 1:.1%}.
- **In time:** {told_premium(most)}, the largest model that was timed.
"""
    )
)

# %% [markdown]
# **Open questions:** Is a cost on unrelated text
# a fault of the vector or of the model's belief that text keeps to its topic? Would a vector from many contrast
# pairs be gentler at the same effect? What would you have to measure before you used this on people's text?
