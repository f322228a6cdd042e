"""Stands for the provider's runtime: events by line on standard input, answers by line on standard output, one process.

python figures.py --event | python runtime.py
"""

from __future__ import annotations

import json
import sys

from handler import handler

if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(handler(json.loads(line), None), ensure_ascii=False), flush=True)
