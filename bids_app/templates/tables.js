/* Tables: sort by a click on a heading; filter, hide columns and save what is shown in large ones. */
function cellKey(cell) {
  const text = cell.dataset.sort ?? cell.textContent;
  const number = text.trim() === "" ? NaN : Number(text);
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compareKeys(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1; // numbers before n/a
}

function sortTable(table, index, heading) {
  const isUp = heading.getAttribute("aria-sort") !== "ascending";
  all("th", table).forEach((th) => th.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", isUp ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [cellKey(row.cells[index]), row]);
  rows.sort((a, b) => (isUp ? compareKeys(a[0], b[0]) : compareKeys(b[0], a[0])));
  body.append(...rows.map((pair) => pair[1]));
  table.dispatchEvent(new Event("sorted"));
}

/* Laying out a thousand rows takes a second; so many are shown until one asks for more. */
const ROWS_AT_ONCE = 200;

function filterRows(table, words, flag, limit) {
  let matching = 0;
  for (const row of table.tBodies[0].rows) {
    row.words ??= row.textContent.toLowerCase();
    const matches = words.every((word) => row.words.includes(word)) && (!flag || row.querySelector(`td.${flag}`) !== null);
    row.dataset.out = matches ? "" : "1";
    const isShown = matches && matching < limit;
    if (row.hidden === isShown) row.hidden = !isShown;
    matching += matches;
  }
  return matching;
}

function columnPicker(table) {
  const list = make("div");
  all("th", table).forEach((heading, index) => {
    if (index === 0) return;
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      for (const row of table.rows) row.cells[index].hidden = !box.checked;
    });
    list.append(make("label", {}, box, ` ${heading.textContent}`));
  });
  return make("details", { className: "columns" }, make("summary", { textContent: "columns" }), list);
}

function tableAsText(table) {
  const line = (row) => [...row.cells].filter((c) => !c.hidden).map((c) => (c.querySelector("select")?.value ?? c.textContent).replace(/\s+/g, " ").trim()).join("\t");
  return [table.tHead.rows[0], ...[...table.tBodies[0].rows].filter((r) => !r.hidden)].map(line).join("\n") + "\n";
}

function addControls(frame, table) {
  const count = make("span", { className: "note", role: "status" });
  const search = make("input", { type: "search", placeholder: /^sub-/.test(table.tBodies[0].rows[0]?.textContent) ? "Filter, such as: sub-01 fail" : "Filter", ariaLabel: "Filter rows" });
  const more = make("button", { type: "button", textContent: "show all" });
  const bar = make("div", { className: "controls of-table" }, search);
  const total = table.tBodies[0].rows.length;
  let flag = "", limit = ROWS_AT_ONCE;
  const update = () => {
    const matching = filterRows(table, search.value.toLowerCase().split(/\s+/).filter(Boolean), flag, limit);
    count.textContent = `${matching} of ${total}` + (matching > limit ? `, the first ${limit} are shown` : "");
    more.hidden = matching <= limit;
  };
  for (const name of ["fail", "warn"]) {
    const number = new Set(all(`td.${name}`, table).map((cell) => cell.parentElement)).size;
    if (number === 0) continue;
    const button = make("button", { type: "button", textContent: `${name} ${number}`, className: name, ariaPressed: "false" });
    button.addEventListener("click", () => {
      flag = flag === name ? "" : name;
      all("button[aria-pressed]", bar).forEach((b) => { b.ariaPressed = String(b === button && flag !== ""); });
      update();
    });
    bar.append(button);
  }
  const keep = make("button", { type: "button", textContent: "Save rows as tsv" });
  keep.addEventListener("click", () => save("rows.tsv", tableAsText(table)));
  const showAll = () => { limit = Infinity; update(); };
  more.addEventListener("click", showAll);
  addEventListener("beforeprint", showAll);
  frame.addEventListener("scroll", () => {
    if (limit < total && frame.scrollTop + 2 * frame.clientHeight > frame.scrollHeight) { limit += ROWS_AT_ONCE; update(); }
  });
  search.addEventListener("input", update);
  table.addEventListener("sorted", update);
  if (table.tHead.rows[0].cells.length > 8) bar.append(columnPicker(table));
  bar.append(keep, count, more);
  frame.before(bar);
  update();
}

for (const holder of all(".table")) {
  const table = holder.querySelector("table");
  if (!table?.tHead) continue;
  all("th", table).forEach((heading, index) => {
    const button = make("button", { type: "button", textContent: heading.textContent || "name" });
    button.addEventListener("click", () => sortTable(table, index, heading));
    heading.replaceChildren(button);
  });
  if (holder.classList.contains("large")) addControls(holder.querySelector(".wide"), table);
}
keys["/"] = () => document.querySelector("input[type=search]")?.focus();
