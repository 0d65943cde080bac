"""`samecast study status` and `study report`: the progress and the findings of a study."""

from rich.markup import escape
from rich.table import Table

from samecast.cli.console import RESULTS, quiet_libraries, working
from samecast.cli.options.study import StudyReportOptions, StudyStatusOptions
from samecast.cli.watching import report_failures
from samecast.disk import check_writable

_MOST_SUBJECTS = 40


def run_status(options: StudyStatusOptions) -> None:
    """Print the progress of a study; of many subjects, the first unfinished ones.

    Raises:
        SamecastError: there is no study in the folder.
    """
    from samecast.study.folder import StudyFolder
    from samecast.study.job import Status, status

    folder = StudyFolder(options.folder)
    counts, done, total = dict[str, int](), 0, 0
    shown, finished = list[Status](), list[Status]()
    for data in status(folder):
        counts[data.state] = counts.get(data.state, 0) + 1
        done, total = done + data.done, total + data.total
        among = finished if data.finished else shown
        if len(among) < _MOST_SUBJECTS:
            among.append(data)
    everything = sum(counts.values()) <= _MOST_SUBJECTS
    table = Table()
    for heading in ("subject", "finished", "of", "state"):
        table.add_column(heading, justify="left" if heading in ("subject", "state") else "right")
    for data in sorted(shown + finished, key=lambda data: data.name) if everything else shown:
        table.add_row(escape(data.name), str(data.done), str(data.total), data.state)
    if table.row_count:
        RESULTS.print(table)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    RESULTS.print(f"{sum(counts.values())} subjects: {states}; {done:,} of {total:,} pictures")
    report_failures(folder.failures(), folder.path / "failures")
    if done < total:
        RESULTS.print(f"samecast study --resume {options.folder}", markup=False)


def run_report(options: StudyReportOptions) -> None:
    """Rebuild a study's table, figures and page, and write its findings.

    Raises:
        SamecastError: there is no study in the folder, or the file cannot be written.
    """
    file = None if options.write is None else check_writable(options.write, "file")
    with working("drawing"):
        from samecast.study.folder import StudyFolder
        from samecast.study.publish import publish
        from samecast.study.write_up import write_up

        quiet_libraries()
        folder = StudyFolder(options.folder)
        found = publish(folder)
        if file is not None:
            write_up(folder, found, file)
    RESULTS.print(str(file or folder.path / "index.html"), markup=False)
