// What a training learns: one dog from its photos or, where the service has a dataset, breeds of it.

import { breedNamed, named, withArticle } from "/page/breeds.js";
import { language, t } from "/page/language.js";
import { chosenPhotos } from "/page/photos.js";
import { Refusal } from "/page/service.js";

const byId = (id) => document.getElementById(id);
const choice = byId("lesson");
const select = byId("dataset");
const list = byId("dataset-breeds");
let datasets = [];
let changed = () => {};

/** `onChange()` is called when something else is to be learned. */
export function startLesson(onChange) {
  changed = onChange;
  choice.addEventListener("change", showLesson);
  select.addEventListener("change", showLesson);
  list.addEventListener("change", changed);
  document.addEventListener("language", showLesson);
}

export function setDatasets(all) {
  datasets = all;
  choice.hidden = !datasets.length;
  select.replaceChildren(...datasets.map(({ name }) => new Option(name, name)));
  showLesson();
}

export const learnsBreeds = () =>
  datasets.length > 0 && choice.querySelector("input:checked").value === "breeds";

const chosenBreeds = () => [...list.querySelectorAll("input:checked")].map((box) => box.value);

/** Puts what is to be learned into the form data of a training; a Refusal where nothing is. */
export function addLesson(body) {
  if (!learnsBreeds()) {
    for (const photo of chosenPhotos()) body.append("photos", photo);
    return;
  }
  const breeds = chosenBreeds();
  if (!breeds.length) throw new Refusal(422, "invalid_request", "breeds: Field required");
  body.append("dataset", select.value);
  for (const breed of breeds) body.append("breeds", breed);
}

/** "a photo of a pug": what one writes to get a breed that was learned. */
export const breedSentence = (name) => t("stage.idea", { a: withArticle(kindNamed(name)) });

/** What a dataset shows by that English name, a cat say; else the breed of dogs. */
const kindNamed = (name) =>
  datasets.flatMap(({ breeds }) => breeds).find((kind) => kind.name === name) ?? breedNamed(name);

/** That of the first breed that is chosen, or may be. */
export function exampleSentence() {
  return breedSentence(chosenBreeds()[0] ?? list.querySelector("input")?.value ?? "pug");
}

/** The controls of what was chosen, and of the other none. */
export function showLesson() {
  const breeds = learnsBreeds();
  byId("drop").hidden = breeds;
  byId("lesson-breeds").hidden = !breeds;
  byId("class-field").hidden = breeds;
  byId("dataset-field").hidden = datasets.length < 2;
  const before = new Set(chosenBreeds());
  const shown = datasets.find(({ name }) => name === select.value)?.breeds ?? [];
  const inOrder = (a, b) => named(a).localeCompare(named(b), language());
  const items = [...shown].sort(inOrder).map((kind) => itemOf(kind, before.has(kind.name)));
  list.querySelector(".check-list").replaceChildren(...items);
  changed();
}

function itemOf(kind, checked) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value: kind.name, checked });
  const words = document.createElement("span");
  words.textContent = t("teach.breed", { breed: named(kind), photos: kind.photos });
  label.append(box, words);
  return label;
}
