// Bringing a model: a file is sent with its progress, checked by the service, and draws from then on.

import { acceptFiles } from "/page/drop.js";
import { number, say } from "/page/language.js";
import { bases } from "/page/models.js";
import { clearProblem, showProblem } from "/page/problems.js";
import { upload } from "/page/service.js";

const byId = (id) => document.getElementById(id);
const form = byId("bring-form");
const problem = byId("bring-problem");
const status = byId("bring-status");
const bar = byId("bring-bar");
const use = byId("bring-use");
let file = null;
let brought = null;
let sending = null;

/** `draw(model, prompt)` shows the form with a sentence for a model; `reload()` lists models anew. */
export function startBringing(draw, reload) {
  acceptFiles(byId("bring-drop"), byId("model-file"), ([first]) => first && choose(first));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    bring(reload);
  });
  byId("bring-cancel").addEventListener("click", () => sending?.abort());
  use.addEventListener("click", () => draw(brought.name, brought.instance_prompts[0] ?? ""));
}

/** The bases that the service has. */
export function loadBringing() {
  const own = say(document.createElement("option"), "bring.base.found");
  own.value = "";
  form.elements.base.replaceChildren(own, ...bases().map(({ name }) => new Option(name, name)));
}

/** Its name without what a model's name cannot have stands for the model's, until one is written. */
function choose(chosen) {
  file = chosen;
  byId("model-file-name").textContent = file.name;
  const plain = file.name.replace(/\.\w+$/, "").toLowerCase();
  const { name } = form.elements;
  name.value ||= plain.replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 64);
}

async function bring(reload) {
  if (sending) return;
  clearProblem(problem, form);
  const body = new FormData();
  if (file) body.append("file", file);
  for (const name of ["name", "base"]) {
    if (form.elements[name].value) body.append(name, form.elements[name].value);
  }
  sending = new AbortController();
  busy(true);
  let refusal = null;
  try {
    brought = await upload("/models", body, move, sending.signal);
    await reload();
    say(status, "bring.done", brought);
    say(use, "run.use", brought);
    form.reset();
    file = null;
    byId("model-file-name").textContent = "";
  } catch (error) {
    refusal = error;
    status.textContent = "";
    delete status.dataset.t;
  }
  sending = null;
  busy(false);
  (refusal ? byId("bring-button") : use).focus();
  if (!refusal || refusal.name === "AbortError") return;
  // What a file is refused for names files of its own, not fields of the form.
  showProblem(problem, refusal, refusal.code === "model_refused" ? undefined : form);
}

/** While the file is on its way, then while the service looks at it. */
function move(share) {
  if (share < 1) {
    bar.value = share;
    say(byId("bring-text"), "bring.sent", { share: number(share * 100, 0) });
    return;
  }
  bar.removeAttribute("value");
  say(byId("bring-text"), "bring.checked");
  say(status, "bring.checked");
}

function busy(on) {
  byId("bring-progress").hidden = !on;
  byId("bring-cancel").hidden = !on;
  byId("bring-button").disabled = on;
  use.hidden = on || !status.dataset.t;
  if (!on) return;
  bar.removeAttribute("value");
  say(byId("bring-text"), "bring.sending");
  say(status, "bring.sending");
  byId("bring-cancel").focus();
}
