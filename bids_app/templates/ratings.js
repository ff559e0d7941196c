/* Ratings: kept in the browser under this output folder's place, saved and loaded as a table. */
const RATINGS = ["good", "doubtful", "bad"];
const folder = new URL(document.body.dataset.base, location.href).pathname;
const prefix = `brainstages:rating:${folder}:`;
const ratingKey = (label, stage) => `${prefix}${label}\t${stage}`;

function readRating(label, stage) {
  try { return JSON.parse(store.get(ratingKey(label, stage))) ?? {}; } catch { return {}; }
}

function writeRating(label, stage, change) {
  const rating = { ...readRating(label, stage), ...change, rated: new Date().toISOString() };
  if (rating.rating || rating.note) store.set(ratingKey(label, stage), JSON.stringify(rating));
  else store.remove(ratingKey(label, stage));
  showRatings();
}

function allRatings() {
  return store.keys().filter((key) => key.startsWith(prefix)).sort().map((key) => {
    const [label, stage] = key.slice(prefix.length).split("\t");
    return { participant_id: label, stage, ...readRating(label, stage) };
  });
}

const RATING_COLUMNS = ["participant_id", "stage", "rating", "note", "rated"];
function ratingsAsText() {
  const clean = (value) => String(value || "n/a").replace(/[\t\r\n]+/g, " ");
  return [RATING_COLUMNS, ...allRatings().map((r) => RATING_COLUMNS.map((c) => clean(r[c])))].map((cells) => cells.join("\t")).join("\n") + "\n";
}

function loadRatings(text) {
  const [head, ...lines] = text.split(/\r?\n/).filter(Boolean).map((line) => line.split("\t"));
  for (const cells of lines) {
    const row = Object.fromEntries(head.map((name, index) => [name, cells[index] === "n/a" ? "" : cells[index] ?? ""]));
    if (row.participant_id && row.stage && (RATINGS.includes(row.rating) || row.note)) {
      store.set(ratingKey(row.participant_id, row.stage), JSON.stringify({ rating: row.rating, note: row.note, rated: row.rated }));
    }
  }
  showRatings();
}

/* The start page has one cell per participant: the worst rating of any stage. */
function worstRatings() {
  const worst = {};
  for (const { participant_id: label, rating } of allRatings()) {
    if (RATINGS.indexOf(rating) > RATINGS.indexOf(worst[label])) worst[label] = rating;
  }
  return worst;
}

const redraw = [];
function showRatings() {
  const number = allRatings().length;
  for (const box of all(".ratings .count")) box.textContent = number === 1 ? "1 rating" : `${number} ratings`;
  redraw.forEach((draw) => draw());
}

for (const field of all(".rate")) {
  const { label, stage } = field.dataset;
  const buttons = RATINGS.map((name, index) => {
    const button = make("button", { type: "button", textContent: name, title: `key ${index + 1}` });
    button.addEventListener("click", () => writeRating(label, stage, { rating: readRating(label, stage).rating === name ? "" : name }));
    return button;
  });
  const note = make("input", { placeholder: "note", ariaLabel: "note" });
  note.addEventListener("change", () => writeRating(label, stage, { note: note.value }));
  field.append(...buttons, note);
  redraw.push(() => {
    const rating = readRating(label, stage);
    buttons.forEach((button) => { button.ariaPressed = String(button.textContent === rating.rating); });
    note.value = rating.note ?? "";
  });
}

/* A thousand menus would make a page slow to open: one is made in a cell that is clicked. */
function askRating(cell, label, stage) {
  const choice = make("select", { ariaLabel: `rating of ${label}` }, ...["", ...RATINGS].map((name) => make("option", { value: name, textContent: name || "–" })));
  choice.value = readRating(label, stage).rating ?? "";
  cell.replaceChildren(choice);
  choice.focus();
  choice.addEventListener("change", () => writeRating(label, stage, { rating: choice.value }));
  choice.addEventListener("blur", showRatings);
}

const ratedCells = all("td.rating").map((cell) => [cell, cell.parentElement.dataset]);
redraw.push(() => {
  const worst = worstRatings();
  for (const [cell, { label, stage }] of ratedCells) {
    if (stage === "*") cell.textContent = worst[label] ?? "";
    else if (!cell.contains(document.activeElement) || !cell.querySelector("select")) {
      const button = cell.querySelector("button") ?? make("button", { type: "button", title: "rate" });
      button.textContent = readRating(label, stage).rating || "–";
      if (!button.isConnected) cell.replaceChildren(button);
    }
  }
});
document.addEventListener("click", (event) => {
  const cell = event.target.closest?.("td.rating");
  if (cell && event.target.matches("button")) askRating(cell, cell.parentElement.dataset.label, cell.parentElement.dataset.stage);
});

for (const box of all(".ratings")) {
  box.hidden = false;
  box.querySelector(".export").addEventListener("click", () => save("ratings.tsv", ratingsAsText()));
  box.querySelector(".import input").addEventListener("change", async (event) => loadRatings(await event.target.files[0].text()));
}

function rateInView(name) {
  const parts = all(".part");
  const part = [...parts].reverse().find((p) => p.getBoundingClientRect().top < innerHeight / 2) ?? parts[0];
  const field = part?.querySelector(".rate");
  if (field) writeRating(field.dataset.label, field.dataset.stage, { rating: name });
}
RATINGS.forEach((name, index) => { keys[String(index + 1)] = () => rateInView(name); });
keys["0"] = () => rateInView("");
showRatings();
