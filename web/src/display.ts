/** How picture and outlines look. */
import { button, h, slider } from "./dom";
import { drawn, setDrawn } from "./outlines";
import { store } from "./store";
import { T } from "./texts";
import { look, setLook } from "./view";

const COLOURS = ["plain", "score", "area", "kind"] as const;

export function makeDisplay(): HTMLElement {
  const box = h("section", { id: "display" });
  const show = () => box.replaceChildren(...parts());
  const reset = () => {
    setLook({ black: 0, white: 1, gamma: 1, red: 1, green: 1, blue: 1 });
    setDrawn({ opacity: 1, width: 1.6, fill: 0, colour: store.classes.size ? 3 : 0 });
    show();
  };
  function parts(): HTMLElement[] {
    const colour = h("select", { id: "colour" }, ...COLOURS.map((name, k) => h("option", { value: String(k) }, T.display.colours[name])));
    colour.value = String(drawn.colour);
    colour.onchange = () => setDrawn({ colour: Number(colour.value) });
    return [
      h("h3", {}, T.display.picture),
      slider(T.display.black, 0, 255, 1, look.black * 255, (value) => setLook({ black: value / 255 }), "black"),
      slider(T.display.white, 0, 255, 1, look.white * 255, (value) => setLook({ white: value / 255 }), "white"),
      slider(T.display.gamma, 0.2, 4, 0.05, look.gamma, (value) => setLook({ gamma: value }), "gamma"),
      ...(["red", "green", "blue"] as const).map((name) => slider(T.display[name], 0, 2, 0.05, look[name], (value) => setLook({ [name]: value }), name)),
      h("h3", {}, T.display.outlines),
      h("label", { class: "field" }, T.display.colour, colour),
      slider(T.display.opacity, 0, 1, 0.05, drawn.opacity, (value) => setDrawn({ opacity: value }), "opacity"),
      slider(T.display.width, 0.5, 5, 0.1, drawn.width, (value) => setDrawn({ width: value }), "width"),
      slider(T.display.fill, 0, 0.8, 0.05, drawn.fill, (value) => setDrawn({ fill: value }), "fill"),
      button(T.display.reset, reset),
    ];
  }
  // The first classes bring their colours with them.
  store.on("classes", show);
  show();
  return box;
}
