// SPDX-License-Identifier: BSD-3-Clause-Clear
// <img-cai src="image.cai" alt="...">: a coded image in any page. Fires "load" and "error".

import { call, toBitmap } from "./client.js";

const STYLE = `
:host { display: inline-block; max-width: 100%; }
:host([hidden]) { display: none; }
canvas { display: block; max-width: 100%; height: auto; }
p { margin: 0; padding: .5em; border: 1px dashed; font: .9em sans-serif; }
`;

class CaiImage extends HTMLElement {
  static observedAttributes = ["src", "alt"];
  #shown = 0;

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).innerHTML = `<style>${STYLE}</style>`;
  }

  /** What the file says, once it is shown: width, height, model, quality, hash, bytes, ... */
  info = null;

  get src() {
    return this.getAttribute("src") ?? "";
  }

  set src(value) {
    this.setAttribute("src", value);
  }

  attributeChangedCallback(name) {
    if (name === "src") this.#show();
    else this.#describe();
  }

  #describe() {
    const canvas = this.shadowRoot.querySelector("canvas");
    if (!canvas) return;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", this.getAttribute("alt") ?? "");
  }

  #put(element) {
    this.shadowRoot.querySelector("canvas, p")?.remove();
    this.shadowRoot.append(element);
  }

  async #show() {
    // A later src takes the place of one that is still being decoded.
    const number = ++this.#shown;
    const canvas = document.createElement("canvas");
    try {
      const image = await call("decode", [await call("load", [new URL(this.src, document.baseURI).href])]);
      const bitmap = await toBitmap(image);
      if (number !== this.#shown) return;
      [canvas.width, canvas.height] = [image.width, image.height];
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
      const { rgba, icc, exif, ...info } = image;
      this.info = info;
      this.#put(canvas);
      this.#describe();
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      if (number !== this.#shown) return;
      const text = document.createElement("p");
      text.textContent = `${this.getAttribute("alt") ?? ""} (${error.message})`;
      this.#put(text);
      this.dispatchEvent(new ErrorEvent("error", { error, message: error.message }));
    }
  }
}

customElements.define("img-cai", CaiImage);
