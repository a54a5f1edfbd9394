"""Patterns of secrets and of personal data, chosen so that a find is rarely chance.

Tokens are told by the prefixes that their issuers give them for that purpose;
numbers by their check digits. Each pattern begins behind a character that it
cannot contain and has bounded repetitions, so that no text takes long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_APART = r"(?<![A-Za-z0-9_-])"
_TOKENS: tuple[tuple[str, str], ...] = (
    ("a private key", r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY-----"),
    ("an AWS access key id", _APART + r"(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    ("a GitHub token", _APART + r"(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60})"),
    ("a GitLab token", _APART + r"glpat-[A-Za-z0-9_-]{20}"),
    ("an API key", _APART + r"sk-(?=[A-Za-z_-]{0,200}[0-9])[A-Za-z0-9_-]{40}"),
    ("a Stripe key", _APART + r"[rs]k_live_[A-Za-z0-9]{24}"),
    ("a Google API key", _APART + r"AIza[A-Za-z0-9_-]{35}"),
    ("a Hugging Face token", _APART + r"hf_[A-Za-z0-9]{34}"),
    ("a Slack token", _APART + r"xox[abeprs]-[0-9A-Za-z-]{20}"),
    (
        "a JSON web token",
        _APART + r"eyJ[A-Za-z0-9_-]{10,4000}\.eyJ[A-Za-z0-9_-]{17,4000}\.[A-Za-z0-9_-]{10}",
    ),
)
_SECRET = re.compile("|".join(f"({pattern})" for _, pattern in _TOKENS), re.ASCII)
_SECRET_MARKS = tuple(
    mark.encode()
    for mark in (
        "-----BEGIN", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_",
        "glpat-", "sk-", "k_live_", "AIza", "hf_", "xox", "eyJ",
    )
)  # fmt: skip

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})"
    r"(?![A-Za-z0-9-])"
)
_PHONE = re.compile(
    r"(?<![\w+])\+[1-9][0-9 ().-]{6,20}[0-9](?![0-9])"
    r"|(?<![\w(.-])(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}(?![\w-])",
    re.ASCII,
)
_FICTIONAL = re.compile(r"555[ .-]?01[0-9]{2}$")
_CARD = re.compile(
    r"(?<![\w.-])(?:[0-9]{13,16}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5})(?![\w-])",
    re.ASCII,
)
_CARD_ISSUER = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15})|5[1-5][0-9]{14}|2(?:2[2-9]|[3-6][0-9]|7[01])[0-9]{13}"
    r"|3[47][0-9]{13}|6(?:011|5[0-9]{2})[0-9]{12}"
)
_IBAN = re.compile(
    r"(?<![\w])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.ASCII
)

# Names that RFC 2606 and RFC 6761 keep free for examples are nobody's.
_NOBODYS = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$", re.I)

SENSITIVE = (
    "-----BEGIN",
    "(?:AKIA|ASIA)[A-Z2-7]{16}",
    "gh[pousr]_[A-Za-z0-9]{36}",
    r"github_pat_\w{60}",
    "glpat-[A-Za-z0-9_-]{20}",
    "sk-[A-Za-z0-9_-]{40}",
    "[rs]k_live_[A-Za-z0-9]{24}",
    "AIza[A-Za-z0-9_-]{35}",
    "hf_[A-Za-z0-9]{34}",
    "xox[abeprs]-[0-9A-Za-z-]{20}",
    "eyJ[A-Za-z0-9_-]{10}",
    "@",
    r"\+[1-9][0-9 ().-]{6}",
    r"[2-9][0-9]{2}[) .-]{1,2}[2-9][0-9]{2}[ .-][0-9]{4}",
    "[0-9]{13}",
    "(?:[0-9]{4}[ -]){3}[0-9]{4}",
    "3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}",
    "[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2}",
)
"""Find, and more than they, whatever the patterns above find, for a search for all at once.

They look at nothing around a find and repeat little, so that one automaton reads each byte once.
"""

_DIGITS_ALONE = bytes(48 if 48 <= byte <= 57 else 120 for byte in range(256))
_SHORTEST_NUMBER = b"0" * 8
_WORDS_ALONE = bytes(
    120 if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"_-") else 32
    for byte in range(256)
)
# The shortest secret of all patterns but private keys, whose mark is of dashes, has 20 letters.
_LONG_WORD = b"x" * 20


def secret_marks(words: bytes) -> bool:
    """Tell whether a search for secrets in `words`, UTF-8, could find any."""
    # Most texts have no word that is long enough for a token, which is quicker to tell.
    if _LONG_WORD not in words.translate(_WORDS_ALONE) and b"-----" not in words:
        return False
    return any(mark in words for mark in _SECRET_MARKS)


def personal_marks(words: bytes) -> bool:
    """Tell whether a search for personal data in `words`, UTF-8, could find any."""
    return b"@" in words or _SHORTEST_NUMBER in words.translate(_DIGITS_ALONE, b" ().-")


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield where something in `text` looks like a secret, and what kind."""
    for match in _SECRET.finditer(text):
        # Documentation shows tokens that say themselves that they are none.
        if not match.group().endswith("EXAMPLE"):
            yield match.start(), f"what looks like {_TOKENS[(match.lastindex or 1) - 1][0]}"


def personal_data_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield where something in `text` looks like personal data, and what kind."""
    # The search for an address tries each word, so that texts without the sign are spared it.
    for match in _EMAIL.finditer(text) if "@" in text else ():
        if not _NOBODYS.search(match.group(1)):
            yield match.start(), "an e-mail address"
    for match in _PHONE.finditer(text):
        if 8 <= len(_digits(match.group())) <= 15 and not _FICTIONAL.search(match.group()):
            yield match.start(), "what looks like a phone number"
    for match in _CARD.finditer(text):
        if _is_card(_digits(match.group())):
            yield match.start(), "what looks like a payment card's number"
    for match in _IBAN.finditer(text):
        if _is_iban(match.group().replace(" ", "")):
            yield match.start(), "what looks like a bank account's number (IBAN)"


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _is_card(digits: str) -> bool:
    """Tell whether `digits` begin as an issuer's do and have the check digit of ISO/IEC 7812-1."""
    if not _CARD_ISSUER.fullmatch(digits):
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def _is_iban(text: str) -> bool:
    """Tell whether `text` has the check digits of ISO 13616: modulo 97 it is 1."""
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1
