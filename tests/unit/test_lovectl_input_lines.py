"""`lovectl send --input` names the line and the field of what it can't send."""

from pathlib import Path

import pytest

from lovectl.input_lines import BadLine, read_input


def test_a_line_needs_no_more_than_an_amount(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"amount": 1}\n\n{"amount": 2, "continent": "Asia", "content": {"a": "b"}}\n')
    lines = read_input(path)
    assert [line.amount for line in lines] == [1, 2]
    assert lines[1].continent == "Asia"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{", ""),
        ('{"amount": 0}', "amount"),
        ('{"amount": 1.5}', "amount"),
        ('{"nonce": 1}', "amount"),
        ('{"amount": 1, "amount": 2}', "amount"),
        ('{"amount": 1, "love": 2}', "love"),
        ('{"amount": 1, "continent": "Atlantis"}', "continent"),
        ('{"amount": 1, "recipient": "me"}', "recipient"),
        ('{"amount": 1, "position": {"latitude_e7": 1}}', "position.longitude_e7"),
    ],
)
def test_a_bad_line_is_named_with_its_field(tmp_path: Path, line: str, field: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"amount": 1}\n' + line + "\n")
    with pytest.raises(BadLine) as error:
        read_input(path)
    assert error.value.number == 2
    assert error.value.field == field
    assert str(error.value).startswith("line 2: ")
