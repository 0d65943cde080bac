import pytest

from samecast.models.words import find_phrase, word_starts

WHOLE = frozenset({"<bos>", "<new1>"})


def positions(prompt: str, phrase: str) -> tuple[int, ...]:
    tokens = prompt.split()
    return find_phrase(tokens, phrase.split(), word_starts(tokens, WHOLE))


@pytest.mark.parametrize(
    ("prompt", "phrase", "expected"),
    [
        ("<bos> a</w> dog</w> runs</w>", "dog</w>", (2,)),
        ("<bos> a</w> dog</w> and</w> a</w> dog</w>", "dog</w>", (2, 5)),
        ("<bos> a</w> d o g</w>", "d o g</w>", (2, 3, 4)),
        ("<bos> <new1> dog</w>", "<new1> dog</w>", (1, 2)),
        ("<bos> <new1> dog</w>", "<new1>", (1,)),
        # The end of another word is not the word.
        ("<bos> h o t d o g</w>", "d o g</w>", ()),
        ("<bos> a</w> cat</w>", "dog</w>", ()),
        ("<bos> a</w>", "", ()),
    ],
)
def test_a_phrase_is_found_as_whole_words(prompt: str, phrase: str, expected: tuple[int, ...]) -> None:
    assert positions(prompt, phrase) == expected
