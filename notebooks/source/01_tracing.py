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
# # 01 · How do I read and edit an activation with nnsight?
#
# Steering is: read a vector inside the model, change it, let the model go on. PyTorch can do that with hooks. nnsight
# does it in a way that reads like ordinary code, and that also runs on models on somebody else's computer. Here you
# do it with both, and see that the package does the same.
#
# **Paper.** Fiotto-Kaufman et al., *NNsight and NDIF: Democratizing Access to Open-Weight Foundation Model
# Internals*, [arXiv 2407.14561](https://arxiv.org/abs/2407.14561).
#
# **After this notebook you can**
# 1. name the four places in a block where the course reads and edits;
# 2. read an activation with nnsight, and with `lm.activations`;
# 3. edit one with a hook, with nnsight and with `steer=`, and show that the three agree;
# 4. say which tokens an edit reaches when prompts are padded, and which passes when text is generated;
# 5. write steered generation in plain nnsight, for one pass or for all;
# 6. recognise the five usual mistakes with traces by their symptoms.
#
# **You need** notebook 00, and PyTorch modules.

# %% tags=["parameters"]
MODEL = None  # None is the bundled model; or a Hugging Face name such as "openai-community/gpt2"
PROFILE = "quick"  # nothing here takes long: "paper" does the same
SEED = 0
REMOTE = False  # this notebook runs locally

# %%
import matplotlib.pyplot as plt
import nnsight
import pandas as pd
import torch
from nnsight import TransformersModel

import steerlab as sl
from steerlab import exercises

if REMOTE:
    raise SystemExit("this notebook runs locally: set REMOTE = False")
lm = sl.load(MODEL, dtype=torch.float32)  # not half precision, since we compare to the last digits
LAYER = lm.n_layers // 2
PROMPT = "I went up to my friend and said"
torch.manual_seed(SEED)
lm

# %% [markdown]
# ## 1 · The residual stream and its four places
#
# Each token has a vector that travels up through the blocks: the *residual stream*. A block reads it, and adds twice
# to it: what its attention found at other tokens, and what its MLP made of it.
#
# ```text
#    resid_pre ──┬───────────────► (+) ──┬─────────────► (+) ──► resid_post   =  resid_pre of the next block
#                └─► attention ─► attn_out  └─► MLP ─► mlp_out
# ```
#
# $$ \text{resid\_post} = \text{resid\_pre} + \text{attn\_out} + \text{mlp\_out} $$
#
# These four places, times the blocks (counted from 0), are the *sites* of the course. `lm.activations` reads any of
# them, and returns vectors of length `d_model`, 288 for the bundled model:

# %%
sites = [sl.Site(place, LAYER) for place in sl.PLACES]
activations = lm.activations(PROMPT, sites)
pre, attn, mlp, post = (activations[site] for site in sites)

torch.testing.assert_close(pre + attn + mlp, post)
print("places:", ", ".join(sl.PLACES))
print("shape: ", list(post.shape), "= batch, tokens, d_model")
print("tokens:", lm.tokens(PROMPT))

# %% [markdown]
# The token `<|endoftext|>` in front is BOS, which begins every text. Blocks can only add: to remove something, a block
# must add its negative.
#
# > **Predict first.** Does the norm of the stream grow on its way up, or stay the same? Is the very first token, which
# > has only itself to look at, like the others?

# %%
everywhere = lm.activations(PROMPT, [sl.Site(place, layer) for place in sl.PLACES for layer in range(lm.n_layers)])
norms = pd.DataFrame(
    [
        {
            "place": site.place,
            "layer": site.layer,
            "first token": float(rows[0]),
            "later tokens": float(rows[1:].mean()),
        }
        for site in everywhere
        for rows in [everywhere.row(0, site).norm(dim=-1)]
    ]
)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", facecolor="white", sharey=True)
for ax, tokens in ((axes[0], "later tokens"), (axes[1], "first token")):
    for place, style in (("resid_post", "-o"), ("attn_out", "--s"), ("mlp_out", ":D")):
        rows = norms[norms.place == place]
        ax.plot(rows.layer, rows[tokens], style, label=place)
    ax.set(title=tokens, xlabel="layer", ylabel="Euclidean norm")
