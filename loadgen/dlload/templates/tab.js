// Shows /stream under Locust's own tab bar while the tab "Stream" is chosen. Locust keeps the tab's key in the address.
"use strict";
(() => {
  const base = document.currentScript.src.replace(/\.js$/, "");
  let frame = null;
  const fit = body => { if (frame) frame.style.height = `${Math.max(body.offsetHeight, 240)}px`; };
  const chosen = () => new URLSearchParams(location.search).get("tab") === "stream"
    && document.querySelector('[role="tablist"]') !== null;
  const follow = () => {
    if (!chosen()) {
      if (frame) { frame.remove(); frame = null; }
      return;
    }
    const bar = document.querySelector('[role="tablist"]');
    const place = bar.closest(".MuiContainer-root") || document.getElementById("root");
    if (!frame) {
      frame = document.createElement("iframe");
      frame.title = "Stream";
      frame.src = base;
      frame.style.cssText = "display:block;width:100%;height:70vh;border:0";
      frame.addEventListener("load", event => {
        const { body } = event.target.contentDocument;
        if (body) new ResizeObserver(() => fit(body)).observe(body);
      });
    }
    const dark = getComputedStyle(document.body).colorScheme === "dark"
      || (getComputedStyle(document.body).backgroundColor.match(/\d+/g) || [255]).slice(0, 3).every(part => part < 90);
    if (frame.parentNode !== place) place.append(frame);
    const inside = frame.contentDocument; // null where a login page of another origin came instead
    if (inside && inside.documentElement) inside.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  setInterval(follow, 250);
  addEventListener("click", () => setTimeout(follow, 0));
})();
