"""Text in a user's message that is not the user speaking: code, quotes, mails, blobs, role markers.

A forged instruction arrives as often through what a user pastes as through a tool, so what
looks pasted is masked before any rule reads it (docs/security.md). Masks keep the length, so
spans found in the masked text are spans of the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

INLINE = "\x1a"
"""Fills a masked quotation inside a sentence: it is no word and no space."""

_ROLE_LINE = re.compile(
    r"(?i)[ \t>*#\-]{0,8}(?:\[|<|\*\*|\()?(?:system|assistant|human|user|ai|bot|developer|tool|function|model|"
    r"ipython|instruction|instructions|new instructions?|system (?:message|prompt|note|override|update)|"
    r"administrator|admin|root|override)(?:\]|>|\*\*|\))?[ \t]{0,4}[:：=]"
)
"""At the start of a line that holds a colon or an equals sign."""
_ROLE_COLON = re.compile("[:：=]")
_ROLES = {
    "<": re.compile(r"(?i)<(?:\|[^|\n]{1,40}\|>|</?SYS>>|/?s>|(?:start|end)_of_turn>)"),
    "[": re.compile(r"(?i)\[(?:/?INST|system|user|assistant)\]"),
    "##": re.compile(r"(?im)^#{2,6} ?(?:instruction|system|response|input|human|assistant|user)s?\b"),
    "---": re.compile(r"(?i)(?<!-)-{3,} ?(?:BEGIN|START|END)\b"),
    "begin ": re.compile(r"(?i)\bBEGIN (?:SYSTEM|INSTRUCTION|PROMPT|ADMIN)"),
}
"""Role markers that stand anywhere, by text in small letters without which there is none."""
_MAIL = re.compile(
    r"(?im)^(?:subject|from|to|cc|bcc|sent|re|fwd?|betreff|von|an|objet|asunto|de|oggetto|assunto|onderwerp|件名|主题)"
    r"[ \t]?[:：][ \t]?\S"
    r"|^(?:dear|liebe[rs]?|sehr geehrte[rs]?|cher|chère|estimad[oa]|querid[oa]|gentile|caro|cara|"
    r"prezad[oa]|beste|geachte) [^\n,]{1,40},[ \t]*\n"
    r"|^-{2,} ?(?:original|forwarded) message|^on [^\n]{6,80} wrote:[ \t]*$"
)
_COLON = re.compile(r"[:：](?=[ \t]*\n|[ \t]*\x1a|[ \t]+\S)|：")
_INTRODUCER_WORDS = (
    "email e-mail mail message article text document doc docs page website site post tweet review letter "
    "transcript log logs output error code snippet file files content contents paragraph excerpt quote passage "
    "report readme ticket response prompt story conversation chat abstract section comment comments description "
    "result results resume cv essay draft lyrics poem sentence wikipedia manual policy he she it they friend "
    "boss user customer assistant tool instruction instructions say says said wrote write writes told read reads "
    "state states reply replied quoted posted colleague sign label book mom mum dad wife husband nachricht "
    "artikel datei seite texte courriel fichier correo mensaje texto archivo testo messaggio arquivo bericht "
    "tekst bestand summarise summarize translate proofread rewrite rephrase edit fix check review analyse "
    "analyze explain paraphrase simplify correct improve classify extract convert refactor debug complete "
    "continue grade traduis traduire résume résumer traduce traduci riassumi traduza resuma vertaal "
)
_INTRODUCERS = frozenset(_INTRODUCER_WORDS.split())
"""Words that say of what follows a colon that somebody else wrote it, or that it is to be worked on."""
_INTRODUCING = ("zusammenfass", "fass", "übersetz", "korrigier")
_INTRODUCED_UNSPACED = re.compile("邮件|文章|文本|翻译|总结|メール|記事|翻訳|要約")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_REACH = 100
"""Characters before a colon in which the word that introduces a paste is looked for."""
_OWN = re.compile(
    r"(?i)\b(?:my|our|these|following) (?:own )?(?:rules?|preferences?|requirements?|constraints?|wishes|instructions|"
    r"guidelines|conditions|restrictions|needs|facts|details|info)\b|\b(?:about me|keep in mind|remember|note|rules)\b"
)
_GREETING = re.compile(
    r"(?im)^(?:hi|hello|hey|hallo|bonjour|hola|ciao|olá|good (?:morning|afternoon)) ?[^\n,!]{0,40}[,!][ \t]*$"
)
_SIGN_OFF = re.compile(
    r"(?im)^(?:(?:best|kind|warm|many)? ?(?:regards|wishes)|best|sincerely|cheers|yours [^\n,]{2,20}|viele grüße|"
    r"mit freundlichen grüßen|cordialement|saludos|cordiali saluti|atenciosamente|groeten),?[ \t]*$"
)
_FENCE = re.compile(r"(?m)^[ \t]{0,8}(?:```|~~~)|```")
_QUOTED_LINE = re.compile(r"(?m)^[ \t]{0,8}(?:>|\||│)[^\n]*")
_INDENTED = re.compile(r"(?m)^(?:    |\t)[^\n]*")
_RULED = re.compile(r"(?m)^[ \t]*(?:-{3,}|={3,}|\*{3,}|_{3,}|~{4,}|<{3,}|>{3,}|\"\"\"|''')[^\n]*$|\"\"\"")
_RULES = frozenset("-=*_~<>\"'")
"""Without one of these at the beginning of a line, or three quotation marks, nothing is ruled off."""
_TAG = re.compile(r"<(/?)([A-Za-z][\w:-]{0,40})(?:\s[^<>\n]{0,200})?/?>")
_QUOTES = {
    '"': r"\"[^\"\n]{1,20000}\"",
    "'": r"'(?<![\w']')(?:[^'\n]|(?<=\w)'(?=\w)){8,600}'(?![\w'])",
    "`": r"`[^`\n]{1,400}`",
    "“": r"“[^“”\n]{1,20000}”",
    "„": r"„[^„“”\n]{1,2000}[“”]",
    "«": r"«[^«»\n]{1,2000}»",
    "「": r"「[^「」\n]{1,2000}」",
    "『": r"『[^『』\n]{1,2000}』",
    "‘": r"‘(?<![\w‘]‘)[^‘\n]{8,600}?’(?!\w)",
}
"""Quotations by the mark that opens them, those of ASCII first."""
_ASCII_QUOTES = ('"', "'", "`")
_JSON = re.compile(r"(?m)[{\[](?=\s{0,40}[\"'{\[])|^[ \t]*\{")
_BRACKET = re.compile(r"[{}\[\]]")
_OPEN_QUOTE = re.compile(r"(?m)[\"“](?<![^\s:][\"“])(?=\w[^\"“”\n]{60,}$)")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\u206a-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff\x00-\x08\x0b\x0e-\x1f\x7f\u0080-\u0084\u0086-\u009f]"
    "|(?<=[^\\W\\d_])\u200d|\u200d(?=[^\\W\\d_])"
)
_VISIBLE = bytes(code for code in range(128) if not _INVISIBLE.match(chr(code)))
_MAYBE_DOUBTFUL = re.compile(
    "[\u00ad\u034f\u0370-\u03ff\u0400-\u04ff\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\uff21-\uff5a\U000e0000-\U000e0fff\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]"
)
"""Without one of these among its characters a message hides nothing."""
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]{2,8}")
_MIXED = re.compile(
    "[A-Za-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][A-Za-z]|[\uff21-\uff3a\uff41-\uff5a]{3}"
)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A message with all that is not the user's own speech masked, same length as the message."""

    text: str
    pasted: bool
    """A block was masked, or all that follows a role marker."""
    doubtful: bool
    """Invisible characters, mixed alphabets or control characters: nothing here may bind unasked."""
    whole_quote: bool
    """The entire message stood in one pair of quotation marks, which were taken as decoration."""


