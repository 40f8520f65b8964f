// Which groups match, and the address that says so.
"use strict";

report.filter = (() => {
  const FIELDS = [...document.querySelectorAll("form.filter [name]")].map((field) => field.name);

  /** What is searched of a group, in lower case; made once. */
  const searchable = (group) => {
    const words = [group.id, group.folder || "", ...(group.reasons || [])];
    for (const photo of group.photos) words.push(photo.name, photo.summary || "", photo.detail || "", photo.raw || "");
    return words.join("\n").toLowerCase();
  };

  /** A function of groups; `facets` gives the number of a category or value. */
  const matcher = (wanted, facets) => {
    const tests = [];
    if (wanted.label) tests.push((group) => group.label === wanted.label);
    if (wanted.state) tests.push((group) => group.rejected === (wanted.state === "rejected"));
    for (const number of ["category", "value"].filter((name) => wanted[name]).map((name) => facets.get(wanted[name]))) {
      tests.push((group) => group.facets.includes(number));
    }
    if (wanted.rejection) tests.push((group) => group.photos.some((photo) => `${photo.stage}/${photo.reason}` === wanted.rejection));
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) tests.push((group) => words.every((word) => group.searchable.includes(word)));
    return (group) => tests.every((test) => test(group));
  };

  /** What the address asks for. */
  const fromAddress = () => {
    const told = new URLSearchParams(location.hash.slice(1));
    const wanted = Object.fromEntries(FIELDS.map((name) => [name, told.get(name) || ""]));
    return { wanted, page: Math.max(1, parseInt(told.get("page"), 10) || 1), group: told.get("group") };
  };

  const toAddress = (wanted, page) => {
    const told = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    if (page > 1) told.set("page", page);
    return `#${told}`;
  };

  return { FIELDS, searchable, matcher, fromAddress, toAddress };
})();
