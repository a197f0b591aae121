/** The page put together, and the server's events. */
import "ol/ol.css";
import "./style.css";
import "./theme";
import { type ClassRow, type Job, type Status, get } from "./api";
import { makeClasses } from "./classes";
import { makeDisplay } from "./display";
import { button, h, say } from "./dom";
import { makeHistogram } from "./histogram";
import { listenForDrops, makeImages, open, predict, refresh } from "./images";
import { makeJobs } from "./jobs";
import { showHelp } from "./keys";
import { makeLearn } from "./learn";
import "./reviewed";
import { store } from "./store";
import { makeTable } from "./table";
import { T } from "./texts";
import { toggleTheme } from "./theme";
import { iconButton, makeBar, makeToolbar, makeZoom } from "./toolbar";
import "./tools";
import { map } from "./view";

function downloads(): HTMLElement {
  const choice = h("select", { id: "download", "aria-label": T.download }, h("option", { value: "" }, T.download), ...Object.entries(T.downloads).map(([form, text]) => h("option", { value: form }, text)));
  choice.onchange = () => {
    if (store.image && choice.value) h("a", { href: `/api/images/${store.image.key}/download/${choice.value}`, download: "" }).click();
    choice.value = "";
  };
  store.on("image", () => (choice.disabled = !store.image));
  choice.disabled = true;
  return choice;
}

function nucleiPanel(): HTMLElement {
  const count = h("b", { id: "count" });
  const one = button(T.predictOne, () => store.image && void predict([store.image.key]), { id: "predict" });
  const show = () => {
    count.textContent = !store.image ? "" : store.hidden.size ? T.nucleiShown(store.shown.length, store.rows.size) : T.nucleiCount(store.rows.size);
    one.disabled = !store.image;
  };
  store.on("nuclei", show);
  store.on("filter", show);
  show();
  return h("section", { id: "nuclei" }, h("header", {}, count, one, downloads()), makeHistogram(), makeClasses(), makeTable());
}

/** The panel at the right: one of its parts at a time. */
function panel(): HTMLElement {
  const parts = { nuclei: nucleiPanel(), display: makeDisplay(), learn: makeLearn() };
  const names = Object.keys(parts) as (keyof typeof parts)[];
  const tabs = names.map((name) => h("button", { type: "button", role: "tab", "data-tab": name, onclick: () => turn(name) }, T.tabs[name]));
  const turn = (name: string) => {
    names.forEach((one, k) => {
      parts[one].hidden = one !== name;
      tabs[k].setAttribute("aria-selected", String(one === name));
    });
  };
  turn("nuclei");
  return h("aside", { id: "panel" }, h("div", { role: "tablist" }, ...tabs), ...Object.values(parts));
}

function layOut(): void {
  const target = h("div", { id: "map", tabIndex: 0 });
  const title = h("span", { id: "name" });
  store.on("image", () => {
    title.textContent = store.image ? `${store.image.name}  ·  ${store.image.width} × ${store.image.height}` : "";
    document.getElementById("view")!.classList.toggle("empty", !store.image);
  });
  const header = h(
    "header",
    { id: "top" },
    h("h1", {}, T.title),
    title,
    makeJobs(),
    h("a", { href: "/api/docs", target: "_blank" }, T.apiPage),
    iconButton("theme", T.actions.theme, toggleTheme, "", { id: "theme" }),
    iconButton("help", T.actions.help, showHelp, "?", { id: "show-help" }),
  );
  const view = h("main", { id: "view", class: "empty" }, target, h("p", { id: "pick" }, T.pickImage), makeToolbar(), makeZoom(), makeBar(), h("p", { id: "dense" }, T.display.density));
  document.body.append(header, makeImages(), view, panel(), h("div", { id: "say", role: "alert", onclick: () => say("") }));
  map.setTarget(target);
  listenForDrops(document.body);
  if (!document.createElement("canvas").getContext("webgl2") && !document.createElement("canvas").getContext("webgl")) say(T.display.noWebGL, true);
}

function takeStatus(status: Status): void {
  store.images = new Map(status.images.map((row) => [row.key, row]));
  store.jobs = new Map(status.jobs.map((job) => [job.id, job]));
  Object.assign(store, { model: status.model, models: status.models, uploadLimit: status.upload_limit });
  store.tell("images");
  store.tell("jobs", null);
  store.setClasses(status.classes);
}

function listen(): void {
  const events = new EventSource("/api/events");
  let lost = false;
  events.onerror = () => {
    if (!lost) say(T.lost, true);
    lost = true;
  };
  events.onopen = async () => {
    if (!lost) return;
    lost = false;
    // What happened meanwhile.
    try {
      takeStatus(await get<Status>("/api/state"));
      await store.reload();
      say(T.back);
    } catch (error) {
      say(String((error as Error).message), true);
    }
  };
  events.addEventListener("job", (event) => {
    const job: Job = JSON.parse(event.data);
    store.jobs.set(job.id, job);
    store.tell("jobs", job);
  });
  events.addEventListener("classes", (event) => store.setClasses(JSON.parse(event.data).classes as ClassRow[]));
  events.addEventListener("images", (event) => void refresh(JSON.parse(event.data).key));
  events.addEventListener("edited", (event) => {
    const { key, version } = JSON.parse(event.data);
    // What this page did itself it knows by the answer, a moment later.
    window.setTimeout(() => {
      if (store.image?.key === key && store.image!.version < version) void store.reload();
    }, 300);
  });
}

async function main(): Promise<void> {
  layOut();
  try {
    takeStatus(await get<Status>("/api/state"));
  } catch (error) {
    say(String((error as Error).message), true);
    return;
  }
  listen();
  const wanted = location.hash.slice(1);
  const first = store.images.has(wanted) ? wanted : [...store.images.values()].find((row) => !row.fault)?.key;
  if (first) await open(first);
}

// What a test and a curious person may look at.
Object.assign(window, { maskseg: { store, map } });
void main();