def _block(length: int) -> str:
    """What stands for a masked block: it ends sentences and begins few lines."""
    return "\n" * length if length < 3 else "\n" + " " * (length - 2) + "\n"


def _inline(length: int) -> str:
    """What stands for a masked quotation."""
    return INLINE * length


def _cover(text: str, spans: list[tuple[int, int]], filler: Callable[[int], str]) -> str:
    """The text with each span filled; spans may overlap."""
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for start, end in sorted(spans):
        if end <= position:
            continue
        first = max(start, position)
        parts += (text[position:first], filler(end - first))
        position = end
    parts.append(text[position:])
    return "".join(parts)


def _blobs(text: str) -> list[tuple[int, int]]:
    """JSON-like values with brackets that balance, and the rest of the text after one that does not."""
    spans: list[tuple[int, int]] = []
    position = 0
    for found in _JSON.finditer(text):
        start = found.end() - 1 if text[found.end() - 1] in "{[" else found.start()
        if start < position:
            continue
        depth = 0
        end = len(text)
        for bracket in _BRACKET.finditer(text, start):
            depth += 1 if bracket.group() in "{[" else -1
            if depth <= 0:
                end = bracket.end()
                break
        if end - start > 12:
            spans.append((start, end))
        position = end
    return spans


def _tagged(text: str) -> list[tuple[int, int]]:
    """From an opening tag to the last closing tag of the same name."""
    closings: dict[str, int] = {}
    tags = list(_TAG.finditer(text))
    for tag in tags:
        if tag.group(1):
            closings[tag.group(2).lower()] = tag.end()
    return [
        (tag.start(), closings[tag.group(2).lower()])
        for tag in tags
        if not tag.group(1) and closings.get(tag.group(2).lower(), -1) > tag.start()
    ]


