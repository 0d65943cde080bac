// The photos of a subject: crop by its handles, mask by a brush, both over the photo itself.
samecast.widgets.board = ({ place, props, trigger }) => {
  const { h } = samecast;
  const MASK_SIDE = 512, HANDLE = 14;
  let said = "", chosen = 0, tool = "crop", size = 24, drag = null, cursor = null;
  const pictures = {}, masks = {};
  const canvas = h("canvas", { tabindex: 0, class: "sc-canvas" });
  const thumbs = h("div", { class: "sc-thumbs", role: "tablist", "aria-label": "photos" });
  const tools = h("div", { class: "sc-tools", role: "toolbar", "aria-label": "photo tools" });
  const stage = h("div", { class: "sc-stage" }, canvas);
  samecast.fill(place, thumbs, stage, tools);
  const value = () => props.value || { photos: [] };
  const photo = () => value().photos[chosen];
  const commit = (changes) => {
    const photos = value().photos.map((each, at) => (at === chosen ? { ...each, ...changes } : each));
    props.value = { ...value(), photos };
  };
  const load = (name) => {
    if (!pictures[name]) {
      const image = new Image();
      image.onload = paint;
      image.src = samecast.url(name);
      pictures[name] = image;
    }
    return pictures[name];
  };
  // The mask that is being edited, as a canvas whose alpha is the subject.
  const maskOf = (one) => {
    const key = one.name + "|" + (one.painted ? one.painted.length : one.mask || "");
    if (masks[one.name] && masks[one.name].key === key) return masks[one.name].canvas;
    const scale = Math.min(1, MASK_SIDE / Math.max(one.width, one.height));
    const drawn = h("canvas", { width: Math.round(one.width * scale), height: Math.round(one.height * scale) });
    masks[one.name] = { key, canvas: drawn };
    const source = one.painted || (one.mask ? samecast.url(one.mask) : null);
    if (source) {
      const image = new Image();
      image.onload = () => {
        const pen = drawn.getContext("2d");
        pen.drawImage(image, 0, 0, drawn.width, drawn.height);
        const pixels = pen.getImageData(0, 0, drawn.width, drawn.height);
        for (let at = 0; at < pixels.data.length; at += 4) {
          pixels.data[at + 3] = pixels.data[at] > 127 ? 255 : 0;
          pixels.data.fill(255, at, at + 3);
        }
        pen.putImageData(pixels, 0, 0);
        paint();
      };
      image.src = source;
    }
    return drawn;
  };
  const crop = (one) => one.crop || [0, 0, 1, 1];
  const paint = () => {
    const one = photo();
    if (!one) return;
    const image = load(one.name), wide = stage.clientWidth || 380;
    const scale = Math.min(wide / one.width, (stage.dataset.high || 270) / one.height), ratio = window.devicePixelRatio || 1;
    const [w, t] = [Math.round(one.width * scale), Math.round(one.height * scale)];
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(t * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(t * ratio);
      canvas.style.width = w + "px";
      canvas.style.height = t + "px";
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, t);
    if (image.complete && image.naturalWidth) pen.drawImage(image, 0, 0, w, t);
    const tint = h("canvas", { width: w, height: t }), ink = tint.getContext("2d");
    ink.drawImage(maskOf(one), 0, 0, w, t);
    ink.globalCompositeOperation = "source-in";
    ink.fillStyle = one.colour || "#0d9488";
    ink.fillRect(0, 0, w, t);
    pen.globalAlpha = tool === "crop" ? 0.42 : 0.55;
    pen.drawImage(tint, 0, 0);
    pen.globalAlpha = 1;
    const [x, y, cw, ch] = crop(one), [left, top, right, bottom] = [x * w, y * t, (x + cw) * w, (y + ch) * t];
    pen.fillStyle = "rgba(12, 10, 9, 0.55)";
    pen.fillRect(0, 0, w, top);
    pen.fillRect(0, bottom, w, t - bottom);
    pen.fillRect(0, top, left, bottom - top);
    pen.fillRect(right, top, w - right, bottom - top);
    if (tool === "crop") {
      pen.strokeStyle = "#fff";
      pen.lineWidth = 1.5;
      pen.strokeRect(left + 1, top + 1, right - left - 2, bottom - top - 2);
      pen.fillStyle = "#fff";
      for (const [cx, cy] of [[left, top], [right, top], [left, bottom], [right, bottom]]) {
        pen.fillRect(Math.min(Math.max(cx - 5, 0), w - 10), Math.min(Math.max(cy - 5, 0), t - 10), 10, 10);
      }
    } else if (cursor) {
      pen.strokeStyle = "#fff";
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(cursor[0] * w, cursor[1] * t, size / 2, 0, 7);
      pen.stroke();
    }
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const dab = (from, to) => {
    const one = photo(), mask = maskOf(one), pen = mask.getContext("2d");
    pen.globalCompositeOperation = tool === "erase" ? "destination-out" : "source-over";
    pen.strokeStyle = "#fff";
    pen.lineCap = "round";
    pen.lineWidth = (size / canvas.clientWidth) * mask.width;
    pen.beginPath();
    pen.moveTo(from[0] * mask.width, from[1] * mask.height);
    pen.lineTo(to[0] * mask.width + 0.01, to[1] * mask.height);
    pen.stroke();
  };
  const keepMask = () => {
    const one = photo(), mask = maskOf(one), flat = h("canvas", { width: mask.width, height: mask.height });
    const pen = flat.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, mask.width, mask.height);
    pen.drawImage(mask, 0, 0);
    const painted = flat.toDataURL("image/png");
    masks[one.name].key = one.name + "|" + painted.length;
    commit({ painted, touched: true });
  };
  const place_crop = (x, y, w, t) => {
    const [width, height] = [Math.min(1, Math.max(0.08, w)), Math.min(1, Math.max(0.08, t))];
    return [Math.min(Math.max(0, x), 1 - width), Math.min(Math.max(0, y), 1 - height), width, height];
  };
  let live = null;
  canvas.addEventListener("pointerdown", (event) => {
    const one = photo();
    if (!one) return;
    canvas.setPointerCapture(event.pointerId);
    const point = at(event);
    if (tool === "crop") {
      const [x, y, w, t] = crop(one), [gx, gy] = [HANDLE / canvas.clientWidth, HANDLE / canvas.clientHeight];
      const side = (value, low, high, near) => (Math.abs(value - low) < near ? -1 : Math.abs(value - high) < near ? 1 : 0);
      drag = { point, crop: [x, y, w, t], dx: side(point[0], x, x + w, gx), dy: side(point[1], y, y + t, gy) };
    } else {
      drag = { point };
      dab(point, point);
      paint();
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    const point = at(event);
    cursor = point;
    if (drag && tool === "crop") {
      const [x, y, w, t] = drag.crop, [mx, my] = [point[0] - drag.point[0], point[1] - drag.point[1]];
      let next = [x, y, w, t];
      if (!drag.dx && !drag.dy) next = place_crop(x + mx, y + my, w, t);
      else {
        const left = drag.dx < 0 ? Math.min(Math.max(0, x + mx), x + w - 0.08) : x;
        const top = drag.dy < 0 ? Math.min(Math.max(0, y + my), y + t - 0.08) : y;
        const right = drag.dx > 0 ? Math.max(Math.min(1, x + w + mx), x + 0.08) : x + w;
        const bottom = drag.dy > 0 ? Math.max(Math.min(1, y + t + my), y + 0.08) : y + t;
        next = [left, top, right - left, bottom - top];
      }
      live = next;
      photo().crop = next;
    } else if (drag) {
      dab(drag.point, point);
      drag.point = point;
    }
    paint();
  });
  const end = () => {
    if (!drag) return;
    drag = null;
    if (tool === "crop") { if (live) commit({ crop: live.map((each) => Math.round(each * 1e4) / 1e4) }); live = null; }
    else keepMask();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => { cursor = null; paint(); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
    const one = photo();
    if (!one || (!step && event.key !== " ")) return;
    event.preventDefault();
    if (tool === "crop" && step) {
      const [x, y, w, t] = crop(one);
      commit({ crop: event.shiftKey ? place_crop(x, y, w + step[0], t + step[1]) : place_crop(x + step[0], y + step[1], w, t) });
    } else if (tool !== "crop") {
      const from = cursor || [0.5, 0.5];
      cursor = step ? [from[0] + step[0], from[1] + step[1]] : from;
      if (event.key === " " || event.shiftKey) { dab(from, cursor); keepMask(); }
    }
    paint();
  });
  const button = (name, label, act, on) =>
    h("button", { type: "button", class: "sc-button" + (on ? " sc-on" : ""), "aria-pressed": on === undefined ? null : String(on), "data-tool": name, onclick: act }, label);
  let merged = null;
  const merge = () => {
    const found = props.found;
    if (!found || found === merged) return;
    merged = found;
    said = found[""] || "";
    const photos = value().photos.map((one) => (found[one.name] && !one.touched ? { ...one, mask: found[one.name] } : one));
    props.value = { ...value(), photos };
  };
  const redraw = () => {
    merge();
    const { photos } = value();
    if (chosen >= photos.length) chosen = Math.max(0, photos.length - 1);
    place.hidden = !photos.length;
    thumbs.hidden = photos.length < 2;
    thumbs.replaceChildren(...photos.map((one, number) => h("button", {
      type: "button", role: "tab", "aria-selected": String(number === chosen), class: number === chosen ? "sc-on" : "",
      onclick: () => { chosen = number; redraw(); },
    }, samecast.picture(one.name, `photo ${number + 1}`))));
    const one = photo();
    if (!one) return;
    canvas.setAttribute("aria-label", tool === "crop"
      ? "Photo with its crop. Arrow keys move the crop, with Shift they resize it."
      : "Photo with the mask of the subject. Arrow keys move the brush, Space paints.");
    const pick = (name) => () => { tool = name; redraw(); };
    const masked = one.mask || one.painted;
    samecast.fill(tools,
      value().plain ? null : h("span", { class: "sc-segment" }, button("crop", "Crop", pick("crop"), tool === "crop"),
        button("paint", "Paint mask", pick("paint"), tool === "paint"), button("erase", "Erase", pick("erase"), tool === "erase")),
      tool === "crop" ? null : h("label", { class: "sc-brush" }, "Brush",
        h("input", { type: "range", min: 6, max: 90, value: size, oninput: (event) => { size = +event.target.value; } })),
      one.crop && tool === "crop" ? button("uncrop", "Whole photo", () => { commit({ crop: null }); paint(); }) : null,
      masked && tool !== "crop" ? button("clear", "No mask", () => { delete masks[one.name]; commit({ painted: null, mask: null, touched: true }); redraw(); }) : null,
      h("span", { class: "sc-space" }),
      h("span", { class: "sc-hint" }, said || (masked ? "subject found" : "")),
      button("remove", "Remove", () => {
        props.value = { ...value(), photos: value().photos.filter((each, number) => number !== chosen) };
        trigger("removed");
      }));
    paint();
  };
  new ResizeObserver(paint).observe(stage);
  return redraw;
};

// Which layers read the photo at which steps: a click or a drag switches cells, a name switches its whole row.
samecast.widgets.grid = ({ place, props, trigger }) => {
  const { h } = samecast;
  let drag = null, focus = [0, 0], shown = null;
  const table = h("div", { class: "sc-cells", tabindex: 0, role: "grid", "aria-label": "layers by steps; arrow keys move, Space switches" });
  const said = h("p", { class: "sc-hint", "aria-live": "polite" });
  samecast.fill(place, table, said);
  const on = () => (props.value || {}).on || [];
  const commit = (next) => { props.value = { ...props.value, on: next, edited: true }; trigger("edited"); };
  const cell = (layer, step) => table.querySelector(`[data-l="${layer}"][data-s="${step}"]`);
  const set = (layer, step, to) => {
    shown[layer] = shown[layer].slice(0, step) + (to ? "1" : "0") + shown[layer].slice(step + 1);
    cell(layer, step).className = to ? "sc-lit" : "";
  };
  const draw = () => {
    const { layers = [], steps = 0 } = props.value || {};
    place.hidden = !layers.length;
    shown = on().slice();
    table.style.gridTemplateColumns = `auto repeat(${steps}, minmax(0, 1fr))`;
    table.style.columnGap = steps > 80 ? "1px" : "2px";
    const cells = [];
    layers.forEach((layer, number) => {
      cells.push(h("button", { type: "button", tabindex: -1, class: "sc-row sc-" + layer.stage, "data-row": number,
        title: `${layer.name}: switch the whole row` }, String(layer.index)));
      for (let step = 0; step < steps; step++) {
        cells.push(h("i", { "data-l": number, "data-s": step, class: (shown[number] || "")[step] === "1" ? "sc-lit" : "" }));
      }
    });
    table.replaceChildren(...cells);
    tell();
  };
  const tell = () => {
    const { layers = [], steps = 0, edited } = props.value || {};
    const lit = shown.reduce((sum, row) => sum + [...row].filter((each) => each === "1").length, 0);
    said.textContent = `${lit} of ${layers.length * steps} cells read the photo${edited ? " · your own" : ""}. Rows are layers, columns are steps.`;
  };
  table.addEventListener("pointerdown", (event) => {
    const row = event.target.dataset.row, { l, s } = event.target.dataset;
    if (row !== undefined) {
      const full = !shown[row].includes("0");
      [...shown[row]].forEach((each, step) => set(+row, step, !full));
      commit(shown.slice());
    } else if (l !== undefined) {
      event.preventDefault();
      drag = shown[l][s] !== "1";
      set(+l, +s, drag);
      table.focus();
    }
  });
  table.addEventListener("pointerover", (event) => {
    const { l, s } = event.target.dataset;
    if (drag !== null && l !== undefined) set(+l, +s, drag);
  });
  addEventListener("pointerup", () => { if (drag !== null) { drag = null; commit(shown.slice()); tell(); } });
  table.addEventListener("keydown", (event) => {
    const { layers = [], steps = 0 } = props.value || {};
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    table.querySelector(".sc-focus")?.classList.remove("sc-focus");
    if (move) focus = [Math.min(layers.length - 1, Math.max(0, focus[0] + move[0])), Math.min(steps - 1, Math.max(0, focus[1] + move[1]))];
    else { set(...focus, shown[focus[0]][focus[1]] !== "1"); commit(shown.slice()); }
    cell(...focus)?.classList.add("sc-focus");
    said.textContent = `layer ${layers[focus[0]].name}, step ${focus[1]}: ${shown[focus[0]][focus[1]] === "1" ? "reads the photo" : "reads itself"}`;
  });
  return draw;
};
