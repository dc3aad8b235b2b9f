"""The demo's scenes on a small image: they end as they must, and their figures are real."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from demo import images
from demo.__main__ import main
from demo.figures import Figures, reported
from demo.images import Image, ImageUnavailableError
from demo.play import command, play
from demo.scenes import SCENES, Ending, Scene
from imgstore.testing.server import Cut, ShiftRange, Status

ROOT = Path(__file__).parents[2]
NAMED = {each.name: each for each in SCENES}

# Stands in for the installed command, runs it, and changes the figures of its report.
FORGERY = """#!{python}
import json, subprocess, sys
done = subprocess.run([{real!r}, *sys.argv[1:]], capture_output=True, text=True)
report = json.loads(done.stdout.splitlines()[-1])
for figure in {figures!r}:
    report[figure] += 1
sys.stderr.write(done.stderr)
print(json.dumps(report))
sys.exit(done.returncode)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return images.built(str(tmp_path_factory.mktemp("image")), 2)


def test_every_scene_ends_as_it_must(image: Image, tmp_path: Path) -> None:
    def performed(scene: Scene):
        stage = tmp_path / scene.name
        stage.mkdir()
        return play(scene, image, str(stage)), sorted(each.name for each in stage.iterdir())

    with ThreadPoolExecutor(len(SCENES)) as pool:
        played = list(pool.map(performed, SCENES))
    assert {outcome.scene.name: outcome.complaints for outcome, _ in played if outcome.complaints} == {}
    for outcome, left in played:
        assert outcome.log == outcome.report
        copied = outcome.scene.ending is Ending.COPIED
        assert (outcome.copy == image.sha256) == copied
        assert left == ([image.name] if copied else [])
        # A window of a second, and the rest for a machine that plays all scenes at once.
        assert outcome.seconds < 10 or not outcome.log.stalls


def altered(name: str, image: Image, stage: Path, **changes) -> Figures:
    """Plays a scene with changes, to a good end, and gives the server's figures, which are cp's too."""
    outcome = play(replace(NAMED[name], **changes), image, str(stage))
    assert outcome.complaints == ()
    assert outcome.log == outcome.report
    return outcome.log


def test_other_cuts_give_other_figures(image: Image, tmp_path: Path) -> None:
    cuts = [Cut(at=place) for place in (1, image.half, image.size - 1)]
    figures = altered("cuts", image, tmp_path, faults=lambda _: cuts)
    assert figures == Figures(image.size, 0, 4, 3, 0)


@pytest.mark.parametrize("place", [1, 65537])
def test_the_place_of_a_cut_is_the_price_of_a_proof(place: int, image: Image, tmp_path: Path) -> None:
    figures = altered(
        "no-validators", image, tmp_path, faults=lambda _: [Cut(at=place)], cost=lambda it: it.size + place
    )
    assert figures == Figures(image.size + place, place, 2, 1, 0)


def test_what_is_wasted_is_counted_to_the_byte(image: Image, tmp_path: Path) -> None:
    early = 100_000
    figures = altered(
        "early-range",
        image,
        tmp_path,
        faults=lambda it: [Cut(at=it.half), ShiftRange(-early, 0)],
        cost=lambda it: it.size + early,
    )
    assert figures == Figures(image.size + early, early, 2, 1, 0)


def test_each_refusal_is_a_request(image: Image, tmp_path: Path) -> None:
    figures = altered("503", image, tmp_path, faults=lambda _: [Status(503)] * 3)
    assert figures == Figures(image.size, 0, 4, 0, 0)


def test_a_fault_that_the_scene_does_not_tell_of_fails_it(image: Image, tmp_path: Path) -> None:
    costly = replace(NAMED["early-range"], faults=lambda it: [Cut(at=it.half), ShiftRange(-1, 0)])
    assert play(costly, image, str(tmp_path)).complaints == (
        f"the server sent {image.size + 1} bytes, it takes {image.size + 4096}",
    )
    unmet = replace(NAMED["clean"], faults=lambda it: [None, Cut(at=it.half)])
    assert play(unmet, image, str(tmp_path)).complaints == ("1 of the faults met no request",)


def test_a_copy_that_ends_otherwise_fails_the_scene(image: Image, tmp_path: Path) -> None:
    first, *others = play(replace(NAMED["clean"], ending=Ending.CHANGED), image, str(tmp_path)).complaints
    assert first.startswith("exit status 0, not 5")
    assert others == [f"left behind: {image.name}"]
    spoiled = play(replace(NAMED["damaged"], ending=Ending.COPIED), image, str(tmp_path))
    assert any("exit status 4, not 0" in each for each in spoiled.complaints)
    assert any("nothing" in each for each in spoiled.complaints)


def test_a_wrong_figure_makes_the_demo_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = list(Figures.__dataclass_fields__)
    forged = tmp_path / "imgstore"
    forged.write_text(FORGERY.format(python=sys.executable, real=command()[0], figures=figures))
    forged.chmod(forged.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("demo.play.command", lambda: [str(forged)])
    options = ["--scene", "early-range", "--size", "1", "--folder", str(tmp_path / "work")]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert result.exit_code == 1
    for figure in figures:
        assert f"WRONG: {figure}: the server's log says" in result.output


def test_a_report_without_figures_agrees_with_no_log() -> None:
    nothing = reported({})
    assert set(asdict(nothing).values()) == {-1}
    assert len(Figures(0, 0, 0, 0, 0).differences(nothing)) == 5


def demo(folder: Path, *options: str, **settings) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "demo", "--size", "1", "--folder", str(folder), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **settings)


