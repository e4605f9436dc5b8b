"""What a person sees on Tab and on showing a value; making one; and that what the documentation shows can be run."""

import copy
import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from families import D_MODEL, N_LAYERS, steerable
from trials import random

import steerlab as sl

README = Path(__file__).resolve().parents[1] / "README.md"
PROMPT = "The wedding was very fine"
SITE = sl.Site("resid_post", 1)


@pytest.fixture(scope="module")
def fit() -> sl.Fit:
    lm = steerable("gpt2")
    frame = pd.DataFrame({"prompt": ["The cat", "The dog"], "correct": [" a", " a"], "wrong": [" b", " b"]})
    return sl.fit(lm, frame, sl.SteerVec(layers=(-1, 0)), steps=2, progress=False)


# --- showing -------------------------------------------------------------------------------------------------------


def test_every_value_is_shown_in_a_line(gpt2: sl.SteerableModel, fit: sl.Fit) -> None:
    wedding = sl.actadd(gpt2, " weddings", " ", layer=1)
    task = sl.tasks.Task("own", *[pd.DataFrame([{"prompt": "A", "correct": " b", "wrong": " c"}])] * 2)
    values = [
        *(wedding, 4 * wedding, wedding + sl.scale(-1, layer=0), sl.Intervention(), fit, fit.method, fit.objective),
        *(wedding.edits[0][1], gpt2.activations([PROMPT, "He"], [SITE]), gpt2.batch([PROMPT, "He"]), task, SITE, gpt2),
    ]
    for value in values:
        assert "\n" not in repr(value)
        assert len(repr(value)) < 250, repr(value)
        assert repr(value).startswith(type(value).__name__)


def test_an_intervention_says_what_it_is(gpt2: sl.SteerableModel) -> None:
    wedding = sl.actadd(gpt2, " weddings", " ", layer=1)
    norm = f"{wedding.norm()[wedding.sites[0]]:.3g}"
    length = wedding.edits[0][1].length
    text = f"actadd ' weddings' - ' ': shift at resid_pre.1, first {length} positions, prompt, norm"
    assert repr(wedding) == f"Intervention({text} {norm}; GPT2LMHeadModel)"
    assert repr(-2 * wedding).startswith("Intervention(-2 * actadd ' weddings'")
    both = wedding + sl.scale(torch.ones(2, 1), layer=[0, 2], anchor="back", place="mlp_out")
    assert repr(both).startswith("Intervention(sum of 2: shift and gain at 3 sites, mlp_out.0 to mlp_out.2, 2 kinds of")


def test_the_strip_has_a_cell_for_each_layer_and_position() -> None:
    v = torch.stack([3 * torch.ones(4), torch.zeros(4)])
    steer = sl.add(v, layer=2, anchor="front", start=1) + sl.add(torch.ones(4), layer=5)
    html = steer._repr_html_()
    assert html.startswith("<div><code>Intervention(")
    picture = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    titles = {title.text for title in picture.iter("title")}
    assert titles == {
        "resid_post.2, position 1: 6",
        "resid_post.2, position 2: 0",
        "resid_post.5, all positions: 2",
    }
    assert len(list(picture.iter("rect"))) == 4 * 3  # layers 2 to 5, positions 1, 2 and all
    opacity = {cell[0].text: float(cell.get("fill-opacity", 0)) for cell in picture.iter("rect") if len(cell)}
    assert opacity["resid_post.2, position 1: 6"] > opacity["resid_post.5, all positions: 2"]
    assert "<svg" not in sl.Intervention()._repr_html_()


def test_a_strip_stays_small() -> None:
    wide = sl.add({layer: random(300, 4) for layer in range(100)}, anchor="front")
    assert len(wide._repr_html_()) < 600_000


def test_prompts_in_a_strip_are_no_markup(gpt2: sl.SteerableModel) -> None:
    assert "<b>" not in sl.actadd(gpt2, " <b>", " ", layer=1)._repr_html_()


# --- making --------------------------------------------------------------------------------------------------------

VECTOR = torch.linspace(-1, 1, D_MODEL)


