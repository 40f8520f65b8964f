"""Stage-B's verdicts on groups, from true summaries and from the checkpoint's own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from stage_a_pipeline.errors import RecordError
from stage_a_pipeline.evaluation.scores import Reading
from stage_a_pipeline.evaluation.truth import MissionTruth, Truth
from stage_a_pipeline.places import Place
from stage_a_pipeline.prompts import Prompt, verdict_prompt
from stage_a_pipeline.records import Label
from stage_a_pipeline.stage_b.answer import read_verdict
from stage_a_pipeline.stage_b.answers import TextAnswers


@dataclass(frozen=True, slots=True)
class TicketTruth:
    """A group whose photos all have a truth: its verdict, and its prompts.

    `from_answers` is None where a photo was rejected: such a group never reaches Stage-B.
    """

    mission: str
    verdict: Label
    from_truth: Prompt
    from_answers: Prompt | None


@dataclass(frozen=True, slots=True)
class VerdictScores:
    """Shares over groups. `format` is over all answers, from the truth and from answers alike."""

    groups: int
    format: float | None
    accuracy_from_truth: float | None
    accuracy_from_answers: float | None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The scores over all groups, and those of each mission that has any."""

    total: VerdictScores
    per_mission: Mapping[str, VerdictScores]

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        missions = {name: asdict(scores) for name, scores in self.per_mission.items()}
        return {**asdict(self.total), "per_mission": missions}


def list_tickets(truth: MissionTruth, readings: Sequence[Reading], *, source: Place) -> list[TicketTruth]:
    """The mission's groups whose photos all have a truth.

    RecordError when lines of one group, of the sidecar `source`, disagree about its verdict.
    """
    by_path = {reading.path: reading for reading in readings}
    tickets = []
    for index, group in enumerate(truth.groups):
        places = [(index, image) for image in range(1, len(group.images) + 1)]
        truths = [truth.truths[place] for place in places if place in truth.truths]
        if len(truths) < len(places):
            continue
        photos = [by_path[known.path] for known in truths]
        complete = all(photo.rejected is None for photo in photos)
        tickets.append(
            TicketTruth(
                mission=truth.mission.name,
                verdict=_agreed_verdict(truths, source) or group.label,
                from_truth=verdict_prompt(truth.mission, [photo.truth for photo in photos]),
                from_answers=verdict_prompt(truth.mission, [photo.answer for photo in photos])
                if complete
                else None,
            )
        )
    return tickets


def score_verdicts(tickets: Sequence[TicketTruth], answer: TextAnswers) -> Verdicts:
    """The verdicts' scores, in total and per mission. `answer` is called once, with each prompt once."""
    prompts = [prompt for one in tickets for prompt in (one.from_truth, one.from_answers) if prompt]
    asked = list(dict.fromkeys(prompts))
    verdicts = {
        prompt: read_verdict(text) for prompt, text in zip(asked, answer(asked) if asked else [], strict=True)
    }
    missions = sorted({ticket.mission for ticket in tickets})
    per_mission = {
        name: _score([ticket for ticket in tickets if ticket.mission == name], verdicts) for name in missions
    }
    return Verdicts(_score(tickets, verdicts), per_mission)


def _score(tickets: Sequence[TicketTruth], verdicts: Mapping[Prompt, Label | None]) -> VerdictScores:
    from_truth = [verdicts[ticket.from_truth] for ticket in tickets]
    # A group that never reaches Stage-B has no verdict, and that is not the true one.
    asked = [ticket.from_answers for ticket in tickets]
    from_answers = [None if prompt is None else verdicts[prompt] for prompt in asked]
    written = from_truth + [verdicts[prompt] for prompt in asked if prompt is not None]
    true = [ticket.verdict for ticket in tickets]
    return VerdictScores(
        groups=len(tickets),
        format=_share([verdict is not None for verdict in written]),
        accuracy_from_truth=_share([a == b for a, b in zip(from_truth, true, strict=True)]),
        accuracy_from_answers=_share([a == b for a, b in zip(from_answers, true, strict=True)]),
    )


def _agreed_verdict(truths: Sequence[Truth], source: Place) -> Label | None:
    """What the sidecar says of the group: its verdict, else its label; None where it says neither."""
    for name in ("verdict", "label"):
        said = [(truth, getattr(truth, name)) for truth in truths if getattr(truth, name) is not None]
        for truth, value in said:
            if value != said[0][1]:
                raise RecordError(
                    name,
                    f"{value!r} of {truth.path} contradicts {said[0][1]!r} of the same group on line "
                    f"{said[0][0].line}; a group has one",
                    line=truth.line,
                    source=str(source),
                )
        if said:
            verdict: Label = said[0][1]
            return verdict
    return None


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
