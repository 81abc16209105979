"""Summaries by selection: the sentences of a document that say most about it, in its own words.

A word weighs much when it is frequent in its document and rare in the others (tf-idf, after Spärck Jones,
1972), and a sentence as much as its words do on average, with a bonus for standing early (Edmundson, 1969).

Pure functions: text in, text out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A sentence with fewer words than that (stop words apart) says too little to be quoted.
MIN_WORDS = 4
# Added to a sentence's length when its weight is averaged, so that short sentences do not win by one rare word.
DAMPING = 6
# A sentence with more words than that loses weight in proportion: nobody wants a digest of long sentences.
MAX_WORDS = 20
# How much more the first sentence weighs than a late one; the second gets half of that, the third a third.
LEAD_BONUS = 0.5
# A sentence that shares more of its words than that with one already chosen would only repeat it.
MAX_OVERLAP = 0.5


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the words in it that count."""

    text: str
    words: list[str]


def analyse(markdown: str) -> list[Sentence]:
    """Return a document's sentences in order; fragments only where it has no whole sentences."""
    sentences = [Sentence(text, words(text)) for text in split_sentences(plain_text(markdown))]
    whole = [s for s in sentences if _SENTENCE_END.search(s.text) and len(s.words) >= MIN_WORDS]
    return whole or [s for s in sentences if s.words]


def rarity(documents: Iterable[list[Sentence]]) -> dict[str, float]:
    """Return each word's inverse document frequency: 1 for a word of every document, more for a rare one."""
    vocabularies = [{word for sentence in document for word in sentence.words} for document in documents]
    frequency = Counter(word for vocabulary in vocabularies for word in vocabulary)
    return {word: 1 + math.log((1 + len(vocabularies)) / (1 + n)) for word, n in frequency.items()}


def summarise(document: list[Sentence], rare: dict[str, float], count: int) -> list[str]:
    """Return a document's ``count`` best sentences (fewer where it has not as many), in their own order.

    Args:
        document: its sentences.
        rare: each word's inverse document frequency among all documents.
        count: how many sentences to choose.
    """
    frequency = Counter(word for sentence in document for word in sentence.words)
    weight = {word: (1 + math.log(n)) * rare[word] for word, n in frequency.items()}

    def score(position: int) -> float:
        found = document[position].words
        average = sum(weight[word] for word in set(found)) / (len(found) + DAMPING)
        return average * min(1, MAX_WORDS / len(found)) * (1 + LEAD_BONUS / (1 + position))

    chosen: list[int] = []
    for position in sorted(range(len(document)), key=score, reverse=True):
        if len(chosen) == count:
            break
        if all(_overlap(document[position], document[other]) <= MAX_OVERLAP for other in chosen):
            chosen.append(position)
    return [document[position].text for position in sorted(chosen)]


def _overlap(one: Sentence, other: Sentence) -> float:
    """Return the share of the shorter sentence's words that stand in the longer one, too."""
    a, b = set(one.words), set(other.words)
    return len(a & b) / min(len(a), len(b))


# --- text ----------------------------------------------------------------------------------------------

_CODE_BLOCK = re.compile(r"^ *(```|~~~).*?^ *\1[^\n]*$", re.MULTILINE | re.DOTALL)
_NOT_PROSE = re.compile(r"^( {4}|\t| *(#|\||[-=*_]{3,} *$|!\[|<))")
_LIST_MARK = re.compile(r"^ *([-*+]|\d+[.)]) +")
# Bounded, so that a text full of opening brackets costs no more than another.
_LINK = re.compile(r"!?\[([^\]]{0,300})\](\([^)]{0,2000}\)|\[[^\]]{0,300}\])")
_MARKUP = re.compile(r"\*\*|__|`|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)|<[^>\n]{1,300}>|^ *> ?", re.MULTILINE)


def plain_text(markdown: str) -> str:
    """Return the prose of a Markdown text as paragraphs: no code, headings, tables, links or emphasis.

    A list item is a paragraph of its own. Text without any Markdown stays as it is.
    """
    lines = []
    for line in _CODE_BLOCK.sub("", markdown).splitlines():
        if _NOT_PROSE.match(line):
            lines.append("")
        elif _LIST_MARK.match(line):
            lines += ["", _LIST_MARK.sub("", line)]
        else:
            lines.append(line)
    return _MARKUP.sub("", _LINK.sub(r"\1", "\n".join(lines))).strip()


def heading(markdown: str) -> str | None:
    """Return a Markdown text's first heading."""
    found = re.search(r"^# +(.+)$", _CODE_BLOCK.sub("", markdown), re.MULTILINE)
    return found and found[1].rstrip("# ")


# Brackets and quotation marks, straight and curly, that may stand before and after a sentence.
_OPENING = "([\"'\u201c\u2018"
_CLOSING = ")]\"'\u201d\u2019"
_SENTENCE_END = re.compile(rf"[.!?…][{re.escape(_CLOSING)}]*$")
# The end of a sentence before a next one, which does not begin with a small letter.
_SENTENCE_BREAK = re.compile(rf"[.!?…][{re.escape(_CLOSING)}]*\s+(?=[{re.escape(_OPENING)}]*[^\W_a-z])")
_ABBREVIATIONS = frozenset(
    {"al", "cf", "dr", "e.g", "etc", "fig", "i.e", "mr", "mrs", "ms", "no", "prof", "st", "vs"}
)


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; a sentence ends at the latest with its paragraph."""
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        start = 0
        for found in _SENTENCE_BREAK.finditer(line):
            last_word = line[start : found.start()].rpartition(" ")[2].lstrip(_OPENING).casefold()
            if last_word not in _ABBREVIATIONS and not _is_initial(last_word):
                yield line[start : found.end()].rstrip()
                start = found.end()
        if start < len(line):
            yield line[start:]


def _is_initial(word: str) -> bool:
    return len(word) == 1 and word.isalpha()


_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_ENGLISH = """
a about above after again against all also although always am an and another any are around as at away
back be became because become been before being below between both but by can cannot could did do does
doing done down during each either else enough even ever every few first for from further get gets given
go goes had has have having he hence her here hers him his how however i if in indeed instead into is it
its itself just last least less let like made make makes many may me might mine more most much must my
neither never no none nor not nothing now of off often on once one only or other others our ours out over
own per perhaps put quite rather same see shall she should since so some something soon still such take
than that the their theirs them then there therefore these they this those though through thus to too
toward towards two under until up upon us use used very was way we well were what when where whether which
while who whole whom whose why will with within without would yet you your yours
"""
_STOP_WORDS = frozenset(_ENGLISH.split())


def words(text: str) -> list[str]:
    """Return the words of a text that carry meaning, in small letters: no stop words, letters or numbers."""
    found = (match[0].casefold() for match in _WORD.finditer(text))
    return [word for word in found if len(word) > 1 and word not in _STOP_WORDS]
