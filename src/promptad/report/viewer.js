// Photo and heat map at full size, one over the other: a slider says how much of the heat map is seen. Boxes are drawn on it.
(() => {
  "use strict";
  if (!list) return;
  const zoom = document.getElementById("zoom");
  if (typeof zoom.showModal !== "function") return;
  const pane = zoom.querySelector(".pane");
  const drawing = zoom.querySelector("svg");
  const asked = (name) => zoom.querySelector(`[data-do=${name}]`);
  const slider = document.getElementById("heat");
  const boxText = document.getElementById("boxes");
  const wordText = document.getElementById("said");
  let i = null;
  let size = [1, 1];
  let scale = 1;
  let centre = [0.5, 0.5];
  let boxing = false;
  let started = null; // corner of a box that is being drawn
  const mark = () => list.rows[i].sha && marks.get(list.rows[i].sha);

  const fitted = () => Math.min(pane.clientWidth / size[0], pane.clientHeight / size[1]) || 1;
  const draw = () => {
    if (i === null || !pane.clientWidth) return;
    const pixel = fitted() * scale;
    const left = pane.clientWidth / 2 - centre[0] * size[0] * pixel + "px";
    const top = pane.clientHeight / 2 - centre[1] * size[1] * pixel + "px";
    for (const img of pane.querySelectorAll("img")) {
      // The file of a heat map is higher than its photo by the legend.
      const high = img.naturalHeight / img.naturalWidth || size[1] / size[0];
      Object.assign(img.style, { left, top, width: size[0] * pixel + "px", height: size[0] * pixel * high + "px" });
      img.style.imageRendering = pixel > 3 ? "pixelated" : "auto";
    }
    Object.assign(drawing.style, { left, top, width: size[0] * pixel + "px", height: size[1] * pixel + "px" });
  };
  const look = (factor, x, y) => {
    scale = Math.min(Math.max(8, 8 / fitted()), Math.max(1, factor));
    centre = scale === 1 ? [0.5, 0.5] : [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))];
    draw();
  };
  const fade = () => {
    const heat = pane.querySelector("[data-kind=heatmap]");
    if (heat) heat.style.opacity = pane.querySelector("[data-kind=photo]") ? slider.value / 100 : 1;
    slider.setAttribute("aria-valuetext", slider.value + " %");
  };
  const shape = (box, kind) => {
    const made = document.createElementNS(drawing.namespaceURI, "rect");
    ["x", "y", "width", "height"].forEach((side, n) => made.setAttribute(side, box[n]));
    made.setAttribute("class", kind);
    return made;
  };
  const dress = () => {
    if (i === null) return;
    const now = mark();
    const boxes = now?.box || [];
    for (const button of zoom.querySelectorAll("[data-mark]")) {
      button.setAttribute("aria-pressed", String(now?.label === button.dataset.mark));
      button.disabled = !list.rows[i].sha;
    }
    drawing.replaceChildren(...(list.rows[i].regions || []).map((box) => shape(box, "region")), ...boxes.map((box) => shape(box, "box")));
    if (document.activeElement !== boxText) boxText.value = boxes.map((box) => box.join(",")).join("; ");
    if (document.activeElement !== wordText) wordText.value = now?.words || "";
    asked("clear").disabled = !boxes.length;
    const says = list.verdict(list.rows[i]);
    zoom.querySelector(".caption span").textContent = `${says} · score ${list.number(list.rows[i].score)}` + (now ? ` · marked ${now.label}` : "");
  };
  const layer = (kind, thumb, link, words) => {
    if (!thumb && !link) return [];
    const img = new Image();
    img.dataset.kind = kind;
    img.alt = words;
    img.draggable = false;
    img.onload = () => {
      if (!list.rows[i].size && kind === "photo") size = [img.naturalWidth, img.naturalHeight];
      draw();
      fade();
    };
    img.onerror = () => {
      img.remove();
      fade();
      zoom.querySelector(".missing").hidden = pane.querySelector("img") !== null;
    };
    img.src = thumb || link;
    if (thumb && link) {
      const full = new Image();
      full.onload = () => {
        if (img.isConnected) img.src = full.src;
      };
      full.src = link;
    }
    return [img];
  };
  const show = (number) => {
    i = number;
    const data = list.rows[i];
    const small = [...(list.row(i)?.querySelectorAll("a.pictures img") || [])];
    const thumb = (kind) => small.find((img) => img.dataset.kind === kind)?.src;
    size = data.size ? [data.size[1], data.size[0]] : [small[0]?.naturalWidth || 1, small[0]?.naturalHeight || 1];
    drawing.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    zoom.querySelector(".caption bdi").textContent = data.name;
    for (const img of pane.querySelectorAll("img")) img.remove();
    zoom.querySelector(".missing").hidden = true;
    pane.prepend(
      ...layer("photo", thumb("photo"), data.photo, "Photo " + data.name),
      ...layer("heatmap", thumb("heatmap"), data.heatmap, "Heat map of " + data.name),
    );
    slider.closest("label").hidden = !pane.querySelector("[data-kind=heatmap]");
    const order = list.order();
    asked("back").disabled = order[0] === i;
    asked("next").disabled = order[order.length - 1] === i;
    asked("hottest").hidden = !data.hottest;
    if (!zoom.open) zoom.showModal();
    look(1, 0.5, 0.5);
    fade();
    dress();
  };
  const step = (by) => {
    const order = list.order();
    const next = order[order.indexOf(i) + by];
    if (next !== undefined) show(next);
  };
  const box = (on) => {
    boxing = on;
    pane.classList.toggle("boxing", on);
    asked("box").setAttribute("aria-pressed", String(on));
  };
  const actions = {
    fit: () => look(1, 0.5, 0.5),
    hottest: () => {
      const [y, x] = list.rows[i].hottest;
      look(4, x / size[0], y / size[1]);
    },
    back: () => step(-1),
    next: () => step(1),
    box: () => box(!boxing),
    clear: () => marks.describe(list.rows[i].sha, { box: [] }),
    close: () => zoom.close(),
  };

  list.table.addEventListener("click", (event) => {
    const link = event.target.closest("tbody :is(a.pictures, .name)");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(Number(link.closest("tr").dataset.i));
  });
  list.table.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("tbody tr")) show(Number(event.target.dataset.i));
  });
  zoom.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.mark) marks.set(list.rows[i].sha, button.dataset.mark);
    else if (button) actions[button.dataset.do]?.();
  });
  zoom.addEventListener("close", () => {
    const row = list.row(i);
    i = null;
    box(false);
    if (row?.isConnected) list.focus(row);
    for (const img of pane.querySelectorAll("img")) img.remove();
  });
  document.addEventListener("keydown", (event) => {
    if (!zoom.open || event.target.matches("input[type=text]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const sliding = event.target === slider && event.key.startsWith("Arrow");
    const action = sliding ? undefined : { ArrowRight: "next", ArrowLeft: "back", 0: "fit", b: "box" }[event.key];
    if (action) actions[action]();
    else if (event.key === "h") {
      slider.value = slider.value > 0 ? 0 : 100;
      fade();
    } else if (event.key === "+") look(scale * 1.5, ...centre);
    else if (event.key === "-") look(scale / 1.5, ...centre);
    else {
      list.marking(event, i);
      return;
    }
    event.preventDefault();
  });
  slider.addEventListener("input", fade);
  window.addEventListener("resize", draw);
  marks.changed(dress);
  wordText.addEventListener("change", () => marks.describe(list.rows[i].sha, { words: wordText.value.trim() }));
  boxText.addEventListener("change", () => {
    const boxes = boxText.value.split(";").filter((text) => text.trim()).map((text) => text.split(",").map(Number));
    const right = boxes.every((sides) => sides.length === 4 && sides.every((side) => Number.isInteger(side) && side >= 0) && sides[2] > 0 && sides[3] > 0);
    boxText.setCustomValidity(right ? "" : "x,y,width,height in pixels, several with ; between");
    boxText.reportValidity();
    if (right) marks.describe(list.rows[i].sha, { box: boxes });
  });

  // What lies under a point of the pane, as a share of the photo's sides.
  const under = (x, y) => {
    const frame = pane.getBoundingClientRect();
    const pixel = fitted() * scale;
    return [
      centre[0] + (x - frame.left - frame.width / 2) / (size[0] * pixel),
      centre[1] + (y - frame.top - frame.height / 2) / (size[1] * pixel),
    ];
  };
  // Zooms so that what lies under a point stays there.
  const zoomAt = (factor, x, y) => {
    const held = under(x, y);
    const before = scale;
    look(factor, ...centre);
    if (scale === 1 || scale === before) return;
    const now = under(x, y);
    look(scale, centre[0] + held[0] - now[0], centre[1] + held[1] - now[1]);
  };
  const sides = (from, to) => {
    const corner = (point, n) => Math.round(Math.min(1, Math.max(0, point[n])) * size[n]);
    const [x, y] = [0, 1].map((n) => Math.min(corner(from, n), corner(to, n)));
    return [x, y, ...[0, 1].map((n) => Math.abs(corner(from, n) - corner(to, n)))];
  };
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  pane.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(scale * Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  }, { passive: false });
  pane.addEventListener("dblclick", (event) => {
    if (!boxing) zoomAt(scale > 1 ? 1 : Math.max(3, 1 / fitted()), event.clientX, event.clientY);
  });
  pane.addEventListener("pointerdown", (event) => {
    pane.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    started = boxing && fingers.size === 1 && list.rows[i].sha ? under(event.clientX, event.clientY) : null;
  });
  pane.addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    if (!from) return;
    const apart = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      started = null;
      if (apart) zoomAt(scale * spread() / apart, event.clientX, event.clientY);
    } else if (started) {
      drawing.querySelector(".begun")?.remove();
      drawing.append(shape(sides(started, under(event.clientX, event.clientY)), "box begun"));
    } else if (scale > 1) {
      const pixel = fitted() * scale;
      look(scale, centre[0] - (event.clientX - from[0]) / (size[0] * pixel), centre[1] - (event.clientY - from[1]) / (size[1] * pixel));
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    pane.addEventListener(kind, (event) => {
      fingers.delete(event.pointerId);
      drawing.querySelector(".begun")?.remove();
      if (!started) return;
      const drawn = sides(started, under(event.clientX, event.clientY));
      started = null;
      if (kind === "pointerup" && drawn[2] > 0 && drawn[3] > 0) {
        marks.describe(list.rows[i].sha, { box: [...(mark()?.box || []), drawn] });
      }
    });
  }
})();
