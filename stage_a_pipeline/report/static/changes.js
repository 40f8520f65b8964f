// One changed group as a card, and what is searched of it; shown by the script of the page of groups.
"use strict";

report.card = (() => {
  const { element, show } = report.summary;
  const address = (group) => `${group.was ? `${group.was}>` : ""}${group.label}/${group.id}`;
  const join = (parts, between = " ") => parts.flatMap((part, place) => (place ? [between, part] : [part]));

  /** What was taken out or put in: marked by element, line, sign and colour, and named for those who listen. */
  const marked = (tag, ...content) => {
    const made = element(tag);
    const name = element("span", "visually-hidden");
    name.append(report.textElement("span", tag === "del" ? "removed" : "added"), " ");
    made.append(name, ...content);
    return made;
  };
  const was = (...content) => marked("del", ...content);
  const is = (...content) => marked("ins", ...content);

  const badge = (key, kind, figures) => Object.assign(report.textElement("span", key, figures), { className: `badge ${kind}` });

  const picture = (photo) => {
    if (!photo.thumbnail) return null;
    const button = element("button", "enlarge");
    button.type = "button";
    button.dataset.textLabel = "enlarge";
    button.dataset.figures = JSON.stringify({ name: photo.name });
    button.setAttribute("aria-label", report.text("enlarge", { name: photo.name }));
    const image = Object.assign(element("img"), { loading: "lazy", decoding: "async", alt: "", src: `thumbnails/${photo.thumbnail}` });
    button.append(image);
    return button;
  };

  const counted = (count) => (count === 1 ? "" : ` ×${count}`);

  /** One value: gone, new, or counted otherwise. */
  const value = ([, name, before, after]) => {
    const chip = element("span", "chip");
    if (!after) chip.append(was(name, counted(before)));
    else if (!before) chip.append(is(name, counted(after)));
    else chip.append(name, " ", was(`×${before}`), " ", is(`×${after}`));
    return chip;
  };

  const row = (category, attribute, cells) => {
    const made = element("tr");
    const head = element("th");
    head.scope = "row";
    head.append(...category);
    const last = element("td");
    last.append(...join(cells));
    made.append(head, element("td", "attribute", attribute), last);
    return made;
  };

  const categoryRow = (name) => {
    const made = element("tr");
    const head = Object.assign(element("th"), { scope: "rowgroup", colSpan: 3 });
    head.append(name);
    made.append(head);
    return made;
  };

  /** Differences as a table in the form of a summary: categories, their attributes, the values of each. */
  const table = (differences) => {
    const made = element("table", "summary");
    const attributes = new Map();
    for (const one of differences) attributes.set(one[0], [...(attributes.get(one[0]) || []), one]);
    let above = null;
    for (const [name, ones] of attributes) {
      if (ones[0][1] === null) {
        made.append(categoryRow(ones[0][3] ? is(name) : was(name)));
        above = name;
        continue;
      }
      const [category, attribute] = name.includes(".") ? [name.slice(0, name.indexOf(".")), name.slice(name.indexOf(".") + 1)] : [name, ""];
      made.append(row(category === above ? [] : [category], attribute, ones.map(value)));
      above = category;
    }
    return made;
  };

  const words = (pieces) => {
    const made = element("p", "free");
    made.append(...pieces.map(([kind, text]) => (kind === "same" ? text : kind === "removed" ? was(text) : is(text))));
    return made;
  };

  const both = (photo) => {
    const made = element("details", "raw");
    made.append(report.textElement("summary", "both_summaries"));
    // Made when they are first looked at: twenty groups have a hundred photos.
    made.addEventListener("toggle", () => {
      if (made.dataset.made) return;
      made.dataset.made = "yes";
      for (const side of ["before", "after"]) made.append(report.textElement("h4", side), ...show(photo[side]));
    });
    return made;
  };

  const rejection = (photo) => {
    const made = element("div", "rejection");
    const told = `rejected_${photo.rejected}`;
    made.append(report.textElement("p", told, { stage: photo.stage, reason: photo.reason, earlier: photo.earlier || "" }), element("p", "", photo.detail));
    return made;
  };

  const figure = (photo) => {
    const image = picture(photo);
    const made = element("li", image ? "photo" : "photo without-picture");
    const said = element("div", "said");
    said.append(element("h3", "", photo.name));
    if (photo.only) said.append(report.textElement("p", `only_${photo.only}`));
    if (photo.reason) said.append(rejection(photo));
    if (photo.kind) said.append(photo.differences ? table(photo.differences) : words(photo.pieces), both(photo));
    if (photo.kind === "wording") said.append(Object.assign(report.textElement("p", "wording_told"), { className: "quiet" }));
    if (image) made.append(image);
    made.append(said);
    return made;
  };

  const label = (group) => {
    if (!group.was) return [badge(group.label, group.label)];
    return [was(badge(group.was, group.was)), is(badge(group.label, group.label))];
  };

  const head = (group) => {
    const made = element("header");
    const link = element("a", "link");
    link.href = `#${new URLSearchParams({ group: address(group) })}`;
    link.dataset.textLabel = "link_to";
    link.dataset.figures = JSON.stringify({ group: group.id });
    link.setAttribute("aria-label", report.text("link_to", { group: group.id }));
    link.append(report.textElement("span", "link"));
    const kinds = element("span", "folder");
    kinds.append(...join(group.kinds.map((kind) => badge(`kind_${kind}`, "kind"))));
    made.append(element("h2", "", group.id), ...label(group), kinds, link);
    return made;
  };

  const reasons = ([before, after]) => {
    const made = element("ul", "reasons");
    const item = (mark, reason) => {
      const line = element("li");
      line.append(mark ? mark(reason) : reason);
      return line;
    };
    made.append(...before.filter((one) => !after.includes(one)).map((one) => item(was, one)));
    made.append(...after.map((one) => item(before.includes(one) ? null : is, one)));
    return made;
  };

  /** The list item of a group. */
  const make = (group) => {
    const item = element("li", "group");
    item.dataset.group = address(group);
    item.tabIndex = -1;
    item.append(head(group));
    if (group.cause) item.append(report.textElement("p", `cause_${group.kinds[0]}_${group.cause}`));
    if (group.reasons) item.append(reasons(group.reasons));
    const photos = element("ul", "photos");
    photos.append(...group.photos.map(figure));
    item.append(photos);
    return item;
  };

  return { make, address };
})();

(() => {
  const { filter } = report;
  const rest = filter.matcher;

  filter.searchable = (group) => {
    const words = [group.id, ...(group.reasons || []).flat()];
    for (const photo of group.photos) words.push(photo.name, photo.before || "", photo.after || "", photo.detail || "");
    return words.join("\n").toLowerCase();
  };

  filter.matcher = (wanted, facets) => {
    const others = rest(wanted, facets);
    return (group) => (!wanted.kind || group.kinds.includes(wanted.kind)) && others(group);
  };
})();
