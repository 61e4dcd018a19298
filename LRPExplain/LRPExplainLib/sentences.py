"""Sentences that remember what they were made of, so that Slicer can say them in the user's language.

Written as in Slicer's own modules, `_("{share} of it").format(share=...)`, which is what Slicer's tool for translators
looks for. They are English text for everybody else.
"""

from __future__ import annotations

from typing import Any


class Sentence(str):
    """English text.

    Attributes:
        context: of the translation: folder and file, as `slicer.i18n` and Slicer's tool for translators name it.
        template: the text with placeholders.
        values: what they stand for; sentences among them are translated too.
    """

    context: str
    template: str
    values: dict[str, Any]

    def __new__(cls, context: str, template: str, **values: Any) -> Sentence:
        made = super().__new__(cls, template.format(**values) if values else template)
        made.context, made.template, made.values = context, template, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        """For copies."""
        return (self.context, self.template), self.values

    def format(self, *_args: Any, **values: Any) -> Sentence:
        """The same with the placeholders filled."""
        return Sentence(self.context, self.template, **values)


class Sentences:
    """`_ = Sentences("folder.file")` at the top of a module."""

    def __init__(self, context: str) -> None:
        self._context = context

    def __call__(self, text: str) -> Sentence:
        return Sentence(self._context, text)
