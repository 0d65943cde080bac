"""The page in a real browser: what a person does, and what must not happen."""

import json
import re
from pathlib import Path

import pytest

from samecast.records import read_record
from tests.ui.conftest import picture

REX = Path(__file__).parents[2] / "examples" / "rex"
STEPS = 4


def open_part(page, name):
    """Opens an accordion."""
    page.locator(f"#{name} > button, #{name} button.label-wrap").first.click()


def prepare(page, photo=REX / "0.png", prompts="a dog on the beach", steps=STEPS, noun="dog"):
    """Photo, noun, prompts and few steps."""
    page.set_input_files("#photos input[type=file]", str(photo))
    page.wait_for_selector(".sc-board .sc-canvas", state="visible")
    page.fill("#noun input, #noun textarea", noun)
    page.fill("#prompts textarea", prompts)
    set_steps(page, steps)


def set_steps(page, steps):
    if not page.locator("#opt--num-inference-steps").is_visible():
        open_part(page, "expert")
    page.fill("#opt--num-inference-steps input, #opt--num-inference-steps textarea", str(steps))


def render(page):
    before = page.locator("#results .sc-tally").all_inner_texts()
    page.click("#render")
    page.wait_for_function(
        "old => { const now = document.querySelector('#results .sc-tally'); return now && now.innerText !== old; }",
        arg=before[0] if before else "",
    )
    return page.locator("#results .sc-tally").inner_text()


def go_to(page, tab):
    page.get_by_role("tab", name=tab, exact=True).click()


def run_of(root, tally):
    return root / re.search(r"in (renders/\S+)", tally)[1]


