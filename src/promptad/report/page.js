(() => {
  "use strict";
  const table = document.getElementById("photos");
  if (!table) return;
  document.documentElement.classList.add("js");
  const body = table.tBodies[0];
  const filter = document.getElementById("filter");
  const only = document.getElementById("only");
  const shown = document.getElementById("shown");

  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.dataset.text;
      const fits = words.every((word) => text.includes(word)) &&
        (!only || !only.checked || row.dataset.verdict === "anomalous");
      row.hidden = !fits;
      if (fits) count += 1;
    }
    shown.textContent = count + " of " + body.rows.length + " shown";
  };
  filter.addEventListener("input", apply);
  if (only) only.addEventListener("change", apply);
  for (const row of body.rows) {
    row.dataset.text = (row.dataset.path + " " + row.textContent).toLowerCase();
  }
  apply();

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const numbers = head.dataset.kind === "number";
      const before = head.getAttribute("aria-sort");
      const falling = before ? before === "ascending" : numbers;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[column];
        const text = cell.dataset.value ?? cell.textContent.trim();
        return numbers ? parseFloat(text) : text;
      };
      const sorted = [...body.rows].map((row) => [value(row), row]);
      sorted.sort((a, b) => {
        const order = numbers
          ? a[0] - b[0]
          : a[0].localeCompare(b[0], undefined, { numeric: true, sensitivity: "base" });
        return falling ? -order : order;
      });
      body.append(...sorted.map((pair) => pair[1]));
    });
  });

  // Photo and heat map at full size beside each other; both panes show the same place.
  const zoom = document.getElementById("zoom");
  const panes = [...zoom.querySelectorAll(".pane")];
  const links = () => [...body.querySelectorAll("a.pictures")].filter((link) => !link.closest("tr").hidden);
  let current = null;
  let size = [1, 1];
  let scale = 1;
  let centre = [0.5, 0.5];

  const fitted = (pane) => Math.min(pane.clientWidth / size[0], pane.clientHeight / size[1]) || 1;
  const draw = () => {
    for (const pane of panes) {
      const img = pane.firstElementChild;
      if (!img || !pane.clientWidth) continue;
      const pixel = fitted(pane) * scale;
      img.style.width = size[0] * pixel + "px";
      // The file of a heat map is higher than its photo by the legend.
      img.style.height = size[0] * pixel * (img.naturalHeight / img.naturalWidth || size[1] / size[0]) + "px";
      img.style.left = pane.clientWidth / 2 - centre[0] * size[0] * pixel + "px";
      img.style.top = pane.clientHeight / 2 - centre[1] * size[1] * pixel + "px";
      img.style.imageRendering = pixel > 3 ? "pixelated" : "auto";
    }
  };
  const look = (factor, x, y) => {
    const most = Math.max(8, 8 / fitted(panes.find((pane) => pane.clientWidth) || panes[0]));
    scale = Math.min(most, Math.max(1, factor));
    centre = scale === 1 ? [0.5, 0.5] : [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))];
    draw();
  };
  const show = (link) => {
    current = link;
    const data = link.dataset;
    const small = [...link.querySelectorAll("img")];
    size = [Number(data.width) || small[0].naturalWidth, Number(data.height) || small[0].naturalHeight];
    zoom.querySelector(".caption bdi").textContent = data.name;
    zoom.querySelector(".caption span").textContent = data.words;
    for (const pane of panes) {
      const thumb = small.find((img) => img.dataset.kind === pane.dataset.kind);
      pane.closest("figure").hidden = !thumb;
      pane.replaceChildren();
      if (!thumb) continue;
      const img = new Image();
      img.alt = thumb.alt;
      img.draggable = false;
      img.src = thumb.src;
      pane.append(img);
      if (!data[pane.dataset.kind]) continue;
      const full = new Image();
      full.onload = () => {
        if (img.isConnected) img.src = full.src;
      };
      img.onload = draw;
      full.src = data[pane.dataset.kind];
    }
    const all = links();
    zoom.querySelector("[data-do=back]").disabled = all[0] === link;
    zoom.querySelector("[data-do=next]").disabled = all[all.length - 1] === link;
    zoom.querySelector("[data-do=hottest]").hidden = data.x === undefined;
    if (!zoom.open) zoom.showModal();
    look(1, 0.5, 0.5);
  };
  const step = (by) => {
    const all = links();
    const next = all[all.indexOf(current) + by];
    if (next) show(next);
  };
  const actions = {
    fit: () => look(1, 0.5, 0.5),
    hottest: () => {
      const wide = panes.find((pane) => pane.clientWidth) || panes[0];
      look(Math.max(3, 1 / fitted(wide)), Number(current.dataset.x) / size[0], Number(current.dataset.y) / size[1]);
    },
    back: () => step(-1),
    next: () => step(1),
    close: () => zoom.close(),
  };
  if (typeof zoom.showModal === "function") {
    body.addEventListener("click", (event) => {
      const link = event.target.closest("a.pictures");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(link);
    });
  }
  zoom.addEventListener("click", (event) => {
    const action = actions[event.target.dataset.do];
    if (action) action();
  });
  zoom.addEventListener("close", () => {
    if (current) current.focus({ preventScroll: true });
    for (const pane of panes) pane.replaceChildren();
  });
  document.addEventListener("keydown", (event) => {
    if (!zoom.open) return;
    const action = { ArrowRight: "next", ArrowLeft: "back", 0: "fit" }[event.key];
    if (action) actions[action]();
    else if (event.key === "+") look(scale * 1.5, ...centre);
    else if (event.key === "-") look(scale / 1.5, ...centre);
    else return;
    event.preventDefault();
  });
  window.addEventListener("resize", draw);

  // What lies under a point of a pane, as a share of the photo's sides.
  const under = (pane, x, y) => {
    const frame = pane.getBoundingClientRect();
    const pixel = fitted(pane) * scale;
    return [
      centre[0] + (x - frame.left - frame.width / 2) / (size[0] * pixel),
      centre[1] + (y - frame.top - frame.height / 2) / (size[1] * pixel),
    ];
  };
  // Zooms so that what lies under a point stays there.
  const zoomAt = (pane, factor, x, y) => {
    const held = under(pane, x, y);
    const before = scale;
    look(factor, ...centre);
    if (scale === 1 || scale === before) return;
    const now = under(pane, x, y);
    look(scale, centre[0] + held[0] - now[0], centre[1] + held[1] - now[1]);
  };
  for (const pane of panes) {
    const fingers = new Map();
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoomAt(pane, scale * Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    pane.addEventListener("dblclick", (event) => {
      zoomAt(pane, scale > 1 ? 1 : Math.max(3, 1 / fitted(pane)), event.clientX, event.clientY);
    });
    pane.addEventListener("pointerdown", (event) => {
      pane.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    pane.addEventListener("pointermove", (event) => {
      const from = fingers.get(event.pointerId);
      if (!from) return;
      const apart = fingers.size === 2 ? spread() : 0;
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size === 2) {
        if (apart) zoomAt(pane, scale * spread() / apart, event.clientX, event.clientY);
      } else if (scale > 1) {
        const pixel = fitted(pane) * scale;
        look(scale, centre[0] - (event.clientX - from[0]) / (size[0] * pixel), centre[1] - (event.clientY - from[1]) / (size[1] * pixel));
      }
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      pane.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    }
  }
})();
