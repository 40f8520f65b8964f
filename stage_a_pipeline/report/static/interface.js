// Language and theme. Loaded first, in the head, so that a page never flashes in the wrong colours.
"use strict";

const report = (() => {
  const root = document.documentElement;
  let texts = {};

  // Pages that are opened from disk may have no storage; then the choice ends with the page.
  const stored = (key) => { try { return localStorage.getItem(`stage-a-${key}`); } catch { return null; } };
  const store = (key, value) => { try { localStorage.setItem(`stage-a-${key}`, value); } catch { /* see above */ } };

  const language = () => root.dataset.language;

  /** The words of a key in the page's language, with {names} replaced by figures. */
  const text = (key, figures = {}) =>
    texts[key][language()].replace(/\{(\w+)\}/g, (whole, name) => (name in figures ? figures[name] : whole));

  /** An element whose words follow the page's language. */
  const textElement = (tag, key, figures) => {
    const made = document.createElement(tag);
    made.dataset.text = key;
    if (figures) made.dataset.figures = JSON.stringify(figures);
    made.textContent = text(key, figures);
    return made;
  };

  const translate = () => {
    root.lang = language() === "zh" ? "zh-CN" : "en";
    for (const one of document.querySelectorAll("[data-text]")) {
      one.textContent = text(one.dataset.text, JSON.parse(one.dataset.figures || "{}"));
    }
    for (const one of document.querySelectorAll("[data-text-placeholder]")) one.placeholder = text(one.dataset.textPlaceholder);
    for (const one of document.querySelectorAll("[data-text-label]")) {
      one.setAttribute("aria-label", text(one.dataset.textLabel, JSON.parse(one.dataset.figures || "{}")));
    }
    document.dispatchEvent(new Event("language"));
  };

  const switches = {
    language: () => {
      root.dataset.language = language() === "zh" ? "en" : "zh";
      store("language", language());
      translate();
    },
    theme: () => {
      const shown = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
      root.dataset.theme = shown === "dark" ? "light" : "dark";
      store("theme", root.dataset.theme);
    },
  };

  if (stored("theme")) root.dataset.theme = stored("theme");
  const made = language();
  if (stored("language")) root.dataset.language = stored("language");

  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-switch]")) {
      button.addEventListener("click", () => switches[button.dataset.switch]());
    }
    if (language() !== made) translate();
  });

  return {
    text, textElement, switches,
    /** Called by texts.js. */
    texts: (loaded) => { texts = loaded; },
  };
})();
