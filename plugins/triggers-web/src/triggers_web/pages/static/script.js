"use strict";
// Keeps a page up to date: listens to the server, or asks it again every few seconds. Without this
// script everything works; one loads the page again.
(() => {
  const EVERY = 5000;
  let main = document.querySelector("main[data-version]");
  const status = document.getElementById("status");
  if (!main || !window.fetch || !window.DOMParser) return;
  const root = document.documentElement.dataset.root || "";
  let touched = false, wanted = false, busy = false, source = null, timer = null;

  const summary = (page) => (page.querySelector("[data-summary]") || {}).textContent || "";
  const editing = () => touched || Boolean(document.activeElement && document.activeElement.closest("main form"));
  const say = (text) => { if (status && status.textContent !== text) status.textContent = text; };

  // What is open, focused and scrolled stays so.
  function swap(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const next = page.querySelector("main[data-version]");
    if (!next) return location.reload();
    const stored = (each) => each.dataset.version.split(".")[0]; // the rest is the time of day
    const changed = stored(main) !== stored(next), active = document.activeElement;
    const key = active && main.contains(active) ? active.id || active.getAttribute("href") : null;
    const open = new Set([...main.querySelectorAll("details[open][id]")].map((each) => each.id));
    const scrolled = [...main.querySelectorAll("[data-keep]")].map((each) => [each.dataset.keep, each.scrollLeft, each.scrollTop]);
    main.replaceWith(document.adoptNode(next));
    main = next;
    for (const each of main.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = true;
    for (const [name, left, top] of scrolled) {
      for (const each of main.querySelectorAll("[data-keep]"))
        if (each.dataset.keep === name) each.scrollTo(left, top);
    }
    if (key) {
      const again = [...main.querySelectorAll("a, button, input, textarea, summary, [tabindex]")]
        .find((each) => (each.id || each.getAttribute("href")) === key);
      if (again) again.focus({ preventScroll: true });
    }
    document.title = page.title;
    if (changed) say(`Updated. ${summary(main)}`);
  }

  async function update() {
    if (busy) return;
    if (document.hidden) { wanted = true; return; }
    if (editing()) { wanted = true; return; }
    busy = true; wanted = false;
    try {
      const answer = await fetch(location.href, {
        headers: { "If-None-Match": `"${main.dataset.version}"` }, cache: "no-store", credentials: "same-origin",
      });
      if (answer.status === 304) return;
      const text = await answer.text();
      if (editing()) wanted = true;
      else if (answer.ok) swap(text);
      else if (answer.status < 500) location.reload(); // it says why
      else say("The server cannot answer just now.");
    } catch {
      say("The server does not answer.");
    } finally {
      busy = false;
    }
  }

  function poll() { if (timer === null) timer = setInterval(update, EVERY); }

  function listen() {
    if (!window.EventSource) return poll();
    const of = encodeURIComponent(document.documentElement.dataset.page);
    source = new EventSource(`${root}/live?of=${of}`);
    source.addEventListener("version", (event) => {
      if (event.data !== main.dataset.version) update();
    });
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) { source = null; poll(); }
    };
  }

  function stop() {
    if (source) { source.close(); source = null; }
    if (timer !== null) { clearInterval(timer); timer = null; }
  }

  document.addEventListener("input", (event) => { if (event.target.closest("main form")) touched = true; });
  document.addEventListener("submit", () => { touched = false; stop(); });
  document.addEventListener("focusout", () => setTimeout(() => { if (wanted) update(); }, 200));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop(); else { update(); listen(); }
  });
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) { update(); listen(); } });
  if (!document.hidden) listen();
})();
