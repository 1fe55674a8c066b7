"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();

  // At once: where a page is printed, nothing waits for the next frame.
  const repaint = () =>
    views.forEach((view) => {
      view.invalidate_painters();
      view.repaint();
    });

  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const themed = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    repaint();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    themed();
  });
  prefersDark.addEventListener("change", themed);

  // The style sheet for paper does not hold yet when charts are painted for it.
  let themeOnScreen;
  addEventListener("beforeprint", () => {
    themeOnScreen = root.dataset.theme;
    root.dataset.theme = "light";
    document.querySelectorAll("details:not([open])").forEach((part) => {
      part.open = true;
      part.dataset.wasClosed = "";
    });
    repaint();
  });
  addEventListener("afterprint", () => {
    document.querySelectorAll("[data-was-closed]").forEach((part) => {
      part.open = false;
      delete part.dataset.wasClosed;
    });
    if (themeOnScreen) root.dataset.theme = themeOnScreen;
    else delete root.dataset.theme;
    repaint();
  });

  const zoom = (range, how) => {
    const [least, most] = range.bounds;
    const width = range.end - range.start;
    const middle = (range.start + range.end) / 2;
    let [start, end] = {
      in: [middle - width / 4, middle + width / 4],
      out: [middle - width, middle + width],
      left: [range.start - width / 4, range.end - width / 4],
      right: [range.start + width / 4, range.end + width / 4],
      all: [least, most],
    }[how];
    const wanted = Math.min(Math.max(end - start, range.min_interval), most - least);
    start = Math.min(Math.max((start + end - wanted) / 2, least), most - wanted);
    range.setv({ start, end: start + wanted });
  };

  if (window.Bokeh) Bokeh.set_log_level("error");
  const shown = Object.entries(charts).map(async ([id, item]) => {
    const found = await Bokeh.embed.embed_item(item, id);
    views.set(id, found.get_by_id(item.root_id));
  });
  document.querySelectorAll("[data-picture]").forEach((picture) => {
    const tools = picture.querySelector(".tools");
    tools.hidden = false;
    tools.addEventListener("click", (event) => {
      const view = views.get(picture.dataset.picture);
      const how = event.target.dataset.zoom;
      if (view && how) zoom(view.model.x_range, how);
    });
  });
  Promise.all(shown).then(() => {
    root.dataset.drawn = String(views.size);
    themed();
  });
})();
