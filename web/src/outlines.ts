/** Outlines of the nuclei in view, drawn by WebGL; where too many are in view, a picture of their density. */
import Feature from "ol/Feature";
import Polygon from "ol/geom/Polygon";
import ImageLayer from "ol/layer/Image";
import VectorLayer from "ol/layer/Vector";
import WebGLVectorLayer from "ol/layer/WebGLVector";
import ImageStatic from "ol/source/ImageStatic";
import VectorSource from "ol/source/Vector";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { type Changed, type Points, bytes } from "./api";
import { Lines } from "./lines";
import { store } from "./store";
import { inView, map, picture, projection } from "./view";

/** Nuclei in view beyond which their density is shown. */
const MOST = 4000;
/** Side in screen pixels of the parts in which outlines are asked for. */
const PART = 256;
/** Selected nuclei that are drawn bold. */
const MOST_SELECTED = 2000;

const PLAIN = "#00c8ff";

export const drawn = { opacity: 1, width: 1.6, fill: 0, colour: 0, visible: true };

/** Colours along a scale from 0 to 1. */
const SCORE_STOPS: [number, string][] = [[0.5, "#ff3b30"], [0.9, "#ffd60a"], [1, "#32d74b"]];
const AREA_STOPS: [number, string][] = [[0, "#3b5bff"], [0.5, "#00d5c8"], [1, "#ffe94a"]];

type Rgb = [number, number, number];
const rgb = (hex: string): Rgb => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)) as Rgb;

function along(stops: [number, string][], value: number): Rgb {
  const next = stops.findIndex(([place]) => value <= place);
  if (next <= 0) return rgb(stops[next < 0 ? stops.length - 1 : 0][1]);
  const [[low, from], [high, to]] = [stops[next - 1], stops[next]];
  const share = (value - low) / (high - low);
  const [a, b] = [rgb(from), rgb(to)];
  return a.map((one, k) => Math.round(one + (b[k] - one) * share)) as Rgb;
}

function colourOf(id: number): Rgb {
  const row = store.rows.get(id);
  if (!row || drawn.colour === 0) return rgb(PLAIN);
  if (drawn.colour === 1) return along(SCORE_STOPS, row.score);
  if (drawn.colour === 3) return rgb(store.classes.get(row.kind)?.colour ?? PLAIN);
  return along(AREA_STOPS, (row.area - areas[0]) / Math.max(1, areas[1] - areas[0]));
}

const source = new VectorSource<Feature<Polygon>>({ wrapX: false });
const lines = new Lines(picture);
const fillLayer = new WebGLVectorLayer({ source, opacity: 0, visible: false, style: { "fill-color": ["get", "colour"] } as never });
const density = new ImageLayer({ opacity: 0.85, visible: false });
const chosen = new VectorSource<Feature<Polygon>>({ wrapX: false });
const bold = new VectorLayer({
  source: chosen,
  style: [new Style({ stroke: new Stroke({ color: "rgba(0,0,0,.65)", width: 5 }) }), new Style({ stroke: new Stroke({ color: "#ffffff", width: 2.4 }) })],
});
map.addLayer(density);
map.addLayer(fillLayer);
map.addLayer(bold);

const features = new Map<number, Feature<Polygon>>();
const loaded = new Set<string>();
let step = 0;
let widest = 0;
/** 5 and 95 of 100 areas, between which colours by size run. */
let areas: [number, number] = [0, 1];
let densityOf = "";

export function setDrawn(changes: Partial<typeof drawn>): void {
  const recoloured = changes.colour !== undefined && changes.colour !== drawn.colour;
  Object.assign(drawn, changes);
  lines.opacity = drawn.opacity;
  lines.width = drawn.width;
  fillLayer.setOpacity(drawn.fill);
  if (recoloured) recolour();
  void update();
  map.render();
}

function recolour(): void {
  for (const [id, one] of features) one.set("colour", css(id), true);
  source.changed();
  draw();
}

const css = (id: number): string => `rgb(${colourOf(id).join(",")})`;

