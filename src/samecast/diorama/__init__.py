"""The embedded world: procedural scenes whose identity, pose, view, background and mask are known exactly.

`scenes` defines the content of a picture, `bodies` the shape of the subject, `renderer` draws it, `captions` describes
it, and `probe` reads the content from any image. This package is independent of diffusion models.
"""
