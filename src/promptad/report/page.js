// The list of photos: filters, order, the movable threshold. Only rows near the window stand in the table, whatever their number.
const list = (() => {
  "use strict";
  const table = document.getElementById("photos");
  if (!table) return null;
  document.documentElement.classList.add("js");
  const known = JSON.parse(document.getElementById("rows").textContent);
  const rows = known.rows; // worst first
  const element = (id) => document.getElementById(id);
  const standing = new Map([...table.tBodies[0].rows].map((row) => [Number(row.dataset.i), row])); // with their pictures
  const built = new Map(standing);
  const CHUNK = 40; // rows that come and go together
  let order = rows.map((_, i) => i); // what is listed
  let sorted = order;
  let chunks = [];
  let high = 140; // of a row, in pixels, about
  let limit = known.threshold;

  const verdict = (row) => (limit === null ? "no threshold" : row.score > limit ? "anomalous" : "normal");
  const number = (value) => value.toFixed(known.decimals);
  const make = (tag, kind, text = "") => {
    const made = document.createElement(tag);
    made.className = kind;
    made.textContent = text;
    return made;
  };

  // -- rows -------------------------------------------------------------------------------------------------------------
  const build = (i) => {
    const data = rows[i];
    const row = make("tr", "");
    row.dataset.i = i;
    const cells = {};
    for (const kind of known.columns) {
      cells[kind] = make("td", { rank: "rank number", score: "score number" }[kind] || kind);
      cells[kind].setAttribute("role", "cell");
      row.append(cells[kind]);
    }
    row.setAttribute("role", "row");
    cells.rank.textContent = i + 1;
    if (cells.pictured) cells.pictured.append(make("span", "muted", "–"));
    const about = make("div", "small muted");
    const facts = [data.folder, data.size && `${data.size[1]} × ${data.size[0]} px`, data.hottest && `hottest at x ${data.hottest[1]}, y ${data.hottest[0]}`];
    for (const fact of facts.filter(Boolean)) about.append(make("bdi", "", fact), document.createElement("br"));
    for (const [words, link] of [["heat map", data.heatmap], ["photo", data.photo]]) {
      if (!link) continue;
      const way = make("a", "", words);
      way.href = link;
      about.append(way, " ");
    }
    cells.file.append(make("bdi", "name", data.name), about);
    for (const remark of data.remarks) cells.file.append(make("div", "small remark", remark));
    cells.verdict.append(make("span", "badge"));
    if (data.regions !== null) cells.verdict.append(make("div", "counted-regions small muted"));
    if (data.found.length) {
      const list = make("ol", "found small muted");
      for (const [line, full] of data.found) {
        const entry = make("li", "", line);
        entry.title = full;
        list.append(entry);
      }
      cells.verdict.append(list);
    }
    if (data.label !== null) cells.verdict.append(make("div", "small muted", "label: " + ["normal", "anomalous"][data.label]));
    cells.score.append(number(data.score));
    cells.score.title = data.score;
    if (cells.worded && data.words.length) {
      const words = make("ul", "words");
      for (const [says, whole, region] of data.words) {
        const entry = make("li", "");
        const shares = [whole, region].filter((share) => share !== null).map((share) => Math.round(100 * share));
        entry.append(make("span", "says", says), make("span", "twin"), make("span", "share", shares.join(" · ") + " %"));
        words.append(entry);
      }
      cells.worded.append(words);
    }
    built.set(i, row);
    dress(i);
    return row;
  };
  // What changes with the threshold and with a mark.
  const dress = (i) => {
    const row = built.get(i);
    if (!row) return;
    const says = verdict(rows[i]);
    const known_verdict = says === "no threshold" ? "none" : says;
    row.classList.remove("anomalous", "normal");
    if (known_verdict !== "none") row.classList.add(says);
    row.dataset.verdict = says;
    const badge = row.querySelector(".badge");
    badge.className = "badge " + known_verdict;
    badge.textContent = says;
    const wrong = row.querySelector(".badge.wrong");
    if (wrong) wrong.parentElement.remove();
    const outcome = { 1: { normal: "missed" }, 0: { anomalous: "false alarm" } }[rows[i].label]?.[says];
    if (outcome) {
      badge.insertAdjacentElement("afterend", make("div", "small"));
      badge.nextElementSibling.append(make("span", "badge wrong", outcome));
    }
    // The score decides the verdict, regions are those of the map: where the two say different things, that is said.
    const counted = row.querySelector(".counted-regions");
    if (counted) {
      const count = rows[i].regions.length;
      const odd = says === "anomalous" ? !count : says === "normal" && count > 0;
      counted.textContent = `${count || "no"} region${count === 1 || (odd && !count) ? "" : "s"}` + (odd ? (count ? ", but the score decides" : ": look at the whole photo") : "");
      counted.classList.toggle("remark", odd);
      counted.classList.toggle("muted", !odd);
    }
    const score = row.querySelector(".score");
    let times = score.querySelector(".times");
    if (!times) score.append((times = make("div", "times small muted")));
    times.textContent = limit > 0 ? (rows[i].score / limit).toFixed(2) + " × threshold" : "";
    if (rows[i].p !== null) times.append(document.createElement("br"), "p " + Number(rows[i].p.toPrecision(2)) + (rows[i].chosen ? ", chosen" : ""));
    const place = score.querySelector(".track u");
    if (place) place.style.left = 100 * share(limit) + "%";
    if (rows[i].sha) dressMark(i, row);
  };
  const dressMark = (i, row) => {
    const mark = marks.get(rows[i].sha);
    let group = row.querySelector(".marks");
    if (!group) {
      group = make("div", "marks");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", "Mark " + rows[i].name);
      for (const label of ["good", "defect", "unsure"]) {
        const button = make("button", "mark " + label, label);
        button.type = "button";
        button.dataset.mark = label;
        button.title = `${label} (key ${label[0]})`;
        group.append(button);
      }
      row.querySelector(".verdict").append(group);
    }
    for (const button of group.children) button.setAttribute("aria-pressed", String(mark?.label === button.dataset.mark));
    let words = row.querySelector(".marked-words");
    if (!words) row.querySelector(".verdict").append((words = make("div", "marked-words small")));
    const boxes = mark?.box?.length ? `${mark.box.length} box${mark.box.length > 1 ? "es" : ""}` : "";
    words.textContent = [mark?.words, boxes].filter(Boolean).join(", ");
  };
  const fill = (chunk) => {
    if (!chunk || chunk.rows.length) return;
    const from = chunks.indexOf(chunk) * CHUNK;
    const next = order.slice(from, from + CHUNK).map((i, n) => {
      const row = built.get(i) || build(i);
      dress(i);
      row.tabIndex = row.tabIndex === 0 && row.isConnected ? 0 : -1;
      row.setAttribute("aria-rowindex", from + n + 2);
      return row;
    });
    chunk.append(...next);
    chunk.style.height = "";
    if (!table.querySelector("tr[tabindex='0']")) next[0].tabIndex = 0;
  };
  const empty = (chunk) => {
    if (!chunk.rows.length || chunk.contains(document.activeElement)) return;
    const pixels = chunk.getBoundingClientRect().height;
    if (pixels) high = pixels / chunk.rows.length;
    chunk.style.height = pixels + "px";
    for (const row of chunk.rows) if (!standing.has(Number(row.dataset.i))) built.delete(Number(row.dataset.i));
    chunk.replaceChildren();
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? fill : empty)(entry.target);
  }, { rootMargin: "1200px 0px" });
  const lay = () => {
    near.disconnect();
    for (const chunk of [...table.tBodies]) chunk.remove();
    for (const i of [...built.keys()]) if (!standing.has(i)) built.delete(i);
    chunks = [];
    for (let from = 0; from < order.length; from += CHUNK) {
      const chunk = table.createTBody();
      chunk.setAttribute("role", "rowgroup");
      chunk.style.height = Math.min(CHUNK, order.length - from) * high + "px";
      chunks.push(chunk);
    }
    fill(chunks[0]);
    for (const chunk of chunks) near.observe(chunk);
    table.setAttribute("aria-rowcount", order.length + 1);
  };
  // The row of a photo that is listed, in the table.
  const listed = (i) => {
    fill(chunks[Math.floor(order.indexOf(i) / CHUNK)]);
    return built.get(i);
  };
  const MOST_PRINTED = 1000;
  window.addEventListener("beforeprint", () => {
    near.disconnect();
    chunks.forEach((chunk, n) => (n * CHUNK < MOST_PRINTED ? fill(chunk) : chunk.remove()));
    element("printed").textContent = order.length > MOST_PRINTED ? `Only the first ${MOST_PRINTED} of ${order.length} photos are printed; filters choose others.` : "";
  });
  window.addEventListener("afterprint", () => {
    element("printed").textContent = "";
    lay();
  });

  // -- filters and order ---------------------------------------------------------------------------------------------------
  const texts = rows.map((row) => [row.folder, row.name, row.words.map((word) => word[0]).join(" "), ...row.remarks, ...row.found.flat()].join(" ").toLowerCase());
  const fits = {
    filter: (i, value) => value.toLowerCase().split(/\s+/).filter(Boolean).every((word) => texts[i].includes(word) || verdict(rows[i]).includes(word)),
    "by-verdict": (i, value) => verdict(rows[i]) === value,
    "by-words": (i, value) => rows[i].words.some((word) => word[0] === value),
    "by-folder": (i, value) => (rows[i].folder || ".") === value,
    "by-label": (i, value) => {
      const label = marks.get(rows[i].sha)?.label;
      if (value === "none") return !label;
      if (value === "disagrees") return label === (verdict(rows[i]) === "anomalous" ? "good" : "defect");
      if (value.startsWith("known")) return rows[i].label === Number(value.slice(-1));
      return label === value;
    },
  };
  const options = (id, values, least) => {
    const select = element(id);
    for (const [value, text] of values) select.append(new Option(text, value));
    select.closest("label").hidden = values.length < least;
  };
  const counts = (values) => {
    const seen = new Map();
    for (const value of values) seen.set(value, (seen.get(value) || 0) + 1);
    return [...seen].sort((a, b) => b[1] - a[1]).map(([value, count]) => [value, `${value} (${count})`]);
  };
  options("by-words", counts(rows.flatMap((row) => row.words.map((word) => word[0]))), 1);
  options("by-folder", counts(rows.map((row) => row.folder || ".")), 2);
  const apply = () => {
    const asked = Object.keys(fits).map((id) => [fits[id], element(id).value]).filter((pair) => pair[1]);
    order = sorted.filter((i) => asked.every(([fit, value]) => fit(i, value)));
    lay();
    element("shown").textContent = `${order.length} of ${rows.length} shown`;
  };
  for (const id of Object.keys(fits)) element(id).addEventListener("input", apply);

  const heads = [...table.tHead.rows[0].cells];
  const values = {
    rank: (i) => i, score: (i) => rows[i].score, file: (i) => rows[i].folder + "/" + rows[i].name,
    verdict: (i) => verdict(rows[i]), worded: (i) => rows[i].words[0]?.[0] || "",
  };
  heads.forEach((head) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const numbers = head.dataset.kind === "number";
      const before = head.getAttribute("aria-sort");
      const falling = before ? before === "ascending" : numbers;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
      const value = values[head.dataset.column];
      const pairs = rows.map((_, i) => [value(i), i]);
      pairs.sort((a, b) => (falling ? -1 : 1) * (numbers ? a[0] - b[0] : collator.compare(a[0], b[0])));
      sorted = pairs.map((pair) => pair[1]);
      apply();
    });
  });

  // -- the threshold ---------------------------------------------------------------------------------------------------------
  const slider = element("threshold");
  const ends = [Number(slider.min), Number(slider.max)];
  const share = (value) => (ends[1] > ends[0] ? Math.min(1, Math.max(0, (value - ends[0]) / (ends[1] - ends[0]))) : 0.5);
  const above = () => {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].score > limit) low = middle + 1;
      else high = middle;
    }
    return limit === null ? 0 : low;
  };
  let cut = above();
  const tell = () => {
    const put = (id, text) => {
      const place = element(id);
      if (place) (place.querySelector("b") || place).textContent = text;
    };
    const wrong = { missed: 0, alarm: 0, good: 0, defect: 0 };
    rows.forEach((row, i) => {
      wrong.missed += row.label === 1 && i >= cut;
      wrong.alarm += row.label === 0 && i < cut;
      const mark = row.sha && marks.get(row.sha)?.label;
      wrong.good += mark === "good" && i < cut;
      wrong.defect += mark === "defect" && i >= cut;
    });
    if (limit !== null) {
      put("count-anomalous", cut);
      put("count-normal", rows.length - cut);
      put("count-missed", wrong.missed);
      put("count-alarms", wrong.alarm);
    }
    const marked = rows.filter((row) => row.sha && marks.get(row.sha)).length;
    const against = limit === null || !marked ? "" : ` Of the photos that you marked, ${wrong.good} good above it and ${wrong.defect} defective not above it.`;
    put("counted", limit === null ? "No threshold: photos are only ranked." : `${cut} of ${rows.length} photos above it.` + against);
    put("marked", `${marked} of ${rows.length} photos marked.` + (marks.lasting() ? "" : " This browser keeps nothing: save before you close the page."));
    element("save").disabled = !marked;
  };
  const draw = () => {
    const svg = document.querySelector("svg.histogram");
    if (!svg || limit === null) return;
    const { low, high, left, right } = svg.dataset;
    const x = Number(left) + ((limit - low) / (high - low)) * (right - left);
    let line = svg.querySelector(".limit");
    if (!line) {
      line = document.createElementNS(svg.namespaceURI, "line");
      line.setAttribute("class", "limit");
      line.setAttribute("y1", svg.dataset.top);
      line.setAttribute("y2", svg.dataset.base);
      svg.append(line);
    }
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    const text = svg.querySelector(".limit-text");
    if (!text) return;
    const far = x > svg.viewBox.baseVal.width * 0.7;
    text.setAttribute("x", x + (far ? -6 : 6));
    text.setAttribute("text-anchor", far ? "end" : "start");
    text.textContent = `threshold ${Number(limit.toPrecision(4))}`;
  };
  const permanent = () => {
    const own = element("permanent");
    own.hidden = limit === null || limit === known.threshold;
    const command = known.command.startsWith("promptad inspect ") ? known.command : "promptad inspect PHOTOS --model DETECTOR.safetensors -o OUT";
    const bare = command.replace(/ --(threshold|false-alarms)[ =]\S+/g, "");
    own.querySelector("code").textContent = `${bare} --threshold ${limit}`;
  };
  const move = (value) => {
    limit = value;
    cut = above();
    for (const [i, row] of built) if (row.isConnected) dress(i); // the others when they come into the table
    if (limit !== null) {
      slider.value = limit;
      element("exactly").value = limit;
      slider.setAttribute("aria-valuetext", `${number(limit)}, ${cut} photos above it`);
    }
    draw();
    tell();
    permanent();
    if (["by-verdict", "by-label", "filter"].some((id) => element(id).value)) apply();
  };
  let waiting = 0;
  slider.addEventListener("input", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => move(Number(Number(slider.value).toPrecision(6))));
  });
  element("exactly").addEventListener("change", (event) => {
    if (event.target.value !== "" && Number.isFinite(Number(event.target.value))) move(Number(event.target.value));
  });
  element("learned").addEventListener("click", () => move(known.threshold));

  // -- marks and keys ----------------------------------------------------------------------------------------------------------
  const bySha = new Map();
  rows.forEach((row, i) => row.sha && bySha.set(row.sha, [...(bySha.get(row.sha) || []), i]));
  marks.changed((sha) => {
    for (const i of sha ? bySha.get(sha) || [] : [...built.keys()]) dress(i);
    tell();
  });
  const way = (link) => {
    try {
      return decodeURIComponent(link).replace(/^\.\//, "");
    } catch {
      return link.replace(/^\.\//, "");
    }
  };
  element("save").addEventListener("click", () => {
    const photos = [...bySha].map(([sha, numbers]) => [rows[numbers[0]].photo ? way(rows[numbers[0]].photo) : rows[numbers[0]].name, sha]);
    marks.save(photos);
  });
  element("who").value = marks.who();
  element("who").addEventListener("input", (event) => marks.setWho(event.target.value.trim()));
  const KEYS = { g: "good", d: "defect", u: "unsure", x: null, Backspace: null };
  const marking = (event, i) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS) || !rows[i].sha) return false;
    if (event.target.closest("input, select, textarea")) return false;
    marks.set(rows[i].sha, KEYS[event.key]);
    event.preventDefault();
    return true;
  };
  const focus = (row) => {
    for (const other of table.querySelectorAll("tr[tabindex='0']")) other.tabIndex = -1;
    row.tabIndex = 0;
    row.focus();
    row.scrollIntoView({ block: "nearest" });
  };
  table.addEventListener("click", (event) => {
    const button = event.target.closest(".mark");
    if (button) marks.set(rows[button.closest("tr").dataset.i].sha, button.dataset.mark);
  });
  table.addEventListener("keydown", (event) => {
    const row = event.target.closest("tbody tr");
    if (!row || marking(event, Number(row.dataset.i))) return;
    const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = order[order.indexOf(Number(row.dataset.i)) + by];
    if (next !== undefined) focus(listed(next));
    event.preventDefault();
  });

  apply();
  draw();
  tell();
  return { rows, table, marking, focus, verdict, number, order: () => order, row: listed };
})();
