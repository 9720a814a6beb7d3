// The latest events, newest first. The list does not change while a person uses it.

const LATELY_MAX = 40;

class Lately {
  constructor() {
    this.list = byId("lately");
    this.button = byId("lately-pause");
    this.paused = false;
    this.waiting = []; // Rows not shown yet, oldest first.
    this.newer = 0; // The number of new rows, also those dropped meanwhile.
    this.button.addEventListener("click", () => {
      this.paused = !this.paused;
      this.button.setAttribute("aria-pressed", this.paused);
      renew();
    });
  }

  /** Add a row of these children; it appears as soon as the list may change. */
  add(...row) {
    this.waiting.push(row);
    this.newer += 1;
    if (this.waiting.length > LATELY_MAX) this.waiting.shift();
    renew();
  }

  /** Show waiting rows, unless the list is held; `rate` stands beside the title while none wait. */
  show(rate) {
    const { list, waiting } = this;
    const held = this.paused || (list.children.length > 0 && visited(list.parentElement));
    if (!held) {
      list.prepend(...waiting.map((row) => element("li", {}, ...row)).reverse());
      while (list.children.length > LATELY_MAX) list.lastChild.remove();
      this.waiting = [];
      this.newer = 0;
    }
    byId("lately-none").hidden = list.children.length > 0;
    const newer = this.newer ? `, ${whole.format(this.newer)} newer` : "";
    say(byId("lately-rate"), this.paused ? `paused${newer}` : this.newer ? `held while you look at it${newer}` : rate);
  }
}

/** Return whether focus or pointer is in a region; touch leaves no pointer behind. */
function visited(region) {
  return region.matches(matchMedia("(pointer: coarse)").matches ? ":focus-within" : ":hover, :focus-within");
}
