/* Figures: slider and flicker between before and after; enlarging with zoom and drag; j and k. */
const figures = all("figure");

for (const compare of all(".compare")) {
  const after = compare.querySelector(".after");
  const range = compare.querySelector("input");
  const button = compare.querySelector(".flicker");
  let timer = 0;
  const slide = () => { after.style.clipPath = `inset(0 0 0 ${100 - range.value}%)`; };
  const stop = () => { clearInterval(timer); timer = 0; button.ariaPressed = "false"; after.style.visibility = ""; slide(); };
  const flicker = () => {
    if (timer) return stop();
    button.ariaPressed = "true";
    after.style.clipPath = "";
    timer = setInterval(() => { after.style.visibility = after.style.visibility ? "" : "hidden"; }, 600);
  };
  range.addEventListener("input", () => { if (timer) stop(); slide(); });
  button.addEventListener("click", flicker);
  compare.flicker = flicker;
  slide();
}

const zoom = document.getElementById("zoom");
const view = { image: null, figure: null, size: "", scale: 1, x: 0, y: 0 };
const other = zoom.querySelector("[data-zoom=other]");

function placeImage() {
  view.image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
}

function fit() {
  const width = view.image.naturalWidth || 800, height = view.image.naturalHeight || 600;
  view.scale = Math.min(innerWidth / width, (innerHeight - 60) / height);
  view.x = (innerWidth - width * view.scale) / 2;
  view.y = (innerHeight - 50 - height * view.scale) / 2;
  placeImage();
}

function zoomBy(factor, x = innerWidth / 2, y = innerHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.1), 40);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  // From here on single pixels are what one wants to see.
  view.image.style.imageRendering = scale > 3 ? "pixelated" : "";
  placeImage();
}

function enlarge(figure) {
  const shown = figure.querySelector("img.after") ?? figure.querySelector("img");
  view.figure = figure;
  view.image = make("img", { src: shown.src, alt: shown.alt, draggable: false });
  // Figures of one size are laid out alike: keeping the place makes them flicker when one steps on.
  const before = view.size;
  view.image.addEventListener("load", () => {
    view.size = `${view.image.naturalWidth}x${view.image.naturalHeight}`;
    if (zoom.open && view.size === before) placeImage(); else fit();
  });
  zoom.querySelector(".stage").replaceChildren(view.image);
  other.hidden = !figure.querySelector("img.before");
  other.ariaPressed = "false";
  zoom.querySelector(".caption").textContent = figure.querySelector("figcaption").textContent;
  if (!zoom.open) zoom.showModal();
}

/* Both pictures have one size, so the place is kept and what differs jumps to the eye. */
function showOther() {
  if (other.hidden) return;
  const isBefore = other.ariaPressed !== "true";
  other.ariaPressed = String(isBefore);
  view.image.src = view.figure.querySelector(isBefore ? "img.before" : "img.after").src;
}

function step(by) {
  const next = figures[(figures.indexOf(view.figure) + by + figures.length) % figures.length];
  enlarge(next);
}

for (const button of all(".enlarge, .enlarge-both")) button.addEventListener("click", () => enlarge(button.closest("figure")));
for (const image of all(".compare .frame")) image.addEventListener("dblclick", () => enlarge(image.closest("figure")));

const actions = { in: () => zoomBy(1.4), out: () => zoomBy(1 / 1.4), fit, other: showOther, close: () => zoom.close() };
for (const button of all("[data-zoom]", zoom)) button.addEventListener("click", () => actions[button.dataset.zoom]());
zoom.addEventListener("keydown", (event) => {
  const found = { "+": actions.in, "=": actions.in, "-": actions.out, 0: fit, f: showOther, ArrowRight: () => step(1), ArrowLeft: () => step(-1) }[event.key];
  if (found) { event.preventDefault(); found(); }
});
zoom.addEventListener("close", () => { view.size = ""; view.figure?.focus(); });

const surface = zoom.querySelector(".stage");
surface.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX, event.clientY); }, { passive: false });
const pointers = new Map();
surface.addEventListener("pointerdown", (event) => { surface.setPointerCapture(event.pointerId); pointers.set(event.pointerId, event); });
surface.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const other = [...pointers.values()].find((p) => p.pointerId !== event.pointerId);
  if (other) {
    const spread = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    zoomBy(spread(event, other) / (spread(before, other) || 1), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
  } else {
    view.x += event.clientX - before.clientX;
    view.y += event.clientY - before.clientY;
    placeImage();
  }
  pointers.set(event.pointerId, event);
});
for (const name of ["pointerup", "pointercancel"]) surface.addEventListener(name, (event) => pointers.delete(event.pointerId));

/* The figure in view: the focused one, else the first whose middle is on the screen. */
function current() {
  const focused = document.activeElement?.closest("figure");
  return focused ?? figures.find((f) => { const b = f.getBoundingClientRect(); return b.bottom > 80; });
}
function goTo(by) {
  if (!figures.length) return;
  const focused = document.activeElement?.closest("figure");
  const place = focused ? figures.indexOf(focused) + by : Math.max(0, figures.indexOf(current()));
  const figure = figures[Math.min(Math.max(place, 0), figures.length - 1)];
  figure.focus({ preventScroll: true });
  figure.scrollIntoView({ block: "start" });
}
keys.j = () => goTo(1);
keys.k = () => goTo(-1);
keys.f = () => current()?.querySelector(".compare")?.flicker();
for (const figure of figures) {
  figure.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === figure) { event.preventDefault(); enlarge(figure); }
  });
}
