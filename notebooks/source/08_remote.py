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
# # 08 · Can I steer a 70B model that I don't own?
#
# A model with seventy billion weights doesn't fit on your laptop. It does fit on NDIF, a research cluster that hosts
# large open models and lets you reach inside them. Your laptop sends a few kilobytes: the prompt, the edit, and the
# source code of the function that makes it. The weights stay where they are.
#
# **Paper.** Fiotto-Kaufman et al., *NNsight and NDIF: Democratizing Access to Open-Weight Foundation Model Internals*,
# [arXiv 2407.14561](https://arxiv.org/abs/2407.14561).
#
# **After this notebook you can**
# 1. set up an API key that no notebook ever contains;
# 2. say what a call will send before you send it;
# 3. run ActAdd, a layer sweep and SARA on a model whose weights you never load;
# 4. learn scalars on a server that gives no gradients;
# 5. write a study that is a single request;
# 6. leave a job running, and collect its result within the hour from another kernel.
#
# **You need** notebooks 02, 04 and 05.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; on NDIF a name such as "meta-llama/Llama-3.1-70B"
PROFILE = "quick"  # "paper": more samples and steps
SEED = 0
REMOTE = "local"  # requests are made and run in this process; True is NDIF, "https://..." a lab's own server

# %%
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nnsight
import pandas as pd
import torch
from IPython.display import Markdown, display

import steerlab as sl
from steerlab import exercises, judges, plots, sweep
from steerlab.experiments.sara import CONSEQUENCES, DUTY, METHODS, PARENT, dilemma_study, held_out_dilemmas
from steerlab.remote import ndif_models
from steerlab.widgets import job_panel, playground

QUICK = PROFILE == "quick"
SERVER = REMOTE != "local"
pd.set_option("display.max_colwidth", 160)
lm = sl.load(MODEL, remote=REMOTE)
PROMPT = "I went up to my friend and said"
lm

# %% [markdown]
# With a server, `lm` is a skeleton: it has the config and the tokenizer, but no weights. As committed, this notebook
# says `REMOTE = "local"`. Each request is still written out as source code, read back and run as on a server, but in
# this process and with the bundled model. So the notebook runs anywhere, without a network and without a key.

# %% [markdown]
# ## 1 · A key that stays out of the notebook
#
# NDIF wants an API key ([login.ndif.us](https://login.ndif.us)). A key that you type into a cell is saved with the
# notebook, and one that you print is saved with the output. So set it elsewhere. Either once, in a terminal:
#
# ```console
# $ nnsight login
# ```
#
# or for this session only, in a field that shows nothing and saves nothing:
#
# ```python
# import getpass, os
# os.environ["NDIF_API_KEY"] = getpass.getpass("NDIF key: ")
# ```
#
# The package sends the key with each request, and when it asks what kind of key it is: in a header, over `https` or to
# your own computer. It follows no redirect. Asking for a job's state and fetching a result go without the key.
#
# There are two kinds of key. Code that comes with an *ordinary* key, which is what you get, runs in a sandbox: a
# process of its own that sees copies of the activations. Code that comes with a *trusted* key runs beside the weights.
# Section 9 says what differs; the server says which kind yours is.

# %%
has_key = bool(os.environ.get("NDIF_API_KEY") or nnsight.CONFIG.API.APIKEY)  # whether, never what
print("a key is set" if has_key else "no key is set" + ("" if SERVER else ", and REMOTE='local' needs none"))
if SERVER:
    print("its kind:", lm.runner.server().key_kind() or "the server does not say")

# %% [markdown]
# Which models are running? `ndif_models` asks the server, and needs no key. HOT models answer at once, WARM ones wait
# in memory for a free GPU, and COLD ones have to be loaded first. Others are deployed on request if they fit, which
# takes minutes. The server chooses the precision, usually bfloat16.

# %%
if SERVER:
    display(ndif_models(lm.runner))
