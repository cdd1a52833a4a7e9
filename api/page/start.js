// The picture that a drawing may start from: dropped or chosen, shown, taken away again.

import { acceptFiles } from "/page/drop.js";
import { number, sayAttribute } from "/page/language.js";

const byId = (id) => document.getElementById(id);
const input = byId("start");
const chosen = byId("start-chosen");
const image = byId("start-image");
const strength = byId("strength");
let picture = null;

/** The file; null where the drawing starts from nothing. */
export const startPicture = () => picture;

export function startStart() {
  acceptFiles(byId("start-drop"), input, ([file]) => file && choosePicture(file));
  byId("start-remove").addEventListener("click", () => {
    choosePicture(null);
    input.focus();
  });
  strength.addEventListener("input", tellStrength);
  document.addEventListener("language", tellStrength);
  tellStrength();
}

export function choosePicture(file) {
  URL.revokeObjectURL(image.src);
  picture = file;
  chosen.hidden = !file;
  byId("start-label").hidden = Boolean(file);
  if (!file) {
    image.removeAttribute("src");
    return;
  }
  image.src = URL.createObjectURL(file);
  sayAttribute(image, "alt", "start.alt", { name: file.name });
  byId("start-remove").focus();
}

function tellStrength() {
  const share = `${number(strength.value * 100, 0)}\u00a0%`;
  byId("strength-share").textContent = share;
  strength.setAttribute("aria-valuetext", share);
}
