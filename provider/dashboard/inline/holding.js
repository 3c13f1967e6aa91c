"use strict";
(async () => {
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  for (;;) {
    await pause(document.hidden ? 5000 : 1000);
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "manual" });
      if (!answer.headers.has("X-Preview-Holding")) { location.reload(); return; }
      const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      const shown = document.querySelector("main");
      if (next && shown.innerHTML !== next.innerHTML) {
        shown.replaceChildren(...next.childNodes);
        document.title = shown.querySelector("h1").textContent;
      }
    } catch { /* nobody answers: it is asked again */ }
  }
})();
