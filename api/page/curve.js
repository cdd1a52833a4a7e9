// The loss of a training as a line; the service gives it as the mean of the last steps.

import { number, sayAttribute } from "/page/language.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [600, 180];
const MOST = 400;

/** Draws `points`, a list of [step, loss], into `svg`; gives the least and the most loss. */
export function drawCurve(svg, points, steps) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.replaceChildren(...[0, 0.5, 1].map((share) => line("axis", `M0 ${share * HEIGHT}H${WIDTH}`)));
  const [[, first]] = points;
  const [step, last] = points.at(-1);
  const fill = { first: number(first, 3), last: number(last, 3), step };
  sayAttribute(svg, "label", "run.loss.chart", fill);
  const [least, most] = [Math.min, Math.max].map((of) => of(...points.map(([, loss]) => loss)));
  const span = most - least || 1;
  const end = Math.max(steps ?? 0, step, 1);
  const every = Math.ceil(points.length / MOST);
  const path = points
    .filter((_, index) => index % every === 0 || index === points.length - 1)
    .map(([x, y], index) => {
      const [left, top] = [(x / end) * WIDTH, HEIGHT - ((y - least) / span) * HEIGHT];
      return `${index ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`;
    })
    .join("");
  svg.append(line("loss", path));
  return [least, most];
}

function line(name, path) {
  const element = document.createElementNS(SVG, "path");
  element.setAttribute("class", name);
  element.setAttribute("d", path);
  return element;
}
