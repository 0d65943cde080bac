"""`samecast diorama`: look at the embedded world."""

from samecast.cli.console import RESULTS, working
from samecast.cli.options import SheetOptions
from samecast.disk import check_writable, write_picture
from samecast.errors import SamecastError


def run_sheet(options: SheetOptions) -> None:
    """Draw the contact sheet and say where it is.

    Raises:
        SamecastError: the picture cannot be written.
    """
    from PIL import Image

    from samecast.diorama.sheet import contact_sheet

    check_writable(options.out)
    try:
        with working("drawing"):
            sheet = contact_sheet(seed=options.seed, size=options.size, columns=options.columns, rows=options.rows)
    except ValueError as error:
        raise SamecastError(str(error)) from None
    RESULTS.print(str(write_picture(Image.fromarray(sheet), options.out)))
