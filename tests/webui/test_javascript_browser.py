"""depth2img.js on a page that has the host's ids and functions."""

from __future__ import annotations

from tests.webui.browser import Page

NOTICE = "#depth2img_txt2img_notice"


def held(page: Page) -> bool:
    return not page.one("#txt2img_generate").is_enabled()


def options_changed(page: Page) -> None:
    """As when another checkpoint has been loaded (javascript/ui.js:305-332)."""
    page.driver.execute_script("callbacks.options.forEach((callback) => callback())")


def test_text_to_image_is_held_while_a_depth_model_is_loaded(page: Page):
    page.open(panel=False)
    page.until(lambda: held(page))
    assert "A depth model is loaded" in page.text(NOTICE)
    assert "Send to img2img" in page.text(NOTICE)
    assert page.complaints() == []


def test_with_another_model_text_to_image_is_as_ever(page: Page):
    page.services.is_depth_model = False
    page.open(panel=False)
    page.until(lambda: "is not a depth model" in (page.one("#depth2img_status").get_attribute("textContent") or ""))
    page.until(lambda: not held(page) and not page.all(NOTICE))


def test_no_checkpoint_at_all_is_no_error(page: Page):
    page.services.checkpoint, page.services.is_depth_model = None, False
    page.open(panel=False)
    page.until(lambda: "No checkpoint" in (page.one("#depth2img_status").get_attribute("textContent") or ""))
    page.until(lambda: not held(page))
    assert page.complaints() == []


def test_it_follows_the_checkpoint_there_and_back(page: Page):
    page.open(panel=False)
    for _ in range(2):
        page.until(lambda: held(page) and len(page.all(NOTICE)) == 1)
        page.services.is_depth_model = False
        options_changed(page)
        page.until(lambda: not held(page) and not page.all(NOTICE))
        page.services.is_depth_model = True
        options_changed(page)
    page.until(lambda: held(page) and len(page.all(NOTICE)) == 1)


def test_a_button_that_somebody_else_disabled_stays_so(page: Page):
    page.services.is_depth_model = False
    page.open(panel=False)
    page.driver.execute_script("document.querySelector('#txt2img_generate').disabled = true")
    options_changed(page)
    page.until(lambda: "is not a depth model" in (page.one("#depth2img_status").get_attribute("textContent") or ""))
    assert held(page)


def test_sending_to_img2img_takes_the_prompts_along(page: Page):
    page.open(panel=False)
    page.until(lambda: page.seen(f"{NOTICE} button"))
    page.one("#txt2img_prompt textarea").send_keys("a house, by the sea")
    page.one("#txt2img_neg_prompt textarea").send_keys("fog")
    page.press(f"{NOTICE} button")
    page.until(lambda: page.seen("#img2img_prompt"))
    assert page.one("#img2img_prompt textarea").get_attribute("value") == "a house, by the sea"
    assert page.one("#img2img_neg_prompt textarea").get_attribute("value") == "fog"


def test_only_masked_is_asked_where_it_can_be(page: Page):
    page.open()
    row = "#depth2img_only_masked_row"
    page.until(lambda: not page.seen(row))
    page.tab("mode_img2img", "Inpaint")
    page.choose("img2img_inpaint_full_res", "Only masked")
    page.until(lambda: page.seen(row))
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: not page.seen(row))
    page.choose("depth2img_source", "Init image")
    page.until(lambda: page.seen(row))
    page.tab("mode_img2img", "Sketch")
    page.until(lambda: not page.seen(row))
    page.tab("mode_img2img", "Inpaint upload")
    page.until(lambda: page.seen(row))
    page.choose("img2img_inpaint_full_res", "Whole picture")
    page.until(lambda: not page.seen(row))


def test_the_folder_of_maps_is_offered_on_the_batch_tab_only(page: Page):
    page.open()
    page.until(lambda: not page.seen("#depth2img_batch"))
    assert page.seen("#depth2img_preview_button")
    page.tab("mode_img2img", "Batch")
    page.until(lambda: page.seen("#depth2img_batch"))
    page.until(lambda: not page.seen("#depth2img_preview_button"))
    page.tab("mode_img2img", "img2img")
    page.until(lambda: not page.seen("#depth2img_batch") and page.seen("#depth2img_preview_button"))


def test_every_field_says_what_it_does(page: Page):
    page.open()
    page.until(lambda: page.one("#depth2img_far").get_attribute("title"))
    assert "background" in (page.one("#depth2img_far").get_attribute("title") or "")
    assert "white is far" in (page.one("#depth2img_invert").get_attribute("title") or "")


def test_two_names_are_left_in_the_global_scope(page: Page):
    page.open(panel=False)
    leaks = "return Object.keys(window).filter((name) => /depth/i.test(name)).sort()"
    assert page.driver.execute_script(leaks) == ["depth2imgEditor", "depth2imgWords"]
    assert page.driver.execute_script("return typeof Depth2Img") == "undefined"


def test_it_works_again_after_the_page_is_reloaded(page: Page):
    page.open(panel=False)
    for _ in range(3):
        page.driver.refresh()
        page.until(lambda: page.all("#txt2img_generate") and held(page))
        assert len(page.all(NOTICE)) == 1
    assert page.complaints() == []


def test_the_style_fits_dark_and_light(page: Page):
    colours = set()
    for theme in ("light", "dark"):
        page.driver.get(f"{page.url}?__theme={theme}")
        page.until(lambda: page.all(NOTICE))
        notice = page.one(NOTICE)
        colours.add(notice.value_of_css_property("color"))
        assert notice.value_of_css_property("border-left-width") == "3px"
    assert len(colours) == 2
