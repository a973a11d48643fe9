"""Masking of secrets within texts, in time that grows with the text alone.

Every pattern keeps to two rules, so that no text makes it slow: repeats before the point where it
is clear that a secret follows are bounded, and what follows is consumed, closed or not, so that no
part of the text is looked at twice. (`re` holds the GIL while it works: a slow pattern would stop
every thread of the process, heartbeats included.)
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from triggers_core.texts import MASK, MAX_TEXT

MARGIN: Final = 4_096
"""Characters beyond a cut that are looked at, too: a secret at the cut must not be half shown."""

# -- secrets that show by themselves ---------------------------------------------------------------

# user:password@ of a URL. The authority of a URL ends at the first / ? or #, and its last @ ends
# the password.
_USERINFO = re.compile(r"(?<=://)([^:@/?#\s\[]*):([^/?#\s]*)@")
# A password with an unescaped / ? or # in it is no valid URL, and must not be shown all the same.
# A port looks alike: digits, then the path.
_BROKEN_USERINFO = re.compile(r"(?<=://)([^:@/?#\s\[]*):(?!\*\*\*@|\d{1,5}[/?#])(\S{0,300})@")
# The credentials of an HTTP header, wherever they are. As short as this, they could be a word.
_SCHEME = re.compile(r"\b(bearer|basic)(\s{1,20})([\w.~+/-]{16,}=*)", re.IGNORECASE)
# Up to its end, or to the end of the text.
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]*(?:-(?!----END )[^-]*)*", re.ASCII
)
# One whose beginning has been cut off.
_REST_OF_KEY = re.compile(r"\A[\w+/=\s\\]*(?=-----END [A-Z ]{0,30}PRIVATE KEY-----)", re.ASCII)

# -- secrets under a telling key -------------------------------------------------------------------

# An HTTP header, up to the end of its line or of the text in quotes that it is part of. Within a
# cookie, quotes may stand around a value.
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)([ \t]?:[ \t]?)"
    r"([^\s\"'](?:[^\r\n\"'=]|=\"[^\"\r\n]*\"?|=)*)",
    re.IGNORECASE,
)

_BLANKS: Final = r"[ \t]{0,20}"
_BLANK: Final = r"[ \t]{1,20}"
# What may stand between a key and its value, by how sure it is that a value follows.
_BETWEEN: Final = "|".join(
    (
        # key=value, key => value, password: str = value; "key": value; d["key"] = value
        rf"(?P<sure>{_BLANKS}(?:=>|:=|->|=(?!=)|:[ \t][\w.\[\]|]{{1,40}}[ \t]=[ \t]){_BLANKS}"
        rf"|\\{{0,3}}[\"']{_BLANKS}(?::|=>|=(?!=)){_BLANKS}"
        rf"|\\{{0,3}}[\"']\]{_BLANKS}=(?!=){_BLANKS})",
        # key: value, as in YAML and prose. Messages such as "token: expected a text" look alike.
        rf"(?P<colon>{_BLANKS}:{_BLANKS}(?=\S))",
        rf"(?P<is>{_BLANK}(?:is|was){_BLANK}(?=\S))",
        # ("key", "value"), ["--key", "value"]: the callback looks at what is in front of it
        rf"(?P<comma>\\{{0,3}}[\"'],{_BLANKS}(?=[bru]{{0,2}}\\{{0,3}}[\"']))",
        rf"(?P<flag>{_BLANK}(?=[^\s-]))",
        # <key>value</key>
        r"(?P<tag>[^<>\n]{0,80}>(?=[^<]))",
    )
)

_PAIR_BEFORE: Final = re.compile(r"[(\[][ \t]?[bru]{0,2}\\{0,3}[\"'][\w.-]{0,40}$")
_FLAG_BEFORE: Final = re.compile(r"(?<![\w-])--?[\w.-]{0,40}$")
_TAG_BEFORE: Final = re.compile(r"<[\w:.-]{0,40}$")
_KEY_WINDOW: Final = 50

# A text in quotes as Python and JSON write it, perhaps cut, perhaps within another text.
_QUOTED: Final = re.compile(
    r"""[bruBRU]{0,2}(?:"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|'[^'\\\n]*(?:\\.[^'\\\n]*)*'?)"""
    r"""|[bruBRU]{0,2}\\{1,3}(?:"[^"\n]*"?|'[^'\n]*'?)"""
)
_BRACKETS: Final = re.compile(r"[\[({]")
_IN_BRACKETS: Final = re.compile(r"[\[({\])}\"'\n]")
_WORD: Final = re.compile(r"[^&;,\s]*[^&;,\s\"')\]}]")
_BLOCK: Final = re.compile(r"[|>][-+]?[ \t]*\r?\n[ \t]+[^\n]*")  # of YAML
_TAG_END: Final = re.compile(r"[^<]*")
_PROSE_WORD: Final = re.compile(r"[^\s,;]+")
_CLOSING: Final = "\"'`.:!?)]}"
_ENDS_CLAUSE: Final = re.compile(r"[ \t]*(?:$|[\r\n,;)\]}\"'])", re.MULTILINE)

