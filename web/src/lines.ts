/**
 * Lines of thousands of outlines, drawn by WebGL into the canvas of the picture.
 *
 * OpenLayers' own line shader computes joins, caps and dashes for every pixel, which a computer without a graphics card
 * takes seconds for. Here a segment is a rectangle of one colour, a little longer than it is, so that corners close.
 * Where even that is too slow for the eye, lines are thin while the picture moves.
 */
import type { FrameState } from "ol/Map";
import ViewHint from "ol/ViewHint";
import type Layer from "ol/layer/Layer";
import type RenderEvent from "ol/render/Event";

const VERTEX = `
precision highp float;
attribute vec2 corner;
attribute vec4 ends;
attribute vec4 colour;
uniform vec2 offset;
uniform vec2 pixels;
uniform vec2 size;
uniform float radius;
uniform float reach;
varying vec4 shade;
varying float away;
void main() {
  vec2 a = (ends.xy + offset) * pixels;
  vec2 b = (ends.zw + offset) * pixels;
  vec2 along = b - a;
  float length = max(length(along), 1e-6);
  along /= length;
  away = corner.y * reach;
  vec2 place = mix(a, b, corner.x) + along * (corner.x * 2.0 - 1.0) * radius * 0.5 + vec2(-along.y, along.x) * away;
  gl_Position = vec4(place / size * 2.0, 0.0, 1.0);
  shade = colour;
}`;
const FRAGMENT = `
precision highp float;
varying vec4 shade;
varying float away;
uniform float radius;
uniform float opacity;
void main() {
  float alpha = opacity * clamp(radius + 0.5 - abs(away), 0.0, 1.0);
  gl_FragColor = vec4(shade.rgb * alpha, alpha);
}`;
/** Of a corner: two floats for each end of its segment, a colour of four bytes, and which corner it is, two bytes of four. */
const STRIDE = 24;
/** Milliseconds between two frames beyond which a moving picture is seen to stutter. */
const SLOW = 28;
const CORNERS = [0, -1, 0, 1, 1, -1, 1, 1];

type Outline = { rings: number[][]; colour: [number, number, number] };
/** Segments of a cell of the picture, and what its outlines cover. */
type Part = { begin: number; end: number; x0: number; y0: number; x1: number; y1: number };

interface Program {
  gl: WebGLRenderingContext;
  program: WebGLProgram;
  corners: WebGLBuffer;
  order: WebGLBuffer;
  thin: WebGLBuffer;
  places: { corner: number; ends: number; colour: number };
}

export class Lines {
  visible = true;
  opacity = 1;
  width = 1.6;
  private made: Program | null = null;
  private data = new ArrayBuffer(0);
  private order = new Uint32Array(0);
  private thin = new Uint32Array(0);
  private parts: Part[] = [];
  private fresh = false;
  private moved = 0;
  /** Whether the last frames of a movement came too slowly. */
  private slow = false;
  /** What positions are counted from, so that 32 bits are enough for parts of a pixel of any slide. */
  private base: [number, number] = [0, 0];

  /** Draw after each rendering of a WebGL layer. */
  constructor(layer: Layer) {
    layer.on("postrender" as never, ((event: RenderEvent) => this.draw(event)) as never);
  }

  /**
   * Rings are flat lists x, y, each closed: its last point is its first. They are kept by cells of a side of `cell`, row
   * after row, of which only those in view are drawn.
   */
  set(outlines: Iterable<Outline>, cell: number): void {
    const all = [...outlines].map((one) => ({ ...one, row: Math.floor(one.rings[0][1] / cell), column: Math.floor(one.rings[0][0] / cell) }));
    all.sort((a, b) => a.row - b.row || a.column - b.column);
    let count = 0;
    for (const { rings } of all) for (const ring of rings) count += ring.length / 2 - 1;
    // Four corners each, and not one instance: without a graphics card an instance costs as much as a whole drawing.
    this.data = new ArrayBuffer(count * 4 * STRIDE);
    this.order = new Uint32Array(count * 6);
    this.thin = new Uint32Array(count * 2);
    this.parts = [];
    this.fresh = true;
    this.base = all.length ? [all[0].rings[0][0], all[0].rings[0][1]] : [0, 0];
    let segment = 0;
    let [row, column] = [NaN, NaN];
    for (const one of all) {
      if (one.row !== row || one.column !== column) {
        this.parts.push({ begin: segment, end: 0, x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity });
        [row, column] = [one.row, one.column];
      }
      const part = this.parts[this.parts.length - 1];
      for (const ring of one.rings) segment = this.add(ring, one.colour, segment, part);
      part.end = segment;
    }
  }

