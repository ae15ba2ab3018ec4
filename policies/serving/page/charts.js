// One small chart per dimension of the action: what was done, by whom, and what is planned, between the bounds.

const SVG = "http://www.w3.org/2000/svg";
const HISTORY = 120;
const WIDTH = 240;
const HEIGHT = 74;
const MARGIN = 6;
const ACTORS = ["policy", "human", "held"];

export class Curves {
  constructor(place, dimensions, horizon) {
    this.horizon = horizon;
    this.history = [];
    this.curves = dimensions.map((dimension) => new Curve(place, dimension, horizon));
  }

  add(action, actor) {
    this.history.push({ action, actor });
    if (this.history.length > HISTORY) this.history.shift();
  }

  clear() {
    this.history = [];
  }

  draw(chunk) {
    this.curves.forEach((curve, i) => {
      const done = this.history.map((step) => ({ value: step.action[i], actor: step.actor }));
      curve.draw(done, chunk.map((row) => row[i]));
    });
  }
}

class Curve {
  constructor(place, dimension, horizon) {
    this.dimension = dimension;
    this.horizon = Math.max(horizon, 1);
    const card = document.createElement("div");
    card.className = "curve";
    const head = document.createElement("p");
    const name = document.createElement("span");
    name.textContent = dimension.name;
    this.now = document.createElement("span");
    head.append(name, this.now);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${dimension.name} in ${dimension.unit}`);
    this.paths = {};
    for (const kind of ["zero", "bound", "plan", ...ACTORS]) {
      this.paths[kind] = svg.appendChild(document.createElementNS(SVG, "path"));
      this.paths[kind].setAttribute("class", kind);
    }
    const [low, high] = [this.y(dimension.low), this.y(dimension.high)];
    this.paths.bound.setAttribute("d", `M0 ${low}H${WIDTH}M0 ${high}H${WIDTH}`);
    if (dimension.low < 0 && dimension.high > 0) this.paths.zero.setAttribute("d", `M0 ${this.y(0)}H${WIDTH}`);
    card.append(head, svg);
    place.append(card);
  }

  x(step) {
    return (step / (HISTORY + this.horizon)) * WIDTH;
  }

  y(value) {
    const { low, high } = this.dimension;
    const share = (value - low) / (high - low);
    return HEIGHT - MARGIN - Math.min(Math.max(share, -0.05), 1.05) * (HEIGHT - 2 * MARGIN);
  }

  draw(done, planned) {
    const start = HISTORY - done.length;
    for (const actor of ACTORS) {
      let d = "";
      let down = false;
      done.forEach((step, i) => {
        if (step.actor === actor) {
          const before = i > 0 ? done[i - 1].value : step.value;
          if (!down) d += `M${this.x(start + i - 1).toFixed(1)} ${this.y(before).toFixed(1)}`;
          d += `L${this.x(start + i).toFixed(1)} ${this.y(step.value).toFixed(1)}`;
        }
        down = step.actor === actor;
      });
      this.paths[actor].setAttribute("d", d);
    }
    const plan = planned.map((value, i) => `${i ? "L" : "M"}${this.x(HISTORY + i).toFixed(1)} ${this.y(value).toFixed(1)}`);
    this.paths.plan.setAttribute("d", plan.join(""));
    const last = done.at(-1);
    this.now.textContent = last ? `${last.value.toFixed(3)} ${unit(this.dimension)}` : "";
  }
}

function unit(dimension) {
  return dimension.unit.length <= 5 && dimension.unit !== "1" ? dimension.unit : "";
}
