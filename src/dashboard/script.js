// What a page does beyond being read: fresh numbers as they come, and buttons that copy. Without it everything is there but these.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  // --- Copying ---

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // An address that is not of this machine has no clipboard: select it for the user's own Ctrl-C.
      const shown = button.previousElementSibling;
      if (shown) getSelection().selectAllChildren(shown);
      return;
    }
    const label = button.getAttribute("aria-label");
    button.classList.add("done");
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.classList.remove("done");
      button.setAttribute("aria-label", label);
    }, 1500);
  });

  // --- Live parts ---

  // Makes `old` like `fresh` and touches only what differs, so that focus, selection and scrolling stay.
  const morph = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh.cloneNode(true));
      return;
    }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE || old.classList.contains("done")) return;
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // What the reader has unfolded stays unfolded.
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    const news = [...fresh.childNodes];
    const olds = [...old.childNodes];
    news.forEach((child, index) => (index < olds.length ? morph(olds[index], child) : old.append(child.cloneNode(true))));
    olds.slice(news.length).forEach((child) => child.remove());
  };

  const put = (id, html) => {
    const old = document.getElementById(id);
    const template = document.createElement("template");
    template.innerHTML = html;
    if (old && template.content.firstElementChild) morph(old, template.content.firstElementChild);
  };

  const state = document.getElementById("live");
  if (!state || !state.dataset.stream) return;
  const say = (text, name) => {
    if (state.dataset.state !== name) {
      state.textContent = text;
      state.dataset.state = name;
    }
  };
  let source = null;
  let again = 0;
  const close = () => {
    clearTimeout(again);
    if (source) source.close();
    source = null;
  };
  const open = () => {
    close();
    source = new EventSource(state.dataset.stream);
    source.onopen = () => say("live", "on");
    source.addEventListener("parts", ({ data }) => {
      say("live", "on");
      for (const [id, html] of Object.entries(JSON.parse(data))) put(id, html);
    });
    // The session has ended, or the page has: the server says what is there instead.
    for (const name of ["over", "gone"]) {
      source.addEventListener(name, () => {
        close();
        location.reload();
      });
    }
    source.onerror = () => {
      say("not connected", "off");
      if (source && source.readyState === EventSource.CLOSED) again = setTimeout(retry, 3000);
    };
  };
  // A browser gives up on a stream that is refused. Either the node is not there, or it does not know us any more.
  const retry = async () => {
    try {
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual", headers: { accept: "text/html" } });
      if (answer.type === "opaqueredirect") return location.reload();
    } catch {
      // Nobody is there yet.
    }
    open();
  };
  // A page that nobody sees needs no numbers, and a browser has few connections for one host.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  if (!document.hidden) open();
})();

