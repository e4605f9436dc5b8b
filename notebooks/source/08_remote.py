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
# 5. leave a job running, and fetch its result tomorrow.
#
# **You need** notebooks 02, 04 and 05. **Time:** about three minutes to run; on NDIF, plus the queue.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; on NDIF a name such as "meta-llama/Llama-3.1-70B"
PROFILE = "quick"  # "paper": more samples and steps
SEED = 0
REMOTE = "local"  # the whole way of a request, in this process; True is NDIF, "https://..." a lab's own server

# %%
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown, display

import steerlab as sl
from steerlab import plots, sweep
from steerlab.model import ndif_models

QUICK = PROFILE == "quick"
SERVER = REMOTE != "local"
lm = sl.load(MODEL, remote=REMOTE)
LAYER = lm.n_layers // 2
PROMPT = "I went up to my friend and said"
lm

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
# The package sends it in one header of a request, over `https` or to your own computer, and nowhere else.

# %%
has_key = bool(os.environ.get("NDIF_API_KEY"))
print("a key is set in this session" if has_key else "no key is set in this session: not needed for REMOTE='local'")

# %% [markdown]
# Which models run at the moment? This needs no key. A list that is not there means that the server cannot be reached.

# %%
running = ndif_models()
print("NDIF cannot be reached from here" if running is None else "\n".join(running))

# %% [markdown]
# ## 2 · Look before you send
#
# **Predict.** A sweep of every layer by 21 strengths: how many requests is that? How many bytes come back, if each
# answer is a distribution over the vocabulary?
#
# `lm.dry_run` makes the call with everything but the sending. All checks are the real ones, so a wrong layer is found
# here. The model's answers are zeros.


# %%
def grid(lm: sl.SteerableModel) -> list[sweep.Setting]:
    """A vector at every layer and strength; the vectors are random, since only their shape counts here."""
    settings = []
    for point in sweep.grid(layer=range(lm.n_layers), strength=range(-10, 11)):
        edit = sl.Edit(shift=torch.randn(2, lm.d_model), anchor="front")
        steer = sl.Intervention(((sl.Site("resid_pre", point["layer"]), edit),))
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
# ## 3 · ActAdd
#
# The same call as in notebook 02. Nothing about it is remote but the word in `load`.

# %%
began = time.perf_counter()
wedding = sl.actadd(lm, " weddings", " ", layer=0)
answers = lm.generate(
    [PROMPT] * 2, [None, 4 * wedding], n=4 if QUICK else 20, max_new_tokens=25, temperature=0.8, seed=SEED
)
seconds = time.perf_counter() - began
answers["steered"] = answers["row"] == 1
print(f"two requests, {seconds:.1f} s")
answers[["steered", "sample", "completion"]]

# %% [markdown]
# ## 4 · A layer sweep in one job
#
# Each setting is a row of a batch, and the loop over batches runs on the server. What comes back are a few numbers for
# each setting, not its logits.

# %%
vectors = lm.together(
    [lambda lm, layer=layer: sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(lm.n_layers)]
)
settings = [
    sweep.Setting({"layer": layer, "strength": strength}, PROMPT, strength * vector)
    for layer, vector in enumerate(vectors)
    for strength in range(-10, 11)
]
frame = sweep.next_tokens(lm, settings, progress=False)
ax = plots.heat_map(frame, x="strength", y="layer", value="kl")
ax.set_title("KL from the unsteered next token, nats")
plt.show()

# %% [markdown]
# `lm.together` is new. Its calls do not wait for each other, so their requests become one: the vectors of all layers
# cost a single request.
#
# ## 5 · SARA
#
# $\gamma$ is found where the activations are, and only $\gamma$ comes back (notebook 04).

# %%
steer = sl.sara(
    lm,
    PROMPT,
    attract="An action is right only when it is done from duty.",
    repel="Whatever brings the most joy to the most people is right.",
    layer=LAYER,
)
lm.generate([PROMPT] * 3, [-steer, None, steer], n=2, max_new_tokens=25, seed=SEED).assign(
    steer=["repel"] * 2 + ["none"] * 2 + ["attract"] * 2
)[["steer", "completion"]]

# %% [markdown]
# ## 6 · Learning without gradients
#
# A server that runs strangers' code in a sandbox shows it copies of the activations. A gradient does not pass through a
# copy. SPSA (Spall 1992) needs none: nudge *all* numbers at random by $\pm c\,\delta$, run both, and the difference of
# the two losses is the slope along $\delta$:
#
# $$ g \;=\; \frac{L(\theta + c\,\delta) - L(\theta - c\,\delta)}{2c}\;\delta $$
#
# One random direction says little, the mean over many says what the gradient says. Every pair is two rows of the same
# batch, and the loop over steps runs on the server: one request for the whole fit.

