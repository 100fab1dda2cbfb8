"""What the hard tests count."""

from collections import Counter
from dataclasses import dataclass, field

COLUMNS = ("tried", "survived", "refused", "accepted rightly", "tracebacks", "silent", "orphans")
WRONG = COLUMNS[4:]


@dataclass
class Tally:
    """Outcomes by area, and a line for each that is wrong."""

    areas: dict[str, Counter] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def add(self, area: str, outcome: str, what: str = "") -> None:
        """Count an outcome, one of COLUMNS[1:], of something tried; `what` says which."""
        counts = self.areas.setdefault(area, Counter())
        counts.update(["tried", outcome])
        if outcome in WRONG:
            self.lines.append(f"- {area}: {outcome}: {' '.join(what.split())[:300]}")

    def __str__(self) -> str:
        rows = [*self.areas.items(), ("all", sum(self.areas.values(), Counter()))]
        table = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        table += [f"| {area} | {' | '.join(str(counts[column]) for column in COLUMNS)} |" for area, counts in rows]
        return "\n".join([*table, *self.lines])