else:
    print("REMOTE='local' has no server to ask: with REMOTE = True, NDIF's models are listed here")

# %% [markdown]
# ## 2 · Look before you send
#
# > **Predict first.** A sweep over every layer and 21 strengths: how many requests does that take? How many bytes come
# > back, if each answer is a distribution over the vocabulary?
#
# `lm.dry_run` does everything but send, and makes up the model's answers. It takes a function of the model, so that it
# can pass it a model that sends nothing. The checks are the real ones, so a mistake is found before you have waited in
# a queue for it:

# %%
try:
    lm.dry_run(lambda lm: sl.actadd(lm, " weddings", " ", layer=lm.n_layers))
except ValueError as error:
    print(error)

# %% [markdown]
# Now the sweep, in two ways. In *one job*, the loop over settings runs beside the model. With *one request for each
# setting*, the loop runs here, which is how one writes it first.


# %%
def grid(lm: sl.SteerableModel) -> list[sweep.Setting]:
    """A vector at every layer and strength; the vectors are random, since only their shape counts here."""
    settings = []
    for point in sweep.grid(layer=range(lm.n_layers), strength=range(-10, 11)):
        steer = sl.add(torch.randn(2, lm.d_model), layer=point["layer"], place="resid_pre", anchor="front")
        settings.append(sweep.Setting(point, PROMPT, point["strength"] * steer))
    return settings


def one_job(lm: sl.SteerableModel) -> pd.DataFrame:
    """The loop runs beside the model; KL and entropy come back."""
    return sweep.next_tokens(lm, grid(lm), progress=False)


def naive(lm: sl.SteerableModel) -> None:
    """A request for each setting; logits come back."""
    for setting in grid(lm):
        lm.logits(PROMPT, setting.steer)


rows = []
for name, call in {"one job": one_job, "one request for each setting": naive}.items():
    dry = lm.dry_run(call)
    rows.append({"how": name, "requests": len(dry), **dry[["payload_bytes", "result_bytes"]].sum()})
costs = pd.DataFrame(rows)
costs

# %%
saved = costs["requests"].iloc[1] / costs["requests"].iloc[0]
back = costs["result_bytes"].iloc[1] / costs["result_bytes"].iloc[0]
display(
    Markdown(
        f"One job makes {saved:,.0f} times fewer requests, and brings back {back:,.0f} times fewer bytes. On a busy "
        "server each request waits in a queue, so the first number is the one that you feel."
    )
)

# %% [markdown]
# From here on we keep an account. Each study is run dry, for its requests and bytes, and then for real, for its
# seconds.

# %%
account = []


def costed(study: str, call: Callable[[sl.SteerableModel], Any]) -> Any:
    """The result of a call, whose cost goes into the account."""
    dry = lm.dry_run(call)
    began = time.perf_counter()
    result = call(lm)
    seconds = time.perf_counter() - began
    sums = dry[["payload_bytes", "result_bytes"]].sum()
    account.append({"study": study, "requests": len(dry), **sums, "seconds": seconds})
    return result


# %% [markdown]
# ## 3 · ActAdd
#
# The calls are those of notebook 02. Only `remote=` in `load` is new.


# %%
def greeting(lm: sl.SteerableModel) -> pd.DataFrame:
    """What the friend is told, unsteered and steered."""
    wedding = sl.actadd(lm, " weddings", " ", layer=2)
    return lm.generate(
        [PROMPT] * 2, [None, 4 * wedding], n=4 if QUICK else 20, max_new_tokens=25, temperature=0.8, seed=SEED
    )


answers = costed("ActAdd", greeting)
answers["steered"] = answers["row"] == 1
print(f"requests: {account[-1]['requests']}, one for the vector and one for the texts")
answers[["steered", "sample", "completion"]]

# %%
weddings = answers["completion"].str.contains("wedding|married|bride", case=False).groupby(answers["steered"]).sum()
print(f"texts that speak of a wedding: {weddings[True]} steered, {weddings[False]} not, of {len(answers) // 2} each")

