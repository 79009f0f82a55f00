// SPDX-License-Identifier: BSD-3-Clause-Clear
// Files to images and back, in whichever thread: the C library, and onnxruntime for its networks.

import { CaiError, Core } from "./core.js";
import { isGreyPng, writePng } from "./png.js";

const here = (path) => new URL(path, import.meta.url);
// Larger images are tiled, as everywhere in compressai.
const TILED_ABOVE = 3 * 2 ** 20;
const TILING = { size: 1024, overlap: 32 };
// Networks of a model take some ten megabytes.
const MODELS_KEPT = 2;
// On a scale of qualities, a file of at least this share of a largest size is large enough, and so
// often what is between two qualities is halved.
const NEAR = 0.995;
const HALVINGS = 12;

async function bytesOf(url, what) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new CaiError("NetworkError", `${what} cannot be loaded: ${url} does not answer, or does not let other pages read it`);
  }
  if (!response.ok) throw new CaiError("NetworkError", `${what} cannot be loaded: ${url} answers ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

let started = null;

// The library, onnxruntime, and the list of models that are here.
function start() {
  started ??= (async () => {
    const [wasm, ort, list] = await Promise.all([
      bytesOf(here("cai.wasm"), "the decoder"),
      import("./ort/ort.wasm.min.mjs"),
      bytesOf(here("models/models.json"), "the list of models"),
    ]);
    ort.env.wasm.wasmPaths = here("ort/").href;
    // Threads need memory that they share, which browsers give to isolated pages only.
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
    ort.env.logLevel = "error";
    const models = JSON.parse(new TextDecoder().decode(list));
    return { core: await Core.load(wasm), ort, models };
  })();
  started.catch(() => (started = null));
  return started;
}

const kept = new Map();

async function modelOf(entry) {
  const { core, ort } = await start();
  if (!kept.has(entry.file)) {
    const loading = (async () => {
      const bundle = await bytesOf(here(`models/${entry.file}`), "the model");
      return { handle: core.openModel(bundle), sessions: [] };
    })();
    kept.set(entry.file, loading);
    loading.catch(() => kept.delete(entry.file));
  }
  // Those used last are kept longest.
  const loading = kept.get(entry.file);
  kept.delete(entry.file);
  kept.set(entry.file, loading);
  const model = await loading;
  const run = async (number, inputs, outputs) => {
    model.sessions[number] ??= await ort.InferenceSession.create(core.graph(model.handle, number), {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
    });
    const feeds = {};
    for (const { name, dims, data } of inputs) feeds[name] = new ort.Tensor("float32", data, dims);
    const results = await model.sessions[number].run(feeds, outputs);
    return outputs.map((name) => results[name].data);
  };
  return { handle: model.handle, run };
}

async function forgetOldModels() {
  const { core } = await start();
  for (const [file, loading] of kept) {
    if (kept.size <= MODELS_KEPT) return;
    kept.delete(file);
    const model = await loading;
    await Promise.all(model.sessions.map((session) => session.release()));
    core.closeModel(model.handle);
  }
}

// Whether a plane of alpha can be read, and its samples.
async function readAlpha(png, width, height) {
  const damaged = new CaiError("DamagedFileError", "the alpha plane is damaged");
  if (!isGreyPng(png, width, height)) throw damaged;
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }), options).catch(() => {
    throw damaged;
  });
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 === 0);
}

function toRgba({ width, height, channels, samples }, alpha) {
  const out = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) out[4 * i + c] = samples[i * channels + (c % channels)];
    out[4 * i + 3] = alpha ? alpha[i] : 255;
  }
  return out;
}

/**
 * Decode a coded image.
 *
 * @param {Uint8Array} bytes the file
 * @param progress called with `{done, tiles}`
 * @returns `{width, height, rgba, mode, icc, exif, model, quality, hash, tiles, bytes, milliseconds}`
 */
export async function decode(bytes, progress) {
  const { core, models } = await start();
  const begin = performance.now();
  const file = core.openFile(bytes);
  try {
    const entry = models.find(({ fingerprint }) => fingerprint === file.fingerprint);
    if (!entry) {
      const known = models.some(({ model }) => model === file.model);
      throw known
        ? new CaiError("WrongWeightsError", `the file was made with other weights of ${file.model} than those of this page`)
        : new CaiError("UnknownModelError", `the file was made with the model ${file.model}, which this page does not have`);
    }
    const model = await modelOf(entry);
    const alpha = file.alpha ? await readAlpha(file.alpha, file.width, file.height) : null;
    const image = await core.decode(model.handle, file, model.run, progress);
    await forgetOldModels();
    const { mode, icc, exif, quality, tiles } = file;
    return {
      ...{ width: image.width, height: image.height, rgba: toRgba(image, alpha), mode, icc, exif },
      ...{ model: file.model, quality, tiles, hash: image.hash, bytes: bytes.length },
      milliseconds: performance.now() - begin,
    };
  } finally {
    core.closeFile(file);
  }
}

/**
 * The qualities that images can be coded with here.
 *
 * @returns `{low, high, usual, step}`; all between are there, or every `step`
 */
export async function qualities() {
  const { models } = await start();
  const able = models.filter(({ encodes }) => encodes);
  const { rate } = able[0];
  if (rate) return { low: rate.low, high: rate.high, usual: rate.default, step: rate.whole ? 1 : 0 };
  const all = able.map(({ quality }) => quality).sort((a, b) => a - b);
  return { low: all[0], high: all.at(-1), usual: all[Math.floor(all.length / 2)], step: 1 };
}

// Three channels or one, and alpha as a file, of 8-bit RGBA.
async function toImage({ width, height, rgba }) {
  let grey = true;
  let opaque = true;
  for (let i = 0; i < rgba.length && (grey || opaque); i += 4) {
    grey &&= rgba[i] === rgba[i + 1] && rgba[i] === rgba[i + 2];
    opaque &&= rgba[i + 3] === 255;
  }
  const channels = grey ? 1 : 3;
  const samples = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < channels; c++) samples[i * channels + c] = rgba[4 * i + c];
  }
  const plane = { width, height, channels: 1, samples: rgba.filter((_, i) => i % 4 === 3) };
  return { width, height, channels, samples, alpha: opaque ? null : await writePng(plane) };
}

// Networks to code one image several times: what comes of its pixels is the same at each quality.
function remembering(run) {
  const known = [];
  return () => {
    let tile = 0;
    return async (number, inputs, outputs) => {
      if (inputs[0].name !== "x") return run(number, inputs, outputs);
      const place = tile++;
      known[place] ??= await run(number, inputs, outputs);
      return known[place];
    };
  };
}

// The best quality whose file takes at most so many bytes, or what the last one takes. `qualities`
// are tried in turn.
async function bestOf(qualities, most, code) {
  let file;
  for (const quality of qualities) {
    file = await code(quality);
    if (!most || file.length <= most) return { file, quality };
  }
  throw new CaiError("SizeError", `the smallest file takes ${file.length} bytes, more than ${most}`);
}

// The same on a scale, about to the last whole per mille of the size.
async function bestBetween(low, high, most, code) {
  let best = await bestOf(most ? [high, low] : [high], most, code);
  let missed = high;
  for (let i = 0; i < HALVINGS && best.quality < missed && best.file.length < NEAR * most; i++) {
    const quality = (best.quality + missed) / 2;
    const file = await code(quality);
    if (file.length <= most) best = { file, quality };
    else missed = quality;
  }
  return best;
}

/**
 * Code an image.
 *
 * @param image `{width, height, rgba}`
 * @param {number} quality see `qualities()`; with `most`, the highest that is tried
 * @param {number} most largest size in bytes, or 0 for any
 * @returns `{file, quality}`, the best quality whose file is no larger
 */
export async function encode(image, quality, most, progress) {
  const { core, models } = await start();
  const converted = await toImage(image);
  const tiling = image.width * image.height > TILED_ABOVE ? TILING : { size: 0, overlap: 0 };
  const { low, high } = await qualities();
  const highest = Math.min(high, Math.max(low, quality));
  const code = async (model, chosen, run = model.run) => {
    const file = await core.encode(model.handle, converted, tiling, chosen, run, progress);
    await forgetOldModels();
    return file;
  };
  const able = models.filter(({ encodes }) => encodes);
  if (able[0].rate) {
    const model = await modelOf(able[0]);
    const runOf = remembering(model.run);
    const codeAt = (one) => code(model, one, runOf());
    if (!able[0].rate.whole) return bestBetween(low, highest, most, codeAt);
    const best = Math.round(highest);
    const falling = Array.from({ length: best - low + 1 }, (_, i) => best - i);
    return bestOf(most ? falling : [best], most, codeAt);
  }
  const tried = able.map((entry) => entry.quality).filter((one) => one <= highest).sort((a, b) => b - a);
  const entryOf = (one) => able.find((entry) => entry.quality === one);
  return bestOf(tried, most, async (one) => code(await modelOf(entryOf(one)), null));
}

/** The samples of a decoded image as a PNG file, with profile and EXIF. */
export async function toPng({ width, height, rgba, mode, icc, exif }) {
  const places = { L: [0], LA: [0, 3], RGB: [0, 1, 2], RGBA: [0, 1, 2, 3] }[mode];
  const samples = new Uint8Array(width * height * places.length);
  for (let i = 0; i < width * height; i++) {
    places.forEach((place, c) => (samples[i * places.length + c] = rgba[4 * i + place]));
  }
  return writePng({ width, height, channels: places.length, samples, icc, exif });
}

/** The bytes of a link. */
export const load = (url) => bytesOf(url, "the file");
