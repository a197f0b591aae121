/** What a person does to nuclei, sent to the server one after the other; what it changed is shown. */
import { type Box, type Changed, type Edit, Refused, send } from "./api";
import { say } from "./dom";
import { store } from "./store";
import { T } from "./texts";

/** Edits go out in the order in which they were made. */
let queue: Promise<unknown> = Promise.resolve();

function inTurn(path: string, body?: (version: number | null) => unknown): Promise<Changed | null> {
  const key = store.image!.key;
  const next = queue.then(async () => {
    try {
      const version = store.image?.key === key ? store.image.version : null;
      const changed = await send<Changed>("POST", `/api/images/${key}/${path}`, body?.(version));
      // Another image may be shown by now.
      if (store.image?.key === key) await store.take(changed);
      return changed;
    } catch (error) {
      say(String((error as Error).message), true);
      if (error instanceof Refused && error.status === 409) await store.reload();
      return null;
    }
  });
  queue = next;
  return next;
}

/** Change nuclei; those that are new are selected. */
export async function edit(one: Edit): Promise<void> {
  if (!store.image) return;
  const slow = one.op === "add-box" || one.op === "add-point";
  if (slow) say(T.thinking);
  const changed = await inTurn("edits", (version) => ({ edit: one, version }));
  if (!changed) return;
  say("");
  if (one.op !== "classify" && one.op !== "erase" && changed.rows.length) store.select(changed.rows.map((row) => row.id));
}

export async function undo(): Promise<void> {
  if (store.image?.undo) await inTurn("undo");
}

export async function redo(): Promise<void> {
  if (store.image?.redo) await inTurn("redo");
}

export async function review(box: Box | null, on: boolean): Promise<void> {
  if (!store.image) return;
  const whole = box && box.map((value) => Math.round(value));
  await inTurn("review", () => ({ box: whole, on }));
}

export const isReviewed = (): boolean => Boolean(store.image?.reviewed.length);

export async function toggleReviewed(): Promise<void> {
  await review(null, !isReviewed());
}

function withSelected(least: number, words: string, make: (ids: number[]) => Edit): void {
  if (store.selection.size < least) say(words, true);
  else void edit(make([...store.selection]));
}

export const remove = (): void => withSelected(1, T.nothingSelected, (ids) => ({ op: "delete", ids }));
export const merge = (): void => withSelected(2, T.selectTwo, (ids) => ({ op: "merge", ids }));
export const smooth = (): void => withSelected(1, T.nothingSelected, (ids) => ({ op: "smooth", ids }));
export const classify = (kind: number): void => withSelected(1, T.nothingSelected, (ids) => ({ op: "classify", ids, kind }));
