"""What a text looks like it should not be learnt for; and that reports never repeat it."""

from __future__ import annotations

from io import BytesIO

import orjson
import pytest

from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.validation import Finding, ValidationOptions

# Put together here, so that no scanner of source code takes them for real ones.
AWS = "AKIA" + "QYLPMN5HFIQR7XYA"
GITHUB = "ghp" + "_" + "0aB1cD2eF3" * 3 + "gH4iJ5"
HUGGING_FACE = "hf" + "_" + "aBcDeFgHiJ" * 3 + "kLmN"
OPENAI = "sk" + "-proj-" + "A1b2C3d4E5" * 4
SLACK = "xoxb" + "-" + "123456789012-abcdefghijkl"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N"
PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"


def findings_in(text: str) -> list[Finding]:
    """Return what is found in an answer that is `text`, beside an answer that is sound."""
    rows = [[text, "What?"], ["Nothing of note.", "Why?"]]
    turns = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for answer, asked in rows
    ]
    file = b"\n".join(orjson.dumps({"messages": messages}) for messages in turns)
    return list(validate(Sources(BytesIO(file)), ValidationOptions(minimum=1)).findings)


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        (AWS, "an AWS access key id"),
        (GITHUB, "a GitHub token"),
        (HUGGING_FACE, "a Hugging Face token"),
        (OPENAI, "an API key"),
        (SLACK, "a Slack token"),
        (JWT, "a JSON web token"),
        (PRIVATE_KEY, "a private key"),
    ],
)
def test_a_secret_is_warned_of_by_its_kind_and_place_and_never_repeated(
    secret: str, kind: str
) -> None:
    (found,) = findings_in(f"Use {secret} here.")

    assert (found.rule, found.severity) == ("suspected_secret", "warn")
    assert (found.line, found.pointer) == (1, "/messages/1/content")
    assert found.message.startswith("Line 1, /messages/1/content, character 5: what looks like ")
    assert kind in found.message
    assert secret[4:12] not in found.message


@pytest.mark.parametrize(
    "text",
    [
        "The task-oriented sk-learn pipeline with sk-based naming is fine.",
        "AKIA is the prefix of such keys, AKIAIOSFODNN7EXAMPLE is shown in manuals.",
        "Set hf_token or HF_TOKEN; ghp_ is how they begin.",
        "eyJ is how base64 of an object begins.",
        "The sha is 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.",
    ],
)
def test_what_is_merely_like_a_secret_is_left_alone(text: str) -> None:
    assert findings_in(text) == []


@pytest.mark.parametrize(
    ("datum", "kind"),
    [
        ("maria.keller@posteo.de", "e-mail"),
        ("+49 170 1234567", "phone"),
        ("(415) 867-5309", "phone"),
        ("4012 8888 8888 1881", "card"),
        ("378282246310005", "card"),
        ("GB82 WEST 1234 5698 7654 32", "IBAN"),
        ("DE89370400440532013000", "IBAN"),
    ],
)
def test_personal_data_is_warned_of_and_never_repeated(datum: str, kind: str) -> None:
    (found,) = findings_in(f"Call or write: {datum}, please.")

    assert (found.rule, found.severity) == ("personal_data", "warn")
    assert kind in found.message
    assert datum not in found.message


@pytest.mark.parametrize(
    "text",
    [
        "Write to you@example.com or admin@mail.test.",
        "Call (415) 555-0123.",
        "Card 4012 8888 8888 1882 fails its check digit.",
        "DE88370400440532013000 fails its check digits.",
        "The order 12345678901234567890 and 2024-01-31 10:20:30 are no numbers of anyone.",
        "3.14159265358979 and 1,000,000,000 are numbers; 192.168.100.200 is an address.",
    ],
)
def test_what_is_merely_like_personal_data_is_left_alone(text: str) -> None:
    assert findings_in(text) == []


@pytest.mark.parametrize(
    ("text", "rule", "says"),
    [
        ("a\x07b", "control_characters", "U+0007"),
        ("a\x85b", "control_characters", "U+0085"),
        ("a\ufffdb", "broken_characters", "U+FFFD"),
        ("CafÃ© au lait", "broken_characters", "Latin-1"),
        ("Itâ€™s", "broken_characters", "Latin-1"),
    ],
)
def test_broken_and_control_characters_are_warned_of(text: str, rule: str, says: str) -> None:
    (found,) = findings_in(text)

    assert (found.rule, found.severity) == (rule, "warn")
    assert says in found.message


@pytest.mark.parametrize("text", ["a\tb\r\nc", "Café, NÃO, Âge, â and € are letters: 5 °C ©"])
def test_letters_and_line_breaks_are_left_alone(text: str) -> None:
    assert findings_in(text) == []


def test_one_place_is_named_for_each_text_and_each_place_is_counted() -> None:
    row = {
        "messages": [
            {"role": "user", "content": f"{GITHUB} and {GITHUB}"},
            {"role": "assistant", "content": f"Not {SLACK}!"},
        ]
    }
    report = validate(Sources(BytesIO(orjson.dumps(row))), ValidationOptions(minimum=1))

    assert report.counts == {"suspected_secret": 2}
    assert [found.pointer for found in report.findings] == [
        "/messages/0/content",
        "/messages/1/content",
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    ["-eyJaaaaaaaaaaa." * 50_000, "1 " * 500_000, "a." * 500_000 + "@", "+1 " * 300_000,
     "sk-" * 300_000, "AA00 AAAA" * 100_000 + "12345678"],
)  # fmt: skip
def test_no_text_makes_the_search_slow(text: str) -> None:
    findings_in(text)


def test_a_key_with_half_a_character_is_told_by_its_escape() -> None:
    row = b'{"prompt": "a", "completion": "me@real.org", "\\ud800": "me@real.org"}'
    report = validate(Sources(BytesIO(row)), ValidationOptions(minimum=1))
    assert [finding.pointer for finding in report.findings] == ["/completion", "/\\ud800"]
    assert report.model_dump_json()
