"""The logit lens, how far an edit moves the stream, and where steering acts in a text; and their figures."""

import threading

import pandas as pd
import pytest
import torch
from families import EVERY, fresh, tokenizer
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from transformers import StoppingCriteriaList

import steerlab as sl
from steerlab import lens, plots
from steerlab.intervention import When
from steerlab.widgets.writer import Watch

pytestmark = pytest.mark.usefixtures("closed_figures")

PROMPT = "I went to see the"


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load()


# --- what is computed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", EVERY)
def test_the_lens_of_the_last_layer_is_the_model(family: str) -> None:
    lm = sl.load(fresh(family), tokenizer=tokenizer())
    frame = lens.logit_lens(lm, PROMPT)
    tokens = lm.tokens(PROMPT)
    assert len(frame) == lm.n_layers * len(tokens) and frame["token"].tolist()[: len(tokens)] == tokens
    best = lm.logits(PROMPT, position="all")[0].softmax(-1).max(-1)
    last = frame[frame["layer"] == lm.n_layers - 1]
    assert last["probability"].tolist() == pytest.approx(best.values.tolist(), rel=1e-3)
    assert last["top"].tolist() == [lm.tokenizer.decode([token]) for token in best.indices.tolist()]


def test_a_norm_that_is_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = sl.load(fresh("llama"), tokenizer=tokenizer())
    monkeypatch.setattr(lens, "_top", lambda lm: lm.hf.get_output_embeddings())
    with pytest.raises(ValueError, match="its final norm is not known"):
        lens.logit_lens(lm, PROMPT)


def test_an_edit_is_felt_from_its_layer_and_token_on(lm: sl.SteerableModel) -> None:
    vector = torch.ones(lm.d_model)
    frame = lens.moved(lm, PROMPT, sl.add(vector, layer=3, anchor="front", start=2))
    felt = frame.set_index(["layer", "position"])["moved"]
    site = sl.Site("resid_post", 3)
    stream = lm.activations(PROMPT, site).row(0, site)
    assert felt[3, 2] == pytest.approx(float(vector.norm() / stream[1:].norm(dim=-1).mean()), rel=1e-4)  # without BOS
    early = frame[(frame["layer"] < 3) | (frame["position"] < 2)]
    assert early["moved"].max() < 1e-5 < frame.drop(early.index)["moved"].max()


@pytest.mark.parametrize("when", ["prompt", "decode", "all"])
def test_one_pass_replays_what_held_while_the_text_was_written(lm: sl.SteerableModel, when: When) -> None:
    """Each token of a greedy completion is the likeliest of the replay, and not of the unsteered model."""
    steer = 3 * sl.actadd(lm, " ships", layer=3, vector="mean", when=when)
    watch = Watch(12, threading.Event())  # to have the tokens themselves
    lm.generate(PROMPT, steer, temperature=0, max_new_tokens=12, stopping_criteria=StoppingCriteriaList([watch]))
    given, text = lm.ids(PROMPT), watch.batches[0][0].tolist()
    ids = torch.tensor(given + text)
    rows = lm.logits([ids, ids], [lens.replay(steer, len(given), len(text)), None], position="all").argmax(-1)
    replayed, plain = rows[:, len(given) - 1 : -1].tolist()
    assert replayed == text != plain


def test_effects_of_a_text_are_those_of_its_log_probabilities(lm: sl.SteerableModel) -> None:
    steer = 4 * sl.actadd(lm, " weddings", " ", layer=1)
    frame = lens.token_effects(lm, PROMPT, " bride in white.", steer)
    own = frame[~frame["given"]]
    for name, given in (("plain", None), ("steered", steer)):
        scores = lm.logprobs(" bride in white.", given, given=PROMPT)
        assert own["token"].tolist() == scores["token"].tolist()
        assert own[name].tolist() == pytest.approx(scores["logprob"].tolist(), abs=1e-3)
    assert (frame["shift"] - (frame["steered"] - frame["plain"])).abs().max() < 1e-5
    assert frame["kl"].min() > -1e-6 and frame["kl"].max() > 0.1 and frame["given"].sum() == len(lm.ids(PROMPT)) - 1


