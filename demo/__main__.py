"""`python -m demo`: images arrive intact, over connections that break in every way."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator

import click

from demo import interrupts
from demo.images import Image, ImageUnavailableError, built, inspect, packaged
from demo.others import Other, others
from demo.play import Outcome, play
from demo.scenes import SCENES, Scene
from demo.show import Show, as_json

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ".demo")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--scene",
    "names",
    multiple=True,
    type=click.Choice([each.name for each in SCENES]),
    metavar="NAME",
    help="Play this scene only; may be given several times. " + " ".join(each.name for each in SCENES),
)
@click.option(
    "--size",
    default=200,
    show_default=True,
    type=click.IntRange(1, 1024),
    metavar="MIB",
    help="Of the image built.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where the images are kept for the next time. [default: .demo beside this folder]",
)
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object instead.")
@click.pass_context
def main(ctx: click.Context, names: tuple[str, ...], size: int, folder: str | None, as_object: bool) -> None:
    """Send disk images through broken connections with `imgstore cp`, and show what it costs.

    Exit status 0 only if every scene ended as it must, and the server's log and `cp --json` told the same.
    """
    scenes = [each for each in SCENES if not names or each.name in names]
    try:
        with interrupts.whole(tempfile.TemporaryDirectory(dir=_prepared(folder), prefix="run-")) as stage:
            ok = Run(scenes, Show(quiet=as_object), os.path.dirname(stage), stage).all(size, as_object)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        ctx.exit(130)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    ctx.exit(0 if ok else 1)


class Run:
    """One run of the demo: what was played, and what there is to say about it."""

    def __init__(self, scenes: list[Scene], show: Show, folder: str, stage: str) -> None:
        self.scenes = scenes
        self.show = show
        self.folder = folder
        self.stage = stage
        self.outcomes: list[Outcome] = []
        self.compared: list[Other] = []
        self.notes: list[str] = []
        self.ok = True

    def all(self, size: int, as_object: bool) -> bool:
        """Plays everything; whether all of it ended as it must."""
        began = time.monotonic()
        images = list(self._images(size))
        for image, scenes in images:
            for scene in scenes:
                self._play(scene, image)
        # The last image is the one that is always there.
        for scene in filter(lambda each: each.others, self.scenes):
            self._compare(scene, images[-1][0])
        for image, _ in images:
            self._inspect(image)
        self.show.table(self.outcomes)
        wrong = sum(bool(each.complaints) for each in self.outcomes)
        self.ok = self.ok and not wrong
        self.show.verdict(len(self.outcomes), wrong, time.monotonic() - began, ok=self.ok)
        if as_object:
            click.echo(as_json(self.outcomes, self.compared, self.notes, ok=self.ok))
        return self.ok

    def _images(self, size: int) -> Iterator[tuple[Image, list[Scene]]]:
        if short := [each for each in self.scenes if each.packaged]:
            try:
                image = packaged(self.folder)
            except ImageUnavailableError as error:
                self._note(f"Without Debian's image, which is skipped: {error}")
            else:
                self.show.image(image)
                yield image, short
        image = built(self.folder, size)
        self.show.image(image)
        yield image, self.scenes

    def _play(self, scene: Scene, image: Image) -> None:
        self.show.announce(scene, image)
        outcome = play(scene, image, self.stage)
        self.outcomes.append(outcome)
        self.show.outcome(outcome)

    def _compare(self, scene: Scene, image: Image) -> None:
        self.show.line("")
        self.show.line(f"What others make of {scene.name}, for comparison:", "bold")
        for other in others(scene, image, self.stage):
            self.compared.append(other)
            self.show.other(other)

    def _inspect(self, image: Image) -> None:
        copy = os.path.join(self.stage, image.name)
        if os.path.exists(copy):
            try:
                self._note(f"The copy of {image.name} opens as ISO 9660: {inspect(copy, image.files)}")
            except ValueError as error:
                self.ok = False
                self._note(f"WRONG: {error}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.show.line(text)


def _prepared(folder: str | None) -> str:
    """The work folder, made if need be; our own is kept out of git."""
    place = os.path.abspath(folder or FOLDER)
    os.makedirs(place, exist_ok=True)
    if folder is None:
        with open(os.path.join(place, ".gitignore"), "w", encoding="utf-8") as file:
            file.write("*\n")
    return place


if __name__ == "__main__":
    interrupts.watch()
    main(prog_name="python -m demo")
