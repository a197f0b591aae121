/** Elements of the page, made in one line each. */

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** An element with properties, listeners (`onclick`), `class`, `data-` and `aria-` attributes, and children. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = String(value);
    else if (name.startsWith("data-") || name.startsWith("aria-") || name === "role" || name === "for") element.setAttribute(name, String(value));
    else (element as unknown as Props)[name] = value;
  }
  element.append(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return element;
}

/** A button with an accessible name; `keys` are shown in its tooltip. */
export function button(text: string, onclick: () => void, props: Props = {}, keys = ""): HTMLButtonElement {
  const title = keys ? `${props.title ?? text} (${keys})` : ((props.title as string) ?? undefined);
  return h("button", { type: "button", ...props, title, onclick }, text);
}

/** A labelled slider. */
export function slider(label: string, low: number, high: number, step: number, value: number, changed: (value: number) => void, id = ""): HTMLElement {
  const output = h("output", {}, String(value));
  const input = h("input", { type: "range", min: String(low), max: String(high), step: String(step), id: id || undefined });
  input.value = String(value);
  input.oninput = () => {
    output.textContent = input.value;
    changed(Number(input.value));
  };
  return h("label", { class: "slider" }, h("span", {}, label), input, output);
}

let hide = 0;

/** Say something in a line at the bottom; errors stay until they are clicked away. */
export function say(text: string, bad = false): void {
  const line = document.getElementById("say")!;
  line.textContent = text;
  line.className = text ? (bad ? "bad" : "good") : "";
  window.clearTimeout(hide);
  if (text && !bad) hide = window.setTimeout(() => say(""), 4000);
}
