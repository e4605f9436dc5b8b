"""What the paper and its release say of seven models, as numbers to put beside our own."""

import pandas as pd

from ...judges import GROUPS, SCHOOLS

DEPTHS = ("early", "middle", "late")


def published() -> pd.DataFrame:
    """The paper's shares for Gemma-2B: `direction`, `depth` ("all" or a third of the layers), `group`, `share`, `n`.

    The unsteered ones are over all seven dilemmas, with their labels mended (the released figure swaps two); the
    steered ones over one dilemma, 18 layers x 5 answers (counted from the bars of the released figure). Of the thirds
    only the target group's share is given, read off the figure to about 0.01; layer 0 is in none of them.
    """
    pooled = {
        "unsteered": (0.72, 0.227, 0.053, 75),
        "duty": (0.833, 0.167, 0.0, 90),
        "consequence": (0.322, 0.467, 0.211, 90),
    }
    thirds = {"duty": (0.83, 0.67, 1.0), "consequence": (0.60, 0.20, 0.60)}
    rows: list[tuple[str, str, str, float, int]] = []
    for direction, (*shares, n) in pooled.items():
        rows += [(direction, "all", group, share, int(n)) for group, share in zip(GROUPS, shares, strict=False)]
    for direction, own in thirds.items():
        rows += [
            (direction, depth, direction, share, 5 * layers)
            for depth, share, layers in zip(DEPTHS, own, (6, 6, 5), strict=True)
        ]
    return pd.DataFrame(rows, columns=["direction", "depth", "group", "share", "n"])


def published_schools() -> pd.DataFrame:
    """The paper's unsteered shares of the eight schools: `model`, `label`, `share`.

    Those of Gemma-2B are counted (75 answers); the means over the four proprietary and the three open models are read
    off the figure to about 0.01.
    """
    shares = {
        "Gemma-2B": (0.12, 0.107, 0.28, 0.133, 0.107, 0.053, 0.20, 0.0),
        "mean of 4 proprietary models": (0.23, 0.23, 0.14, 0.09, 0.13, 0.09, 0.07, 0.01),
        "mean of 3 open models": (0.11, 0.175, 0.23, 0.14, 0.10, 0.08, 0.18, 0.0),
    }
    rows = [(model, *cell) for model, own in shares.items() for cell in zip(SCHOOLS, own, strict=True)]
    return pd.DataFrame(rows, columns=["model", "label", "share"])


def published_models() -> pd.DataFrame:
    """Of each of the seven models `consistency`, 1 / (distinct labels of 5 answers), and `agreement` of two scorers.

    Both are read off the figures to about 0.01.
    """
    rows = [
        ("Claude-3-Sonnet", 0.34, 0.68),
        ("GPT-3.5", 0.40, 0.59),
        ("GPT-4", 0.40, 0.66),
        ("Gemini Pro", 0.56, 0.65),
        ("Gemma-2B", 0.46, 0.74),
        ("Llama-2-7B", 0.35, 0.55),
        ("Starling-LM-7B", 0.55, 0.57),
    ]
    return pd.DataFrame(rows, columns=["model", "consistency", "agreement"])


def swapped(groups: pd.DataFrame) -> pd.DataFrame:
    """Unsteered shares of `published` as the released figure prints them: its first and second label are exchanged."""
    names = {"duty": "consequence", "consequence": "duty"}
    return groups.assign(group=groups["group"].replace(names))
