"""Puts this folder where its modules are found: the workers are started from it too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
