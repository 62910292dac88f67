// Depth2Img in the page: text-to-image is held back while a depth model is loaded, the panel shows only what applies.
// The model's state comes from the panel's status line, refreshed through a hidden button, so that it works without --api.
{
    const MASKED_TABS = [2, 3, 4]; // inpaint, inpaint sketch, inpaint upload (modules/ui.py:588)
    const BATCH_TAB = 5;
    const PICTURES = ["img2img_image", "img2img_sketch", "img2maskimg", "inpaint_sketch", "img_inpaint_base"]; // ui.py:541-563
    const CHECKPOINT = "#setting_sd_model_checkpoint input, .model_selection input"; // the second one is Forge's
    const REFRESH = "#refresh_sd_model_checkpoint, #forge_refresh_checkpoint";
    const REASON = "A depth model is loaded. It paints from a picture's depth, so text alone gives it nothing to start from.";

    const SIZE = "This model was made for pictures with a side of 512; yours will be {}x{}.";
    const SHAPE = "The map ({}x{}) has another shape than the picture ({}x{}): it is stretched to it.";
    const SAME_SHAPE = 0.02; // what rounding to whole pixels may do

    class Depth2Img {
        constructor() {
            this.scheduled = null;
            this.strokes = 0; // painted on a sketch
            this.previewed = {}; // the basis of the preview
            this.checkpoint = null; // as the page shows it
        }

        start() {
            onUiLoaded(() => {
                // Tabs and radio buttons change attributes only, which the host's observer does not see (script.js:124).
                gradioApp().addEventListener("change", () => this.schedule());
                gradioApp().addEventListener("click", (event) => {
                    if (event.target.closest("#depth2img_preview_button")) this.previewed = this.basis();
                    this.schedule();
                });
                this.watchPictures();
                this.refreshUntilAnswered();
            });
            onOptionsChanged(() => this.refresh());
            onUiTabChange(() => this.refresh());
            onAfterUiUpdate(() => this.update());
        }

        find(selector) {
            return gradioApp().querySelector(selector);
        }

        refresh() {
            this.find("#depth2img_refresh")?.click();
        }

        // The panel is built once and looked at later; and gradio hears a button only some time after it is on the page.
        refreshUntilAnswered() {
            if (!this.find("#depth2img_panel") || this.find("#depth2img_status [data-asked=true]")) return;
            this.refresh();
            setTimeout(() => this.refreshUntilAnswered(), 500);
        }

        schedule() {
            clearTimeout(this.scheduled);
            this.scheduled = setTimeout(() => this.update(), 50);
        }

        update() {
            if (!this.find("#depth2img_panel")) return;
            const status = this.find("#depth2img_status [data-asked=true]");
            if (status) this.holdTextToImage(status.dataset.depthModel === "true");
            this.showWhatApplies();
            this.keepPreviewFresh();
            this.markOutdated();
            this.saySize();
            this.sayShape();
            this.addHints();
            this.nameNumbers();
            this.makeHeadsReachable();
            this.selectCheckpoint();
            this.listCheckpoints();
            this.noticeCheckpoint();
        }

        // Forge's list of checkpoints changes no option of the page: what is chosen there goes to the server alone.
        noticeCheckpoint() {
            const shown = this.find(CHECKPOINT)?.value ?? null;
            if (shown === this.checkpoint) return;
            this.checkpoint = shown;
            setTimeout(() => this.refresh(), 500);
        }

        holdTextToImage(depthModel) {
            const button = this.find("#txt2img_generate");
            if (!button || depthModel === (button.dataset.depth2img === "held")) return;
            button.disabled = depthModel;
            if (depthModel) {
                button.dataset.depth2img = "held";
                button.closest("#txt2img_generate_box, #txt2img_actions_column")?.before(this.notice());
            } else {
                delete button.dataset.depth2img;
                this.find("#depth2img_txt2img_notice")?.remove();
            }
        }

        notice() {
            const notice = document.createElement("div");
            notice.id = "depth2img_txt2img_notice";
            notice.className = "depth2img-warning";
            const send = document.createElement("button");
            send.type = "button";
            send.className = "depth2img-link";
            send.textContent = depth2imgWords.said("Send to img2img");
            send.addEventListener("click", () => this.sendToImg2Img());
            notice.append(`${depth2imgWords.said(REASON)} `, send);
            return notice;
        }

        sendToImg2Img() {
            if (this.find("#txt2img_gallery img")) {
                this.find("#txt2img_send_to_img2img")?.click(); // the host's own: picture, prompts, settings
                return;
            }
            for (const name of ["prompt", "neg_prompt"]) {
                const from = this.find(`#txt2img_${name} textarea`);
                const to = this.find(`#img2img_${name} textarea`);
                if (from && to) {
                    to.value = from.value;
                    updateInput(to);
                }
            }
            switch_to_img2img();
        }

        showWhatApplies() {
            const tab = get_tab_index("mode_img2img");
            const source = this.find("#depth2img_source input:checked")?.value;
            const area = this.find("#img2img_inpaint_full_res input:checked")?.value;
            const masked = MASKED_TABS.includes(tab) || tab === BATCH_TAB;
            this.show("#depth2img_only_masked_row", masked && area === "Only masked" && source !== "Depth map");
            this.show("#depth2img_batch", tab === BATCH_TAB);
            this.show("#depth2img_look", tab !== BATCH_TAB || source !== "Init image");
        }

        // Answers to quick slider moves may overtake each other: ask once more when the last one is not the latest.
        keepPreviewFresh() {
            const shown = this.find("#depth2img_preview [data-sliders]");
            if (!shown) return;
            const stale = Object.entries(JSON.parse(shown.dataset.sliders)).some(([name, value]) => {
                const input = this.find(`#depth2img_${name} input`);
                return input.type === "checkbox" ? input.checked !== value : Math.abs(input.value - value) > 1e-6;
            });
            if (stale) this.find("#depth2img_adjust_again")?.click();
        }

        // Not by gradio's change event: on a widget with a mask it answers to its own answers, without end.
        watchPictures() {
            const tabs = this.find("#mode_img2img");
            if (!tabs) return;
            const changes = {subtree: true, childList: true, attributes: true, attributeFilter: ["src"]};
            new MutationObserver(() => this.schedule()).observe(tabs, changes);
            for (const id of [PICTURES[1], PICTURES[3]]) {
                this.find(`#${id}`)?.addEventListener("mouseup", (event) => {
                    if (event.target.tagName === "CANVAS") this.strokes += 1;
                });
            }
        }

        // The strokes of a sketch are part of the picture, those of a mask are not.
        openPicture() {
            const tab = get_tab_index("mode_img2img");
            const picture = this.find(`#${PICTURES[tab]} img`)?.getAttribute("src");
            return {picture, strokes: tab === 1 || tab === 3 ? this.strokes : 0};
        }

        // What an estimate hangs on, but for what renews or clears the preview by itself: the other widgets of the panel.
        basis() {
            const source = this.find("#depth2img_source input:checked")?.value;
            const estimator = this.find("#depth2img_estimator input")?.value;
            const checkpoint = this.find("#depth2img_status [data-checkpoint]")?.dataset.checkpoint;
            return {
                ...(source === "Init image" ? this.openPicture() : {}),
                ...(estimator === "checkpoint" ? {checkpoint} : {}),
            };
        }

        markOutdated() {
            const source = this.find("#depth2img_source input:checked")?.value;
            const changed = Object.entries(this.basis()).some(([name, value]) => value !== this.previewed[name]);
            this.find("#depth2img_preview")?.classList.toggle("depth2img-outdated", source !== "Depth map" && changed);
        }

        // The depth model was trained on pictures with sides of 512; the sides by a factor are not known here.
        saySize() {
            const note = this.find("#depth2img_size");
            const status = this.find("#depth2img_status [data-depth-model=true]");
            if (!note) return;
            const byFactor = this.find("#img2img_tab_resize_by")?.offsetParent; // ui.py:635
            const sides = ["width", "height"].map((side) => Number(this.find(`#img2img_${side} input`)?.value ?? 512));
            const far = status && !byFactor && !sides.includes(512);
            this.fill(note, far ? [SIZE, ...sides] : null);
        }

        // Of a map of the user's own and the picture of the open tab.
        sayShape() {
            const note = this.find("#depth2img_shape");
            if (!note) return;
            const map = this.find("#depth2img_preview [data-size]")?.dataset.size.split(" ").map(Number);
            const picture = this.find(`#${PICTURES[get_tab_index("mode_img2img")]} img`);
            const sides = picture?.naturalWidth ? [picture.naturalWidth, picture.naturalHeight] : null;
            const own = this.find("#depth2img_source input:checked")?.value === "Depth map";
            const differ = own && map && sides && Math.abs((map[0] * sides[1]) / (map[1] * sides[0]) - 1) > SAME_SHAPE;
            this.fill(note, differ ? [SHAPE, ...map, ...sides] : null);
        }

        // A line of the panel, or none.
        fill(note, words) {
            const text = words ? depth2imgWords.said(...words) : "";
            if (note.textContent !== text) note.textContent = text;
            note.classList.toggle("depth2img-hidden", !words);
        }

        show(selector, visible) {
            this.find(selector)?.classList.toggle("depth2img-hidden", !visible);
        }

        // The host gives hints to what is on the page when it is loaded (hints.js); gradio 4 draws some widgets later.
        addHints() {
            for (const {props} of window.gradio_config?.components ?? []) {
                if (!props.webui_tooltip || !props.elem_id?.startsWith("depth2img_")) continue;
                const element = this.find(`#${props.elem_id}`);
                const hint = depth2imgWords.said(props.webui_tooltip);
                if (!element || element.title === hint) continue;
                element.title = hint;
                this.describe(element.querySelectorAll("input"), `${props.elem_id}_hint`, hint);
            }
        }

        // A title is read out for the element that has it, not for the inputs in it.
        describe(inputs, id, hint) {
            const text = document.getElementById(id) ?? document.body.appendChild(document.createElement("span"));
            Object.assign(text, {id, hidden: true, textContent: hint});
            inputs.forEach((input) => input.setAttribute("aria-describedby", id));
        }

        // The number beside a slider of gradio 3 has no name of its own.
        nameNumbers() {
            for (const input of gradioApp().querySelectorAll("#depth2img_panel input[type=number]")) {
                const label = input.closest(".block")?.querySelector("label")?.textContent.trim();
                if (label && input.getAttribute("aria-label") !== label) input.setAttribute("aria-label", label);
            }
        }

        // gradio 3 draws the head of an accordion as a div, which no key reaches.
        makeHeadsReachable() {
            for (const head of gradioApp().querySelectorAll("#depth2img_panel .label-wrap")) {
                head.setAttribute("aria-expanded", head.classList.contains("open"));
                if (head.tagName === "BUTTON" || head.tabIndex === 0) continue;
                head.tabIndex = 0;
                head.setAttribute("role", "button");
                head.addEventListener("keydown", (event) => {
                    if (event.key !== "Enter" && event.key !== " ") return;
                    event.preventDefault();
                    head.click();
                });
            }
        }

        selectCheckpoint() {
            const wanted = this.find("#depth2img_install_state [data-select-checkpoint]:not([data-selected])");
            if (!wanted) return;
            wanted.dataset.selected = "true";
            selectCheckpoint(wanted.dataset.selectCheckpoint); // the host's (ui.js:374)
        }

        // The host fills its list of checkpoints when it builds the page, and again when this button is pressed. Its
        // answer also puts the checkpoint of the settings back into the box, so one that is being selected comes first;
        // Forge's does not, and its box stays empty for as long as what is selected is not in the list.
        listCheckpoints() {
            const done = this.find("#depth2img_install_state .depth2img-done:not([data-listed])");
            if (!done) return;
            const refresh = this.find(REFRESH);
            const shown = this.find(CHECKPOINT)?.value ?? "";
            const selected = shown.includes(done.dataset.selectCheckpoint ?? "");
            if (!selected && refresh?.id !== "forge_refresh_checkpoint") return;
            done.dataset.listed = "true";
            refresh?.click();
        }
    }

    new Depth2Img().start();
}
