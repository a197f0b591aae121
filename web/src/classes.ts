/** The classes of nuclei: what they are called, how many there are, which are shown; the same list for all images. */
import { classify } from "./actions";
import { type ClassRow, send } from "./api";
import { button, h, say } from "./dom";
import { store } from "./store";
import { T } from "./texts";

async function ask(method: "POST" | "PUT" | "DELETE", path: string, name?: string): Promise<boolean> {
  try {
    store.setClasses(await send<ClassRow[]>(method, `/api/classes${path}`, name === undefined ? undefined : { name }));
    return true;
  } catch (error) {
    say(String((error as Error).message), true);
    // What was typed goes back to what it is called.
    store.tell("classes");
    return false;
  }
}

/** Whether the next new class is to be given to the nuclei that are selected. */
let forSelected = false;

/** Go to where a new class is named, for the nuclei that are selected. */
export function nameNewClass(): void {
  forSelected = store.selection.size > 0;
  document.querySelector<HTMLElement>('[data-tab="nuclei"]')!.click();
  document.querySelector<HTMLDetailsElement>("#classes")!.open = true;
  document.getElementById("new-class")!.focus();
}

type Line = { element: HTMLElement; update: (one: ClassRow, count: number) => void };

/** Of a class: whether it is shown, its colour, its name, how many nuclei of the image have it. */
function makeLine(kind: number): Line {
  const shown = h("input", { type: "checkbox", title: T.classes.show });
  shown.onchange = () => store.hide(kind, !shown.checked);
  const mark = h("i", { class: "kind" });
  const name = h("input", { type: "text", maxLength: 60, title: T.classes.rename });
  name.onchange = () => void ask("PUT", `/${kind}`, name.value);
  name.onkeydown = (event) => event.key === "Enter" && name.blur();
  const select = button("", () => store.select(store.shown.filter((row) => row.kind === kind).map((row) => row.id)), { title: T.classes.select, class: "count" });
  const gone = button("×", () => void ask("DELETE", `/${kind}`), { title: T.classes.remove, class: "remove" });
  const key = h("kbd", {}, kind && kind < 10 ? String(kind) : "");
  const element = h("div", { class: "class", "data-kind": String(kind) }, shown, mark, key, kind ? name : h("span", {}, T.classes.none), select, kind ? gone : null);
  function update(one: ClassRow, count: number): void {
    shown.checked = !store.hidden.has(kind);
    shown.setAttribute("aria-label", `${T.classes.show}: ${one.name}`);
    name.setAttribute("aria-label", `${T.classes.rename}: ${one.name}`);
    gone.setAttribute("aria-label", `${T.classes.remove}: ${one.name}`);
    mark.style.background = one.colour;
    // Not under the hand of somebody who is typing it.
    if (document.activeElement !== name) name.value = one.name;
    select.textContent = count.toLocaleString("en");
    select.disabled = !count || store.hidden.has(kind);
    gone.disabled = count > 0;
  }
  return { element, update };
}

export function makeClasses(): HTMLElement {
  const list = h("div", { class: "list" });
  const fresh = h("input", { id: "new-class", type: "text", placeholder: T.classes.fresh, "aria-label": T.classes.fresh, maxLength: 60 });
  const form = h("form", {}, fresh, h("button", { type: "submit", id: "add-class" }, T.classes.add));
  form.onsubmit = (event) => {
    event.preventDefault();
    void add();
  };
  fresh.onblur = () => window.setTimeout(() => (forSelected = false), 300);
  const summary = h("summary", {}, T.classes.title);
  const box = h("details", { id: "classes" }, summary, list, form);

  async function add(): Promise<void> {
    const name = fresh.value.trim();
    if (!name) return;
    const given = forSelected;
    forSelected = false;
    if (!(await ask("POST", "", name))) return;
    fresh.value = "";
    const made = [...store.classes.values()].find((one) => one.name === name);
    if (given && made && store.selection.size) classify(made.kind);
  }

  /** The lines as they stand, by the numbers of their classes; they are updated in place, under the hand that clicks. */
  const lines = new Map<number, Line>();

  function show(): void {
    const counts = new Map<number, number>();
    for (const row of store.rows.values()) counts.set(row.kind, (counts.get(row.kind) ?? 0) + 1);
    const wanted = [...store.classes.values()];
    if (wanted.map((one) => one.kind).join() !== [...lines.keys()].join()) {
      lines.clear();
      for (const one of wanted) lines.set(one.kind, makeLine(one.kind));
      list.replaceChildren(...[...lines.values()].map((one) => one.element));
    }
    for (const one of wanted) lines.get(one.kind)!.update(one, counts.get(one.kind) ?? 0);
    const named = Math.max(0, wanted.length - 1);
    summary.textContent = named ? `${T.classes.title} (${named})` : T.classes.title;
  }

  let due = 0;
  function soon(): void {
    window.clearTimeout(due);
    due = window.setTimeout(show, 300);
  }
  let any = false;
  store.on("classes", () => {
    // Opened once, when there are some for the first time.
    if (!any && store.classes.size) box.open = true;
    any ||= store.classes.size > 0;
    show();
  });
  store.on("filter", show);
  // An edit is seen at once; counts may wait until the hand rests.
  store.on("nuclei", (changed) => (changed ? soon() : show()));
  return box;
}