@pytest.mark.parametrize(
    "vector", [VECTOR, VECTOR[None], VECTOR.numpy(), VECTOR.tolist(), VECTOR.double(), VECTOR.numpy().astype(float)]
)
def test_add_is_the_edit_by_hand(gpt2: sl.SteerableModel, vector: Any) -> None:
    by_hand = sl.Intervention({SITE: sl.Edit(shift=VECTOR[None], when="all")})
    made = sl.add(vector, layer=1, when="all")
    assert made.edits[0][1].when == "all"
    torch.testing.assert_close(gpt2.logits(PROMPT, made), gpt2.logits(PROMPT, by_hand))


def test_scale_multiplies(gpt2: sl.SteerableModel) -> None:
    plain = gpt2.activations(PROMPT, SITE)[SITE]
    for alpha in (0.5, torch.tensor(0.5), np.float32(0.5), torch.full((D_MODEL,), 0.5), [0.5] * D_MODEL):
        torch.testing.assert_close(gpt2.activations(PROMPT, SITE, sl.scale(alpha, layer=1))[SITE], 1.5 * plain)
    some = sl.scale(-torch.ones(2, 1), layer=1, anchor="front", start=1)
    assert gpt2.activations(PROMPT, SITE, some)[SITE][0].norm(dim=1).gt(0).tolist()[:4] == [True, False, False, True]


def test_where_is_said_by_layers_or_sites(gpt2: sl.SteerableModel) -> None:
    several = sl.add(VECTOR, layer=[0, 1], place="mlp_out")
    assert several.sites == (sl.Site("mlp_out", 0), sl.Site("mlp_out", 1))
    mapped = sl.add({0: VECTOR, sl.Site("mlp_out", 1): VECTOR}, place="mlp_out")
    assert torch.equal(gpt2.logits(PROMPT, several), gpt2.logits(PROMPT, mapped))
    learned = torch.zeros(D_MODEL, requires_grad=True)
    gpt2.logits(PROMPT, sl.add(learned, layer=0)).sum().backward()
    assert learned.grad is not None


def test_an_array_that_changes_later_changes_nothing() -> None:
    array = np.ones(4, dtype=np.float32)
    made = sl.add(array, layer=0)
    array[:] = 7
    assert made.norm() == {sl.Site("resid_post", 0): 2.0}


def test_an_intervention_takes_its_edits_in_several_forms() -> None:
    edit, other = sl.Edit(shift=VECTOR[None]), (sl.Site("mlp_out", 0), sl.Edit(gain=torch.ones(1, 1)))
    for form in ({SITE: edit}, (SITE, edit), ((SITE, edit),), [(SITE, edit)], iter([(SITE, edit)])):
        assert sl.Intervention(form).edits == ((SITE, edit),)
    assert sl.Intervention([(SITE, edit), other]).edits == ((SITE, edit), other)
    assert sl.Intervention().edits == ()


