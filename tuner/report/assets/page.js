// Draws the plots, selects trials, sorts and filters the tables, and copies command lines, without the network.
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

  // Readable ticks: 1 and 3 of each decade, decades alone where there are many, and more where there is one.
  function ticks([low, high]) {
    const span = high - low;
    const steps = span > 3.2 ? [1] : span > 1.2 ? [1, 3] : span > 0.5 ? [1, 2, 3, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
    const found = [];
    for (let decade = Math.floor(low); decade <= high; decade++) {
      found.push(...steps.map((step) => step * 10 ** decade).filter((at) => Math.log10(at) >= low && Math.log10(at) <= high));
    }
    const text = (at) => (at >= 1e-3 && at < 1e5 ? String(Number(at.toPrecision(3))) : at.toExponential().replace("e+", "e"));
    return { tickmode: "array", tickvals: found, ticktext: found.map(text) };
  }

  // The other scale of the objective's axis, if the reader has asked for it.
  function rescaled(figure, scope) {
    const { objective, positive, least } = figure.layout.meta || {};
    const axis = figure.layout[objective];
    if (!axis || !positive || scope.dataset.scale !== "other") return;
    const log = axis.type === "log";
    const [low, high] = axis.range;
    axis.range = log ? [10 ** low, 10 ** high] : [Math.log10(Math.max(low, least * 0.8)), Math.log10(high)];
    axis.type = log ? "linear" : "log";
    const floor = axis.range[0] + 0.04 * (axis.range[1] - axis.range[0]);
    for (const trace of figure.data.filter((each) => each.meta === "floor")) {
      trace.y = trace.y.map(() => (log ? floor : 10 ** floor));
    }
  }

  // The table holds what is known of each trial, so plots need only the trials' numbers.
  const tables = new WeakMap();
  function trials(scope) {
    const table = scope && scope.querySelector(".trials table");
    if (!table) return { rows: new Map(), heads: [] };
    if (!tables.has(table)) {
      const heads = [...table.tHead.rows[0].cells].map((cell) => [cell.textContent, cell.dataset.kind]);
      tables.set(table, { rows: new Map([...table.tBodies[0].rows].map((row) => [row.dataset.n, row])), heads });
    }
    return tables.get(table);
  }

  const SHOWN = 14; // lines below the mouse
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function hover(number, { rows, heads }) {
    const row = rows.get(String(number));
    if (!row) return `trial ${number}`;
    const wanted = ["objective", "parameter", "seconds", "state"];
    const lines = wanted.flatMap((kind) =>
      heads.flatMap(([name, own], index) => {
        const value = own === kind ? row.cells[index].textContent : "";
        return value ? [`${plain(name)} ${plain(value)}`] : [];
      }),
    );
    return [`<b>trial ${number}${row.classList.contains("winner") ? " (best)" : ""}</b>`, ...lines.slice(0, SHOWN)].join("<br>");
  }

  function marked(figure, number) {
    const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    for (const trace of [...figure.data]) {
      if (String(trace.meta) === number && trace.mode === "lines") Object.assign(trace, { opacity: 1, line: { ...trace.line, width: 4 } });
      const at = (trace.customdata || []).findIndex((each) => String(each) === number);
      if (at < 0 || trace.type !== "scatter") continue;
      const look = { symbol: "circle-open", size: 20, color: ink, line: { width: 2 } };
      figure.data.push({ type: "scatter", mode: "markers", x: [trace.x[at]], y: [trace.y[at]], marker: look, hoverinfo: "skip", showlegend: false });
    }
  }

  function draw(place) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const scope = place.closest(".study") || document.body;
    const known = trials(scope);
    rescaled(figure, scope);
    for (const [name, axis] of Object.entries(figure.layout)) {
      if (/^[xy]axis/.test(name) && axis.type === "log" && axis.range && !axis.tickvals) Object.assign(axis, ticks(axis.range));
    }
    for (const trace of figure.data) {
      if (!trace.customdata) continue;
      const texts = trace.customdata.map((number) => hover(number, known));
      if (trace.type === "bar") trace.hovertext = texts;
      else trace.text = texts;
    }
    if (scope.dataset.selected) marked(figure, scope.dataset.selected);
    const canvas = place.querySelector(".canvas") || place.appendChild(document.createElement("div"));
    canvas.className = "canvas";
    Plotly.react(canvas, figure.data, themed(figure.layout), CONFIG).then(() => {
      place.setAttribute("data-drawn", "");
      canvas.removeAllListeners("plotly_click");
      canvas.on("plotly_click", ({ points: [point] }) => {
        const number = point.customdata ?? point.data.meta;
        if (number !== undefined) select(scope, String(number));
      });
    });
  }

  const make = (name, text, look) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (look) made.className = look;
    return made;
  };

  function copier(command, label) {
    const button = make("button", label, "copy");
    Object.assign(button, { type: "button", title: command });
    button.dataset.command = command;
    return button;
  }

  // Mark one trial in every plot, in the table and among the images, and show what is known of it.
  function select(scope, number) {
    const { rows, heads } = trials(scope);
    const row = rows.get(number);
    if (!row) return;
    for (const other of scope.querySelectorAll("[aria-selected]")) other.removeAttribute("aria-selected");
    row.setAttribute("aria-selected", "true");
    row.hidden = false;
    scope.dataset.selected = number;
    redraw(scope);
    document.querySelector(".detail")?.remove();
    const panel = make("aside", "", "detail");
    panel.tabIndex = -1;
    panel.setAttribute("aria-label", `Trial ${number}`);
    const header = panel.appendChild(make("header"));
    header.append(make("h2", `Trial ${number}${row.classList.contains("winner") ? ", the best" : ""}`));
    const close = header.appendChild(make("button", "close", "close"));
    close.type = "button";
    const image = scope.querySelector(`figure[data-n="${number}"] img`);
    if (image) panel.append(image.cloneNode());
    const list = panel.appendChild(make("dl"));
    heads.forEach(([name, kind], index) => {
      const value = row.cells[index].textContent;
      if (kind !== "trial" && value) list.append(make("dt", name), make("dd", value));
    });
    const tools = panel.appendChild(make("div", "", "tools"));
    if (row.dataset.command) tools.append(copier(row.dataset.command, "copy: train this"));
    tools.append(copier(`gantune logs ${row.closest(".trials").dataset.study} --trial ${number}`, "copy: show its log"));
    scope.append(panel);
    panel.focus({ preventScroll: true });
  }

  function unselect() {
    const panel = document.querySelector(".detail");
    if (!panel) return;
    const scope = panel.closest(".study");
    const row = scope.querySelector("[aria-selected]");
    panel.remove();
    delete scope.dataset.selected;
    row?.removeAttribute("aria-selected");
    if (row && !row.hidden) row.querySelector("button").focus({ preventScroll: true });
    redraw(scope);
  }

  // Plots that are not near the window are drawn when they are.
  function redraw(scope) {
    for (const place of scope.querySelectorAll(".plot[data-drawn]")) {
      near.unobserve(place);
      near.observe(place);
    }
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "300px" },
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
    filter(table.closest(".trials"));
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

  const FIRST = 50; // rows before the reader asks for all

  function filter(section) {
    const table = section.querySelector("table");
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.toLowerCase());
    const all = conditions(section.querySelector("input[type=search]").value, names);
    const most = section.dataset.all === undefined ? FIRST : Infinity;
    let matching = 0;
    for (const row of table.tBodies[0].rows) {
      const holds = all.every((each) => each(row));
      matching += holds ? 1 : 0;
      row.hidden = !holds || matching > most;
    }
    const count = table.tBodies[0].rows.length;
    const shown = Math.min(matching, most);
    const some = matching < count ? `, ${matching} match` : "";
    section.querySelector(".count").textContent = `${shown} of ${count} trials${shown < matching ? some : ""}`;
    const button = section.querySelector(".all");
    if (button) Object.assign(button, { hidden: shown === matching, textContent: `Show all ${matching}` });
  }

  function choose(section) {
    const hidden = [...section.querySelectorAll("[data-column]")].filter((box) => !box.checked);
    const rule = (box) => `#${section.querySelector("table").id} tr>:nth-child(${Number(box.dataset.column) + 1}){display:none}`;
    section.querySelector("style.folded").textContent = hidden.map(rule).join("");
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
    const picked = event.target.closest(".trials tbody tr, figure[data-n]");
    if (button && button.matches(".copy")) copy(button);
    else if (button && button.matches(".close")) unselect();
    else if (button && button.matches(".scale")) {
      const scope = button.closest(".study");
      scope.dataset.scale = scope.dataset.scale === "other" ? "" : "other";
      button.setAttribute("aria-pressed", String(scope.dataset.scale === "other"));
      redraw(scope);
    } else if (button && button.matches(".all")) {
      const section = button.closest(".trials");
      section.dataset.all = "";
      filter(section);
    } else if (button && button.closest(".trials th")) {
      const head = button.closest("th");
      sort(head.closest("table"), head.cellIndex, head.getAttribute("aria-sort") === "ascending");
    } else if (picked) select(picked.closest(".study"), picked.dataset.n);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") unselect();
  });
  document.addEventListener("input", (event) => {
    const section = event.target.closest(".trials");
    if (section && event.target.matches("[data-column]")) choose(section);
    else if (section) filter(section);
  });
  dark.addEventListener("change", () => redraw(document));
  const observe = () => document.querySelectorAll(".plot").forEach((place) => near.observe(place));
  observe();

  // A served page: replace the content when the server has a newer one, and keep what the reader has set.
  function replace(body) {
    const main = document.querySelector("main");
    const settings = [...main.querySelectorAll(".trials")].map((section) => {
      const sorted = section.querySelector("[aria-sort]");
      const head = sorted && [sorted.cellIndex, sorted.getAttribute("aria-sort") === "descending"];
      const field = section.querySelector("input[type=search]");
      return { text: field.value, head, top: section.querySelector(".scroll").scrollTop, all: section.dataset.all };
    });
    const opened = new Set([...main.querySelectorAll("details[open] > summary")].map((each) => each.textContent));
    const scopes = [...main.querySelectorAll(".study")].map((scope) => ({ ...scope.dataset }));
    const active = document.activeElement.matches("input[type=search]");
    near.disconnect();
    main.innerHTML = body;
    main.querySelectorAll("details").forEach((each) => {
      if (opened.has(each.querySelector("summary").textContent)) each.open = true;
    });
    main.querySelectorAll(".trials").forEach((section, index) => {
      const { text, head, top, all } = settings[index] || { text: "" };
      const field = section.querySelector("input[type=search]");
      if (all !== undefined) section.dataset.all = all;
      field.value = text;
      if (head) sort(section.querySelector("table"), ...head);
      else filter(section);
      if (active) field.focus();
      section.querySelector(".scroll").scrollTop = top || 0;
    });
    main.querySelectorAll(".study").forEach((scope, index) => {
      const { scale, selected } = scopes[index] || {};
      if (scale) scope.dataset.scale = scale;
      scope.querySelector(".scale")?.setAttribute("aria-pressed", String(scale === "other"));
      if (selected) select(scope, selected);
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
