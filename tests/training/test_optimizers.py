"""Rates over the steps."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from training.checkpoints import load_state, save_state
from training.dreambooth_config import Schedule
from training.optimizers import make_schedule

STEPS = 20


def started(name: str) -> tuple[torch.optim.Optimizer, Any]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    return optimizer, make_schedule(name, optimizer, 0.1, warmup=4, steps=STEPS)


def rates(optimizer: torch.optim.Optimizer, schedule: Any, count: int) -> list[float]:
    """The rates of the next `count` steps."""
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_one_cycle_rises_for_three_tenths_and_falls_to_nothing() -> None:
    found = rates(*started("one_cycle"), STEPS)
    top = found.index(max(found))
    assert top == 5 and found[top] == pytest.approx(0.1)
    assert found[0] == pytest.approx(0.1 / 25)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] < 1e-6


def test_a_warm_up_rises_and_stays() -> None:
    found = rates(*started("constant_with_warmup"), STEPS)
    assert found[:5] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert set(found[4:]) == {0.1}


@pytest.mark.parametrize("name", get_args(Schedule))
def test_a_schedule_goes_on_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    whole = rates(*started(name), STEPS)
    optimizer, schedule = started(name)
    rates(optimizer, schedule, 7)
    parts = {"optimizer": optimizer, "schedule": schedule}
    save_state(tmp_path / "state.pt", {key: part.state_dict() for key, part in parts.items()})
    state = load_state(tmp_path / "state.pt")
    assert state is not None
    optimizer, schedule = started(name)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    assert rates(optimizer, schedule, STEPS - 7) == whole[7:]
