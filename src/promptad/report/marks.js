// Marks that a person gives photos: kept by the photo's content, so that a closed page, or a page of another run, has them too.
const marks = (() => {
  "use strict";
  const KEY = "promptad label ";
  const kept = new Map(); // of this page, also where the browser keeps nothing
  let lasting = true;
  const read = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      lasting = false;
      return null;
    }
  };
  const write = (key, value) => {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, value);
    } catch {
      lasting = false;
    }
  };
  const listeners = [];
  const get = (sha) => {
    if (!kept.has(sha)) {
      let mark = null;
      try {
        mark = JSON.parse(read(KEY + sha));
      } catch {
        // What another program wrote there is no mark.
      }
      kept.set(sha, mark && ["good", "defect", "unsure"].includes(mark.label) ? mark : null);
    }
    return kept.get(sha);
  };
  const put = (sha, mark) => {
    kept.set(sha, mark);
    write(KEY + sha, mark && JSON.stringify(mark));
    for (const listener of listeners) listener(sha);
  };
  const who = () => read("promptad who") || "";
  // A label again takes itself back; boxes and words are those of a defect.
  const set = (sha, label) => {
    const before = get(sha);
    if (label === null || (before && before.label === label)) return put(sha, null);
    const defect = label === "defect" && before ? { box: before.box, words: before.words } : {};
    return put(sha, { label, box: [], words: "", ...defect, when: new Date().toISOString(), who: who() });
  };
  const describe = (sha, changes) => {
    const before = get(sha);
    const defect = before && before.label === "defect" ? before : { box: [], words: "" };
    put(sha, { ...defect, ...changes, label: "defect", when: new Date().toISOString(), who: who() });
  };

  const cell = (value) => {
    let text = String(value);
    if (/^[=+\-@\t\r\n]/.test(text)) text = "'" + text; // no spreadsheet runs it
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  const csv = (photos) => {
    const lines = [["photo", "sha256", "label", "box", "words", "when", "who"]];
    for (const [photo, sha] of photos) {
      const mark = get(sha);
      if (!mark) continue;
      const box = (mark.box || []).map((sides) => sides.join(",")).join("; ");
      lines.push([photo, sha, mark.label, box, mark.words || "", mark.when || "", mark.who || ""]);
    }
    return "\ufeff" + lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
  };
  const save = (photos) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(photos)], { type: "text/csv" }));
    link.download = "labels.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  window.addEventListener("storage", (event) => {
    if (event.key === null) kept.clear();
    else if (event.key.startsWith(KEY)) kept.delete(event.key.slice(KEY.length));
    else return;
    for (const listener of listeners) listener(event.key && event.key.slice(KEY.length));
  });
  return {
    get, set, describe, save, who,
    setWho: (name) => write("promptad who", name),
    changed: (listener) => listeners.push(listener),
    lasting: () => lasting,
  };
})();