EDIT = sl.Edit(shift=torch.ones(1, 4))
W = sl.add(torch.ones(4), layer=1)
REFUSED: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (TypeError, "edits at sites, not a tuple of (int, Edit)", lambda: sl.Intervention({3: EDIT})),  # type: ignore[dict-item]
    (TypeError, "edits at sites, not a tuple of (str, Edit)", lambda: sl.Intervention({"mlp_out.1": EDIT})),  # type: ignore[dict-item]
    (TypeError, "edits at sites, not Site(", lambda: sl.Intervention(SITE)),  # type: ignore[arg-type]
    (TypeError, "edits at sites, not Site(", lambda: sl.Intervention(SITE, EDIT)),  # type: ignore[arg-type]
    (TypeError, "edits at sites, not Edit", lambda: sl.Intervention(EDIT)),  # type: ignore[arg-type]
    (TypeError, "edits at sites, not Tensor", lambda: sl.Intervention(torch.ones(3, 4))),  # type: ignore[arg-type]
    (TypeError, "edits at sites, not None", lambda: sl.Intervention(None)),  # type: ignore[arg-type]
    (TypeError, "several edits go into one mapping", lambda: sl.Intervention((SITE, EDIT), (SITE, EDIT))),  # type: ignore[arg-type]
    (TypeError, "by one number, not by Intervention", lambda: W * W),  # type: ignore[operator]
    (TypeError, "by one number, not by 'a' (str)", lambda: W * "a"),  # type: ignore[operator]
    (TypeError, "by one number, not by 'a' (str)", lambda: W / "a"),  # type: ignore[operator]
    (TypeError, "[c * intervention for c in ...]", lambda: W * torch.ones(3)),
    (TypeError, "[c * intervention for c in ...]", lambda: torch.ones(3) * W),
    (TypeError, "[c * intervention for c in ...]", lambda: W * [1, 2]),  # type: ignore[operator]
    (TypeError, "cannot add 1 (int) to an intervention", lambda: W + 1),  # type: ignore[operator]
    (TypeError, "cannot add None (NoneType) to an intervention", lambda: W + None),  # type: ignore[operator]
    (TypeError, "cannot add Tensor to an intervention", lambda: W + torch.ones(50)),  # type: ignore[operator]
    (TypeError, "cannot add 'a' (str) to an intervention", lambda: W - "a"),  # type: ignore[operator]
    (TypeError, "unsupported operand", lambda: W @ torch.ones(4)),  # type: ignore[operator]
    (TypeError, "unsupported operand", lambda: W**2),  # type: ignore[operator]
    (TypeError, "abs", lambda: abs(W)),  # type: ignore[arg-type]
    (TypeError, "no len", lambda: len(W)),  # type: ignore[arg-type]
    (ZeroDivisionError, "division by zero", lambda: W / 0),
    (ValueError, "strength inf is not a finite number", lambda: W * float("inf")),
    (ValueError, "3 is no vector: add takes d_model numbers, scale takes one", lambda: sl.add(3, layer=1)),
    (ValueError, "say where, once", lambda: sl.add(VECTOR)),
    (ValueError, "say where, once", lambda: sl.add({1: VECTOR}, layer=1)),
    (ValueError, "no layers given: name at least one", lambda: sl.add(VECTOR, layer=[])),
    (TypeError, "layer 1.5 is no whole number", lambda: sl.add(VECTOR, layer=1.5)),  # type: ignore[arg-type]
    (TypeError, "layer '12' is no whole number", lambda: sl.scale(1, layer="12")),  # type: ignore[arg-type]
    (TypeError, "str is no tensor of numbers", lambda: sl.add("vector", layer=1)),
    (TypeError, "list is no tensor of numbers", lambda: sl.add([[1, 2], [3]], layer=1)),
    (TypeError, "NoneType is no tensor of numbers", lambda: sl.add(None, layer=1)),  # type: ignore[arg-type]
    (TypeError, "torch.bool is no dtype of activations", lambda: sl.scale(torch.ones(4) > 0, layer=1)),
    (ValueError, "tensors for 3 positions need the anchor front or back", lambda: sl.add(random(3, 4), layer=1)),
    (ValueError, "it is a matrix", lambda: sl.add(random(1, 3, 4), layer=1)),
]


