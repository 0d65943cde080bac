"""The embedded world: procedural scenes whose identity, pose, view, background and mask are known exactly.

`scenes` says what is in a picture, `bodies` gives the subject its shape, `renderer` draws it, `captions` tells it in
words, and `probe` reads it back off any image. Nothing here knows of diffusion models.
"""
