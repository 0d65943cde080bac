// What came out: side by side, compared by a divider, listed, scored.
samecast.widgets.results = ({ place, props, trigger }) => {
  const { h, picture } = samecast;
  let chosen = 0, named = "";
  const figure = (name, label, note, warned) => h("figure", { class: warned ? "sc-warned" : "" },
    name ? h("a", { href: samecast.url(name), target: "_blank", rel: "noopener" }, picture(name, label)) : h("div", { class: "sc-none" }, "—"),
    h("figcaption", null, h("b", null, label), note ? h("span", null, note) : null));
  const draw = () => {
    const run = props.value;
    if (!run || !run.items) {
      if (props.quiet) { place.replaceChildren(); return; }
      samecast.fill(place, h("div", { class: "sc-empty" },
        h("ol", null, h("li", null, "Drop a photo of your subject, or pick an example."),
          h("li", null, "Say what it is: dog, mug, chair."), h("li", null, "Describe scenes, one a line, and press Render."))));
      return;
    }
    if (run.name !== named) { chosen = 0; named = run.name; }
    chosen = Math.min(chosen, run.items.length - 1);
    const one = run.items[chosen];
    const poor = run.warnings.some((text) => text.includes("autoencoder") || text.includes("inversion is what limits"));
    const shown = [];
    if (run.photo) shown.push(figure(run.photo, "Photo", run.noun));
    if (run.source) shown.push(figure(run.source, run.photo ? "Reconstruction" : "Source", run.psnr === null ? "" : `${run.psnr} dB${poor ? " · poor" : ""}`, poor));
    if (one.plain) shown.push(figure(one.plain, "Without control", `seed ${one.seed}`));
    shown.push(figure(one.url, "Result", `seed ${one.seed}`));
    const turn = (by) => { chosen = (chosen + by + run.items.length) % run.items.length; draw(); place.querySelector(".sc-strip .sc-on")?.focus(); };
    const strip = h("div", { class: "sc-strip", role: "listbox", "aria-label": "pictures", onkeydown: (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) { event.preventDefault(); turn(by); }
    } }, run.items.map((item, number) => h("button", {
      type: "button", role: "option", "aria-selected": String(number === chosen), class: number === chosen ? "sc-on" : "",
      tabindex: number === chosen ? 0 : -1, onclick: () => { chosen = number; draw(); },
    }, picture(item.url, item.prompt), h("span", null, item.prompt))));
    samecast.fill(place, 
      h("div", { class: "sc-summary" }, h("span", { class: "sc-tally" }, run.tally || run.name), h("span", { class: "sc-space" }),
        h("a", { class: "sc-button", href: "/zip/" + run.name.split("/").map(encodeURIComponent).join("/"), download: "" }, "Download")),
      run.verdict ? h("p", { class: "sc-verdict" }, run.verdict) : null,
      h("p", { class: "sc-prompt" }, one.prompt),
      h("div", { class: "sc-side", style: { "--count": shown.length } }, shown),
      run.items.length > 1 ? strip : null,
      run.warnings.length ? h("details", { class: "sc-warnings", open: poor }, h("summary", null, `${run.warnings.length} warning${run.warnings.length > 1 ? "s" : ""}`),
        h("ul", null, run.warnings.map((text) => h("li", null, text)))) : null);
  };
  return draw;
};

samecast.widgets.wipe = ({ place, props }) => {
  const { h, picture } = samecast;
  return () => {
    const pair = props.value;
    if (!pair || !pair.left) { samecast.fill(place, h("p", { class: "sc-hint" }, pair && pair.fault ? pair.fault : "Two settings on the same photo and prompt, under one divider.")); return; }
    const frame = h("div", { class: "sc-frame" }, picture(pair.left, pair.names[0]), picture(pair.right, pair.names[1], { class: "sc-over" }),
      h("div", { class: "sc-bar" }));
    const move = (share) => frame.style.setProperty("--at", share + "%");
    const slider = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "divider", oninput: (event) => move(event.target.value) });
    frame.append(slider);
    move(50);
    samecast.fill(place, h("p", { class: "sc-prompt" }, pair.prompt || ""), frame,
      h("div", { class: "sc-ends" }, h("span", null, pair.names[0]), h("span", null, pair.names[1])));
  };
};

samecast.widgets.history = ({ place, props, trigger }) => {
  const { h, picture } = samecast;
  let asking = "";
  const draw = () => {
    const { runs = [], filtered } = props.value || {};
    const act = (event, name, label, more) => h("button", { type: "button", class: "sc-button", ...(more || {}), onclick: () => trigger(event, { name }) }, label);
    samecast.fill(place, runs.length ? null : h("p", { class: "sc-empty" }, filtered ? "No run matches." : "Nothing rendered yet."),
      h("div", { class: "sc-cards" }, runs.map((run) => h("article", { class: "sc-card", "data-run": run.name },
        h("button", { type: "button", class: "sc-cover", "aria-label": `open ${run.name}`, onclick: () => trigger("open", { name: run.name }) },
          run.pictures.slice(0, 4).map((name) => picture(name, "", { loading: "lazy" })), run.fault ? h("span", null, "damaged") : null),
        h("div", { class: "sc-about" }, h("b", null, run.prompts[0] || run.name),
          h("span", null, [run.name, run.pictures.length > 1 ? `${run.pictures.length} pictures` : "", run.created.slice(0, 16).replace("T", " ")].filter(Boolean).join(" · ")),
          run.fault ? h("span", { class: "sc-fault" }, run.fault) : null),
        asking === run.name
          ? h("div", { class: "sc-acts sc-ask", role: "alertdialog", "aria-label": "delete" }, h("span", null, "Delete this run and its files?"),
            act("delete", run.name, "Delete", { "data-act": "yes", class: "sc-button sc-danger" }),
            h("button", { type: "button", class: "sc-button", onclick: () => { asking = ""; draw(); } }, "Keep"))
          : h("div", { class: "sc-acts" },
            run.fault ? null : act("use", run.name, "Use these settings", { "data-act": "use" }),
            run.fault ? null : act("again", run.name, "Run again", { "data-act": "again" }),
            h("a", { class: "sc-button", href: "/zip/" + run.name.split("/").map(encodeURIComponent).join("/"), download: "" }, "Download"),
            h("button", { type: "button", class: "sc-button", "data-act": "delete", onclick: () => { asking = run.name; draw(); place.querySelector('[data-act="yes"]').focus(); } }, "Delete"))))));
  };
  return draw;
};