def _pairs(text: str, marker: re.Pattern[str], *, lone_to_end: bool) -> list[tuple[int, int]]:
    """Between each odd marker and the next one; an unclosed one reaches to the end if asked."""
    marks = [(found.start(), found.end()) for found in marker.finditer(text)]
    spans = [(marks[i][0], marks[i + 1][1]) for i in range(0, len(marks) - 1, 2)]
    if len(marks) % 2 and lone_to_end:
        spans.append((marks[-1][0], len(text)))
    return spans


def _colons(text: str) -> Iterator[re.Match[str]]:
    """The colons after which something is quoted."""
    if "：" in text:
        yield from _COLON.finditer(text)
        return
    at = text.find(":")
    while at >= 0:
        found = _COLON.match(text, at)
        if found:
            yield found
        at = text.find(":", at + 1)


def _introduced(text: str) -> list[tuple[int, int]]:
    """What follows "the email says:", "summarise this:" and the like."""
    for found in _colons(text):
        line_start = max(text.rfind("\n", max(0, found.start() - _REACH), found.start()) + 1, found.start() - _REACH, 0)
        before = text[line_start : found.start()].lower()
        words = _WORD.findall(before)
        introduced = (
            not _INTRODUCERS.isdisjoint(words)
            or any(word.startswith(_INTRODUCING) for word in words)
            or (not before.isascii() and _INTRODUCED_UNSPACED.search(before) is not None)
        )
        if introduced and not _OWN.search(before):
            return [(found.end(), len(text))]
    return []


def _letter(text: str, lines: list[str]) -> list[tuple[int, int]]:
    """A pasted letter: from a line that greets somebody to the line that signs off."""
    start = 0
    for line in lines[:-1]:
        if line and (line[-1] in ",!" or (line[-1] in " \t" and line.rstrip(" \t").endswith((",", "!")))):
            greeting = _GREETING.match(text, start)
            if greeting:
                return [(greeting.start(), len(text))] if _SIGN_OFF.search(text, greeting.end()) else []
        start += len(line) + 1
    return []


def spoken(text: str) -> Spoken:
    """The user's own speech in a message.

    Args:
        text: A user's message, as sent.

    Returns:
        The message with code, quotes, mails, blobs and whatever follows a role marker
        masked; the length is unchanged.
    """
    doubtful = _is_doubtful(text)
    text, whole_quote = _unquoted(text)
    blocked = _without_blocks(text)
    pasted = blocked != text
    text = blocked
    if not whole_quote:
        text = _without_quotes(text)
    # Last, so that a marker inside a paste does not hide where the paste ends.
    for marked in (_role_marker, _mail):
        start = marked(text)
        if start >= 0:
            pasted = True
            text = text[:start] + _block(len(text) - start)
    if _may_hold_base64(text):
        text = _cover(text, [found.span() for found in _BASE64.finditer(text)], _inline)
    return Spoken(text=text, doubtful=doubtful, whole_quote=whole_quote, pasted=pasted)