# Words that say something about a secret, and are none.
_NO_SECRET: Final = re.compile(
    r"\w*(?:error|exception|warning)(?:\(.*)?"
    r"|missing|required|optional|invalid|valid|expired|revoked|none|null|nil|true|false|yes|no|not"
    r"|ok|refused|denied|wrong|empty|unset|set|unknown|here|there|given|expected|rejected|accepted"
    r"|str|int|bool|bytes|text|string|optional\[.*",
    re.IGNORECASE,
)
# How a sentence about a password goes on.
_SENTENCE: Final = re.compile(
    r"a|an|the|this|that|these|those|your|my|its|it|must|should|shall|may|can|cannot|can't|could"
    r"|is|was|are|be|has|had|have|does|do|did|will|would|too|at|in|of|for|from|by|with|as|if|or|and"
    r"|but|only|use|uses|used|using|enter|please|got|check|see|ask|try|field|contains|longer"
    r"|shorter|minimum|maximum|between|neither|nor|could|failed|fails|found|reset|changed",
    re.IGNORECASE,
)
_PASSWORD: Final = re.compile(r"passw|passphrase|pwd", re.IGNORECASE)


@lru_cache(maxsize=64)
def _keys(secret: re.Pattern[str]) -> re.Pattern[str]:
    """Matches a telling key in a text, up to where its value begins."""
    return re.compile(rf"(?:{secret.pattern})[\w.-]{{0,40}}(?:{_BETWEEN})", re.IGNORECASE)


def mask_text(text: str, secret: re.Pattern[str], size: int = MAX_TEXT) -> str:
    """Mask the secrets in a text; of one that is longer than `size`, only its ends are kept.

    :param secret: the keys whose values are masked.
    """
    text = str.__str__(text)  # the text itself, whatever a subclass shows
    if len(text) <= size:
        return _masked(text, secret)
    return _masked_ends(text, secret, size)


def _masked_ends(text: str, secret: re.Pattern[str], size: int) -> str:
    half = size // 2
    reach = half + MARGIN
    if len(text) <= 2 * reach:
        whole = _masked(text, secret)
        if len(whole) <= size:
            return whole
        head, tail = whole[:half], whole[len(whole) - half :]
        return f"{head}{_left_out(len(text) - 2 * half)}{tail}"
    # What is near the inner end of each part is not shown: a secret there may have been cut.
    head, tail = _masked(text[:reach], secret), _masked(text[-reach:], secret)
    head = head[: max(0, min(half, len(head) - MARGIN))]
    tail = tail[max(len(tail) - half, min(MARGIN, len(tail))) :]
    return f"{head}{_left_out(len(text) - 2 * half)}{tail}"


def _left_out(count: int) -> str:
    return f"\n… {count:,} characters left out …\n"