axes[0].set_ylim(0, None)
axes[0].legend(frameon=False)
plt.show()
top = norms[norms.place == "resid_post"].set_index("layer")[["first token", "later tokens"]]
top.iloc[[0, -1]].round(0)

# %% [markdown]
# **You should see** the stream grow with every block, more than sevenfold from the first block's output to the last
# one's at later tokens. And no, the first token is not like the others. It sees only itself, it is the same in every
# text, and many models use it as an *attention sink*, a place for attention that has nothing to look for: at the top
# its stream is three times as long.
#
# ## 2 · Reading with nnsight
#
# nnsight wraps a PyTorch model. The wrapper has the same tree of modules, and each module has an `.input` and an
# `.output` that you can use *while a forward pass is running*. `lm.hf` is the transformers model underneath.

# %%
traced = TransformersModel(lm.hf, tokenizer=lm.tokenizer)
blocks = traced.get(lm.layout.blocks)  # in this model's family: traced.model.layers

print("blocks:", lm.layout.blocks, "· attention:", lm.layout.attn, "· MLP:", lm.layout.mlp)
blocks[LAYER]

# %% [markdown]
# A *trace* is a `with` block. Its body does not run where it stands. nnsight starts the forward pass, and runs the
# body along with it: at each `.output`, the body waits until the model gets there.

# %%
ids = lm.batch(PROMPT).ids

with traced.trace(ids):
    entering = nnsight.save(blocks[LAYER].input)
    leaving = nnsight.save(blocks[LAYER].output)

print(list(entering.shape), list(leaving.shape))

# %% [markdown]
# Three rules are enough to begin with:
#
# 1. **In order.** Ask for things in the order in which the model computes them.
# 2. **Save what you keep.** Only what went through `nnsight.save(...)` is there after the block.
# 3. **A line of its own.** The body begins on a new line, and the block is in a file or a cell: not under `%%time`.
#
# The package's call, and the assertion that both agree:

# %%
torch.testing.assert_close(entering, pre)
torch.testing.assert_close(leaving, post)
print("nnsight and lm.activations agree")

# %% [markdown]
# What does `lm.activations` add? It knows what each model family calls its parts, puts BOS in front, pads, keeps the
# order, and stops the pass once it has what was asked for.

# %% [markdown]
# ## 3 · A first use: the logit lens
#
# The last block's stream goes through a final norm and the unembedding, and out come logits, a score for each token.
# Nothing stops us from doing the same with an earlier block's stream: what would the model say if it ended here? This
# is the *logit lens* (nostalgebraist, 2020).
#
# > **Predict first.** From which layer on will the lens show the token that the model really predicts?

# %%
stack = lm.hf.get_submodule(lm.layout.blocks.rpartition(".")[0])  # the module that holds the blocks
norm_names = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
final_norm = next(getattr(stack, name) for name in norm_names if hasattr(stack, name))
unembed = lm.hf.get_output_embeddings()
cap = getattr(lm.hf.config, "final_logit_softcapping", None)  # Gemma-2 squashes its logits


def predict(stream: torch.Tensor) -> torch.Tensor:
    """Next-token probabilities [pos, vocab] of a stream [pos, d_model], as if the model ended there."""
    logits = unembed(final_norm(stream))
    return (cap * (logits / cap).tanh() if cap else logits).softmax(-1)


FACT = "The capital of France is"
streams = lm.activations(FACT, [sl.Site("resid_post", layer) for layer in range(lm.n_layers)])
lens = torch.stack([predict(streams.row(0, site)) for site in streams])  # [layer, pos, vocab]

torch.testing.assert_close(lens[-1, -1], lm.logits(FACT)[0].softmax(-1))
print("at the last layer the lens is the model")


# %%
def labels(prompt: str) -> list[str]:
    """The tokens of a prompt, for the axis of a figure."""
    return ["BOS" if token == lm.tokenizer.bos_token else token.strip()[:10] for token in lm.tokens(prompt)]


probability, best = lens.cpu().max(-1)
figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained", facecolor="white")
image = ax.imshow(probability, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=1)
for layer in range(lm.n_layers):
    for position in range(best.shape[1]):
        colour = "white" if probability[layer, position] > 0.55 else "black"
        text = lm.tokenizer.decode([best[layer, position]]).strip().replace("$", r"\$")[:10]
        ax.text(position, layer, text, ha="center", va="center", fontsize=8, color=colour)
