"""`samecast diorama`: draws pictures of the embedded world."""

import json

from samecast.cli.console import RESULTS, working
from samecast.cli.options.diorama import PhotosOptions, SheetOptions
from samecast.disk import check_writable, write_picture, writing_folder


def run_sheet(options: SheetOptions) -> None:
    """Draw the contact sheet and print its path.

    Raises:
        SamecastError: the picture cannot be written.
    """
    from PIL import Image

    from samecast.diorama.sheet import contact_sheet

    check_writable(options.out, "new file")
    with working("drawing"):
        sheet = contact_sheet(seed=options.seed, size=options.size, columns=options.columns, rows=options.rows)
    RESULTS.print(str(write_picture(Image.fromarray(sheet), options.out)))


def run_photos(options: PhotosOptions) -> None:
    """Draw photos of a subject, and print their paths.

    Raises:
        SamecastError: the folder cannot be written.
    """
    from PIL import Image

    from samecast.diorama.album import album, held_out_identity

    check_writable(options.out)
    with working("drawing"), writing_folder(options.out) as place:
        identity = held_out_identity(options.subject)
        for number, photo in enumerate(album(identity, options.size)):
            Image.fromarray(photo.image).save(place.path / f"{number}.png")
        about = {"class_noun": identity.kind, "world": "diorama", "subject": options.subject}
        (place.path / "subject.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    RESULTS.print(str(place.final))
