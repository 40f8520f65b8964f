"""The labelling page of Label Studio, made from the vocabulary: what may be chosen, and where texts go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from stage_a_pipeline.exports.photos import KINDS
from stage_a_pipeline.records import LABELS
from stage_a_pipeline.vocabulary import VOCABULARY, Dataset

IMAGE: Final = "image"
VERDICT: Final = "verdict"
KIND: Final = "kind"
SUMMARY: Final = "summary"
CATEGORIES: Final = "categories"

Control = Literal["choices", "textarea"]


@dataclass(frozen=True, slots=True)
class Question:
    """One attribute on the page: its control's name, and what may be chosen; free text without values."""

    category: str
    attribute: str
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.category}.{self.attribute}"


@dataclass(frozen=True, slots=True)
class Page:
    """All that may be chosen of the vocabularies of these missions."""

    categories: tuple[str, ...]
    questions: Mapping[str, Question]


def page_of(datasets: Iterable[Dataset]) -> Page:
    """Categories and attributes of these vocabularies, each once, in their order."""
    categories: dict[str, None] = {}
    questions: dict[str, Question] = {}
    for category in (category for dataset in datasets for category in VOCABULARY[dataset]):
        categories[category.name] = None
        for attribute in category.attributes:
            question = Question(category.name, attribute.name, attribute.values)
            questions.setdefault(question.name, question)
    return Page(tuple(categories), questions)


def labelling_config(page: Page) -> bytes:
    """The page as Label Studio's XML."""
    view = Element("View")
    SubElement(view, "Header", value="$title", size="4")
    SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", rotateControl="true")
    SubElement(view, "Header", value="通过 / 不通过 (pass / fail)", size="5")
    _choices(view, VERDICT, LABELS, choice="single")
    SubElement(view, "Header", value="摘要 (summary)", size="5")
    _text(view, SUMMARY, rows="4", most=1)
    _choices(view, KIND, KINDS, choice="single")
    SubElement(view, "Header", value="类别 (categories)", size="5")
    _choices(view, CATEGORIES, page.categories, choice="multiple")
    for question in page.questions.values():
        shown = SubElement(
            view,
            "View",
            visibleWhen="choice-selected",
            whenTagName=CATEGORIES,
            whenChoiceValue=question.category,
        )
        SubElement(shown, "Header", value=f"{question.category} {question.attribute}", size="6")
        if question.values:
            _choices(shown, question.name, question.values, choice="multiple")
        else:
            _text(shown, question.name, rows="1", most=20)
    indent(view)
    text: bytes = tostring(view, encoding="utf-8")
    return text + b"\n"


def _choices(parent: Element, name: str, values: Iterable[str], *, choice: str) -> None:
    control = SubElement(parent, "Choices", name=name, toName=IMAGE, choice=choice, showInline="true")
    for value in values:
        SubElement(control, "Choice", value=value)


def _text(parent: Element, name: str, *, rows: str, most: int) -> None:
    """A field for up to `most` texts; Label Studio shows it until there are as many."""
    SubElement(
        parent, "TextArea", name=name, toName=IMAGE, rows=rows, editable="true", maxSubmissions=str(most)
    )
