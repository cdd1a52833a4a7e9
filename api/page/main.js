// The page's start: language, key, the two views, and what the service has.

import { loadAlbum, startAlbum } from "/page/album.js";
import { loadBringing, startBringing } from "/page/bring.js";
import { setBreeds } from "/page/breeds.js";
import { fillForm, prepare, resumeDrawing, startDrawing, suggest } from "/page/draw.js";
import { loadGrids, startGrids } from "/page/grid.js";
import { apply, language, say, setLanguage } from "/page/language.js";
import { setModels } from "/page/models.js";
import { clearProblem, showProblem } from "/page/problems.js";
import { ask, key, setKey } from "/page/service.js";
import { loadTeaching, startTeaching } from "/page/teach.js";

const byId = (id) => document.getElementById(id);
const VIEWS = { draw: "draw-view", grid: "grid-view", teach: "teach-view" };

/** The view that the address names, if it names one; `focus` where a person went there. */
function showView(focus) {
  const name = location.hash.slice(1) || "draw";
  if (!(name in VIEWS)) return;
  for (const [each, id] of Object.entries(VIEWS)) {
    byId(id).hidden = each !== name;
    const link = document.querySelector(`nav a[href="#${each}"]`);
    if (each === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (focus) byId(`${name}-title`).focus();
}

async function loadModels() {
  const [{ models }, { breeds }] = await Promise.all([ask("GET", "/models"), ask("GET", "/breeds")]);
  setBreeds(breeds);
  setModels(models, breeds);
  suggest();
  loadBringing();
}

/** Everything that the service lists, anew. */
async function load() {
  try {
    await loadModels();
    await loadAlbum();
    clearProblem(byId("draw-problem"), byId("draw-form"));
    resumeDrawing();
    loadGrids();
    await loadTeaching();
  } catch (error) {
    showProblem(byId("draw-problem"), error);
  }
}

function startKey() {
  const dialog = byId("key");
  const problem = byId("key-problem");
  byId("open-key").addEventListener("click", () => {
    clearProblem(problem);
    dialog.showModal();
  });
  document.addEventListener("key-needed", () => {
    if (dialog.open) return;
    dialog.showModal();
  });
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const before = key();
    setKey(byId("key-value").value.trim());
    try {
      await ask("GET", "/models");
    } catch (error) {
      setKey(before);
      showProblem(problem, error);
      return;
    }
    closeAndLoad();
  });
  byId("key-forget").addEventListener("click", () => {
    setKey("");
    closeAndLoad();
  });
  const closeAndLoad = () => {
    byId("key-value").value = "";
    dialog.close();
    load();
  };
}

function startLanguage() {
  const button = byId("language");
  const name = () => {
    say(button, "language.other");
    button.lang = language() === "en" ? "es" : "en";
  };
  button.addEventListener("click", () => {
    setLanguage(language() === "en" ? "es" : "en");
    name();
  });
  apply();
  name();
}

startLanguage();
startKey();
startDrawing();
startAlbum(fillForm);
startGrids();
const drawWith = (model, prompt) => {
  location.hash = "#draw";
  showView(false);
  prepare(model, prompt);
};
startTeaching(drawWith, loadModels);
startBringing(drawWith, loadModels);
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
addEventListener("hashchange", () => {
  const shown = Object.keys(VIEWS).find((name) => !byId(VIEWS[name]).hidden);
  if (`#${shown}` !== location.hash) showView(true); // a person went there, not a button of ours
});
showView(false);
load();
