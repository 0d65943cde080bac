"""The embedded model, in words: its name, what it knows, and what to take instead."""

EMBEDDED = "diorama"
KNOWS = (
    "only toy-like drawings of dogs, cats, bears, ducks, chairs and mugs, in plain colours, spots or stripes, and makes"
    " everything look like them"
)
INSTEAD = (
    "for real photos take a real checkpoint: --model stable-diffusion-v1-5/stable-diffusion-v1-5 (about 4 GB to"
    " download; it takes about 4 GB of GPU memory, or 8 GB of memory without a GPU)"
)
