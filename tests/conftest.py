"""What every test runs in: no network, one thread, and nothing that the shell around it has set."""

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from finished_build import Finished

    from edgedistill.values import Corpus, Signals, Teacher, Tokens

FOREIGN = ("HF_", "HUGGING", "TRANSFORMERS_", "ACCELERATE_", "TORCH", "ORT_", "MPL", "EDGEDISTILL")
for name in [name for name in os.environ if name.startswith(FOREIGN)]:
    del os.environ[name]
os.environ |= {  # read when the libraries are imported, and by every process that a test starts
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "TOKENIZERS_PARALLELISM": "false",
}
settings.register_profile("same everywhere", derandomize=True, deadline=None, database=None)
settings.load_profile("same everywhere")


@pytest.fixture(scope="session", autouse=True)
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of libraries lie where the tests' files lie, and start empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("huggingface")))
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "Finished":
    """One build of the tiny recipe that ended well. Tests read it; those that change something take a copy."""
    from finished_build import build_once

    return build_once(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def blocked_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine is an error, except where a test is marked `network`."""
    if request.node.get_closest_marker("network") is not None:
        return
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"a test wants to reach {address}; mark it network, or replace what it asks")
        return connect(self, address)

    return guarded


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> "Corpus":
    """Texts whose label two kinds of words decide; not to be changed."""
    from tiny_distill import make_corpus

    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, corpus: "Corpus") -> "Teacher":
    """A teacher of two layers that was fitted on the corpus; not to be changed."""
    from tiny_distill import make_fitted_teacher

    return make_fitted_teacher(tmp_path_factory.mktemp("teacher"), corpus)


@pytest.fixture(scope="session")
def signals(tmp_path_factory: pytest.TempPathFactory, corpus: "Corpus", teacher: "Teacher") -> "Signals":
    """What the teacher says to every row of the corpus; not to be changed."""
    from tiny_distill import make_signals

    return make_signals(tmp_path_factory.mktemp("signals"), teacher, corpus)


@pytest.fixture(scope="session")
def tokens(
    tmp_path_factory: pytest.TempPathFactory, corpus: "Corpus", teacher: "Teacher", signals: "Signals"
) -> "Tokens":
    """The corpus as a student reads it that reads as the teacher does; not to be changed."""
    from tiny_distill import make_tokens

    return make_tokens(tmp_path_factory.mktemp("tokens"), teacher, corpus, signals)
