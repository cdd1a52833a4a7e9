"""One training command in a process of its own, its steps timed from outside.

`python -m benchmarks.timed_steps THREADS ours ARGUMENTS...` runs our trainer, a path instead of
`ours` one of diffusers' example scripts. The last line printed is JSON: seconds of each step,
seconds of processor in each (which other programs of the machine do not lengthen as they do the
former), and the peak memory in GiB.
"""

import itertools
import json
import resource
import sys
import time
from pathlib import Path

import torch


def main() -> None:
    """Run the command with the ends of its optimizer's steps written down."""
    torch.set_num_threads(int(sys.argv[1]))
    command, arguments = sys.argv[2], sys.argv[3:]
    ends: list[tuple[float, float]] = []
    plain = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: object, **kwargs: object) -> object:
        result = plain(self, *args, **kwargs)
        ends.append((time.perf_counter(), time.process_time()))
        return result

    torch.optim.AdamW.step = step  # type: ignore[method-assign, assignment]
    if command == "ours":
        from training.__main__ import main as train

        if train(["dreambooth", *arguments]):
            sys.exit("our trainer failed")
    else:
        run_script(Path(command), arguments)
    pairs = list(itertools.pairwise(ends))
    seconds = [end[0] - start[0] for start, end in pairs]
    processor = [end[1] - start[1] for start, end in pairs]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n" + json.dumps({"seconds": seconds, "processor_seconds": processor, "peak_gib": peak}))


def run_script(path: Path, arguments: list[str]) -> None:
    """Run one of diffusers' scripts as its own command line would.

    They take a U-Net of six channels for one that predicts a variance too; the embedded base has
    six latent channels, so that check is taken out.
    """
    source = path.read_text(encoding="utf-8").replace(".shape[1] == 6:", ".shape[1] == -1:")
    sys.argv = [str(path), *arguments]
    exec(compile(source, str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})


if __name__ == "__main__":
    main()
