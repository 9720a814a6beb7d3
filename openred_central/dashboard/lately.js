// What happened lately, newest first. The list stands still while somebody is in it, so that nothing is taken from under them.

const LATELY_MAX = 40;

class Lately {
  constructor() {
    this.list = byId("lately");
    this.button = byId("lately-pause");
    this.paused = false;
    this.waiting = []; // Rows that are not shown yet, oldest first.
    this.newer = 0; // How many there were, also those that gave way meanwhile.
    this.button.addEventListener("click", () => {
      this.paused = !this.paused;
      this.button.setAttribute("aria-pressed", this.paused);
      renew();
    });
  }

  /** Have a row, made of these children, shown as soon as the list may move. */
  add(...row) {
    this.waiting.push(row);
    this.newer += 1;
    if (this.waiting.length > LATELY_MAX) this.waiting.shift();
    renew();
  }

  /** Show what waits, unless the list is held; `rate` is what is said beside its title while nothing waits. */
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

/** Whether the focus is in a region, or the pointer; a finger leaves none behind. */
function visited(region) {
  return region.matches(matchMedia("(pointer: coarse)").matches ? ":focus-within" : ":hover, :focus-within");
}
