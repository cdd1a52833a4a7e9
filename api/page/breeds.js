// The breed picker: a combobox over both names of every breed, what the chosen model knows first.

import { language, say, t } from "/page/language.js";

const MOST = 60;
const input = document.getElementById("breed");
const list = document.getElementById("breeds");
let breeds = [];
let model = null;
let shown = [];
let active = -1;
let choose = () => {};

/** `chosen(breed)` is called for each breed that is picked. */
export function startBreeds(chosen) {
  choose = chosen;
  input.addEventListener("input", open);
  input.addEventListener("click", open);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", onKey);
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the input keeps the focus
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) pick(shown[Number(option.dataset.index)]);
  });
  document.addEventListener("language", close);
}

export function setBreeds(all) {
  breeds = all;
}

export function setBreedModel(name) {
  model = name;
}

/** Some breeds that the chosen model knows, spread over what it knows. */
export function someKnown(count) {
  const known = breeds.filter((breed) => breed.models.includes(model));
  const every = Math.max(1, Math.floor(known.length / count));
  return known.filter((_, index) => index % every === 0).slice(0, count);
}

/** The breed of that English name. */
export const breedNamed = (name) => breeds.find((breed) => breed.name === name) ?? { name, spanish: name };

export const named = (breed) => (language() === "es" ? breed.spanish : breed.name);

/** "a beagle", "an Afghan hound"; "un beagle". */
export function withArticle(breed) {
  const name = named(breed);
  if (language() === "es") return `un ${name}`;
  return `${/^(?!eu|uni|use|one\b)[aeiou]/i.test(name) ? "an" : "a"} ${name}`;
}

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function matches(text) {
  const words = plain(text).split(/\s+/).filter(Boolean);
  const fits = (breed) => words.every((word) => plain(`${breed.name} ${breed.spanish}`).includes(word));
  const rank = (breed) => (breed.models.includes(model) ? 0 : breed.models.length ? 1 : 2);
  const inOrder = (a, b) => rank(a) - rank(b) || named(a).localeCompare(named(b), language());
  return breeds.filter(fits).sort(inOrder).slice(0, MOST);
}

function open() {
  shown = matches(input.value);
  active = -1;
  list.replaceChildren(...shown.map(optionOf));
  if (!shown.length) {
    const none = say(document.createElement("li"), "draw.breed.none");
    none.setAttribute("role", "option");
    none.setAttribute("aria-disabled", "true");
    list.append(none);
  }
  list.hidden = false;
  input.setAttribute("aria-expanded", "true");
  input.removeAttribute("aria-activedescendant");
}

function close() {
  list.hidden = true;
  active = -1;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

function optionOf(breed, index) {
  const option = document.createElement("li");
  option.id = `breed-${index}`;
  option.dataset.index = index;
  option.setAttribute("role", "option");
  option.setAttribute("aria-selected", "false");
  const other = language() === "es" ? breed.name : breed.spanish;
  const names = document.createElement("span");
  names.textContent = named(breed);
  if (plain(other) !== plain(named(breed))) {
    const second = document.createElement("small");
    second.textContent = ` ${other}`;
    second.lang = language() === "es" ? "en" : "es";
    names.append(second);
  }
  const who = document.createElement("small");
  who.className = "who";
  const here = breed.models.includes(model);
  if (here) who.classList.add("here");
  who.textContent = here
    ? t("draw.breed.known", { model })
    : breed.models.length
      ? t("draw.breed.elsewhere", { models: breed.models.join(", ") })
      : t("draw.breed.unknown");
  option.append(names, who);
  return option;
}

function move(to) {
  if (!shown.length) return;
  list.children[active]?.setAttribute("aria-selected", "false");
  active = (to + shown.length) % shown.length;
  const option = list.children[active];
  option.setAttribute("aria-selected", "true");
  option.scrollIntoView({ block: "nearest" });
  input.setAttribute("aria-activedescendant", option.id);
}

function pick(breed) {
  input.value = "";
  close();
  choose(breed);
}

function onKey(event) {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (list.hidden) open();
    const down = event.key === "ArrowDown";
    move(active < 0 ? (down ? 0 : -1) : active + (down ? 1 : -1));
  } else if (event.key === "Enter") {
    event.preventDefault(); // never sends the form
    if (list.hidden) return;
    const choice = shown[active] ?? (shown.length === 1 ? shown[0] : undefined);
    if (choice) pick(choice);
  } else if (event.key === "Escape" && !list.hidden) {
    event.preventDefault();
    close();
  }
}