# %% [markdown]
# ## 4 · A layer sweep in one job
#
# Each setting is a row of a batch, and the loop over batches runs on the server. A few numbers come back for each
# setting, not its logits.
#
# > **Predict first.** The vector is added to the first tokens of the prompt, where a block is entered. At which layers
# > will that change the next token more: early or late? And why?


# %%
def all_layers(lm: sl.SteerableModel) -> list[sl.Intervention]:
    """The vector of each layer."""
    each = [lambda lm, layer=layer: sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(lm.n_layers)]
    return lm.together(each)


vectors = costed("vectors of all layers", all_layers)
settings = [
    sweep.Setting({"layer": layer, "strength": strength}, PROMPT, strength * vector)
    for layer, vector in enumerate(vectors)
    for strength in range(-10, 11)
]
frame = costed("layer sweep", lambda lm: sweep.next_tokens(lm, settings, progress=False))
ax = plots.heat_map(frame, x="strength", y="layer", value="kl")
ax.set_title("KL from the unsteered next token, nats")
plt.show()

# %% [markdown]
# `lm.together` is new. Its calls don't need each other's results, so they share a request: the vectors of all layers
# cost a single one.

# %%
largest = frame.loc[frame["kl"].idxmax()]
print(f"most is moved at layer {largest['layer']:.0f}, strength {largest['strength']:.0f}: {largest['kl']:.2f} nats")

# %% [markdown]
# The last token learns of the first ones by attention only. An edit below the layers that look there is read; one above
# them is not, however strong.
#
# Mind what you choose by: KL measures how far the next-token distribution has moved, and is not the effect. Here it is
# largest at layer 0, while the wedding words of notebook 02 came from layer 2. Exercise 8.2 measures the effect.
#
# ## 5 · SARA
#
# $\gamma$ is computed where the activations are, and only $\gamma$ comes back (notebook 04).


