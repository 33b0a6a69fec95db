"""A mistyped path is refused at once; a name on the hub is asked for."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.config.schema import ModelConfig
from headrace.encoding.hub_names import folder_or_hub_name
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import UserError
from headrace.selection.encoder import load_encoder
from headrace.training.model import model_config


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths that an empty hub on this machine was asked for."""
    paths: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield paths
        server.shutdown()


def load(kind: str, name: str, task: Any, tokenizer: Any) -> None:
    """Load what is called so, for one of the things that have names on the hub."""
    if kind == "tokenizer":
        load_tokenizer(name)
    elif kind == "encoder":
        load_encoder(name)
    else:
        model_config(ModelConfig(pretrained=name), task, tokenizer)


@pytest.mark.parametrize("kind", ["tokenizer", "encoder", "pretrained"])
def test_the_hub_is_not_asked_for_a_path(
    kind: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.tasks.multiple_choice import MultipleChoice

    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("models/minilm", "./minilm", "../minilm", str(tmp_path / "minilm"), "~/minilm"):
        with pytest.raises(UserError, match=r"no such .* folder"):
            load(kind, name, MultipleChoice(), None)
    assert asked == []
    with pytest.raises(UserError, match="cannot be loaded"):
        load(kind, "somebody/minilm", MultipleChoice(), None)
    assert any("somebody/minilm" in path for path in asked)


def test_folders_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_or_hub_name("models/minilm") == "models/minilm"
    assert folder_or_hub_name("~/models/minilm") == str(tmp_path / "models" / "minilm")
    assert folder_or_hub_name("minilm") == "minilm"
    assert folder_or_hub_name("somebody/minilm") == "somebody/minilm"
    assert folder_or_hub_name("a/b/c") is None
