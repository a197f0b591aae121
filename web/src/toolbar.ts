/** The tools beside the picture, and what can be done with what is selected. */
import { classify, isReviewed, merge, redo, remove, smooth, toggleReviewed, undo } from "./actions";
import { button, h, slider } from "./dom";
import { ICONS } from "./icons";
import { nameNewClass } from "./classes";
import { type Tool, store } from "./store";
import { T } from "./texts";
import { fit, zoomBy } from "./view";

const KEYS: Record<Tool, string> = { select: "V", draw: "D", box: "B", point: "C", split: "S", brush: "P", erase: "E", region: "G" };

function icon(name: string): HTMLElement {
  const span = h("span", { class: "icon", "aria-hidden": "true" });
  // Our own drawings, from a file of this page.
  span.innerHTML = ICONS[name];
  return span;
}

export function iconButton(name: string, text: string, onclick: () => void, keys = "", props: Record<string, unknown> = {}): HTMLButtonElement {
  const one = button("", onclick, { title: text, "aria-label": text, class: "icon-button", ...props }, keys);
  one.append(icon(name));
  return one;
}

export function makeToolbar(): HTMLElement {
  const tools = (Object.keys(KEYS) as Tool[]).map((tool) => {
    const one = iconButton(tool, T.tools[tool], () => store.use(tool), KEYS[tool], { "data-tool": tool });
    one.append(h("small", {}, T.toolShort[tool]));
    return one;
  });
  const show = () => tools.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.tool === store.tool)));
  store.on("tool", show);
  show();
  return h("nav", { id: "tools", "aria-label": "Tools" }, ...tools);
}

export function makeZoom(): HTMLElement {
  return h(
    "nav",
    { id: "zoom", "aria-label": "Zoom" },
    iconButton("plus", T.actions.zoomIn, () => zoomBy(1.6), "+"),
    iconButton("minus", T.actions.zoomOut, () => zoomBy(1 / 1.6), "−"),
    iconButton("fit", T.actions.fit, () => fit(), "F"),
  );
}

/** The bar over the picture: undo, what is selected, whether it is reviewed. */
export function makeBar(): HTMLElement {
  const back = iconButton("undo", T.actions.undo, () => void undo(), "Ctrl Z", { id: "undo" });
  const again = iconButton("redo", T.actions.redo, () => void redo(), "Ctrl Shift Z", { id: "redo" });
  const count = h("span", { id: "selected" });
  const kind = h("select", { title: T.actions.kind, "aria-label": T.actions.kind, id: "kind" });
  const fill = () => kind.replaceChildren(...kinds());
  fill();
  kind.onchange = () => {
    if (kind.value === NEW) {
      show();
      nameNewClass();
    } else classify(Number(kind.value));
  };
  const some = h(
    "span",
    { class: "group" },
    button(T.actions.delete, remove, { id: "delete" }, "Delete"),
    button(T.actions.merge, merge, { id: "merge" }, "M"),
    button(T.actions.smooth, smooth, { id: "smooth" }, "O"),
    kind,
  );
  const reviewed = button(T.actions.review, () => void toggleReviewed(), { id: "review" }, "R");
  const size = slider(T.actions.brushSize, 1, 60, 1, store.brush, (value) => (store.brush = value), "brush-size");
  const hint = h("span", { id: "hint" });
  const show = () => {
    const image = store.image;
    back.disabled = !image?.undo;
    again.disabled = !image?.redo;
    back.title = `${T.actions.undo}${image?.undo ? `: ${T.steps[image.undo] ?? image.undo}` : ""} (Ctrl Z)`;
    again.title = `${T.actions.redo}${image?.redo ? `: ${T.steps[image.redo] ?? image.redo}` : ""} (Ctrl Shift Z)`;
    count.textContent = store.selection.size ? T.selectedCount(store.selection.size) : "";
    for (const one of some.querySelectorAll<HTMLButtonElement | HTMLSelectElement>("button, select")) one.disabled = !store.selection.size;
    const first = store.selection.size ? store.rows.get([...store.selection][0]) : undefined;
    kind.value = String(first?.kind ?? 0);
    reviewed.textContent = isReviewed() ? T.actions.unreview : T.actions.review;
    reviewed.classList.toggle("on", isReviewed());
    reviewed.disabled = !image;
    // Beside what can be done with a selection there is no room for it on a small screen.
    hint.textContent = image && !(store.selection.size && innerWidth < 1500) ? T.toolHints[store.tool] : "";
    size.hidden = store.tool !== "brush" && store.tool !== "erase";
    const input = size.querySelector("input")!;
    input.value = String(store.brush);
    size.querySelector("output")!.textContent = input.value;
  };
  store.on("classes", () => {
    fill();
    show();
  });
  for (const event of ["history", "selection", "tool"] as const) store.on(event, show);
  show();
  return h("div", { id: "bar" }, back, again, count, some, size, hint, reviewed);
}

/** What stands in the list of classes for one that is not there yet. */
const NEW = "new";

function kinds(): HTMLOptionElement[] {
  const named = [...store.classes.values()].filter((one) => one.kind).map((one) => h("option", { value: String(one.kind) }, one.name));
  return [h("option", { value: "0" }, T.actions.noKind), ...named, h("option", { value: NEW }, T.classes.fresh)];
}
