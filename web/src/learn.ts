/** From corrections to a model: start, watch, compare, keep or throw away. */
import { type Job, type Status, type Training, send } from "./api";
import { button, h, say } from "./dom";
import { store } from "./store";
import { T } from "./texts";

export function makeLearn(): HTMLElement {
  const model = h("select", { "aria-label": T.learn.model, id: "model" });
  model.onchange = () => void use(model.value);
  const iterations = h("input", { type: "number", min: "1", placeholder: T.learn.automatic, id: "iterations" });
  const start = button(T.learn.start, () => void begin(iterations.value), { id: "start-learning", class: "primary" });
  const count = h("p", {});
  const results = h("div", { id: "trainings" });
  const show = () => {
    const names = store.models.map((name) => h("option", { value: name }, short(name)));
    model.replaceChildren(...names);
    model.value = store.model;
    const reviewed = [...store.images.values()].filter((row) => row.reviewed).length;
    count.textContent = T.learn.reviewedImages(reviewed);
    const busy = trainings().some((job) => job.state === "waiting" || job.state === "running");
    start.disabled = !reviewed || busy;
    results.replaceChildren(...trainings().reverse().map(result));
  };
  store.on("images", show);
  store.on("jobs", show);
  show();
  return h(
    "section",
    { id: "learn" },
    h("label", { class: "field" }, T.learn.model, model),
    h("h3", {}, T.learn.title),
    h("p", { class: "explain" }, T.learn.explain),
    count,
    h("label", { class: "field" }, T.learn.iterations, iterations),
    start,
    results,
  );
}

const trainings = (): Job[] => [...store.jobs.values()].filter((job) => job.kind === "train");

/** The name of a bundled model, or the last parts of the path of another. */
const short = (name: string): string => name.split("/").slice(-3).join("/");

async function begin(iterations: string): Promise<void> {
  try {
    const job = await send<Job>("POST", "/api/trainings", { iterations: iterations ? Number(iterations) : null });
    store.jobs.set(job.id, job);
    store.tell("jobs", job);
  } catch (error) {
    say(String((error as Error).message), true);
  }
}

async function use(model: string): Promise<void> {
  try {
    const status = await send<Status>("POST", "/api/model", { model });
    Object.assign(store, { model: status.model, models: status.models });
  } catch (error) {
    say(String((error as Error).message), true);
  }
  store.tell("images");
}

async function decide(job: Job, keep: boolean): Promise<void> {
  try {
    const told = await send<Job>("POST", `/api/jobs/${job.id}/decision`, { keep });
    store.jobs.set(job.id, told);
    if (keep) await use(told.result.model!);
    store.tell("jobs", told);
  } catch (error) {
    say(String((error as Error).message), true);
  }
}

function result(job: Job): HTMLElement | string {
  const training = job.result as Partial<Training>;
  if (job.state === "failed" || job.state === "cancelled") return h("p", { class: "bad" }, `${T.jobs[job.state]} ${job.words}`);
  return h(
    "article",
    { class: "training", "data-state": job.state },
    (training.losses?.length ?? 0) > 1 ? curve(training.losses!) : null,
    job.state === "done" ? scores(job, training) : h("p", {}, `${T.learn.running}: ${job.words}`),
  );
}

function scores(job: Job, training: Partial<Training>): HTMLElement {
  const seen = training.before !== undefined && training.after !== undefined;
  const figure = (name: string, value: number, id: string) => h("div", {}, h("small", {}, name), h("b", { id }, value.toFixed(3)));
  return h(
    "div",
    {},
    h("p", {}, seen ? T.learn.scored(training.held!) : training.unscored ? T.learn.unscored(training.unscored) : T.learn.noneHeld),
    seen ? h("div", { class: "figures" }, figure(T.learn.before, training.before!, "score-before"), figure(T.learn.after, training.after!, "score-after")) : null,
    training.decision
      ? h("p", { id: "decided" }, training.decision === "kept" ? T.learn.kept : T.learn.thrown)
      : h("div", { class: "group" }, button(T.learn.keep, () => void decide(job, true), { id: "keep", class: "primary" }), button(T.learn.discard, () => void decide(job, false), { id: "discard" })),
    seen && training.decision !== "thrown away" ? h("small", {}, T.learn.legend) : null,
    ...(training.decision !== "thrown away" ? (training.images ?? []).slice(0, 6).map((name) => pair(job, name)) : []),
  );
}

function pair(job: Job, name: string): HTMLElement {
  // A click shows it in full size.
  const picture = (which: "before" | "after") => {
    const href = `/api/jobs/${job.id}/compared/${encodeURIComponent(name)}/${which}`;
    const image = h("img", { src: href, alt: `${T.learn[which]}: ${name}`, loading: "lazy" });
    return h("figure", {}, h("a", { href, target: "_blank" }, image), h("figcaption", {}, T.learn[which]));
  };
  return h("div", { class: "pair", title: name }, picture("before"), picture("after"));
}

/** The loss so far, as a line. */
function curve(losses: [number, number][]): HTMLElement {
  const [width, height] = [280, 70];
  const last = Math.max(...losses.map(([iteration]) => iteration), 1);
  const most = Math.max(...losses.map(([, loss]) => loss), 1e-6);
  const points = losses.map(([iteration, loss]) => `${(iteration / last) * width},${height - (loss / most) * (height - 6)}`).join(" ");
  const figure = h("figure", { class: "curve" });
  figure.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img"><polyline points="${points}" fill="none" stroke="currentColor" stroke-width="2"/></svg>`;
  figure.append(h("figcaption", {}, `${T.learn.loss} ${losses[losses.length - 1][1].toFixed(3)}`));
  return figure;
}
