// The trainings: how each stands, its loss, what it draws meanwhile, and what one may do about it.

import { drawCurve } from "/page/curve.js";
import { duration, number, say, sayAttribute } from "/page/language.js";
import { showProblem } from "/page/problems.js";
import { ask, listen, release, show } from "/page/service.js";

const LIVE = new Set(["queued", "preparing", "running", "evaluating"]);
const byId = (id) => document.getElementById(id);
const list = byId("runs");
let use = () => {};
let published = async () => {};

/** `onUse(training)` for "make a picture with it", `onModel()` once a new model is there. */
export function startRuns(onUse, onModel) {
  use = onUse;
  published = onModel;
}

/** All trainings, anew; those that run are listened to. */
export async function loadRuns() {
  const { trainings } = await ask("GET", "/trainings");
  for (const card of list.children) card.dispatchEvent(new CustomEvent("gone"));
  release(list);
  const runs = trainings.map(runOf);
  list.replaceChildren(...runs.map((run) => run.card));
  byId("runs-empty").hidden = trainings.length > 0;
  runs.filter((run) => run.live).reverse().forEach(queue);
  showEnded(runs.filter((run) => !run.live));
}

/** One that was just started, before all others. */
export function addRun(training) {
  const run = runOf(training);
  list.prepend(run.card);
  byId("runs-empty").hidden = true;
  queue(run);
}

let waiting = Promise.resolve();

/** One stream at a time, as they run one at a time: browsers hold six connections at most. */
function queue(run) {
  waiting = waiting.then(() => follow(run));
}

async function showEnded(runs) {
  for (const run of runs) await follow(run);
}

function runOf(training) {
  const card = document.createElement("article");
  card.className = "run";
  card.dataset.training = training.id;
  const title = document.createElement("h3");
  title.textContent = training.name;
  title.id = `run-${training.id}`;
  card.setAttribute("aria-labelledby", title.id);
  const make = (tag, name) => Object.assign(document.createElement(tag), { className: name });
  const run = {
    training,
    live: LIVE.has(training.state),
    points: [],
    card,
    state: make("p", "state"),
    left: make("p", "state"),
    why: make("p", "why"),
    bar: sayAttribute(document.createElement("progress"), "label", "run.progress", training),
    curve: make("figure", "curve"),
    svg: document.createElementNS("http://www.w3.org/2000/svg", "svg"),
    caption: document.createElement("figcaption"),
    samples: make("div", "samples"),
    actions: make("div", "actions"),
    hearing: new AbortController(),
  };
  run.curve.append(run.svg, run.caption);
  run.curve.hidden = true;
  card.append(title, run.state, run.bar, run.left, run.why, run.actions, run.curve, run.samples);
  card.addEventListener("gone", () => run.hearing.abort());
  for (const sample of training.samples) addSample(run, sample);
  render(run);
  return run;
}

/** Listens up to the end of the training, and asks what it left. */
async function follow(run) {
  const path = `/trainings/${run.training.id}`;
  const { signal } = run.hearing;
  try {
    await listen(`${path}/events`, (name, data) => hear(run, name, data), signal);
    if (signal.aborted) return;
    const training = await ask("GET", path);
    if (run.live && training.state === "succeeded") await published(); // before it is offered
    run.training = training;
    render(run);
    if (run.live) say(byId("runs-status"), `run.${training.state}`, training);
  } catch (error) {
    if (!signal.aborted) showProblem(byId("teach-problem"), error);
  }
}

/** What one that has ended tells again gives its curve only. */
function hear(run, name, data) {
  const { training } = run;
  if (name === "step" && typeof data.loss === "number") run.points.push([data.step, data.loss]);
  if (!run.live) return;
  if (name === "step") Object.assign(training, data);
  else if (name === "estimate") training.estimate = data;
  else if (name === "sample") addSample(run, data);
  else if (LIVE.has(name) && training.state !== name) {
    training.state = name;
    say(byId("runs-status"), `run.${name}`, training);
  }
  run.frame ??= requestAnimationFrame(() => {
    run.frame = null;
    if (LIVE.has(training.state)) render(run);
  });
}

