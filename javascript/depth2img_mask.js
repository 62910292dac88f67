// The mask that the panel made of depth goes to the Inpaint upload tab, and the picture of the open tab with it.
{
    const INPAINT_UPLOAD = 4; // modules/ui.py:560
    const PICTURES = ["img2img_image", "img2img_sketch", "img2maskimg", "inpaint_sketch", "img_inpaint_base"]; // ui.py:541-563
    const CLEAR = "button[aria-label=Clear], button[aria-label='Remove Image']";

    const find = (selector) => gradioApp().querySelector(selector);

    const appears = async (look) => {
        for (let left = 100; left; left -= 1) {
            const found = look();
            if (found) return found;
            await new Promise((resolve) => setTimeout(resolve, 50));
        }
        return null;
    };

    const asFile = async (address, name) => {
        const blob = await (await fetch(address)).blob();
        return new File([blob], name, {type: blob.type});
    };

    // As if the user had chosen a file: gradio 3 and 4 hear the same event.
    const put = async (widget, file) => {
        find(`#${widget}`)?.querySelector(CLEAR)?.click();
        const input = await appears(() => find(`#${widget} input[type=file]`));
        if (!input) return;
        const files = new DataTransfer();
        files.items.add(file);
        input.files = files.files;
        input.dispatchEvent(new Event("change", {bubbles: true}));
    };

    const send = async (mask) => {
        const open = get_tab_index("mode_img2img");
        const picture = find(`#${PICTURES[open]} img`)?.getAttribute("src");
        const files = [await asFile(mask, "depth-mask.png"), open !== INPAINT_UPLOAD && picture ? await asFile(picture, "picture.png") : null];
        gradioApp().querySelectorAll("#mode_img2img > .tab-nav button")[INPAINT_UPLOAD]?.click();
        await put("img_inpaint_mask", files[0]);
        if (files[1]) await put("img_inpaint_base", files[1]);
    };

    onUiLoaded(() => {
        const sent = find("#depth2img_mask_sent");
        if (!sent) return;
        new MutationObserver(() => {
            const mask = sent.querySelector("img[data-mask]:not([data-taken])");
            if (!mask) return;
            mask.dataset.taken = "true";
            send(mask.src);
        }).observe(sent, {childList: true, subtree: true});
    });
}
