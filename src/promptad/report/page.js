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

  const zooms = () => [...body.querySelectorAll("input.zoom")].filter((box) => !box.closest("tr").hidden);
  const open = () => body.querySelector("input.zoom:checked");
  body.addEventListener("change", (event) => {
    if (!event.target.matches("input.zoom") || !event.target.checked) return;
    for (const box of body.querySelectorAll("input.zoom:checked")) {
      if (box !== event.target) box.checked = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    const box = open();
    if (!box) return;
    if (event.key === "Escape") {
      box.checked = false;
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const all = zooms();
      const next = all[all.indexOf(box) + (event.key === "ArrowRight" ? 1 : -1)];
      if (next) {
        box.checked = false;
        next.checked = true;
        next.focus({ preventScroll: true });
      }
      event.preventDefault();
    }
  });
})();