def test_an_edit_at_the_back_is_at_the_prompts_end(lm: sl.SteerableModel) -> None:
    steer = sl.add(20 * torch.ones(1, lm.d_model), layer=2, anchor="back")
    effects = lens.token_effects(lm, PROMPT, " bride in white.", steer)
    at = len(lm.ids(PROMPT))  # the first token of the text, which is the first that the edit can reach
    assert effects[effects["position"] < at]["kl"].abs().max() < 1e-5
    assert float(effects[effects["position"] == at]["kl"].iloc[0]) > 1e-3


def test_a_probe_is_replayed_too(lm: sl.SteerableModel) -> None:
    probe = 1e-3 * torch.randn(1, lm.d_model, generator=torch.manual_seed(0))
    steer = sl.Intervention({sl.Site("resid_post", 2): sl.Edit(probe=probe, when="all")})
    ids = torch.tensor(lm.ids(PROMPT) + lm.encode(" bride"))
    replayed = lens.replay(steer, len(ids) - 1, 1)
    torch.testing.assert_close(lm.logits(ids, replayed), lm.logits(ids, steer), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(lm.logits(ids, replayed), lm.logits(ids))


def test_what_cannot_be_replayed_is_refused(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        lens.token_effects(lm, PROMPT, "", sl.add(torch.ones(lm.d_model), layer=1))
    released = sl.sara(lm, PROMPT, attract="Be kind.", repel="Be rude.", layer=2, variant="released")
    with pytest.raises(ValueError, match="no single pass replays it"):
        lens.token_effects(lm, PROMPT, " bride", released)


# --- what is drawn -----------------------------------------------------------------------------------------------


def cells() -> pd.DataFrame:
    rows = [(layer, i, token) for layer in range(3) for i, token in enumerate(["<s>", " $x", "\n"])]
    frame = pd.DataFrame(rows, columns=["layer", "position", "token"])
    return frame.assign(p=[0.1 * i for i in range(9)], top=[f" w{i}" for i in range(9)])


def test_a_token_map_has_its_numbers_words_and_mark() -> None:
    ax = plots.token_map(cells(), "p", words="top", mark=(2, 1))
    grid = ax.collections[0].get_array().reshape(3, 3)
    assert grid[2].tolist() == pytest.approx([0.6, 0.7, 0.8])
    assert [text.get_text() for text in ax.texts][:3] == ["␣w0", "␣w1", "␣w2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["<s>", r"␣\$x", "↵"]
    assert [patch.get_xy() for patch in ax.patches if isinstance(patch, Rectangle)] == [(1, 2)]
    assert ax.get_ylim() == (0, 3)
    ax.figure.canvas.draw()
    with pytest.raises(ValueError, match="the frame has no column 'q'"):
        plots.token_map(cells(), "q")


def test_a_strip_breaks_lines_and_colours_above_and_below_zero() -> None:
    frame = pd.DataFrame({"token": ["abcd", " $5", "efgh", "i"], "x": [1.0, -1.0, 0.0, 0.5]})
    ax = plots.token_strip(frame.assign(given=[True, True, False, False]), "x", columns=8)
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [(*box.get_xy(), box.get_width()) for box in boxes] == [(0, 0, 4), (4, 0, 3), (0, 1, 4), (4, 1, 1)]
    (above_red, _, above_blue, _), (red, _, blue, _) = (to_rgba(box.get_facecolor()) for box in boxes[:2])
    assert above_blue > above_red and red > blue  # above 0 blue, below 0 red
    assert ax.get_lines()[0].get_xdata().tolist() == [0, 0]  # the text begins with the second line
    ax.figure.canvas.draw()
    only = plots.token_strip(frame.assign(x=[0, 1, 2, 3]), "x")
    assert min(only.patches[0].get_facecolor()[:3]) > 0.9  # 0 is white also where nothing lies below it
