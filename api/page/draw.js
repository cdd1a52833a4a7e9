// Drawing: the form becomes a generation, its events become progress, previews and pictures.

import { addToAlbum, openerOf } from "/page/album.js";
import { named, setBreedModel, someKnown, startBreeds, withArticle } from "/page/breeds.js";
import { number, say, sayAttribute, t } from "/page/language.js";
import { choose, chosenModel, startModels } from "/page/models.js";
import { clearProblem, reword, showProblem } from "/page/problems.js";
import { Refusal, ask, listen, release } from "/page/service.js";
import { choosePicture, startPicture, startStart } from "/page/start.js";

const RUNNING = "dogbooth.running";
const PREVIEWS = 12;
const SCHEDULERS = [
  "ddim", "ddpm", "pndm", "lms", "euler", "euler_ancestral", "heun", "dpmpp_2m",
  "dpmpp_2m_karras", "dpmpp_sde", "unipc", "lcm", "ddim_trailing",
];
const NUMBERS = ["n", "seed", "steps", "guidance_scale", "width", "height", "upscale"];
const byId = (id) => document.getElementById(id);
const form = byId("draw-form");
const problem = byId("draw-problem");
const prints = byId("prints");
const status = byId("stage-status");
const progress = byId("progress");
let running = null;
let breed = null;

export function startDrawing() {
  const own = say(document.createElement("option"), "scheduler.default");
  own.value = "";
  form.elements.scheduler.append(own, ...SCHEDULERS.map((name) => new Option(name, name)));
  startBreeds(putIntoPrompt);
  startModels(adoptModel);
  startStart();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("cancel-button").addEventListener("click", cancel);
  document.addEventListener("language", suggest);
}

/** Goes on with what this tab was drawing before it was loaded anew. */
export function resumeDrawing() {
  const id = sessionStorage.getItem(RUNNING);
  if (id && !running) watch(id, 1);
}

function adoptModel(model) {
  setBreedModel(model.name);
  const { elements } = form;
  elements.steps.placeholder = model.default_steps;
  elements.guidance_scale.placeholder = number(model.default_guidance_scale);
  for (const side of [elements.width, elements.height]) {
    side.placeholder = model.resolution;
    side.step = model.size_multiple;
  }
  offerUpscale(model.upscale);
  suggest();
}

/** Pictures as drawn, or `most` times wider and higher where the model has a decoder for that. */
function offerUpscale(most) {
  const { upscale } = form.elements;
  const wanted = upscale.value;
  upscale.replaceChildren(new Option("1 ×", ""), ...(most > 1 ? [new Option(`${most} ×`, most)] : []));
  upscale.value = Number(wanted) === most ? wanted : "";
  byId("upscale-field").hidden = most === 1;
}

/** Under the empty stage: things that the chosen model can draw. */
export function suggest() {
  const sentences = someKnown(4).map((known) => t("stage.idea", { a: withArticle(known) }));
  const taught = chosenModel()?.instance_prompts ?? [];
  const ideas = sentences.length ? sentences : taught.slice(0, 4);
  byId("ideas").replaceChildren(
    ...ideas.map((idea) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = idea;
      button.addEventListener("click", () => {
        form.elements.prompt.value = idea;
        form.requestSubmit();
      });
      item.append(button);
      return item;
    }),
  );
}

/** The breed replaces the one picked before; else it is added, or makes a whole sentence. */
function putIntoPrompt(picked) {
  const prompt = form.elements.prompt;
  const before = breed && [breed.name, breed.spanish].find((name) => prompt.value.includes(name));
  if (!prompt.value.trim() || isPlain(prompt.value)) {
    prompt.value = t("stage.idea", { a: withArticle(picked) });
  } else if (before) prompt.value = prompt.value.replace(before, named(picked));
  else prompt.value = `${prompt.value.trim()}, ${withArticle(picked)}`;
  breed = picked;
}

/** Whether it is nothing but the sentence of the breed that was picked before. */
const isPlain = (text) =>
  breed && [`a photo of`, `una foto de`].some((start) => text.startsWith(start)) &&
  [breed.name, breed.spanish].some((name) => text.endsWith(name));

function readForm() {
  const { elements } = form;
  const body = { prompt: elements.prompt.value, model: chosenModel()?.name };
  for (const name of NUMBERS) {
    if (elements[name].value !== "") body[name] = Number(elements[name].value);
  }
  for (const name of ["scheduler", "negative_prompt"]) {
    if (elements[name].value) body[name] = elements[name].value;
  }
  const steps = body.steps ?? chosenModel()?.default_steps ?? 1;
  body.preview_every = Math.min(150, Math.max(1, Math.ceil(steps / PREVIEWS)));
  return startPicture() ? withPicture(body) : body;
}

/** The same as a form, with the picture to start from as its file. */
function withPicture(body) {
  const sent = new FormData();
  for (const [name, value] of Object.entries(body)) if (value !== undefined) sent.append(name, value);
  sent.append("strength", form.elements.strength.value);
  sent.append("init_image", startPicture());
  return sent;
}

