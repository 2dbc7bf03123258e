"use strict";
// The charts: drawn when chosen, each with its numbers in words for who cannot see it.
(() => {
  const { started, $, D, state, keep, el, svg, unpack, clipsIn, rowsOf } = globalThis.mambabenchPage;
  const COLOR = "#3a7bc8", GREY = "#808080";

  const chart = (rows, zero, format, said) => {
    const ends = rows.flatMap((r) => [r.value, r.low, r.high]).filter((x) => x !== null && x !== undefined);
    const low = Math.min(...ends, ...(zero ? [0] : [])), high = Math.max(...ends, ...(zero ? [0] : []));
    const x = (v) => 260 + 400 * (v - low) / (high - low || 1), height = 20 * rows.length + 30;
    const box = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: 780, height, "font-size": 12,
      "font-family": "sans-serif", viewBox: `0 0 780 ${height}`, role: "img", "aria-label": said });
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const v = low + share * (high - low);
      box.append(svg("line", { x1: x(v), x2: x(v), y1: 0, y2: height - 22, stroke: "#8886" }),
        svg("text", { x: x(v), y: height - 6, "text-anchor": "middle" }, format(v)));
    }
    if (zero) box.append(svg("line", { x1: x(0), x2: x(0), y1: 0, y2: height - 22, stroke: GREY, "stroke-width": 2 }));
    rows.forEach((r, i) => {
      const y = 20 * i + 12;
      if (r.low !== null && r.low !== undefined) {
        box.append(svg("line", { x1: x(r.low), x2: x(r.high), y1: y, y2: y, stroke: COLOR, "stroke-width": 3 }));
      }
      const shape = r.open ? { fill: "none", stroke: GREY, "stroke-width": 2 } : { fill: COLOR };
      box.append(svg("text", { x: 0, y: y + 4 }, r.name.length > 38 ? r.name.slice(0, 37) + "…" : r.name),
        svg("circle", { cx: x(r.value), cy: y, r: 4.5, ...shape }),
        svg("text", { x: 680, y: y + 4 }, format(r.value) + (r.note ? " " + r.note : "")));
    });
    return box;
  };
  const drawTask = async () => {
    const [t, index] = $("task").value.split("|").map(Number);
    if ($("task").value === "") return $("onetask").replaceChildren();
    const all = await unpack(), M = D.matrices[t], column = M.columns[index];
    let scale = 100;
    const rows = M.rows.flatMap((R) => {
      const value = R.values[index];
      if (value === null) return [];
      const cell = all.cells[M.protocol + "|" + column.key + "|" + R.key];
      if (R.kind === "encoder" && cell) scale = cell.scale;
      if (R.kind === "published") return state.published === "0" ? [] : [{ name: R.title + " (published)", value, open: true }];
      return [{ name: R.title, value, low: cell?.boot?.[0], high: cell?.boot?.[1], note: cell?.ties }];
    }).sort((a, b) => b.value - a.value);
    const format = (v) => (scale * v).toFixed(scale === 100 ? 1 : 3);
    $("onetask").replaceChildren(chart(rows, false, format, "Scores on " + column.title + " with 95 % intervals over clips"));
  };
  const drawPair = async () => {
    const a = $("first").value, b = $("second").value;
    if (!a || !b || a === b) return $("twoencoders").replaceChildren();
    const all = await unpack();
    const rows = all.pairs.filter((p) => (p[2] === a && p[3] === b) || (p[2] === b && p[3] === a)).map((p) => {
      const sign = p[2] === a ? 1 : -1, ends = [p[5], p[6]].map((v) => v === null ? null : sign * v).sort((x, y) => x - y);
      return { name: all.tasks[p[1]].title + " (" + p[0] + ")", value: sign * p[4], low: ends[0], high: ends[1],
        open: p[7] === null || p[7] >= 0.05, note: p[7] === null ? "" : "p " + (p[7] < 1e-4 ? "< .0001" : p[7].toFixed(4)) };
    });
    const format = (v) => (v > 0 ? "+" : "") + (100 * v).toFixed(1);
    $("twoencoders").replaceChildren(rows.length ? chart(rows, true, format, a + " minus " + b + ", task by task, in points")
      : el("p", "These two were not compared."), ...onlyOne(all, a, b));
  };
  const onlyOne = (all, a, b) => {  // clips that most seeds of the one get right, and few of the other's
    const cells = Object.values(all.cells), counts = [], lists = [];
    for (const one of cells.filter((cell) => cell.name === a)) {
      const T = all.tasks[one.task], other = cells.find((x) => x.name === b && x.task === one.task && x.protocol === one.protocol);
      if (!other || !clipsIn(one, T).hits || !clipsIn(other, T).hits) continue;
      const gap = (i) => one.hits[i] / one.seeds.length - other.hits[i] / other.seeds.length;
      const most = (cell, i) => 2 * cell.hits[i] > cell.seeds.length;
      const by = [[], [], [], []];  // only a, only b, both, neither
      T.order.forEach((i) => by[most(one, i) ? (most(other, i) ? 2 : 0) : most(other, i) ? 1 : 3].push(i));
      const title = T.title + " (" + one.protocol + ")";
      counts.push([title, ...by.map((clips) => clips.length)]);
      [a, b].forEach((name, k) => by[k].sort((x, y) => (k ? 1 : -1) * (gap(x) - gap(y)) || x - y).slice(0, 5).forEach((i) => lists.push([
        title, name, T.names ? T.names[i] : "clip " + (i + 1) + " (restricted: no name)", T.targets[i],
        one.hits[i] + "/" + one.seeds.length, other.hits[i] + "/" + other.seeds.length])));
    }
    if (!counts.length) return [];
    return [rowsOf("Clips that most seeds get right", ["task", "only " + a, "only " + b, "both", "neither"], counts),
      rowsOf("Clips that only one gets right, five a task", ["task", "only", "clip", "label", "seeds of " + a, "seeds of " + b], lists)];
  };

  // ---- critical differences: mean ranks on an axis, bars join what does not differ
  const frame = (width, height, said) => svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height,
    "font-size": 12, "font-family": "sans-serif", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said });
  const cut = (text, n) => text.length > n ? text.slice(0, n / 2) + "…" + text.slice(-n / 2 + 1) : text;
  const drawRanks = () => {
    const S = D.standings[$("protocol").value];
    if (!S) {
      $("critical").replaceChildren(el("p", "Ranks want three encoders that have every task."));
      return;
    }
    const n = S.ranks.length, half = Math.ceil(n / 2), left = 240, right = 540;
    const x = (rank) => left + (right - left) * (rank - 1) / (n - 1);
    const ends = [], lane = S.groups.map(([first, last]) => {
      let own = ends.findIndex((end) => S.ranks[first][1] > end + 0.15);
      if (own < 0) own = ends.length;
      ends[own] = S.ranks[last][1];
      return own;
    });
    const top = 38, under = top + 10 + 9 * ends.length, height = under + 20 * half + 16;
    const box = frame(780, height, "Mean ranks: " + S.ranks.map(([name, rank]) => name + " " + rank.toFixed(2)).join(", ") +
      ". Not told apart: " + (S.groups.map(([a, b]) => S.ranks[a][0] + " to " + S.ranks[b][0]).join("; ") || "none") + ".");
    const line = (points, width, color) => box.append(svg("polyline", { points: points.map((p) => p.join(",")).join(" "),
      fill: "none", stroke: color || GREY, "stroke-width": width }));
    line([[left, top], [right, top]], 1.5);
    const step = Math.max(1, Math.round(n / 10));
    for (let mark = 1; mark <= n; mark += step) {
      line([[x(mark), top - 5], [x(mark), top]], 1.5);
      box.append(svg("text", { x: x(mark), y: top - 9, "text-anchor": "middle" }, mark));
    }
    S.groups.forEach(([first, last], i) => {
      const y = top + 8 + 9 * lane[i];
      line([[x(S.ranks[first][1]) - 3, y], [x(S.ranks[last][1]) + 3, y]], 4, COLOR);
    });
    S.ranks.forEach(([name, rank], i) => {
      const west = i < half, y = under + 14 + 20 * (west ? i : n - 1 - i), edge = west ? left - 6 : right + 6;
      line([[x(rank), top], [x(rank), y], [edge, y]], 1);
      const text = west ? cut(name, 26) + "  " + rank.toFixed(2) : rank.toFixed(2) + "  " + cut(name, 26);
      box.append(svg("text", { x: west ? edge - 5 : edge + 5, y: y + 4, "text-anchor": west ? "end" : "start" }, text));
    });
    $("critical").replaceChildren(box, el("p", S.note, { class: "sub" }));
  };

  // ---- every seed of every encoder on one task
  const drawSeeds = async () => {
    if ($("seedtask").value === "") return $("seeds").replaceChildren();
    const [t, index] = $("seedtask").value.split("|").map(Number);
    const all = await unpack(), M = D.matrices[t], key = M.columns[index].key;
    const cells = M.rows.map((R) => all.cells[M.protocol + "|" + key + "|" + R.key]).filter((c) => c && c.scores.length);
    if (!cells.length) return;
    const scores = cells.flatMap((c) => c.scores), low = Math.min(...scores), high = Math.max(...scores);
    const x = (v) => 260 + 400 * (v - low) / (high - low || 1), scale = cells[0].scale, height = 20 * cells.length + 30;
    const format = (v) => (scale * v).toFixed(scale === 100 ? 1 : 3);
    const box = frame(780, height, "Scores of every seed on " + M.columns[index].title);
    for (const share of [0, 0.5, 1]) {
      const v = low + share * (high - low);
      box.append(svg("line", { x1: x(v), x2: x(v), y1: 0, y2: height - 22, stroke: "#8886" }),
        svg("text", { x: x(v), y: height - 6, "text-anchor": "middle" }, format(v)));
    }
    cells.forEach((cell, i) => {
      const y = 20 * i + 12, sorted = [...cell.scores].sort((a, b) => a - b);
      box.append(svg("text", { x: 0, y: y + 4 }, cut(cell.name, 36)),
        svg("line", { x1: x(sorted[0]), x2: x(sorted.at(-1)), y1: y, y2: y, stroke: GREY }));
      cell.scores.forEach((score, s) => {
        const dot = svg("circle", { cx: x(score), cy: y, r: 4, fill: "none", stroke: COLOR, "stroke-width": 1.5 });
        dot.append(svg("title", {}, "seed " + cell.seeds[s] + ": " + format(score)));
        box.append(dot);
      });
      box.append(svg("text", { x: 680, y: y + 4 }, "range " + format(sorted.at(-1) - sorted[0])));
    });
    $("seeds").replaceChildren(box);
  };

  // ---- one encoder beside the published rows, task by task
  const drawBeside = () => {
    const name = $("ours").value;
    if (!name) return $("beside").replaceChildren();
    const rows = [];
    D.matrices.forEach((M) => {
      const own = M.rows.find((R) => R.kind === "encoder" && R.key === name);
      if (own) M.columns.forEach((column, i) => {
        const theirs = M.rows.filter((R) => R.kind === "published" && R.values[i] !== null);
        if (column.kind === "task" && own.values[i] !== null && theirs.length) {
          rows.push({ title: column.title + (D.matrices.length > 1 ? " (" + M.protocol + ")" : ""), own: own.values[i], theirs, i });
        }
      });
    });
    if (!rows.length) {
      $("beside").replaceChildren(el("p", "No published row has one of its tasks."));
      return;
    }
    const height = 22 * rows.length + 30, x = (share) => 200 + 420 * share;
    const box = frame(780, height, name + " among published rows: " + rows.map((r) => r.title + " " +
      r.theirs.filter((R) => R.values[r.i] < r.own).length + " of " + r.theirs.length + " lower").join(", "));
    rows.forEach((r, k) => {
      const y = 22 * k + 14, values = [r.own, ...r.theirs.map((R) => R.values[r.i])];
      const low = Math.min(...values), span = Math.max(...values) - low || 1, at = (v) => x((v - low) / span);
      const format = (v) => Math.abs(v) <= 1 ? (100 * v).toFixed(1) : v.toFixed(2);
      box.append(svg("text", { x: 0, y: y + 4 }, cut(r.title, 28)), svg("line", { x1: x(0), x2: x(1), y1: y, y2: y, stroke: "#8886" }));
      for (const R of r.theirs) {
        const dot = svg("circle", { cx: at(R.values[r.i]), cy: y, r: 4, fill: "none", stroke: GREY, "stroke-width": 1.5 });
        dot.append(svg("title", {}, R.title + ": " + format(R.values[r.i])));
        box.append(dot);
      }
      box.append(svg("rect", { x: at(r.own) - 5, y: y - 5, width: 10, height: 10, fill: COLOR }),
        svg("text", { x: 640, y: y + 4 }, format(r.own) + " (" + format(low) + " to " + format(low + span) + ")"));
    });
    box.append(svg("text", { x: 200, y: height - 4 }, "square: ours; circles: published; every line has its own scale"));
    $("beside").replaceChildren(box);
  };

  // ---- score against cost, with the front that nobody beats on both
  const drawCost = () => {
    const [t, index] = $("score").value.split("|").map(Number), price = Number($("price").value);
    const M = D.matrices[t], column = M.columns[index], falls = column.kind === "rank";
    const points = M.rows.filter((R) => R.kind === "encoder" && R.values[index] !== null && D.costs[R.key]?.[price])
      .map((R) => ({ name: R.title, cost: Math.log10(D.costs[R.key][price]), score: R.values[index], text: D.costs[R.key][price] }));
    if (!points.length) {
      $("cost").replaceChildren(el("p", "No encoder has this score and this cost."));
      return;
    }
    const range = (values) => { const a = Math.min(...values), b = Math.max(...values); return [a, b - a || 1]; };
    const [c0, c1] = range(points.map((p) => p.cost)), [s0, s1] = range(points.map((p) => p.score));
    const x = (v) => 90 + 520 * (v - c0) / c1, y = (v) => falls ? 20 + 300 * (v - s0) / s1 : 320 - 300 * (v - s0) / s1;
    const sign = falls ? -1 : 1, best = [];
    for (const p of [...points].sort((a, b) => a.cost - b.cost || sign * (b.score - a.score))) {
      if (!best.length || sign * p.score > sign * best.at(-1).score) best.push(p);
    }
    const plain = (v) => v >= 1e6 ? (v / 1e6).toPrecision(3) + " M" : v.toPrecision(2);
    const format = (v) => column.kind === "task" && Math.abs(v) <= 1 ? (100 * v).toFixed(1) : v.toFixed(2);
    const box = frame(780, 370, column.title + " against " + D.cost_names[price] + "; on the front: " +
      best.map((p) => p.name).join(", "));
    box.append(svg("line", { x1: 80, x2: 640, y1: 335, y2: 335, stroke: GREY }), svg("line", { x1: 80, x2: 80, y1: 10, y2: 335, stroke: GREY }),
      svg("text", { x: 360, y: 365, "text-anchor": "middle" }, D.cost_names[price] + " (log scale)"),
      ...[0, 1].map((k) => svg("text", { x: x(c0 + k * c1), y: 350, "text-anchor": "middle" }, plain(10 ** (c0 + k * c1)))),
      ...[0, 1].map((k) => svg("text", { x: 74, y: y(s0 + k * s1) + 4, "text-anchor": "end" }, format(s0 + k * s1))),
      svg("polyline", { points: best.map((p) => x(p.cost) + "," + y(p.score)).join(" "), fill: "none", stroke: GREY, "stroke-dasharray": "5 4" }));
    points.sort((a, b) => a.cost - b.cost || a.score - b.score);
    points.forEach((p, i) => {  // names above and below in turn: neighbours seldom meet
      const front = best.includes(p);
      const dot = svg("circle", { cx: x(p.cost), cy: y(p.score), r: 5, fill: front ? COLOR : "none", stroke: COLOR, "stroke-width": 1.5, "data-front": front });
      dot.append(svg("title", {}, p.name + ": " + format(p.score) + ", " + plain(p.text)));
      box.append(dot);
      if (points.length <= 12 || front) box.append(svg("text", { x: x(p.cost),
        y: y(p.score) + (i % 2 ? -9 : 18), "text-anchor": "middle" }, cut(p.name, 22)));
    });
    $("cost").replaceChildren(box);
  };

  // ---- saving: as a page of its own the picture has no style sheet, so colours go into it
  const picture = (id) => {
    const drawn = $(id).querySelector("svg");
    if (!drawn) return null;
    const copy = drawn.cloneNode(true), style = getComputedStyle(document.body);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.querySelectorAll("text").forEach((text) => text.setAttribute("fill", style.color));
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--acc");
    for (const name of ["fill", "stroke"]) {
      copy.querySelectorAll(`[${name}="var(--acc)"]`).forEach((part) => part.setAttribute(name, accent));
    }
    copy.prepend(svg("rect", { width: "100%", height: "100%", fill: style.backgroundColor }));
    return copy;
  };
  const give = (href, name) => el("a", undefined, { download: name, href }).click();
  const save = (id, kind) => {
    const drawn = picture(id);
    if (!drawn) return;
    const source = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(drawn));
    if (kind === "svg") return give(source, id + ".svg");
    const image = new Image(), canvas = el("canvas");
    image.onload = () => {
      canvas.width = 2 * image.width;
      canvas.height = 2 * image.height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      give(canvas.toDataURL("image/png"), id + ".png");
    };
    image.src = source;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-save]");
    if (button) save(button.dataset.save, button.dataset.as);
  });

  // ---- what is chosen is kept in the address
  const wired = [];  // of every chart its controls, what they are without a choice, and what draws it
  const wire = (ids, draw) => {
    wired.push({ ids, plain: ids.map((id) => $(id).value), draw });
    ids.forEach((id) => $(id).addEventListener("change", () => {
      const parts = new URLSearchParams();
      for (const one of wired) one.ids.forEach((id, i) => $(id).value === one.plain[i] || parts.set(id, $(id).value));
      state.charts = String(parts);
      keep();
      draw();
    }));
  };
  const restore = () => {  // page.js has read the address
    const parts = new URLSearchParams(state.charts);
    for (const { ids, plain, draw } of wired) {
      let changed = false;
      ids.forEach((id, i) => {
        const before = $(id).value, wanted = parts.get(id);
        const known = [...$(id).options].some((option) => option.value === wanted);
        $(id).value = known ? wanted : plain[i];  // of another page's address: what it is without
        changed ||= $(id).value !== before;
      });
      if (changed) draw();
    }
  };
  wire(["protocol"], drawRanks);
  wire(["task"], drawTask);
  wire(["seedtask"], drawSeeds);
  wire(["first", "second"], drawPair);
  wire(["ours"], drawBeside);
  drawRanks();
  if ($("cost")) {
    D.cost_names.forEach((name, i) => {
      if (Object.values(D.costs).some((own) => own[i])) $("price").append(el("option", name, { value: i }));
    });
    wire(["score", "price"], drawCost);
    drawCost();
  }
  addEventListener("hashchange", restore);
  restore();
  document.body.dataset.ms = Math.round(performance.now() - started);
})();