def test_the_command_tells_people_and_machines(tmp_path: Path) -> None:
    with demo(tmp_path, "--scene", "header-cut", "--scene", "damaged") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "\x1b" not in out
    assert "2 of 2 scenes ended as they must" in out
    assert "opens as ISO 9660: 8 files" in out
    with demo(tmp_path, "--scene", "early-range", "--json") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    told = json.loads(out)
    assert told["ok"] is True
    (scene,) = told["scenes"]
    assert scene["cp"] == scene["server"]
    assert scene["server"]["received"] == scene["size"] + 4096
    assert scene["source_sha256"] == scene["copy_sha256"]
    assert [each.name for each in tmp_path.iterdir()] == ["demo-1.iso"]


def test_ctrl_c_leaves_the_image_alone(tmp_path: Path) -> None:
    with demo(tmp_path, "--scene", "trickle") as process:
        try:
            assert process.stdout is not None
            assert any("slows down" in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "interrupted\n")
    assert [each.name for each in tmp_path.iterdir()] == ["demo-1.iso"]


# In a process of its own: the signal's place is exact, and the handlers are not those of the test run.
INTERRUPTED = """
import contextlib, os, signal
from demo import interrupts

@contextlib.contextmanager
def thing():
    {entering}
    print("entered")
    try:
        yield
    finally:
        {leaving}
        print("left")

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

interrupts.watch()
try:
    with interrupts.whole(thing()):
        print("inside")
        {inside}
    print("after")
except KeyboardInterrupt:
    interrupt()
    print("interrupted")
"""


@pytest.mark.parametrize(
    "place, lines",
    [
        ("entering", ["entered", "left", "interrupted"]),
        ("inside", ["entered", "inside", "left", "interrupted"]),
        ("leaving", ["entered", "inside", "left", "interrupted"]),
    ],
)
def test_what_is_entered_is_left_wherever_ctrl_c_comes(place: str, lines: list[str]) -> None:
    where = {**dict.fromkeys(("entering", "inside", "leaving"), "pass"), place: "interrupt()"}
    program = INTERRUPTED.format(**where)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (lines, "")


def test_what_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    for options in (["--scene", "nope"], ["--size", "0"]):
        result = CliRunner().invoke(main, options)
        assert result.exit_code == 2
        assert options[1] in result.output
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["--folder", str(tmp_path / "file" / "x")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_the_image_is_built_alike_and_a_damaged_one_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = images.built(str(tmp_path / "a"), 1)
    assert images.built(str(tmp_path / "b"), 1).sha256 == first.sha256
    path = tmp_path / "a" / first.name
    made = path.stat().st_mtime_ns
    assert images.built(str(tmp_path / "a"), 1).sha256 == first.sha256
    assert path.stat().st_mtime_ns == made
    for damaged in (first.changed, first.data[:-1], b""):
        path.write_bytes(damaged)
        assert images.built(str(tmp_path / "a"), 1).sha256 == first.sha256


def test_a_copy_is_opened_and_looked_into(image: Image, tmp_path: Path) -> None:
    path = tmp_path / image.name
    path.write_bytes(image.data)
    assert "8 files; /part" in images.inspect(str(path), image.files)
    with pytest.raises(ValueError, match="not what was put there"):
        images.inspect(str(path), dict.fromkeys(image.files, "0" * 64))
    with pytest.raises(ValueError, match="other files"):
        images.inspect(str(path), {})


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_apt_the_packaged_image_is_skipped_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ["--scene", "clean", "--size", "1", "--folder", str(tmp_path / "work")]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Without Debian's image, which is skipped: there is no apt-get here\n" in result.output


def test_an_archive_out_of_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "apt-get", "echo 'W: so what' >&2; echo 'E: cannot reach the archive' >&2; exit 100")
    tool(tmp_path, "dpkg-deb", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ImageUnavailableError, match="download grub-rescue-pc: cannot reach the archive"):
        images.packaged(str(tmp_path))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["apt-get", "dpkg-deb"]


def test_a_package_is_unpacked_and_not_installed(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iso = tmp_path / "disk.iso"
    iso.write_bytes(image.data)
    tool(tmp_path, "apt-get", 'echo "$@" > "$2.deb"')
    tool(tmp_path, "dpkg-deb", f'[ "$1" = -x ] && mkdir -p "$3/boot" && cp {iso} "$3/boot/rescue.iso"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    found = images.packaged(str(work))
    assert (found.name, found.sha256) == ("rescue.iso", image.sha256)
    assert set(found.files) == set(image.files)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    tool(tmp_path, "apt-get", "exit 1")
    assert images.packaged(str(work)).sha256 == image.sha256
    assert [each.name for each in work.iterdir()] == ["grub-rescue-pc"]
