"""eval: how well recall finds the turns that answer a question, without any language model."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from memlane.cli.ingest import ingest_file
from memlane.cli.output import table
from memlane.cli.session import Session, connected
from memlane.client import Client
from memlane.files import Question, read_questions

_HITS = 10


@dataclass(frozen=True, slots=True)
class Score:
    """Means over questions.

    Attributes:
        category: LoCoMo's, or None for all together.
        questions: how many.
        recall_at_10: the share of a question's evidence turns among the first ten hits.
        hit_at_10: the share of questions with at least one of them there.
        mrr: the mean of 1 / rank of the first of them.
    """

    category: int | None
    questions: int
    recall_at_10: float
    hit_at_10: float
    mrr: float


@connected
def evaluate(
    session: Session, file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A LoCoMo file.")]
) -> None:
    """Ingest a LoCoMo file, ask its questions of categories 1 to 4, and score the turns that come back.

    Example: memlane eval examples/conversation.json
    """
    questions = read_questions(file)
    with session.client() as client:
        ingest_file(client, session.out, file, wait=True)
        with session.out.progress("asked     ") as progress:
            ranks = [(question, _ranks(client, question)) for question in progress.track(questions, description="")]
    scores = [score(None, ranks)]
    by_category: defaultdict[int, list[tuple[Question, Sequence[int]]]] = defaultdict(list)
    for question, found in ranks:
        by_category[question.category].append((question, found))
    scores += [score(category, found) for category, found in sorted(by_category.items())]
    rows = [
        (s.category or "all", s.questions, f"{s.recall_at_10:.3f}", f"{s.hit_at_10:.3f}", f"{s.mrr:.3f}")
        for s in scores
    ]
    session.out.result(scores, table("", ["category", "questions", "recall@10", "hit@10", "MRR"], rows))


def _ranks(client: Client, question: Question) -> list[int]:
    """The ranks, from 1, of the hits that are evidence."""
    recalled = client.recall(question.agent, question.text, limit=_HITS)
    return [rank for rank, hit in enumerate(recalled, 1) if hit.memory.key in question.evidence]


def score(category: int | None, ranks: Sequence[tuple[Question, Sequence[int]]]) -> Score:
    """The means over questions with the ranks, from 1, at which their evidence was found."""
    count = len(ranks)
    return Score(
        category=category,
        questions=count,
        recall_at_10=sum(len(found) / len(question.evidence) for question, found in ranks) / count,
        hit_at_10=sum(bool(found) for _, found in ranks) / count,
        mrr=sum(1 / found[0] for _, found in ranks if found) / count,
    )
