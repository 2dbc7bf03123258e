"use strict";
// The matrix: sorted, filtered, copied; the address bar keeps what is shown.
// Everything is built with textContent and createElement: no name can become markup.
(() => {
  const started = performance.now();
  const $ = (id) => document.getElementById(id);
  const D = JSON.parse($("data").textContent);
  const tables = [...document.querySelectorAll("table.matrix")];
  const state = { sort: "", find: "", family: "", only: "", published: "1", hide: "", rows: "", cell: "", charts: "" };
  document.body.classList.add("script");

  const el = (tag, text, attributes) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    return node;
  };
  const svg = (tag, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const list = (text) => text.split(",").filter(Boolean).map(decodeURIComponent);

  // ---- the address bar keeps the view
  const read = () => {
    const found = new URLSearchParams(location.hash.slice(1));
    for (const name of Object.keys(state)) state[name] = found.get(name) ?? (name === "published" ? "1" : "");
  };
  const keep = () => {
    const parts = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value !== (name === "published" ? "1" : "")) parts.set(name, value);
    }
    history.replaceState(null, "", "#" + parts);
  };

  // ---- the matrix
  const original = tables.map((table) => [...table.tBodies[0].rows]);
  tables.forEach((table, t) => original[t].forEach((row) => {
    for (const button of row.querySelectorAll("td button")) {
      const column = D.matrices[t].columns[button.parentNode.cellIndex - 1];
      button.dataset.cell = [D.matrices[t].protocol, column.key, D.matrices[t].rows[row.dataset.r].key].join("|");
    }
  }));
  const ofProtocol = (protocol) => protocol === state.only || !D.matrices.some((M) => M.protocol === state.only);
  const apply = () => {
    const hidden = list(state.hide), hiddenRows = list(state.rows);
    for (const part of document.querySelectorAll("[data-protocol]")) {
      part.hidden = !ofProtocol(part.dataset.protocol);
    }
    tables.forEach((table, t) => {
      const M = D.matrices[t];
      const away = M.columns.map((c) => hidden.includes(c.key) || (state.family && c.kind === "task" && c.family !== state.family));
      sort(table, t, M);
      for (const row of table.tBodies[0].rows) {
        const R = M.rows[row.dataset.r];
        const text = R.title.toLowerCase() + " " + R.key.toLowerCase();
        row.hidden = !text.includes(state.find.toLowerCase()) || hiddenRows.includes(R.kind + " " + R.key) ||
          (R.kind === "published" && state.published === "0");
      }
      for (const row of table.rows) {
        for (let i = 1; i < row.cells.length; i++) row.cells[i].hidden = away[i - 1];
      }
    });
  };
  const sort = (table, t, M) => {
    const [key, direction] = state.sort.split("~");
    const index = M.columns.findIndex((c) => c.key === key);
    const heads = table.tHead.rows[0].cells;
    for (const head of heads) head.removeAttribute("aria-sort");
    let rows = original[t].slice();
    if (index >= 0 || key === "name") {
      const up = direction === "up";
      heads[index + 1].setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => M.rows[row.dataset.r].values[index];
      rows.sort((a, b) => {
        const A = M.rows[a.dataset.r], B = M.rows[b.dataset.r];
        if (A.kind !== B.kind) return A.kind === "published" ? 1 : -1;
        if (index < 0) return (up ? 1 : -1) * A.title.localeCompare(B.title);
        const x = value(a), y = value(b);
        if (x === null || y === null) return (x === null) - (y === null);
        return up ? x - y : y - x;
      });
    }
    const seen = rows.findIndex((row) => M.rows[row.dataset.r].kind === "published");
    rows.forEach((row, i) => row.classList.toggle("rule", i === seen));
    table.tBodies[0].append(...rows);
  };

  // ---- what is shown, as text for a paper
  const shown = () => tables.flatMap((table, t) => {
    const M = D.matrices[t];
    if (!ofProtocol(M.protocol)) return [];
    const visible = (row) => [...row.cells].filter((cell) => !cell.hidden);
    const head = [M.corner, ...M.columns.filter((_, i) => !table.tHead.rows[0].cells[i + 1].hidden)
      .map((c) => c.title)];
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) =>
      visible(row).map((cell) => ({
        text: cell.textContent.trim(), best: cell.classList.contains("best"),
        number: cell.querySelector("b")?.textContent ?? cell.textContent.trim(),
      })));
    return [{ protocol: M.protocol, head, rows }];
  });
  const tex = (text) => text.replace(/[\\&%$#_{}~^<>|]/g, (c) => ({
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$" }[c] || "\\" + c)).replace(/[±–−†‡…]/g, (c) => ({
    "±": "$\\pm$", "–": "--", "−": "$-$", "†": "$^\\dagger$", "‡": "$^\\ddagger$", "…": "..." }[c]))
    .normalize("NFKD").replace(/[^\x00-\x7f]/g, "");
  const csv = (text) => /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const formats = {
    latex: () => shown().map(({ protocol, head, rows }) =>
      "\\begin{table*}\n\\centering\n\\caption{Protocol \\texttt{" + tex(protocol) + "}. " +
      tex(D.caption) + "}\n\\label{tab:mambabench-" +
      protocol.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") + "}\n\\scriptsize\n\\setlength{\\tabcolsep}{2.5pt}\n\\begin{tabular}{l" +
      "r".repeat(head.length - 1) + "}\n\\toprule\n" + head.map(tex).join(" & ") +
      " \\\\\n\\midrule\n" + rows.map((row) => row.map((cell, i) => {
        const text = i ? tex(cell.text) : "{" + tex(cell.text) + "}";
        return cell.best ? text.replace(tex(cell.number), "\\textbf{" + tex(cell.number) + "}") : text;
      }).join(" & ") + " \\\\\n").join("") + "\\bottomrule\n\\end{tabular}\n\\end{table*}\n").join("\n"),
    markdown: () => shown().map(({ head, rows }) => {
      const line = (cells) => "| " + cells.map((x) => x.replaceAll("|", "\\|")).join(" | ") + " |\n";
      return line(head) + line(head.map(() => "---")) + rows.map((row) => line(row.map((cell) =>
        cell.best ? cell.text.replace(cell.number, "**" + cell.number + "**") : cell.text))).join("");
    }).join("\n"),
    csv: () => shown().map(({ head, rows }) =>
      [head, ...rows.map((row) => row.map((cell) => cell.text))]
        .map((row) => row.map(csv).join(",") + "\n").join("")).join("\n"),
    bibtex: () => {
      const B = D.bibtex, keys = new Set(["mambabench"]);
      const add = (found) => (found || []).forEach((key) => keys.add(key));
      tables.forEach((table, t) => {
        const M = D.matrices[t];
        if (!ofProtocol(M.protocol)) return;
        add(B.protocols[M.protocol]);
        M.columns.forEach((c, i) => table.tHead.rows[0].cells[i + 1].hidden || add(B.tasks[c.key]));
        for (const row of table.tBodies[0].rows) {
          const R = M.rows[row.dataset.r];
          if (!row.hidden) add(B[R.kind === "published" ? "published" : "encoders"][R.key]);
        }
      });
      return Object.keys(B.entries).filter((key) => keys.has(key)).map((key) => B.entries[key]).join("\n");
    },
  };
  const copy = async (what) => {
    const text = formats[what]();
    $("copied").value = text;
    $("copied").hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      $("said").textContent = what + " copied";
    } catch {
      $("copied").select();
      $("said").textContent = what + " is below: copy it from there";
    }
  };

  // what the details and the charts need of all this: page_details.js, page_charts.js
  globalThis.mambabenchPage = { started, $, D, state, keep, el, svg };

  // ---- wiring
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.sort) {
      const start = performance.now(), [key, direction] = state.sort.split("~");
      const falls = button.dataset.falls === "1";
      const turn = key === button.dataset.sort ? (direction === "up" ? "down" : "up") : falls ? "up" : "down";
      state.sort = button.dataset.sort + "~" + turn;
      keep();
      apply();
      document.body.dataset.sortMs = (performance.now() - start).toFixed(1);
    } else if (button.dataset.copy) copy(button.dataset.copy);
    else if (button.dataset.reset !== undefined) { location.hash = ""; restore(); }
  });
  const bind = (id, name) => ["input", "change"].forEach((kind) => $(id).addEventListener(kind, () => {
    state[name] = $(id).type === "checkbox" ? ($(id).checked ? "1" : "0") : $(id).value;
    keep();
    apply();
  }));
  bind("find", "find"); bind("family", "family"); bind("published", "published");
  if ($("only")) bind("only", "only");  // there is more than one protocol
  const boxes = { columns: "hide", rows: "rows" };
  for (const [id, name] of Object.entries(boxes)) $(id).addEventListener("change", (event) => {
    const hidden = new Set(list(state[name])), key = event.target.value;
    hidden[event.target.checked ? "delete" : "add"](key);
    state[name] = [...hidden].map(encodeURIComponent).join(",");
    keep();
    apply();
  });
  const restore = () => {
    read();
    $("find").value = state.find;
    $("family").value = state.family;
    $("published").checked = state.published !== "0";
    if ($("only")) $("only").value = state.only;
    for (const [id, name] of Object.entries(boxes)) {
      const hidden = list(state[name]);
      for (const box of $(id).querySelectorAll("input")) box.checked = !hidden.includes(box.value);
    }
    apply();
  };
  addEventListener("hashchange", restore);
  restore();
})();