  /** The corners of a ring's segments; the number of the next segment. */
  private add(ring: number[], colour: [number, number, number], segment: number, part: Part): number {
    const places = new Float32Array(this.data);
    const small = new Int8Array(this.data);
    const colours = new Uint8Array(this.data);
    const [bx, by] = this.base;
    for (let k = 0; k + 3 < ring.length; k += 2, segment++) {
      const first = segment * 4;
      this.order.set([first, first + 1, first + 2, first + 1, first + 2, first + 3], segment * 6);
      this.thin.set([first, first + 3], segment * 2);
      part.x0 = Math.min(part.x0, ring[k]);
      part.y0 = Math.min(part.y0, ring[k + 1]);
      part.x1 = Math.max(part.x1, ring[k]);
      part.y1 = Math.max(part.y1, ring[k + 1]);
      for (let corner = 0; corner < 4; corner++) {
        const at = (first + corner) * STRIDE;
        const place = at / 4;
        places[place] = ring[k] - bx;
        places[place + 1] = ring[k + 1] - by;
        places[place + 2] = ring[k + 2] - bx;
        places[place + 3] = ring[k + 3] - by;
        colours[at + 16] = colour[0];
        colours[at + 17] = colour[1];
        colours[at + 18] = colour[2];
        colours[at + 19] = 255;
        small[at + 20] = CORNERS[2 * corner];
        small[at + 21] = CORNERS[2 * corner + 1];
      }
    }
    return segment;
  }

  /** Ranges of segments whose outlines are in view; neighbours are one range. */
  private inView(center: number[], width: number, height: number): [number, number][] {
    const ranges: [number, number][] = [];
    for (const { begin, end, x0, y0, x1, y1 } of this.parts) {
      const beside = x1 < center[0] - width || x0 > center[0] + width || y1 < center[1] - height || y0 > center[1] + height;
      if (beside) continue;
      const last = ranges[ranges.length - 1];
      if (last?.[1] === begin) last[1] = end;
      else ranges.push([begin, end]);
    }
    return ranges;
  }

  /** Whether there is no time for lines with a width: a movement under way has stuttered so far. */
  private hurried(frame: FrameState): boolean {
    const moving = frame.viewHints[ViewHint.ANIMATING] > 0 || frame.viewHints[ViewHint.INTERACTING] > 0;
    const since = frame.time - this.moved;
    if (!moving || since > 500) this.slow = false;
    else if (since > SLOW) this.slow = true;
    this.moved = moving ? frame.time : 0;
    return moving && this.slow;
  }

  private draw(event: RenderEvent): void {
    const gl = event.context as unknown as WebGLRenderingContext;
    const frame = event.frameState!;
    if (!this.visible || !this.parts.length) return;
    if (this.made?.gl !== gl) {
      this.made = make(gl);
      this.fresh = true;
    }
    if (!this.made) return;
    const { program, corners, order, thin, places } = this.made;
    const hurried = this.hurried(frame);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.useProgram(program);
    gl.disable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const { center, resolution } = frame.viewState;
    const set = (name: string) => gl.getUniformLocation(program, name);
    gl.uniform2f(set("offset"), this.base[0] - center[0], this.base[1] - center[1]);
    gl.uniform2f(set("pixels"), frame.pixelRatio / resolution, frame.pixelRatio / resolution);
    gl.uniform2f(set("size"), gl.drawingBufferWidth, gl.drawingBufferHeight);
    const radius = (this.width * frame.pixelRatio) / 2;
    gl.uniform1f(set("radius"), radius);
    gl.uniform1f(set("reach"), hurried ? 0 : radius + 0.5);
    gl.uniform1f(set("opacity"), this.opacity);
    gl.bindBuffer(gl.ARRAY_BUFFER, corners);
    if (this.fresh) {
      gl.bufferData(gl.ARRAY_BUFFER, this.data, gl.DYNAMIC_DRAW);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, thin);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.thin, gl.DYNAMIC_DRAW);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, order);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.order, gl.DYNAMIC_DRAW);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, hurried ? thin : order);
    this.fresh = false;
    gl.enableVertexAttribArray(places.ends);
    gl.vertexAttribPointer(places.ends, 4, gl.FLOAT, false, STRIDE, 0);
    gl.enableVertexAttribArray(places.colour);
    gl.vertexAttribPointer(places.colour, 4, gl.UNSIGNED_BYTE, true, STRIDE, 16);
    gl.enableVertexAttribArray(places.corner);
    gl.vertexAttribPointer(places.corner, 2, gl.BYTE, false, STRIDE, 20);
    const half = (resolution / frame.pixelRatio / 2) * 1.05;
    for (const [begin, end] of this.inView(center, gl.drawingBufferWidth * half, gl.drawingBufferHeight * half)) {
      const [kind, each] = hurried ? [gl.LINES, 2] : [gl.TRIANGLES, 6];
      gl.drawElements(kind, (end - begin) * each, gl.UNSIGNED_INT, begin * each * 4);
    }
    // As the layer expects to find them.
    for (const place of Object.values(places)) gl.disableVertexAttribArray(place);
  }
}

function make(gl: WebGLRenderingContext): Program | null {
  if (!gl.getExtension("OES_element_index_uint")) return null;
  const program = gl.createProgram();
  for (const [kind, code] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(kind)!;
    gl.shaderSource(shader, code);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "shader");
  const place = (name: string) => gl.getAttribLocation(program, name);
  return { gl, program, corners: gl.createBuffer(), order: gl.createBuffer(), thin: gl.createBuffer(), places: { corner: place("corner"), ends: place("ends"), colour: place("colour") } };
}
