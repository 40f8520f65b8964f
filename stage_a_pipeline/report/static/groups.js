// The page of groups: reads the data script by script, filters, shows a page of cards, and listens to keys.
"use strict";

(() => {
  const { card, filter, text, textElement } = report;
  const { element } = report.summary;
  const form = document.querySelector("form.filter");
  const list = document.querySelector("ol.groups");
  const shown = document.getElementById("shown");
  const groups = [];
  const facets = new Map();
  let described = { groups: 0, per_page: 20, chunks: [] };
  let matching = [];
  let page = 1;
  let sought = null;
  let drawn = null;
  let folder = "";

  const wanted = () => Object.fromEntries(filter.FIELDS.map((name) => [name, form.elements[name].value]));
  const pages = () => Math.max(1, Math.ceil(matching.length / described.per_page));
  const complete = () => groups.length >= described.groups;

  // --- what is shown -------------------------------------------------------------------------------

  const tell = () => {
    const told = text("shown", { matching: matching.length.toLocaleString(), total: described.groups.toLocaleString() });
    const reading = complete() ? "" : ` · ${text("loading", { loaded: groups.length, total: described.groups })}`;
    const none = complete() && !matching.length ? ` ${text("nothing")}` : "";
    shown.textContent = told + reading + none;
  };

  const pageButton = (key, target) => {
    const made = textElement("button", key);
    made.type = "button";
    made.disabled = target < 1 || target > pages() || target === page;
    made.addEventListener("click", () => turnTo(target));
    return made;
  };

  const drawPages = () => {
    for (const place of document.querySelectorAll("nav.pages")) {
      const where = textElement("span", "page", { page, pages: pages() });
      place.replaceChildren(pageButton("first", 1), pageButton("previous", page - 1), where, pageButton("next", page + 1), pageButton("last", pages()));
    }
  };

  const draw = () => {
    page = Math.min(page, pages());
    const start = (page - 1) * described.per_page;
    const visible = matching.slice(start, start + described.per_page);
    tell();
    drawPages();
    // While data arrives, most of it changes nothing on the page that is read.
    const same = drawn && drawn.length === visible.length && drawn.every((group, place) => group === visible[place]);
    if (!same) list.replaceChildren(...visible.map(card.make));
    drawn = visible;
  };

  const select = () => {
    matching = groups.filter(filter.matcher(wanted(), facets));
  };

  const turnTo = (target) => {
    page = target;
    history.replaceState(null, "", filter.toAddress(wanted(), page));
    draw();
    scrollTo(0, 0);
    list.querySelector(".group")?.focus({ preventScroll: true });
  };

  const refilter = () => {
    page = 1;
    sought = null;
    select();
    history.replaceState(null, "", filter.toAddress(wanted(), page));
    draw();
  };

  const seek = () => {
    const place = matching.findIndex((group) => card.address(group) === sought);
    if (place < 0) return;
    sought = null;
    page = Math.floor(place / described.per_page) + 1;
    draw();
    const item = list.children[place % described.per_page];
    item.classList.add("sought");
    item.scrollIntoView();
    item.focus({ preventScroll: true });
  };

  const followAddress = () => {
    const told = filter.fromAddress();
    for (const name of filter.FIELDS) {
      form.elements[name].value = told.wanted[name];
    }
    page = told.page;
    sought = told.group;
    list.querySelector(".sought")?.classList.remove("sought");
    select();
    draw();
    if (sought) seek();
  };

  // --- data ----------------------------------------------------------------------------------------

  const option = (words, value) => Object.assign(element("option", "", words), { value });

  const offerFacets = (attributes) => {
    for (const { attribute, values } of attributes) {
      if (attribute === "类别") {
        form.elements.category.append(...values.map(([value]) => option(value, value)));
        values.forEach(([value, number]) => facets.set(value, number));
        continue;
      }
      const several = element("optgroup");
      several.label = attribute;
      several.append(...values.map(([value]) => option(value, `${attribute}=${value}`)));
      values.forEach(([value, number]) => facets.set(`${attribute}=${value}`, number));
      form.elements.value.append(several);
    }
  };

  const load = (place) => {
    if (place >= described.chunks.length) return;
    const script = element("script");
    script.src = folder + described.chunks[place];
    script.addEventListener("load", () => { script.remove(); setTimeout(() => load(place + 1)); });
    script.addEventListener("error", () => { shown.textContent = text("broken", { file: described.chunks[place] }); });
    document.body.append(script);
  };

  /** Called by data/…/index.js, beside which the others lie. */
  report.describe = (told) => {
    described = told;
    folder = document.currentScript.src.replace(/[^/]*$/, "");
    offerFacets(told.facets);
    form.elements.rejection.append(...told.rejections.map((name) => option(name, name)));
    followAddress();
    load(0);
  };

  /** Called by data/…/groups-N.js, one after the other. */
  report.add = (_, chunk) => {
    for (const group of chunk) {
      group.facets = group.facets || [];
      group.rejected = group.photos.some((photo) => photo.reason);
      group.searchable = filter.searchable(group);
      groups.push(group);
    }
    const asked = filter.fromAddress().page;
    select();
    // The page that the address asks for may only now be there.
    if (!sought) page = Math.min(asked, pages());
    draw();
    if (sought) seek();
  };

  // --- photos --------------------------------------------------------------------------------------

  const dialog = document.getElementById("photo");
  let enlarged = null;

  const enlarge = (button) => {
    enlarged = button;
    const image = dialog.querySelector("img");
    image.src = button.querySelector("img").src;
    image.alt = dialog.querySelector("p").textContent = button.closest(".photo").querySelector("h3").textContent;
    if (!dialog.open) dialog.showModal();
  };

  const turnPhoto = (step) => {
    const all = [...list.querySelectorAll("button.enlarge")];
    const next = all[all.indexOf(enlarged) + step];
    if (next) enlarge(next);
  };

  // --- keys ----------------------------------------------------------------------------------------

  const goTo = (step) => {
    const items = [...list.children];
    const now = items.indexOf(document.activeElement?.closest(".group"));
    const next = items[now < 0 ? (step > 0 ? 0 : items.length - 1) : now + step];
    if (!next) return;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start" });
  };

  const keys = {
    j: () => goTo(1),
    k: () => goTo(-1),
    n: () => page < pages() && turnTo(page + 1),
    p: () => page > 1 && turnTo(page - 1),
    l: report.switches.language,
    d: report.switches.theme,
    "/": () => form.elements.text.focus(),
    "?": () => document.getElementById("keys").showModal(),
  };

  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (dialog.open) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) turnPhoto(step);
      return;
    }
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && event.target.matches(".group")) {
      // The same key would press the dialog's button next.
      event.preventDefault();
      const first = event.target.querySelector("button.enlarge");
      if (first) enlarge(first);
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  };

  form.addEventListener("input", refilter);
  form.addEventListener("reset", () => setTimeout(refilter));
  form.addEventListener("submit", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button.enlarge");
    if (button) enlarge(button);
  });
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => document.getElementById(button.dataset.open).showModal());
  }
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  addEventListener("keydown", onKey);
  addEventListener("hashchange", followAddress);
  document.addEventListener("language", tell);
})();
