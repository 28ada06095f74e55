// The instrument: move a factor or the sprite, change a symbol, and see what a code says.
// One module, two back ends: in Jupyter the kernel computes (torch), on a page the page does (ONNX Runtime Web).

const STYLE = `
.si { --ink: #24292f; --faint: #57606a; --line: #d0d7de; --ground: #f6f8fa; --accent: #0b5cad; --mark: #b34700;
  color: var(--ink); font: 14px/1.45 system-ui, sans-serif; max-width: 1100px; container-type: inline-size; }
.si.dark { --ink: #e6edf3; --faint: #a5afba; --line: #444c56; --ground: #262c36; --accent: #79b8ff; --mark: #ffa657; }
.si * { box-sizing: border-box; } .si [hidden] { display: none; }
.si-body { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; }
.si-world { flex: 1 1 250px; display: flex; flex-wrap: wrap; gap: 8px 24px; }
.si-world > :first-child { flex: 0 0 192px; } .si-world > :last-child { flex: 1 1 220px; max-width: 420px; }
.si-networks { flex: 999 1 min(560px, 100%); min-width: 0; display: grid; gap: 22px; }
.si canvas { display: block; max-width: 100%; border-radius: 3px; }
.si canvas:focus-visible, .si button:focus-visible, .si input:focus-visible, .si summary:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.si-image { width: 192px; height: 192px; image-rendering: pixelated; } .si-moves { cursor: grab; touch-action: none; }
.si-moves.held { cursor: grabbing; }
.si label { display: grid; grid-template-columns: 84px 1fr 62px; gap: 8px; align-items: center; margin: 3px 0; }
.si label.active > span:first-child { color: var(--accent); font-weight: 600; }
.si input[type=range] { width: 100%; min-width: 0; height: 24px; accent-color: var(--accent); }
.si-value { font-variant-numeric: tabular-nums; color: var(--faint); }
.si button { font: inherit; color: var(--ink); background: var(--ground); border: 1px solid var(--line); border-radius: 14px; padding: 3px 11px; min-height: 28px; cursor: pointer; }
.si button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: #fff; }
.si.dark button[aria-pressed=true] { color: #0d1117; }
.si-row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin: 0 0 10px; }
.si h4 { font-size: 15px !important; font-weight: 600; margin: 0 0 4px !important; color: var(--ink); }
.si p, main .si p { margin: 4px 0; max-width: none; font-size: 13px; color: var(--faint); }
.si p b { color: var(--ink); } .si .unseen { color: var(--mark); }
.si-pair { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.si-code { flex: 1 1 320px; min-width: 0; max-width: 540px; }
.si-code canvas, .si-way canvas { cursor: pointer; touch-action: manipulation; }
.si figure.figure, .si figure { margin: 0 !important; } .si figcaption { font-size: 12px; color: var(--faint); margin: 2px 0 0; }
.si-drawings { display: flex; flex-direction: column; gap: 10px; flex: none; }
.si-drawn { width: 96px; height: 96px; image-rendering: pixelated; background: #000; }
.si-near { display: flex; flex-wrap: wrap; gap: 4px; }
.si-near button { padding: 0; border-radius: 3px; min-height: 0; background: #000; line-height: 0; }
.si-near canvas { width: 42px; height: 42px; image-rendering: pixelated; }
.si summary { cursor: pointer; padding: 4px 0; color: var(--ink); }
.si-status { min-height: 1.4em; }
@container (min-width: 834px) { .si-world { position: sticky; top: 4.5rem; } }
@container (max-width: 520px) { .si-drawings { order: -1; flex-direction: row; } }
.si-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;

export const MAGMA = colours("000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf");
export const VIRIDIS = colours("440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725");
const RED_BLUE = colours("053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f");
const SHOWN_GROUPS = 6, SHOWN_IMAGES = 7, LEFT = 58, SMALLEST_TAU = 0.05, LARGEST_TAU = 5;

// ---------------------------------------------------------------- numbers

function colours(words) {
  return words.split(" ").map(word => [0, 2, 4].map(i => parseInt(word.slice(i, i + 2), 16)));
}

export function colour(map, x) { // x from 0 to 1
  const at = Math.min(Math.max(x, 0), 1) * (map.length - 1), i = Math.min(Math.floor(at), map.length - 2);
  return `rgb(${map[i].map((a, k) => Math.round(a + (at - i) * (map[i + 1][k] - a))).join(",")})`;
}

// Black or white, whichever is told better from a colour of the map: at least 4.58 : 1 for any colour.
export function legible(map, x) {
  const [r, g, b] = colour(map, x).match(/\d+/g).map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff";
}

export function entropy(probs) { // in bits
  return probs.reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);
}

export function argmax(numbers) {
  return numbers.reduce((best, x, i) => (x > numbers[best] ? i : best), 0);
}

// A code with other symbols in some groups: the two symbols swap their probabilities.
export function edited(probs, n_symbols, edits) {
  const result = probs.slice();
  for (const [group, symbol] of Object.entries(edits)) {
    const start = group * n_symbols, old = argmax(probs.subarray(start, start + n_symbols));
    [result[start + old], result[start + symbol]] = [probs[start + symbol], probs[start + old]];
  }
  return result;
}

// What images are compared by: z, or the distributions, one-hot where the code is hard.
export function vector_of({ n_groups, n_symbols, hard }, encoded, probs) {
  if (!n_symbols) return encoded;
  if (!hard) return probs;
  const one_hot = new Float32Array(probs.length);
  symbols(probs, n_groups, n_symbols).forEach((symbol, group) => (one_hot[group * n_symbols + symbol] = 1));
  return one_hot;
}

// What an image says of itself, and what it says after the edits that change something.
export function coded(network, encoded, probs, edits = {}) {
  const { n_groups, n_symbols } = network, own = vector_of(network, encoded, probs), said = n_symbols ? symbols(own, n_groups, n_symbols) : [];
  const wanted = Object.fromEntries(Object.entries(edits).filter(([group, symbol]) => n_symbols && said[group] !== symbol));
  return { own, said, wanted, code: Object.keys(wanted).length ? edited(own, n_symbols, wanted) : own };
}

// Rows of a table that are nearest to a vector, and their Euclidean distances.
export function nearest(vectors, vector, n) {
  const width = vector.length, far = [];
  for (let i = 0; i < vectors.length / width; i++) {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += (vectors[i * width + k] - vector[k]) ** 2;
    far.push([Math.sqrt(sum), i]);
  }
  return far.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, n);
}

// How a factor's way through its values moves each group: total variation distance (or standard deviations / 6) from the first value, and switches.
export function answers(codes, n_groups, n_symbols, spread) {
  const moved = [], switches = new Array(n_groups).fill(0), width = n_symbols || 1;
  codes.forEach((code, t) => {
    moved.push(Array.from({ length: n_groups }, (_, g) => {
      let sum = 0;
      for (let k = g * width; k < (g + 1) * width; k++) sum += Math.abs(code[k] - codes[0][k]);
      if (n_symbols && t && argmax(code.subarray(g * width, (g + 1) * width)) !== argmax(codes[t - 1].subarray(g * width, (g + 1) * width))) switches[g]++;
      return n_symbols ? sum / 2 : Math.min(sum / (spread[g] || 1) / 6, 1);
    }));
  });
  const most = Array.from({ length: n_groups }, (_, g) => Math.max(...moved.map(row => row[g])));
  const order = most.map((_, g) => g).sort((a, b) => switches[b] - switches[a] || most[b] - most[a] || a - b);
  return { moved, switches, most, order };
}

function half(bits) { // IEEE 754 binary16
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, rest = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -24 * rest);
}

const READERS = {
  F32: buffer => new Float32Array(buffer), U8: buffer => new Uint8Array(buffer), I16: buffer => new Int16Array(buffer),
  F16: buffer => Float32Array.from(new Uint16Array(buffer), half),
};

// The arrays of a safetensors file: name to { data, shape }.
export function safetensors(buffer) {
  const view = new DataView(buffer), length = Number(view.getBigUint64(0, true)), found = {};
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(about))
    if (name !== "__metadata__") found[name] = { shape, data: READERS[dtype](buffer.slice(8 + length + from, 8 + length + to)) };
  return found;
}

// ---------------------------------------------------------------- images, drawn by the rules of the renderers, in single precision as there

const f = Math.fround;

const dsprites = {
  half_side: 9.6, half_axes: [12.8, 7.2],
  heart: [8.211, 1.922, -0.291, -1.724, -0.414, -0.548, -0.075, -0.367, -0.078, -0.238, -0.012, -0.145, -0.008, -0.148],
  radius() {
    return (this.radii ??= Float32Array.from({ length: 512 }, (_, i) => {
      const angle = f((Math.PI * i) / 511);
      return this.heart.reduce((sum, a, k) => f(sum + f(f(a) * f(Math.cos(f(k * angle))))), 0);
    }));
  },
  inside(shape, u, v) {
    if (shape === 0) return Math.max(Math.abs(u), Math.abs(v)) <= f(this.half_side);
    if (shape === 1) return f(f(f(u / f(this.half_axes[0])) ** 2) + f(f(v / f(this.half_axes[1])) ** 2)) <= 1;
    return f(Math.hypot(u, v)) <= this.radius()[Math.round(f(f(Math.atan2(Math.abs(u), -v)) * f(511 / Math.PI)))];
  },
  draw([shape, scale, orientation, x, y]) { // uint8, 64 x 64
    const image = new Uint8Array(64 * 64), angle = (2 * Math.PI * orientation) / 39, size = f(0.5 + 0.1 * scale);
    const cos = f(Math.cos(angle)), sin = f(Math.sin(angle)), [cx, cy] = [x, y].map(place => f(15.5 + (32 / 31) * place));
    const [left, top] = [cx, cy].map(centre => Math.ceil(f(centre - 14)));
    for (let row = top; row < top + 28; row++) {
      for (let column = left; column < left + 28; column++) {
        const dx = f(f(column - cx) / size), dy = f(f(row - cy) / size);
        if (this.inside(shape, f(f(cos * dx) - f(sin * dy)), f(f(sin * dx) + f(cos * dy)))) image[64 * row + column] = 255;
      }
    }
    return image;
  },
};

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const plus = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const turns = n => Array.from({ length: n }, (_, i) => (2 * Math.PI * i) / n);

class Camera {
  constructor(height, pitch) {
    const [cos, sin] = [Math.cos(pitch), Math.sin(pitch)];
    this.eye = [0, -2.48, height], this.axes = [[1, 0, 0], [0, -sin, -cos], [0, cos, -sin]], this.tables = {};
  }
  project(point) { // x and y in pixels, and depth
    const [x, y, depth] = this.axes.map(axis => dot(plus(point, this.eye, -1), axis));
    return [32 + (167 * x) / depth, 32 + (167 * y) / depth, depth];
  }
  ray(x, y) { return plus(plus(this.axes[2], this.axes[1], (y - 32) / 167), this.axes[0], (x - 32) / 167); }
  ground(x, y) { // where a pixel sees the table, and whether it does
    const ray = this.ray(x, y);
    return [...plus(this.eye, ray, -this.eye[2] / Math.min(ray[2], -1e-3)).slice(0, 2), ray[2] < -1e-3];
  }
  table(ring, number) { // the empty scene, nine samples for each pixel
    return (this.tables[number] ??= Float64Array.from({ length: 64 * 64 * 3 }, (_, at) => {
      const [c, x, y] = [at % 3, Math.floor(at / 3) % 64, Math.floor(at / 192)];
      let sum = 0;
      for (let k = 0; k < 9; k++) {
        const [gx, gy, seen] = this.ground(x + ((k % 3) + 0.5) / 3, y + (Math.floor(k / 3) + 0.5) / 3), radius = seen ? Math.hypot(gx, gy) : 99;
        const light = Math.max(0.3 - 0.08 * radius, 0.02);
        sum += radius > 1 ? 0.25 * light : radius > 0.9 ? ring[c] * (0.95 - 0.15 * clamp(gy, -1, 1)) : radius > 0.07 && radius < 0.09 ? [0.42, 0.43, 0.42][c] : light * [0.85, 0.95, 0.88][c];
      }
      return sum / 9;
    }));
  }
}

const prism = (sides, radius, half) => [...turns(sides).map(a => [Math.cos(a), Math.sin(a), 0, radius]), [0, 0, 1, half], [0, 0, -1, half]];
const cone = (sides, radius, height) => {
  const slope = Math.atan2(radius, height), [cos, sin] = [Math.cos(slope), Math.sin(slope)];
  return [...turns(sides).map(a => [cos * Math.cos(a), cos * Math.sin(a), sin, (sin * height) / 2]), [0, 0, -1, height / 2]];
};

const mpi3d = {
  cameras: [new Camera(2.97, 0.823), new Camera(2.28, 0.648), new Camera(1.35, 0.38)],
  rings: [[0.45, 0.42, 0.75], [0.27, 0.52, 0.45], [0.55, 0.33, 0.35]],
  colours: [[0.95, 0.97, 0.95], [0.15, 0.6, 0.2], [0.9, 0.12, 0.1], [0.2, 0.45, 0.85], [0.3, 0.18, 0.13], [0.48, 0.47, 0.2]],
  faces: [cone(20, 1, 2), prism(4, 0.85, 0.85), prism(20, 0.75, 1), prism(6, 0.8, 0.8), cone(4, 0.85, 1.8), null], // null: a sphere
  sizes: [0.065, 0.105], light: [-0.5, -0.6, 1].map(x => x / Math.hypot(-0.5, -0.6, 1)),
  hit(faces, origin, ray) { // the outward normal where a ray hits first, or null
    if (!faces) {
      const [a, b, c] = [dot(ray, ray), dot(origin, ray), dot(origin, origin) - 1], inside = b * b - a * c;
      return inside > 0 ? plus(origin, ray, (-b - Math.sqrt(inside)) / a) : null;
    }
    let [enter, leave, normal] = [-Infinity, Infinity, null];
    for (const face of faces) {
      const towards = dot(face, ray), crossing = (face[3] - dot(face, origin)) / towards;
      if (towards < 0 && crossing > enter) [enter, normal] = [crossing, face];
      if (towards >= 0) leave = Math.min(leave, crossing);
    }
    return enter < leave ? normal : null;
  },
  draw([colour, shape, size, view, background, horizontal, vertical]) { // uint8, 64 x 64 x 3
    const camera = this.cameras[view], scene = this.table(view, background), radius = this.sizes[size], joint = [0, 0, 0.38];
    const [turn, swing] = [((horizontal / 39) * 172 * Math.PI) / 180, (((2 * vertical) / 19 - 1) * 100 * Math.PI) / 180];
    const along = [Math.sin(swing) * Math.cos(turn), Math.sin(swing) * Math.sin(turn), Math.cos(swing)];
    const axes = [[Math.cos(swing) * Math.cos(turn), Math.cos(swing) * Math.sin(turn), -Math.sin(swing)], [-Math.sin(turn), Math.cos(turn), 0], along];
    const tip = plus(joint, along, 0.42), [mx, my, depth] = camera.project(tip), nearer = depth < camera.project(joint)[2];
    const [left, top] = [mx, my].map(middle => clamp(Math.round(middle - 13), 0, 38)), inner = v => axes.map(axis => dot(axis, v));
    const origin = inner(plus(camera.eye, tip, -1)).map(x => x / radius), light = inner(this.light), held = [];
    for (let y = top; y < top + 26; y++)
      for (let x = left; x < left + 26; x++) {
        let [opacity, shade] = [0, 0];
        for (const [dx, dy] of [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]) {
          const normal = this.hit(this.faces[shape], origin, inner(camera.ray(x + dx, y + dy)));
          if (normal) opacity += 0.25, shade += 0.25 * (0.35 + 0.65 * Math.max(dot(normal, light), 0));
        }
        if (opacity) held.push([64 * y + x, opacity, this.colours[colour].map(c => (c * shade) / opacity)]);
      }
    const paint = (at, opacity, ink) => { for (let c = 0; c < 3; c++) scene[3 * at + c] += opacity * (ink[c] - scene[3 * at + c]); };
    for (let at = 0; at < 4096; at++) { // the shadow under the object
      const [gx, gy] = camera.ground((at % 64) + 0.5, Math.floor(at / 64) + 0.5), near = Math.hypot(gx - tip[0], gy - tip[1]) / (1.6 * radius);
      if (near < 1) for (let c = 0; c < 3; c++) scene[3 * at + c] *= 1 - 0.5 * (1 - near * near);
    }
    const rod = (from, to, thick, brightness) => {
      const [ax, ay, a] = camera.project(from), [bx, by, b] = camera.project(to), [lx, ly] = [bx - ax, by - ay];
      for (let at = 0; at < 4096; at++) {
        const [x, y] = [(at % 64) + 0.5 - ax, Math.floor(at / 64) + 0.5 - ay], t = clamp((x * lx + y * ly) / Math.max(lx * lx + ly * ly, 1e-6), 0, 1);
        const [ox, oy] = [x - t * lx, y - t * ly], width = (thick * 167) / (a * (1 - t) + b * t), opacity = clamp(width - Math.hypot(ox, oy) + 0.5, 0, 1);
        if (opacity) paint(at, opacity, [1, 1, 1].map(() => brightness * (0.65 - 0.35 * clamp(ox / width, -1, 1))));
      }
    };
    const hold = () => held.forEach(pixel => paint(...pixel));
    if (!nearer) hold();
    rod([0, 0, 0], joint, 0.055, 0.16), rod(joint, tip, 0.017, 0.22);
    if (nearer) hold();
    return Uint8Array.from(scene, x => Math.round(255 * x));
  },
  table(view, background) { return this.cameras[view].table(this.rings[background], background).slice(); },
};

export const WORLDS = { dsprites, mpi3d };

// ---------------------------------------------------------------- back ends: manifest(), draw(rows), read(network, rows, tau), show(network, values, tau, edits), sample(network)

// What the kernel computes. A request and its answer have the same number.
class Kernel {
  constructor(model) {
    this.model = model, this.waiting = new Map(), this.asked = [], this.count = 0;
    model.on("msg:custom", ({ id, error, arrays }, buffers) => {
      const { resolve, reject } = this.waiting.get(id) ?? {};
      if (!resolve) return; // of another view of the same widget
      this.waiting.delete(id);
      if (error) return reject(new Error(error));
      resolve(Object.fromEntries(arrays.map(({ name, dtype, shape }, i) => {
        const { buffer, byteOffset, byteLength } = buffers[i];
        return [name, { shape, data: READERS[dtype](buffer.slice(byteOffset, byteOffset + byteLength)) }];
      })));
    });
  }
  ask(request) {
    const id = `${(this.own ??= Math.random().toString(36).slice(2))}-${this.count++}`;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.asked.push({ id, ...request });
      if (this.asked.length === 1) queueMicrotask(() => this.model.send({ requests: this.asked.splice(0) })); // those of one moment travel together
      setTimeout(() => this.waiting.delete(id) && reject(new Error("the kernel does not answer: run the cell again")), 60_000);
    });
  }
  async manifest() { return this.model.get("manifest"); }
  async draw(rows) { return split((await this.ask({ op: "draw", rows })).images); }
  async read(network, rows, tau) {
    const { images, encoded, probs } = await this.ask({ op: "read", network, rows, tau });
    return { images: split(images), encoded: split(encoded), probs: probs && split(probs) };
  }
  async show({ name }, values, tau, edits) { // all that an input asks of a network, in one answer
    const { images, encoded, probs, pictures } = await this.ask({ op: "show", network: name, values, tau, edits });
    const [picture, unedited] = split(pictures);
    return { image: images.data, encoded: encoded.data, probs: probs?.data, picture, unedited };
  }
  sample(network) { // the same every time; its images come with the first network's
    const images = !this.samples;
    return ((this.samples ??= {})[network] ??= this.ask({ op: "sample", network, images }).catch(error => { delete this.samples[network]; throw error; }));
  }
}

function split({ data, shape }) { // one array for each row
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  return Array.from({ length: shape[0] }, (_, i) => data.subarray(i * width, (i + 1) * width));
}

// What the page computes. Files are fetched when they are first needed.
class Page {
  constructor(base, world) { this.base = base, this.world = world, this.kept = new Map(), this.last = Promise.resolve(); }
  once(key, make) {
    if (!this.kept.has(key)) this.kept.set(key, make().catch(error => { this.kept.delete(key); throw error; }));
    return this.kept.get(key);
  }
  async bytes(name) {
    const answer = await fetch(new URL(name, this.base));
    if (!answer.ok) throw new Error(`${name} could not be fetched (${answer.status})`);
    return answer.arrayBuffer();
  }
  manifest() { return this.once("manifest", async () => (this.about = JSON.parse(new TextDecoder().decode(await this.bytes(`${this.world}.json`))))); }
  runtime() { // a browser keeps an import that failed, so another try has another address
    return this.once("runtime", async () => {
      const again = this.tries ? `?${this.tries}` : "";
      this.tries = (this.tries ?? 0) + 1;
      const wasmBinary = await this.bytes("runtime/ort-wasm-simd-threaded.wasm"), ort = await import(new URL(`runtime/ort.wasm.min.mjs${again}`, this.base));
      Object.assign(ort.env.wasm, { wasmBinary, numThreads: 1, wasmPaths: { mjs: new URL(`runtime/ort-wasm-simd-threaded.mjs${again}`, this.base).href } });
      return (this.ort = ort);
    });
  }
  session(file) {
    return this.once(file, async () => {
      const ort = await this.runtime(), bytes = new Uint8Array(await this.bytes(file));
      return ort.InferenceSession.create(bytes).catch(error => { this.kept.delete("runtime"); throw error; });
    });
  }
  run(session, feeds) { return (this.last = this.last.catch(() => 0).then(() => session.run(feeds))); } // one at a time
  async draw(rows) { return rows.map(row => WORLDS[this.world].draw(row)); }
  async read(network, rows, tau) {
    const session = await this.session(`${network}/network.onnx`), [height, width, channels] = this.about.image, found = { images: [], encoded: [], probs: [] };
    for (const image of await this.draw(rows)) {
      const planes = new Uint8Array(image.length);
      for (let i = 0; i < image.length; i++) planes[(i % channels) * height * width + Math.floor(i / channels)] = image[i];
      const out = await this.run(session, { images: new this.ort.Tensor("uint8", planes, [1, channels, height, width]), tau: new this.ort.Tensor("float32", [tau], []) });
      found.images.push(image), found.encoded.push(out.encoded.data), found.probs.push(out.probs?.data);
    }
    return { ...found, probs: found.probs[0] && found.probs };
  }
  async decode(network, codes) {
    const session = await this.session(`${network}/decoder.onnx`), pictures = [];
    for (const code of codes) {
      const [pixels] = Object.values(await this.run(session, { codes: new this.ort.Tensor("float32", code, [1, code.length]) }));
      const [, channels, height, width] = pixels.dims;
      pictures.push(Uint8Array.from({ length: pixels.data.length }, (_, i) => Math.round(255 * pixels.data[(i % channels) * height * width + Math.floor(i / channels)])));
    }
    return pictures;
  }
  async show(network, values, tau, edits) {
    const { images, encoded, probs } = await this.read(network.name, [values], tau), { own, code } = coded(network, encoded[0], probs?.[0], edits);
    const [picture, unedited] = await this.decode(network.name, code === own ? [code] : [code, own]);
    return { image: images[0], encoded: encoded[0], probs: probs?.[0], picture, unedited };
  }
  sample(network) { return this.once(`${network}/sample`, async () => safetensors(await this.bytes(`${network}/sample.safetensors`))); }
}

// ---------------------------------------------------------------- the instrument

function h(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) name.startsWith("on") ? element.addEventListener(name.slice(2), value) : name in element && name !== "list" ? (element[name] = value) : element.setAttribute(name, value);
  element.append(...children.filter(child => child != null));
  return element;
}

function show(canvas, image, [height, width, channels]) { // an image, pixel by pixel
  canvas.width = width, canvas.height = height;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = image[i * channels + (channels === 1 ? 0 : c)];
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

export class Instrument {
  constructor(root, backend, options = {}) {
    Object.assign(this, { root, backend, options, times: [], found: {}, edits: {}, cursor: {}, views: {}, thumbs: {} });
    root.classList.add("si");
    root.addEventListener("keydown", event => { if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation(); }); // JupyterLab has commands on plain keys, arrows too
    root.append(h("style", { textContent: STYLE }));
    root.instrument = this;
  }

  async start() {
    this.about = await this.backend.manifest();
    const { about } = this;
    this.values = [...about.start], this.active = about.drag?.[0] ?? 0;
    this.tau = null; // each network's own, until the slider is moved
    const wanted = this.options.show ?? [about.networks[0].name];
    this.shown = about.networks.map(network => network.name).filter(name => wanted.includes(name));
    this.build();
    this.recolour();
    const watch = new MutationObserver(() => this.recolour());
    for (const element of [document.documentElement, document.body]) watch.observe(element, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-bs-theme"] });
    let width = this.root.clientWidth;
    const resized = new ResizeObserver(() => { if (this.root.clientWidth !== width) { width = this.root.clientWidth; this.recolour(); this.paint(); } });
    resized.observe(this.root);
    this.stop = () => { watch.disconnect(); resized.disconnect(); this.stopped = true; };
    for (const network of about.networks) if (network.first) this.found[network.name] = this.first(network);
    if (about.networks.some(network => network.first)) this.image = (await this.backend.draw([this.values]))[0];
    this.image ? this.paint() : await this.update();
    const wake = () => { if (!this.awake) this.update(); };
    for (const kind of ["pointerenter", "focusin", "touchstart"]) this.root.addEventListener(kind, wake, { once: true, passive: true });
    return this;
  }

  first({ first, n_groups, n_symbols }) { // what the manifest says of the first image, so that a page shows it before anything is computed
    const vector = Float32Array.from(first.code), picture = Uint8Array.from(atob(first.picture), letter => letter.charCodeAt(0));
    return { values: this.values, own: vector, code: vector, symbols: n_symbols ? symbols(vector, n_groups, n_symbols) : [], picture, unedited: null, near: [], changed: [] };
  }

  network(name) { return this.about.networks.find(network => network.name === name); }

  // ------------------------------------------------ parts

  build() {
    const { about } = this, places = about.drag ?? [];
    const moves = about.drag ? { tabIndex: 0, role: "application", "aria-roledescription": "movable picture" } : { role: "img" };
    this.canvas = h("canvas", { className: about.drag ? "si-image si-moves" : "si-image", ...moves,
      onpointerdown: event => this.hold(event), onpointermove: event => this.drag(event), onkeydown: event => this.nudge(event) });
    for (const kind of ["pointerup", "pointercancel"]) this.canvas.addEventListener(kind, () => { this.held = null; this.canvas.classList.remove("held"); });
    this.seen = h("p");
    this.sliders = about.factors.map(({ name, names }, index) => {
      const input = h("input", { type: "range", min: 0, max: names.length - 1, step: 1, oninput: event => this.move(index, +input.value, event), onfocus: () => this.choose(index) });
      const output = h("span", { className: "si-value" }), label = h("label", {}, h("span", { textContent: name }), input, output);
      return { input, output, label };
    });
    const soft = (this.soft = about.networks.find(network => network.n_symbols && !network.hard));
    this.tau_input = h("input", { type: "range", min: Math.log(SMALLEST_TAU), max: Math.log(LARGEST_TAU), step: 0.01, 
      oninput: event => this.warm(Math.exp(+this.tau_input.value), event) });
    this.tau_output = h("span", { className: "si-value" });
    this.status = h("p", { className: "si-status", role: "status" });
    this.live = h("div", { className: "si-hidden", "aria-live": "polite" });
    const buttons = about.networks.map(network => h("button", { type: "button", textContent: network.title, onclick: event => this.toggle(network.name, event) }));
    this.buttons = Object.fromEntries(about.networks.map((network, i) => [network.name, buttons[i]]));
    const reset = h("button", { type: "button", textContent: "Start again", onclick: event => this.reset(event) });
    const picture = h("div", {}, h("figure", {}, this.canvas, h("figcaption", { textContent: places.length ? "Drag it, or move a slider" : "Move a slider" })), this.seen);
    const temperature = soft ? h("label", {}, h("span", { textContent: "temperature" }), this.tau_input, this.tau_output) : null;
    const world = h("div", { className: "si-world" }, picture, h("div", {}, ...this.sliders.map(slider => slider.label), temperature, h("div", { className: "si-row" }, reset)));
    this.sections = h("div", { className: "si-networks" });
    this.map = this.embedding_map();
    const choice = about.networks.length > 1 ? h("div", { className: "si-row", role: "group", "aria-label": "networks" }, h("span", { textContent: "Networks:" }), ...buttons) : null;
    this.root.append(...[choice, h("div", { className: "si-body" }, world, this.sections), this.map.details, this.status, this.live].filter(Boolean));
    this.rebuild();
  }

  rebuild() { // a section for each network that is shown
    this.views = Object.fromEntries(this.shown.map(name => [name, this.section(this.network(name))]));
    this.sections.replaceChildren(...this.shown.map(name => this.views[name].section));
    for (const [name, button] of Object.entries(this.buttons)) button.setAttribute("aria-pressed", this.shown.includes(name));
    const kept = this.map.choose.value;
    this.map.choose.replaceChildren(...this.shown.map(name => h("option", { value: name, textContent: this.network(name).title })));
    if (this.shown.includes(kept)) this.map.choose.value = kept;
    this.map.choose.hidden = this.shown.length < 2;
  }

  section(network) {
    const { name, title, n_symbols } = network;
    const code = h("canvas", { tabIndex: 0, role: "application", "aria-roledescription": n_symbols ? "map of a code: a column for each group, a row for each symbol" : "row of numbers",
      onclick: event => this.click(network, event), onkeydown: event => this.key(network, event) });
    const drawn = h("canvas", { className: "si-drawn", role: "img" }), plain = h("canvas", { className: "si-drawn", role: "img" });
    const before = h("figure", { hidden: true }, plain, h("figcaption", { textContent: "before the edit" }));
    const near = h("div", { className: "si-near", role: "group", "aria-label": `images of the sample whose codes are nearest, ${title}` });
    const way = h("canvas", { role: "img", onclick: event => this.pick(network, event) }), way_words = h("figcaption");
    const words = h("p"), undo = h("button", { type: "button", textContent: "Undo edits", hidden: true, onclick: event => { delete this.edits[name]; code.focus({ preventScroll: true }); this.update(event); } });
    const section = h("section", { "aria-label": title },
      h("h4", { textContent: title }), network.says ? h("p", { textContent: network.says }) : null,
      h("div", { className: "si-pair" }, h("figure", { className: "si-code" }, code, words, undo),
        h("div", { className: "si-drawings" }, h("figure", {}, drawn, h("figcaption", { textContent: "decoded from the code" })), before)),
      h("figure", {}, near, h("figcaption", { textContent: "nearest codes among the sample, nearest first; press one to go there" })),
      h("figure", { className: "si-way" }, way, way_words));
    return { section, code, drawn, plain, before, near, way, way_words, words, undo };
  }

  embedding_map() {
    const canvas = h("canvas", { tabIndex: 0, role: "application", "aria-label": "map of the sample: arrow keys go from image to image, Enter moves the sliders there",
      onclick: event => this.land(event), onkeydown: event => this.step(event) });
    const choose = h("select", { "aria-label": "network of the map", onchange: () => { this.chosen = undefined; this.open_map(); } });
    const details = h("details", { ontoggle: () => this.open_map() }, h("summary", { textContent: "Map of codes: where this image lies among others" }), choose, canvas,
      h("p", { textContent: "Each image of the sample stands where the first two principal components of its code are. Rings: this image's nearest. Press an image to go there." }));
    return { details, canvas, choose };
  }

  // ------------------------------------------------ what a reader does

  move(index, value, event) {
    this.active = index;
    this.values = this.values.map((old, i) => (i === index ? value : old));
    this.update(event);
  }
  choose(index) { if (this.active !== index) { this.active = index; this.update(); } }
  go(values, event) { this.values = [...values]; this.update(event); }
  warm(tau, event) { this.tau = tau; this.update(event); }
  reset(event) {
    this.edits = {}, this.cursor = {}, this.values = [...this.about.start], this.tau = null;
    this.update(event);
  }
  toggle(name, event) {
    const shown = this.shown.includes(name) ? this.shown.filter(other => other !== name) : [...this.shown, name];
    if (!shown.length) return;
    this.shown = this.about.networks.map(network => network.name).filter(other => shown.includes(other));
    if (this.found[name]?.values !== this.values) delete this.found[name]; // what it said of an older image is no "before"
    this.rebuild();
    this.paint();
    this.update(event);
  }
  hold(event) {
    if (!this.about.drag) return;
    this.canvas.setPointerCapture(event.pointerId), this.canvas.classList.add("held");
    this.held = { x: event.clientX, y: event.clientY, values: this.values };
    event.preventDefault(), this.canvas.focus({ preventScroll: true });
  }
  drag(event) {
    if (!this.held) return;
    const [across, down] = this.about.drag, box = this.canvas.getBoundingClientRect(), reach = this.about.reach ?? 1, next = [...this.held.values];
    [[across, (event.clientX - this.held.x) / box.width], [down, (event.clientY - this.held.y) / box.height]].forEach(([factor, share]) => {
      const most = this.about.factors[factor].names.length - 1;
      next[factor] = Math.min(Math.max(Math.round(this.held.values[factor] + (share / reach) * most), 0), most);
    });
    if (next.every((value, i) => value === this.values[i])) return;
    this.active = Math.abs(next[across] - this.values[across]) >= Math.abs(next[down] - this.values[down]) ? across : down;
    this.go(next, event);
  }
  nudge(event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1] }[event.key];
    if (!step || !this.about.drag) return;
    event.preventDefault();
    const factor = this.about.drag[step[0]], most = this.about.factors[factor].names.length - 1;
    this.move(factor, Math.min(Math.max(this.values[factor] + step[1], 0), most), event);
  }
  set(network, group, symbol, event) { // the symbol that a group shall say; its own takes the edit back
    if (!network.n_symbols || !this.found[network.name]) return;
    const edits = { ...this.edits[network.name] }, own = this.found[network.name].symbols[group];
    symbol === own ? delete edits[group] : (edits[group] = symbol);
    this.edits = { ...this.edits, [network.name]: edits }, this.cursor[network.name] = [group, symbol];
    this.update(event);
  }
  click(network, event) {
    const cell = this.cell_at(network, event);
    if (cell && network.n_symbols && this.found[network.name]) this.set(network, ...cell, event);
  }
  key(network, event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], { n_groups, n_symbols, name } = network;
    if (!n_symbols || !this.found[name]) return;
    const [group, symbol] = this.cursor[name] ?? [0, this.found[name]?.symbols[0] ?? 0];
    if (step) this.cursor[name] = [(group + step[0] + n_groups) % n_groups, (symbol + step[1] + n_symbols) % n_symbols];
    else if (event.key === "Enter" || event.key === " ") this.set(network, group, symbol, event);
    else if (event.key === "Backspace" || event.key === "Delete") this.set(network, group, this.found[name].symbols[group], event);
    else return;
    event.preventDefault();
    this.paint_code(network);
    const [g, s] = this.cursor[name], p = this.found[name].code[g * n_symbols + s];
    this.say(`group ${g}, symbol ${s}: probability ${p.toFixed(2)}`);
  }
  pick(network, event) { // a value of the factor that is on its way, in the picture of the way
    const way = this.found[network.name]?.way, box = this.views[network.name].way.getBoundingClientRect();
    if (!way) return;
    const t = Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT)) * way.moved.length);
    if (t >= 0 && t < way.moved.length) this.move(way.factor, t % this.about.factors[way.factor].names.length, event);
  }

  // ------------------------------------------------ what is computed

  async update(event) {
    if (event) this.asked_at = event.timeStamp, this.asked = true;
    clearTimeout(this.timer);
    this.awake = true;
    if (this.busy) { this.again = true; return this.busy; }
    return (this.busy = this.work().finally(() => (this.busy = null)));
  }

  async work() {
    do {
      this.again = false;
      const asked_at = this.asked_at;
      this.asked_at = null;
      try {
        if (this.shown.some(name => !this.read_once?.has(name))) this.tell(this.backend instanceof Page ? "Loading the networks: some megabytes, once." : "Loading.");
        const state = { values: this.values, tau: this.tau, edits: this.edits, shown: this.shown };
        let failed = null;
        await Promise.all(state.shown.map(name => this.read(name, state).catch(error => { failed ??= error; console.warn(error); }))); // the others go on
        this.tell(failed ? `This cannot be computed: ${failed.message}` : "");
        this.paint();
        if (asked_at) requestAnimationFrame(() => this.times.push(performance.now() - asked_at));
      } catch (error) {
        this.tell(`This cannot be computed: ${error.message}`);
        console.warn(error);
      }
    } while (this.again);
    this.timer = setTimeout(() => this.follow(), 120);
  }

  async read(name, { values, tau, edits }) {
    const network = this.network(name), last = this.found[name], same = last?.values?.every((value, i) => value === values[i]);
    const [shown, sample] = await Promise.all([this.backend.show(network, values, tau ?? network.tau ?? 1, edits[name] ?? {}), this.backend.sample(name)]);
    const { image, encoded, probs, picture, unedited } = shown, { own, said, wanted, code } = coded(network, encoded, probs, edits[name]);
    if (!this.samples?.[name] && sample.images) this.keep_thumbnails(split(sample.values), split(sample.images));
    this.samples = { ...this.samples, [name]: sample };
    this.image = image, (this.read_once ??= new Set()).add(name);
    const before = same ? last.before : last?.symbols, near = nearest(sample.vectors.data, code, SHOWN_IMAGES);
    await this.thumbnails(name, near.map(([, row]) => row));
    this.found[name] = { values, tau, own, code, symbols: said, edits: wanted, picture, unedited, before, way: same ? last.way : null, encoded,
      near, changed: before ? said.flatMap((symbol, g) => (symbol !== before[g] ? [g] : [])) : [] };
  }

  async thumbnails(name, rows) { // draws what was not drawn before
    const values = split(this.samples[name].values), missing = rows.filter(row => !this.thumbs[values[row].join()]).map(row => [...values[row]]);
    if (missing.length) this.keep_thumbnails(missing, await this.backend.draw(missing));
  }
  keep_thumbnails(rows, images) { images.forEach((image, i) => (this.thumbs[rows[i].join()] = image)); }

  async follow() { // the groups that answer to the factor that was moved
    const factor = this.active, { names, circular } = this.about.factors[factor], at = this.values, tau = this.tau;
    const rows = [...names.keys(), ...(circular ? [0] : [])].map(value => at.map((old, i) => (i === factor ? value : old)));
    const stale = () => this.busy || this.stopped || factor !== this.active || at !== this.values || tau !== this.tau;
    try {
      for (const name of this.shown) {
        const network = this.network(name), codes = [];
        if (this.found[name]?.values !== at || !this.samples?.[name]) continue;
        for (let i = 0; i < rows.length; i += 4) {
          await new Promise(done => setTimeout(done)); // a page computes without a break: let inputs in
          if (stale()) return;
          const { encoded, probs } = await this.backend.read(name, rows.slice(i, i + 4), tau ?? network.tau ?? 1);
          encoded.forEach((z, k) => codes.push(vector_of(network, z, probs?.[k])));
        }
        if (stale()) return;
        this.found[name].way = { factor, tau, at, ...answers(codes, network.n_symbols ? network.n_groups : codes[0].length, network.n_symbols, this.samples[name].spread?.data), codes };
        this.paint();
      }
    } catch (error) {
      this.tell(`This cannot be computed: ${error.message}`);
    }
  }

  // ------------------------------------------------ what is shown

  recolour() {
    const site = document.documentElement, body = document.body;
    const lab = body.dataset.jpThemeLight, dark = lab ? lab === "false" : site.classList.contains("quarto-dark") || body.classList.contains("quarto-dark") || site.dataset.bsTheme === "dark";
    this.root.classList.toggle("dark", dark);
    const style = getComputedStyle(this.root);
    const ink = Object.fromEntries(["ink", "faint", "line", "accent", "mark"].map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
    if (JSON.stringify(ink) === JSON.stringify(this.ink)) return;
    this.ink = ink;
    this.paint();
  }

  tell(words) { if (this.status && this.status.textContent !== words) this.status.textContent = words; }
  say(words) { this.live.textContent = words; }

  part() { // of the split, in words
    const { parts } = this.about;
    if (!parts) return "";
    const at = parts.classes.reduce((sum, classes, i) => sum * parts.sizes[i] + classes[this.values[i]], 0);
    return parts.table[at];
  }

  paint() {
    if (!this.image || !this.ink) return;
    const { about } = this, part = this.part();
    show(this.canvas, this.image, about.image);
    const said = about.factors.map(({ name, names }, i) => `${name} ${names[this.values[i]]}`).join(", ");
    this.canvas.setAttribute("aria-label", `the image: ${said}.${about.drag ? " Arrow keys move it." : ""}`);
    this.seen.className = part === "train" ? "" : "unseen";
    this.seen.textContent = { train: "Training saw this combination.", val: "Training never saw this combination (val).", test: "Training never saw this combination (test)." }[part] ?? "";
    this.sliders.forEach(({ input, output, label }, i) => {
      const words = about.factors[i].names[this.values[i]];
      input.value = this.values[i], output.textContent = words, label.classList.toggle("active", i === this.active);
      input.setAttribute("aria-valuetext", words);
    });
    const tau = (this.tau ?? this.soft?.tau ?? 1).toPrecision(2);
    this.tau_input.value = Math.log(this.tau ?? tau), this.tau_output.textContent = tau;
    this.tau_input.setAttribute("aria-valuetext", tau);
    const words = this.shown.map(name => this.paint_network(this.network(name))).filter(Boolean);
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => { if (this.asked) this.say(words.join(" ")), (this.asked = false); }, 700);
    if (this.map.details.open) this.paint_map();
  }

  paint_network(network) {
    const { name, title, n_groups, n_symbols } = network, view = this.views[name], found = this.found[name];
    if (!found) return "";
    const edits = Object.entries(found.edits ?? {});
    view.before.hidden = view.undo.hidden = !edits.length; // first, because it changes how wide the map is
    this.paint_code(network);
    show(view.drawn, found.picture, this.about.image);
    view.drawn.setAttribute("aria-label", `what the code of ${title} decodes to`);
    if (edits.length) show(view.plain, found.unedited, this.about.image), view.plain.setAttribute("aria-label", "what it decoded to before the edit");
    this.paint_near(network);
    this.paint_way(network);
    let words = `A vector of ${found.code.length} numbers: no symbols, no entropy. Blue is below the sample's mean, red above.`;
    if (n_symbols) {
      const bits = found.own.length / n_symbols && Array.from({ length: n_groups }, (_, g) => entropy(found.own.subarray(g * n_symbols, (g + 1) * n_symbols))).reduce((a, b) => a + b, 0) / n_groups;
      words = network.hard ? `Hard: each group passes one of ${n_symbols} symbols.` : `Mean entropy ${bits.toFixed(2)} of ${+Math.log2(n_symbols).toFixed(2)} bits.`;
      if (found.before) words += ` ${found.changed.length} of ${n_groups} groups changed their symbol with the last move.`;
      words += edits.length ? ` Edited: ${edits.map(([g, s]) => `group ${g} says ${s} instead of ${found.symbols[g]}`).join(", ")}.` : " Press a cell to set a symbol.";
    }
    view.words.textContent = words;
    return `${title}: ${words}`;
  }

  paint_near({ name }) { // made anew only if they are others: who is at one of them stays there
    const { near } = this.found[name], { near: box } = this.views[name], key = near.map(([distance, row]) => `${row}:${distance.toFixed(2)}`).join();
    if (this.views[name].near_key === key) return;
    this.views[name].near_key = key;
    const at = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...near.map(([distance, row]) => {
      const canvas = h("canvas"), values = [...split(this.samples[name].values)[row]];
      show(canvas, this.thumbs[values.join()], this.about.image);
      const words = this.about.factors.map((factor, i) => `${factor.name} ${factor.names[values[i]]}`).join(", ");
      return h("button", { type: "button", title: `distance ${distance.toFixed(2)}: ${words}`, "aria-label": `go to ${words}, distance ${distance.toFixed(2)}`, onclick: event => this.go(values, event) }, canvas);
    }));
    if (at >= 0) box.children[Math.min(at, near.length - 1)]?.focus({ preventScroll: true });
  }

  layout({ n_groups, n_symbols }, width, numbers) { // of the map of a code: columns of groups in bands, one below the other
    let columns = n_symbols ? n_groups : Math.min(16, numbers);
    if (n_symbols) while (columns > 8 && (width - LEFT) / columns < 13) columns = Math.ceil(columns / 2);
    const rows = n_symbols || Math.ceil(numbers / columns), bands = n_symbols ? Math.ceil(n_groups / columns) : 1;
    const wide = Math.max(4, Math.min(24, Math.floor((width - LEFT) / columns))), high = n_symbols ? Math.max(4, Math.min(wide, Math.floor(288 / rows))) : wide;
    const top = n_symbols ? 28 : 4, band = top + rows * high + (n_symbols ? 42 : 4);
    return { columns, rows, bands, wide, high, top, band, height: bands * band };
  }
  corner({ columns, wide, high, top, band }, group, symbol) { // where a cell begins
    return [LEFT + (group % columns) * wide, Math.floor(group / columns) * band + top + symbol * high];
  }

  prepared(canvas, height) { // a canvas as wide as its figure
    const width = Math.max(200, Math.floor(canvas.parentElement.clientWidth)), ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio, canvas.height = height * ratio;
    canvas.style.width = `${width}px`, canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif", pen.fillStyle = this.ink.ink, pen.textBaseline = "middle", pen.textAlign = "right";
    return pen;
  }

  paint_code(network) {
    const { name, title, n_groups, n_symbols } = network, { code, own, changed, edits, way } = this.found[name], canvas = this.views[name].code;
    const width = Math.max(200, Math.floor(canvas.parentElement.clientWidth)), at = this.layout(network, width, code.length), pen = this.prepared(canvas, at.height);
    Object.assign(this.views[name], { at, width });
    if (!n_symbols) {
      const { mean, spread } = this.samples?.[name] ?? {};
      code.forEach((number, i) => {
        const z = mean ? (number - mean.data[i]) / (spread.data[i] || 1) : 0;
        pen.fillStyle = colour(RED_BLUE, z / 6 + 0.5);
        pen.fillRect(LEFT + (i % at.columns) * at.wide, at.top + Math.floor(i / at.columns) * at.high, at.wide - 1, at.high - 1);
      });
      pen.fillStyle = this.ink.ink, pen.fillText("numbers", LEFT - 6, at.height / 2);
      canvas.setAttribute("aria-label", `code of ${title}: ${code.length} numbers`);
      return;
    }
    const said = symbols(code, n_groups, n_symbols), deep = at.rows * at.high;
    for (let band = 0; band < at.bands; band++) {
      const bottom = band * at.band + at.top + deep;
      pen.fillStyle = this.ink.ink, pen.textAlign = "right";
      pen.fillText("entropy", LEFT - 6, bottom - deep - 11), pen.fillText("symbol", LEFT - 6, bottom - deep / 2), pen.fillText("group", LEFT - 6, bottom + 9);
      if (way) pen.fillText(`to ${this.about.factors[way.factor].name}`.slice(0, 9), LEFT - 6, bottom + 30);
    }
    for (let g = 0; g < n_groups; g++) {
      const [x, y] = this.corner(at, g, 0), bits = entropy(code.subarray(g * n_symbols, (g + 1) * n_symbols)) / Math.log2(n_symbols);
      pen.fillStyle = this.ink.accent, pen.fillRect(x + 1, y - 3 - 17 * bits, at.wide - 2, 17 * bits);
      for (let s = 0; s < n_symbols; s++) pen.fillStyle = colour(MAGMA, code[g * n_symbols + s]), pen.fillRect(x, y + s * at.high, at.wide - 0.5, at.high - 0.5);
      if (changed.includes(g)) pen.fillStyle = this.ink.mark, pen.fillRect(x + 1, y - 26, at.wide - 2, 4);
      pen.fillStyle = this.ink.faint, pen.textAlign = "center";
      if (at.wide >= 17 || g % 2 === 0) pen.fillText(g, x + at.wide / 2, y + deep + 9);
      if (way) pen.fillStyle = way.switches[g] ? this.ink.mark : this.ink.faint, pen.fillRect(x + 1, y + deep + 39 - 20 * way.most[g], at.wide - 2, 20 * way.most[g] + 0.5);
      if (edits?.[g] !== undefined) pen.strokeStyle = "#fff", pen.lineWidth = 2, pen.strokeRect(x + 1, y + said[g] * at.high + 1, at.wide - 2.5, at.high - 2.5);
    }
    if (this.cursor[name]) {
      const [x, y] = this.corner(at, ...this.cursor[name]);
      pen.strokeStyle = "#56b4e9", pen.lineWidth = 2, pen.strokeRect(x, y, at.wide - 0.5, at.high - 0.5);
    }
    canvas.setAttribute("aria-label", `code of ${title}: symbols ${said.join(" ")}. Arrow keys choose a cell, Enter sets its symbol, Backspace takes it back.`);
  }

  cell_at(network, event) { // group and symbol under the pointer, as they were painted
    const { at, width, code: canvas } = this.views[network.name];
    if (!at) return null;
    const box = canvas.getBoundingClientRect(), k = width / box.width;
    const [x, y] = [(event.clientX - box.left) * k - LEFT, event.clientY - box.top], band = Math.floor(y / at.band);
    const column = Math.floor(x / at.wide), symbol = Math.floor((y - band * at.band - at.top) / at.high), group = band * at.columns + column;
    return column >= 0 && column < at.columns && symbol >= 0 && symbol < at.rows && group < (network.n_groups || at.columns) ? [group, symbol] : null;
  }

  paint_way(network) {
    const { way } = this.found[network.name], { way: canvas, way_words: words } = this.views[network.name], { n_symbols, title } = network;
    canvas.hidden = words.hidden = !way;
    if (!way) return;
    const { name, names } = this.about.factors[way.factor], groups = way.order.slice(0, SHOWN_GROUPS), high = 18, pen = this.prepared(canvas, groups.length * high + 18);
    const wide = (canvas.parentElement.clientWidth - LEFT) / way.moved.length;
    groups.forEach((g, row) => {
      pen.fillStyle = this.ink.ink, pen.textAlign = "right", pen.fillText(n_symbols ? `group ${g}` : `z ${g}`, LEFT - 6, (row + 0.5) * high);
      let last = -1;
      way.moved.forEach((moved, t) => {
        pen.fillStyle = colour(VIRIDIS, moved[g]), pen.fillRect(LEFT + t * wide, row * high, wide + 0.5, high - 1);
        if (!n_symbols) return;
        const symbol = argmax(way.codes[t].subarray(g * n_symbols, (g + 1) * n_symbols));
        if (symbol !== last && t) pen.fillStyle = "#d55e00", pen.fillRect(LEFT + t * wide - 1, row * high, 2, high - 1);
        if (symbol !== last && wide >= 9) pen.fillStyle = legible(VIRIDIS, moved[g]), pen.textAlign = "left", pen.fillText(symbol, LEFT + t * wide + 3, (row + 0.5) * high);
        last = symbol;
      });
    });
    const here = this.values[way.factor];
    pen.strokeStyle = this.ink.ink, pen.lineWidth = 1.5, pen.strokeRect(LEFT + here * wide, 0.5, wide, groups.length * high - 1);
    pen.fillStyle = this.ink.faint, pen.textAlign = "left", pen.fillText(names[0], LEFT, groups.length * high + 9);
    pen.textAlign = "right", pen.fillText(names[names.length - 1], LEFT + wide * names.length, groups.length * high + 9);
    const switching = way.switches.filter(Boolean).length;
    words.textContent = n_symbols
      ? `Along ${name}: ${switching} of ${way.switches.length} groups switch their symbol, ${way.switches.reduce((a, b) => a + b, 0)} times in all. Numbers: symbols; orange: switches; bright: far from the first value.`
      : `Along ${name}: the ${groups.length} numbers that move farthest; bright: six standard deviations from the first value.`;
    canvas.setAttribute("aria-label", `${title}: groups that answer to ${name}: ${groups.join(", ")}`);
  }

  // ------------------------------------------------ the map of codes

  async open_map() {
    const { details, choose } = this.map;
    if (!details.open) return;
    const name = choose.value || this.shown[0];
    if (!this.samples?.[name]) await this.update();
    if (!this.samples?.[name]) return;
    const n = this.samples[name].values.shape[0];
    for (let start = 0; start < n && details.open; start += 60) {
      this.tell(`Drawing the map: ${start} of ${n} images.`);
      await this.thumbnails(name, [...Array(Math.min(60, n - start)).keys()].map(i => start + i));
      await new Promise(requestAnimationFrame);
    }
    this.tell("");
    this.paint_map();
  }

  points() { // where the images of the sample stand, and where this one does: pixels
    const name = this.map.choose.value || this.shown[0], { axes, mean, vectors } = this.samples[name], width = mean.data.length;
    const project = code => [0, 1].map(k => { let sum = 0; for (let i = 0; i < width; i++) sum += (code[i] - mean.data[i]) * axes.data[k * width + i]; return sum; });
    const all = split(vectors).map(project), here = project(this.found[name].code);
    const limits = [0, 1].map(k => [Math.min(...all.map(p => p[k])), Math.max(...all.map(p => p[k]))]);
    const wide = this.map.canvas.parentElement.clientWidth, high = Math.min(420, wide * 0.65);
    const place = p => [12 + ((p[0] - limits[0][0]) / (limits[0][1] - limits[0][0] || 1)) * (wide - 24), 12 + ((p[1] - limits[1][0]) / (limits[1][1] - limits[1][0] || 1)) * (high - 24)];
    return { name, wide, high, all: all.map(place), here: place(here) };
  }

  paint_map() {
    const asked = this.map.choose.value || this.shown[0];
    if (!this.samples?.[asked] || !this.found[asked]) return;
    const { name, high, all, here } = (this.places = this.points()), pen = this.prepared(this.map.canvas, high), [rows, columns, channels] = this.about.image;
    const values = split(this.samples[name].values), most = this.about.factors[this.active].names.length - 1, small = document.createElement("canvas"), side = 20;
    pen.imageSmoothingEnabled = true;
    all.forEach(([x, y], i) => {
      const thumb = this.thumbs[values[i].join()];
      if (!thumb) return;
      show(small, thumb, [rows, columns, channels]);
      pen.drawImage(small, x - side / 2, y - side / 2, side, side);
      pen.strokeStyle = colour(VIRIDIS, values[i][this.active] / Math.max(most, 1)), pen.lineWidth = 1.5, pen.strokeRect(x - side / 2, y - side / 2, side, side);
    });
    const ring = (x, y, r, style) => { pen.beginPath(), pen.arc(x, y, r, 0, 7), pen.strokeStyle = style, pen.lineWidth = 3, pen.stroke(); };
    for (const [, row] of this.found[name].near) ring(...all[row], 15, "#56b4e9");
    ring(...here, 9, "#d55e00");
    if (this.chosen !== undefined) ring(...all[this.chosen], 18, this.ink.ink);
    pen.textAlign = "left";
  }
  land(event) {
    if (!this.places) return;
    const box = this.map.canvas.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = this.places.all.map(([a, b]) => Math.hypot(a - x, b - y)), row = argmax(far.map(d => -d));
    if (far[row] < 20) this.chosen = row, this.go([...split(this.samples[this.places.name].values)[row]], event);
  }
  step(event) {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!this.places || (!by && event.key !== "Enter")) return;
    event.preventDefault();
    const values = split(this.samples[this.places.name].values);
    if (by) this.chosen = ((this.chosen ?? 0) + by + values.length) % values.length, this.paint_map();
    else if (this.chosen !== undefined) this.go([...values[this.chosen]], event);
    this.say(this.about.factors.map(({ name, names }, i) => `${name} ${names[values[this.chosen ?? 0][i]]}`).join(", "));
  }

  // What is shown, as numbers.
  state() {
    const { values, tau, shown, found, active } = this;
    return { values, tau: tau ?? this.soft?.tau ?? 1, shown, active, found: Object.fromEntries(shown.map(name => [name, found[name]])), times: this.times, part: this.part() };
  }
}

function symbols(code, n_groups, n_symbols) {
  return Array.from({ length: n_groups }, (_, g) => argmax(code.subarray(g * n_symbols, (g + 1) * n_symbols)));
}

// ---------------------------------------------------------------- where it stands

// In Jupyter, by anywidget.
function render({ model, el }) {
  const instrument = new Instrument(el.appendChild(document.createElement("div")), new Kernel(model), { show: model.get("shown") });
  instrument.start();
  return () => instrument.stop?.();
}

// On a page: in every element that asks for it.
if (import.meta.url.startsWith("http"))
  for (const element of document.querySelectorAll("[data-instrument]")) {
    const root = document.createElement("div"), { instrument: world, show: shown } = element.dataset;
    element.replaceChildren(root);
    new Instrument(root, new Page(import.meta.url, world), { show: shown?.split(" ") }).start().catch(error => { root.textContent = `The instrument cannot be shown: ${error.message}`; });
  }

export default { render };
