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
# A model of seventy billion numbers does not fit on your desk. It does fit on NDIF, a cluster that lets researchers
# reach inside of models that others host. Your laptop sends a few kilobytes: the prompt, the edit, and the source of
# the function that makes it. The weights stay where they are.
#
# **Paper.** Fiotto-Kaufman et al., *NNsight and NDIF: Democratizing Access to Open-Weight Foundation Model Internals*,
# [arXiv 2407.14561](https://arxiv.org/abs/2407.14561).
#
# **After this notebook you can**
# 1. set up a key so that no notebook ever holds it;
# 2. say what a call will send before you send it;
# 3. run ActAdd, a layer sweep and SARA on a model whose weights you never load;
# 4. learn scalars where a server gives no gradients;
# 5. leave a job running, and collect its result from another kernel within the hour.
#
# **You need** notebooks 02, 04 and 05.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; on NDIF a name such as "meta-llama/Llama-3.1-70B"
PROFILE = "quick"  # "paper": more samples and steps
SEED = 0
REMOTE = "local"  # the whole way of a request, in this process; True is NDIF, "https://..." a lab's own server

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

QUICK = PROFILE == "quick"
SERVER = REMOTE != "local"
pd.set_option("display.max_colwidth", 160)
lm = sl.load(MODEL, remote=REMOTE)
PROMPT = "I went up to my friend and said"
lm

# %% [markdown]
# With a server, this model is a skeleton: config and tokenizer are here, the weights are not. As committed, the
# notebook says `REMOTE = "local"`: each request is still written out as source, restored and executed as a server
# would, but in this process and with the bundled model. So it runs anywhere, and needs no network and no key.

# %% [markdown]
# ## 1 · A key that leaves no trace
#
# NDIF wants a key ([login.ndif.us](https://login.ndif.us)). A key that is typed into a cell is saved with the notebook,
# and one that is printed is saved with its output. So it lives outside. Either once, in a terminal, never in a cell:
#
# ```console
# $ nnsight login
# ```
#
# or for this session only, in a field that shows nothing and keeps nothing in the notebook:
#
# ```python
# import getpass, os
# os.environ["NDIF_API_KEY"] = getpass.getpass("NDIF key: ")
# ```
#
# The package sends it in one header, with a request and with the question whose key it is, over `https` or to your own
# computer. It follows no redirect, and what asks for a job's state or fetches its result goes without it.
#
# There are two kinds. The code of an *ordinary* key, which is what you get, runs in a sandbox: a process that is shown
# copies of the activations. That of a *trusted* key runs beside the weights. The last section says what differs; the
# server says which one yours is.

# %%
has_key = bool(os.environ.get("NDIF_API_KEY") or nnsight.CONFIG.API.APIKEY)  # whether, never what
print("a key is set" if has_key else "no key is set" + ("" if SERVER else ", and REMOTE='local' needs none"))
if SERVER:
    print("its kind:", lm.runner.server().key_kind() or "the server does not say")

# %% [markdown]
# Which models run at the moment? `ndif_models` asks, and needs no key for it. HOT models answer at once, WARM ones wait
# in memory for a place on a GPU, COLD ones have to be loaded first; others are deployed when they are asked for, if
# they fit, which takes minutes. A server chooses the precision: bfloat16, as a rule.

# %%
if SERVER:
    display(ndif_models(lm.runner))
else:
    print("REMOTE='local' asks nobody: set REMOTE = True, and NDIF's models stand here")

# %% [markdown]
# ## 2 · Look before you send
#
# **Predict.** A sweep of every layer by 21 strengths: how many requests is that? How many bytes come back, if each
# answer is a distribution over the vocabulary?
#
# `lm.dry_run` makes the call with everything but the sending; the model's answers are made up. It takes a function of
# the model, so that it can hand it a model that sends nothing. All checks are the real ones, so a mistake is found
# before you have waited in a queue for it:

# %%
try:
    lm.dry_run(lambda lm: sl.actadd(lm, " weddings", " ", layer=lm.n_layers))
except ValueError as error:
    print(error)

# %% [markdown]
# Now the sweep, in two ways. *One job*: the loop over settings runs beside the model. *A request for each setting*: the
# loop runs here, which is what you write first.


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
        f"One job asks {saved:,.0f} times less often and gets {back:,.0f} times fewer bytes back. On a busy server "
        "each request waits in the queue, so the first number is the one you feel."
    )
)

# %% [markdown]
# From here on we keep an account: each study is run dry, which says its requests and bytes, and then for real, which
# says its seconds.

# %%
account = []


