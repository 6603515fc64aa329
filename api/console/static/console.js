// What pages gain with JavaScript: local times, copying, keys, confirmation, live refresh, charts. They work without it.
(() => {
  "use strict";
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // Times: UTC is in the page; the reader's own time is added beside it, or as a title in tables.
  const local = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  function times(root) {
    for (const time of $$("time[datetime]:not([data-done])", root)) {
      const at = new Date(time.dateTime);
      time.dataset.done = "";
      time.title = `${at.toISOString().replace("T", " ").slice(0, 19)} UTC\n${full.format(at)}`;
      if (time.dataset.beside !== undefined && at.getTimezoneOffset() !== 0) {
        const beside = document.createElement("span");
        beside.className = "local";
        beside.textContent = local.format(at);
        time.after(beside);
      }
    }
  }

  // Charts: the numbers are those of the table beside them, which a live page fetches again.
  const plots = new Map();
  function charts() {
    for (const element of window.uPlot ? $$("[data-chart]") : []) {
      const table = document.querySelector(`#${element.dataset.chart} table`);
      const columns = $$("th", table).map((head, at) => $$(`tr > td:nth-child(${at + 1})`, table).map((cell) => Number(cell.dataset.at ?? cell.textContent)));
      if (plots.has(element)) { plots.get(element).setData(columns); continue; }
      const colour = (name) => {
        const probe = document.createElement("span");
        probe.className = name;
        element.append(probe);
        const found = getComputedStyle(probe).color;
        probe.remove();
        return found;
      };
      const size = () => ({ width: element.clientWidth || 600, height: 176 });
      const axis = { stroke: colour("quiet"), grid: { stroke: "rgba(128,128,128,.15)", width: 1 }, ticks: { show: false } };
      const plot = new uPlot({
        ...size(), cursor: { y: false }, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
        scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 4)] } },
        axes: [{ ...axis, values: "{HH}:{mm}" }, { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6] }],
        series: [
          { label: "UTC", value: (_, at) => (at == null ? "" : new Date(at * 1e3).toISOString().slice(5, 16).replace("T", " ")) },
          ...$$("th[data-tone]", table).map((head) => ({ label: head.textContent, stroke: colour(head.dataset.tone), width: 1.5, points: { show: false } })),
        ],
      }, columns, element);
      plots.set(element, plot);
      new ResizeObserver(() => plot.setSize(size())).observe(element);
    }
  }

  // Their library is a third of all bytes, so it is fetched after the page is shown.
  const drawn = document.querySelector("[data-library]");
  if (drawn) addEventListener("load", () => {
    const script = document.createElement("script");
    script.src = drawn.dataset.library;
    script.addEventListener("load", charts);
    document.head.append(script);
  });

  function enliven(root) {
    times(root);
    charts();
  }

  // Copying
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-from]");
    if (!button) return;
    event.preventDefault();
    const text = button.dataset.copy ?? document.querySelector(button.dataset.copyFrom).textContent;
    await navigator.clipboard.writeText(text);
    button.classList.add("copied");
    const before = button.getAttribute("aria-label");
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => { button.classList.remove("copied"); if (before) button.setAttribute("aria-label", before); else button.removeAttribute("aria-label"); }, 1500);
  });

  // Rows open their page.
  document.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-href]");
    if (!row || event.target.closest("a, button, input, label, summary") || String(getSelection())) return;
    location.assign(row.dataset.href);
  });

  // Questions before what cannot be undone.
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });

  // Selection of rows, with ranges by shift-click.
  let last = null;
  function selection() {
    const chosen = $$("input[name=id]:checked").length;
    for (const button of $$("[data-needs-selection]")) {
      button.disabled = chosen === 0;
      const number = button.querySelector("[data-number]");
      if (number) number.textContent = chosen ? String(chosen) : "";
    }
  }
  document.addEventListener("click", (event) => {
    const box = event.target.closest("input[name=id]");
    if (box) {
      const boxes = $$("input[name=id]");
      if (event.shiftKey && last) {
        const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
        for (const one of boxes.slice(from, to + 1)) one.checked = box.checked;
      }
      last = box;
      selection();
    }
    if (event.target.matches("[data-select-all]")) {
      for (const one of $$("input[name=id]")) one.checked = event.target.checked;
      selection();
    }
  });

  // Filters apply when a choice is made.
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form.filters");
    if (form && event.target.matches("select")) form.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("form.filters, form.search")) {
      for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
      setTimeout(() => { for (const field of event.target.elements) field.disabled = false; }, 100);
    }
  });

  // Keys
  const places = { o: "/console/", m: "/console/messages", s: "/console/sources", d: "/console/deliveries", a: "/console/alerts" };
  let leader = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.matches("input")) { event.target.blur(); return; }
    if (event.target.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
    const rows = $$("tr[data-href]");
    const at = rows.findIndex((row) => row.classList.contains("at"));
    const move = (to) => {
      if (!rows.length) return;
      const next = Math.max(0, Math.min(rows.length - 1, to));
      if (at >= 0) rows[at].classList.remove("at");
      rows[next].classList.add("at");
      rows[next].querySelector("a")?.focus({ preventScroll: true });
      rows[next].scrollIntoView({ block: "nearest" });
    };
    if (Date.now() - leader < 1000 && places[event.key]) { location.assign(places[event.key]); return; }
    switch (event.key) {
      case "/": document.getElementById("q")?.focus(); document.getElementById("q")?.select(); break;
      case "j": move(at + 1); break;
      case "k": move(at < 0 ? 0 : at - 1); break;
      case "g": leader = Date.now(); break;
      case "?": document.getElementById("help")?.showModal(); break;
      default: return;
    }
    event.preventDefault();
  });
  document.getElementById("help-button")?.addEventListener("click", () => document.getElementById("help").showModal());

  // Live: the stream says that something changed; the parts marked as live are then fetched again, at most every two
  // seconds and only while the tab is visible. Messages of the stream are never put into the page.
  let due = null;
  let fetched = 0;
  const inUse = () => document.hidden || document.querySelector("dialog[open]") || $$("[data-live] input:checked, [data-live] details[open]").length;
  async function refresh() {
    due = null;
    if (inUse()) return;
    fetched = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (inUse()) return; // since the fetch began
      for (const part of $$("[data-live]")) {
        const fresh = page.getElementById(part.id);
        if (!fresh || (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"))) continue;
        await htmx.swap({ target: part, text: fresh.outerHTML, swap: "outerMorph" });
        enliven(document.getElementById(part.id));
      }
    } catch { /* the next message or tick tries again */ }
  }
  function later() {
    due ??= setTimeout(refresh, Math.max(300, 2000 - (Date.now() - fetched)));
  }
  document.addEventListener("htmx:sse:before:message", (event) => { event.preventDefault(); later(); });
  document.addEventListener("htmx:sse:after:connection", () => $$(".live").forEach((one) => { one.classList.add("on"); one.textContent = "live"; }));
  document.addEventListener("htmx:sse:close", () => $$(".live").forEach((one) => { one.classList.remove("on"); one.textContent = "not live"; }));
  // A part that changes faster than the stream tells, such as a job's progress, says how often it is fetched.
  function tick() {
    if (!document.hidden) later();
    setTimeout(tick, Number(document.querySelector("[data-every]")?.dataset.every ?? 10000));
  }
  if ($$("[data-live]").length) setTimeout(tick, Number(document.querySelector("[data-every]")?.dataset.every ?? 10000));
  document.addEventListener("visibilitychange", () => { if (!document.hidden && $$("[data-live]").length) later(); });

  const narrow = matchMedia("(max-width: 48rem)");
  const menu = document.querySelector(".menu");
  if (menu && narrow.matches) menu.open = false;
  selection();
  enliven(document);
})();
