// One group as a card.
"use strict";

report.card = (() => {
  const { element, show } = report.summary;
  const address = (group) => `${group.label}/${group.id}`;

  const picture = (photo, name) => {
    if (!photo.thumbnail) return report.textElement("p", "no_photo");
    const button = element("button", "enlarge");
    button.type = "button";
    button.dataset.textLabel = "enlarge";
    button.dataset.figures = JSON.stringify({ name });
    button.setAttribute("aria-label", report.text("enlarge", { name }));
    const image = element("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    image.src = `thumbnails/${photo.thumbnail}`;
    button.append(image);
    return button;
  };

  const rejection = (photo) => {
    const made = element("div", "rejection");
    made.append(report.textElement("p", "photo_rejected", { stage: photo.stage, reason: photo.reason }), element("p", "", photo.detail));
    if (photo.raw) {
      const raw = element("details", "raw");
      raw.append(report.textElement("summary", "raw"), element("pre", "", photo.raw));
      made.append(raw);
    }
    return made;
  };

  const figure = (photo) => {
    const made = element("li", "photo");
    const said = element("div", "said");
    said.append(element("h3", "", photo.name));
    if (photo.reason) said.append(rejection(photo));
    else if (photo.summary !== undefined) said.append(...show(photo.summary));
    else said.append(report.textElement("p", "undelivered"));
    made.append(picture(photo, photo.name), said);
    return made;
  };

  const head = (group) => {
    const made = element("header");
    const title = element("h2", "", group.id);
    const link = element("a", "link");
    link.href = `#${new URLSearchParams({ group: address(group) })}`;
    link.dataset.textLabel = "link_to";
    link.dataset.figures = JSON.stringify({ group: group.id });
    link.setAttribute("aria-label", report.text("link_to", { group: group.id }));
    link.append(report.textElement("span", "link"));
    made.append(title, Object.assign(report.textElement("span", group.label), { className: `badge ${group.label}` }));
    if (group.rejected) made.append(Object.assign(report.textElement("span", "rejected"), { className: "badge rejected" }));
    if (group.folder) made.append(element("span", "quiet folder", group.folder));
    made.append(link);
    return made;
  };

  /** The list item of a group. */
  const make = (group) => {
    const item = element("li", "group");
    item.dataset.group = address(group);
    item.tabIndex = -1;
    item.append(head(group));
    if (group.reasons) {
      const reasons = element("ul", "reasons");
      reasons.append(...group.reasons.map((reason) => element("li", "", reason)));
      item.append(reasons);
    }
    const photos = element("ul", "photos");
    photos.append(...group.photos.map(figure));
    item.append(photos);
    return item;
  };

  return { make, address };
})();