def costed(study: str, call: Callable[[sl.SteerableModel], Any]) -> Any:
    """The result of a call; what it costs goes into the account."""
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
# The same calls as in notebook 02. Nothing about them is remote but the word in `load`.


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
# Each setting is a row of a batch, and the loop over batches runs on the server. What comes back are a few numbers for
# each setting, not its logits.
#
# > **Predict first.** The vector is added at the first positions of the prompt, at the entrance of a block. At which
# > layers will the next token notice: early or late? And why?


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
# `lm.together` is new. Its calls do not wait for each other, so their requests become one: the vectors of all layers
# cost a single request.

# %%
largest = frame.loc[frame["kl"].idxmax()]
print(f"most is moved at layer {largest['layer']:.0f}, strength {largest['strength']:.0f}: {largest['kl']:.2f} nats")

# %% [markdown]
# What stands at the first positions reaches the last one by attention only. An edit below the layers that look there
# is read; one above them is not, however strong.
#
# ## 5 · SARA
#
# $\gamma$ is found where the activations are, and only $\gamma$ comes back (notebook 04).


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
# Two texts of each say nothing about the method; notebook 04 counts. Its study is the same call with a remote model:
# every dilemma, every layer, both directions, and three controls. Look before you send:

# %%
judge = judges.word_judge()  # of the bundled model's language, but a dry run has no texts to judge
dry = lm.dry_run(lambda lm: dilemma_study(lm, held_out_dilemmas(), judge=judge, repeats=1, progress=False))
rows = len(held_out_dilemmas()) * lm.n_layers * (1 + 2 * len(METHODS))
print(f"{rows:,} answers in {len(dry)} requests; functions run beside the model in each: {list(dry['calls'])}")
dry[["request", "payload_bytes", "result_bytes", "problem"]]

# %% [markdown]
# The first request asks for all that the vectors are made of, the second for all answers.
#
# ## 6 · Learning without gradients
#
# The sandbox, in which an ordinary key's code runs, shows it copies of the activations. A gradient does not pass
# through a copy, so `fit` says so and goes by SPSA there, unless you ask for `gradient="exact"`, which is refused. SPSA
# (Spall 1992) needs no gradient: nudge *all* numbers at random by $\pm c\,\delta$, run both, and the difference of
# the two losses is the slope along $\delta$:
#
# $$ g \;=\; \frac{L(\theta + c\,\delta) - L(\theta - c\,\delta)}{2c}\;\delta $$
#
# One random direction says little, the mean over many says what the gradient says. Every pair is two rows of the same
# batch, and the loop over steps runs on the server: one request for the whole fit.

# %%
task = sl.tasks.ioi(lm, n=100 if QUICK else 200, seed=SEED, orders=["ABBA"])
method = sl.ActivScalar()
objective = sl.Objective(margin=5, faithfulness=0.1, minimality=0.01)
options = {"batch_size": 4, "lr": 0.03, "patience": 15, "seed": SEED, "progress": False}
steps = {"exact": 120, "spsa": 120} if QUICK else {"exact": 200, "spsa": 600}


def learn(lm: sl.SteerableModel, gradient: str) -> sl.Fit:
    """Scalars in all layers, for the task of notebook 05."""
    return sl.fit(lm, task.train, method, objective, steps=steps[gradient], gradient=gradient, **options)


fits, told = {}, {}
for gradient in steps:
    try:
        fits[gradient] = costed(f"fit, {gradient}", lambda lm, gradient=gradient: learn(lm, gradient))
    except sl.RemoteError as error:  # a sandbox, which says so in one line
        print(f"{gradient}: {error}")
        continue
    judged = sl.evaluate(lm, task.test, fits[gradient].intervention, margin=5).set_index("metric")["value"]
    told[gradient] = {"rows run": fits[gradient].history["forwards"].iloc[-1], **judged}
learned = pd.DataFrame(told).T
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
for gradient, found in fits.items():
    ax.plot(found.history["forwards"], found.history["effectiveness"].rolling(10, min_periods=1).mean(), label=gradient)
ax.set(xlabel="rows run through the model", ylabel="nats short on the batch (0 is done)", xscale="log")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The horizontal axis is what a fit costs: rows run. The exact gradient also needs a backward pass for each, which a
# sandbox cannot give at any price.
#
# ## 7 · What did it cost?
#
# Sent is the compressed request; back comes at most this much, before compression. The seconds are those of the run,
# with the queue where there is one.

# %%
costs = pd.DataFrame(account).rename(columns={"payload_bytes": "bytes sent", "result_bytes": "bytes back, at most"})
costs.round({"seconds": 1})

