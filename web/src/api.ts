/** The server's interface, as `maskseg/serve/forms.py` describes it. */
import { T } from "./texts";

export interface Row {
  id: number;
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  area: number;
  score: number;
  kind: number;
  by_hand: number;
}

export type Box = [number, number, number, number];
export type Points = [number, number][];

export interface ClassRow {
  kind: number;
  name: string;
  colour: string;
}

export interface ImageRow {
  key: string;
  name: string;
  path: string;
  fault: string;
  predicted: boolean;
  nuclei: number;
  reviewed: boolean;
  doubt: number | null;
}

export interface Details {
  key: string;
  name: string;
  width: number;
  height: number;
  depth: number;
  version: number;
  count: number;
  undo: string;
  redo: string;
  reviewed: Box[];
  notice: string;
}

export interface Changed {
  version: number;
  count: number;
  undo: string;
  redo: string;
  all: boolean;
  rows: Row[];
  rings: Record<string, Points[]>;
  gone: number[];
  reviewed: Box[];
}

export interface Training {
  folder: string;
  model: string;
  train: number;
  held: number;
  nuclei: number;
  losses: [number, number][];
  before?: number;
  after?: number;
  images?: string[];
  unscored?: string;
  decision?: string;
}

export interface Job {
  id: number;
  kind: "predict" | "train";
  given: { images?: string[]; iterations?: number; model: string };
  state: "waiting" | "running" | "done" | "failed" | "cancelled";
  done: number;
  words: string;
  result: Partial<Training> & { images?: string[]; left_out?: Record<string, string> };
}

export interface Status {
  version: string;
  model: string;
  models: string[];
  images: ImageRow[];
  jobs: Job[];
  upload_limit: number;
  classes: ClassRow[];
}

export type Columns = { version: number } & Record<keyof Row, number[]>;

export type Edit =
  | { op: "add"; ring: Points }
  | { op: "add-box"; box: Box }
  | { op: "add-point"; point: [number, number] }
  | { op: "delete" | "merge" | "smooth"; ids: number[] }
  | { op: "split"; line: Points; ids: number[] }
  | { op: "brush"; points: Points; radius: number; id: number | null }
  | { op: "erase"; points: Points; radius: number; ids: number[] }
  | { op: "classify"; ids: number[]; kind: number };

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text);
  }
}

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, T.lost);
  }
  if (response.ok) return response;
  let text = `${response.status} ${response.statusText}`;
  try {
    text = String((await response.json()).detail);
  } catch {
    // Not the server's own words.
  }
  throw new Refused(response.status, response.status === 401 ? T.locked : text);
}

export async function get<R>(path: string): Promise<R> {
  return (await ask(path)).json();
}

export async function bytes(path: string): Promise<ArrayBuffer> {
  return (await ask(path)).arrayBuffer();
}

export async function send<R>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<R> {
  const headers = { "content-type": "application/json" };
  return (await ask(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })).json();
}

/** Upload a file; `fetch` does not tell how far it is. */
export function upload(name: string, file: File, progress: (share: number) => void): Promise<ImageRow> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/upload/${name.split("/").map(encodeURIComponent).join("/")}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () =>
      request.status < 300 ? resolve(request.response) : reject(new Refused(request.status, String(request.response?.detail ?? request.statusText)));
    request.onerror = () => reject(new Refused(0, T.lost));
    request.send(file);
  });
}
