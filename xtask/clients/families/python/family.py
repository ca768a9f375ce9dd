"""family.py MODULE BOOTSTRAP: the story of ../README.md with the client that MODULE wraps."""
import importlib
import logging
import os
import sys

import story

# Shown where the story fails.
logging.basicConfig(level=getattr(logging, os.environ.get("FAMILY_LOG", "INFO")), format="%(asctime)s %(name)s %(message)s")
story.live(importlib.import_module(sys.argv[1]), sys.argv[2])
