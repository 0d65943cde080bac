"""The comparison as a table and as a page of the documentation, with the command that makes it again."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from samecast.compare.benchmark import Benchmark
from samecast.compare.methods import Method
from samecast.disk import replace_file, write_text
from samecast.report.page import Table

_COLUMNS = ("method", "same", "scene", "both", "text", "image", "dino", "training", "file")


def table_of(
    means: Mapping[str, Mapping[str, float]], methods: Sequence[Method], *, subjects: int, prompts: int
) -> Table:
    """The means of all methods: shares in percent, cosines, seconds and MB.

    Args:
        means: of each method, by its name, as `summary` gives them.
        methods: in the order of the rows.
        subjects: how many there were.
        prompts: for each subject.
    """
    return Table(
        columns=_COLUMNS,
        rows=tuple((method.title, *_cells(means[method.name])) for method in methods),
        caption=f"{subjects} held-out subjects, {prompts} scenes each; text and image are cosines of CLIP",
    )


def write_page(docs: Path, run: Path, table: Table, benchmark: Benchmark, learn_steps: int | None) -> Path:
    """Writes `compare.md` and `pictures/compare.png`, in place of what is there.

    Args:
        docs: the folder.
        run: the comparison's folder, with its grid.
        table: its figures.
        benchmark: what was run.
        learn_steps: as asked for.

    Returns:
        Where the page is.

    Raises:
        SamecastError: it cannot be written.
    """
    picture = docs / "pictures" / "compare.png"
    replace_file(picture, lambda part: shutil.copyfile(run / "grid.png", part))
    page = docs / "compare.md"
    write_text(page, _page(table, benchmark, learn_steps))
    return page


def _cells(of: Mapping[str, float]) -> tuple[str, ...]:
    shares = [f"{of[measure]:.1%}" for measure in ("identity", "scene", "both")]
    cosines = [f"{of[measure]:.3f}" for measure in ("text_alignment", "image_alignment", "dino_alignment")]
    trained = of["training_seconds"] > 0
    size = of["file_megabytes"]
    told = f"{size:.1f} MB" if size >= 1 else f"{1000 * size:.0f} kB"
    costs = [f"{of['training_seconds']:.0f} s", told] if trained else ["", ""]
    return (*shares, *cosines, *costs)


def _page(table: Table, benchmark: Benchmark, learn_steps: int | None) -> str:
    identity, settings = benchmark.model.backbone.identity, benchmark.settings
    subjects = table.caption.split(" ", 1)[0]
    command = f"samecast compare --subjects {subjects} --prompts {benchmark.prompts} --steps {settings.steps}"
    command += f" --learn-steps {learn_steps}" if learn_steps else ""
    command += f" --model {identity.id}" if identity.id != "diorama" else ""
    rows = [table.columns, tuple("---" if at == 0 else "---:" for at in range(len(table.columns))), *table.rows]
    lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"""# Training, attention, or both

Each method gets the same photos of a subject that no model was trained on, and prompts that name nothing but its class
and a scene. The probe says whether a picture shows that very subject (*same*), the *scene* asked for, and *both*.

{lines}

{table.caption}.
Training is seconds of the steps of one subject, file the size of what was learnt. Model `{identity.id}`,
{identity.revision[:19]}, on {benchmark.model.backbone.describe()["device"]}.

![Two pictures of each of three subjects under every method](pictures/compare.png)

```console
{command} --docs docs
```
"""
