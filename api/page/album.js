// The album: every picture that is kept, newest first, and the dialog with how each was made.

import { moment, number, say, sayAttribute } from "/page/language.js";
import { clearProblem, showProblem } from "/page/problems.js";
import { ask, release, show } from "/page/service.js";

const PAGE = 24;
const byId = (id) => document.getElementById(id);
const album = byId("album");
const dialog = byId("picture");
const removeButton = byId("picture-remove");
let next = null;
let opened = null;
let again = () => {};

/** `onAgain(made)` is called with {answer, image} of the picture that is wanted again. */
export function startAlbum(onAgain) {
  again = onAgain;
  byId("album-more").addEventListener("click", () => more().catch(tell));
  byId("picture-again").addEventListener("click", () => {
    dialog.close();
    again(opened);
  });
  removeButton.addEventListener("click", () => remove().catch((error) => {
    showProblem(byId("picture-problem"), error);
  }));
  document.addEventListener("language", () => dialog.open && writeFacts());
}

/** The first page, anew. */
export async function loadAlbum() {
  release(album);
  album.replaceChildren();
  next = null;
  await more();
}

async function more() {
  const cursor = next ? `&cursor=${encodeURIComponent(next)}` : "";
  const page = await ask("GET", `/generations?state=finished&limit=${PAGE}${cursor}`);
  const first = album.children.length;
  for (const { answer, created } of page.generations) album.append(...newTiles(answer, created));
  next = page.next;
  byId("album-more").hidden = !next;
  if (cursor) album.children[first]?.querySelector("button").focus();
  countTiles();
}

/** Puts what was just made before all others. */
export function addToAlbum(answer) {
  album.prepend(...newTiles(answer, new Date().toISOString()));
  countTiles();
}

/** None where the album has them: a generation may end while the list of them is on its way. */
function newTiles(answer, created) {
  if (album.querySelector(`[data-generation="${answer.id}"]`)) return [];
  return answer.images.map((image) => tileOf({ answer, image, created }));
}

function countTiles() {
  byId("album-empty").hidden = album.children.length > 0;
}

function tileOf(made) {
  const tile = document.createElement("li");
  tile.dataset.image = made.image.id;
  tile.dataset.generation = made.answer.id;
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.textContent = made.answer.prompt;
  tile.append(openerOf(made), caption);
  return tile;
}

/** A button that shows the picture and opens it large. */
export function openerOf(made) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "print";
  sayAttribute(button, "label", "stage.open", { prompt: made.answer.prompt, seed: made.image.seed });
  const image = document.createElement("img");
  image.alt = "";
  image.width = made.image.width;
  image.height = made.image.height;
  show(image, made.image.url).catch(() => button.closest("li")?.remove());
  button.append(image);
  button.addEventListener("click", () => open(made));
  return button;
}

function open(made) {
  opened = made;
  clearProblem(byId("picture-problem"));
  say(removeButton, "picture.remove");
  byId("picture-title").textContent = made.answer.prompt;
  const image = byId("picture-image");
  sayAttribute(image, "alt", "stage.alt", { prompt: made.answer.prompt, seed: made.image.seed });
  const save = byId("picture-save");
  save.download = `dogbooth-${made.image.seed}.${made.image.format}`;
  show(image, made.image.url)
    .then((url) => (save.href = url))
    .catch((error) => showProblem(byId("picture-problem"), error));
  writeFacts();
  dialog.showModal();
  byId("picture-again").focus();
}

function writeFacts() {
  const { answer, image, created } = opened;
  const { parameters } = answer;
  const facts = {
    model: answer.model,
    seed: image.seed,
    steps: parameters.steps,
    guidance_scale: number(parameters.guidance_scale),
    scheduler: parameters.scheduler,
    size: `${image.width} × ${image.height}`,
    negative_prompt: parameters.negative_prompt,
    strength: parameters.strength,
    seconds: `${number(image.seconds, 1)} s`,
    created: moment(created),
  };
  const rows = Object.entries(facts).filter(([, value]) => value !== null && value !== "");
  byId("picture-facts").replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const term = say(document.createElement("dt"), `fact.${name}`);
      const said = document.createElement("dd");
      said.textContent = value;
      return [term, said];
    }),
  );
}

/** Asks once more before it removes. */
async function remove() {
  if (removeButton.dataset.t !== "picture.remove.sure") {
    say(removeButton, "picture.remove.sure");
    return;
  }
  const { id } = opened.image;
  await ask("DELETE", `/images/${id}`);
  dialog.close();
  for (const shown of document.querySelectorAll(`[data-image="${id}"]`)) shown.remove();
  countTiles();
  byId("album-title").focus();
}

function tell(error) {
  showProblem(byId("draw-problem"), error);
}
