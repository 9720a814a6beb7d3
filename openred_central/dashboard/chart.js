// Charts of points in order: stacked areas, stacked bars, or lines. The pointer and the arrow keys explore them.

const MARGIN = { left: 52, right: 10, top: 8, bottom: 24 };
const DOTS_MAX = 40; // Lines of so few points show each of them.

class Chart {
  /**
   * `form` tells how points are read:
   * - `kind`: "areas", "bars" or "lines";
   * - `series`: for each, `of` (its colour) and `value(point)`, which may be null; a negative one is stacked below zero;
   * - `at(point)`: its place across; `ends(points)`: the first and last place, if not those of the points;
   * - `ticks(points, first, last, most)`: at most so many labels across, as [place, text];
   * - `told(point, chosen)`: the words of a point; the last one is told while none is chosen;
   * - `share`: whether values go from 0 to 1.
   */
  constructor(svg, readout, form) {
    this.svg = svg;
    this.readout = readout;
    this.form = form;
    this.points = [];
    this.pointed = null; // Pixels from the left edge.
    this.x = null;
    svg.setAttribute("tabindex", "0");
    const point = (event) => this.choose(event.clientX - svg.getBoundingClientRect().left);
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", () => this.choose(null));
    svg.addEventListener("blur", () => this.choose(null));
    svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  choose(pointed) {
    this.pointed = pointed;
    this.draw();
  }

  key(event) {
    const last = this.points.length - 1;
    const place = this.pointed === null ? last + 1 : this.points.indexOf(this.found());
    const next = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape" && this.pointed !== null) this.choose(null);
    else if (next === undefined || last < 0) return;
    else this.choose(this.x(this.form.at(this.points[Math.max(0, Math.min(next, last))])));
    event.preventDefault();
  }

  /** Return the point that is nearest to the chosen place, or the last one. */
  found() {
    const near = (point) => Math.abs(this.x(this.form.at(point)) - this.pointed);
    return this.pointed === null ? this.points.at(-1) : this.points.reduce((best, one) => (near(one) < near(best) ? one : best));
  }

  draw() {
    const { svg, points, form } = this;
    const [width, height] = [svg.clientWidth, svg.clientHeight];
    if (!width || !points.length) return svg.replaceChildren();
    const stacks = form.kind === "lines" ? this.values() : this.stacks();
    const numbers = stacks.flat(2).filter((number) => number !== null);
    const [top, step] = form.share ? [1, 0.25] : scale(Math.max(...numbers, ...numbers.map((number) => -number)));
    const low = Math.floor(Math.min(...numbers, 0) / step) * step;
    const high = form.share ? top : Math.max(Math.ceil(Math.max(...numbers) / step) * step, low + step);
    const [first, last] = form.ends?.(points) ?? [form.at(points[0]), form.at(points.at(-1))];
    const inner = width - MARGIN.left - MARGIN.right;
    const half = form.kind === "bars" ? inner / points.length / 2 : 0;
    this.x = (at) => MARGIN.left + half + (last > first ? (at - first) / (last - first) : 0.5) * (inner - 2 * half);
    const y = (number) => MARGIN.top + ((high - number) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
    const levels = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, place) => low + place * step);
    const most = Math.max(2, Math.floor(inner / 80));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    return svg.replaceChildren(
      ...this.lines(levels, y, width, "grid"),
      ...stacks.flatMap((stack, place) => this.shapes(form.series[place].of, stack, y, half)),
      ...(form.kind === "areas" ? this.lines(levels, y, width, "over") : []),
      ...levels.map((number) => this.text(MARGIN.left - 8, y(number) + 4, "end", (form.share ? percent : short).format(number))),
      ...form.ticks(points, first, last, most).map(([at, text]) => this.text(Math.min(this.x(at), width - MARGIN.right - 18), height - 6, "middle", text)),
      ...this.cross(height),
    );
  }

  /** Return [from, to] of each point for each series, stacked on the series before it. */
  stacks() {
    const sums = this.points.map(() => [0, 0]);
    return this.form.series.map(({ value }) =>
      this.points.map((point, place) => {
        const number = value(point) ?? 0;
        const side = number < 0 ? 1 : 0;
        sums[place][side] += number;
        return [sums[place][side] - number, sums[place][side]];
      }),
    );
  }

  values() {
    return this.form.series.map(({ value }) => this.points.map((point) => [null, value(point) ?? null]));
  }

  shapes(of, stack, y, half) {
    const known = this.points.map((point, place) => [this.x(this.form.at(point)), ...stack[place]]).filter(([, , to]) => to !== null);
    const shape = (name, d) => drawn(this.svg, "path", { class: name, "data-of": of, d });
    const on = ([at, , to]) => `${at.toFixed(1)},${y(to).toFixed(1)}`;
    if (this.form.kind === "lines") {
      const dots = known.length <= DOTS_MAX ? known.map(([at, , to]) => drawn(this.svg, "circle", { class: "dot", "data-of": of, cx: at, cy: y(to), r: 3 })) : [];
      return [shape("line", known.length ? `M${known.map(on).join("L")}` : ""), ...dots];
    }
    const filled = known.filter(([, from, to]) => from !== to);
    if (this.form.kind === "bars") {
      const wide = Math.max(half * 1.6, 1);
      return [shape("area", filled.map(([at, from, to]) => `M${(at - wide / 2).toFixed(1)},${y(from).toFixed(1)}V${y(to).toFixed(1)}h${wide.toFixed(1)}V${y(from).toFixed(1)}Z`).join(""))];
    }
    const lower = known.map(([at, from]) => `${at.toFixed(1)},${y(from).toFixed(1)}`).reverse();
    return [shape("area", filled.length ? `M${known.map(on).join("L")}L${lower.join("L")}Z` : "")];
  }

  lines(levels, y, width, name) {
    return levels.map((number) => {
      const at = Math.round(y(number)) + 0.5;
      return drawn(this.svg, "line", { class: name, x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at });
    });
  }

  text(x, y, anchor, text) {
    return drawn(this.svg, "text", { x, y, "text-anchor": anchor }, text);
  }

  /** Tell the point that is found, and draw a line through it if it was chosen. */
  cross(height) {
    const found = this.found();
    say(this.readout, this.form.told(found, this.pointed !== null));
    if (this.pointed === null) return [];
    const at = this.x(this.form.at(found));
    return [drawn(this.svg, "line", { class: "cross", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom })];
  }
}

/** Return the top of a scale from 0 that holds `most`, and its step: 1, 2 or 5 times a power of ten. */
function scale(most) {
  const rough = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough);
  return [Math.max(step, Math.ceil(most / step) * step), step];
}

/** Draw a small curve without axes; some numbers may be missing. */
function drawSpark(svg, numbers) {
  const known = numbers.map((number) => number ?? 0);
  const most = Math.max(...known);
  if (known.length < 5 || !most) return svg.replaceChildren();
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  const line = known.map((number, place) => `${((place / (known.length - 1)) * 100).toFixed(2)},${(28 - (number / most) * 24).toFixed(2)}`).join("L");
  return svg.replaceChildren(
    drawn(svg, "path", { class: "ground", d: `M0,30L${line}L100,30Z` }),
    drawn(svg, "path", { d: `M${line}` }),
  );
}
