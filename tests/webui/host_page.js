// The parts of the host's page that depth2img.js calls, each as small as its task allows.
// Stands for: script.js:1-140 (gradioApp, callbacks, the observer), javascript/ui.js:63-70 (switch_to_img2img), 93-101
// (get_tab_index), 366-370 (updateInput), 374-377 (selectCheckpoint).
const callbacks = {loaded: [], after: [], tab: [], options: []};
const gradioApp = () => document;
const onUiLoaded = (callback) => callbacks.loaded.push(callback);
const onAfterUiUpdate = (callback) => callbacks.after.push(callback);
const onUiTabChange = (callback) => callbacks.tab.push(callback);
const onOptionsChanged = (callback) => callbacks.options.push(callback);
const selected = (id) => [...document.querySelector(`#${id} > .tab-nav`).querySelectorAll("button")];

function get_tab_index(id) {
    return Math.max(0, selected(id).findIndex((button) => button.classList.contains("selected")));
}

function switch_to_img2img() {
    selected("tabs")[1].click();
}

function updateInput(target) {
    target.dispatchEvent(new Event("input", {bubbles: true}));
}

function selectCheckpoint(title) {
    document.body.dataset.selected = title;
}

document.addEventListener("DOMContentLoaded", () => {
    let loaded = false;
    let timer = null;
    new MutationObserver(() => {
        if (!loaded && document.querySelector("#txt2img_prompt")) {
            loaded = true;
            callbacks.loaded.forEach((callback) => callback());
        }
        clearTimeout(timer);
        timer = setTimeout(() => callbacks.after.forEach((callback) => callback()), 200);
    }).observe(document, {childList: true, subtree: true});
});