ax.set_xticks(range(best.shape[1]), labels(FACT))
ax.set(xlabel="token that has been read", ylabel="layer", title="Most probable next token at each layer")
figure.colorbar(image, ax=ax, label="its probability")
plt.show()
final = best[-1, -1]
since = next(layer for layer in range(lm.n_layers) if (best[layer:, -1] == final).all())
print(f"the model says {lm.tokenizer.decode([final])!r}; the lens shows it from layer {since} on")

# %% [markdown]
# **You should see** the answer appear in the last column, faintly at layer 3 and surely from layer 4 on. Below that the
# lens shows *not*, or part of a word.

# %% [markdown]
# ## 4 · Editing, three times
#
# Now we change the stream that enters block `LAYER`: add a vector to each of the first three tokens. Notebook 02
# chooses a meaningful one; here random ones will do, about as long as the stream. Three ways, one result.
#
# **With a hook,** from scratch. PyTorch calls it before the block runs, and takes what it returns as the new input.

# %%
vector = torch.randn(3, lm.d_model).to(pre) * pre.norm(dim=-1).mean() / lm.d_model**0.5


def add_vector(module, args):
    """Add to the first positions of the block's input."""
    h = args[0].clone()
    h[:, : len(vector)] += vector
    return (h, *args[1:])


handle = lm.hf.get_submodule(lm.layout.blocks)[LAYER].register_forward_pre_hook(add_vector)
with torch.no_grad():
    by_hook = lm.hf(ids).logits[:, -1]
handle.remove()

# %% [markdown]
# **With nnsight.** Read the input, make a new tensor, assign it back.

# %%
with torch.no_grad(), traced.trace(ids):
    h = blocks[LAYER].input
    blocks[LAYER].input = torch.cat([h[:, :3] + vector, h[:, 3:]], dim=1)
    by_trace = nnsight.save(traced.output.logits[:, -1])

# %% [markdown]
# **With the package.** An `Edit` holds the tensors, a `Site` says where they belong, an `Intervention` holds both and
# is given to the call. `sl.add(vector, layer=LAYER, place="resid_pre", anchor="front")` makes the same in one line.

# %%
site = sl.Site("resid_pre", LAYER)
push = sl.Intervention({site: sl.Edit(shift=vector, anchor="front")})
by_package = lm.logits(PROMPT, push)

torch.testing.assert_close(by_trace, by_hook)
torch.testing.assert_close(by_package, by_hook)
assert not torch.equal(by_package, lm.logits(PROMPT))
print("hook, nnsight and package agree, and differ from the untouched model")

# %% [markdown]
# | | hook | nnsight | `steer=` |
# |---|---|---|---|
# | if you forget to undo it | the model stays changed | cannot happen | cannot happen |
# | runs on a remote model | no | yes | yes |
# | knows the family's names for places | no | no | yes |
# | right with padding, and while generating | if you see to it | if you see to it | yes |
# | one edit per row of a batch | if you see to it | if you see to it | yes |
#
# **Scaling** is the other kind of edit in the equation of notebook 00. A *gain* $\gamma$ turns $h$ into $h + \gamma
# \odot h$. So a gain of $-1$ removes what it is applied to. Take away all that one block's attention adds:

# %%
silent = sl.scale(-1, layer=LAYER, place="attn_out")
removed = lm.activations(PROMPT, [sl.Site("attn_out", LAYER)], silent)

assert not removed[sl.Site("attn_out", LAYER)].any()
print("the attention of block", LAYER, "adds nothing any more")

# %% [markdown]
# ## 5 · Where an edit is felt
#
# The edit touched three tokens at one layer. The picture shows how far the stream has moved from where it would have
# been, relative to the mean length at that layer, for every layer and token.
#
# > **Predict first.** Which cells are zero? Think of layers *below* the edit, and of tokens *before* it. Here the
# > edit begins at token 3, so that there is a before.

# %%
START = 3
later = sl.add(vector, layer=LAYER, place="resid_pre", anchor="front", start=START)
out = [sl.Site("resid_post", layer) for layer in range(lm.n_layers)]
plain, edited = lm.activations(PROMPT, out), lm.activations(PROMPT, out, later)
moved = torch.stack([(edited[s] - plain[s])[0].norm(dim=-1) / plain[s][0].norm(dim=-1).mean() for s in out]).cpu()

