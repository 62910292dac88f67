// In the user's language. The host replaces whole texts by those of its table (localization.js), to which this extension
// adds its own (localizations/*.json). What is left are texts with names and numbers in them: here they are found by
// their pattern, which the table writes with {} in the gaps.
{
    const PLACES = "#depth2img_panel, #depth2img_extras, #depth2img_editor, #depth2img_txt2img_notice, " +
        "[id^=setting_depth2img_], #html_log_img2img, #html_log_txt2img, #html_log_extras, #tab_img2img .comments, .toast-body";
    const ATTRIBUTES = ["alt", "aria-label", "title", "placeholder"];
    const GAP = / ?\{(\d*)\} ?/g;
    const LONGEST = 10_000; // letters of a text that is looked at
    const MOST_READ = 400_000; // letters, of it and its parts over and over: a log of others is not to hold up the page
    const MOST_SENTENCES = 8; // of one message
    const SENTENCE = /[^]*?[.?]["”)]*(?:\s+|$)|[^]+$/g;
    const LIST = "{}; {}";
    const ENDED = /[.?]["”)]*$/;
    const NAME = /^[a-z_]+$/; // of a field or a choice, such as near, which is a label too
    const FULL_STOP = /[。？！]$/; // after which no space stands
    const WIDE = /[\u3000-\u9fff\uff00-\uffef]/; // nor between two of these

    const table = () => window.localization ?? {};

    // `{}` are filled in their order, `{2}` with the second value.
    const fill = (text, values) => {
        let next = 0;
        return text.replace(GAP, (gap, number, start) => {
            const value = String(values[number ? Number(number) - 1 : next++] ?? "");
            const space = (at, ...letters) => (gap.at(at) === " " && !letters.every((letter) => WIDE.test(letter)) ? " " : "");
            return space(0, text[start - 1], value.at(0)) + value + space(-1, value.at(-1), text[start + gap.length]);
        });
    };

    const said = (text, ...values) => fill(table()[text] ?? text, values);

    const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

    let patterns = null;
    const findPatterns = () => {
        patterns ??= Object.entries(table())
            .filter(([text]) => text.includes("{}"))
            .sort(([one], [other]) => other.length - one.length) // the one that says most is the one that is meant
            .map(([text, translation]) => ({
                text,
                translation,
                shape: new RegExp(`^${text.split("{}").map(escaped).join("([^]*?)")}$`),
                isFrame: !/[A-Za-z]/.test(text), // only puts together what others say, such as "{}: {}"
            }));
        return patterns;
    };

    const sentencesOf = (text) => text.match(SENTENCE) ?? [];

    const isBalanced = (text) => {
        let open = 0;
        for (const letter of text) {
            open += (letter === "(") - (letter === ")");
            if (open < 0) return false;
        }
        return open === 0;
    };

    // What a gap holds, in words found by `find`, or undefined where it is a name or a number.
    const translatedGap = (value, find) => {
        const text = value.trim();
        const words = text && !NAME.test(text) ? find(text) : undefined;
        return words === undefined ? undefined : value.replace(text, () => words);
    };

    const known = {sure: new Map(), any: new Map(), parts: new Map(), left: 0}; // of the text that is being translated

    const mayBeOne = (value) => isBalanced(value) && sentencesOf(value).length <= MOST_SENTENCES;

    // Whether the values are what the gaps should hold, and not the rest of a list or a further sentence.
    const fits = ({text, isFrame}, values, words) => {
        if (text === LIST && (ENDED.test(values[1]) || words.includes(undefined))) return false;
        if (isFrame && words.at(-1) === undefined) return false;
        return values.every((value, index) => {
            const isSaid = words[index] !== undefined && (ENDED.test(value) || single(value.trim()) !== undefined);
            const isOpen = (index === 0 && text.startsWith("{}")) || (index === values.length - 1 && text.endsWith("{}"));
            if (!isFrame && value.includes("; ") && (isOpen || !isSaid)) return ENDED.test(value) && isSaid;
            return isSaid || sentencesOf(value).length < 2;
        });
    };

    // `loose`: a gap may hold the end of a sentence that nobody here says, as that of a file called Dr. No.
    const byPattern = (text, loose = false) => {
        known.left -= text.length;
        if (known.left < 0) return undefined;
        for (const pattern of findPatterns()) {
            const values = pattern.shape.exec(text)?.slice(1);
            if (!values || (loose ? pattern.isFrame && pattern.text !== LIST : !values.every(mayBeOne))) continue;
            const words = values.map((value) => translatedGap(value, loose ? anyhow : surely));
            const isKnown = words.some((each) => each !== undefined);
            if (loose ? isKnown || !pattern.isFrame : fits(pattern, values, words)) {
                return fill(pattern.translation, values.map((value, index) => words[index] ?? value));
            }
        }
        return undefined;
    };

    const single = (text) => table()[text] ?? byPattern(text);

    const keeping = (kept, find) => (text) => {
        if (!kept.has(text)) kept.set(text, find(text));
        return kept.get(text);
    };

    // Sentence by sentence, as many in one as the table has: what each says, in order, and whether all are known.
    const bySentence = keeping(known.parts, (text) => {
        const sentences = sentencesOf(text);
        if (sentences.length < 2) return {found: false, all: false, words: text};
        const parts = [];
        let all = true;
        let found = false;
        for (let start = 0, end; start < sentences.length; start = end) {
            let words;
            for (end = Math.min(sentences.length, start + MOST_SENTENCES); end > start; end--) {
                if (end - start === sentences.length) continue; // tried already
                words = single(sentences.slice(start, end).join("").trim());
                if (words !== undefined) break;
            }
            end = Math.max(end, start + 1);
            all &&= words !== undefined;
            found ||= words !== undefined;
            const last = sentences[end - 1];
            const space = last.slice(last.trimEnd().length);
            words ??= sentences[start].trimEnd();
            parts.push(words + (FULL_STOP.test(words) ? space.replace(/ /g, "") : space));
        }
        return {found, all, words: parts.join("")};
    });

    const surely = keeping(known.sure, (text) => {
        const words = single(text);
        if (words !== undefined) return words;
        const sentences = bySentence(text);
        return sentences.all ? sentences.words : undefined;
    });

    // Sentences that nobody here says stay as they are beside those that somebody does.
    const anyhow = keeping(known.any, (text) => {
        const words = surely(text) ?? byPattern(text, true);
        if (words !== undefined) return words;
        const sentences = bySentence(text);
        return sentences.found ? sentences.words : undefined;
    });

    const translated = (text) => {
        if (text.length > LONGEST || !/[A-Za-z]{2}/.test(text)) return undefined;
        const [, kind, rest] = /^(\w*Error: )?([^]*)$/.exec(text); // as the host shows one that ended a generation
        [known.sure, known.any, known.parts].forEach((kept) => kept.clear());
        known.left = MOST_READ;
        const words = anyhow(rest);
        return words === undefined || words === rest ? undefined : (kind ?? "") + words;
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

    window.depth2imgWords = {said, translated};
}