# %% [markdown]
# Most of what is sent is the source of the functions and the vectors; the model's size does not enter but through the
# width of its stream.
#
# ## 8 · A job that outlives the notebook
#
# No connection is held while a job runs. Its id is noted as soon as there is one (the key is not), so a wait can be
# stopped, by the square button, a closed laptop or a new kernel, and the same call collects the result. `lm.jobs()`
# lists what is on its way: its state, its place in the queue, its age, and what it cost once it has ended.
#
# Two limits. A server keeps a result for **one hour** after it is there; a call that comes later says that it has
# expired, and begins it anew. And NDIF has no way for users to cancel a job.
#
# `submit` sends and does not wait. It keeps the ids in a file of your own, by which any kernel can `collect`. Whoever
# can read the file can fetch the result, so it is readable by you alone.

# %%
folder = Path(tempfile.mkdtemp())


def study(lm: sl.SteerableModel) -> pd.DataFrame:
    """What is to be computed; the same function begins it and collects it."""
    return sweep.next_tokens(lm, settings[::7], progress=False)


if SERVER:
    print("job", lm.submit(study, folder / "study.jobs"))
    display(lm.jobs(folder / "study.jobs"))
else:
    print("in this process there is nothing to wait for: with a server, submit stands here")
collected = lm.collect(study, folder / "study.jobs")
len(collected)

# %% [markdown]
# A sweep or a study with `file=` keeps its job ids by itself: stop the kernel, start it again, run the cell again.
#
# > **A press is a request.** A panel on a remote model runs on its button only; the bars and the texts of a press share
# > one request. Here the vector of each layer is at hand (section 4): choose one as the *method*. With *ActAdd* a new
# > pair or layer takes a second request, since its vector has to come first.

# %%
from steerlab.widgets import playground

named = {f"weddings, layer {layer}": vector for layer, vector in enumerate(vectors)}
asked = {"prompt": PROMPT, "n": 1, "max_new_tokens": 25, "seed": SEED}
panel = playground(lm, interventions=named, method="weddings, layer 2", strength=4.0, **asked)
panel.press()
panel

# %% [markdown]
# ## Exercise
#
# **8.1 · Two requests.** ●●○ about 10 minutes. The function below asks for a vector at each layer, and then for a text
# under each: two requests for every layer. Write it so that the whole takes two requests, with the same result. The
# checker runs it dry, and counts.

# %%


def every_layer(lm: sl.SteerableModel) -> list[str]:
    """What is written under the vector of each layer."""
    written = []
    for layer in range(lm.n_layers):
        vector = sl.actadd(lm, " weddings", " ", layer=layer)
        written.append(lm.generate(PROMPT, 4 * vector, max_new_tokens=10, seed=SEED)["completion"][0])
    return written  # your code here


exercises.check_requests(every_layer, lm, most=2)

# %% [markdown]
# <details><summary>Hint</summary>What does not wait for each other goes into <code>lm.together</code>, which takes a
# list of functions of the model. A function may make several calls, one after the other.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def every_layer(lm):
#     def one(lm, layer):
#         vector = sl.actadd(lm, " weddings", " ", layer=layer)
#         return lm.generate(PROMPT, 4 * vector, max_new_tokens=10, seed=SEED)["completion"][0]
#
#     return lm.together([lambda lm, layer=layer: one(lm, layer) for layer in range(lm.n_layers)])
# ```
#
# The first calls of all functions share a request, and so do the second ones.
#
# </details>
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
# The two last columns are tested with NDIF's own code, version 0.1.2: every kind of call gives there what it gives
# here, with either key, but for what the table says.
#
# **A lab's own server.** NDIF is a package (`ndif`, for Python 3.12): a lab can serve its models to its members on a
# machine of its own. Then `sl.load(name, remote="https://server.of.the.lab")`. For 0.1.2 the server's environment needs
# `nnsight==0.8.0` and a `transformers` below 5.23, with which it was seen to work; here newer ones will do.
# `python -m steerlab.check https://server.of.the.lab` says what runs there, what your key may do, and which versions
# differ. What comes back is read as tensors and plain values, never as code, and no more than was asked for. But the
# server sees your prompts and your key, so name one that you trust. Plain `http` is refused but to your own computer.
#
# ## 10 · What could be wrong?
#
# - **Another precision.** A server usually runs bfloat16, your check ran float32. A percent of difference is rounding.
# - **Other versions.** Another transformers may build another tree of modules. `load` warns of it, and
#   `python -m steerlab.check` shows which packages differ.
# - **A model under the same name.** The name and revision say what is served. Only the server knows what it loaded.
# - **SPSA is noisy.** Its result depends on the seed more than that of the exact gradient: fit with several.
#
# **Open questions:** How many directions does SPSA need as the number of scalars
# grows? Which layers of a 70B model listen to the first words of a prompt?