/** A grid that was drawn on its way, the newest first. */
function addSample(run, { step, url }) {
  if (run.samples.querySelector(`[data-step="${step}"]`)) return;
  const item = document.createElement("div");
  item.dataset.step = step;
  const image = sayAttribute(document.createElement("img"), "alt", "run.sample", { step });
  item.append(image, say(document.createElement("p"), "run.sample", { step }));
  run.samples.prepend(item);
  show(image, url).catch(() => item.remove());
}

function render(run) {
  const { training } = run;
  const { state } = training;
  say(run.state, `run.${state}`, training);
  run.left.hidden = !LIVE.has(state);
  if (state === "running" && training.seconds_left) {
    say(run.left, "run.left", { time: duration(training.seconds_left) });
  } else if (training.estimate?.fits) {
    const { seconds, memory } = training.estimate;
    say(run.left, "run.estimate", { time: duration(seconds), memory: number(memory / 1e6, 0) });
  } else if (training.estimate) say(run.left, "run.fits.not");
  run.bar.hidden = !LIVE.has(state);
  if (state === "running" && training.steps) run.bar.value = training.step / training.steps;
  else run.bar.removeAttribute("value");
  run.why.hidden = !training.error;
  run.why.textContent = training.error?.message ?? "";
  run.curve.hidden = run.points.length < 2;
  if (!run.curve.hidden) {
    const [low, high] = drawCurve(run.svg, run.points, training.steps);
    const loss = say(document.createElement("span"), "run.loss.now", {
      loss: number(run.points.at(-1)[1], 3),
    });
    const range = { low: number(low, 3), high: number(high, 3) };
    run.caption.replaceChildren(loss, say(document.createElement("span"), "run.loss.range", range));
  }
  offer(run);
}

/** The buttons that make sense in its state; those that stay keep the focus. */
function offer(run) {
  const { training } = run;
  const offers = {
    "run.cancel": LIVE.has(training.state) && (() => cancel(run)),
    "run.resume": ["failed", "cancelled"].includes(training.state) && (() => goOn(run)),
    "run.use": training.state === "succeeded" && (() => use(training)),
    "run.remove": !LIVE.has(training.state) && ((button) => remove(run, button)),
  };
  for (const [key, act] of Object.entries(offers)) {
    const there = run.actions.querySelector(`[data-offer="${key}"]`);
    if (!act) there?.remove();
    else if (!there) {
      const button = say(document.createElement("button"), key, training);
      button.type = "button";
      button.dataset.offer = key;
      button.className = { "run.use": "main", "run.remove": "danger" }[key] ?? "";
      button.addEventListener("click", async () => {
        try {
          await act(button);
        } catch (error) {
          showProblem(byId("teach-problem"), error);
        }
      });
      run.actions.append(button);
    }
  }
}

async function cancel(run) {
  const training = await ask("POST", `/trainings/${run.training.id}/cancel`);
  if (LIVE.has(training.state)) return; // it ends after its step: the stream says so
  run.training = training;
  render(run);
}

async function goOn(run) {
  const training = await ask("POST", `/trainings/${run.training.id}/resume`);
  run.card.dispatchEvent(new CustomEvent("gone"));
  release(run.card);
  const next = runOf(training);
  run.card.replaceWith(next.card);
  queue(next);
}

/** Asks once more; the training goes with its photos and samples, its model stays. */
async function remove(run, button) {
  if (button.dataset.t !== "run.remove.sure") {
    say(button, "run.remove.sure", run.training);
    return;
  }
  await ask("DELETE", `/trainings/${run.training.id}`);
  run.card.dispatchEvent(new CustomEvent("gone"));
  release(run.card);
  run.card.remove();
  byId("runs-empty").hidden = list.children.length > 0;
  say(byId("runs-status"), "run.removed", run.training);
  byId("runs-title").focus();
}
