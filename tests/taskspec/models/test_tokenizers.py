import pytest

from taskspec.errors import ModelError
from taskspec.models.tokenizers import check_same_tokenizer


class Vocabulary:
    """The part of a tokenizer that is compared."""

    def __init__(self, *tokens, eos_token="</s>"):
        self.tokens, self.eos_token = tokens, eos_token
        self.eos_token_id = tokens.index(eos_token)

    def get_vocab(self):
        return {token: index for index, token in enumerate(self.tokens)}


def test_equal_tokenizers_pass(tiny_tokenizer):
    check_same_tokenizer(tiny_tokenizer, tiny_tokenizer)


def test_first_differing_token_is_named():
    with pytest.raises(ModelError, match="'b' is 2 for the target and 3"):
        check_same_tokenizer(Vocabulary("</s>", "a", "b", "c"), Vocabulary("</s>", "a", "c", "b"))


def test_other_end_token_is_refused():
    ours, theirs = Vocabulary("</s>", "<e>"), Vocabulary("</s>", "<e>", eos_token="<e>")
    with pytest.raises(ModelError, match="</s>"):
        check_same_tokenizer(ours, theirs)
