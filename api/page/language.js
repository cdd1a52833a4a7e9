// Says things in the chosen language; what stands on the page follows when it changes.

import { WORDS } from "/page/words.js";

const CHOICE = "dogbooth.language";
const values = new WeakMap();
const preferred = (navigator.language ?? "en").toLowerCase().startsWith("es") ? "es" : "en";
let current = localStorage.getItem(CHOICE) ?? preferred;

export const language = () => current;

/** The words of `key`; {name} stands for a value. A key without words is a mistake of ours. */
export function t(key, fill = {}) {
  const words = WORDS[current][key];
  if (words === undefined) throw new Error(`no words for ${key}`);
  return words.replace(/\{(\w+)\}/g, (_, name) => fill[name] ?? "");
}

export const has = (key) => key in WORDS[current];

/** Lets `element` say `key`, in whatever language is chosen later, too. */
export function say(element, key, fill = {}) {
  element.dataset.t = key;
  values.set(element, fill);
  element.textContent = t(key, fill);
  return element;
}

/** As `say`, for an attribute: "label" (aria-label), "placeholder" or "alt". */
export function sayAttribute(element, attribute, key, fill = {}) {
  element.setAttribute(`data-t-${attribute}`, key);
  values.set(element, { ...values.get(element), ...fill });
  const name = attribute === "label" ? "aria-label" : attribute;
  element.setAttribute(name, t(key, fill));
  return element;
}

export function setLanguage(chosen) {
  current = chosen;
  localStorage.setItem(CHOICE, chosen);
  apply();
}

export function apply() {
  document.documentElement.lang = current;
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t, values.get(element));
  }
  for (const attribute of ["label", "placeholder", "alt"]) {
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`)) {
      sayAttribute(element, attribute, element.getAttribute(`data-t-${attribute}`), values.get(element));
    }
  }
  document.dispatchEvent(new CustomEvent("language"));
}

export const number = (value, digits = 2) =>
  new Intl.NumberFormat(current, { maximumFractionDigits: digits }).format(value);

export const moment = (iso) =>
  new Intl.DateTimeFormat(current, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));

/** "40 s", "12 min", "2 h 5 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
