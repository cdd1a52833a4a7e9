// Comparing: one or two settings take several values, each pair of them is drawn, all on one sheet.

import { loadAlbum } from "/page/album.js";
import { say, sayAttribute, t } from "/page/language.js";
import { allModels } from "/page/models.js";
import { clearProblem, showProblem } from "/page/problems.js";
import { Refusal, ask, listen, release, show } from "/page/service.js";

const RUNNING = "dogbooth.grid";
const NUMBERS = new Set(["steps", "guidance_scale", "seed"]);
const SETTINGS = ["steps", "guidance_scale", "scheduler", "seed", "model", "prompt"];
const byId = (id) => document.getElementById(id);
const form = byId("grid-form");
const problem = byId("grid-problem");
const status = byId("grid-status");
const progress = byId("grid-progress");
const sheet = byId("sheet");
let running = null;

/** What stands in the field of an axis until something else is written. */
const offered = {
  steps: () => "5, 10, 25",
  guidance_scale: () => "1, 4, 7",
  scheduler: () => "ddim, euler",
  seed: () => "1, 2, 3",
  model: () => allModels().slice(0, 3).map(({ name }) => name).join(", "),
  prompt: () => `${t("grid.prompt.one")}\n${t("grid.prompt.two")}`,
  "": () => "",
};

export function startGrids() {
  for (const axis of ["x", "y"]) {
    const select = byId(`${axis}-name`);
    select.append(...SETTINGS.map((name) => optionOf(name, `field.${name}`)));
    select.addEventListener("change", () => offer(axis));
  }
  byId("y-name").prepend(optionOf("", "grid.none"));
  byId("y-name").value = "scheduler";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  byId("grid-cancel").addEventListener("click", cancel);
}

/** What the service has; goes on with what this tab was drawing before it was loaded anew. */
export function loadGrids() {
  const own = optionOf("", "grid.model.default");
  form.elements.model.replaceChildren(own, ...allModels().map(({ name }) => new Option(name, name)));
  for (const axis of ["x", "y"]) if (!form.elements[axis].value) offer(axis);
  const id = sessionStorage.getItem(RUNNING);
  if (id && !running) watch(id);
}

function optionOf(value, key) {
  return Object.assign(say(document.createElement("option"), key), { value });
}

function offer(axis) {
  const name = byId(`${axis}-name`).value;
  form.elements[axis].value = offered[name]();
  byId(`${axis}-values`).hidden = !name;
  say(byId(`${axis}-hint`), name === "prompt" ? "grid.values.lines" : "grid.values.commas");
}

/** {name, values}; what should be a number and is none goes as it is: the service says so. */
function axisOf(axis) {
  const name = byId(`${axis}-name`).value;
  if (!name) return undefined;
  const parts = form.elements[axis].value.split(name === "prompt" ? "\n" : /[\n,;]/);
  const values = parts.map((part) => part.trim()).filter(Boolean);
  const numberOf = (text) => (Number.isNaN(Number(text)) ? text : Number(text));
  return { name, values: NUMBERS.has(name) ? values.map(numberOf) : values };
}

async function draw() {
  if (running) return;
  clearProblem(problem, form);
  const { prompt, model, seed } = form.elements;
  const body = { prompt: prompt.value, x: axisOf("x"), y: axisOf("y") };
  if (model.value) body.model = model.value;
  if (seed.value !== "") body.seed = Number(seed.value);
  try {
    const { id } = await ask("POST", "/grids", body);
    await watch(id);
  } catch (error) {
    showProblem(problem, error, form);
  }
}

/** Shows the grid up to its end. */
async function watch(id) {
  running = { id, said: 0 };
  sessionStorage.setItem(RUNNING, id);
  byId("sheet-empty").hidden = true;
  sheet.hidden = true;
  busy(true);
  try {
    await listen(`/grids/${id}/events`, hear);
  } catch (error) {
    status.textContent = "";
    if (error.status !== 404) showProblem(problem, error, form); // a restart forgets grids
  } finally {
    running = null;
    sessionStorage.removeItem(RUNNING);
    busy(false);
    byId("sheet-empty").hidden = !sheet.hidden;
  }
}

/** A screen reader hears of every quarter, not of every picture. */
function hear(name, data) {
  if (name === "cell") {
    byId("grid-bar").value = data.finished / data.cells;
    say(byId("grid-text"), "grid.cell", data);
    const quarter = Math.floor((4 * data.finished) / data.cells);
    if (quarter > running.said) say(status, "grid.cell", data);
    running.said = quarter;
  } else if (name === "finished") {
    finish(running.id, data.url).catch((error) => showProblem(problem, error));
  } else if (name === "failed") {
    showProblem(problem, new Refusal(500, data.code, data.message), form);
  } else if (name === "cancelled") {
    say(status, "grid.cancelled");
  }
}

async function finish(id, url) {
  sheet.hidden = false;
  release(sheet);
  const [{ columns, rows, cells }, place] = await Promise.all([
    ask("GET", `/grids/${id}`),
    show(byId("sheet-image"), url),
  ]);
  const fill = { columns: columns.join(", "), rows: rows.join(", ") };
  sayAttribute(byId("sheet-image"), "alt", rows.length ? "grid.alt" : "grid.alt.row", fill);
  byId("sheet-save").href = place;
  say(status, "grid.finished", { cells });
  await loadAlbum();
}

function busy(on) {
  const [start, stop] = [byId("grid-button"), byId("grid-cancel")];
  const focused = document.activeElement;
  progress.hidden = !on;
  stop.hidden = !on;
  if (on && focused === start) stop.focus();
  start.disabled = on;
  if (!on && (focused === stop || focused === document.body)) start.focus({ preventScroll: true });
  if (!on) return;
  byId("grid-bar").removeAttribute("value");
  say(byId("grid-text"), "grid.started");
  say(status, "grid.started");
}

async function cancel() {
  if (!running) return;
  try {
    await ask("DELETE", `/grids/${running.id}`);
  } catch (error) {
    showProblem(problem, error);
  }
}
