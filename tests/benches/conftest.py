"""Programs in `benches/` are not installed; their tests import them from the folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benches"))
