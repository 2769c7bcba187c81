"use strict";
(() => {
  // Charts: the drawing is in the page; where scripts run, the same chart with tooltips takes its place,
  // in the reader's colours, when it comes near.
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();

  async function draw(figure) {
    const chart = figure.querySelector(".chart");
    const text = figure.querySelector("script").textContent;
    const spec = JSON.parse(text);
    chart.hidden = false;
    const theme = dark.matches ? themes.dark : themes.light;
    // As many columns of names as there is room for; what one can't hold is shortened.
    const room = figure.clientWidth - 40;
    const names = [...text.matchAll(/"series": ?"([^"]*)"/g)].map((match) => match[1].length);
    const limit = Math.min(260, room - 40);
    const column = Math.min(limit, 7 * Math.max(0, ...names)) + 40;
    const legend = { columns: Math.max(1, Math.min(2, Math.floor(room / column))), labelLimit: limit };
    await window.vegaEmbed(
      chart,
      { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } },
      {
        actions: false,
        renderer: "svg",
        config: { ...theme, legend: { ...theme.legend, ...legend } },
        tooltip: { theme: dark.matches ? "dark" : "light" },
      },
    );
    figure.querySelector("img").style.display = "none";
    drawn.add(figure);
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          near.unobserve(entry.target);
          draw(entry.target);
        }
      }
    },
    { rootMargin: "800px" },
  );
  document.querySelectorAll("figure").forEach((figure) => near.observe(figure));
  dark.addEventListener("change", () => drawn.forEach(draw));

  // Tables: a click on a column's head sorts by it, a second one the other way. Holes stay last.
  function value(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const isDate = /^\d{4}-\d\d-/.test(text);
    const number = isDate ? NaN : Number.parseFloat(text.replace("−", "-").replaceAll(",", ""));
    return { text, number, hole: ["", "–", "missing", "no score"].includes(text) };
  }

  function sort(table, column, head) {
    const descending = head.ariaSort !== "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.ariaSort = descending ? "descending" : "ascending";
    const sign = descending ? -1 : 1;
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, ...value(row, column) }));
    rows.sort((one, other) => {
      if (one.hole || other.hole) return Number(one.hole) - Number(other.hole);
      const numbers = !Number.isNaN(one.number) && !Number.isNaN(other.number);
      return sign * (numbers ? one.number - other.number : one.text.localeCompare(other.text));
    });
    table.tBodies[0].append(...rows.map((entry) => entry.row));
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, head));
    });
  });

  // A link to a run opens it.
  function open() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    let details = target && target.closest("details");
    if (!details) return;
    for (; details; details = details.parentElement.closest("details")) details.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", open);
  open();
})();