let due = 0;
/** Hand the outlines to the graphics card, once a frame at most. */
function draw(): void {
  due ||= requestAnimationFrame(() => {
    due = 0;
    lines.set(
      [...features].map(([id, one]) => {
        const geometry = one.getGeometry()!;
        const flat = geometry.getFlatCoordinates();
        let begin = 0;
        const rings = geometry.getEnds()!.map((end) => flat.slice(begin, (begin = end)));
        return { rings, colour: colourOf(id) };
      }),
      (PART * step) / 4,
    );
    map.render();
  });
}

/** Of rings whose last point need not be their first. */
function polygon(rings: Points[]): Polygon {
  return new Polygon(rings.map((ring) => [...ring, ring[0]].map(([x, y]) => [x, -y])));
}

function feature(id: number, geometry: Polygon): Feature<Polygon> {
  const one = new Feature(geometry);
  one.setId(id);
  one.set("colour", css(id), true);
  return one;
}

/** What the server packed: see `maskseg/serve/shown.py`. */
function unpack(data: ArrayBuffer): { version: number; found: [number, Polygon][] } {
  const whole = new Int32Array(data);
  const real = new Float32Array(data);
  const found: [number, Polygon][] = [];
  let at = 1;
  while (at < whole.length) {
    const id = whole[at++];
    const count = whole[at++];
    const flat: number[] = [];
    const ends: number[] = [];
    for (let ring = 0; ring < count; ring++) {
      const points = whole[at++];
      const first = at;
      for (let k = 0; k < points; k++) {
        flat.push(real[at++], -real[at++]);
      }
      flat.push(real[first], -real[first + 1]);
      ends.push(flat.length);
    }
    if (count) found.push([id, new Polygon(flat, "XY", ends)]);
  }
  return { version: whole[0], found };
}

function countInView(most: number): number {
  const [x0, y0, x1, y1] = inView();
  let count = 0;
  for (const row of store.rows.values()) {
    if (row.x0 < x1 && row.x1 > x0 && row.y0 < y1 && row.y1 > y0 && !store.hidden.has(row.kind) && ++count > most) break;
  }
  return count;
}

export function idsInView(): number[] {
  const [x0, y0, x1, y1] = inView();
  return store.shown.filter((row) => row.x0 < x1 && row.x1 > x0 && row.y0 < y1 && row.y1 > y0).map((row) => row.id);
}

/** Show what the view asks for: the parts of it that are not here yet, or the density. */
export async function update(): Promise<void> {
  const image = store.image;
  if (!image || !map.getSize()?.[0]) return;
  const many = countInView(MOST) > MOST;
  if (lines.visible !== (!many && drawn.visible)) {
    lines.visible = !many && drawn.visible;
    map.render();
  }
  fillLayer.setVisible(lines.visible && drawn.fill > 0);
  density.setVisible(many && drawn.visible);
  document.getElementById("view")?.classList.toggle("dense", many);
  if (many) {
    const hidden = [...store.hidden].map((kind) => `&hide=${kind}`).join("");
    const name = `${image.key}/${image.version}${hidden}`;
    if (densityOf !== name) {
      densityOf = name;
      density.setSource(new ImageStatic({ url: `/api/images/${image.key}/density?version=${image.version}${hidden}`, imageExtent: [0, -image.height, image.width, 0], projection }));
    }
    return;
  }
  const resolution = map.getView().getResolution()!;
  const wanted = resolution <= 1.5 ? 1 : 2 ** Math.round(Math.log2(resolution));
  const fresh = wanted !== step;
  if (fresh) {
    step = wanted;
    loaded.clear();
  }
  const side = PART * step;
  const [x0, y0, x1, y1] = inView();
  const parts: [number, number][] = [];
  for (let y = Math.max(0, Math.floor((y0 - widest) / side)); y * side < Math.min(y1, image.height); y++) {
    for (let x = Math.max(0, Math.floor((x0 - widest) / side)); x * side < Math.min(x1, image.width); x++) {
      if (!loaded.has(`${x}/${y}`)) parts.push([x, y]);
    }
  }
  for (const [x, y] of parts) loaded.add(`${x}/${y}`);
  const { key, version } = image;
  const at = step;
  const answers = await Promise.all(
    parts.map(([x, y]) => bytes(`/api/images/${key}/outlines?x0=${x * side}&y0=${y * side}&x1=${(x + 1) * side}&y1=${(y + 1) * side}&step=${at}`)),
  ).catch(() => null);
  if (store.image?.key !== key || step !== at || !answers) return;
  const found = answers.map(unpack);
  if (found.some((one) => one.version !== store.image!.version)) {
    // Changed meanwhile; once more, of the present nuclei.
    if (version === store.image.version) await store.reload();
    return;
  }
  if (fresh) forget();
  const added: Feature<Polygon>[] = [];
  for (const { found: nuclei } of found) {
    for (const [id, geometry] of nuclei) {
      if (!features.has(id) && !store.hidden.has(store.rows.get(id)?.kind ?? 0)) {
        const one = feature(id, geometry);
        features.set(id, one);
        added.push(one);
      }
    }
  }
  source.addFeatures(added);
  draw();
  highlight();
}

