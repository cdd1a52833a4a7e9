// Tells in words what the service refused, at the fields that it is about.

import { has, language, say, t } from "/page/language.js";

/** What the service says in English of a value, in Spanish. */
const SPANISH = [
  [/^Input should be less than or equal to (.+)$/, "debe ser como mucho $1"],
  [/^Input should be greater than or equal to (.+)$/, "debe ser al menos $1"],
  [/^Input should be greater than (.+)$/, "debe ser mayor que $1"],
  [/^must be from (.+) to (.+)$/, "debe estar entre $1 y $2"],
  [/^must be at most (.+)$/, "debe ser como mucho $1"],
  [/^Input should be a valid integer.*$/, "debe ser un número entero"],
  [/^Input should be a valid number.*$/, "debe ser un número"],
  [/^String should have at least (\d+) characters?$/, "necesita al menos $1 carácter"],
  [/^String should have at most (\d+) characters?$/, "puede tener como mucho $1 caracteres"],
  [/^String should match pattern.*$/, "no tiene la forma debida"],
  [/^Field required$/, "hace falta"],
  [/^List should have at least (\d+) items?.*$/, "hace falta al menos $1 valor"],
  [/^both are (\w+)$/, "ambos son $1"],
  [/^(\d+) cells, must be at most (\d+)$/, "son $1 imágenes, como mucho $2"],
  [/^needed with breeds$/, "hace falta al aprender razas"],
  [/^is no whole PNG, JPEG or WebP picture$/, "no es una imagen PNG, JPEG o WebP entera"],
  [/^is animated: send one still picture$/, "es una animación: hace falta una imagen fija"],
  [/^(\d+) were sent; at least (\d+), or breeds$/, "hay $1; hacen falta al menos $2"],
  [/^not a picture.*$/, "no es una imagen"],
  [/^too small: (\S+), at least (\d+) pixels a side$/, "demasiado pequeña: $1, al menos $2 píxeles por lado"],
  [/^too many pixels: (\S+), at most (.+)$/, "demasiados píxeles: $1, como mucho $2"],
  [/^too long: (\S+), at most (\S+) times its other side$/, "demasiado alargada: $1, como mucho $2 veces el otro lado"],
  [/^the model '(.+)' draws multiples of (\d+) only$/, "el modelo $1 solo dibuja múltiplos de $2"],
  [/^the scheduler '(.+)' takes at most (\d+)$/, "el muestreador $1 da como mucho $2"],
  [/^the model '(.+)' was not trained on the breed '(.+)': it draws a dog$/,
    "el modelo $1 no conoce la raza $2: dibuja un perro cualquiera"],
];
/** The service speaks to programs; these are the same in the page's words. */
const ENGLISH = [
  [/^Input should be a valid /, "should be a valid "],
  [/^Input should be /, "should be "],
  [/^String should have /, "should have "],
  [/^String should match pattern.*$/, "has not the right form"],
  [/^Field required$/, "is needed"],
  [/^List should have at least (\d+) items?.*$/, "at least $1 value is needed"],
  [/^(\d+) were sent; at least (\d+), or breeds$/, "there are $1; at least $2 are needed"],
];

/** A sentence of the service in the page's language, as far as it is known there. */
export function reword(words) {
  const table = language() === "es" ? SPANISH : ENGLISH;
  for (const [pattern, replacement] of table) {
    if (pattern.test(words)) return words.replace(pattern, replacement);
  }
  return words;
}

/** Fills `box` with what `refusal` says and marks the controls of `form` that it names. */
export function showProblem(box, refusal, form, headline) {
  clearProblem(box, form);
  const key = `problem.${refusal.code}`;
  const heading = headline ?? (has(key) ? key : "problem.other");
  box.append(say(document.createElement("p"), heading));
  const named = refusal.details?.photos ? photosIn(refusal) : form ? fieldsIn(refusal.message, form) : [];
  const list = document.createElement("ul");
  for (const { control, field, value, words } of named) {
    const item = document.createElement("li");
    const fill = { field, value, words: reword(words) };
    item.textContent = t(value ? "problem.field.value" : "problem.field", fill);
    list.append(item);
    if (!control) continue;
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", box.id);
    control.closest("details")?.setAttribute("open", "");
  }
  if (named.length) box.append(list);
  else if (!PLAIN.has(refusal.code)) box.append(saidByService(refusal.message));
  if (refusal.retryAfter) {
    const again = document.createElement("p");
    box.append(say(again, "problem.retry", { seconds: refusal.retryAfter }));
  }
  box.hidden = false;
  named.find(({ control }) => control)?.control.focus();
}

/** Of these the heading says everything; what the service adds is for programs. */
const PLAIN = new Set(["unreachable", "not_authenticated", "interrupted", "content_too_large"]);

function saidByService(message) {
  const paragraph = document.createElement("p");
  paragraph.textContent = message;
  if (language() !== "en") paragraph.lang = "en";
  return paragraph;
}

export function clearProblem(box, form) {
  box.replaceChildren();
  box.hidden = true;
  for (const control of form?.querySelectorAll("[aria-invalid]") ?? []) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-errormessage");
  }
}

/** "steps 1000: too many; width: …" by field, as far as the page has words for the field. */
function fieldsIn(message, form) {
  const found = [];
  for (const part of message.replace(/^init_image 'data:[^']*' /, "init_image: ").split("; ")) {
    const [, path, value, words] = part.match(/^([\w.]+)(?: ([^:]*))?: (.*)$/s) ?? [];
    const steps = path?.split(".").reverse() ?? []; // x.steps.values.0: the steps of the control x
    const name = steps.find((step) => has(`field.${step}`));
    if (name) {
      const field = t(`field.${name}`);
      const control = steps.map((step) => form.elements.namedItem(step)).find(Boolean);
      found.push({ field, control, value: unquoted(value), words });
    } else if (found.length) found.at(-1).words += `; ${part}`;
    else return [];
  }
  return found;
}

/** One line for each photo that cannot be used. */
const photosIn = ({ details }) =>
  details.photos.map(({ photo, message }) => ({ field: photo, value: "", words: message }));

const unquoted = (value) => (value ?? "").replace(/^(['"])(.*)\1$/s, "$2").replace(/^\[\]$/, "");
