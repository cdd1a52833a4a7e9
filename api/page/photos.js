// The photos of a dog that is to be learned: dropped, chosen, looked at, taken out again.

import { acceptFiles } from "/page/drop.js";
import { say, sayAttribute } from "/page/language.js";

const FEWEST = 3;
const byId = (id) => document.getElementById(id);
const drop = byId("drop");
const list = byId("photo-list");
const input = byId("photos");
let photos = [];

export const chosenPhotos = () => photos;

export const startPhotos = () => acceptFiles(drop, input, add);

function add(files) {
  photos.push(...files);
  list.append(...files.map(itemOf));
  count();
}

export function clearPhotos() {
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  photos = [];
  list.replaceChildren();
  count();
}

/** Beneath each photo what the service says of it: `said` by the photo's number. */
export function tellOfPhotos(said) {
  [...list.children].forEach((item, index) => {
    item.querySelector(".said")?.remove();
    item.classList.toggle("bad", said.has(index));
    if (!said.has(index)) return;
    const words = document.createElement("p");
    words.className = "said";
    words.textContent = said.get(index);
    item.append(words);
  });
}

function itemOf(file) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  const button = sayAttribute(document.createElement("button"), "label", "teach.remove", {
    name: file.name,
  });
  button.type = "button";
  button.textContent = "×";
  button.addEventListener("click", () => {
    const index = [...list.children].indexOf(item);
    photos = photos.filter((_, other) => other !== index);
    URL.revokeObjectURL(image.src);
    item.remove();
    count();
    (list.children[index]?.querySelector("button") ?? input).focus();
  });
  item.append(image, button);
  return item;
}

function count() {
  const said = byId("photo-count");
  const key = photos.length < FEWEST ? "teach.count.few" : "teach.count";
  if (photos.length) say(said, key, { count: photos.length });
  else {
    said.textContent = "";
    delete said.dataset.t;
  }
}
