"use strict";
const at = id => document.getElementById(id);
const fields = ["class", "seed", "steps", "guidance", "sampler"];
const kept = []; // { settings, command, file, url, caption }
let shown = null, work = null;

function say(text) { at("status").textContent = text; }

async function begin() {
    const answer = await fetch("model");
    if (!answer.ok) throw new Error(await answer.text());
    const model = await answer.json();
    document.title = model.model + " · sid2 view";
    at("about").textContent = `${model.model}, ${model.width}×${model.height}, on ${model.device}`;
    model.classes.forEach((name, label) => at("class").add(new Option(name ? `${label} · ${name}` : label, label)));
    at("class-row").hidden = at("guidance-row").hidden = !model.classes.length;
    at("guidance").disabled = !model.classes.length;
    model.samplers.forEach(word => at("sampler").add(new Option(word, word)));
    for (const key of ["steps", "guidance", "sampler"]) at(key).value = model[key];
}

// What comes are pairs: a text of JSON and a PNG, each behind its length in four bytes. Empty texts keep the way open.
async function* events(body) {
    const reader = body.getReader();
    let held = new Uint8Array(0);
    async function take(size) {
        while (held.length < size) {
            const { value, done } = await reader.read();
            if (done) return null;
            const both = new Uint8Array(held.length + value.length);
            both.set(held);
            both.set(value, held.length);
            held = both;
        }
        const part = held.slice(0, size);
        held = held.slice(size);
        return part;
    }
    async function piece() {
        const head = await take(4);
        return head && take(new DataView(head.buffer).getUint32(0));
    }
    for (;;) {
        const text = await piece(), png = text && await piece();
        if (!png) return;
        if (text.length) yield [JSON.parse(new TextDecoder().decode(text)), png];
    }
}

let preview = "";
function draw(png) {
    const url = URL.createObjectURL(new Blob([png], { type: "image/png" }));
    at("picture").src = url;
    at("picture").hidden = false;
    at("empty").hidden = true;
    if (preview) URL.revokeObjectURL(preview);
    preview = "";
    return url;
}

function show(picture) {
    shown = picture;
    at("picture").src = picture.url;
    at("picture").alt = picture.caption;
    at("command").replaceChildren(...picture.command.split(" ").flatMap(word => {
        const whole = document.createElement("span"); // so that lines end between words alone
        whole.textContent = word;
        return [whole, " "];
    }).slice(0, -1));
    at("save").href = picture.url;
    at("save").download = picture.file;
    at("again").hidden = false;
    for (const tile of at("grid").children) {
        if (tile.picture === picture) tile.firstChild.setAttribute("aria-current", "true");
        else tile.firstChild.removeAttribute("aria-current");
    }
}

function drop(picture) {
    const index = kept.indexOf(picture), tile = at("grid").children[index];
    const next = tile.nextSibling || tile.previousSibling;
    kept.splice(index, 1);
    tile.remove();
    if (picture !== shown) URL.revokeObjectURL(picture.url);
    at("kept").hidden = !kept.length;
    (next ? next.firstChild : at("make")).focus();
}

function keep(picture) {
    const tile = document.createElement("li"), button = document.createElement("button"), image = new Image();
    const caption = document.createElement("span"), cross = document.createElement("button");
    tile.picture = picture;
    image.src = picture.url;
    image.alt = "";
    caption.textContent = picture.caption;
    button.type = cross.type = "button";
    button.className = "show";
    button.append(image, caption);
    button.onclick = () => {
        for (const key of fields) at(key).value = picture.settings[key];
        show(picture);
        say("");
    };
    cross.className = "drop";
    cross.textContent = "×";
    cross.setAttribute("aria-label", "Drop " + picture.caption);
    cross.onclick = () => drop(picture);
    tile.append(button, cross);
    at("grid").append(tile);
    kept.push(picture);
    at("kept").hidden = false;
    show(picture);
}

async function make(settings, number, count) {
    const answer = await fetch("sample", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify(settings), signal: work.signal
    });
    if (!answer.ok) throw new Error(await answer.text());
    const which = count > 1 ? `Picture ${number + 1} of ${count}: ` : "";
    for await (const [event, png] of events(answer.body)) {
        if (event.error) throw new Error(event.error);
        if (event.wait) say(which + event.wait);
        if (png.length) {
            const url = draw(png);
            if (event.command) {
                keep({ settings, command: event.command, file: event.file, url, caption: event.caption });
                at("progress").value = 1;
                say(`${which}done in ${event.seconds} s`);
                return;
            }
            preview = url;
            at("picture").alt = `Step ${event.step} of ${event.steps}`;
            at("again").hidden = true;
            at("progress").value = event.step / event.steps;
            say(`${which}step ${event.step} of ${event.steps}`);
        }
    }
    throw new Error("sid2 view has ended, or the connection to it");
}

at("form").onsubmit = async submitted => {
    submitted.preventDefault();
    if (work) return;
    work = new AbortController();
    at("make").disabled = true;
    at("stop").disabled = false;
    at("progress").value = 0;
    say("waiting");
    at("now").scrollIntoView({ block: "nearest" });
    const count = Number(at("count").value), settings = {};
    for (const key of fields) settings[key] = at(key).disabled ? "" : at(key).value;
    try {
        for (let number = 0; number < count; number++) {
            const seed = BigInt.asUintN(64, BigInt(settings.seed) + BigInt(number)).toString();
            await make({ ...settings, seed }, number, count);
        }
    } catch (problem) {
        say(work.signal.aborted ? "stopped" : problem.message);
        if (shown) show(shown);
    }
    work = null;
    at("make").disabled = false;
    at("stop").disabled = true;
    if (document.activeElement === document.body) at("make").focus();
};

at("stop").onclick = () => work && work.abort();
addEventListener("keydown", key => { if (key.key === "Escape" && work) work.abort(); });

at("random").onclick = () => {
    at("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
};

async function copy(text, what) {
    try {
        await navigator.clipboard.writeText(text);
        say(what + " copied");
    } catch {
        getSelection().selectAllChildren(at("command"));
        say("The browser does not let a page copy: press Ctrl-C");
    }
}
at("copy").onclick = () => copy(at("command").textContent, "Command");
at("copy-all").onclick = () => copy(kept.map(picture => picture.command + "\n").join(""), "Commands");
at("clear").onclick = () => {
    for (const picture of kept.splice(0)) if (picture !== shown) URL.revokeObjectURL(picture.url);
    at("grid").replaceChildren();
    at("kept").hidden = true;
    at("make").focus();
};

begin().catch(problem => say(problem.message));
