/** Long work: a bar each, with cancel. */
import { type Job, send } from "./api";
import { button, h, say } from "./dom";
import { store } from "./store";
import { T } from "./texts";

export function makeJobs(): HTMLElement {
  const box = h("div", { id: "jobs", role: "status" });
  const show = () => box.replaceChildren(...[...store.jobs.values()].filter((job) => job.state === "waiting" || job.state === "running").map(line));
  store.on("jobs", (job) => {
    show();
    if (job) told(job);
  });
  return box;
}

const said = new Set<string>();

function told(job: Job): void {
  const name = `${job.id} ${job.state}`;
  if (said.has(name)) return;
  said.add(name);
  const title = job.kind === "predict" ? T.jobs.predict(job.given.images?.length ?? 1) : T.jobs.train;
  if (job.state === "failed") say(`${title}: ${job.words}`, true);
  if (job.state === "cancelled") say(`${title}: ${T.jobs.cancelled}`);
  const out = Object.values(job.result.left_out ?? {});
  if (job.state === "done" && out.length) say(`${T.jobs.leftOut(out.length)}: ${out[0]}`, true);
}

function line(job: Job): HTMLElement {
  const title = job.kind === "predict" ? T.jobs.predict(job.given.images?.length ?? 1) : T.jobs.train;
  return h(
    "div",
    { class: "job", "data-job": String(job.id) },
    h("span", {}, title, h("small", {}, job.state === "waiting" ? T.jobs.waiting : job.words)),
    h("progress", { max: 1, value: job.done }),
    button(T.actions.cancel, () => void send("DELETE", `/api/jobs/${job.id}`).catch((error: Error) => say(error.message, true))),
  );
}