def test_photo_mask_brush_render_and_the_same_as_a_command(opened, root):
    one = opened()
    page = one.page
    prepare(page, prompts="a dog running on the beach\na dog in the snow")
    page.locator("#noun input, #noun textarea").press("Enter")
    page.get_by_text("subject found").wait_for()
    # The brush corrects it, for a method that takes masks.
    page.get_by_role("button", name="Paint mask").click()
    page.evaluate("scrollTo(0, 0)")
    box = page.locator(".sc-canvas").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 25)
    page.mouse.down()
    page.mouse.move(box["x"] + 110, box["y"] + 40, steps=4)
    page.mouse.up()
    picture(page, "mask")
    open_part(page, "more")
    page.locator("#method input").click()
    page.get_by_role("option", name="masactrl-masked").click()
    said = render(page)
    assert "2 pictures" in said
    record = read_record(run_of(root, said))
    (mask,) = record.reference_masks
    white = mask.convert("L").point([0] * 128 + [255] * 128)
    corner, middle, below = (
        white.getpixel((mask.width * x // 100, mask.height * y // 100)) for x, y in ((20, 12), (55, 60), (5, 95))
    )
    assert (corner, middle, below) == (255, 255, 0)
    assert record.provenance["prompts"] == ["a dog running on the beach", "a dog in the snow"]
    figures = page.locator("#results .sc-side figcaption b").all_inner_texts()
    assert figures == ["Photo", "Reconstruction", "Without control", "Result"]
    for source in page.locator("#results .sc-side img").all():
        assert source.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    # Another prompt on the same photo: no second inversion.
    page.fill("#prompts textarea", "a dog at night")
    assert f"the inversion's {STEPS} kept from before" in render(page)
    open_part(page, "same")
    page.get_by_text("samecast render").first.wait_for()
    assert not one.faults, one.faults


def test_nothing_is_asked_of_any_other_machine(opened, server):
    one = opened()
    one.page.wait_for_timeout(300)
    assert one.asked
    assert [url for url in one.asked if not url.startswith((server.url, "data:", "blob:"))] == []
    assert not one.faults, one.faults


def test_cancel_ends_a_run_and_the_next_one_works(opened):
    page = opened().page
    prepare(page, steps=150)
    page.click("#render")
    page.locator(".sc-previews img").first.wait_for()
    picture(page, "running")
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_text("Cancelled.").wait_for()
    set_steps(page, STEPS)
    assert "1 picture " in render(page)


def test_reload_during_a_run_goes_on_with_it(opened):
    page = opened().page
    prepare(page, steps=40)
    page.click("#render")
    page.get_by_text(re.compile(r"\d+ of \d+")).first.wait_for()
    page.reload()
    page.wait_for_selector("#results .sc-tally")
    assert "1 picture " in page.locator("#results .sc-tally").inner_text()


def test_two_pages_at_once_do_not_mix(opened, root):
    first, second = opened().page, opened(locale="de-DE").page
    prepare(first, prompts="a dog on the beach")
    prepare(second, REX / "1.png", prompts="a dog in a forest")
    first.click("#render")
    second.click("#render")
    for page, prompt in ((first, "a dog on the beach"), (second, "a dog in a forest")):
        page.wait_for_selector("#results .sc-tally")
        assert page.locator("#results .sc-prompt").inner_text() == prompt
        record = read_record(run_of(root, page.locator("#results .sc-tally").inner_text()))
        assert record.provenance["prompts"] == [prompt]


def test_hostile_names_and_prompts_are_text(opened, tmp_path):
    one = opened()
    page = one.page
    evil = "<img src=x onerror=window.hurt=1>"
    photo = tmp_path / "<b onmouseover=window.hurt=1>${window.hurt=1}.png"
    photo.write_bytes((REX / "0.png").read_bytes())
    prepare(page, photo, prompts=f"a dog {evil}\n--final 3 ${{window.hurt=1}} {{{{value}}}}")
    assert "2 pictures" in render(page)
    assert page.locator("#results .sc-prompt").inner_text() == f"a dog {evil}"
    go_to(page, "History")
    page.locator("#runs .sc-card").first.wait_for()
    assert page.evaluate("window.hurt") is None
    assert page.locator("#runs img[src=x], #results img[src=x]").count() == 0


def test_what_is_no_photo_and_what_is_wrong_is_one_line_and_the_page_stays(opened, tmp_path):
    page = opened().page
    bad = tmp_path / "notes.png"
    bad.write_text("not a picture")
    page.set_input_files("#photos input[type=file]", str(bad))
    page.get_by_text("is not a photo").wait_for()
    prepare(page, prompts="")
    page.click("#render")
    page.get_by_text("describe at least one scene").wait_for()
    page.fill("#prompts textarea", "a dog")
    set_steps(page, "many")
    page.click("#render")
    page.get_by_text(re.compile("--num-inference-steps|--steps")).last.wait_for()
    set_steps(page, STEPS)
    assert "1 picture " in render(page)


def test_history_opens_uses_repeats_downloads_and_deletes(opened, root):
    page = opened().page
    prepare(page, prompts="a dog in a garden")
    said = render(page)
    name = run_of(root, said).relative_to(root).as_posix()
    go_to(page, "History")
    page.fill("#filter input, #filter textarea", "garden")
    card = page.locator(f'[data-run="{name}"]')
    card.wait_for()
    picture(page, "history")
    card.locator('[data-act="again"]').click()
    page.get_by_text("bit for bit the recorded pictures").wait_for()
    with page.expect_download() as waiting:
        card.get_by_text("Download").click()
    assert waiting.value.suggested_filename.endswith(".zip")
    card.locator('[data-act="use"]').click()
    page.wait_for_selector("#prompts textarea", state="visible")
    page.wait_for_function("document.querySelector('#prompts textarea').value === 'a dog in a garden'")
    again = render(page)
    first, second = (read_record(run_of(root, each)) for each in (said, again))
    assert first.pictures == second.pictures
    go_to(page, "History")
    card.locator('[data-act="delete"]').click()
    assert (root / name).is_dir()
    card.get_by_role("button", name="Keep").click()
    card.locator('[data-act="delete"]').click()
    card.locator('[data-act="yes"]').click()
    card.wait_for(state="detached")
    assert not (root / name).exists()


def test_compare_two_settings_and_sweep_one(opened, root):
    page = opened().page
    prepare(page)
    go_to(page, "Compare")
    page.click("#render-both")
    page.wait_for_selector("#wipe .sc-over")
    divider = page.get_by_label("divider")
    divider.focus()
    before = page.locator(".sc-frame").evaluate("node => node.style.getPropertyValue('--at')")
    page.keyboard.press("ArrowRight")
    assert page.locator(".sc-frame").evaluate("node => node.style.getPropertyValue('--at')") != before
    page.fill("#values input, #values textarea", "0.5,1.0")
    page.click("#run-sweep")
    page.wait_for_selector("#sweep table img", timeout=60_000)
    assert page.locator("#sweep tbody td").count() == 2
    picture(page, "compare", full_page=True)
    assert "2 made, 0 kept" in page.locator("#sweep .sc-hint").inner_text()
    page.click("#run-sweep")
    page.get_by_text("0 made, 2 kept").wait_for()
    page.get_by_role("button", name="Use this setting").first.click()
    page.wait_for_function("document.querySelector('#opt--final input, #opt--final textarea').value === '0.5'")
    go_to(page, "Study")
    page.locator("#study input").click()
    page.get_by_role("option").first.click()
    page.get_by_text("2 of 2 pictures").wait_for()
    page.locator("#study-shown .sc-figures img").first.wait_for()
    picture(page, "study", full_page=True)


def test_learn_two_steps_and_the_concept_is_ready_in_render(opened, root):
    page = opened().page
    go_to(page, "Learn")
    page.set_input_files("#learn-photos input[type=file]", [str(REX / "0.png"), str(REX / "1.png")])
    page.fill("#learn-noun input, #learn-noun textarea", "dog")
    page.fill("#learn-name input, #learn-name textarea", "rex")
    page.fill("#learn-steps input, #learn-steps textarea", "2")
    page.locator("#learn-method input").click()
    page.get_by_role("option", name="textual-inversion").click()
    page.click("#learn")
    page.get_by_text("concepts/rex/rex.safetensors is ready").wait_for(timeout=60_000)
    assert (root / "concepts" / "rex" / "learn.json").is_file()
    sample = page.locator("#learned .sc-sample img").first
    sample.wait_for()
    assert sample.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    page.evaluate("scrollTo(0, 0)")
    picture(page, "learn")
    go_to(page, "Render")
    prepare(page, prompts="a <new1> dog")
    page.get_by_role("button", name="Concepts and LoRA").click()
    page.get_by_label("strength of concepts/rex/rex.safetensors").fill("1")
    said = render(page)
    concepts = read_record(run_of(root, said)).provenance["model"]["concepts"]
    assert [each["words"] for each in concepts] == [["<new1>"]]


@pytest.mark.parametrize(
    "options", [{"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}, "has_touch": True}]
)
def test_dark_and_on_a_phone(opened, options):
    page = opened(**options).page
    page.click("#example-dog")
    page.get_by_text("subject found").wait_for()
    page.fill("#prompts textarea", "a dog running on the beach\na dog in the snow\na dog at night")
    set_steps(page, STEPS)
    render(page)
    name = "dark" if "color_scheme" in options else "phone"
    assert page.evaluate("document.body.classList.contains('dark')") is (name == "dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, name, full_page=True)


def test_by_keyboard_alone(opened):
    page = opened().page
    page.locator("#example-dog").focus()
    page.keyboard.press("Enter")
    page.get_by_text("subject found").wait_for()
    page.locator(".sc-canvas").focus()
    before = page.locator(".sc-canvas").evaluate("node => node.toDataURL()")
    for key in ("Shift+ArrowLeft", "Shift+ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator(".sc-canvas").evaluate("node => node.toDataURL()") != before
    page.locator("#prompts textarea").focus()
    page.keyboard.type("a dog on the beach")
    page.locator("#expert > button").focus()
    page.keyboard.press("Enter")
    page.locator("#opt--num-inference-steps input").focus()
    page.keyboard.type(str(STEPS))
    page.wait_for_function(f"document.querySelectorAll('#grid .sc-cells i').length === 16 * {STEPS}")
    page.locator("#grid .sc-cells").focus()
    for key in ("ArrowRight", "ArrowDown", " "):
        page.keyboard.press(key)
    page.get_by_text(re.compile("layer .*, step 1")).wait_for()
    page.locator("#render").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#results .sc-tally")


def test_clicked_cells_are_the_rules_of_the_run(opened, root):
    page = opened().page
    prepare(page)
    page.wait_for_function(f"document.querySelectorAll('#grid .sc-cells i').length === 16 * {STEPS}")
    page.locator('#grid [data-row="0"]').click()
    page.locator('#grid [data-l="12"][data-s="3"]').click()
    said = render(page)
    rules = json.loads((run_of(root, said) / "render.json").read_text())["provenance"]["rules"]
    lit = {
        (int(layer), step)
        for rule in rules
        for layer in rule["layers"].split(",")
        for step in (rule["steps"]["only"] or range(rule["steps"]["start"], rule["steps"]["final"] + 1))
    }
    assert {(0, step) for step in range(STEPS)} <= lit
    assert (12, 3) not in lit
    assert {layer for layer, _ in lit} == {0, 10, 11, 12, 13, 14, 15}
