/** How many nuclei have which area or score; dragging over the bars selects. */
import type { Row } from "./api";
import { h } from "./dom";
import { store } from "./store";
import { T } from "./texts";

const BARS = 40;
const HEIGHT = 84;

export function makeHistogram(): HTMLElement {
  let of: "area" | "score" = "area";
  let low = 0;
  let high = 1;
  let counts: number[] = [];
  let brush: [number, number] | null = null;
  let begin = 0;

  const canvas = h("canvas", { id: "histogram", title: T.histogramHint, tabIndex: -1 });
  const what = h("select", { "aria-label": T.histogramOf, id: "histogram-of" }, h("option", { value: "area" }, T.histogramBy.area), h("option", { value: "score" }, T.histogramBy.score));
  what.onchange = () => {
    of = what.value as "area" | "score";
    brush = null;
    count();
  };
  const axis = h("div", { class: "axis" });

  const share = (row: Row): number => (row[of] - low) / Math.max(high - low, 1e-9);

  function count(): void {
    const values = store.shown.map((row) => row[of]).sort((a, b) => a - b);
    low = of === "area" ? 0 : Math.min(0.5, values[0] ?? 0.5);
    // A few giants must not press all others into one bar.
    high = of === "area" ? (values[Math.floor(values.length * 0.995)] ?? 1) * 1.02 : 1;
    counts = new Array(BARS).fill(0);
    for (const row of store.shown) counts[bar(share(row))]++;
    axis.replaceChildren(h("span", {}, of === "area" ? "0" : low.toFixed(2)), h("span", {}, of === "area" ? `${Math.round(high).toLocaleString("en")} px` : "1"));
    paint();
  }

  const bar = (value: number): number => Math.min(BARS - 1, Math.max(0, Math.floor(value * BARS)));

  function paint(): void {
    const scale = devicePixelRatio;
    const width = canvas.clientWidth;
    if (!width) return;
    canvas.width = width * scale;
    canvas.height = HEIGHT * scale;
    const pen = canvas.getContext("2d")!;
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const most = Math.max(1, ...counts);
    counts.forEach((value, k) => {
      const inside = brush && (k + 1) / BARS > brush[0] && k / BARS < brush[1];
      pen.fillStyle = style.getPropertyValue(inside ? "--accent" : "--bar");
      const tall = value ? Math.max(2, (value / most) * (HEIGHT - 4)) : 0;
      pen.fillRect((k * width) / BARS + 0.5, HEIGHT - tall, width / BARS - 1, tall);
    });
    if (brush) {
      pen.strokeStyle = style.getPropertyValue("--accent");
      pen.strokeRect(brush[0] * width, 0.5, (brush[1] - brush[0]) * width, HEIGHT - 1);
    }
  }

  const at = (event: PointerEvent): number => {
    const box = canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    begin = at(event);
    brush = [begin, begin];
  };
  canvas.onpointermove = (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    brush = [Math.min(begin, at(event)), Math.max(begin, at(event))];
    paint();
  };
  canvas.onpointerup = () => {
    if (!brush) return;
    const [first, last] = [bar(brush[0]), bar(brush[1])];
    brush = [first / BARS, (last + 1) / BARS];
    // By whole bars, the last one with what lies beyond it.
    const ids = store.shown.filter((row) => bar(share(row)) >= first && bar(share(row)) <= last).map((row) => row.id);
    store.select(ids);
    paint();
  };
  canvas.ondblclick = () => {
    brush = null;
    store.select([]);
    paint();
  };
  let due = 0;
  store.on("nuclei", (changed) => {
    brush = null;
    window.clearTimeout(due);
    // An edit is seen at once; what it does to thousands of others may wait until the hand rests.
    due = window.setTimeout(count, changed ? 300 : 0);
  });
  store.on("filter", () => {
    brush = null;
    count();
  });
  new ResizeObserver(paint).observe(canvas);
  new MutationObserver(paint).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  return h("div", { class: "histogram" }, h("label", {}, `${T.histogramOf} `, what), canvas, axis);
}