def _masked(text: str, secret: re.Pattern[str]) -> str:
    if "://" in text:
        text = _USERINFO.sub(rf"\1:{MASK}@", text)
        text = _BROKEN_USERINFO.sub(rf"\1:{MASK}@", text)
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub(rf"\1{MASK}", text)
        text = _REST_OF_KEY.sub(lambda found: MASK if len(found[0]) > 3 else found[0], text)
    if secret.search(text):
        text = _HEADER.sub(rf"\1\2{MASK}", text)
        text = _mask_pairs(text, _keys(secret))
    return _SCHEME.sub(rf"\1\2{MASK}", text)


def _mask_pairs(text: str, keys: re.Pattern[str]) -> str:
    parts: list[str] = []
    position = 0
    while found := keys.search(text, position):
        begin = found.end()
        end = _value_end(text, found)
        parts.append(text[position:begin])
        if end > begin:
            parts.append(MASK)
        position = end
    parts.append(text[position:])
    return "".join(parts)


def _value_end(text: str, found: re.Match[str]) -> int:
    """Where the secret after a key ends; where it would begin, if it is none."""
    begin, kind = found.end(), found.lastgroup
    if kind == "sure":
        return _end(text, begin) or begin
    before = text[max(0, found.start() - _KEY_WINDOW) : found.start()]
    if kind == "tag":
        ahead = _TAG_BEFORE.search(before)
        return _TAG_END.match(text, begin).end() if ahead else begin  # type: ignore[union-attr]
    if kind == "comma":
        ahead = _PAIR_BEFORE.search(before) or _FLAG_BEFORE.search(before)
        return (_end(text, begin) or begin) if ahead else begin
    if kind == "flag" and not _FLAG_BEFORE.search(before):
        return begin
    certain = kind != "is" and _PASSWORD.search(found[0]) is not None
    return _prose_end(text, begin, sure_at_end=kind != "is", certain=certain)


def _end(text: str, begin: int) -> int | None:
    """Where the value that begins here ends: a text in quotes, brackets, a block, a word."""
    quoted = _QUOTED.match(text, begin) or _BLOCK.match(text, begin)
    if quoted:
        return quoted.end()
    if _BRACKETS.match(text, begin):
        return _brackets_end(text, begin)
    word = _WORD.match(text, begin)
    return word.end() if word else None


def _brackets_end(text: str, begin: int) -> int:
    """Where brackets close again; the end of the line, if they do not."""
    depth, position = 0, begin
    while found := _IN_BRACKETS.search(text, position):
        mark, position = found[0], found.end()
        if mark == "\n":
            return found.start()
        if mark in "\"'":
            quoted = _QUOTED.match(text, found.start())
            position = quoted.end() if quoted else position
        elif mark in "[({":
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return position
    return len(text)


def _prose_end(text: str, begin: int, *, sure_at_end: bool, certain: bool) -> int:
    """As `_value_end`, where an ordinary sentence may follow.

    :param sure_at_end: whether the last word of a clause is taken for a secret whatever it is.
    :param certain: whether any word is that does not begin an ordinary sentence.
    """
    if text.startswith(MASK, begin):
        return begin
    if _QUOTED.match(text, begin) or _BLOCK.match(text, begin) or _BRACKETS.match(text, begin):
        return _end(text, begin) or begin
    found = _PROSE_WORD.match(text, begin)
    word = found[0].rstrip(_CLOSING) if found else ""
    if not found or not word or _NO_SECRET.fullmatch(word):
        return begin
    ends = sure_at_end and (found[0][len(word) :] > "" or _ENDS_CLAUSE.match(text, found.end()))
    certain = certain and not _SENTENCE.fullmatch(word)
    return begin + len(word) if ends or certain or _looks_secret(word) else begin


def _looks_secret(word: str) -> bool:
    """Whether a word looks like no word: letters and digits, symbols, capitals all over."""
    if len(word) < 4:
        return False
    letters = any(each.isalpha() for each in word)
    if len(word) > 4 and word.isupper():
        return True
    if letters and any(each.isdigit() or each in "!@$%^&*+=~|\\#" for each in word):
        return True
    humps = sum(a.islower() and b.isupper() for a, b in pairwise(word))
    return humps * 4 >= len(word)
