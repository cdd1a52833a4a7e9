"""What is measured: each function runs both sides, one after the other, and gives its figures."""

import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import httpx

from benchmarks.load import body, burst, loops, percentile, shuffled
from benchmarks.servers import SIDES, Setting, environment, serve

MODEL = "dogbooth-base"
Figures = dict[str, Any]


def mixed(setting: Setting, seconds: float = 30) -> Figures:
    """Eight clients at 50 steps in a loop; how long does a client at 4 steps wait?"""
    figures: Figures = {}
    for side in SIDES:
        clients = [lambda n, i=i: body(MODEL, 50, 100 * i + n) for i in range(8)]
        clients.append(lambda n: body(MODEL, 4, 900 + n))
        with serve(side, setting) as address:
            latencies = loops(address, clients, seconds)[-1]
        figures[side] = {
            "p50_s": percentile(latencies, 0.5),
            "p95_s": percentile(latencies, 0.95),
            "requests": len(latencies),
        }
    figures["p95_ratio"] = figures["ours"]["p95_s"] / figures["baseline"]["p95_s"]
    figures["must"] = "p95_ratio <= 0.1"
    figures["holds"] = figures["p95_ratio"] <= 0.1
    return figures


def throughput(setting: Setting, counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)) -> Figures:
    """Bursts of waiting requests at 25 steps: pictures a second."""
    figures: Figures = {side: {} for side in SIDES}
    for side in SIDES:
        with serve(side, setting) as address:
            for count in counts:
                repeats = 5 if count == 1 else 1
                runs = [
                    burst(address, [body(MODEL, 25, n + 7 * again) for n in range(count)])
                    for again in range(repeats)
                ]
                latencies, seconds = min(runs, key=lambda run: run[1])
                figures[side][count] = {
                    "images_per_s": count / seconds,
                    "p50_s": percentile(latencies, 0.5),
                    "p95_s": percentile(latencies, 0.95),
                }
    ours, other = figures["ours"], figures["baseline"]
    figures["ratio"] = {n: ours[n]["images_per_s"] / other[n]["images_per_s"] for n in counts}
    figures["must"] = "ratio[16] >= 2.5, ratio[1] >= 0.97, ours never falling (5 % noise)"
    rising = all(
        ours[b]["images_per_s"] >= 0.95 * ours[a]["images_per_s"] for a, b in pairwise(counts)
    )
    figures["holds"] = figures["ratio"].get(16, 9) >= 2.5 and figures["ratio"][1] >= 0.97 and rising
    return figures


def sixteen_dogs(setting: Setting, seconds: float = 30) -> Figures:
    """Sixteen clients ask for sixteen adapters at random."""
    names = sorted(folder.name for folder in (setting.home / "models").iterdir())
    figures: Figures = {"adapters": len(names)}
    for side in SIDES:
        choices = [shuffled(names, seed) for seed in range(16)]
        clients = [
            lambda n, i=i, choice=choice: body(choice(n), 25, 100 * i + n)
            for i, choice in enumerate(choices)
        ]
        with serve(side, setting, adapters=True) as address:
            burst(address, [body(name, 1, 0) for name in names])  # loads them all
            started = time.perf_counter()
            latencies = loops(address, clients, seconds)
            elapsed = time.perf_counter() - started
        figures[side] = {"images_per_s": sum(map(len, latencies)) / elapsed}
    figures["ratio"] = figures["ours"]["images_per_s"] / figures["baseline"]["images_per_s"]
    figures["memory"] = adapter_memory(setting)
    figures["must"] = "ratio >= 2.5, memory of an adapter <= 1.1 x its file"
    figures["holds"] = figures["ratio"] >= 2.5 and figures["memory"]["worst_ratio"] <= 1.1
    return figures


def adapter_memory(setting: Setting) -> Figures:
    """Bytes that each adapter holds in memory beside its file's."""
    import torch

    from models.catalog import Catalog, embedded_folder
    from models.lora import read_adapter
    from models.manifest import ADAPTER_FILE
    from models.pipeline import load_pipeline

    catalog = Catalog([setting.home / "models", embedded_folder()])
    pipeline = load_pipeline(MODEL, catalog, torch.device("cpu"), torch.bfloat16)
    ratios = []
    for folder in (setting.home / "models").iterdir():
        entry = catalog.get(folder.name)
        adapter = read_adapter(entry, pipeline)
        ratios.append(adapter.size / (entry.folder / ADAPTER_FILE).stat().st_size)
    return {"worst_ratio": max(ratios)}


def other_endpoints(setting: Setting, seconds: float = 20) -> Figures:
    """How fast are /healthz and /models while pictures are being made?"""
    figures: Figures = {}
    with serve("ours", setting) as address:
        clients = [lambda n, i=i: body(MODEL, 25, 100 * i + n) for i in range(8)]
        load = threading.Thread(target=loops, args=(address, clients, seconds))
        load.start()
        with httpx.Client() as client:
            for path in ("/healthz", "/models"):
                latencies = []
                ending = time.perf_counter() + seconds / 2 - 1
                while time.perf_counter() < ending:
                    started = time.perf_counter()
                    client.get(address + path).raise_for_status()
                    latencies.append(time.perf_counter() - started)
                    time.sleep(0.02)
                figures[path] = {
                    "p50_ms": 1000 * percentile(latencies, 0.5),
                    "p99_ms": 1000 * percentile(latencies, 0.99),
                    "requests": len(latencies),
                }
        load.join()
    figures["must"] = "p99 <= 25 ms"
    figures["holds"] = all(figures[path]["p99_ms"] <= 25 for path in ("/healthz", "/models"))
    return figures


def start(setting: Setting) -> Figures:
    """From the start of the process to the first picture; and the import of api.main alone."""
    started = time.perf_counter()
    with serve("ours", setting):
        first = time.perf_counter() - started
    command = [sys.executable, "-c", "import api.main, sys; assert 'diffusers' not in sys.modules"]
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment("ours", setting, False))
    return {
        "first_picture_s": first,
        "import_api_main_s": time.perf_counter() - started,
        "must": "first_picture_s <= 10",
        "holds": first <= 10,
    }


def stable_diffusion(setting: Setting) -> Figures:
    """Stable Diffusion v1.5's architecture at 512 px: seconds a step and peak memory."""
    from tempfile import TemporaryDirectory

    figures: Figures = {}
    with TemporaryDirectory() as folder:
        for side in ("make", *SIDES):
            command = [sys.executable, "-m", "benchmarks.sd15", side, folder, str(setting.threads)]
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                env=environment("ours", setting, False),
            )
            if side != "make":
                seconds, peak = done.stdout.split()[-2:]
                figures[side] = {"s_per_step": float(seconds), "peak_gib": float(peak)}
    figures["ratio"] = figures["baseline"]["s_per_step"] / figures["ours"]["s_per_step"]
    figures["must"] = "ratio >= 2.4"
    figures["holds"] = figures["ratio"] >= 2.4
    return figures


SCENARIOS = {
    "mixed": mixed,
    "throughput": throughput,
    "sixteen_dogs": sixteen_dogs,
    "other_endpoints": other_endpoints,
    "start": start,
    "stable_diffusion": stable_diffusion,
}
