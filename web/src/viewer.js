// SPDX-License-Identifier: BSD-3-Clause-Clear
// An image that can be zoomed and moved, and an original whose left part lies over it.

const MOST = 32;

export class Viewer {
  #scale = 1;
  #x = 0;
  #y = 0;
  #size = { width: 1, height: 1 };
  #fits = true;

  constructor({ stage, scene, decoded, source, split, zoom }) {
    Object.assign(this, { stage, scene, decoded, source, split, zoom });
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(1.0015 ** -event.deltaY, event);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#grab(event));
    split.addEventListener("input", () => this.#clip());
    new ResizeObserver(() => (this.#fits ? this.fit() : this.#place())).observe(stage);
  }

  #grab(event) {
    if (event.target === this.split || this.scene.hidden) return;
    this.stage.setPointerCapture(event.pointerId);
    let [x, y] = [event.clientX, event.clientY];
    const move = (next) => {
      this.#x += next.clientX - x;
      this.#y += next.clientY - y;
      [x, y] = [next.clientX, next.clientY];
      this.#fits = false;
      this.#place();
    };
    const end = () => this.stage.removeEventListener("pointermove", move);
    this.stage.addEventListener("pointermove", move);
    for (const type of ["pointerup", "pointercancel"]) this.stage.addEventListener(type, end, { once: true });
  }

  show(bitmap) {
    const { width, height } = bitmap;
    Object.assign(this.decoded, { width, height });
    this.decoded.getContext("2d").drawImage(bitmap, 0, 0);
    const same = this.#size.width === width && this.#size.height === height;
    this.#size = { width, height };
    this.scene.hidden = false;
    if (same) this.#place();
    else this.fit();
  }

  /** Lay an original over the image; `null` takes it away. */
  showOriginal(bitmap) {
    this.source.hidden = this.split.hidden = !bitmap;
    this.stage.classList.toggle("compared", Boolean(bitmap));
    if (!bitmap) return;
    Object.assign(this.source, { width: bitmap.width, height: bitmap.height });
    this.source.getContext("2d").drawImage(bitmap, 0, 0);
    this.#clip();
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    this.#fits = true;
    this.#scale = Math.min(1, clientWidth / this.#size.width, clientHeight / this.#size.height);
    this.#x = (clientWidth - this.#size.width * this.#scale) / 2;
    this.#y = (clientHeight - this.#size.height * this.#scale) / 2;
    this.#place();
  }

  /** Zoom around a place of the stage, by default its middle. */
  zoomBy(factor, at = null) {
    const box = this.stage.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left, at.clientY - box.top] : [box.width / 2, box.height / 2];
    const scale = Math.min(MOST, Math.max(0.02, this.#scale * factor));
    this.#x = x - (x - this.#x) * (scale / this.#scale);
    this.#y = y - (y - this.#y) * (scale / this.#scale);
    this.#scale = scale;
    this.#fits = false;
    this.#place();
  }

  /** One pixel of the image for one of the screen. */
  exact() {
    this.zoomBy(1 / (this.#scale * window.devicePixelRatio));
  }

  #place() {
    this.scene.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    this.scene.classList.toggle("exact", this.#scale * window.devicePixelRatio >= 2);
    this.zoom.textContent = `${Math.round(100 * this.#scale * window.devicePixelRatio)} %`;
    this.#clip();
  }

  // The slider is as wide as the stage; the original ends below its handle.
  #clip() {
    const edge = (this.split.value / 1000) * this.stage.clientWidth;
    const column = Math.max(0, Math.min(this.#size.width, (edge - this.#x) / this.#scale));
    this.stage.style.setProperty("--edge", `${edge}px`);
    this.source.style.clipPath = `inset(0 ${this.#size.width - column}px 0 0)`;
  }
}
