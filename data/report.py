"""Counts what was kept and dropped, per group (a breed, or a folder of photos) and in total."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Group:
    """The account of one breed."""

    spanish: str = ""
    """Its name in Spanish."""
    found: int = 0
    """Files in its folder."""
    kept: int = 0
    dropped: list[dict[str, str]] = field(default_factory=list)
    """source, reason and, where there is more to say, detail; one for each photo."""
    missing: list[str] = field(default_factory=list)
    """Photos that an official list names and that are not there; not part of `found`."""
    clipped: int = 0
    """Kept photos whose box stuck out of the picture and was cut to it."""

    def drop(self, source: str, reason: str, detail: str = "") -> None:
        """Enters a dropped photo."""
        entry = {"source": source, "reason": reason}
        self.dropped.append(entry | ({"detail": detail} if detail else {}))

    def summary(self) -> dict[str, Any]:
        """As it stands in report.json; `found` is `kept` plus `dropped`."""
        assert self.found == self.kept + len(self.dropped)
        return {
            "spanish": self.spanish,
            "found": self.found,
            "kept": self.kept,
            "dropped": len(self.dropped),
            "reasons": dict(Counter(entry["reason"] for entry in self.dropped).most_common()),
            "missing": len(self.missing),
            "clipped_boxes": self.clipped,
        }


@dataclass
class Report:
    """The account of a whole run."""

    groups: dict[str, Group] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    """Things beside the breeds' folders."""

    def group(self, name: str) -> Group:
        """The account of `name`, opened on first use."""
        return self.groups.setdefault(name, Group())

    def summary(self) -> dict[str, Any]:
        """As it stands in report.json: totals, then each group with its dropped photos."""
        summaries = {name: group.summary() for name, group in self.groups.items()}
        counts = ("found", "kept", "dropped", "missing", "clipped_boxes")
        reasons: Counter[str] = Counter()
        for summary in summaries.values():
            reasons.update(summary["reasons"])
        return {
            "totals": {key: sum(summary[key] for summary in summaries.values()) for key in counts}
            | {"reasons": dict(reasons.most_common())},
            "breeds": {
                name: summary
                | {
                    "dropped_photos": self.groups[name].dropped,
                    "missing_photos": self.groups[name].missing,
                }
                for name, summary in summaries.items()
            },
            "ignored": self.ignored,
        }
