/** Where the nodes of the picture stand: in layers, from the agents to the mods that only other mods ask. Pure. */

/** @typedef {import("./live.js").Edge} Edge */
/** @typedef {{id: string, layer: number, x: number, y: number}} Place */

export const SHOWN = 40; // mods; the quiet ones are left out where there are more

/**
 * Choose which mods are shown: those with the most traffic, and those that something is wrong with.
 *
 * @param {{id: string, rate: number, weight: number, order: number}[]} mods `weight`: how bad its problem is, 0 without one
 * @param {Edge[]} edges
 * @returns {string[]}
 */
export function chosen(mods, edges) {
  if (mods.length <= SHOWN) return mods.map((mod) => mod.id);
  /** @type {Map<string, number>} */
  const traffic = new Map();
  for (const [from, to, rate] of edges) {
    for (const end of [from, to]) traffic.set(end, (traffic.get(end) ?? 0) + rate);
  }
  const weight = (/** @type {typeof mods[number]} */ mod) =>
    mod.weight * 1e6 + (traffic.get(`mod:${mod.id}`) ?? mod.rate);
  return [...mods]
    .sort((one, other) => weight(other) - weight(one) || one.order - other.order)
    .slice(0, SHOWN)
    .sort((one, other) => one.order - other.order)
    .map((mod) => mod.id);
}

/**
 * Find the mods that no event passes: they stand below the others, out of the way of the edges.
 *
 * @param {string[]} ids
 * @param {Edge[]} edges
 * @returns {string[]}
 */
export function quiet(ids, edges) {
  const busy = new Set(edges.flatMap(([from, to]) => [from, to]));
  return ids.filter((id) => id.startsWith("mod:") && !busy.has(id));
}

/**
 * Put nodes into layers, and the layers' nodes into an order in which few edges cross.
 *
 * @param {string[]} ids
 * @param {Edge[]} edges
 * @returns {string[][]}
 */
export function layers(ids, edges) {
  const known = new Set(ids);
  const inner = edges.filter(([from, to]) => known.has(from) && known.has(to) && from !== to);
  /** @type {Map<string, number>} */
  const depth = new Map(ids.map((id) => [id, id.startsWith("mod:") ? 1 : 0]));
  // A mod that agents ask stands in the first layer, also if mods ask it, too. The others stand behind who asks them.
  const asked = new Set(inner.filter(([from]) => !from.startsWith("mod:")).map(([, to]) => to));
  for (let turn = 0; turn < 4; turn++) {
    for (const [from, to] of inner) {
      if (!to.startsWith("mod:") || asked.has(to)) continue;
      depth.set(to, Math.max(depth.get(to) ?? 1, Math.min((depth.get(from) ?? 0) + 1, 4)));
    }
  }
  /** @type {string[][]} */
  const found = [];
  for (const id of ids) (found[depth.get(id) ?? 1] ??= []).push(id);
  const full = Array.from(found, (layer) => layer ?? []).filter((layer) => layer.length > 0);
  return ordered(full, inner);
}

/** @param {string[][]} found @param {Edge[]} edges */
function ordered(found, edges) {
  for (let turn = 0; turn < 3; turn++) {
    for (let at = 1; at < found.length; at++) {
      const before = new Map(
        found.slice(0, at).flatMap((layer) => layer.map((id, index) => [id, index / Math.max(layer.length, 1)])),
      );
      const middle = new Map(
        found[at]?.map((id, index) => [id, centre(id, edges, before) ?? index / Math.max(found[at]?.length ?? 1, 1)]),
      );
      found[at]?.sort((one, other) => (middle.get(one) ?? 0) - (middle.get(other) ?? 0));
    }
  }
  return found;
}

/** @param {string} id @param {Edge[]} edges @param {Map<string, number>} places */
function centre(id, edges, places) {
  const at = edges
    .filter(([, to]) => to === id)
    .map(([from]) => places.get(from))
    .filter((place) => place !== undefined);
  return at.length === 0 ? null : at.reduce((sum, place) => sum + place, 0) / at.length;
}

/**
 * @param {string[][]} found layers
 * @param {string[]} below what stands below them
 * @param {{width: number, height: number, isUpright: boolean, nodeWidth: number, nodeHeight: number}} room `height`: at least
 * @returns {{places: Place[], height: number}}
 */
export function placed(found, below, room) {
  const { width, nodeWidth, nodeHeight } = room;
  const across = Math.max(1, Math.floor((width + 14) / (nodeWidth + 14)));
  const rows = Math.ceil(below.length / across);
  const under = rows * (nodeHeight + 14);
  const { places, height } = room.isUpright
    ? upright(found, room)
    : sideways(found, { ...room, height: room.height - under });
  const step = across > 1 ? (width - nodeWidth) / (across - 1) : 0;
  below.forEach((id, index) => {
    const x = nodeWidth / 2 + (index % across) * step;
    places.push({ id, layer: -1, x, y: height + nodeHeight / 2 + Math.floor(index / across) * (nodeHeight + 14) });
  });
  return { places, height: height + under + 6 };
}

/** Layers as columns; a long layer takes several. @param {string[][]} found @param {{width: number, height: number, nodeWidth: number, nodeHeight: number}} room */
function sideways(found, { width, height: least, nodeWidth, nodeHeight }) {
  const most = Math.max(3, Math.floor(width / (nodeWidth * 1.35)));
  const tall = Math.max(8, Math.ceil(found.flat().length / Math.max(most - 1, 1)));
  const columns = found.flatMap((layer, depth) => split(layer, tall).map((ids) => ({ ids, depth })));
  const rows = Math.max(...columns.map(({ ids }) => ids.length), 1);
  const step = nodeHeight + 18;
  const height = Math.max(rows * step + 20, least);
  const gap = columns.length > 1 ? (width - nodeWidth) / (columns.length - 1) : 0;
  /** @type {Place[]} */
  const places = [];
  columns.forEach(({ ids, depth }, column) => {
    const spread = Math.min(height / ids.length, step * 1.9);
    const top = (height - spread * (ids.length - 1)) / 2;
    ids.forEach((id, index) =>
      places.push({ id, layer: depth, x: column * gap + nodeWidth / 2, y: top + index * spread }),
    );
  });
  return { places, height };
}

/** Layers as rows, for a narrow page. @param {string[][]} found @param {{width: number, nodeWidth: number, nodeHeight: number}} room */
function upright(found, { width, nodeWidth, nodeHeight }) {
  const across = Math.max(1, Math.floor(width / (nodeWidth + 10)));
  /** @type {Place[]} */
  const places = [];
  let y = nodeHeight / 2 + 6;
  found.forEach((layer, depth) => {
    for (const ids of split(layer, across)) {
      ids.forEach((id, index) => places.push({ id, layer: depth, x: (width / ids.length) * (index + 0.5), y }));
      y += nodeHeight + 16;
    }
    y += 46;
  });
  return { places, height: y };
}

/** @template T @param {T[]} all @param {number} size @returns {T[][]} pieces of about the same length */
function split(all, size) {
  const count = Math.ceil(all.length / size);
  const each = Math.ceil(all.length / count);
  return Array.from({ length: count }, (_, index) => all.slice(index * each, (index + 1) * each));
}
