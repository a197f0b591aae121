/** The reviewed regions, framed. */
import Feature from "ol/Feature";
import { fromExtent } from "ol/geom/Polygon";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { store } from "./store";
import { map } from "./view";

const source = new VectorSource({ wrapX: false });
const layer = new VectorLayer({ source, visible: false, style: new Style({ stroke: new Stroke({ color: "#2fbf71", width: 2, lineDash: [10, 6] }) }) });
map.addLayer(layer);

store.on("history", () => {
  source.clear();
  layer.setVisible(Boolean(store.image?.reviewed.length));
  source.addFeatures((store.image?.reviewed ?? []).map(([x0, y0, x1, y1]) => new Feature(fromExtent([x0, -y1, x1, -y0]))));
});