async function draw() {
  if (running) return;
  clearProblem(problem, form);
  try {
    const { id } = await ask("POST", "/generations", readForm());
    await watch(id, Number(form.elements.n.value) || 1);
  } catch (error) {
    showProblem(problem, error, form);
  }
}

/** Shows the generation up to its end. */
async function watch(id, count) {
  running = { id, said: 0, frames: [] };
  sessionStorage.setItem(RUNNING, id);
  byId("empty-stage").hidden = true;
  byId("warnings").hidden = true;
  release(prints);
  prints.replaceChildren();
  prints.dataset.count = count;
  for (let index = 0; index < count; index += 1) frame(index);
  busy(true);
  move("stage.started");
  byId("stage").scrollIntoView({ block: "nearest" }); // on a phone it is below the form
  try {
    await listen(`/generations/${id}/events`, hear);
  } catch (error) {
    showProblem(problem, error, form);
    if (error.status === 404) status.textContent = "";
  } finally {
    end();
  }
}

function hear(name, data) {
  if (name === "queued") {
    move(data.position ? "stage.queued" : "stage.next", data);
  } else if (name === "step") {
    move("stage.step", data, data.step / data.steps);
  } else if (name === "preview") {
    frame(data.index).src = data.image;
  } else if (name === "finished") {
    finish(data);
  } else if (name === "failed") {
    showProblem(problem, new Refusal(500, data.code, data.message), form);
  } else if (name === "cancelled") {
    say(status, "stage.cancelled");
  }
}

/** The picture that is being made as the `index`th. */
function frame(index) {
  for (let count = running.frames.length; count <= index; count += 1) {
    const image = document.createElement("img");
    sayAttribute(image, "alt", "stage.preview");
    const print = document.createElement("figure");
    print.className = "print developing";
    print.append(image);
    prints.append(print);
    running.frames.push(image);
  }
  prints.dataset.count = running.frames.length;
  return running.frames[index];
}

/** A screen reader hears of the start and of every quarter, not of every step. */
function move(key, values = {}, share = null) {
  say(byId("progress-text"), key, values);
  const bar = byId("progress-bar");
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
  const quarter = Math.floor((share ?? 0) * 4);
  if (share === null || quarter > running.said) say(status, key, values);
  running.said = quarter;
}

function finish(answer) {
  prints.dataset.count = answer.images.length;
  const created = new Date().toISOString();
  release(prints);
  prints.replaceChildren(
    ...answer.images.map((image) => {
      const figure = document.createElement("figure");
      figure.dataset.image = image.id;
      const caption = document.createElement("figcaption");
      caption.append(say(document.createElement("span"), "stage.seed", { seed: image.seed }));
      if (image.flagged) caption.append(say(document.createElement("strong"), "stage.flagged"));
      figure.append(openerOf({ answer, image, created }), caption);
      return figure;
    }),
  );
  addToAlbum(answer);
  say(status, "stage.finished", { seconds: number(answer.seconds, 1) });
  const warnings = byId("warnings");
  warnings.hidden = !answer.warnings.length;
  warnings.replaceChildren(
    ...answer.warnings.map((warning) => {
      const item = document.createElement("li");
      item.textContent = reword(warning);
      return item;
    }),
  );
}

function end() {
  running = null;
  sessionStorage.removeItem(RUNNING);
  busy(false);
  for (const left of prints.querySelectorAll(".developing")) left.remove();
  byId("empty-stage").hidden = prints.children.length > 0;
}

function busy(on) {
  progress.hidden = !on;
  prints.setAttribute("aria-busy", String(on));
  const [start, stop] = [byId("draw-button"), byId("cancel-button")];
  const focused = document.activeElement;
  stop.hidden = !on;
  if (on && focused === start) stop.focus();
  start.disabled = on;
  if (!on && (focused === stop || focused === document.body)) start.focus({ preventScroll: true });
}

async function cancel() {
  if (!running) return;
  try {
    await ask("DELETE", `/generations/${running.id}`);
  } catch (error) {
    showProblem(problem, error);
  }
}

/** The form as it was for that picture. */
export function fillForm({ answer, image }) {
  const { elements } = form;
  const { parameters } = answer;
  clearProblem(problem, form);
  choose(answer.model);
  choosePicture(null);
  elements.prompt.value = answer.prompt;
  Object.assign(elements.n, { value: 1 });
  Object.assign(elements.seed, { value: image.seed });
  for (const name of ["steps", "guidance_scale", "width", "height", "scheduler", "negative_prompt"]) {
    elements[name].value = parameters[name];
  }
  elements.upscale.value = parameters.upscale > 1 ? parameters.upscale : "";
  form.querySelector("details.settings").open = true;
  if (parameters.strength === null) say(status, "draw.filled");
  else {
    elements.strength.value = parameters.strength;
    elements.strength.dispatchEvent(new Event("input"));
    say(status, "draw.filled.start");
  }
  elements.prompt.focus();
}

/** A sentence for a model, ready to be drawn. */
export function prepare(model, prompt) {
  form.reset();
  choosePicture(null);
  choose(model);
  form.elements.prompt.value = prompt;
  byId("draw-button").focus();
}
