// SPDX-License-Identifier: BSD-3-Clause-Clear
// The page's side of worker.js; one worker serves all images of a page.

import { CaiError } from "./core.js";

export { CaiError };

let worker = null;
const waiting = new Map();
let count = 0;

function started() {
  if (worker) return worker;
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data: { id, progress, result, error } }) => {
    const request = waiting.get(id);
    if (progress) {
      request.progress?.(progress);
      return;
    }
    waiting.delete(id);
    if (error) request.reject(new CaiError(error.kind, error.message));
    else request.resolve(result);
  };
  worker.onerror = (event) => {
    const failure = new CaiError("Error", `the decoder does not run here: ${event.message ?? "no modules in workers"}`);
    waiting.forEach(({ reject }) => reject(failure));
    waiting.clear();
    worker = null;
  };
  return worker;
}

/** Call a function of codec.js in the worker; `progress` hears of finished tiles. */
export function call(method, parameters, progress) {
  return new Promise((resolve, reject) => {
    const id = ++count;
    waiting.set(id, { resolve, reject, progress });
    started().postMessage({ id, method, parameters });
  });
}

/**
 * A decoded image as a bitmap in the colours of the screen.
 *
 * Samples of another profile go through the browser's reader of PNG, which converts them.
 */
export async function toBitmap(image) {
  if (!image.icc) {
    return createImageBitmap(new ImageData(image.rgba, image.width, image.height), { premultiplyAlpha: "default" });
  }
  const png = await call("toPng", [image]);
  return createImageBitmap(new Blob([png], { type: "image/png" }));
}