# %%
task = sl.tasks.ioi(lm, n=60 if QUICK else 200, seed=SEED)
method = sl.ActivScalar(layers=tuple(range(lm.n_layers)))
objective = sl.Objective(margin=5, faithfulness=0.1, minimality=0.01)
steps = {"exact": 60, "spsa": 150} if QUICK else {"exact": 200, "spsa": 600}
fits, told = {}, []
for gradient, count in steps.items():
    try:
        found = sl.fit(
            lm, task.train, method, objective, steps=count, patience=count, gradient=gradient, seed=SEED, progress=False
        )
    except sl.RemoteError as error:  # a sandbox, which says so in one line
        print(f"{gradient}: {error}")
        continue
    fits[gradient] = found
    judged = sl.evaluate(lm, task.test, found.intervention, margin=5).set_index("metric")["value"]
    told.append({"gradient": gradient, "rows run": found.history["forwards"].iloc[-1], **judged})
pd.DataFrame(told)[["gradient", "rows run", "effectiveness", "difference", "flip_rate", "kl"]].round(3)

# %%
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for gradient, found in fits.items():
    ax.plot(found.history["forwards"], found.history["effectiveness"].rolling(10, min_periods=1).mean(), label=gradient)
ax.set(xlabel="rows run through the model", ylabel="effectiveness on the batch, nats (0 is done)", xscale="log")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The horizontal axis is what a fit costs: rows run. The exact gradient also needs a backward pass for each, which a
# sandbox cannot give at any price.
#
# ## 7 · A job that outlives the notebook
#
# `submit` sends and does not wait. The job's id is written to a file (the key is not), and any kernel that makes the
# same call with the same file fetches the result.

# %%
folder = Path(tempfile.mkdtemp())


def study(lm: sl.SteerableModel) -> pd.DataFrame:
    """What is to be computed; the same function begins it and collects it."""
    return sweep.next_tokens(lm, settings[::7], progress=False)


if SERVER:
    print("job", lm.submit(study, folder / "study.jobs"))
    collected = lm.collect(study, folder / "study.jobs")
else:
    collected = study(lm)
    print("in this process there is nothing to wait for: with a server, submit and collect stand here")
len(collected)

# %% [markdown]
# A sweep with `file=` keeps its job ids by itself: stop the kernel, start it again, run the cell again.
#
# ## 8 · What runs where
#
# | | laptop | one GPU | several GPUs | NDIF, trusted | NDIF, sandbox |
# |---|---|---|---|---|---|
# | load | `sl.load()` | `sl.load(name)` | `sl.load(name, device_map="auto")` | `sl.load(name, remote=True)` | same |
# | up to about | 1B | 20B | what fits together | what is served | what is served |
# | read, edit, generate | ✓ | ✓ | ✓ | ✓ | ✓ |
# | ActAdd, SARA, sweeps | ✓ | ✓ | ✓ | ✓, one job | ✓, one job |
# | `fit`, exact gradient | ✓ | ✓ | ✓ | ✓, one job | no: `gradient="spsa"` |
# | your weights, private data | ✓ | ✓ | ✓ | no: prompts travel | no: prompts travel |
#
# **A lab's own server.** NDIF is open source ([github.com/ndif-team/ndif](https://github.com/ndif-team/ndif)): a lab
# can serve its models to its members on a machine of its own. Then `sl.load(name, remote="https://server.of.the.lab")`.
# What comes back is read as tensors and plain values, never as code. But the server sees your prompts and your key, so
# name one that you trust. Plain `http` is refused but to your own computer.
#
# ## 9 · What could be wrong?
#
# - **Another precision.** A server usually runs bfloat16, your check ran float32. A percent of difference is rounding.
# - **Other versions.** Another transformers may build another tree of modules.
#   `python -c 'import nnsight; print(nnsight.compare())'` shows which packages differ.
# - **A model under the same name.** The name and revision say what is served. Only the server knows what it loaded.
# - **SPSA is noisy.** Its result depends on the seed more than that of the exact gradient: fit with several.
#
# **Next:** 09, your own model and task. **Open questions:** How many directions does SPSA need as the number of scalars
# grows? Which layers of a 70B model listen to the first words of a prompt?