TINY = 1e-4  # below it, the difference is rounding
assert moved[:LAYER].max() < TINY and moved[:, :START].max() < TINY  # nothing below, nothing before

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained", facecolor="white")
image = ax.imshow(moved.where(moved > TINY, torch.nan), origin="lower", aspect="auto", cmap="viridis", vmin=0)
ax.set_xticks(range(moved.shape[1]), labels(PROMPT))
ax.set(xlabel="token", ylabel="layer", title="How far the stream has moved (white: not at all)")
figure.colorbar(image, ax=ax, label="distance / mean length")
plt.show()

# %% [markdown]
# **You should see** a white block below the edit and a white block before it. An edit spreads upwards, and to the
# right. Upwards through the stream itself; to the right through attention, which looks back. Never to the left: that is
# what makes a decoder causal.
#
# **By hand.** The panel reads and edits where you press: layer by token. Above is the logit lens of section 3, beneath
# how far an edit of that one token moves the stream. Choose *remove what is there* for *France*. At which layers does
# that cost the model its answer, and from which layer on does it come too late?

# %%
viewer = sl.widgets.trace_viewer(lm, prompt=FACT)
viewer

# %% [markdown]
# **You should see** *Paris* fall below 30 % where *France* is removed at layers 0 to 2, and stay above 90 % from layer
# 3 on. By then the last token has read *France*.
#
# ## 6 · Padding moves positions
#
# Prompts in one batch have one width, so shorter ones are filled up. Decoders are padded on the **left**, so that the
# last column is each prompt's last token. Then the first token of a short prompt is *not* in column 0.

# %%
PAIR = [PROMPT, "She said"]
batch = lm.batch(PAIR)
padding = ["·"] * int(batch.pad[1])
pd.DataFrame([lm.tokens(PAIR[0]), padding + lm.tokens(PAIR[1])], index=["row 0", "row 1"])

# %% [markdown]
# Our hook from section 4 adds to columns 0, 1 and 2. In row 1 these hold padding, which nothing looks at.
#
# > **Predict first.** What does the hook do to the prediction for row 1?

# %%
positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "position_ids": positions}

with torch.no_grad():
    unhooked = lm.hf(**inputs).logits[:, -1]
    handle = lm.hf.get_submodule(lm.layout.blocks)[LAYER].register_forward_pre_hook(add_vector)
    hooked = lm.hf(**inputs).logits[:, -1]
    handle.remove()

print("largest change of a logit, by the hook:   ", [f"{float(row):.3f}" for row in (hooked - unhooked).abs().amax(1)])

steered = lm.logits(PAIR, push)
print("largest change of a logit, by the package:", [f"{float(row):.3f}" for row in (steered - unhooked).abs().amax(1)])

# %% [markdown]
# **You should see** a number well above zero for row 0 and 0.000 for row 1 by the hook, and two numbers above zero by
# the package. The hook silently did nothing in row 1. For the package, `anchor="front"` counts from each row's first
# *real* token. So a row of a padded batch gets the same as the prompt alone:

# %%
for row, prompt in enumerate(PAIR):
    torch.testing.assert_close(steered[row : row + 1], lm.logits(prompt, push), rtol=1e-3, atol=1e-3)
print("each row of the batch equals its prompt alone")

# %% [markdown]
# `position_ids` matter too: without them, a padded prompt would be read as if it began later. The package passes
# them.
#
# ## 7 · One pass for the prompt, then one for each token
#
# Generating is many forward passes. The first reads the whole prompt, and its last position yields the first new
# token. Each later pass reads only the newest token; what came before is in the key-value cache. A counter hook sees
# it:

# %%
widths = []
counter = lm.hf.get_submodule(lm.layout.blocks)[LAYER].register_forward_pre_hook(
    lambda module, args: widths.append(args[0].shape[1])
)
new = lm.generate(PROMPT, max_new_tokens=6, min_new_tokens=6, seed=SEED)
counter.remove()

print("tokens in the prompt:", len(lm.tokens(PROMPT)), "· tokens generated:", new.n_tokens[0])
print("tokens in each pass: ", widths)

