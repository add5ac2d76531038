// Draws the plots, sorts and filters the tables, and copies command lines. The page needs no network for any of it.
"use strict";
(() => {
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const collator = new Intl.Collator("en", { numeric: true });

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const [ink, grid, raised] = ["--ink", "--grid", "--raised"].map((name) => style.getPropertyValue(name).trim());
    const theme = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: ink },
      hoverlabel: { bgcolor: raised, font: { color: ink } },
    };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      theme[name] = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, ...layout[name] };
    }
    return theme;
  }

  function draw(place) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const canvas = place.querySelector(".canvas") || place.appendChild(document.createElement("div"));
    canvas.className = "canvas";
    Plotly.react(canvas, figure.data, themed(figure.layout), CONFIG).then(() => place.setAttribute("data-drawn", ""));
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "800px" },
  );

  const cells = (row, column) => row.cells[column].textContent;

  function sort(table, column, descending) {
    const head = table.tHead.rows[0].cells;
    for (const cell of head) cell.removeAttribute("aria-sort");
    head[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [cells(row, column), row]);
    rows.sort(([a], [b]) => {
      if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1); // empty cells are always last
      const [x, y] = [Number(a), Number(b)];
      const order = isNaN(x) || isNaN(y) ? collator.compare(a, b) : x - y;
      return descending ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  }

  // Words that each match some cell, and comparisons such as `fd<30` or `bs=64` of one column.
  function conditions(text, names) {
    const words = text.toLowerCase().replace(/\s*(<=|>=|=|<|>)\s*/g, "$1").split(/\s+/).filter(Boolean);
    return words.map((word) => {
      const [, name, sign, value] = /^(.+?)(<=|>=|=|<|>)(.+)$/.exec(word) || [];
      const column = names.indexOf(name);
      if (column < 0) return (row) => row.textContent.toLowerCase().includes(word);
      return (row) => {
        const [cell, number] = [cells(row, column).toLowerCase(), Number(value)];
        if (isNaN(number)) return sign === "=" && cell === value;
        const held = cell === "" ? NaN : Number(cell);
        return { "<": held < number, ">": held > number, "<=": held <= number, ">=": held >= number, "=": held === number }[sign];
      };
    });
  }

  function filter(section, text) {
    const table = section.querySelector("table");
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.toLowerCase());
    const all = conditions(text, names);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !all.every((holds) => holds(row));
      shown += row.hidden ? 0 : 1;
    }
    section.querySelector(".count").textContent = `${shown} of ${table.tBodies[0].rows.length} trials`;
  }

  async function copy(button) {
    const text = button.dataset.command;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.body.appendChild(document.createElement("textarea"));
      area.value = text;
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const before = button.textContent;
    button.textContent = "copied";
    setTimeout(() => (button.textContent = before), 1200);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.matches(".copy")) copy(button);
    if (button && button.closest(".trials th")) {
      const head = button.closest("th");
      sort(head.closest("table"), head.cellIndex, head.getAttribute("aria-sort") === "ascending");
    }
  });
  document.addEventListener("input", (event) => {
    const section = event.target.closest(".trials");
    if (section) filter(section, event.target.value);
  });
  dark.addEventListener("change", () => document.querySelectorAll(".plot[data-drawn]").forEach(draw));
  const observe = () => document.querySelectorAll(".plot").forEach((place) => near.observe(place));
  observe();

  // A served page: replace the content when the server has a newer one, and keep what the reader has set.
  function replace(body) {
    const main = document.querySelector("main");
    const settings = [...main.querySelectorAll(".trials")].map((section) => {
      const sorted = section.querySelector("[aria-sort]");
      const head = sorted && [sorted.cellIndex, sorted.getAttribute("aria-sort") === "descending"];
      return [section.querySelector("input").value, head, section.querySelector(".scroll").scrollTop];
    });
    const opened = [...main.querySelectorAll("details")].map((each) => each.open);
    const active = document.activeElement.matches("input[type=search]");
    near.disconnect();
    main.innerHTML = body;
    main.querySelectorAll("details").forEach((each, index) => (each.open = opened[index] ?? each.open));
    main.querySelectorAll(".trials").forEach((section, index) => {
      const [text, head, top] = settings[index] || ["", null, 0];
      if (head) sort(section.querySelector("table"), ...head);
      section.querySelector("input").value = text;
      if (text) filter(section, text);
      if (active) section.querySelector("input").focus();
      section.querySelector(".scroll").scrollTop = top;
    });
    observe();
  }

  async function poll() {
    let wait = 2000;
    try {
      const answer = await fetch(`content?version=${document.body.dataset.version}`, { cache: "no-store" });
      const found = await answer.json();
      if (found.body !== undefined) {
        document.body.dataset.version = found.version;
        document.title = found.title;
        replace(found.body);
      }
    } catch {
      wait = 10000; // the server was stopped; the page stays as it is
    }
    setTimeout(poll, wait);
  }
  if (document.body.dataset.version !== undefined) setTimeout(poll, 2000);
})();