function forget(): void {
  features.clear();
  source.clear(true);
}

function reset(): void {
  forget();
  draw();
  loaded.clear();
  step = 0;
  densityOf = "";
  widest = 0;
  const sizes: number[] = [];
  for (const row of store.rows.values()) {
    widest = Math.max(widest, row.x1 - row.x0, row.y1 - row.y0);
    sizes.push(row.area);
  }
  sizes.sort((a, b) => a - b);
  areas = [sizes[Math.floor(sizes.length * 0.05)] ?? 0, sizes[Math.floor(sizes.length * 0.95)] ?? 1];
  void update();
}

/** An edit: the outlines that changed, and no others. */
function take(changed: Changed): void {
  for (const id of changed.gone) drop(id);
  for (const row of changed.rows) {
    drop(row.id);
    if (store.hidden.has(row.kind)) continue;
    const one = feature(row.id, polygon(changed.rings[row.id]));
    features.set(row.id, one);
    source.addFeature(one);
    widest = Math.max(widest, row.x1 - row.x0, row.y1 - row.y0);
  }
  densityOf = "";
  draw();
  highlight();
}

function drop(id: number): void {
  const one = features.get(id);
  if (one) source.removeFeature(one);
  features.delete(id);
}

/** The selected nuclei bold; of those whose outline is not here, the box. */
function highlight(): void {
  chosen.clear();
  const some: Feature<Polygon>[] = [];
  for (const id of store.selection) {
    if (some.length >= MOST_SELECTED) break;
    const one = features.get(id);
    const row = store.rows.get(id);
    if (one) some.push(new Feature(one.getGeometry()));
    else if (row) some.push(new Feature(polygon([[[row.x0, row.y0], [row.x1, row.y0], [row.x1, row.y1], [row.x0, row.y1]]])));
  }
  chosen.addFeatures(some);
  // A layer without anything is a canvas that each frame has to be laid over.
  bold.setVisible(drawn.visible && some.length > 0);
}

/** The nucleus at a place of the map: the smallest of those whose outline holds it. */
export function nucleusAt(coordinate: number[]): number | null {
  let best: number | null = null;
  let least = Infinity;
  const [x, y] = [coordinate[0], -coordinate[1]];
  for (const row of store.rows.values()) {
    if (row.x0 <= x && x < row.x1 && row.y0 <= y && y < row.y1 && row.area < least && !store.hidden.has(row.kind)) {
      const one = features.get(row.id);
      if (!one || one.getGeometry()!.intersectsCoordinate(coordinate)) {
        best = row.id;
        least = row.area;
      }
    }
  }
  return best;
}

map.on("moveend", () => void update());
store.on("nuclei", (changed) => (changed ? take(changed) : reset()));
store.on("selection", highlight);
store.on("filter", reset);
/** Whether there were classes already: with the first ones outlines get their colours. */
let classified = false;
store.on("classes", () => {
  if (!classified && store.classes.size && drawn.colour === 0) setDrawn({ colour: 3 });
  else if (drawn.colour === 3) recolour();
  classified ||= store.classes.size > 0;
});
