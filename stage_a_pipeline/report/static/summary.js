// A summary as a table of categories and attributes. Words of models and files become text nodes, never markup.
"use strict";

report.summary = (() => {
  const IRRELEVANT = "无关图片", STATISTICS = "统计", CATEGORY = "类别", REMARKS = "备注", BY_GROUP = "分组统计";

  const element = (tag, className, words) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (words !== undefined) made.textContent = words;
    return made;
  };
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const parsed = (text) => { try { return JSON.parse(text); } catch { return null; } };

  /** `value ×count`, as it is counted; anything else as JSON. */
  const counted = (counts) => {
    if (!isObject(counts)) return [element("span", "chip", typeof counts === "string" ? counts : JSON.stringify(counts))];
    return Object.entries(counts).map(([value, count]) => {
      const chip = element("span", "chip", value);
      if (count !== 1) chip.append(" ", element("b", "", `×${typeof count === "number" ? count : JSON.stringify(count)}`));
      return chip;
    });
  };

  const row = (head, attribute, cells) => {
    const made = element("tr");
    const first = element("th", "", head);
    first.scope = "row";
    const last = element("td");
    cells.forEach((cell, place) => last.append(...(place ? [" ", cell] : [cell])));
    made.append(first, element("td", "attribute", attribute), last);
    return made;
  };

  const rowsOf = (entry) => {
    const category = typeof entry[CATEGORY] === "string" ? entry[CATEGORY] : JSON.stringify(entry[CATEGORY] ?? null);
    const attributes = Object.entries(entry).filter(([name]) => name !== CATEGORY);
    if (!attributes.length) return [row(category, "", [])];
    return attributes.map(([name, counts], place) => row(place ? "" : category, name, counted(counts)));
  };

  const table = (document_) => {
    const made = element("table", "summary");
    for (const entry of Array.isArray(document_[STATISTICS]) ? document_[STATISTICS] : []) {
      if (isObject(entry)) made.append(...rowsOf(entry));
    }
    for (const [name, value] of Object.entries(document_)) {
      if (name === STATISTICS) continue;
      if (name === REMARKS && Array.isArray(value)) made.append(row(name, "", value.flatMap(counted)));
      else if (name === BY_GROUP && isObject(value)) {
        Object.entries(value).forEach(([group, counts], place) => made.append(row(place ? "" : name, group, counted(counts))));
      } else made.append(row(name, "", counted(value)));
    }
    return made;
  };

  /** The elements that show a summary: a badge, a table, or the text, and the raw text behind a click. */
  const show = (summary) => {
    if (summary === IRRELEVANT) return [report.textElement("p", "irrelevant")];
    const said = parsed(summary);
    if (!isObject(said)) return [element("p", "free", summary)];
    const raw = element("details", "raw");
    raw.append(report.textElement("summary", "raw"), element("pre", "", summary));
    return [table(said), raw];
  };

  return { show, element };
})();
