"""What `findings` says, in the language of the application."""

from __future__ import annotations

from ..sentences import Sentence
from .host import translate


def said(sentence: str) -> str:
    """The translation of a sentence that remembers what it was made of; any other text as it is.

    A translation whose placeholders are not those of the original is not used, as in `slicer.i18n.tr`.
    """
    if not isinstance(sentence, Sentence):
        return sentence
    values = {name: said(value) if isinstance(value, str) else value for name, value in sentence.values.items()}
    try:
        return translate(sentence.context, sentence.template).format(**values)
    except (KeyError, IndexError, ValueError):
        return str(sentence)