// What the forms of actions do beyond being sent: sliders that keep their sum, and a command line that follows the message.
(() => {
  "use strict";

  // --- Shares, in thousandths of a percent, so that they sum exactly ---

  const ALL = 100000;
  for (const list of document.querySelectorAll("[data-shares]")) {
    const total = list.closest("form").querySelector("[data-sum]");
    const rows = [...list.querySelectorAll("input[name=share]")].map((field) => {
      const slider = document.createElement("input");
      slider.type = "range";
      slider.max = ALL;
      slider.step = 1000;
      slider.setAttribute("aria-label", `Share of ${field.closest("li").querySelector("label").innerText.trim()}`);
      field.closest("li").append(slider);
      return { field, slider, now: Math.round(Number(field.dataset.now) * 1000) };
    });
    const amount = (row) => Math.round(Number(row.field.value || 0) * 1000) || 0;
    const tell = () => {
      for (const row of rows) row.slider.value = amount(row);
      const sum = rows.reduce((sum, row) => sum + amount(row), 0);
      total.textContent = sum === ALL ? "" : ` (now ${sum / 1000} %)`;
      total.classList.toggle("off", sum !== ALL);
    };
    // The others share what is left as they did before; such as are out come in only if nobody else is there.
    const sharers = (moved) => {
      let others = rows.filter((row) => row !== moved && row.field.value !== "");
      if (!others.length) others = rows.filter((row) => row !== moved && row.now > 0);
      let weights = others.map(amount);
      if (!weights.some((weight) => weight > 0)) weights = others.map((row) => row.now);
      if (!weights.some((weight) => weight > 0)) weights = others.map(() => 1);
      return { moved, others, weights };
    };
    // As they did before this slider was first moved: step by step, rounding would add up.
    let held = null;
    const balance = (moved) => {
      const { others, weights } = held;
      if (!others.length) {
        moved.field.value = ALL / 1000;
        return;
      }
      const left = ALL - amount(moved);
      const sum = weights.reduce((sum, weight) => sum + weight, 0);
      const parts = weights.map((weight) => Math.floor((left * weight) / sum));
      parts[weights.indexOf(Math.max(...weights))] += left - parts.reduce((sum, part) => sum + part, 0);
      others.forEach((row, index) => (row.field.value = parts[index] / 1000));
    };
    for (const row of rows) {
      row.slider.addEventListener("input", () => {
        const share = Number(row.slider.value) / 1000;
        if (held?.moved !== row) held = sharers(row);
        row.field.value = share;
        balance(row);
        tell();
      });
      row.field.addEventListener("input", () => {
        held = null;
        tell();
      });
    }
    tell();
  }

  // --- Files that are dropped on a form find their fields by their names ---

  for (const box of document.querySelectorAll("[data-drop]")) {
    const fields = [...box.querySelectorAll("input[type=file]")];
    const fits = (field, file) => field.accept.split(",").some((end) => end.startsWith(".") && file.name.toLowerCase().endsWith(end));
    const mib = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`;
    const size = (field) => {
      const [file] = field.files;
      const most = Number(field.dataset.bytesMax);
      field.setCustomValidity(file && file.size > most ? `${file.name} has ${mib(file.size)}; the limit is ${mib(most)}.` : "");
    };
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      box.classList.add("over");
    };
    box.addEventListener("dragenter", over);
    box.addEventListener("dragover", over);
    box.addEventListener("dragleave", (event) => box.contains(event.relatedTarget) || box.classList.remove("over"));
    box.addEventListener("drop", (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      box.classList.remove("over");
      const hint = box.querySelector(".drop-hint");
      const strangers = [];
      for (const file of event.dataTransfer.files) {
        const field = fields.find((field) => fits(field, file));
        if (!field) {
          strangers.push(file.name);
          continue;
        }
        const one = new DataTransfer();
        one.items.add(file);
        field.files = one.files;
        size(field);
      }
      if (strangers.length) hint.textContent = `Neither a component nor a configuration: ${strangers.join(", ")}.`;
    });
    fields.forEach((field) => field.addEventListener("change", () => size(field)));
  }

  // Sending a module and trying it take a while: say so, and take no second click.
  for (const form of document.querySelectorAll("form[data-upload], form[data-once]")) {
    form.addEventListener("submit", () => {
      const busy = form.querySelector("[data-busy]");
      if (busy) busy.textContent = busy.dataset.busy;
      // After the form was sent: a button that is off is not sent.
      setTimeout(() => form.querySelectorAll("button[type=submit]").forEach((button) => (button.disabled = true)));
    });
    // Whoever comes back by the history finds them on.
    addEventListener("pageshow", () => form.querySelectorAll("button[type=submit]").forEach((button) => (button.disabled = false)));
  }

  // --- The command line says the message that is being typed ---

  for (const box of document.querySelectorAll("[data-command]")) {
    const options = ["tag", "message"].filter((name) => box.dataset[name]);
    const fields = options.map((name) => document.getElementById(box.dataset[name]));
    const [code, copy] = [box.querySelector("code"), box.querySelector("[data-copy]")];
    const tell = () => {
      const typed = options.map((name, index) => {
        const { value } = fields[index];
        return value ? ` --${name}='${value.replaceAll("'", "'\\''")}'` : "";
      });
      const command = box.dataset.command + typed.join("");
      code.textContent = command;
      copy.dataset.copy = command;
      copy.setAttribute("aria-label", `Copy command ${command}`);
    };
    fields.forEach((field) => field.addEventListener("input", tell));
  }
})();

// A tail: requests as they end. Every text of it is somebody else's, and becomes a text node, never markup.
(() => {
  "use strict";

  const section = document.querySelector("[data-tail]");
  if (!section) return;
  // Rows that are kept, and such as wait while it is paused.
  const ROWS_MAX = 500;
  const [rows, none, state, pause, clear] = ["rows", "none", "state", "pause", "clear"].map((id) =>
    document.getElementById(`tail-${id}`),
  );
  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.textContent = text;
    return made;
  };
  const line = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const pathOf = (request) => {
    try {
      const url = new URL(request.url);
      return url.pathname + url.search;
    } catch {
      return String(request.url);
    }
  };

  const row = (event) => {
    const { request, response, type, message, scheduledTime } = event.event ?? {};
    const made = document.createElement("li");
    if (type) {
      made.className = "noticed";
      made.textContent = message;
      return made;
    }
    const failed = event.outcome !== "ok";
    if (failed) made.className = "failed";
    const head = element("div", "head", "");
    const number = event.sluice?.versionNumber;
    const what = request ? `${request.method} ${pathOf(request)}` : `alarm ${scheduledTime ?? ""}`;
    head.append(
      element("time", "muted", new Date(event.eventTimestamp).toISOString().slice(11, 23)),
      element("span", "outcome", [response?.status, failed || !response ? event.outcome : ""].filter(Boolean).join(" ")),
      element("span", "path", what),
      element("span", "muted", event.executionModel === "durableObject" ? `object of ${event.entrypoint}` : ""),
      element("span", "muted", number ? `#${number}` : "–"),
      element("span", "muted", `${event.wallTime} ms`),
    );
    made.append(head);
    for (const log of event.logs ?? []) {
      const kind = log.level === "error" ? "bad" : "";
      made.append(element("pre", kind, `${log.level}: ${(log.message ?? []).map(line).join(" ")}`));
    }
    for (const { name, message } of event.exceptions ?? []) made.append(element("pre", "bad", `${name}: ${message}`));
    return made;
  };

  let paused = false;
  let waiting = [];
  let missed = 0;
  const show = (made) => {
    none.hidden = true;
    // The newest is on top.
    rows.prepend(made);
    while (rows.childElementCount > ROWS_MAX) rows.lastElementChild.remove();
  };
  const say = (text, name) => {
    state.textContent = text;
    state.dataset.state = name;
  };
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (paused) return;
    if (missed) show(element("li", "noticed", `${missed} events are left out here: more came than are kept while it is paused.`));
    waiting.forEach((event) => show(row(event)));
    [waiting, missed] = [[], 0];
  });
  clear.addEventListener("click", () => {
    rows.replaceChildren();
    [waiting, missed] = [[], 0];
    none.hidden = false;
  });

  const source = new EventSource(section.dataset.tail);
  source.onopen = () => say("live", "on");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "ended; load the page anew" : "not connected", "off");
  source.addEventListener("tail", ({ data }) => {
    const event = JSON.parse(data);
    if (!paused) return show(row(event));
    waiting.push(event);
    if (waiting.length > ROWS_MAX) {
      waiting.shift();
      missed += 1;
    }
  });
  source.addEventListener("refused", ({ data }) => {
    source.close();
    say(data, "off");
  });
  source.addEventListener("over", () => {
    source.close();
    location.reload();
  });
  addEventListener("pagehide", () => source.close());
})();
