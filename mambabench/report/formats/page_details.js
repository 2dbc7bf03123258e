"use strict";
// What a number opens to: unpacked when first asked for; its seeds, folds, comparisons and clips.
(() => {
  const { $, D, state, keep, el, svg } = globalThis.mambabenchPage;

  // ---- details, unpacked when first asked for
  let details = null, block = null;
  const unpack = async () => {
    if (details) return details;
    const stream = new Blob([bytesOf($("packed").textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer());
    const end = 4 + new DataView(raw.buffer).getUint32(0, true);
    details = JSON.parse(new TextDecoder().decode(raw.subarray(4, end)));
    block = raw.subarray(end);
    details.pairs = pairsIn(details);
    for (const cell of Object.values(details.cells)) cell.scores ??= scoresIn(cell);
    return details;
  };
  const bytesOf = (text) => {  // base 85: five characters are four bytes
    const digit = new Uint8Array(128);
    [..."0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~"]
      .forEach((sign, i) => { digit[sign.charCodeAt(0)] = i; });
    const missing = (5 - text.length % 5) % 5, whole = text + "~".repeat(missing);
    const found = new DataView(new ArrayBuffer(whole.length / 5 * 4));
    for (let i = 0; i < whole.length; i += 5) {
      let value = 0;
      for (let k = i; k < i + 5; k++) value = 85 * value + digit[whole.charCodeAt(k)];
      found.setUint32(i / 5 * 4, value);
    }
    return new Uint8Array(found.buffer, 0, found.byteLength - missing);
  };
  const decoded = (code, unit) => code === 0 ? null : (code % 2 ? (code - 1) / 2 : -code / 2) / unit;
  const foldsIn = (cell) => {  // page_data.py says how
    const { n, names, chosen, of, unit, place } = cell.folds, values = numbers(place, 6 * n);
    return Array.from({ length: n }, (_, k) => {
      const [seed, fold, point, epoch, score, head] = [0, 1, 2, 3, 4, 5].map((c) => values[c * n + k]);
      return [cell.seeds[seed], names[fold], of ? score / of[fold] : decoded(score, unit), chosen[point],
        decoded(epoch, 1), head ? head.toString(16).padStart(8, "0") : null];
    });
  };
  const scoresIn = (cell) => {  // means over folds
    const rows = foldsIn(cell);
    return cell.seeds.map((seed) => {
      const own = rows.filter((row) => row[0] === seed);
      return own.reduce((sum, row) => sum + row[2], 0) / own.length;
    });
  };
  const pairsIn = (all) => all.pairs.flatMap(({ protocol, task, names, n, unit, places }) => {  // page_data.py says how
    const [one, other, ...codes] = places.map((place) => numbers(place, n));
    const mean = (i) => all.cells[[protocol, task, names[i]].join("|")]?.mean ?? 0;
    return [...one].map((a, k) => {
      const b = other[k], [rest, low, high] = codes.map((code) => decoded(code[k], unit)), p = codes[3][k];
      const difference = mean(a) - mean(b) + rest;
      return [protocol, task, names[a], names[b], difference, low === null ? null : difference - low,
        high === null ? null : difference + high, p === 0 ? null : (p - 1) / 1e6];
    });
  });

  // ---- clips: stored by difficulty, predictions as distances; page_clips.py says how
  const numbers = ([start, length], n) => {  // low bytes, then the next ones
    const found = new Uint32Array(n);
    for (let k = 0; k < length; k++) found[k % n] += block[start + k] << (8 * Math.floor(k / n));
    return found;
  };
  const natural = (values, T, n) => {  // every row back into the order of the names
    const found = new Uint32Array(values.length);
    for (let k = 0; k < values.length; k++) found[k - k % n + T.order[k % n]] = values[k];
    return found;
  };
  const taskClips = (T) => {
    if (T.order || !T.difficulty) return T;
    const hard = block.subarray(T.difficulty[0], T.difficulty[0] + T.difficulty[1]);
    T.n = hard.length;
    T.order = [...hard.keys()].sort((a, b) => hard[a] - hard[b]);
    T.targets = natural(numbers(T.targets, T.n), T, T.n);
    if (T.clusters) T.clusters = natural(numbers(T.clusters, T.n), T, T.n);
    return T;
  };
  const clipsIn = (cell, T) => {  // how many seeds were right and, where kept, what each predicted
    taskClips(T);
    if (cell.hits || !(cell.predicted || cell.right)) return cell;
    const n = T.n, seeds = cell.seeds.length;
    if (!cell.predicted) {
      const most = seeds + 1, twos = most <= 16, packed = numbers(cell.right, twos ? (n + 1) >> 1 : n);
      cell.hits = natural(twos ? Uint32Array.from({ length: n }, (_, k) =>
        k % 2 ? packed[k >> 1] % most : Math.floor(packed[k >> 1] / most)) : packed, T, n);
      return cell;
    }
    const values = natural(numbers(cell.predicted, n * seeds), T, n);
    cell.hits = new Uint32Array(n);
    for (let k = 0; k < values.length; k++) {
      values[k] = (values[k] + (k < n ? T.targets[k] : values[k % n])) % T.n_labels;
      cell.hits[k % n] += values[k] === T.targets[k % n];
    }
    cell.chosen = values;
    return cell;
  };
  const percent = (cell, value, digits) => value === null || value === undefined ? "–"
    : cell.scale === 100 ? (100 * value).toFixed(digits ?? 2) : value.toFixed(3);
  const rowsOf = (title, heads, rows) => {
    const box = el("div");
    box.append(el("h3", title));
    const scroll = el("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": title });
    const table = el("table"), head = el("tr");
    heads.forEach((text) => head.append(el("th", text, { scope: "col" })));
    table.append(el("thead"), el("tbody"));
    table.tHead.append(head);
    for (const row of rows) {
      const line = el("tr");
      row.forEach((text, i) => line.append(el(i ? "td" : "th", text, i ? {} : { scope: "row" })));
      table.tBodies[0].append(line);
    }
    scroll.append(table);
    box.append(scroll);
    return box;
  };
  const strip = (cell) => {
    const ends = [...cell.scores, cell.boot?.[0], cell.boot?.[1], cell.ci?.[0], cell.ci?.[1]]
      .filter((x) => x !== null && x !== undefined);
    const low = Math.min(...ends), high = Math.max(...ends), span = high - low || 1;
    const x = (v) => 20 + 300 * (v - low) / span;
    const box = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: 340, height: 74,
      viewBox: "0 0 340 74", "font-size": 12, "font-family": "sans-serif", role: "img",
      "aria-label": "seeds and intervals from " + percent(cell, low) + " to " + percent(cell, high) });
    const bar = (pair, y, dash) => pair && pair[0] !== null && box.append(svg("line", {
      x1: x(pair[0]), x2: x(pair[1]), y1: y, y2: y, stroke: "var(--acc)", "stroke-width": 4,
      "stroke-dasharray": dash }));
    bar(cell.boot, 14, "0");
    bar(cell.ci, 28, "6 3");
    cell.scores.forEach((score, i) => {
      const dot = svg("circle", { cx: x(score), cy: 42, r: 4, fill: "none", stroke: "#808080", "stroke-width": 1.5 });
      dot.append(svg("title", {}, "seed " + cell.seeds[i] + ": " + percent(cell, score)));
      box.append(dot);
    });
    box.append(svg("text", { x: 20, y: 66 }, percent(cell, low)),
      svg("text", { x: 320, y: 66, "text-anchor": "end" }, percent(cell, high)));
    return box;
  };
  const MOST = 4000;  // squares
  const sounds = JSON.parse($("sounds")?.textContent ?? '{"clips":{}}');
  const besideOf = (task, T) => {  // where the files of its clips lie, seen from the page
    const found = sounds.beside?.[task];
    if (!found) return [];
    const splits = found.splits.flatMap(([split, count]) => new Array(count).fill(split));
    return T.names.map((name, i) => [...found.folder.split("/"), splits[i], name].map(encodeURIComponent).join("/"));
  };
  const clipsOf = (cell, T, all) => {
    const box = el("div");
    box.append(el("h3", "Clips"));
    clipsIn(cell, T);
    if (!cell.hits) {
      box.append(el("p", D.clips_note || "No clip of this task can be called right or wrong.", { class: "sub" }));
      return box;
    }
    const right = cell.hits, n = cell.seeds.length, predicted = cell.chosen;
    const order = [...right.keys()];
    const bar = el("div", undefined, { class: "bar" }), label = el("label", "Sort "), choice = el("select");
    for (const name of ["difficulty", "label", ...(T.clusters ? ["cluster"] : [])]) choice.append(el("option", name));
    label.append(choice);
    bar.append(label, el("span", "Number and shade: how many of " + n + " seeds were right." +
      (right.length > MOST ? ` The first ${MOST} of ${right.length} are shown.` : ""), { class: "sub" }));
    const grid = el("div", undefined, { class: "clips" }), said = el("p", "", { "aria-live": "polite" });
    const held = sounds.clips[cell.task] || {}, beside = besideOf(cell.task, T), player = el("p");
    const heard = (i) => held[i] ? "data:" + sounds.kind + ";base64," + held[i] : beside[i];
    if (beside.length) bar.append(el("span", "A clip that is opened can be heard: its audio lies beside the page.", { class: "sub" }));
    else if (Object.keys(held).length) bar.append(el("span", "Underlined: with sound.", { class: "sub" }));
    const fill = () => {
      const by = { difficulty: (i) => right[i], label: (i) => T.targets[i], cluster: (i) => T.clusters[i] }[choice.value];
      order.sort((a, b) => by(a) - by(b) || a - b);
      grid.replaceChildren(...order.slice(0, MOST).map((i) => {
        const share = right[i] / n, square = el("button", right[i], { "data-i": i,
          "aria-label": "clip " + (i + 1) + ": " + right[i] + " of " + n + " seeds right" + (heard(i) ? ", with sound" : "") });
        if (heard(i) && !beside.length) square.classList.add("heard");
        square.style.background = `rgb(${190 - 160 * share} ${60 + 20 * share} ${40 + 130 * share})`;
        return square;
      }));
    };
    grid.addEventListener("click", (event) => {
      const i = event.target.dataset.i;
      if (i === undefined) return;
      const name = T.names ? T.names[i] : "clip " + (+i + 1) + " (restricted: no name)";
      const seeds = predicted ? "; predicted " + cell.seeds.map((_, s) => predicted[s * right.length + +i]).join(", ") : "";
      const others = all.filter((other) => other !== cell && clipsIn(other, T).hits)
        .map((other) => other.name + " " + other.hits[i] + "/" + other.seeds.length).slice(0, 12);
      said.textContent = name + ": label " + T.targets[i] + "; right in " + right[i] + " of " + n + " seeds" + seeds +
        (others.length ? "; others: " + others.join(", ") : "");
      player.replaceChildren();
      if (!heard(i)) return;
      const sound = el("audio", undefined, { controls: "", "aria-label": "Sound of " + name });
      sound.addEventListener("error", () => player.replaceChildren(el("span", "No sound: " + (held[i] ? name : decodeURIComponent(beside[i])) + " is missing, or this browser cannot play it.")));
      sound.src = heard(i);
      player.append(sound);
    });
    choice.addEventListener("change", fill);
    fill();
    box.append(bar, grid, said, player);
    if (predicted) box.append((T.n_labels <= 12 ? confusion : worst)(cell, T, right.length, predicted));
    return box;
  };
  const worst = (cell, T, n, predicted) => {  // too many labels for a matrix: what goes wrong most
    const seen = new Uint32Array(T.n_labels), hit = new Uint32Array(T.n_labels), said = new Uint32Array(T.n_labels), pairs = new Map();
    predicted.forEach((label, k) => {
      const target = T.targets[k % n];
      seen[target]++;
      said[label]++;
      if (label === target) hit[target]++;
      else pairs.set(target * T.n_labels + label, (pairs.get(target * T.n_labels + label) || 0) + 1);
    });
    const box = el("div", undefined, { class: "cols" });
    const labels = [...seen.keys()].filter((k) => seen[k]).sort((a, b) => hit[a] / seen[a] - hit[b] / seen[b] || a - b);
    box.append(rowsOf("Labels, the hardest first", ["label", "clips", "recall %", "precision %"], labels.map((k) =>
      [k, seen[k] / cell.seeds.length, share(hit[k], seen[k]), share(hit[k], said[k])])),
    rowsOf("What is confused most, over seeds", ["label", "taken for", "times", "% of the label"],
      [...pairs].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 10).map(([key, times]) => {
        const target = Math.floor(key / T.n_labels);
        return [target, key % T.n_labels, times, share(times, seen[target])];
      })));
    return box;
  };
  const confusion = (cell, T, n, predicted) => {
    const counts = Array.from({ length: T.n_labels }, () => new Array(T.n_labels).fill(0));
    for (let s = 0; s < cell.seeds.length; s++) {
      for (let i = 0; i < n; i++) counts[T.targets[i]][predicted[s * n + i]]++;
    }
    const rows = counts.map((row, k) => {
      const sum = row.reduce((a, b) => a + b, 0), column = counts.reduce((a, r) => a + r[k], 0);
      return [k, ...row, sum ? (100 * row[k] / sum).toFixed(1) : "–", column ? (100 * row[k] / column).toFixed(1) : "–"];
    });
    return rowsOf("Confusion, over seeds (rows: labels, columns: predictions)",
      ["label", ...counts.map((_, k) => k), "recall %", "precision %"], rows);
  };
  const share = (a, b) => b ? (100 * a / b).toFixed(1) : "–";
  const labelsOf = (cell) => {  // of events: matched, true and predicted ones of each label
    if (!cell.labels) return [];
    const n = cell.n_labels, counts = numbers(cell.labels, 3 * n);
    const recall = (k) => counts[k] / counts[n + k];
    const labels = [...Array(n).keys()].filter((k) => counts[n + k] || counts[2 * n + k])
      .sort((a, b) => (recall(a) || 0) - (recall(b) || 0) || a - b);
    return [rowsOf("Labels of events, the hardest first; over seeds and folds", ["label", "events", "predicted", "matched", "recall %", "precision %"],
      labels.map((k) => [k, counts[n + k], counts[2 * n + k], counts[k], share(counts[k], counts[n + k]), share(counts[k], counts[2 * n + k])]))];
  };
  const open = async (key) => {
    const all = await unpack();
    const cell = all.cells[key];
    const box = $("detail");
    if (!cell) {
      const parts = Object.keys(all.cells).filter((k) => k.replace(/_fold\d+-/, "_mean_of_folds-") === key);
      const buttons = el("p", undefined, { class: "bar" });
      buttons.append(...parts.map((k) => el("button", all.cells[k].task, { "data-cell": k })));
      box.replaceChildren(el("p", D.mean_of, { class: "mean" }), buttons);
      return;
    }
    state.cell = key;
    keep();
    const T = all.tasks[cell.task];
    const peers = Object.values(all.cells).filter((x) => x.task === cell.task && x.protocol === cell.protocol);
    const title = el("h2", cell.name + " on " + T.title);
    title.tabIndex = -1;
    const numbers = el("p", percent(cell, cell.mean) + (cell.scale === 100 ? " %" : "") + " " + cell.metric +
      "; over clips " + (cell.boot ? cell.boot.map((x) => percent(cell, x)).join(" to ") : "no interval") +
      "; over seeds " + (cell.ci ? cell.ci.map((x) => percent(cell, x)).join(" to ") : "no interval") +
      (cell.rank ? "; rank " + cell.rank[0].toFixed(1) +
        (cell.rank[1] === null ? "" : " (95 %: " + cell.rank[1].toFixed(1) + " to " + cell.rank[2].toFixed(1) + ")") : "") +
      (cell.ties ? "; tie group " + cell.ties : "") + "; " + cell.n_test + " test clips");
    const notes = el("p", [...cell.flags, cell.reason].filter(Boolean).join("; "), { class: "sub" });
    const cols = el("div", undefined, { class: "cols" });
    const seeds = el("div");
    const saving = el("p", undefined, { class: "bar" }), frame = el("div", undefined,
      { class: "scroll chart", id: "strip", tabindex: "0", role: "region", "aria-label": "Seeds" });
    frame.append(strip(cell));
    for (const kind of ["svg", "png"]) {
      saving.append(el("button", "Save " + kind.toUpperCase(), { "data-save": "strip", "data-as": kind }));
    }
    seeds.append(el("h3", "Seeds (dots), intervals over clips (solid) and seeds (dashed)"), frame, saving);
    cols.append(seeds, rowsOf("Runs", ["seed", "fold", "score", "chosen", "epoch", "head"],
      foldsIn(cell).map(([seed, fold, score, chosen, epoch, head]) =>
        [seed, fold, percent(cell, score), chosen, epoch ?? "–", head ?? "–"])));
    const pairs = all.pairs.filter((p) => p[0] === cell.protocol && p[1] === cell.task && (p[2] === cell.name || p[3] === cell.name))
      .map((p) => p[2] === cell.name ? p.slice(3) : [p[2], -p[4], p[6] === null ? null : -p[6], p[5] === null ? null : -p[5], p[7]]);
    if (pairs.length) cols.append(rowsOf("Paired comparisons on this task", ["against", "difference", "95 % over clips", "p (task)"],
      pairs.map(([other, d, low, high, p]) => [other, percent(cell, d),
        low === null ? "–" : percent(cell, low) + " to " + percent(cell, high), p === null ? "–" : p < 1e-4 ? "< .0001" : p.toFixed(4)])));
    const made = el("div");
    made.append(el("h3", "This number again"), el("p")); made.lastChild.append(el("code", cell.command));
    made.append(el("p", "records " + cell.path + "; identity " + (cell.identity || "unknown") + "; SHA-256 of the first " +
      cell.digest, { class: "sub" }), ...Object.entries(cell.made).map(([title, text]) => el("p", title + ": " + text, { class: "sub" })));
    box.replaceChildren(title, numbers, notes, cols, ...labelsOf(cell), clipsOf(cell, T, peers), made);
    title.focus();
  };

  // what the charts need of all this: page_charts.js
  Object.assign(globalThis.mambabenchPage, { unpack, clipsIn, rowsOf });

  // ---- wiring
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-cell]");
    if (button) open(button.dataset.cell);
  });
  const restore = () => {  // page.js has read the address
    if (state.cell) open(state.cell); else $("detail").replaceChildren(el("p", D.hint));
  };
  addEventListener("hashchange", restore);
  restore();
})();
