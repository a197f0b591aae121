/** The picture: a map in pixels of the image, y counted from 0 at the top down to minus the height. */
import OlMap from "ol/Map";
import View from "ol/View";
import DoubleClickZoom from "ol/interaction/DoubleClickZoom";
import { defaults as interactions } from "ol/interaction/defaults";
import WebGLTileLayer from "ol/layer/WebGLTile";
import Projection from "ol/proj/Projection";
import TileImage from "ol/source/TileImage";
import TileGrid from "ol/tilegrid/TileGrid";
import type { Box, Details } from "./api";
import { store } from "./store";

const TILE = 256;

// OpenLayers asks for smooth edges, which cost a computer without a graphics card most of a frame; tiles have none, and
// the outlines bring their own.
const getContext = HTMLCanvasElement.prototype.getContext as (kind: string, given?: object) => unknown;
HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, kind: string, given?: object) {
  return getContext.call(this, kind, kind.includes("webgl") ? { ...given, antialias: false } : given);
} as never;

export const projection = new Projection({ code: "image-pixels", units: "pixels", extent: [0, -1, 1, 0] });

export const map = new OlMap({
  controls: [],
  interactions: interactions({ altShiftDragRotate: false, pinchRotate: false, keyboard: false, doubleClickZoom: false }).extend([new DoubleClickZoom({ duration: 150 })]),
});

/** What the sliders set; the names are those of the layer's style. */
export const look = { black: 0, white: 1, gamma: 1, red: 1, green: 1, blue: 1 };

function channel(band: number, gain: string): unknown[] {
  const span = ["-", ["var", "white"], ["var", "black"]];
  const stretched = ["/", ["-", ["band", band], ["var", "black"]], span];
  return ["*", ["var", gain], ["^", ["clamp", stretched, 0, 1], ["/", 1, ["var", "gamma"]]]];
}

const STYLE = { color: ["array", channel(1, "red"), channel(2, "green"), channel(3, "blue"), ["band", 4]] };

export const picture = new WebGLTileLayer({ style: {} });
map.addLayer(picture);

let changedLook = false;

/** Until a slider is moved the picture goes to the screen as it is, without any arithmetic. */
export function setLook(changes: Partial<typeof look>): void {
  Object.assign(look, changes);
  const variables = { ...look, white: Math.max(look.white, look.black + 0.01) };
  const neutral = !look.black && [look.white, look.gamma, look.red, look.green, look.blue].every((one) => one === 1);
  if (changedLook && !neutral) picture.updateStyleVariables(variables);
  else picture.setStyle(neutral ? {} : ({ variables, ...STYLE } as never));
  changedLook = !neutral;
}

function resolutions(depth: number): number[] {
  return Array.from({ length: depth + 1 }, (_, k) => 2 ** (depth - k));
}

function show(details: Details): void {
  const extent = [0, -details.height, details.width, 0];
  projection.setExtent(extent);
  const grid = new TileGrid({ extent, origin: [0, 0], resolutions: resolutions(details.depth), tileSize: TILE });
  picture.setExtent(extent);
  picture.setSource(
    new TileImage({
      projection,
      tileGrid: grid,
      transition: 0,
      wrapX: false,
      tileUrlFunction: ([z, x, y]) => `/api/images/${details.key}/tiles/${details.depth - z}/${x}/${y}`,
      // The layer takes image tiles too, which its type does not say.
    }) as never,
  );
  const size = Math.max(details.width, details.height);
  map.setView(
    new View({
      projection,
      extent: [-size / 2, -details.height - size / 2, details.width + size / 2, size / 2],
      constrainOnlyCenter: true,
      showFullExtent: true,
      minResolution: 1 / 16,
      maxResolution: Math.max(1, (2 * size) / 400),
      constrainResolution: false,
      center: [details.width / 2, -details.height / 2],
      resolution: 1,
    }),
  );
  fit(0);
}

/** The whole image. */
export function fit(duration = 200): void {
  if (!store.image) return;
  const { width, height } = store.image;
  map.updateSize();
  map.getView().fit([0, -height, width, 0], { padding: [64, 24, 24, 84], duration });
}

export function zoomBy(factor: number): void {
  map.getView().animate({ resolution: map.getView().getResolution()! / factor, duration: 120 });
}

export function panBy(x: number, y: number): void {
  const view = map.getView();
  const [a, b] = view.getCenter()!;
  const step = view.getResolution()! * 120;
  view.animate({ center: [a + x * step, b - y * step], duration: 100 });
}

/** Show a box of the image in the middle, nearer if it is very small on the screen. */
export function goTo(box: Box): void {
  const view = map.getView();
  const size = Math.max(box[2] - box[0], box[3] - box[1], 8);
  const resolution = Math.min(view.getResolution()!, (size * 12) / 600);
  view.animate({ center: [(box[0] + box[2]) / 2, -(box[1] + box[3]) / 2], resolution, duration: 200 });
}

/** What is in view, in pixels of the image. */
export function inView(): Box {
  const [x0, y0, x1, y1] = map.getView().calculateExtent(map.getSize());
  return [x0, -y1, x1, -y0];
}

store.on("image", (details) => details && show(details));
