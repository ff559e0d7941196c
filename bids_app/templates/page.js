"use strict";
/* Small helpers, theme, keys. Only textContent is ever set from data: nothing here makes markup. */
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* Browsers may refuse storage for local files; then choices last as long as the page. */
const store = (() => {
  const memory = new Map();
  let disk = null;
  try { disk = window.localStorage; disk.setItem("brainstages:test", "1"); disk.removeItem("brainstages:test"); } catch { disk = null; }
  return {
    get: (key) => (disk ? disk.getItem(key) : memory.get(key) ?? null),
    set: (key, value) => (disk ? disk.setItem(key, value) : memory.set(key, value)),
    remove: (key) => (disk ? disk.removeItem(key) : memory.delete(key)),
    keys: () => (disk ? Object.keys(disk) : [...memory.keys()]),
  };
})();

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
}
setTheme(store.get("brainstages:theme"));

function toggleTheme() {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(isDark ? "light" : "dark");
  store.set("brainstages:theme", isDark ? "light" : "dark");
}
document.getElementById("theme").addEventListener("click", toggleTheme);
document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());

function save(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const button of all(".copy")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "copied"; } catch {
      source.closest("details").open = true;
      getSelection().selectAllChildren(source);
    }
  });
}

addEventListener("beforeprint", () => all("details:not(.columns)").forEach((d) => { d.open = true; }));

/* Keys work unless somebody is typing; other files add theirs. */
const keys = {
  "?": () => document.getElementById("keys").showModal(),
  d: toggleTheme,
  n: () => document.querySelector("a[rel=next]")?.click(),
  p: () => document.querySelector("a[rel=prev]")?.click(),
};
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches?.("input:not([type=range]), select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](event); }
});
