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