samecast.widgets.strengths = ({ place, props }) => {
  const { h } = samecast;
  return () => {
    const { names = [], of = {} } = props.value || {};
    samecast.fill(place, (names.length ? names.map((name) => {
      const strength = of[name] || 0, said = h("output", null, strength ? strength.toFixed(2) : "off");
      return h("label", { class: "sc-strength" }, h("span", null, name), h("input", {
        type: "range", min: 0, max: 1.5, step: 0.05, value: strength, "aria-label": `strength of ${name}`,
        oninput: (event) => {
          const next = +event.target.value;
          said.textContent = next ? next.toFixed(2) : "off";
          props.value = { ...props.value, of: { ...(props.value || {}).of, [name]: next } };
        },
      }), said);
    }) : [h("p", { class: "sc-hint" }, "No concept or LoRA in this folder yet: the Learn tab makes one, or put .safetensors files into concepts/.")]));
  };
};

samecast.widgets.sweep = ({ place, props, trigger }) => {
  const { h, picture } = samecast;
  return () => {
    const data = props.value;
    if (!data || !data.rows) { samecast.fill(place, h("p", { class: "sc-hint" }, (data && data.fault) || "One or two settings, varied: a picture for each, with its scores. A sweep that was stopped goes on where it was.")); return; }
    samecast.fill(place, h("p", { class: "sc-hint" }, data.tally || ""), h("div", { class: "sc-scroll" }, h("table", { class: "sc-matrix" },
      h("thead", null, h("tr", null, h("th", null, data.rows.length > 1 || data.corner.includes("→") ? data.corner : `${data.corner} →`), data.columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, data.rows.map((row) => h("tr", null, h("th", { scope: "row" }, row.name), row.cells.map((cell) => h("td", null, cell
        ? [cell.picture ? picture(cell.picture, cell.name) : h("div", { class: "sc-none" }, "…"),
          h("dl", null, Object.entries(cell.scores).map(([name, score]) => [h("dt", null, name), h("dd", null, score)])),
          h("button", { type: "button", class: "sc-button", onclick: () => trigger("use", { name: cell.name }) }, "Use this setting")]
        : null))))))));
  };
};

samecast.widgets.loss = ({ place, props }) => {
  const { h } = samecast;
  return () => {
    const { samples = [], losses = [], file, tally } = props.value || {};
    const wide = 600, high = 120, most = Math.max(...losses.map((each) => each[1]), 1e-9), last = Math.max(...losses.map((each) => each[0]), 1);
    const points = losses.map(([step, loss]) => `${((step / last) * wide).toFixed(1)},${(high - (loss / most) * (high - 8)).toFixed(1)}`).join(" ");
    const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawing.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    drawing.setAttribute("class", "sc-curve");
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", "loss by step");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points);
    drawing.append(line);
    samecast.fill(place, [tally ? h("p", { class: "sc-tally" }, tally) : null, file ? h("p", { class: "sc-verdict" }, `${file} is ready: switch it on under Concepts and LoRA in Render.`) : null,
      losses.length > 1 ? h("figure", { class: "sc-chart" }, drawing, h("figcaption", null, `loss, ${losses[losses.length - 1][1].toFixed(3)} at step ${last}`)) : null,
      ...samples.map((name) => h("figure", { class: "sc-sample" }, samecast.picture(name, "samples"))),
      tally || samples.length ? null : h("p", { class: "sc-hint" }, "Three to five photos do. Samples of fixed prompts appear here on the way.")]);
  };
};

samecast.widgets.study = ({ place, props }) => {
  const { h } = samecast;
  return () => {
    const data = props.value;
    if (!data || !data.name) { samecast.fill(place, h("p", { class: "sc-hint" }, (data && data.fault) || "A study's folder: how far it is, its tables and its figures.")); return; }
    samecast.fill(place, [
      h("div", { class: "sc-summary" }, h("span", { class: "sc-tally" }, data.tally), h("span", { class: "sc-space" }),
        data.page ? h("a", { class: "sc-button", href: samecast.url(data.page), target: "_blank", rel: "noopener" }, "Open page") : null,
        data.table ? h("a", { class: "sc-button", href: samecast.url(data.table), download: "" }, "Table (CSV)") : null),
      h("div", { class: "sc-scroll" }, h("table", { class: "sc-table" }, h("thead", null, h("tr", null, ["subject", "finished", "of", "state"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", null, data.status.map((row) => h("tr", null, row.map((each) => h("td", null, String(each)))))))),
      data.settings.length ? h("div", { class: "sc-scroll" }, h("table", { class: "sc-table" }, h("thead", null, h("tr", null, data.columns.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", null, data.settings.map((row) => h("tr", null, row.map((each) => h("td", null, String(each)))))))) : null,
      h("div", { class: "sc-figures" }, data.figures.map((name) => h("figure", null, samecast.picture(name, name.split("/").pop()), h("figcaption", null, name.split("/").pop())))),
    ]);
  };
};
