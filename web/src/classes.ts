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
    if (!(await ask("POST", "", name))) return;
    fresh.value = "";
    const made = [...store.classes.values()].find((one) => one.name === name);
    if (given && made && store.selection.size) classify(made.kind);
  }

  function line(one: ClassRow, count: number): HTMLElement {
    const shown = h("input", { type: "checkbox", checked: !store.hidden.has(one.kind), title: T.classes.show, "aria-label": `${T.classes.show}: ${one.name}` });
    shown.onchange = () => store.hide(one.kind, !shown.checked);
    const mark = h("i", { class: "kind" });
    mark.style.background = one.colour;
    const select = button(count.toLocaleString("en"), () => store.select(store.shown.filter((row) => row.kind === one.kind).map((row) => row.id)), {
      title: T.classes.select,
      class: "count",
      disabled: !count || store.hidden.has(one.kind),
    });
    if (!one.kind) return h("div", { class: "class", "data-kind": "0" }, shown, mark, h("span", {}, T.classes.none), select);
    const name = h("input", { type: "text", value: one.name, maxLength: 60, title: T.classes.rename, "aria-label": `${T.classes.rename}: ${one.name}` });
    name.onchange = () => void ask("PUT", `/${one.kind}`, name.value);
    name.onkeydown = (event) => event.key === "Enter" && name.blur();
    const gone = button("×", () => void ask("DELETE", `/${one.kind}`), { title: T.classes.remove, "aria-label": `${T.classes.remove}: ${one.name}`, class: "remove", disabled: count > 0 });
    return h("div", { class: "class", "data-kind": String(one.kind) }, shown, mark, h("kbd", {}, one.kind < 10 ? String(one.kind) : ""), name, select, gone);
  }

  function show(): void {
    // Not under the hand of somebody who is typing a name.
    if (list.contains(document.activeElement) && (document.activeElement as HTMLInputElement).type === "text") return soon();
    const counts = new Map<number, number>();
    for (const row of store.rows.values()) counts.set(row.kind, (counts.get(row.kind) ?? 0) + 1);
    list.replaceChildren(...[...store.classes.values()].map((one) => line(one, counts.get(one.kind) ?? 0)));
    const named = Math.max(0, store.classes.size - 1);
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