# %% [markdown]
# An edit therefore has to say in which passes it holds. That is `when`:
#
# - `"prompt"`: in the first pass only. It is the default, and all that an edit tied to positions can do. Later tokens
#   feel it through the cache.
# - `"decode"`: in all later passes.
# - `"all"`: in both.
#
# We make an edit so large that a hook on the next block cannot miss it, and count.


# %%
def passes_edited(when: str, new_tokens: int = 6) -> str:
    """A mark for each pass of a generation: # where the edit was there, . where it was not."""
    huge = sl.add(torch.full((lm.d_model,), 1e4), layer=LAYER - 1, place="resid_pre", when=when)
    seen = []

    def look(module, args):
        seen.append(bool(args[0][:, -1].abs().mean() > 1e3))

    hook = lm.hf.get_submodule(lm.layout.blocks)[LAYER].register_forward_pre_hook(look)
    lm.generate(PROMPT, huge, max_new_tokens=new_tokens, min_new_tokens=new_tokens, temperature=0)
    hook.remove()
    return "".join("#" if edited else "." for edited in seen)


marks = {when: passes_edited(when) for when in ("prompt", "decode", "all")}
assert marks == {"prompt": "#.....", "decode": ".#####", "all": "######"}
marks

# %% [markdown]
# ### Steered generation in plain nnsight
#
# The same choice is made by the form of the body. A bare body runs in the first pass: that is `when="prompt"`. We edit
# what *leaves* the block below, which is what enters `LAYER`.

# %%
NEW = 12
ids = lm.batch(PROMPT).ids
below = blocks[LAYER - 1]

with torch.no_grad(), traced.generate(ids, max_new_tokens=NEW, do_sample=False) as tracer:
    h = below.output
    below.output = torch.cat([h[:, :3] + vector, h[:, 3:]], dim=1)
    first_pass = nnsight.save(tracer.result)

theirs = lm.generate(PROMPT, push, max_new_tokens=NEW, temperature=0).completion[0]
ours = lm.tokenizer.decode(first_pass[0, ids.shape[1] :])
assert ours == theirs
print("first pass:", ours)

# %% [markdown]
# A loop over `tracer.iter[:]` runs in every pass: `when="all"`. Two traps. The loop has no end of its own, so what
# stands *after* it in the same block is never reached: the result is saved in a second, empty `invoke`. And later
# passes see one token each, so the vector must be one row, not three.

# %%
import warnings

warnings.filterwarnings("ignore", message=r".*was never reached: the loop asked for a step")  # an open loop says this
each_token = vector[0]

with torch.no_grad(), traced.generate(max_new_tokens=NEW, do_sample=False) as tracer:
    with tracer.invoke(ids):
        for _ in tracer.iter[:]:
            below.output = below.output + each_token
    with tracer.invoke():
        every_pass = nnsight.save(tracer.result)

steady = sl.add(each_token, layer=LAYER, place="resid_pre", when="all")
theirs = lm.generate(PROMPT, steady, max_new_tokens=NEW, temperature=0).completion[0]
ours = lm.tokenizer.decode(every_pass[0, ids.shape[1] :])
assert ours == theirs
print("every pass:", ours)

# %% [markdown]
# For `when="decode"` the loop is over `tracer.iter[1:]`. With several prompts the rows are padded on the left, and the
# positions shift as in section 6: exercise 8.2 of the next notebook builds that.

# %% [markdown]
# ## 8 · Five mistakes, and how they look
#
# Each of these has cost somebody an afternoon. We make them on purpose.


# %%
def show(mistake):
    """Run a mistake, and print what one sees."""
    try:
        print(f"{mistake.__doc__:<34}", mistake())
    except Exception as error:
        print(f"{mistake.__doc__:<34} {type(error).__name__}: {str(error).splitlines()[0][:100]}")


def not_saved():
    """1. Not saved"""
    with traced.trace(ids):
        stream = blocks[LAYER].output
    return stream


def saved_too_early():
    """2. Saved, then changed: stale"""
    stream = "an old value"
    with traced.trace(ids):
        stream = nnsight.save(blocks[LAYER].output)
        stream = stream * 0
    return stream


def changed_in_place():
    """3. Saved, then edited in place"""
    with torch.no_grad(), traced.trace(ids):
        stream = nnsight.save(blocks[LAYER].output)
        blocks[LAYER].output[:] = 0
    return f"the norm of what was saved is {stream.norm():.0f}"