@pytest.mark.parametrize(("kind", "says", "call"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_is_refused_in_a_line(kind: type[Exception], says: str, call: Callable[[], Any]) -> None:
    with pytest.raises(kind, match=re.escape(says)) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- a value -------------------------------------------------------------------------------------------------------


def test_sums_and_parts() -> None:
    v, w = sl.add(2 * torch.ones(4), layer=1), sl.add(torch.ones(4), layer=1)
    site = v.sites[0]
    assert (sum([v, w, w]) / 4).norm() == {site: 2.0}  # type: ignore[attr-defined]
    assert (v + 0).norm() == (0 + v).norm() == (v - 0).norm() == (0 - v).norm() == {site: 4.0}
    assert (np.float64(0) + v).norm() == {site: 4.0}
    assert (v / np.float32(2)).norm() == (v / torch.tensor(2.0)).norm() == (v * torch.tensor([0.5])).norm() == w.norm()
    assert (torch.tensor(3.0) * w).norm() == (w * np.array(3)).norm() == {site: 6.0}
    learned = torch.tensor(2.0, requires_grad=True)
    assert (learned * w).edits[0][1].tensors["shift"].requires_grad


def test_equality_truth_and_copies(gpt2: sl.SteerableModel, fit: sl.Fit) -> None:
    wedding = sl.actadd(gpt2, " weddings", " ", layer=1)
    assert wedding == wedding
    assert wedding != 1 * wedding
    assert len({wedding, wedding, 1 * wedding}) == 2
    assert wedding and not sl.Intervention()
    for value in (wedding, fit):
        for other in (copy.copy(value), copy.deepcopy(value)):
            assert type(other) is type(value)
            assert dict(other.info) == dict(value.info)
            assert repr(other) == repr(value)
            with pytest.raises(TypeError):
                other.info["method"] = "other"  # type: ignore[index]
    assert copy.deepcopy(wedding).edits[0][1].shift is not wedding.edits[0][1].shift


# --- layers --------------------------------------------------------------------------------------------------------


def test_minus_one_is_the_last_layer_in_every_method(gpt2: sl.SteerableModel) -> None:
    made: list[Callable[[Any], sl.Intervention]] = [
        lambda layer: sl.actadd(gpt2, " love", " hate", layer=layer),
        lambda layer: sl.sara(gpt2, PROMPT, attract="Good", repel="Bad", layer=layer),
        lambda layer: sl.add(VECTOR, layer=layer, when="all"),
        lambda layer: sl.scale(0.5, layer=layer, place="mlp_out"),
    ]
    for method in made:
        for negative, counted in ((-1, N_LAYERS - 1), ([0, -2], [0, N_LAYERS - 2]), (np.int64(-3), 0)):
            theirs, ours = (gpt2.logits(PROMPT, method(layer)) for layer in (negative, counted))
            assert torch.equal(theirs, ours)
            assert not torch.equal(ours, gpt2.logits(PROMPT))
    sites = sl.SteerVec(places=("mlp_out",), layers=(-1, 0)).sites(gpt2)
    assert sites == (sl.Site("mlp_out", 0), sl.Site("mlp_out", N_LAYERS - 1))


def test_a_layer_from_the_end_and_the_same_from_0_are_one_site(gpt2: sl.SteerableModel) -> None:
    last, same = sl.Site("resid_post", -1), sl.Site("resid_post", N_LAYERS - 1)
    read = gpt2.activations(PROMPT, [last, same, SITE])
    assert torch.equal(read[last], read[same])
    both = sl.add(VECTOR, layer=-1) + sl.add(VECTOR, layer=N_LAYERS - 1)
    torch.testing.assert_close(gpt2.activations(PROMPT, last, both)[last], read[last] + 2 * VECTOR)
    rows = gpt2.logits([PROMPT] * 2, [sl.add(VECTOR, layer=-1), sl.add(VECTOR, layer=N_LAYERS - 1)])
    torch.testing.assert_close(rows[0], rows[1])
    kl = sl.strength.mean_kl(gpt2, sl.add(VECTOR, layer=-1), [1.0, 2.0], PROMPT)
    np.testing.assert_allclose(kl, sl.strength.mean_kl(gpt2, sl.add(VECTOR, layer=N_LAYERS - 1), [1.0, 2.0], PROMPT))
    settings = [sl.sweep.Setting({"layer": layer}, PROMPT, sl.add(VECTOR, layer=layer)) for layer in (-1, 2, 0)]
    frame = sl.sweep.next_tokens(gpt2, settings, progress=False)
    assert frame["kl"][0] == pytest.approx(frame["kl"][1])
    assert frame["kl"][0] != pytest.approx(frame["kl"][2])


@pytest.mark.parametrize("layer", [N_LAYERS, -N_LAYERS - 1])
def test_layers_out_of_range(gpt2: sl.SteerableModel, layer: int) -> None:
    says = f"layer {layer} is out of range: GPT2LMHeadModel has layers 0 to {N_LAYERS - 1}"
    for call in (
        lambda: gpt2.logits(PROMPT, sl.add(VECTOR, layer=layer)),
        lambda: sl.actadd(gpt2, " a", " b", layer=layer),
        lambda: sl.sara(gpt2, PROMPT, attract="a", repel="b", layer=layer),
        lambda: sl.SteerVec(layers=(layer,)).sites(gpt2),
        lambda: gpt2.activations(PROMPT, sl.Site("mlp_out", layer)),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_layers_from_the_end_come_last() -> None:
    last, first, middle = sl.Site("resid_pre", -1), sl.Site("resid_post", 0), sl.Site("resid_pre", 5)
    assert sorted([last, middle, first]) == [first, middle, last]
    assert sl.Site.parse(str(last)) == last


# --- a fit is an intervention --------------------------------------------------------------------------------------


def test_a_fit_is_taken_wherever_an_intervention_is(gpt2: sl.SteerableModel, fit: sl.Fit, tmp_path: Path) -> None:
    prompt = "The cat"
    frame = pd.DataFrame({"prompt": ["The cat", "The dog"], "correct": [" a", " a"], "wrong": [" b", " b"]})
    plain = fit.intervention
    assert type(plain) is sl.Intervention and type(2 * fit) is sl.Intervention
    assert torch.equal(gpt2.logits(prompt, fit), gpt2.logits(prompt, plain))
    assert torch.equal(gpt2.logits([prompt] * 2, [2 * fit, None]), gpt2.logits([prompt] * 2, [2 * plain, None]))
    assert sl.evaluate(gpt2, frame, fit).equals(sl.evaluate(gpt2, frame, plain))
    assert sl.locations(fit).equals(sl.locations(plain))
    assert sl.random_like(fit).norm() == pytest.approx(fit.norm())
    assert gpt2.generate(prompt, fit, max_new_tokens=2).equals(gpt2.generate(prompt, plain, max_new_tokens=2))
    setting = sl.sweep.Setting({}, prompt, fit)
    assert len(sl.sweep.next_tokens(gpt2, [setting], progress=False)) == 1
    matplotlib.use("agg")
    assert sl.plots.scalar_map(fit, value="norm").collections
    again = sl.load_intervention(fit.save(tmp_path / "fit.safetensors"), gpt2)
    assert torch.equal(gpt2.logits(prompt, again), gpt2.logits(prompt, plain))


def test_nothing_else_pretends_to_save(gpt2: sl.SteerableModel, fit: sl.Fit) -> None:
    task = sl.tasks.Task("own", *[pd.DataFrame([{"prompt": "A", "correct": " b", "wrong": " c"}])] * 2)
    for value in (gpt2, task, SITE, EDIT, gpt2.batch("a"), gpt2.activations("a", SITE), fit.objective, fit.method):
        with pytest.raises(AttributeError, match=f"^a {type(value).__name__} is not saved to a file: an intervention"):
            value.save("x")  # type: ignore[attr-defined]


# --- Tab -----------------------------------------------------------------------------------------------------------

PARTS = {"data", "exercises", "experiments", "judges", "lens", "metrics", "plots", "strength", "sweep", "widgets"}
PLUMBING = {"edit", "intervention", "layout", "loading", "loop", "methods", "model", "passes", "remote", "sampling"}


def test_tab_shows_what_a_notebook_needs(gpt2: sl.SteerableModel) -> None:
    names = {name for name in dir(sl) if not name.startswith("_")}
    assert names >= PARTS | {"load", "actadd", "sara", "fit", "add", "scale", "Intervention"}
    assert not names & PLUMBING
    shown = {name for name in dir(gpt2) if not name.startswith("_")}
    assert shown >= {"generate", "logits", "logprobs", "activations", "tokens", "n_layers", "hf", "dry_run"}
    assert len(shown) <= 24
    assert not shown & {"save", "run", "taps", "lock", "check", "forward"}
    assert all(hasattr(gpt2, name) for name in shown)


@pytest.mark.slow
def test_parts_are_imported_when_they_are_used() -> None:
    slow = ["matplotlib", "ipywidgets", "scipy.stats", "transformers.modeling_utils"]
    lines = [
        "import sys, steerlab as sl",
        f"print([name for name in {slow} if name in sys.modules])",
        f"print([getattr(sl, part).__name__ for part in {sorted(PARTS)}])",
        "print(sl.nothing)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", str([f"steerlab.{part}" for part in sorted(PARTS)])]
    assert done.stderr.strip().endswith("AttributeError: module 'steerlab' has no attribute 'nothing'")


def test_options_have_names() -> None:
    options = {name: field.default for name, field in sl.FitOptions.__dataclass_fields__.items()}
    for function in (sl.fit, sl.fit_grid):
        parameters = inspect.signature(function).parameters
        assert {name: parameters[name].default for name in options} == options
        assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


# --- the documentation ---------------------------------------------------------------------------------------------


def test_the_snippets_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    snippets = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(snippets) >= 2
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["again"].sites == names["wedding"].sites


def documented() -> list[doctest.DocTest]:
    """The examples in the docstrings of the public API, each class with its methods."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = {"sl": sl, "torch": torch, "np": np, "pd": pd}
    values = {name: getattr(sl, name) for name in sl.__all__}
    every = [(name, value) for name, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)]
    tests = [test for name, value in every for test in finder.find(value, name, globs=dict(names))]
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("test", documented(), ids=lambda test: test.name)
def test_the_examples_of_docstrings_hold(test: doctest.DocTest) -> None:
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not result.failed, "".join(report)
