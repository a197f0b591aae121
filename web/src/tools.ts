/** What the pointer does on the picture, by the chosen tool. */
import type Feature from "ol/Feature";
import type MapBrowserEvent from "ol/MapBrowserEvent";
import type LineString from "ol/geom/LineString";
import type Polygon from "ol/geom/Polygon";
import DragBox from "ol/interaction/DragBox";
import DragPan from "ol/interaction/DragPan";
import Draw from "ol/interaction/Draw";
import type Interaction from "ol/interaction/Interaction";
import DoubleClickZoom from "ol/interaction/DoubleClickZoom";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import CircleStyle from "ol/style/Circle";
import Style from "ol/style/Style";
import { edit, review } from "./actions";
import type { Box, Points } from "./api";
import { nucleusAt } from "./outlines";
import { store } from "./store";
import { map } from "./view";

let active: Interaction | null = null;

const toImage = (coordinates: number[][]): Points => coordinates.map(([x, y]) => [round(x), round(-y)]);
const round = (value: number): number => Math.round(value * 100) / 100;

/** Points that a hand leaves out: those nearer than a quarter of a pixel of the screen or the image. */
function thinned(points: Points): Points {
  const least = 0.25 * Math.max(1, map.getView().getResolution()!);
  const kept: Points = [];
  for (const point of points) {
    const last = kept[kept.length - 1];
    if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) >= least) kept.push(point);
  }
  return kept.slice(0, 20000);
}

function drawing(kind: "Polygon" | "LineString", style: Style | (() => Style), done: (points: Points) => void): Draw {
  const draw = new Draw({ type: kind, freehand: true, style, stopClick: true });
  draw.on("drawend", (event) => {
    const geometry = (event.feature as Feature<Polygon | LineString>).getGeometry()!;
    const flat = geometry.getCoordinates();
    done(thinned(toImage((kind === "Polygon" ? flat[0] : flat) as number[][])));
  });
  return draw;
}

const line = new Style({ stroke: new Stroke({ color: "#ffffff", width: 2 }), fill: new Fill({ color: "rgba(255,255,255,.15)" }) });
const cut = new Style({ stroke: new Stroke({ color: "#ff3b30", width: 2.5 }) });

/** As wide on the screen as what it paints. */
function wide(colour: string): () => Style {
  return () => {
    const width = (2 * store.brush) / map.getView().getResolution()!;
    return new Style({
      stroke: new Stroke({ color: colour, width, lineCap: "round", lineJoin: "round" }),
      image: new CircleStyle({ radius: width / 2, fill: new Fill({ color: colour }), stroke: new Stroke({ color: "#fff", width: 1 }) }),
    });
  };
}

function box(done: (box: Box) => void): DragBox {
  const drag = new DragBox({ className: "ol-dragbox" });
  drag.on("boxend", () => {
    const [x0, y0, x1, y1] = drag.getGeometry().getExtent();
    done([round(x0), round(-y1), round(x1), round(-y0)]);
  });
  return drag;
}

function interaction(): Interaction | null {
  switch (store.tool) {
    case "draw":
      return drawing("Polygon", line, (ring) => ring.length > 2 && void edit({ op: "add", ring }));
    case "box":
      return box((one) => void edit({ op: "add-box", box: one }));
    case "region":
      return box((one) => void review(one, true));
    case "split":
      return drawing("LineString", cut, (points) => void edit({ op: "split", line: points, ids: crossed() }));
    case "brush":
      return drawing("LineString", wide("rgba(0,200,255,.45)"), (points) => {
        const id = store.selection.size === 1 ? [...store.selection][0] : null;
        void edit({ op: "brush", points, radius: store.brush, id });
      });
    case "erase":
      return drawing("LineString", wide("rgba(255,60,60,.45)"), (points) => void edit({ op: "erase", points, radius: store.brush, ids: [...store.selection] }));
    default:
      return null;
  }
}

/** A single selected nucleus is the one to split; else what the line crosses. */
const crossed = (): number[] => (store.selection.size === 1 ? [...store.selection] : []);

function panning(on: boolean): void {
  map.getInteractions().forEach((one) => {
    if (one instanceof DragPan || one instanceof DoubleClickZoom) one.setActive(on);
  });
}

function choose(): void {
  if (active) map.removeInteraction(active);
  active = interaction();
  if (active) map.addInteraction(active);
  panning(!active);
  map.getTargetElement()?.setAttribute("data-tool", store.tool);
}

/** With the space bar held down the picture moves, whatever the tool. */
export function holdToPan(on: boolean): void {
  active?.setActive(!on);
  panning(on || !active);
}

map.on("singleclick", (event: MapBrowserEvent) => {
  const [x, y] = event.coordinate;
  if (store.tool === "point") void edit({ op: "add-point", point: [round(x), round(-y)] });
});

map.on("click", (event: MapBrowserEvent) => {
  if (store.tool !== "select") return;
  const id = nucleusAt(event.coordinate);
  const pointer = event.originalEvent as PointerEvent;
  if (pointer.shiftKey || pointer.ctrlKey || pointer.metaKey) {
    const ids = new Set(store.selection);
    if (id !== null && !ids.delete(id)) ids.add(id);
    store.select(ids);
  } else store.select(id === null ? [] : [id]);
});

store.on("tool", choose);
store.on("image", choose);
