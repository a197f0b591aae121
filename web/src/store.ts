/** What the page knows: the images, the jobs, the image that is shown and its nuclei; who listens is told of changes. */
import { type Box, type Changed, type ClassRow, type Columns, type Details, type ImageRow, type Job, type Row, get } from "./api";

type Events = {
  images: [];
  jobs: [Job | null];
  image: [Details | null];
  nuclei: [Changed | null];
  selection: [];
  tool: [];
  history: [];
  classes: [];
  filter: [];
};

export type Tool = "select" | "draw" | "box" | "point" | "split" | "brush" | "erase" | "region";

class Store {
  images = new Map<string, ImageRow>();
  jobs = new Map<number, Job>();
  model = "";
  models: string[] = [];
  uploadLimit = 0;
  image: Details | null = null;
  rows = new Map<number, Row>();
  selection = new Set<number>();
  /** By their numbers, with 0 for what has none; empty where there are no classes. */
  classes = new Map<number, ClassRow>();
  /** Numbers of the classes that are not shown. */
  hidden = new Set<number>();
  tool: Tool = "select";
  brush = 8;
  /** The image that was asked for last: an earlier one that comes later is not shown. */
  private wanted = "";
  private listeners: { [K in keyof Events]?: ((...data: Events[K]) => void)[] } = {};

  on<K extends keyof Events>(event: K, listener: (...data: Events[K]) => void): void {
    const list = (this.listeners[event] ??= []) as ((...data: Events[K]) => void)[];
    list.push(listener);
  }

  tell<K extends keyof Events>(event: K, ...data: Events[K]): void {
    for (const listener of this.listeners[event] ?? []) listener(...data);
  }

  /** Show an image. */
  async open(key: string): Promise<void> {
    this.wanted = key;
    // The details first: they say whether the corrections belong to this image.
    const details = await get<Details>(`/api/images/${key}`);
    const columns = await get<Columns>(`/api/images/${key}/nuclei`);
    if (this.wanted !== key) return;
    this.image = { ...details, version: columns.version };
    this.setRows(columns);
    this.selection.clear();
    this.tell("image", this.image);
    this.tell("nuclei", null);
    this.tell("selection");
    this.tell("history");
  }

  /** Ask for all nuclei of the image anew. */
  async reload(): Promise<void> {
    if (!this.image) return;
    const key = this.image.key;
    const [details, columns] = await Promise.all([get<Details>(`/api/images/${key}`), get<Columns>(`/api/images/${key}/nuclei`)]);
    if (this.image?.key !== key) return;
    Object.assign(this.image, details, { version: columns.version });
    this.setRows(columns);
    for (const id of this.selection) if (!this.rows.has(id)) this.selection.delete(id);
    this.tell("nuclei", null);
    this.tell("selection");
    this.tell("history");
  }

  /** Take over what an edit changed. */
  async take(changed: Changed): Promise<void> {
    if (!this.image) return;
    if (changed.all) return this.reload();
    Object.assign(this.image, { version: changed.version, count: changed.count, undo: changed.undo, redo: changed.redo });
    this.image.reviewed = changed.reviewed as Box[];
    for (const id of changed.gone) {
      this.rows.delete(id);
      this.selection.delete(id);
    }
    for (const row of changed.rows) this.rows.set(row.id, row);
    this.tell("nuclei", changed);
    this.tell("selection");
    this.tell("history");
  }

  select(ids: Iterable<number>): void {
    this.selection = new Set(ids);
    this.tell("selection");
  }

  setClasses(rows: ClassRow[]): void {
    this.classes = new Map(rows.map((row) => [row.kind, row]));
    for (const kind of this.hidden) if (!this.classes.has(kind)) this.hidden.delete(kind);
    this.tell("classes");
  }

  nameOf(kind: number): string {
    return this.classes.get(kind)?.name ?? String(kind);
  }

  hide(kind: number, on: boolean): void {
    if (on) this.hidden.add(kind);
    else this.hidden.delete(kind);
    this.select([...this.selection].filter((id) => !this.hidden.has(this.rows.get(id)?.kind ?? 0)));
    this.tell("filter");
  }

  /** The nuclei of the classes that are shown. */
  get shown(): Row[] {
    const all = [...this.rows.values()];
    return this.hidden.size ? all.filter((row) => !this.hidden.has(row.kind)) : all;
  }

  use(tool: Tool): void {
    this.tool = tool;
    this.tell("tool");
  }

  private setRows(columns: Columns): void {
    this.rows = new Map();
    columns.id.forEach((id, k) => {
      this.rows.set(id, {
        id,
        x0: columns.x0[k],
        y0: columns.y0[k],
        x1: columns.x1[k],
        y1: columns.y1[k],
        area: columns.area[k],
        score: columns.score[k],
        kind: columns.kind[k],
        by_hand: columns.by_hand[k],
      });
    });
  }
}

export const store = new Store();