def wrong_order():
    """4. Asked for in the wrong order"""
    with traced.trace(ids):
        high = nnsight.save(blocks[1].output)
        low = nnsight.save(blocks[0].output)
    return high, low


def outside():
    """5. Used outside of a trace"""
    return blocks[LAYER].output


for mistake in (not_saved, saved_too_early, changed_in_place, wrong_order, outside):
    show(mistake)

# %% [markdown]
# The second and the third are the dangerous ones, because nothing complains.
#
# - Mistake 2: `save` marks *that* tensor. The name was then given to another one, which is not saved; so the name
#   keeps the value from before the block.
# - Mistake 3: what was saved is the tensor itself, not a copy. Replace values (`blocks[i].output = new`), and never
#   write into them (`blocks[i].output[:] = ...`). The package always replaces.
# - A sixth, which cannot be shown here: a trace in a cell that begins with `%%time` is not found. Put it in a
#   function in a file, or leave out the magic. Calls of the package are immune, since their traces live in its own
#   files.

# %% [markdown]
# ## 9 · Exercises
#
# **9.1 · Read what an MLP adds.** ●○○ about 5 minutes. Fill in the trace. The MLP of a block is at `lm.layout.mlp`
# inside the block: `blocks[layer].get(lm.layout.mlp)`.


# %%
def read_mlp(prompt: str, layer: int) -> torch.Tensor | None:
    """What the MLP of a block adds to the stream of one prompt, [pos, d_model]."""
    return None  # your code here: begin with ids = lm.batch(prompt).ids


exercises.check_read(read_mlp, lm)

# %% [markdown]
# <details><summary>Hint</summary>The activation has a batch dimension, [1, pos, d_model]. Take row 0 after the
# block.</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def read_mlp(prompt, layer):
#     ids = lm.batch(prompt).ids
#     with traced.trace(ids):
#         added = nnsight.save(blocks[layer].get(lm.layout.mlp).output)
#     return added[0]
# ```
#
# </details>
#
# **9.2 · Silence an attention, by hook.** ●●○ about 10 minutes. *Important.* Section 4 did it with a gain of $-1$.
# Write the forward hook that does the same. It gets the module, its arguments and its output, and returns a new output.
# Look at what an attention module returns before you write: `type(output)`.


# %%
def silence(module, args, output):
    """A forward hook for an attention module, after which it adds nothing to the stream."""
    return output  # your code here


exercises.check_silence(silence, lm)

# %% [markdown]
# <details><summary>Hint</summary>In most families the output is a tuple, of which the first entry is what goes into the
# stream. Return a tuple of the same length. (In families with a norm behind the attention it is a tensor.)</details>
#
# <details><summary>Solution</summary>
#
# ```python
# def silence(module, args, output):
#     if isinstance(output, tuple):
#         return (torch.zeros_like(output[0]), *output[1:])
#     return torch.zeros_like(output)
# ```
#
# </details>
#
# **9.3 · Count the passes.** ●○○ about 3 minutes. Somebody generates 40 tokens. In how many forward passes does an
# edit hold, for each `when`? Work it out before you count.

# %%
passes = {"prompt": None, "decode": None, "all": None}  # your numbers here

exercises.check_passes(passes, new_tokens=40)

# %% [markdown]
# <details><summary>Hint</summary>Section 7 generated 6 tokens. How many passes were there?</details>
#
# <details><summary>Solution</summary>
#
# ```python
# passes = {"prompt": 1, "decode": 39, "all": 40}
# ```
#
# </details>
#
# ## 10 · What could be wrong?
#
# - **Agreement is not meaning.** Three ways gave the same logits. That says the edit is what we think it is. It does
#   not say that the vector means what we hope: here it was random, and it moved the stream all the same.
# - **The lens is a guess.** Early blocks do not write for the final norm and unembedding. What the lens shows there
#   need not be what the model "thinks".
# - **Large edits push the stream where the model has never been.** There it can do anything.
#   Compare the norm of what you add with the norm of the stream, as in section 1.
# - **Equal up to rounding.** A padded batch adds numbers in another order than a single prompt. On a GPU in half
#   precision the differences are larger than here.
#
# **Open questions:** Why is the first token so different? Would the lens be better with a norm and unembedding fitted
# to each layer? Which blocks could be silenced without anybody noticing?
