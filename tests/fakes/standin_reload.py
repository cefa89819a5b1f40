"""What a reload asks of the disk, without a disk: it answers with what it was asked.

DATA_DIR/reload, if it is there, is JSON that stands in for parts of the answer; `settings` of it in
for some of the settings. That it was told to change the catalogue is noted in DATA_DIR/applied.
"""

import json
import sys
from pathlib import Path

from farebox import __version__
from farebox.core.bus import PROTOCOL

settings = json.loads(sys.stdin.readline())["running"]
data_dir = Path(settings["data_dir"])
other = data_dir / "reload"
chosen = json.loads(other.read_text()) if other.exists() else {}
settings |= chosen.pop("settings", {})
about = {"protocol": PROTOCOL, "version": __version__, "problems": [], "notes": []}
sys.stdout.write(json.dumps({**about, "settings": settings, **chosen}) + "\n")
sys.stdout.flush()
if sys.stdin.readline():
    (data_dir / "applied").touch()
    sys.stdout.write('{"problems": [], "notes": ["Something is amiss."]}\n')
