"""`python -m benchmarks.cache.windows`: how wide should the window be? Hit ratios of the cache's policy with windows of
several widths on all traces, as part of the best there: of these, LRU and S3-FIFO. Some ten minutes."""

from __future__ import annotations

from functools import partial
from statistics import mean

from benchmarks.cache.policies import OURS, POLICIES, Chosen, hit_ratio
from benchmarks.cache.traces import FURTHER, LIMIT, OTHERS, TRACES

WIDTHS = (0.01, 0.02, 0.05, 0.1)


def main() -> None:
    """Print a line per trace, and the sums."""
    policies = {f"{width:.0%}": partial(Chosen, window_share=width) for width in WIDTHS}
    policies |= {name: make for name, make in POLICIES.items() if name != OURS}
    parts: dict[str, dict[str, float]] = {}
    print(*("trace", *policies), sep=" | ")
    for trace, make in (TRACES | OTHERS | FURTHER).items():
        requests = list(make())
        ratios = {name: hit_ratio(policy(LIMIT), requests).requests for name, policy in policies.items()}
        parts[trace] = {name: ratio / max(ratios.values()) for name, ratio in ratios.items()}
        print(
            trace, *(f"{ratios[name]:.3f} ({part:.2f})" for name, part in parts[trace].items()), sep=" | ", flush=True
        )
    for title, traces in (("the three", TRACES), ("the thirteen", FURTHER), ("all", parts)):
        sums = {name: [parts[trace][name] for trace in traces] for name in policies}
        print(title, *(f"{min(sums[name]):.2f}, mean {mean(sums[name]):.2f}" for name in policies), sep=" | ")


if __name__ == "__main__":
    main()
