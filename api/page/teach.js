// Teaching: photos, a name and how thorough become a training.

import { language, say, t } from "/page/language.js";
import { addLesson, breedSentence, exampleSentence, learnsBreeds, setDatasets, showLesson, startLesson } from "/page/lesson.js";
import { bases } from "/page/models.js";
import { clearPhotos, startPhotos, tellOfPhotos } from "/page/photos.js";
import { clearProblem, reword, showProblem } from "/page/problems.js";
import { addRun, loadRuns, startRuns } from "/page/runs.js";
import { ask } from "/page/service.js";

const CLASSES = { dog: "perro", cat: "gato", puppy: "cachorro", kitten: "gatito" };
const byId = (id) => document.getElementById(id);
const form = byId("teach-form");
const problem = byId("teach-problem");

/** `draw(model, prompt)` shows the form with a sentence for a model; `reload()` lists models anew. */
export function startTeaching(draw, reload) {
  startPhotos();
  startLesson(writeHint);
  startRuns((training) => draw(training.model ?? training.name, sentenceOf(training)), reload);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    teach();
  });
  for (const name of ["name", "class"]) form.elements[name].addEventListener("input", writeHint);
  showLesson();
}

/** What the service has: bases to teach to, datasets to learn from, trainings. */
export async function loadTeaching() {
  const own = say(document.createElement("option"), "base.default");
  own.value = "";
  form.elements.base.replaceChildren(own, ...bases().map(({ name }) => new Option(name, name)));
  setDatasets((await ask("GET", "/datasets")).datasets);
  await loadRuns();
}

function sentenceOf(training) {
  if (training.breeds?.length) return breedSentence(training.breeds[0]);
  const noun = language() === "es" ? (CLASSES[training.class] ?? training.class) : training.class;
  return t("run.prompt", { name: training.name, class: noun });
}

function writeHint() {
  const { elements } = form;
  const name = elements.name.value || "rex";
  const noun = elements.class.value || "dog";
  const sentence = learnsBreeds() ? exampleSentence() : sentenceOf({ name, class: noun });
  say(byId("name-hint"), "teach.name.hint", { sentence });
  say(byId("name-label"), learnsBreeds() ? "field.name.model" : "field.name");
}

async function teach() {
  clearProblem(problem, form);
  tellOfPhotos(new Map());
  const { elements } = form;
  const body = new FormData();
  const fields = ["name", "base", "method", "preset"];
  if (!learnsBreeds()) fields.push("class");
  for (const name of fields) {
    if (elements[name].value) body.append(name, elements[name].value);
  }
  const steps = elements.steps.value;
  if (steps) body.append("settings", JSON.stringify({ steps: Number(steps) }));
  byId("teach-button").disabled = true;
  try {
    addLesson(body);
    addRun(await ask("POST", "/trainings", body));
    form.reset();
    clearPhotos();
    showLesson();
    byId("runs-title").focus();
  } catch (error) {
    refuse(error);
  } finally {
    byId("teach-button").disabled = false;
  }
}

function refuse(error) {
  const photos = error.details?.photos ?? [];
  tellOfPhotos(new Map(photos.map(({ index, message }) => [index, reword(message)])));
  showProblem(problem, error, form, error.code === "invalid_request" ? "problem.invalid_training" : undefined);
}
