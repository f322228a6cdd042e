"""One cold start, measured: `python one_start.py BEGUN` with an event on standard input; prints seconds as JSON. See `figures.py`.

`BEGUN`: the monotonic clock, which is one for all processes, just before this process was started.
"""

import sys
import time

entered = time.monotonic()
entered_cpu = time.process_time()

import handler  # noqa: E402 - its import is what is measured

imported = time.monotonic()
import_cpu = time.process_time()

import json  # noqa: E402 - imported by then
from typing import Any  # noqa: E402


def call(event: dict[str, Any]) -> float:
    begun = time.perf_counter()
    answer = handler.handler(event, None)
    took = time.perf_counter() - begun
    if answer["statusCode"] != 200:
        raise SystemExit(f"the call failed: {answer}")
    return took


def main() -> None:
    event = json.load(sys.stdin)
    first = call(event)
    ready, cpu = time.monotonic(), time.process_time()
    # The cache begins to watch the key beside the first call, and drops what it had before the watch began.
    time.sleep(0.3)
    call(event)
    cached = min(call(event) for _ in range(20))
    without = []
    for _ in range(5):
        handler.client().forget_data_keys()
        without.append(call(event))
    begun = float(sys.argv[1])
    print(
        json.dumps(
            {
                "interpreter": entered - begun,
                "import": imported - entered,
                "import_cpu": import_cpu - entered_cpu,
                "first_call": first,
                "start_to_first_decrypt": ready - begun,
                "start_to_first_decrypt_cpu": cpu,
                "call_connected": min(without),
                "call_cached": cached,
            }
        )
    )


if __name__ == "__main__":
    main()