def _role_marker(text: str) -> int:
    """Where text begins that is laid in the mouth of the system or of another speaker; -1 if nowhere."""
    first = -1
    position = 0
    colons = ":" in text or "=" in text or "：" in text
    while colons and (found := _ROLE_COLON.search(text, position)):
        line = text.rfind("\n", position, found.start()) + 1 or position
        if _ROLE_LINE.match(text, line):
            first = line
            break
        position = text.find("\n", found.end()) + 1
        if position == 0:
            break
    low = text.lower()
    for mark, pattern in _ROLES.items():
        if mark[0] in low and mark in low:  # to look for a character alone costs little
            found = pattern.search(text)
            if found and (first < 0 or found.start() < first):
                first = found.start()
    return first


def _mail(text: str) -> int:
    """Where a mail begins; -1 if there is none."""
    if ":" in text or "：" in text or ("-" in text and "--" in text) or _has_comma_line(text):
        found = _MAIL.search(text)
        return found.start() if found else -1
    return -1


def _has_comma_line(text: str) -> bool:
    """Whether any line but the last may end with a comma."""
    return "," in text and (",\n" in text or " \n" in text or ("\t" in text and "\t\n" in text))


def _may_hold_base64(text: str) -> bool:
    """Whether anything runs on for 40 characters without a space."""
    place, last = 0, len(text) - 40
    while place <= last:
        space = text.rfind(" ", place, place + 40)
        if space < 0:
            return True
        place = space + 1
    return False


def _is_doubtful(text: str) -> bool:
    """Whether the message hides characters or mixes alphabets within words."""
    if text.isascii():
        return bool(text.encode().translate(None, _VISIBLE))
    if not _MAYBE_DOUBTFUL.search(text):
        return False
    bare = _FLAG.sub("", text) if "\U0001f3f4" in text else text
    return bool(_INVISIBLE.search(bare) or _MIXED.search(bare))


def _unquoted(text: str) -> tuple[str, bool]:
    """The message without the one pair of quotation marks it stands in, and whether it did."""
    inner = text.strip()
    if len(inner) < 3 or inner[0] not in '"“«' or inner[-1] not in '"”»' or "\n" in inner:
        return text, False
    if any(mark in inner[1:-1] for mark in '"“”«»'):
        return text, False
    start = text.index(inner)
    return f"{text[:start]} {inner[1:-1]} {text[start + len(inner) :]}", True


def _without_blocks(text: str) -> str:
    """Code, quoted lines, introduced pastes, letters, tagged and bracketed blobs masked.

    Each sort is looked for in the unmasked text: what one paste holds must not hide where
    another ends.
    """
    blocks: list[tuple[int, int]] = []
    if "```" in text or "~~~" in text:
        blocks += _pairs(text, _FENCE, lone_to_end=True)
    if ":" in text or "：" in text:
        blocks += _introduced(text)
    if ">" in text or "|" in text or "│" in text:
        blocks += [found.span() for found in _QUOTED_LINE.finditer(text)]
    if "\n" in text or '"""' in text:
        lines = text.split("\n")
        begins = {line.lstrip(" \t")[:1] for line in lines}
        if not _RULES.isdisjoint(begins) or '"""' in text:
            blocks += _pairs(text, _RULED, lone_to_end=True)
        if "    " in text or "\t" in text:
            blocks += [found.span() for found in _INDENTED.finditer(text)]
        blocks += _letter(text, lines)
    if "<" in text:
        blocks += _tagged(text)
    if "{" in text or "[" in text:
        blocks += _blobs(text)
    return _cover(text, blocks, _block)


@cache
def _quotes(marks: tuple[str, ...]) -> re.Pattern[str]:
    """The quotations that these marks open."""
    return re.compile("|".join(_QUOTES[mark] for mark in marks))


def _without_quotes(text: str) -> str:
    """Quotations inside sentences masked, and what follows a long one that never closes."""
    marks = tuple([mark for mark in (_ASCII_QUOTES if text.isascii() else _QUOTES) if mark in text])
    if not marks:
        return text
    quotes = [found.span() for found in _quotes(marks).finditer(text)]
    text = _cover(text, quotes, _inline)
    if '"' not in text and "“" not in text:
        return text
    lone = _OPEN_QUOTE.search(text)
    if lone is None:
        return text
    start = max(0, lone.start() - 1)
    return text[:start] + _block(len(text) - start)
