// The line of an edge between two boxes, as the data of an SVG path.

const round = (value) => Math.round(value * 10) / 10;
const move = (x, y) => `M${round(x)} ${round(y)}`;
const line = (x, y) => `L${round(x)} ${round(y)}`;
const curve = (...values) => `C${values.map(round).join(" ")}`;

/**
 * Route an edge.
 *
 * @param {{x, y, width, height}} from box of the source
 * @param {{x, y, width, height}} to box of the target
 * @param {{kind: string, via: {x, y}[], lane: number | null}} edge as the layout gives it
 * @param {boolean} moved whether either box has been moved since, so that via and lane hold no longer
 * @returns {{path: string, middle: {x, y}}} the path ends at the target's border; middle is a place for a label
 */
export function route(from, to, edge, moved = false) {
  if (edge.kind === "loop") return loop(from);
  const below = to.y >= from.y + from.height + 12;
  if (!moved && edge.kind === "back") return around(from, to, edge.lane, edge);
  if (below) return downwards(from, to, moved ? [] : edge.via);
  const gap = Math.max(to.x - from.x - from.width, from.x - to.x - to.width);
  if (gap > 24) return sideways(from, to);
  return around(from, to, Math.max(from.x + from.width, to.x + to.width) + 22);
}

const middleX = (box) => box.x + box.width / 2;
const middleY = (box) => box.y + box.height / 2;

function downwards(from, to, via) {
  const points = [{ x: middleX(from), y: from.y + from.height }, ...via, { x: middleX(to), y: to.y }];
  let path = move(points[0].x, points[0].y);
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    const half = (a.y + b.y) / 2;
    path += Math.abs(a.x - b.x) < 0.5 ? line(b.x, b.y) : curve(a.x, half, b.x, half, b.x, b.y);
  }
  const at = Math.floor((points.length - 1) / 2);
  return { path, middle: { x: (points[at].x + points[at + 1].x) / 2, y: (points[at].y + points[at + 1].y) / 2 } };
}

function sideways(from, to) {
  const right = to.x > from.x;
  const [x1, y1] = [right ? from.x + from.width : from.x, middleY(from)];
  const [x2, y2] = [right ? to.x : to.x + to.width, middleY(to)];
  const half = (x1 + x2) / 2;
  return { path: move(x1, y1) + curve(half, y1, half, y2, x2, y2), middle: { x: half, y: (y1 + y2) / 2 } };
}

/** Out of the right side, along the lane, and into the right side; or under and over what stands there. */
function around(from, to, lane, { under = false, over = false } = {}) {
  const start = { x: under ? from.x + from.width * 0.8 : from.x + from.width,
    y: under ? from.y + from.height : middleY(from) };
  const end = { x: over ? to.x + to.width * 0.8 : to.x + to.width, y: over ? to.y : middleY(to) };
  const corners = [start, { x: lane, y: start.y }, { x: lane, y: end.y }, end];
  if (under) corners.splice(1, 1, { x: start.x, y: start.y + 16 }, { x: lane, y: start.y + 16 });
  if (over) corners.splice(-2, 1, { x: lane, y: end.y - 16 }, { x: end.x, y: end.y - 16 });
  return { path: rounded(corners), middle: { x: lane, y: (start.y + end.y) / 2 } };
}

function rounded(corners) {
  let path = move(corners[0].x, corners[0].y);
  for (let i = 1; i + 1 < corners.length; i += 1) {
    const [before, corner, after] = corners.slice(i - 1, i + 2);
    const [enter, leave] = [towards(corner, before), towards(corner, after)];
    path += line(enter.x, enter.y) + curve(corner.x, corner.y, corner.x, corner.y, leave.x, leave.y);
  }
  return path + line(corners.at(-1).x, corners.at(-1).y);
}

function towards(corner, other) {
  const length = Math.hypot(other.x - corner.x, other.y - corner.y) || 1;
  const part = Math.min(10, length / 2) / length;
  return { x: corner.x + (other.x - corner.x) * part, y: corner.y + (other.y - corner.y) * part };
}

function loop(box) {
  const [x, y] = [box.x + box.width, middleY(box)];
  const reach = Math.min(box.height * 0.3, 12);
  return { path: move(x, y + reach) + curve(x + 32, y + reach + 10, x + 32, y - reach - 10, x, y - reach),
    middle: { x: x + 26, y } };
}
