// The depth editor: a dialog over the page. It collects strokes and shows the map that the server made of them; what a
// stroke does to the map is decided there alone (lib_depth2img/depth/edits.py), so the whole float map is what is edited.
// Strokes are shown by a route of this extension; hidden widgets of the panel open, apply and save. None needs --api.
{
    const KEPT = "depth2img.edited"; // in the page's own storage, which outlives Reload UI and no other page sees
    const ROUTE = "./depth2img/editor"; // as the server has it (editor_route.py)
    const PATIENCE = 20000; // milliseconds
    const SILENT = "The WebUI does not answer. What was drawn is kept: draw on, or apply it, when it does.";
    const STEP = 0.01;
    const CLOSE_BY = 8; // pixels of the screen
    const MOST_STROKES = 500; // as the server's bounds (edits.py)
    const MOST_POINTS = 2000;
    const MOST_CHARACTERS = 4e6;
    const FULL = "No more strokes fit into one edit. Apply it, and go on from there.";
    const NEAR_ENOUGH = 0.002; // of the map: what a brush is moved by before it counts

    const said = (text) => depth2imgWords.said(text);
    const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
    const rounded = (value) => Math.round(value * 1e5) / 1e5;

    const SLIDERS = {
        size: {label: "Size", min: 0.005, max: 0.5, step: 0.005},
        softness: {label: "Softness", min: 0, max: 1, step: 0.05},
        value: {label: "Value", min: 0, max: 1, step: 0.01},
        end_value: {label: "Value at the end", min: 0, max: 1, step: 0.01},
    };
    // `kind`: what the pointer does. `defaults`: the sliders that it has, by the names of the stroke's fields.
    const TOOLS = {
        nearer: {label: "Nearer", key: "n", kind: "brush", defaults: {size: 0.1, softness: 0.5, value: 0.1}},
        away: {label: "Farther", key: "f", kind: "brush", defaults: {size: 0.1, softness: 0.5, value: 0.1}},
        set: {label: "Set", key: "s", kind: "brush", defaults: {size: 0.1, softness: 0.5, value: 0.5}},
        smooth: {label: "Smooth", key: "m", kind: "brush", defaults: {size: 0.1, softness: 0.5}},
        fill: {label: "Fill a shape", key: "l", kind: "polygon", defaults: {softness: 0, value: 0.5}},
        gradient: {label: "Gradient", key: "g", kind: "line", defaults: {value: 1, end_value: 0}},
        flatten: {label: "Flatten everything beyond here", key: "b", kind: "place", defaults: {}},
        cut: {label: "Cut out the background", key: "c", kind: "place", defaults: {}},
    };
    const HELP = {
        brush: "Drag. Alt picks the value that is under the pointer.",
        polygon: "Drag around a shape, or click its corners and press Enter.",
        line: "Drag from where the first value is to where the second one is.",
        place: "Click the depth that is meant.",
    };
    const KEYS =
        "Keys: arrows move the cross, Space puts the brush down and takes it up, P picks the value, [ and ] change the size, " +
        "Ctrl+Z undoes, Ctrl+Shift+Z redoes, + and - zoom.";

    const element = (tag, properties = {}, ...children) => {
        const made = Object.assign(document.createElement(tag), properties);
        made.append(...children);
        return made;
    };

    class DepthEditor {
        constructor() {
            this.strokes = [];
            this.undone = [];
            this.tool = "nearer";
            this.settings = Object.fromEntries(Object.entries(TOOLS).map(([name, tool]) => [name, {...tool.defaults}]));
            this.settings.gradient.behind = true;
            this.zoom = 1;
            this.cross = [0.5, 0.5];
            this.drawing = null; // points of what is being drawn
            this.waiting = false;
            this.again = false;
            this.pick = null;
        }

        start() {
            onUiLoaded(() => {
                const answer = this.find("#depth2img_editor_answer");
                if (!answer) return;
                new MutationObserver(() => this.hear()).observe(answer, {childList: true, subtree: true});
                const note = this.find("#depth2img_edited");
                new MutationObserver(() => this.remember()).observe(note, {childList: true, subtree: true});
            });
            onAfterUiUpdate(() => this.remember());
        }

        find(selector) {
            return gradioApp().querySelector(selector);
        }

        // What the server is told; gradio calls these two as well (webui/ui/editor.py).
        sends() {
            const {token, strokes, pick} = this;
            this.pick = null;
            return JSON.stringify({token, strokes, ...(pick ? {pick} : {})});
        }

        applied() {
            return sessionStorage.getItem(KEPT) ?? "";
        }

        // Once after the page was loaded, what was applied before comes back; from then on the panel says what is.
        remember() {
            if (!this.find("#depth2img_status [data-asked=true]")) return;
            if (!this.remembered) {
                this.remembered = true;
                if (this.applied()) {
                    this.restoring = Date.now();
                    this.find("#depth2img_editor_restore").click();
                }
            }
            const now = this.find("#depth2img_edited [data-edited]")?.dataset.edited;
            if (now) {
                this.restoring = 0;
                sessionStorage.setItem(KEPT, now);
            } else if (!this.restoring || Date.now() - this.restoring > 20000) {
                sessionStorage.removeItem(KEPT);
            }
        }

        hear() {
            const answer = this.find("#depth2img_editor_answer [data-answer]");
            if (!answer || answer.dataset.heard) return;
            answer.dataset.heard = "true";
            const {opened, applied, error, saved} = answer.dataset;
            if (opened) this.open(answer);
            if (applied) {
                sessionStorage.setItem(KEPT, applied);
                this.restoring = Date.now(); // until the panel says it too
                this.close();
            }
            if (error) this.refused(error);
            if (saved) this.fetchFile();
        }

        refused(error) {
            this.trail = null;
            this.say(error, true);
        }

        // One question at a time: what was drawn meanwhile goes together.
        async send() {
            this.again = this.waiting;
            if (this.waiting) return;
            this.waiting = true;
            this.sent = performance.now();
            const {token} = this;
            const answer = await this.asked(this.sends());
            try {
                if (token === this.token) await this.answered(answer); // else another map was opened meanwhile
            } catch {
                this.refused(SILENT); // a picture that arrived in part
            }
            this.waiting = false;
            if (this.again) this.send();
        }

        async asked(body) {
            try {
                const reply = await fetch(ROUTE, {method: "POST", body, signal: AbortSignal.timeout?.(PATIENCE)});
                return reply.ok ? await reply.json() : {error: SILENT};
            } catch {
                return {error: SILENT};
            }
        }

        async answered({error, picture, value}) {
            if (error) {
                this.refused(error);
                return;
            }
            if (value !== null) this.picked(value);
            await this.show(picture);
            this.dialog.dataset.answered = Math.round(performance.now() - this.sent);
        }

        async show(source) {
            const picture = element("img", {src: source});
            await picture.decode();
            this.map.width = picture.naturalWidth;
            this.map.height = picture.naturalHeight;
            this.map.getContext("2d").drawImage(picture, 0, 0);
            this.dialog.dataset.shown = "true";
            this.trail = null;
            this.layOut();
        }

        open(answer) {
            const [width, height] = answer.dataset.opened.split(" ").map(Number);
            if (!this.dialog) this.build();
            this.shape = [width, height];
            this.token = answer.dataset.token;
            this.strokes = JSON.parse(answer.dataset.strokes);
            this.undone = [];
            this.untouched = this.strokes.length;
            this.drawing = this.trail = null;
            this.zoom = 1;
            this.beneath.hidden = !answer.dataset.picture;
            this.beneathLabel.hidden = !answer.dataset.picture;
            this.beneath.src = answer.dataset.picture ?? "";
            this.say("");
            this.dialog.showModal();
            this.choose(this.tool);
            this.layOut();
            this.overlay.focus();
            delete this.dialog.dataset.shown;
            this.show(answer.querySelector("img").src);
        }

        close() {
            this.dialog.close();
            this.find("#depth2img_edit_button")?.focus();
        }

        leave() {
            const changed = this.strokes.length !== this.untouched;
            if (!changed || window.confirm(said("Leave without applying the strokes?"))) this.close();
        }

        fetchFile() {
            const before = this.fetched;
            const wait = (left) => {
                const link = this.find("#depth2img_download a[href]");
                if (link && link.href !== before) {
                    this.fetched = link.href;
                    link.click();
                } else if (left) setTimeout(() => wait(left - 1), 100);
            };
            wait(50);
        }

        // The dialog.

        build() {
            this.map = element("canvas", {className: "depth2img-editor-map"});
            this.map.setAttribute("aria-hidden", "true");
            this.beneath = element("img", {className: "depth2img-editor-picture", alt: ""});
            this.overlay = element("canvas", {className: "depth2img-editor-overlay", tabIndex: 0});
            this.overlay.setAttribute("role", "application");
            this.overlay.setAttribute("aria-label", said("Depth map, near is white"));
            this.overlay.setAttribute("aria-describedby", "depth2img_editor_keys");
            this.sheet = element("div", {className: "depth2img-editor-sheet"}, this.map, this.beneath, this.overlay);
            this.stage = element("div", {className: "depth2img-editor-stage"}, this.sheet);
            this.status = element("p", {className: "depth2img-editor-status"});
            this.status.setAttribute("role", "status");
            const show = element("input", {type: "checkbox", id: "depth2img_editor_beneath"});
            show.addEventListener("change", () => this.sheet.classList.toggle("depth2img-editor-see-through", show.checked));
            this.beneathLabel = element("label", {}, show, said("Show the picture"));
            this.dialog = element("dialog", {id: "depth2img_editor"},
                element("h2", {id: "depth2img_editor_title", textContent: said("Edit depth")}),
                element("div", {className: "depth2img-editor-side"}, this.tools(), this.sliders(), this.beneathLabel, this.buttons(),
                    this.status, element("p", {id: "depth2img_editor_keys", textContent: said(KEYS)})),
                this.stage);
            this.dialog.setAttribute("aria-labelledby", "depth2img_editor_title");
            this.dialog.addEventListener("cancel", (event) => {
                event.preventDefault();
                if (this.drawing || this.corners) this.giveUp();
                else this.leave();
            });
            this.dialog.addEventListener("keydown", (event) => this.key(event));
            this.listen();
            new ResizeObserver(() => this.layOut()).observe(this.stage);
            document.body.append(this.dialog);
        }

        tools() {
            const box = element("fieldset", {className: "depth2img-editor-tools"}, element("legend", {textContent: said("Tool")}));
            for (const [name, tool] of Object.entries(TOOLS)) {
                const radio = element("input", {type: "radio", name: "depth2img_editor_tool", value: name});
                radio.addEventListener("change", () => this.choose(name));
                box.append(element("label", {title: tool.key.toUpperCase()}, radio, element("span", {textContent: said(tool.label)})));
            }
            return box;
        }

        sliders() {
            this.inputs = {};
            const box = element("div", {className: "depth2img-editor-sliders"});
            for (const [name, slider] of Object.entries(SLIDERS)) {
                const input = element("input", {type: "range", id: `depth2img_editor_${name}`, min: slider.min, max: slider.max, step: slider.step});
                const shown = element("output", {htmlFor: input.id});
                const row = element("div", {}, element("label", {htmlFor: input.id, textContent: said(slider.label)}), shown, input);
                input.addEventListener("input", () => this.set(name, Number(input.value)));
                this.inputs[name] = {input, shown, row};
                box.append(row);
            }
            const behind = element("input", {type: "checkbox", id: "depth2img_editor_behind"});
            behind.addEventListener("change", () => { this.settings.gradient.behind = behind.checked; });
            this.behind = element("label", {}, behind, said("Only where the map is farther"));
            box.append(this.behind);
            return box;
        }

        buttons() {
            const make = (name, text, does, primary = false) => {
                const button = element("button", {type: "button", id: `depth2img_editor_do_${name}`, textContent: said(text)});
                button.className = primary ? "depth2img-editor-primary" : "";
                button.addEventListener("click", does);
                return button;
            };
            this.undoButton = make("undo", "Undo", () => this.undo());
            this.redoButton = make("redo", "Redo", () => this.redo());
            return element("div", {className: "depth2img-editor-buttons"}, this.undoButton, this.redoButton,
                make("in", "Zoom in", () => this.zoomTo(this.zoom * 1.5)), make("out", "Zoom out", () => this.zoomTo(this.zoom / 1.5)),
                make("save", "Download as 16-bit PNG", () => this.find("#depth2img_editor_download").click()),
                make("leave", "Cancel", () => this.leave()),
                make("apply", "Apply", () => this.find("#depth2img_editor_apply").click(), true));
        }

        choose(name) {
            this.giveUp();
            this.tool = name;
            this.dialog.querySelector(`input[value=${name}]`).checked = true;
            for (const [slider, {row}] of Object.entries(this.inputs)) {
                row.hidden = !(slider in TOOLS[name].defaults);
                if (!row.hidden) this.set(slider, this.settings[name][slider]);
            }
            this.behind.hidden = name !== "gradient";
            this.behind.querySelector("input").checked = this.settings.gradient.behind;
            this.sayWhere();
        }

        set(name, value) {
            const {input, shown} = this.inputs[name];
            const slider = SLIDERS[name];
            this.settings[this.tool][name] = clamp(value, slider.min, slider.max);
            input.value = this.settings[this.tool][name];
            shown.textContent = this.settings[this.tool][name].toFixed(name === "size" ? 3 : 2);
            this.paint();
        }

        say(text, bad = false) {
            if (!this.status) return;
            this.status.textContent = said(text);
            this.status.classList.toggle("depth2img-error", bad);
        }

        sayWhere() {
            this.undoButton.disabled = !this.strokes.length;
            this.redoButton.disabled = !this.undone.length;
            this.dialog.dataset.strokes = this.strokes.length;
            this.say(HELP[TOOLS[this.tool].kind]);
        }

        // What is drawn.

        listen() {
            const place = (event) => {
                const box = this.overlay.getBoundingClientRect();
                return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
            };
            const pen = (event) => (event.pointerType === "pen" ? [rounded(clamp(event.pressure, 0, 1))] : []);
            this.overlay.addEventListener("pointerdown", (event) => {
                if (event.button !== 0) return;
                event.preventDefault();
                this.overlay.focus();
                this.overlay.setPointerCapture(event.pointerId);
                this.cross = place(event);
                if (event.altKey) this.pickAt(this.cross);
                else this.down([...this.cross, ...pen(event)]);
            });
            this.overlay.addEventListener("pointermove", (event) => {
                this.cross = place(event);
                if (event.buttons & 1 && this.drawing) {
                    const between = event.getCoalescedEvents?.() ?? [];
                    for (const each of between.length ? between : [event]) this.move([...place(each), ...pen(each)]);
                }
                this.paint();
            });
            this.overlay.addEventListener("pointerup", (event) => {
                if (event.button === 0 && this.drawing) this.up();
            });
            this.overlay.addEventListener("dblclick", () => this.finishPolygon());
            this.overlay.addEventListener("pointercancel", () => this.giveUp());
            this.stage.addEventListener("wheel", (event) => {
                if (!event.ctrlKey) return; // else it scrolls, which moves a map that is zoomed
                event.preventDefault();
                this.zoomTo(this.zoom * (event.deltaY < 0 ? 1.2 : 1 / 1.2), place(event));
            }, {passive: false});
        }

        down(point) {
            const {kind} = TOOLS[this.tool];
            if (kind === "place") {
                this.add({at: this.within(point)});
            } else if (kind === "polygon" && this.corners) {
                this.drawing = [...this.corners, this.within(point)];
            } else {
                this.drawing = [kind === "brush" ? this.near(point) : this.within(point)];
            }
            this.paint();
        }

        move(point) {
            const last = this.drawing.at(-1);
            if (Math.hypot(point[0] - last[0], point[1] - last[1]) < NEAR_ENOUGH || this.drawing.length >= MOST_POINTS) return;
            const {kind} = TOOLS[this.tool];
            if (kind === "line") this.drawing = [this.drawing[0], this.within(point)];
            else this.drawing.push(kind === "brush" ? this.near(point) : this.within(point));
        }

        up() {
            const {kind} = TOOLS[this.tool];
            const points = this.drawing;
            this.drawing = null;
            if (kind === "brush") {
                this.trail = points;
                this.add({points});
            } else if (kind === "line") {
                if (points.length === 2) this.add({start: points[0], end: points[1]});
            } else if (points.length > (this.corners?.length ?? 0) + 2) {
                this.corners = null; // a lasso
                this.add({points});
            } else {
                this.addCorner(points.at(-1));
            }
            this.paint();
        }

        addCorner(point) {
            const first = this.corners?.[0];
            const box = this.overlay.getBoundingClientRect();
            const closes = first && this.corners.length > 2 &&
                Math.hypot((point[0] - first[0]) * box.width, (point[1] - first[1]) * box.height) < CLOSE_BY;
            if (closes) this.finishPolygon();
            else this.corners = [...(this.corners ?? []), point];
        }

        finishPolygon() {
            const points = this.corners;
            if (!points || points.length < 3) return;
            this.corners = null;
            this.add({points});
        }

        giveUp() {
            this.drawing = this.corners = null;
            this.paint();
        }

        near([x, y, ...pressure]) {
            return [rounded(clamp(x, -0.5, 1.5)), rounded(clamp(y, -0.5, 1.5)), ...pressure];
        }

        within([x, y]) {
            return [rounded(clamp(x, 0, 1)), rounded(clamp(y, 0, 1))];
        }

        add(shape) {
            const strokes = [...this.strokes, {tool: this.tool, ...shape, ...this.settings[this.tool]}];
            if (strokes.length > MOST_STROKES || JSON.stringify(strokes).length > MOST_CHARACTERS) {
                this.trail = null;
                this.say(FULL, true);
                return;
            }
            this.strokes = strokes;
            this.undone = [];
            this.sayWhere();
            this.send();
        }

        undo() {
            if (!this.strokes.length) return;
            this.undone.push(this.strokes.at(-1));
            this.strokes = this.strokes.slice(0, -1);
            this.sayWhere();
            this.send();
        }

        redo() {
            if (!this.undone.length) return;
            this.strokes = [...this.strokes, this.undone.pop()];
            this.sayWhere();
            this.send();
        }

        pickAt(point) {
            this.pick = this.within(point);
            this.send();
        }

        picked(value) {
            if (!("value" in TOOLS[this.tool].defaults) || this.tool === "nearer" || this.tool === "away") this.choose("set");
            this.set("value", value);
            this.settings[this.tool].value = value; // as exact as it came
        }

        key(event) {
            if (event.target.matches("input[type=range], button") && !event.ctrlKey && !event.metaKey) return;
            const does = this.keyed(event);
            if (!does) return;
            event.preventDefault();
            does();
        }

        keyed(event) {
            const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
            if (event.ctrlKey || event.metaKey) {
                if (key === "z") return event.shiftKey ? () => this.redo() : () => this.undo();
                return key === "y" ? () => this.redo() : null;
            }
            if (event.altKey) return null;
            const onMap = event.target === this.overlay;
            const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
            if (arrows[key]) return onMap ? () => this.step(arrows[key], event.shiftKey ? 5 : 1) : null;
            const tool = Object.keys(TOOLS).find((name) => TOOLS[name].key === key);
            if (tool) return () => this.choose(tool);
            const others = {
                " ": onMap ? () => this.space() : null,
                Enter: onMap ? () => this.enter() : null,
                p: () => this.pickAt(this.cross),
                "[": () => this.resize(-1),
                "]": () => this.resize(1),
                "+": () => this.zoomTo(this.zoom * 1.5),
                "=": () => this.zoomTo(this.zoom * 1.5),
                "-": () => this.zoomTo(this.zoom / 1.5),
                0: () => this.zoomTo(1),
            };
            return others[key] ?? null;
        }

        step([x, y], times) {
            this.cross = [clamp(this.cross[0] + x * STEP * times, 0, 1), clamp(this.cross[1] + y * STEP * times, 0, 1)];
            if (this.drawing) this.move(this.cross);
            this.paint();
        }

        space() {
            if (this.drawing) this.up();
            else this.down(this.cross);
            if (TOOLS[this.tool].kind === "polygon" && this.drawing) this.up(); // a corner at each press
        }

        enter() {
            if (this.corners) this.finishPolygon();
            else this.space();
        }

        resize(direction) {
            const {size} = this.settings[this.tool];
            if (size !== undefined) this.set("size", size * (direction > 0 ? 1.25 : 0.8));
        }

        // What is seen.

        zoomTo(zoom, at = this.cross) {
            const before = this.sheet.getBoundingClientRect();
            this.zoom = clamp(zoom, 1, 16);
            this.layOut();
            const after = this.sheet.getBoundingClientRect();
            this.stage.scrollLeft += at[0] * (after.width - before.width);
            this.stage.scrollTop += at[1] * (after.height - before.height);
        }

        layOut() {
            if (!this.shape || !this.dialog.open) return;
            const [width, height] = this.shape;
            const fit = Math.min((this.stage.clientWidth - 2) / width, (this.stage.clientHeight - 2) / height) * this.zoom;
            this.sheet.style.width = `${Math.max(1, width * fit)}px`;
            this.sheet.style.height = `${Math.max(1, height * fit)}px`;
            const sharp = Math.min(window.devicePixelRatio || 1, 4096 / Math.max(width * fit, height * fit));
            this.overlay.width = Math.max(1, width * fit * sharp);
            this.overlay.height = Math.max(1, height * fit * sharp);
            this.paint();
        }

        paint() {
            if (!this.overlay || !this.shape) return;
            const {width, height} = this.overlay;
            const pen = this.overlay.getContext("2d");
            const at = ([x, y]) => [x * width, y * height];
            pen.clearRect(0, 0, width, height);
            const {kind} = TOOLS[this.tool];
            const radius = ((this.settings[this.tool].size ?? 0) * Math.max(width, height)) / 2;
            const points = this.drawing ?? this.corners ?? this.trail;
            if (points) {
                const brush = kind === "brush";
                pen.lineWidth = brush ? 2 * radius : 2;
                pen.lineCap = pen.lineJoin = "round";
                pen.strokeStyle = brush ? "rgba(59, 130, 246, 0.45)" : "#3b82f6";
                pen.beginPath();
                pen.moveTo(...at(points[0]));
                points.slice(1).forEach((point) => pen.lineTo(...at(point)));
                if (points.length === 1) pen.lineTo(...at(points[0]));
                if (this.corners && !this.drawing) pen.lineTo(...at(this.cross));
                pen.stroke();
            }
            // White with a black edge: seen on whatever is beneath.
            for (const [style, thickness] of [["#000", 3], ["#fff", 1]]) {
                pen.strokeStyle = style;
                pen.lineWidth = thickness;
                pen.beginPath();
                const [x, y] = at(this.cross);
                if (radius) pen.arc(x, y, radius, 0, 2 * Math.PI);
                else {
                    pen.moveTo(x - 8, y);
                    pen.lineTo(x + 8, y);
                    pen.moveTo(x, y - 8);
                    pen.lineTo(x, y + 8);
                }
                pen.stroke();
            }
        }
    }

    window.depth2imgEditor = new DepthEditor();
    window.depth2imgEditor.start();
}
