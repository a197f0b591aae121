/** The table of nuclei, of which only the rows in sight are on the page; linked with the picture both ways. */
import type { Changed, Row } from "./api";
import { h } from "./dom";
import { store } from "./store";
import { T } from "./texts";
import { goTo } from "./view";

type Column = "id" | "area" | "score" | "kind";
const COLUMNS: Column[] = ["id", "area", "score", "kind"];
const HEIGHT = 24;

export function makeTable(): HTMLElement {
  let order: Row[] = [];
  let by: Column = "id";
  let falling = false;
  let anchor = -1;
  /** Whether the selection was made here: then the table does not jump. */
  let own = false;

  const heads = COLUMNS.map((column) => h("button", { type: "button", role: "columnheader", onclick: () => sort(column) }, T.columns[column]));
  const space = h("div", { class: "space" });
  const rows = h("div", { class: "rows", role: "rowgroup" });
  const body = h("div", { class: "body", tabIndex: 0, id: "rows" }, space, rows);
  const table = h("div", { class: "table", role: "grid", "aria-label": T.tabs.nuclei }, h("div", { class: "head", role: "row" }, ...heads), body);

  function sort(column: Column): void {
    falling = column === by ? !falling : column !== "id";
    by = column;
    arrange();
  }

  const compared = (a: Row, b: Row): number => (by === "kind" ? store.nameOf(a.kind).localeCompare(store.nameOf(b.kind)) : a[by] - b[by]);
  const before = (a: Row, b: Row): number => (falling ? -1 : 1) * compared(a, b) || a.id - b.id;

  /** After an edit: a few rows leave their places and find new ones, without all being sorted anew. */
  function rearrange(changed: Changed): void {
    const moved = new Set([...changed.gone, ...changed.rows.map((row) => row.id)]);
    order = order.filter((row) => !moved.has(row.id));
    for (const row of changed.rows) {
      if (store.hidden.has(row.kind)) continue;
      let [low, high] = [0, order.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (before(order[middle], row) < 0) low = middle + 1;
        else high = middle;
      }
      order.splice(low, 0, row);
    }
    space.style.height = `${order.length * HEIGHT}px`;
    paint();
  }

  function arrange(): void {
    order = store.shown.sort(before);
    heads.forEach((head, k) => {
      head.dataset.sorted = COLUMNS[k] === by ? (falling ? "falling" : "rising") : "";
    });
    space.style.height = `${order.length * HEIGHT}px`;
    paint();
  }

  function paint(): void {
    const first = Math.max(0, Math.floor(body.scrollTop / HEIGHT) - 4);
    const last = Math.min(order.length, first + Math.ceil(body.clientHeight / HEIGHT) + 8);
    rows.style.transform = `translateY(${first * HEIGHT}px)`;
    rows.replaceChildren(...order.slice(first, last).map((row, k) => line(row, first + k)));
  }

  function line(row: Row, place: number): HTMLElement {
    const mark = h("i", { class: "kind" });
    mark.style.background = (row.kind && store.classes.get(row.kind)?.colour) || "transparent";
    const kind = row.kind ? store.nameOf(row.kind) : "–";
    return h(
      "div",
      { class: "row", role: "row", "data-id": String(row.id), "aria-selected": String(store.selection.has(row.id)), onclick: (event: MouseEvent) => pick(place, event) },
      h("span", {}, String(row.id)),
      h("span", {}, row.area.toLocaleString("en")),
      h("span", { title: row.by_hand ? T.byHand : "" }, row.by_hand ? `${row.score.toFixed(2)} ✎` : row.score.toFixed(2)),
      h("span", { title: row.kind ? kind : "" }, mark, kind),
    );
  }

  function pick(place: number, event: MouseEvent | KeyboardEvent): void {
    const row = order[place];
    if (!row) return;
    own = true;
    if (event.shiftKey && anchor >= 0) {
      const [low, high] = [Math.min(anchor, place), Math.max(anchor, place)];
      store.select(order.slice(low, high + 1).map((one) => one.id));
    } else if (event.ctrlKey || event.metaKey) {
      const ids = new Set(store.selection);
      if (!ids.delete(row.id)) ids.add(row.id);
      store.select(ids);
      anchor = place;
    } else {
      store.select([row.id]);
      goTo([row.x0, row.y0, row.x1, row.y1]);
      anchor = place;
    }
    own = false;
  }

  body.onscroll = paint;
  body.onkeydown = (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!steps) return;
    event.preventDefault();
    event.stopPropagation();
    const place = Math.min(order.length - 1, Math.max(0, anchor + steps));
    pick(place, event);
    reveal(place);
  };

  function reveal(place: number): void {
    const top = place * HEIGHT;
    if (top < body.scrollTop || top + HEIGHT > body.scrollTop + body.clientHeight) body.scrollTop = Math.max(0, top - body.clientHeight / 2);
  }

  store.on("nuclei", (changed) => (changed ? rearrange(changed) : arrange()));
  store.on("filter", arrange);
  store.on("classes", () => (by === "kind" ? arrange() : paint()));
  store.on("selection", () => {
    if (!own && store.selection.size) {
      const id = [...store.selection][0];
      anchor = order.findIndex((row) => row.id === id);
      if (anchor >= 0) reveal(anchor);
    }
    paint();
  });
  new ResizeObserver(paint).observe(body);
  return table;
}
