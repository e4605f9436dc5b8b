"""Files of an intervention: safetensors with a JSON header, the Hugging Face Hub, and llama.cpp's control vectors.

Knows sites, tensors and plain values alone; `intervention.py` gives them a meaning.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .site import Site

FORMAT = "steerlab-intervention-1"
FILE = "intervention.safetensors"
"""The file's name in a repository of the Hub."""

IDENTITY = ("model", "revision", "tokenizer", "weights")
"""What tells one model from another; see `same_model`."""

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

Part = tuple[dict[str, Any], dict[str, Tensor]]
"""The fields of an edit that JSON can hold, and its tensors."""


# --- safetensors ---------------------------------------------------------------------------------------------------


def write(path: str | Path, parts: Sequence[Part], info: Mapping[str, Any]) -> Path:
    """Write edits and where they come from; beside the name first, so that an interrupted save leaves no half file.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    path = _in_a_folder(path)
    header = {"edits": [fields for fields, _ in parts], "info": dict(info)}
    tensors = {f"{i}.{name}": tensor for i, (_, own) in enumerate(parts) for name, tensor in own.items()}
    beside = path.with_name(path.name + ".part")
    save_file(tensors, beside, metadata={"format": FORMAT, "header": json.dumps(header)})
    beside.replace(path)
    return path


def read(path: Path) -> tuple[list[Part], dict[str, Any]]:
    """What `write` wrote.

    Raises:
        ValueError: the file is truncated, no safetensors, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a steerlab intervention ({FORMAT})")
    try:
        header = json.loads(metadata["header"])
        return [(fields, _numbered(tensors, i)) for i, fields in enumerate(header["edits"])], dict(header["info"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> ValueError:
    """What to raise where a header cannot be understood."""
    return ValueError(f"{path} has a damaged header ({error!r}): save the intervention again")


def _numbered(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The tensors of one edit."""
    prefix = f"{number}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _in_a_folder(path: str | Path) -> Path:
    """A path to write to, whose folder is there."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path.name}: no folder {path.parent}")
    return path


# --- where it comes from -------------------------------------------------------------------------------------------


def origins(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The provenance of each part of a sum, sums of sums laid flat; of what is no sum, its own."""
    if info.get("method") != "sum":
        return [dict(info)]
    strength = info.get("strength", 1.0)
    nested = [origin for part in info["parts"] for origin in origins(part)]
    return nested if strength == 1 else [{**part, "strength": strength * part.get("strength", 1.0)} for part in nested]


def added(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a sum: its parts, and what they have in common."""
    if not left and not right:
        return {}
    parts = [part or {"method": "own"} for info in (left, right) for part in origins(info)]
    first, *others = parts
    common = [key for key in (*IDENTITY, "versions", "length") if key in first]
    shared = {key: first[key] for key in common if all(part.get(key) == first[key] for part in others)}
    return {**shared, "method": "sum", "parts": parts}


def scaled(info: Mapping[str, Any], strength: float) -> dict[str, Any]:
    """The provenance of a multiple."""
    if not info:
        return {}
    return {**info, "strength": strength * info.get("strength", 1.0)}


def portable_name(model: str) -> str:
    """The name of a model without the path of its folder, which means nothing on another computer."""
    path = Path(model)
    return path.name if path.is_absolute() or model.startswith((".", "~")) else model


def same_model(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether two provenances name one model: by tokenizer and weights, or name and revision if weights are not known.

    What names no model, as a vector made by hand, belongs to any.
    """
    if all(theirs.get(key) is None for key in IDENTITY):
        return True
    if theirs.get("tokenizer") != ours.get("tokenizer"):
        return False
    weights = theirs.get("weights"), ours.get("weights")
    if all(weights):
        return bool(weights[0] == weights[1])
    names = [(Path(str(info.get("model"))).name, info.get("revision")) for info in (theirs, ours)]
    return names[0] == names[1]


def described(info: Mapping[str, Any]) -> str:
    """What tells a model from others, for a message."""
    return ", ".join(f"{key} {info.get(key)}" for key in IDENTITY)


def in_words(info: Mapping[str, Any]) -> str:
    """Method and prompts, in a few words, with what comes between them and the edits."""
    if not info:
        return "own: "
    strength = f"{info['strength']:.3g} * " if info.get("strength", 1.0) != 1 else ""
    if info.get("method") == "sum":
        return f"{strength}sum of {len(info['parts'])}: "
    prompts = info.get("prompts")
    if isinstance(prompts, Mapping) and {"plus", "minus"} <= set(prompts):
        words = f" {prompts['plus']!r} - {prompts['minus']!r}"
    else:
        named = prompts.items() if isinstance(prompts, Mapping) else ()
        words = "".join(f" {name} {text!r}" for name, text in named)
    words = words if len(words) <= 70 else f"{words[:67]}..."
    return f"{strength}{info.get('method', 'own')}{words}: "


# --- the Hub -------------------------------------------------------------------------------------------------------


def push(
    parts: Sequence[Part], info: Mapping[str, Any], repo: str, card: str, private: bool | None, token: str | None
) -> str:
    """Upload what `write` writes and its card to the Hub; returns the address.

    Raises:
        ValueError: the name is no repository's.
    """
    from huggingface_hub import HfApi  # imported here: most never share

    if not REPOSITORY.fullmatch(repo):
        raise ValueError(f"{repo!r} is no repository of the Hub: write it as user/name")
    api = HfApi(token=token)
    url = api.create_repo(repo, private=private, exist_ok=True)
    with TemporaryDirectory() as folder:
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        write(Path(folder) / FILE, parts, info)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload an intervention of steerlab")
    return str(url)


def local(path: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """A file here; or that of a repository of the Hub, "user/name", fetched or from the cache.

    Raises:
        FileNotFoundError: there is no such file, and no such repository is to be had.
    """
    file = Path(path)
    if file.is_file():
        return file
    if file.exists() or file.suffix == ".safetensors" or not REPOSITORY.fullmatch(str(path)):
        raise FileNotFoundError(f"no file {path}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(path), FILE, revision=revision, token=token))
    except (OSError, ValueError) as error:  # whatever the Hub's client raises is one of them
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"no file {path}, and no {FILE} in that repository of the Hub ({reason})") from None


CARD = """---
library_name: steerlab
tags:
- activation-steering
- steering-vector
{base}---

# {title}

{summary}

| | |
|---|---|
{rows}

To use it:

```python
import steerlab as sl

lm = sl.load({model!r})
steer = sl.load_intervention({repo!r}, lm)
lm.generate("I went up to my friend and said", steer, n=5)
```
"""


def card(repo: str, summary: str, info: Mapping[str, Any]) -> str:
    """The README of a repository: method, prompts, model and settings, and how to load it."""
    parts = origins(info)
    model = str(info.get("model") or "the/model")
    base = f"base_model: {model}\n" if REPOSITORY.fullmatch(model) and not model.startswith("steerlab/") else ""
    rows = [row for number, part in enumerate(parts, 1) for row in _rows(part, f" {number}" if parts[1:] else "")]
    return CARD.format(
        base=base, title=repo.split("/")[-1], summary=summary, rows="\n".join(rows), model=model, repo=repo
    )


def _rows(info: Mapping[str, Any], number: str) -> list[str]:
    """Rows of a Markdown table, one for each thing that is known."""
    fields = [(f"{key}{number}", value) for key, value in info.items() if value is not None]
    return [f"| {key} | {_cell(value)} |" for key, value in fields] or [f"| method{number} | made by hand |"]


def _cell(value: Any) -> str:
    """A value within a Markdown table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "`" + text.replace("`", "'").replace("|", "\\|").replace("\n", "\\n") + "`"


# --- llama.cpp -----------------------------------------------------------------------------------------------------


def write_control_vector(path: str | Path, parts: Sequence[Part], hint: str) -> Path:
    """A GGUF file of control vectors, as llama.cpp's `--control-vector` reads it.

    Args:
        path: of the file.
        parts: shifts of all positions and passes.
        hint: of the model; readers show it.

    Raises:
        FileNotFoundError: the folder does not exist.
        ImportError: the package `gguf` is not installed.
        ValueError: there is no edit, or one is no such shift.
    """
    try:
        import gguf
    except ImportError:
        raise ImportError("to_gguf needs the package gguf: pip install 'steerlab[gguf]'") from None
    path, directions = _in_a_folder(path), _directions(parts)
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(directions))
    for number, direction in sorted(directions.items()):
        writer.add_tensor(f"direction.{number}", direction.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _directions(parts: Sequence[Part]) -> dict[int, Tensor]:
    """What is added to the output of a block, [d_model], by the number of the block."""
    directions: dict[int, Tensor] = {}
    for fields, tensors in parts:
        number, vector = _block(Site.parse(fields["site"])), _control_vector(fields, tensors)
        directions[number] = directions[number] + vector if number in directions else vector
    if len({len(vector) for vector in directions.values()}) != 1:
        raise ValueError("llama.cpp reads vectors of one width, one at least: export the edits of one model")
    return directions


def _block(site: Site) -> int:
    """The block to whose output llama.cpp adds what is added at a site."""
    if site.layer < 0:
        raise ValueError(f"{site} counts its layer from the end, which llama.cpp does not: count it from 0")
    number = {"resid_post": site.layer, "resid_pre": site.layer - 1}.get(site.place, 0)
    if number < 1:
        raise ValueError(f"llama.cpp has no control vector at {site}: resid_post from layer 1, resid_pre from 2 on")
    return number


def _control_vector(fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    """The shift of an edit, if it is all that the edit does, at every token."""
    site, anchor, when = fields["site"], fields["anchor"], fields["when"]
    if list(tensors) != ["shift"]:
        raise ValueError(f"llama.cpp adds vectors alone, and the edit at {site} has a {' and a '.join(tensors)}")
    if (anchor, when) != ("all", "all"):
        where = f"anchor={anchor!r}, when={when!r}"
        raise ValueError(
            f"llama.cpp adds a vector at every token, and the edit at {site} has {where}: both must be all"
        )
    return tensors["shift"][0].float()
