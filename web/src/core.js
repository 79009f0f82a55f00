// SPDX-License-Identifier: BSD-3-Clause-Clear
// The C library of coded images (compressai/cpp_exts/cai/cai.h), compiled to WebAssembly.

const RUN_NETWORK = 1;
const UTF8 = new TextDecoder();
// Places of the fields of structures in 32-bit memory; api.cpp asserts them.
const INFO = { tiles: 32, quality: 40, model: 48, mode: 52, sourceMode: 56, alpha: 60, icc: 68,
  exif: 76, syncSafe: 92, hasHashes: 96, fingerprint: 100 };
const MODEL = { quality: 0, model: 24, multiple: 36, networks: 40, fingerprint: 44 };
const CALL = { network: 0, number: 4, inputs: 8, outputs: 12, input: 16, output: 20 };
const ARRAY = { name: 0, channels: 4, height: 8, width: 12, data: 16, size: 20 };
const ENCODING = { sourceMode: 0, tileSize: 4, tileOverlap: 8, alpha: 16, alphaSize: 20, quality: 40,
  size: 44 };

/** What a file, a bundle or an argument is refused with; `kind` is the error's name in Python. */
export class CaiError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = "CaiError";
    this.kind = kind;
  }
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Core {
  /** @param {BufferSource} wasm the bytes of cai.wasm */
  static async load(wasm) {
    const imports = {
      env: { emscripten_notify_memory_growth() {} },
      wasi_snapshot_preview1: {
        proc_exit(code) {
          throw new Error(`the decoder ended (${code})`);
        },
      },
    };
    const { instance } = await WebAssembly.instantiate(wasm, imports);
    instance.exports._initialize();
    return new Core(instance.exports);
  }

  constructor(exports) {
    this.c = exports;
  }

  // Views are made anew, since memory moves when it grows.
  get #view() {
    return new DataView(this.c.memory.buffer);
  }

  #word(at) {
    return this.#view.getUint32(at, true);
  }

  #text(at) {
    const bytes = new Uint8Array(this.c.memory.buffer);
    return UTF8.decode(bytes.subarray(at, bytes.indexOf(0, at)));
  }

  #bytes(at, size) {
    return new Uint8Array(this.c.memory.buffer).slice(at, at + size);
  }

  #allocate(size) {
    const at = this.c.malloc(Math.max(1, size));
    if (at === 0) throw new CaiError("MemoryError", "there is not enough memory");
    new Uint8Array(this.c.memory.buffer, at, size).fill(0);
    return at;
  }

  // Runs work with what it allocates, and frees that.
  #scoped(work) {
    const taken = [];
    const take = (content) => {
      const bytes = typeof content === "number" ? null : content;
      const at = this.#allocate(bytes === null ? content : bytes.length);
      if (bytes !== null) new Uint8Array(this.c.memory.buffer).set(bytes, at);
      taken.push(at);
      return at;
    };
    try {
      return work(take);
    } finally {
      taken.forEach((at) => this.c.free(at));
    }
  }

  #check(status) {
    if (status > RUN_NETWORK) {
      throw new CaiError(this.#text(this.c.cai_error_name(status)), this.#text(this.c.cai_message()));
    }
    return status;
  }

  // A handle that a function makes from bytes.
  #opened(make, bytes) {
    return this.#scoped((take) => {
      const out = take(4);
      this.#check(make(take(bytes), bytes.length, out));
      return this.#word(out);
    });
  }

  openFile(bytes) {
    const handle = this.#opened(this.c.cai_open, bytes);
    const at = this.c.cai_file_info(handle);
    const optional = (field) =>
      this.#word(at + field) && this.#bytes(this.#word(at + field), this.#word(at + field + 4));
    return {
      handle,
      width: Number(this.#view.getBigUint64(at, true)),
      height: Number(this.#view.getBigUint64(at + 8, true)),
      tiles: Number(this.#view.getBigUint64(at + INFO.tiles, true)),
      model: this.#text(this.#word(at + INFO.model)),
      mode: this.#text(this.#word(at + INFO.mode)),
      sourceMode: this.#text(this.#word(at + INFO.sourceMode)),
      quality: this.#view.getFloat64(at + INFO.quality, true),
      syncSafe: this.#word(at + INFO.syncSafe) !== 0,
      hasHashes: this.#word(at + INFO.hasHashes) !== 0,
      fingerprint: hex(this.#bytes(at + INFO.fingerprint, 8)),
      alpha: optional(INFO.alpha) || null,
      icc: optional(INFO.icc) || null,
      exif: optional(INFO.exif) || null,
    };
  }

  closeFile(file) {
    this.c.cai_close(file.handle);
  }

  openModel(bundle) {
    const handle = this.#opened(this.c.cai_model_open, bundle);
    const at = this.c.cai_model_get_info(handle);
    return {
      handle,
      model: this.#text(this.#word(at + MODEL.model)),
      quality: this.#view.getFloat64(at + MODEL.quality, true),
      multiple: this.#word(at + MODEL.multiple),
      networks: this.#word(at + MODEL.networks),
      fingerprint: hex(this.#bytes(at + MODEL.fingerprint, 8)),
    };
  }

  /** The ONNX graph of a network. */
  graph(model, number) {
    return this.#scoped((take) => {
      const out = take(12);
      this.#check(this.c.cai_model_network(model.handle, number, out, out + 4, out + 8));
      return this.#bytes(this.#word(out + 4), this.#word(out + 8));
    });
  }

  closeModel(model) {
    this.c.cai_model_close(model.handle);
  }

  #arrays(at, count) {
    return Array.from({ length: count }, (_, i) => {
      const one = at + i * ARRAY.size;
      const dims = [1, ...["channels", "height", "width"].map((side) => this.#word(one + ARRAY[side]))];
      const length = dims.reduce((product, side) => product * side);
      const data = new Float32Array(this.c.memory.buffer, this.#word(one + ARRAY.data), length);
      return { name: this.#text(this.#word(one + ARRAY.name)), dims, data };
    });
  }

  // Runs networks until a decoder or encoder is through.
  async #runAll(next, handle, run, progress) {
    const out = this.#allocate(4);
    try {
      while (this.#check(next(handle, out)) === RUN_NETWORK) {
        const call = this.#word(out);
        const number = this.#word(call + CALL.number);
        const outputs = () => this.#arrays(this.#word(call + CALL.output), this.#word(call + CALL.outputs));
        const inputs = this.#arrays(this.#word(call + CALL.input), this.#word(call + CALL.inputs));
        const results = await run(number, inputs, outputs().map(({ name }) => name));
        outputs().forEach(({ data }, i) => data.set(results[i]));
        progress?.();
      }
    } finally {
      this.c.free(out);
    }
  }

  #progress(read, handle) {
    return this.#scoped((take) => {
      const out = take(16);
      read(handle, out, out + 8);
      const [done, tiles] = [0, 8].map((at) => Number(this.#view.getBigUint64(out + at, true)));
      return { done, tiles };
    });
  }

  /**
   * Decode a file.
   *
   * @param run `(number of the network, [{name, dims, data}], names of outputs) -> [Float32Array]`
   * @param progress called with `{done, tiles}` after each network
   * @returns `{width, height, channels, samples, hash}`, the last tile's hash in hexadecimal digits
   */
  async decode(model, file, run, progress) {
    const handle = this.#scoped((take) => {
      const out = take(4);
      this.#check(this.c.cai_decoder_new(model.handle, file.handle, 0, 0n, out));
      return this.#word(out);
    });
    try {
      await this.#runAll(this.c.cai_decoder_next, handle, run, () =>
        progress?.(this.#progress(this.c.cai_decoder_progress, handle)));
      return this.#scoped((take) => {
        const out = take(24);
        const pixels = this.c.cai_decoder_pixels(handle, out, out + 4, out + 8);
        this.c.cai_decoder_hash(handle, out + 16);
        const [width, height, channels] = [0, 4, 8].map((at) => this.#word(out + at));
        const samples = this.#bytes(pixels, width * height * channels);
        return { width, height, channels, samples, hash: hex(this.#bytes(out + 16, 8)) };
      });
    } finally {
      this.c.cai_decoder_free(handle);
    }
  }

  /**
   * Code an image.
   *
   * @param image `{width, height, channels, samples, alpha: PNG file or null}`
   * @param tiling `{size, overlap}`
   * @param {?number} quality of a model of variable rate; `null` for its own
   * @param run, progress as of `decode`
   * @returns the file
   */
  async encode(model, image, tiling, quality, run, progress) {
    const { width, height, channels, samples, alpha } = image;
    const handle = this.#scoped((take) => {
      const out = take(4);
      const encoding = take(ENCODING.size);
      const plane = alpha ? take(alpha) : 0;
      this.#view.setUint32(encoding + ENCODING.tileSize, tiling.size, true);
      this.#view.setUint32(encoding + ENCODING.tileOverlap, tiling.overlap, true);
      this.#view.setUint32(encoding + ENCODING.alpha, plane, true);
      this.#view.setUint32(encoding + ENCODING.alphaSize, alpha ? alpha.length : 0, true);
      const chosen = quality === null ? 0 : take(8);
      if (chosen) this.#view.setFloat64(chosen, quality, true);
      this.#view.setUint32(encoding + ENCODING.quality, chosen, true);
      const pixels = take(samples);
      this.#check(this.c.cai_encoder_new(model.handle, pixels, width, height, channels, encoding, out));
      return this.#word(out);
    });
    try {
      await this.#runAll(this.c.cai_encoder_next, handle, run, () =>
        progress?.(this.#progress(this.c.cai_encoder_progress, handle)));
      return this.#scoped((take) => {
        const out = take(4);
        const file = this.c.cai_encoder_bytes(handle, out);
        return this.#bytes(file, this.#word(out));
      });
    } finally {
      this.c.cai_encoder_free(handle);
    }
  }
}
