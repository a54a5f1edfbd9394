"""What can be wrong with a training file, and how its place is named."""

from __future__ import annotations

from enum import StrEnum

from tunesmith.domain.values import Value


class Severity(StrEnum):
    """What a problem means for a job."""

    ERROR = "error"
    """The row, or the file, cannot be trained on."""
    WARN = "warn"
    """It can; whether it should be, the owner of the data decides."""


class Rule(StrEnum):
    """What a problem is about: stable ids, for programs; `_WARNINGS` says which are no errors."""

    NOT_UTF8 = "not_utf8"
    """A byte is not UTF-8."""
    INVALID_JSON = "invalid_json"
    """The text is not JSON."""
    PRETTY_PRINTED = "pretty_printed"
    """One object is spread over several lines, outside an array."""
    DUPLICATE_KEY = "duplicate_key"
    """An object has the same key twice."""
    NUMBER_TOO_LONG = "number_too_long"
    """A whole number has more than 4,000 digits."""
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    """Arrays or objects are nested hundreds of levels deep."""
    ROW_TOO_LONG = "row_too_long"
    """A row exceeds 16 MiB."""
    NOT_AN_OBJECT = "not_an_object"
    """A row is JSON, but no object."""
    UNKNOWN_FORMAT = "unknown_format"
    """A row's keys are of no known format."""
    MIXED_FORMATS = "mixed_formats"
    """A row is of another format than the file's first one."""
    MISSING_KEY = "missing_key"
    """A required key is absent."""
    UNKNOWN_KEY = "unknown_key"
    """A key has no meaning here."""
    NOT_SUPPORTED = "not_supported"
    """A part of a content that OpenAI knows, but that cannot be trained on yet."""
    WRONG_TYPE = "wrong_type"
    """A value is of the wrong type."""
    WRONG_VALUE = "wrong_value"
    """A value is of the right type, but not one of those allowed."""
    EMPTY = "empty"
    """A text that must not be empty is."""
    NOT_UNICODE = "not_unicode"
    r"""An escape such as `\ud800` stands for half a character."""
    ROLE_ORDER = "role_order"
    """A message stands where its role cannot."""
    NOTHING_LEARNT = "nothing_learnt"
    """No answer of the conversation has weight 1."""
    UNDEFINED_TOOL = "undefined_tool"
    """A tool is called that the example does not define."""
    NO_OPEN_CALL = "no_open_call"
    """A tool's message answers no call, or one that is answered already."""
    WRONG_METHOD = "wrong_method"
    """The rows are of a known format, but not one that the method takes."""
    INVALID_GZIP = "invalid_gzip"
    """The file is packed by gzip, but damaged or cut."""
    INVALID_ZSTD = "invalid_zstd"
    """The file is packed by zstd, but damaged or cut."""
    INVALID_CSV = "invalid_csv"
    """A row of a CSV file has other cells than the header, or quotes that do not match."""
    INVALID_PARQUET = "invalid_parquet"
    """A Parquet file is damaged or cut, or a row of it holds what JSON cannot."""
    UNPACKED_TOO_LARGE = "unpacked_too_large"
    """Unpacked, a file is improbably larger than packed."""
    TOO_MANY_BAD_ROWS = "too_many_bad_rows"
    """More rows break a rule than may be set aside."""
    NO_EXAMPLES = "no_examples"
    """The file holds no row at all."""
    TOO_FEW_EXAMPLES = "too_few_examples"
    """The file holds fewer examples than a job needs."""
    EMPTY_ANSWER = "empty_answer"
    """There is nothing in an answer that is to be learnt."""
    DUPLICATE = "duplicate"
    """An earlier example says the same, letter by letter."""
    NEAR_DUPLICATE = "near_duplicate"
    """An earlier example says the same but for case, blanks and punctuation."""
    SAME_ANSWERS = "same_answers"
    """Both answers of a pair are the same, so that neither can be preferred."""
    OVERLAP = "overlap"
    """The validation file has the same example, but for case, blanks and punctuation."""
    CONTROL_CHARACTERS = "control_characters"
    """A text has control characters other than tab and line breaks."""
    BROKEN_CHARACTERS = "broken_characters"
    """A text was decoded wrongly before: U+FFFD, or UTF-8 that was read as Latin-1."""
    SUSPECTED_SECRET = "suspected_secret"  # noqa: S105  a name
    """A text has what looks like a private key or an access token."""
    PERSONAL_DATA = "personal_data"
    """A text has an e-mail address, a phone, card or account number."""
    OVER_LENGTH = "over_length"
    """An example has more tokens than the longest length."""
    ANSWER_CUT_AWAY = "answer_cut_away"
    """All that is to be learnt lies beyond the longest length."""
    TEMPLATE_REFUSED = "template_refused"
    """The model's chat template does not take such a conversation."""
    TOOLS_IGNORED = "tools_ignored"
    """The model's chat template leaves the tools out, or their calls."""
    ANSWER_NOT_FOUND = "answer_not_found"
    """The model's chat template does not show where the answer begins."""
    NO_NEGATIVES = "no_negatives"
    """A query has no passage to tell the right one from."""

    @property
    def severity(self) -> Severity:
        """What breaking the rule means, unless a job's policy says otherwise."""
        return Severity.WARN if self in _WARNINGS else Severity.ERROR


_WARNINGS = frozenset(
    {
        Rule.EMPTY_ANSWER,
        Rule.DUPLICATE,
        Rule.NEAR_DUPLICATE,
        Rule.SAME_ANSWERS,
        Rule.OVERLAP,
        Rule.CONTROL_CHARACTERS,
        Rule.BROKEN_CHARACTERS,
        Rule.SUSPECTED_SECRET,
        Rule.PERSONAL_DATA,
        Rule.OVER_LENGTH,
        Rule.ANSWER_CUT_AWAY,
        Rule.TEMPLATE_REFUSED,
        Rule.TOOLS_IGNORED,
        Rule.ANSWER_NOT_FOUND,
        Rule.NO_NEGATIVES,
    }
)


class Problem(Value):
    """A fault of a data file, its place and its mend."""

    line: int
    """Line of the fault, from 1; 0 where the file as a whole is meant."""
    element: int = 0
    """Number of the array's element at fault, from 1; 0 where none or no array is meant."""
    pointer: str
    """Place inside the row as a JSON pointer (RFC 6901); empty for the row itself."""
    rule: Rule
    """What it is about."""
    last: bool = False
    """Whether the file cannot be read beyond it."""
    message: str
    """The place, what is wrong there, and how to mend it, in one or two sentences."""


def place(line: int, element: int, *, pointer: str = "") -> str:
    """Return how a place is named: `Line 3, /output`, or in an array `Example 5 (line 1)`."""
    where = f"Example {element} (line {line})" if element else f"Line {line}"
    return f"{where}, {pointer}" if pointer else where
