// Widgets of the page. Text becomes DOM text here and nowhere HTML, so that no name or prompt can be markup.
window.samecast = {
  widgets: {},
  url: (name) => "/file/" + name.split("/").map(encodeURIComponent).join("/"),
  h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  },
  fill(node, ...children) {
    node.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  },
  picture(name, alt, more) {
    return samecast.h("img", { src: samecast.url(name), alt, ...(more || {}) });
  },
  mount(kind, element, props, trigger, watch) {
    const begin = () => {
      const place = element.querySelector("." + "sc-" + kind) || element;
      const draw = samecast.widgets[kind]({ place, props, trigger });
      draw();
      watch(["value", "found"], () => draw());
    };
    begin();
  },
  // A browser is known by localStorage, a page by sessionStorage, which survives a reload and no more.
  who() {
    const id = (store, name) => {
      let found = store.getItem(name);
      if (!found) {
        found = crypto.randomUUID();
        store.setItem(name, found);
      }
      return found;
    };
    return { owner: id(localStorage, "samecast-owner"), page: id(sessionStorage, "samecast-page") };
  },
};

samecast.widgets.runner = ({ place, props, trigger }) => {
  const { h } = samecast;
  const words = {
    invert: "inverting the photo", denoise: "denoising", decode: "decoding", source: "making the source",
    check: "checking the inversion", look: "looking for the subject", class: "making class pictures",
    learn: "learning", sweep: "making and scoring pictures",
  };
  let job = null, timer = null, shots = -1;
  const said = h("span", { class: "sc-said", role: "status", "aria-live": "polite" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": "progress" });
  const stop = h("button", { class: "sc-button", type: "button", onclick: () => ask("POST", `/job/${job}/stop`) }, "Cancel");
  const strip = h("div", { class: "sc-previews", "aria-hidden": "true" });
  const fault = h("p", { class: "sc-fault", role: "alert" });
  const box = h("div", { class: "sc-progress" }, h("div", { class: "sc-line" }, said, stop), bar, strip);
  place.replaceChildren(box, fault);

  const ask = async (method, path) => {
    const answer = await fetch(path, { method, headers: { "X-Samecast": "1" } });
    return answer.ok ? answer.json() : null;
  };
  const show = (data) => {
    const busy = data.state === "waiting" || data.state === "running";
    box.hidden = !busy;
    place.dataset.state = data.state;
    if (data.state === "waiting") {
      said.textContent = data.ahead ? `waiting: ${data.ahead} before this` : "waiting for the model";
      bar.removeAttribute("value");
    } else if (data.state === "running") {
      const share = data.total ? ` ${data.done} of ${data.total}` : "";
      said.textContent = `${words[data.stage] || data.stage || "starting"}${share} · ${data.seconds.toFixed(0)} s`;
      if (data.total) bar.value = data.done / data.total;
    }
    if (data.previews && data.shots !== shots) {
      shots = data.shots;
      strip.replaceChildren(...data.previews.map((source) => h("img", { src: source, alt: "" })));
    }
    fault.textContent = data.state === "failed" ? data.error : data.state === "stopped" ? "Cancelled." : "";
    fault.classList.toggle("sc-quiet", data.state === "stopped");
    return busy;
  };
  const poll = async () => {
    const watched = job;
    let data = null;
    try {
      data = await ask("GET", `/job/${watched}?shots=${shots}`);
    } catch {
      said.textContent = "the server does not answer";
      timer = setTimeout(poll, 1000);
      return;
    }
    if (job !== watched) return;
    if (!data) { box.hidden = true; return; }
    if (show(data)) timer = setTimeout(poll, 250);
    else {
      strip.replaceChildren();
      tell(watched, 20);
    }
  };
  // Until the page has taken it: after a reload the server's events may not be wired yet.
  const tell = (watched, tries) => {
    if (job !== watched || !tries || (props.value || {}).shown === watched) return;
    props.value = { ...props.value, job: watched };
    trigger("over");
    setTimeout(() => tell(watched, tries - 1), 1500);
  };
  const follow = (id) => {
    clearTimeout(timer);
    job = id;
    shots = -1;
    strip.replaceChildren();
    fault.textContent = "";
    poll();
  };
  box.hidden = true;
  props.value = { ...samecast.who(), kind: props.kind };
  // After a reload the page goes on with its run.
  const { owner, page } = samecast.who();
  ask("GET", `/mine?kind=${props.kind}&owner=${owner}&page=${page}`).then((data) => {
    if (data && data.id && !job) follow(data.id);
  }).catch(() => {});
  return () => {
    const value = props.value || {};
    if (value.start && value.start !== job) {
      follow(value.start);
      setTimeout(() => box.scrollIntoView({ block: "nearest", behavior: "smooth" }), 300);
    }
    if (value.fault) { box.hidden = true; fault.classList.remove("sc-quiet"); fault.textContent = value.fault; }
    else if (value.start !== job) fault.textContent = "";
  };
};

samecast.widgets.model = ({ place }) => {
  const look = async () => {
    try {
      const data = await (await fetch("/model", { headers: { "X-Samecast": "1" } })).json();
      place.dataset.state = data.fault ? "failed" : data.ready ? "ready" : "loading";
      place.textContent = data.fault || (data.ready ? data.name : `loading ${data.name} …`);
      if (!data.ready) setTimeout(look, 400);
    } catch {
      place.textContent = "the server does not answer";
      setTimeout(look, 2000);
    }
  };
  look();
  return () => {};
};

samecast.widgets.theme = ({ place }) => {
  const { h } = samecast;
  const dark = () => document.body.classList.contains("dark");
  const set = (on) => {
    document.body.classList.toggle("dark", on);
    button.innerHTML = on
      ? '<svg viewBox="0 0 24 24"><circle cx="12" cy="12" r="4.5"/><path d="M12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8"/></svg>'
      : '<svg viewBox="0 0 24 24"><path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z"/></svg>';
    button.setAttribute("aria-label", on ? "light colours" : "dark colours");
  };
  const button = h("button", { class: "sc-icon", type: "button", onclick: () => {
    set(!dark());
    localStorage.setItem("samecast-dark", dark() ? "1" : "0");
  } });
  place.replaceChildren(button);
  const kept = localStorage.getItem("samecast-dark");
  set(kept === null ? matchMedia("(prefers-color-scheme: dark)").matches : kept === "1");
  return () => {};
};
