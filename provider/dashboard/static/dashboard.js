// Keeps a page true while it is looked at. Without it a page is as true as when it was loaded.
"use strict";

(() => {
  const MOST_LINES = 5000;
  const DEAD_AFTER = 25000; // milliseconds: the provider says something every ten seconds
  const CLOCK = 15000;

  const root = document.documentElement;
  root.classList.add("js");
  // The provider's clock counts, not the reader's.
  const skew = Date.parse(root.dataset.now) - Date.now();

  // ------------------------------------------------------------------ times

  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

  function span(seconds) {
    const [unit, size] = UNITS.find(([, size]) => seconds >= size) || UNITS[3];
    const whole = Math.floor(seconds / size);
    const rest = Math.floor((seconds - whole * size) / 3600);
    return unit === "d" && whole < 3 && rest ? `${whole} d ${rest} h` : `${Math.max(whole, 0)} ${unit}`;
  }

  function tell(time) {
    const away = (Date.parse(time.dateTime) - Date.now() - skew) / 1000;
    if (Number.isNaN(away)) return;
    if (!time.title) time.title = time.textContent;
    const text = "left" in time.dataset ? (away > 0 ? span(away) : "ends now")
      : span(-away) + (time.dataset.ago ? ` ${time.dataset.ago}` : "");
    if (time.textContent !== text) time.textContent = text;
  }

  const tellTimes = (within, which = "time[datetime]") => within.querySelectorAll(which).forEach(tell);
  tellTimes(document);
  setInterval(() => tellTimes(document), CLOCK);
  setInterval(() => tellTimes(document, "time[data-running]"), 1000);

  // ------------------------------------------------------------- connection

  const connection = document.getElementById("connection");

  function say(state, text) {
    if (connection.dataset.state === state) return;
    connection.dataset.state = state;
    connection.textContent = text;
    connection.hidden = false;
  }

  // One stream, while the page can be seen; a browser has few connections, and tabs are many.
  function follow(address, handlers) {
    let source = null;
    let heard = 0;
    let retry = 0;

    function open() {
      close();
      heard = Date.now();
      source = new EventSource(address());
      source.onopen = () => { heard = Date.now(); retry = 0; say("live", "live"); };
      source.onerror = () => {
        say("lost", "reconnecting …");
        if (source && source.readyState === EventSource.CLOSED) again();
      };
      for (const [name, handle] of Object.entries(handlers)) {
        source.addEventListener(name, (event) => {
          heard = Date.now();
          handle(JSON.parse(event.data), event.lastEventId);
        });
      }
    }

    function close() {
      if (source) source.close();
      source = null;
    }

    // The provider answered, but not with events: it is starting, or wants a log-in.
    async function again() {
      close();
      retry = Math.min((retry || 500) * 2, 10000);
      await new Promise((done) => setTimeout(done, retry));
      if (document.hidden || source) return;
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
        if (answer.type === "opaqueredirect") return location.reload();
      } catch { /* it is away */ }
      open();
    }

    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", (event) => event.persisted && open());
    setInterval(() => { if (source && Date.now() - heard > DEAD_AFTER) { say("lost", "reconnecting …"); open(); } }, 5000);
    if (!document.hidden) open();
  }

  // The provider's own templates made this, and escaped what others wrote; the page's policy runs no script in it.
  function parsed(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  }

  // ------------------------------------------------------------------- list

  function list(table) {
    const rows = document.getElementById("rows");
    const filter = document.getElementById("filter");
    const found = document.getElementById("found");
    const empty = document.getElementById("empty");
    let mark = table.dataset.mark;

    function sift() {
      const words = filter.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
      const state = filter.elements.state.value;
      const counts = { "": 0 };
      let visible = 0;
      for (const row of rows.rows) {
        const own = row.dataset.state;
        counts[""] += 1;
        counts[own] = (counts[own] || 0) + 1;
        const fits = (!state || own === state) && words.every((word) => row.dataset.words.includes(word));
        if (row.hidden === fits) row.hidden = !fits;
        visible += fits;
      }
      for (const count of filter.querySelectorAll("[data-count]")) {
        const number = counts[count.dataset.count] || 0;
        count.textContent = number;
        const chip = count.closest(".chip");
        chip.hidden = !number && !chip.querySelector("input").checked && count.dataset.count !== "";
      }
      empty.hidden = visible > 0;
      empty.textContent = counts[""] ? "No preview fits this filter." : "There are no previews yet.";
      return `${visible} of ${counts[""]} previews`;
    }

    function place(row) {
      const order = Number(row.dataset.order);
      for (const other of rows.rows) {
        if (other !== row && Number(other.dataset.order) < order) return rows.insertBefore(row, other);
      }
      return rows.append(row);
    }

    function put(slug, fresh) {
      const present = document.getElementById(`row-${slug}`);
      if (!present) return place(fresh);
      const focused = present.contains(document.activeElement)
        ? [...present.querySelectorAll("a")].indexOf(document.activeElement) : -1;
      present.replaceWith(fresh);
      // What somebody is at stays where it is.
      if (focused >= 0) fresh.querySelectorAll("a")[focused]?.focus();
      else if (present.dataset.order !== fresh.dataset.order) place(fresh);
    }

    function take(news, seen) {
      mark = seen || mark;
      const fresh = news.rows.map((one) => [one.slug, parsed(one.html).querySelector("tr")]);
      fresh.forEach(([, row]) => tellTimes(row));
      if (news.whole) {
        const focused = document.activeElement?.closest?.("tr[id]")?.id;
        rows.replaceChildren(...fresh.map(([, row]) => row));
        if (focused) document.getElementById(focused)?.querySelector("a")?.focus();
      } else {
        fresh.forEach(([slug, row]) => put(slug, row));
        news.gone.forEach((slug) => document.getElementById(`row-${slug}`)?.remove());
      }
      sift();
    }

    let later = 0;
    function filtered() {
      const told = sift();
      clearTimeout(later);
      later = setTimeout(() => {
        found.textContent = told;
        const query = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
        history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
      }, 400);
    }

    filter.addEventListener("input", filtered);
    filter.addEventListener("submit", (event) => { event.preventDefault(); filtered(); });
    sift();
    follow(() => `/stream?since=${encodeURIComponent(mark)}`, { rows: take, quiet: () => {} });
  }

  // ---------------------------------------------------------------- preview

  class Log {
    constructor(pane, note) {
      this.pane = pane;
      this.note = note;
      this.begin();
      this.stale = true; // what the page came with stays until the first lines are there
      this.toEnd();
    }

    begin() {
      this.stale = true;
      this.lines = 0;
      this.pieces = [];
      this.cut = false;
    }

    toEnd() {
      this.pane.scrollTop = this.pane.scrollHeight;
    }

    take(lines) {
      if (!lines.length) return;
      const atEnd = this.pane.scrollHeight - this.pane.scrollTop - this.pane.clientHeight < 24;
      if (this.stale) this.pane.replaceChildren();
      this.stale = false;
      const piece = document.createTextNode(lines.join("\n") + "\n");
      this.pieces.push([piece, lines.length]);
      this.lines += lines.length;
      this.pane.append(piece);
      while (this.lines > MOST_LINES && this.pieces.length > 1) {
        const [oldest, count] = this.pieces.shift();
        oldest.remove();
        this.lines -= count;
        this.cut = true;
      }
      this.note.textContent = (this.cut ? `the last ${this.lines} lines; ` : "") + this.note.dataset.more;
      if (atEnd) this.toEnd();
    }
  }

  function preview(page) {
    const slug = page.dataset.slug;
    const logs = Object.fromEntries(["build_logs", "logs"].map((kind) => [
      kind, new Log(document.getElementById(`log-${kind}`), document.getElementById(`note-${kind}`)),
    ]));

    function sections(changed) {
      for (const [name, { html, hash }] of Object.entries(changed)) {
        const part = document.getElementById(`part-${name}`);
        if (!part || part.dataset.hash === hash) continue;
        const fresh = parsed(html);
        tellTimes(fresh);
        // A status that is replaced whole would be read out again: only its words change.
        const status = part.querySelector("[role=status]");
        const next = fresh.querySelector("[role=status]");
        if (status && next) {
          if (status.textContent !== next.textContent) status.replaceChildren(...next.childNodes);
          next.replaceWith(status);
        }
        part.replaceChildren(fresh);
        part.dataset.hash = hash;
      }
    }

    function log({ kind, begins, lines }) {
      if (begins) logs[kind].begin();
      logs[kind].take(lines);
    }

    // Its page says that it is gone, or that there is one again.
    follow(() => `/previews/${slug}/stream`, { sections, log, gone: () => location.reload() });
  }

  const table = document.getElementById("previews");
  const page = document.getElementById("preview");
  if (table) list(table);
  if (page) preview(page);
})();
