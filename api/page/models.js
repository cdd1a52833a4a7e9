// The model picker: one radio button a model, with the picture of what it draws.

import { say, sayAttribute } from "/page/language.js";
import { release, show } from "/page/service.js";

const list = document.getElementById("model-list");
const about = document.getElementById("model-about");
let models = [];
let breeds = [];
let onChoice = () => {};

/** `chosen(model)` is called whenever another model is chosen. */
export function startModels(chosen) {
  onChoice = chosen;
  list.addEventListener("change", () => describe());
}

export function setModels(all, allBreeds) {
  const before = chosenModel()?.name;
  models = all;
  breeds = allBreeds;
  release(list);
  list.replaceChildren(...models.map(cardOf));
  if (!models.length) list.append(say(document.createElement("p"), "models.none"));
  const names = models.map((model) => model.name);
  choose(names.includes(before) ? before : models.find((model) => model.default)?.name);
}

export const chosenModel = () => {
  const name = list.querySelector("input:checked")?.value;
  return models.find((model) => model.name === name);
};

export const allModels = () => models;

export const bases = () => models.filter((model) => model.kind !== "adapter");

/** Chooses the model of that name; one that is gone changes nothing. */
export function choose(name) {
  const radio = [...list.querySelectorAll("input")].find((input) => input.value === name);
  if (radio) radio.checked = true;
  describe();
}

function cardOf(model) {
  const card = document.createElement("label");
  card.className = "model";
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "model", value: model.name });
  const picture = document.createElement("span");
  picture.className = "thumb";
  picture.setAttribute("aria-hidden", "true");
  if (model.preview) {
    const image = document.createElement("img");
    image.alt = "";
    show(image, model.preview).catch(() => image.remove());
    picture.append(image);
  } else {
    picture.textContent = model.name[0].toUpperCase();
  }
  const text = document.createElement("span");
  const name = document.createElement("strong");
  name.textContent = model.name;
  const kind = say(document.createElement("small"), `model.${model.kind}`, { base: model.base ?? "" });
  text.append(name, kind);
  card.append(radio, picture, text);
  if (model.default) {
    const badge = say(document.createElement("small"), "model.default");
    badge.className = "badge";
    card.append(badge);
  }
  return card;
}

function describe() {
  const model = chosenModel();
  release(about);
  about.replaceChildren();
  if (!model) return;
  const words = document.createElement("p");
  words.textContent = model.description;
  words.lang = "en";
  const known = breeds.filter((breed) => breed.models.includes(model.name)).length;
  const facts = say(document.createElement("p"), known ? "model.size" : "model.size.none", {
    size: model.resolution,
    count: known,
  });
  about.append(...(model.description ? [words] : []), facts);
  if (model.preview) about.append(seePreview(model));
  onChoice(model);
}

/** The whole grid, fetched when one looks. */
function seePreview(model) {
  const details = document.createElement("details");
  const image = document.createElement("img");
  sayAttribute(image, "alt", "model.preview", { model: model.name });
  details.addEventListener("toggle", () => {
    if (details.open && !image.src) show(image, model.preview).catch(() => details.remove());
  });
  details.append(say(document.createElement("summary"), "model.see"), image);
  return details;
}