# %%
def dilemma(lm: sl.SteerableModel) -> pd.DataFrame:
    """One dilemma, unsteered and steered both ways."""
    steer = sl.sara(lm, PARENT, attract=DUTY, repel=CONSEQUENCES, layer=lm.n_layers // 2)
    ways = [None, steer, -steer]
    return lm.generate([PARENT] * 3, ways, n=2, max_new_tokens=30, temperature=0.8, top_p=0.3, seed=SEED)


answers = costed("SARA", dilemma)
answers["steered to"] = answers["row"].map({0: "nothing", 1: "duty", 2: "consequences"})
answers[["steered to", "completion"]]

# %% [markdown]
# Two answers of each kind prove nothing; notebook 04 counts. Its study is the same call with a remote model: every
# dilemma, every layer, both directions, and three controls. Look before you send:

# %%
judge = judges.word_judge()  # made for the bundled model's answers, but a dry run has no answers to judge
dry = lm.dry_run(lambda lm: dilemma_study(lm, held_out_dilemmas(), judge=judge, repeats=1, progress=False))
rows = len(held_out_dilemmas()) * lm.n_layers * (1 + 2 * len(METHODS))
print(f"{rows:,} answers in {len(dry)} requests; functions run beside the model in each: {list(dry['calls'])}")
dry[["request", "payload_bytes", "result_bytes", "problem"]]

# %% [markdown]
# The first request asks for everything that the vectors are made of, the second for all answers.
#
# ## 6 · Learning without gradients
#
# In the sandbox of an ordinary key, code sees copies of the activations, and no gradient passes through a copy. There
# `fit` uses SPSA, and says so; `gradient="exact"` is refused. SPSA (Spall 1992) needs no gradient. It nudges *all*
# numbers at once along a random direction $\delta$, by $+c\,\delta$ and by $-c\,\delta$, and runs the model for both.
# The difference of the two losses is the slope along $\delta$:
#
# $$ g \;=\; \frac{L(\theta + c\,\delta) - L(\theta - c\,\delta)}{2c}\;\delta $$
#
# One random direction says little; the mean over many comes near the gradient. The two sides are rows of the same
# batch, and the loop over steps runs on the server, so the whole fit is one request. The two fits below take most of
# this notebook's time: a quarter of a minute on two quiet cores, minutes beside other work.

# %%
task = sl.tasks.ioi(lm, n=100 if QUICK else 200, seed=SEED, orders=["ABBA"])
method = sl.ActivScalar()
objective = sl.Objective(margin=5, faithfulness=0.1, minimality=0.01)
options = {"batch_size": 4, "lr": 0.03, "patience": 15, "directions": 2, "seed": SEED, "progress": False}
steps = {"exact": 60, "spsa": 60} if QUICK else {"exact": 200, "spsa": 600}


def learn(lm: sl.SteerableModel, gradient: str) -> sl.Fit:
    """Scalars in all layers, for the task of notebook 05."""
    return sl.fit(lm, task.train, method, objective, steps=steps[gradient], gradient=gradient, **options)


fits, scores = {}, {}
for gradient in steps:
    try:
        fits[gradient] = costed(f"fit, {gradient}", lambda lm, gradient=gradient: learn(lm, gradient))
    except sl.RemoteError as error:  # of a sandbox
        print(f"{gradient}: {error}")
        continue
    judged = sl.evaluate(lm, task.test, fits[gradient].intervention, margin=5).set_index("metric")["value"]
    scores[gradient] = {"rows run": fits[gradient].history["forwards"].iloc[-1], **judged}
learned = pd.DataFrame(scores).T
learned[["rows run", "effectiveness", "flip_rate", "faithfulness"]].round(3)

# %%
nothing = 0 * next(iter(fits.values())).intervention
bare = sl.evaluate(lm, task.test, nothing, margin=5).set_index("metric")["value"]["effectiveness"]
gained = bare - learned["effectiveness"]
if {"exact", "spsa"} <= set(gained.index):
    share, times = gained["spsa"] / gained["exact"], learned["rows run"]["spsa"] / learned["rows run"]["exact"]
    print(f"Without any edit a held-out prompt is {bare:.1f} nats short of both margins.")
    print(f"SPSA gains {share:.0%} of what the exact gradient gains, for {times:.0f} times as many rows.")

# %%
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained", facecolor="white")
for gradient, fit in fits.items():
    ax.plot(fit.history["forwards"], fit.history["effectiveness"].rolling(10, min_periods=1).mean(), label=gradient)
ax.set(xlabel="rows run through the model", ylabel="nats short on the batch (0 is done)", xscale="log")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The x-axis is what a fit costs: rows run through the model. The exact gradient also needs a backward pass for each
# row, which a sandbox does not give at all.
#
# ## 7 · What did it cost?
#
# *Bytes sent* is the compressed request. *Bytes back* is an upper limit, before compression. The seconds include the
# queue, where there is one.

# %%
costs = pd.DataFrame(account).rename(columns={"payload_bytes": "bytes sent", "result_bytes": "bytes back, at most"})
costs.round({"seconds": 1})

# %% [markdown]
# Most of what is sent is vectors and source code. The size of the model enters only through the width of its stream.
#
# ## 8 · A job that outlives the notebook
#
# No connection stays open while a job runs. The package notes the job's id as soon as there is one (never the key). So
# you may stop waiting, with the stop button, a closed laptop or a new kernel: the same call, made again, collects the
# result. `lm.jobs()` lists what is on its way: state, place in the queue, age, and the cost once it has ended.
#
# There are two limits. A server keeps a result for **one hour**; whoever comes later has to begin again. And on NDIF
# users cannot cancel a job.
#
# `lm.submit(call, file)` sends a call and does not wait. It writes the job's id to the file, and `lm.collect(call,
# file)` fetches the result, from any kernel. Whoever can read the file can fetch the result, so only you can read it.
# The panel has these calls as buttons: *Submit* begins the job, *Look again* asks for its state, *Collect* fetches the
# result if it is there. With `REMOTE = "local"` nothing has to be waited for, and *Submit* says so.

# %%
folder = Path(tempfile.mkdtemp())


def few_settings(lm: sl.SteerableModel) -> pd.DataFrame:
    """What is computed; the same function begins the job and collects its result."""
    return sweep.next_tokens(lm, settings[::7], progress=False)


jobs = job_panel(lm, few_settings, folder / "few.jobs")
jobs

# %%
collected = lm.collect(few_settings, folder / "few.jobs")  # waits, and begins the job if nobody has
print(f"{len(collected)} rows")

# %% [markdown]
# A sweep or a study with `file=` keeps its job ids by itself: restart the kernel, run the cell again, and it collects.
#
# > **A press is a request.** A panel on a remote model runs only when you press its button; the bars and the texts of
# > one press share a request. Here the vectors of all layers are at hand (section 4): choose one as the *method*. With
# > *ActAdd*, a new pair or layer takes a second request, since its vector has to come first.

# %%
named = {f"weddings, layer {layer}": vector for layer, vector in enumerate(vectors)}
asked = {"prompt": PROMPT, "n": 1, "max_new_tokens": 25, "seed": SEED}
panel = playground(lm, interventions=named, method="weddings, layer 2", strength=4.0, **asked)
panel.press()
panel

# %% [markdown]
# ## Exercises
#
# **8.1 · Two requests.** ●●○ about 10 minutes. The function below makes a vector at each layer, and then writes a text
# with it: two requests for every layer. Rewrite it so that the whole takes two requests, with the same result. The
# checker runs it dry and counts, then runs it for real.

# %%


def every_layer(lm: sl.SteerableModel) -> list[str]:
    """What is written with the vector of each layer."""
    written = []
    for layer in range(lm.n_layers):
        vector = sl.actadd(lm, " weddings", " ", layer=layer)
        written.append(lm.generate(PROMPT, 4 * vector, max_new_tokens=10, seed=SEED)["completion"][0])
    return written  # your code here


exercises.check_requests(every_layer, lm, most=2, prompt=PROMPT, seed=SEED)

# %% [markdown]
# <details><summary>Hint</summary>The layers don't need each other's results, so they can go into
# <code>lm.together</code>, which takes a list of functions of the model. A function may make several calls, one after
# the other.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def every_layer(lm):
#     def write(lm, layer):
#         vector = sl.actadd(lm, " weddings", " ", layer=layer)
#         return lm.generate(PROMPT, 4 * vector, max_new_tokens=10, seed=SEED)["completion"][0]
#
#     return lm.together([lambda lm, layer=layer: write(lm, layer) for layer in range(lm.n_layers)])
# ```
#
# The first calls of all functions share a request, and so do the second ones.
#
# </details>
#
# **8.2 · A study in one request.** ●●● about 20 minutes. *Important: this is how you will ask a 70B model.* At which
# layer and strength does the vector make ` wedding` the likelier next token, and more so than a random vector of the
# same norm? `by_layer` has the vector of each layer. Return a table with a row for each `condition` (`"steered"` or
# `"random"`), `layer` and `strength`, and the log-probability of ` wedding` after `NEXT` in the column `logprob`. One
# request for all, and no whole distribution may come back. The checker runs it dry, then for real with other vectors.

# %%
NEXT, STRENGTHS = "She told me all about the", (0, 1, 2, 4)  # strength 0 is the unsteered model


def study(lm: sl.SteerableModel, by_layer: dict[int, sl.Intervention]) -> pd.DataFrame:
    """The next token's log-probability by condition, layer and strength, in one request."""
    return pd.DataFrame(columns=["condition", "layer", "strength", "logprob"])  # your code here


exercises.check_study(study, lm, prompt=NEXT, strengths=STRENGTHS)

# %% [markdown]
# <details><summary>Hint 1</summary>The vectors are at hand, so nothing has to come back before the rest can be asked.
# Make the list of all settings first, and send it once.</details>
#
# <details><summary>Hint 2</summary><code>sweep.Setting(columns, prompt, steer)</code> is one row, with your columns as
# a dict. Section 4 has such a list; <code>sl.random_like(vector, seed=layer)</code> is the control.</details>
#
# <details><summary>Hint 3</summary><code>sweep.next_tokens(lm, rows, tokens=[" wedding"])</code> adds the column
# <code>logprob</code>, and leaves the distributions on the server.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def study(lm, by_layer):
#     rows = []
#     for layer, vector in by_layer.items():
#         for condition, steer in (("steered", vector), ("random", sl.random_like(vector, seed=layer))):
#             for strength in STRENGTHS:
#                 columns = {"condition": condition, "layer": layer, "strength": strength}
#                 rows.append(sweep.Setting(columns, NEXT, strength * steer))
#     return sweep.next_tokens(lm, rows, tokens=[" wedding"], progress=False)
# ```
#
# </details>
#
# Now ask it about all layers: `study(lm, dict(enumerate(vectors)))`. Could you have told the vector from the random one
# by KL alone?
#
# <details><summary>Answer</summary>No. On the bundled model the vector does most at layer 0 and strength 2: *wedding*
# rises from 0.3 % to 25 %, with a KL of 2.4 nats. But the random vector there has a KL of 0.7 nats, as much as the
# vector at layer 2, and it makes *wedding* rarer.</details>
#
# ## 9 · What runs where
#
# | | laptop | one GPU | several GPUs | NDIF, trusted key | NDIF, ordinary key |
# |---|---|---|---|---|---|
# | load | `sl.load()` | `sl.load(name)` | `sl.load(name, device_map="auto")` | `sl.load(name, remote=True)` | same |
# | up to about | 1B | 20B | what fits together | what is served | what is served |
# | your code runs | here | here | here | beside the weights | in a sandbox |
# | read, edit, generate, sample | ✓ | ✓ | ✓ | ✓ | ✓ |
# | ActAdd, SARA, sweeps | ✓ | ✓ | ✓ | ✓, one job | ✓, one job |
# | `fit` | exact | exact | exact | exact, one job | `gradient="spsa"`, one job; exact is refused |
# | options such as `repetition_penalty` | ✓ | ✓ | ✓ | ✓ | no: `frequency_penalty` |
# | your weights, private data | ✓ | ✓ | ✓ | no: prompts travel | no: prompts travel |
#
# The last two columns are tested with NDIF's own code, version 0.1.2: with either key, every kind of call gives there
# what it gives here, except where the table says otherwise.
#
# **A lab's own server.** NDIF is a package (`ndif`, for Python 3.12), so a lab can serve models to its members from its
# own machine: `sl.load(name, remote="https://server.of.the.lab")`. Version 0.1.2 was tested with `nnsight==0.8.0` and a
# `transformers` below 5.23 on the server; here newer ones will do. `python -m steerlab.check https://server.of.the.lab`
# says what runs there, what your key may do, and which versions differ. What comes back is read as tensors and plain
# values, never as code, and no more than was asked for. But the server sees your prompts and your key, so name one that
# you trust. Plain `http` is refused, except to your own computer.
#
# ## 10 · What could be wrong?
#
# - **Another precision.** A server usually runs bfloat16, your own check ran float32. A difference of a percent is
#   rounding.
# - **Other versions.** Another version of transformers may build another tree of modules. `load` warns of it, and
#   `python -m steerlab.check` shows which packages differ.
# - **Another model of the same name.** Name and revision say what is served. Only the server knows what it loaded.
# - **SPSA is noisy.** Its result depends more on the seed than the exact gradient's does: fit with several.
#
# **Open questions:** How many directions does SPSA need as the number of scalars grows? Which layers of a 70B model
# listen to the first words of a prompt?
