/** The list of images, and files that are dropped on the page. */
import { type ImageRow, type Job, get, send, upload } from "./api";
import { button, h, say } from "./dom";
import { store } from "./store";
import { T } from "./texts";

export function makeImages(): HTMLElement {
  const list = h("div", { id: "image-list", role: "listbox", "aria-label": T.images });
  const files = picker(false);
  const folder = picker(true);
  const show = () => list.replaceChildren(...(store.images.size ? [...store.images.values()].map(line) : [h("p", { class: "empty" }, T.noImages)]));
  // Of a thousand images that are predicted each tells of itself: once a frame is enough.
  let due = 0;
  const soon = () => (due ||= requestAnimationFrame(() => ((due = 0), show())));
  store.on("images", soon);
  store.on("image", soon);
  return h(
    "aside",
    { id: "images" },
    h("header", {}, h("h2", {}, T.images), button(T.openFiles, () => files.click(), { id: "open-files" }), button(T.openFolder, () => folder.click())),
    files,
    folder,
    list,
    h(
      "footer",
      {},
      button(T.predictAll, () => void predict([...store.images.values()].filter((one) => !one.predicted && !one.fault).map((one) => one.key)), { id: "predict-all" }),
      button(T.nextUnsure, () => void nextUnsure(), { id: "next-unsure" }, "N"),
    ),
  );
}

function picker(folder: boolean): HTMLInputElement {
  const input = h("input", { type: "file", multiple: true, hidden: true, id: folder ? "pick-folder" : "pick-files" });
  if (folder) input.setAttribute("webkitdirectory", "");
  input.onchange = () => {
    void take([...(input.files ?? [])].map((file) => [file.webkitRelativePath || file.name, file]));
    input.value = "";
  };
  return input;
}

function line(row: ImageRow): HTMLElement {
  const state = row.fault ? T.fault : row.predicted ? T.nucleiCount(row.nuclei) : T.notYet;
  const marks = [state, row.reviewed ? T.reviewedMark : row.doubt !== null && row.predicted ? T.doubt(row.doubt) : ""].filter(Boolean).join(" · ");
  const picture = h("img", { src: row.fault ? "data:," : `/api/images/${row.key}/thumbnail`, alt: "", loading: "lazy", width: 44, height: 44 });
  // The list then says why it cannot be shown.
  picture.onerror = () => void (row.fault || refresh(row.key));
  return h(
    "button",
    {
      type: "button",
      role: "option",
      class: `image${row.fault ? " fault" : ""}${row.reviewed ? " reviewed" : ""}`,
      "aria-selected": String(store.image?.key === row.key),
      "data-key": row.key,
      title: row.fault || row.path,
      onclick: () => void open(row.key),
    },
    row.fault ? null : picture,
    h("span", {}, h("b", {}, row.name), h("small", {}, marks)),
  );
}

export async function open(key: string): Promise<void> {
  try {
    await store.open(key);
    say(store.image?.notice ?? "", Boolean(store.image?.notice));
    history.replaceState(null, "", `#${key}`);
  } catch (error) {
    say(String((error as Error).message), true);
    await refresh(key);
  }
}

/** One row of the list anew. */
export async function refresh(key: string): Promise<void> {
  try {
    store.images.set(key, await get<ImageRow>(`/api/row/${key}`));
    store.tell("images");
  } catch {
    // The next event tells it again.
  }
}

export async function predict(keys: string[]): Promise<void> {
  if (!keys.length) return;
  try {
    const job = await send<Job>("POST", "/api/predictions", { images: keys });
    store.jobs.set(job.id, job);
    store.tell("jobs", job);
  } catch (error) {
    say(String((error as Error).message), true);
  }
}

/** The image that the model is least sure of, of those that nobody has corrected. */
export async function nextUnsure(): Promise<void> {
  const rows = [...store.images.values()].filter((row) => row.predicted && row.doubt !== null && row.key !== store.image?.key && !row.fault);
  rows.sort((a, b) => b.doubt! - a.doubt!);
  if (rows.length) await open(rows[0].key);
}

// ---- files ----

type Named = [string, File];

/** Send files one after the other, have them predicted, and show the first. */
export async function take(files: Named[]): Promise<void> {
  const keys: string[] = [];
  let others = 0;
  for (const [name, file] of files) {
    if (file.size > store.uploadLimit) {
      say(T.tooLarge(file.name, store.uploadLimit), true);
      continue;
    }
    try {
      const row = await upload(name, file, (share) => say(T.uploading(file.name, share)));
      store.images.set(row.key, row);
      store.tell("images");
      keys.push(row.key);
      if (keys.length === 1) await open(row.key);
    } catch (error) {
      others++;
      say(String((error as Error).message), true);
    }
  }
  if (others > 1) say(T.notAnImage(others), true);
  else if (!others && keys.length) say("");
  await predict(keys);
}

async function filesOf(entry: FileSystemEntry, into: Named[]): Promise<void> {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    into.push([entry.fullPath.replace(/^\//, ""), file]);
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A reader gives a hundred at a time.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await filesOf(one, into);
  }
}

export function listenForDrops(target: HTMLElement): void {
  const hint = h("div", { id: "drop" }, T.dropHere);
  target.append(hint);
  let depth = 0;
  const set = (value: number) => {
    depth = Math.max(0, value);
    hint.classList.toggle("on", depth > 0);
  };
  target.addEventListener("dragenter", () => set(depth + 1));
  target.addEventListener("dragleave", () => set(depth - 1));
  target.addEventListener("dragover", (event) => event.preventDefault());
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    set(0);
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
    const plain = [...(event.dataTransfer?.files ?? [])].map((file): Named => [file.name, file]);
    void (async () => {
      const files: Named[] = [];
      for (const entry of entries) await filesOf(entry, files);
      await take(files.length ? files : plain);
    })();
  });
}
