"""The tokenizer: `python -m training.tokenizer` learns CLIP's byte-pair encoding on captions.

Every byte, and every byte with the end-of-word mark, has an entry, so that any text encodes and nothing falls through
to the unknown token. Special tokens come last, as in CLIP: the end token has the largest id.
"""

import json

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from samecast.diorama.captions import caption
from samecast.diorama.scenes import sample_spec
from training.data import ROOT

START, END = "<|startoftext|>", "<|endoftext|>"
GENERAL = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "you",
    "that",
    "he",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "by",
    "words",
    "but",
    "not",
    "what",
    "all",
    "were",
    "we",
    "when",
    "your",
    "can",
    "said",
    "there",
    "use",
    "an",
    "each",
    "which",
    "she",
    "do",
    "how",
    "their",
    "if",
    "will",
    "up",
    "other",
    "about",
    "out",
    "many",
    "then",
    "them",
    "these",
    "so",
    "some",
    "her",
    "would",
    "make",
    "like",
    "him",
    "into",
    "time",
    "has",
    "look",
    "two",
    "more",
    "go",
    "see",
    "no",
    "way",
    "could",
    "people",
    "my",
    "than",
    "first",
    "water",
    "been",
    "who",
    "its",
    "now",
    "find",
    "long",
    "down",
    "day",
    "did",
    "get",
    "come",
    "made",
    "may",
    "part",
    "photo",
    "picture",
    "drawing",
    "painting",
    "portrait",
    "style",
    "close",
    "far",
    "away",
    "zoomed",
    "very",
    "small",
    "large",
    "big",
    "tiny",
    "good",
    "bad",
    "dark",
    "bright",
    "light",
    "high",
    "low",
    "quality",
    "red",
    "green",
    "blue",
    "old",
    "new",
    "house",
    "street",
    "city",
    "tree",
    "mountain",
    "sky",
    "sun",
    "moon",
    "rain",
    "flower",
    "table",
    "plant",
    "car",
    "boat",
    "ball",
    "toy",
    "plush",
    "ring",
    "penguin",
    "corgi",
    "rabbit",
    "horse",
    "bird",
    "fish",
    "man",
    "woman",
    "child",
    "sleeping",
    "jumping",
    "walking",
    "eating",
    "playing",
    "behind",
    "front",
    "next",
    "under",
    "above",
    "between",
    "left",
    "right",
    "background",
]


def main() -> None:
    """Learn and save to `runs/tokenizer`."""
    rng = np.random.default_rng(0)
    texts = [caption(sample_spec(index), rng).text for index in range(20_000)] + [" ".join(GENERAL)] * 50
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", behavior="removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=1536, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False),
    )
    learned = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    entries = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(merge) for merge in merges]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    vocabulary |= {START: len(vocabulary), END: len(vocabulary) + 1}
    made = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=77,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
    made.save_pretrained(ROOT / "tokenizer")
    print(len(vocabulary), "entries;", made.tokenize("a photo of a striped dog running on the beach, facing left"))
    strange = "Größe ∂ 猫 <new1> zyxwv 😀 123"
    print(strange, "->", made.tokenize(strange), "->", made.decode(made(strange).input_ids, skip_special_tokens=True))


if __name__ == "__main__":
    main()
