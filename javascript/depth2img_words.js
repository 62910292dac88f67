// In the user's language. The host replaces whole texts by those of its table (localization.js), to which this extension
// adds its own (localizations/*.json). What is left are texts with names and numbers in them: here they are found by
// their pattern, which the table writes with {} in the gaps.
{
    const PLACES = "#depth2img_panel, #depth2img_extras, #depth2img_editor, #depth2img_txt2img_notice, " +
        "[id^=setting_depth2img_], #html_log_img2img, #html_log_txt2img, #html_log_extras, #tab_img2img .comments, .toast-body";
    const ATTRIBUTES = ["alt", "aria-label", "title", "placeholder"];
    const GAP = /\{(\d*)\}/g;
    const MOST_DEEP = 3; // a gap may hold a text of the table, which may have gaps

    const table = () => window.localization ?? {};

    // `{}` are filled in their order, `{2}` with the second value.
    const fill = (text, values) => {
        let next = 0;
        return text.replace(GAP, (_, number) => values[number ? Number(number) - 1 : next++] ?? "");
    };

    const said = (text, ...values) => fill(table()[text] ?? text, values);

    const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

    let patterns = null;
    const findPatterns = () => {
        patterns ??= Object.entries(table())
            .filter(([text]) => text.includes("{}"))
            .sort(([one], [other]) => other.length - one.length) // the one that says most is the one that is meant
            .map(([text, translation]) => [new RegExp(`^${text.split("{}").map(escaped).join("([^]*?)")}$`), translation]);
        return patterns;
    };

    const translated = (text, depth = 0) => {
        const whole = table()[text];
        if (whole !== undefined || depth > MOST_DEEP) return whole;
        const error = /^(\w*Error: )([^]+)$/.exec(text); // as the host shows one that ended a generation
        if (error) {
            const words = translated(error[2], depth + 1);
            return words && error[1] + words;
        }
        for (const [pattern, translation] of findPatterns()) {
            const found = pattern.exec(text);
            if (found) return fill(translation, found.slice(1).map((part) => translated(part, depth + 1) ?? part));
        }
        return undefined;
    };

    const translateText = (node) => {
        const text = node.textContent.trim();
        const words = text && !["SCRIPT", "STYLE", "TEXTAREA"].includes(node.parentElement?.tagName) && translated(text);
        if (words) node.textContent = node.textContent.replace(text, () => words);
    };

    const translateAttributes = (element) => {
        for (const name of ATTRIBUTES) {
            const words = element.hasAttribute(name) && translated(element.getAttribute(name));
            if (words) element.setAttribute(name, words);
        }
    };

    const translate = (root) => {
        if (root.nodeType === Node.TEXT_NODE) {
            translateText(root);
            return;
        }
        if (root.nodeType !== Node.ELEMENT_NODE) return;
        translateAttributes(root);
        const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            if (node.nodeType === Node.TEXT_NODE) translateText(node);
            else translateAttributes(node);
        }
    };

    const inPlace = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest(PLACES);

    onUiLoaded(() => {
        if (!Object.keys(table()).length) return;
        document.querySelectorAll(PLACES).forEach(translate);
        const hear = (changes) => {
            for (const change of changes) {
                for (const node of change.addedNodes) {
                    if (inPlace(node)) translate(node);
                    else if (node.nodeType === Node.ELEMENT_NODE) node.querySelectorAll(PLACES).forEach(translate);
                }
                if (change.type === "characterData" && inPlace(change.target)) translate(change.target);
            }
        };
        new MutationObserver(hear).observe(document.body, {childList: true, subtree: true, characterData: true});
    });

    window.depth2imgWords = {said};
}
