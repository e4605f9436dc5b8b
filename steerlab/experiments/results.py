"""Full-size results: small CSV files in notebooks/results/MODEL, each with a line beside it that says how it was made.

And the command line that all papers share.
"""

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ..course import PLACES
from ..identity import identity
from ..loading import load
from ..model import SteerableModel

FOLDER = next((place / "results" for place in PLACES if place.is_dir()), PLACES[-1] / "results")
"""Where the notebooks look; there is none where the package is installed without its notebooks."""

_VERSIONS = ("steerlab", "torch", "transformers", "nnsight")

Ask = argparse.Namespace
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Experiment:
    """One experiment of a paper.

    Args:
        run: from the model and what was asked for to frames by name. It enters the public sets that it reads into
            `ask.data`, each with its checksum; `ask.asked` is what was asked for before the defaults were filled in.
        sampled: whether its numbers are counts of completions, so that another seed gives others.
        defaults: of options that the command line leaves open, such as the paper's n.
    """

    run: Callable[[SteerableModel, Ask], Frames]
    sampled: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Paper:
    """The experiments of a paper, and the command line that runs and keeps them.

    Args:
        name: as in `python -m steerlab.experiments.NAME` and in the names of the files.
        about: a line of help.
        experiments: by the names that the command line knows.
        options: adds the paper's own options to a parser.
        recorded: options that are kept beside each table.
    """

    name: str
    about: str
    experiments: Mapping[str, Experiment]
    options: Callable[[argparse.ArgumentParser], None]
    recorded: Sequence[str]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """The command line: runs experiments, and keeps each frame as OUT/NAME_FRAME.csv.

        OUT is notebooks/results/MODEL by default. Completions are kept in OUT/NAME.sqlite as they come, so that a run
        that was stopped goes on there. A folder with tables of another model is refused, and so is a layer that there
        is not.
        """
        parser = self._parser()
        given = list(sys.argv[1:] if arguments is None else arguments)
        ask = parser.parse_args(given)
        lm = load(ask.model)
        ask.command, ask.out = given, ask.out or Path("notebooks", "results", short_name(lm))
        ask.file = ask.out / f"{self.name}.sqlite"
        if wrong := _unfit(ask, lm):
            parser.error(wrong)
        ask.out.mkdir(parents=True, exist_ok=True)
        for name in self.experiments if ask.experiment == "all" else [ask.experiment]:
            try:
                self.run(name, lm, ask)
            except (FileNotFoundError, ValueError) as reason:  # of this model or these options
                if ask.experiment != "all":
                    raise
                print(f"{name}: {reason}", file=sys.stderr)
        return 0

    def run(self, name: str, lm: SteerableModel, ask: Ask) -> None:
        """Run one experiment, and keep its frames with a line of what it takes to make them again.

        The line, OUT/NAME_FRAME.json, has the command, the recorded options, whether it was sampled, the public sets it
        read with their checksums, the seconds that it took (of a run that goes on where it was stopped, the rest), the
        versions, and the model with its revision (of a GGUF file the checksum) and the hash of its weights and
        tokenizer.
        """
        experiment = self.experiments[name]
        open_ = {option: value for option, value in experiment.defaults.items() if getattr(ask, option) is None}
        own = Ask(**{**vars(ask), **open_, "data": {}, "asked": ask})
        started = time.perf_counter()
        frames = experiment.run(lm, own)
        seconds = round(time.perf_counter() - started)
        line = {
            "command": self._command(name, own),
            **{option: getattr(own, option) for option in self.recorded},
            "sampled": experiment.sampled,
            **({"data": own.data} if own.data else {}),
            "seconds": seconds,
            "model": lm.name,
            **({"revision": lm.revision} if lm.revision else {}),
            "identity": identity(lm),
            "versions": {package: version(package) for package in _VERSIONS},
        }
        for frame_name, frame in frames.items():
            path = own.out / f"{self.name}_{frame_name}"
            frame.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
            path.with_suffix(".json").write_text(json.dumps(line) + "\n", encoding="utf-8")
        print(f"{name}: {seconds} s", flush=True)

    def _command(self, name: str, ask: Ask) -> str:
        """What makes the frames of one experiment, with the variable that its public sets were found by."""
        words = [name if argument == ask.experiment else argument for argument in ask.command]
        line = shlex.join(["python", "-m", f"{__package__}.{self.name}", *words])
        return f"STEERLAB_DATA=... {line}" if ask.data else line

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"python -m {__package__}.{self.name}", description=self.about)
        if len(self.experiments) > 1:
            parser.add_argument("experiment", choices=["all", *self.experiments])
        else:
            parser.set_defaults(experiment=next(iter(self.experiments)))
        parser.add_argument("--out", type=Path, help="folder of the CSV files; notebooks/results/MODEL by default")
        parser.add_argument("--model", help="folder or Hub name; the bundled model by default")
        parser.add_argument("--layers", type=int, nargs="+", help="that are tried; all by default")
        self.options(parser)
        return parser


def _unfit(ask: Ask, lm: SteerableModel) -> str | None:
    """One line on what can't be run as it was asked for."""
    asked = [*(ask.layers or ()), *([ask.layer] if getattr(ask, "layer", None) is not None else [])]
    for layer in asked:
        if not 0 <= layer < lm.n_layers:
            return f"layer {layer} is out of range: {lm.name} has layers 0 to {lm.n_layers - 1}"
    for path in sorted(ask.out.glob("*.json")):
        if (other := _line(path)["model"]) != lm.name:
            return f"{path} is of {other}, not of {lm.name}: give --out another folder"
    return None


def short_name(lm: SteerableModel) -> str:
    """The name of a model's folder of results, whatever it was quantised by: "bundled", "gemma-3-270m"."""
    name = re.sub(r"[^\w.-]+", "-", Path(lm.name).name).lower().removesuffix(".gguf")
    return re.sub(r"[-.](i?q\d\w*|bf16|f16|f32)$", "", name)


def find(name: str, model: SteerableModel | str, folder: str | Path | None = None) -> pd.DataFrame | None:
    """The frame that a command kept under a name; nothing where there is none of this model.

    Args:
        name: of the file, such as "actadd_best".
        model: the model whose results are wanted, matched by weights and tokenizer; or the name of its folder, such as
            "gemma-3-270m", which reads what is kept there without loading anything.
        folder: by default that of the model in notebooks/results.
    """
    path = _folder(model, folder) / f"{name}.csv"
    line = path.with_suffix(".json")
    return pd.read_csv(path) if path.is_file() and line.is_file() and _is_of(_line(line), model) else None


def runs(paper: str, model: SteerableModel | str, folder: str | Path | None = None) -> pd.DataFrame:
    """How a model's kept tables of a paper ("actadd") were made; of the model, or of the name of its folder.

    Returns:
        One row per command: `command`, `n`, `sampled`, `seconds`.
    """
    lines = [_line(path) for path in sorted(_folder(model, folder).glob(f"{paper}_*.json"))]
    own = [line for line in lines if _is_of(line, model)]
    return pd.DataFrame(own, columns=["command", "n", "sampled", "seconds"]).drop_duplicates(ignore_index=True)


def _folder(model: SteerableModel | str, folder: str | Path | None) -> Path:
    name = model if isinstance(model, str) else short_name(model)
    return FOLDER / name if folder is None else Path(folder)


def _is_of(line: dict[str, Any], model: SteerableModel | str) -> bool:
    """Whether a table's JSON names this model; a folder's name is taken at its word."""
    return isinstance(model, str) or line["identity"] == identity(model)


def _line(path: Path) -> dict[str, Any]:
    """What a table's JSON says."""
    line: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return line
