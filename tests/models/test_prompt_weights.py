import pytest

from models.prompt_weights import parse_weights


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a dog", [("a dog", 1.0)]),
        ("a (red) dog", [("a ", 1.0), ("red", 1.1), (" dog", 1.0)]),
        ("a (red:1.3) dog", [("a ", 1.0), ("red", 1.3), (" dog", 1.0)]),
        ("a [red] dog", [("a ", 1.0), ("red", 1 / 1.1), (" dog", 1.0)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(a (red:2) dog:0.5)", [("a ", 0.5), ("red", 1.0), (" dog", 0.5)]),
        (r"a \(red\) dog", [("a (red) dog", 1.0)]),
        ("at 10:30 (noon)", [("at 10:30 ", 1.0), ("noon", 1.1)]),
        ("(never closed", [("never closed", 1.1)]),
        ("never opened)", [("never opened)", 1.0)]),
        ("", []),
    ],
)
def test_weights_are_read_as_the_web_ui_reads_them(
    prompt: str, parts: list[tuple[str, float]]
) -> None:
    read = parse_weights(prompt)
    assert [text for text, _ in read] == [text for text, _ in parts]
    assert [weight for _, weight in read] == pytest.approx([weight for _, weight in parts])


@pytest.mark.parametrize("weight", ["11", "-1", "1.2.3"])
def test_a_weight_that_is_none_is_named(weight: str) -> None:
    with pytest.raises(ValueError, match=f"the weight '{weight}' is no number from 0 to 10"):
        parse_weights(f"a (dog:{weight})")
