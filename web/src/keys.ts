/** Keyboard shortcuts, and the list of them. */
import { classify, merge, redo, remove, smooth, toggleReviewed, undo } from "./actions";
import { button, h } from "./dom";
import { nextUnsure } from "./images";
import { drawn, idsInView, setDrawn } from "./outlines";
import { store } from "./store";
import { T } from "./texts";
import { holdToPan } from "./tools";
import { fit, panBy, zoomBy } from "./view";

const help = h("dialog", { id: "help", "aria-label": T.help.title });
help.append(
  h("h2", {}, T.help.title),
  h("table", {}, ...T.help.rows.map(([keys, what]) => h("tr", {}, h("td", {}, h("kbd", {}, keys)), h("td", {}, what)))),
  button(T.actions.close, () => help.close()),
);
document.body.append(help);

export const showHelp = (): void => (help.open ? help.close() : help.showModal());

const resize = (factor: number): void => {
  store.brush = Math.min(60, Math.max(1, Math.round(store.brush * factor + Math.sign(factor - 1) * 0.4)));
  store.tell("tool");
};

const KEYS: Record<string, () => void> = {
  v: () => store.use("select"),
  d: () => store.use("draw"),
  b: () => store.use("box"),
  c: () => store.use("point"),
  s: () => store.use("split"),
  p: () => store.use("brush"),
  e: () => store.use("erase"),
  g: () => store.use("region"),
  m: merge,
  o: smooth,
  Delete: remove,
  Backspace: remove,
  r: () => void toggleReviewed(),
  n: () => void nextUnsure(),
  f: () => fit(),
  h: () => setDrawn({ visible: !drawn.visible }),
  a: () => store.select(idsInView()),
  "[": () => resize(1 / 1.25),
  "]": () => resize(1.25),
  "+": () => zoomBy(1.6),
  "=": () => zoomBy(1.6),
  "-": () => zoomBy(1 / 1.6),
  ArrowLeft: () => panBy(-1, 0),
  ArrowRight: () => panBy(1, 0),
  ArrowUp: () => panBy(0, -1),
  ArrowDown: () => panBy(0, 1),
  Escape: () => store.select([]),
  "?": showHelp,
};

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || (target instanceof HTMLInputElement && !["range", "button", "checkbox"].includes(target.type));

document.addEventListener("keydown", (event) => {
  if (help.open && event.key !== "?") return;
  if (typing(event.target)) return;
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z") void (event.shiftKey ? redo() : undo());
    else if (key === "y") void redo();
    else return;
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  if (event.key === " ") {
    if (event.target instanceof HTMLButtonElement) return;
    holdToPan(true);
    event.preventDefault();
    return;
  }
  if (/^[0-9]$/.test(event.key)) return classify(Number(event.key));
  // Arrows move a slider that has the focus.
  if (event.target instanceof HTMLInputElement && event.key.startsWith("Arrow")) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});
document.addEventListener("keyup", (event) => event.key === " " && holdToPan(false));
