// The line of an edge once one of its nodes has been moved; where the layout puts nodes, lines are the server's (routes.py).

const round = (value) => Math.round(value * 10) / 10;
const move = (x, y) => `M${round(x)} ${round(y)}`;
const line = (x, y) => `L${round(x)} ${round(y)}`;
const curve = (...values) => `C${values.map(round).join(" ")}`;
// How far inside its source a line down begins, since not every outline reaches down to the end of its box.
const INSIDE = 6;

/**
 * Route an edge.
 *
 * @param {{x, y, width, height}} from box of the source
 * @param {{x, y, width, height}} to box of the target, the same one for a loop
 * @returns {{path: string, middle: {x, y}}} the path ends at the target's border; middle is a place for a label
 */
export function route(from, to) {
  if (from === to) return loop(from);
  if (to.y >= from.y + from.height + 12) return downwards(from, to);
  const gap = Math.max(to.x - from.x - from.width, from.x - to.x - to.width);
  return gap > 24 ? sideways(from, to) : around(from, to);
}

const middleX = (box) => box.x + box.width / 2;
const middleY = (box) => box.y + box.height / 2;

function downwards(from, to) {
  const [x1, y1, x2, y2] = [middleX(from), from.y + from.height, middleX(to), to.y];
  const half = (y1 + y2) / 2;
  return { path: move(x1, y1 - INSIDE) + line(x1, y1) + curve(x1, half, x2, half, x2, y2), middle: { x: (x1 + x2) / 2, y: half } };
}

function sideways(from, to) {
  const right = to.x > from.x;
  const [x1, y1] = [right ? from.x + from.width : from.x, middleY(from)];
  const [x2, y2] = [right ? to.x : to.x + to.width, middleY(to)];
  const half = (x1 + x2) / 2;
  return { path: move(x1, y1) + curve(half, y1, half, y2, x2, y2), middle: { x: half, y: (y1 + y2) / 2 } };
}

/** Out of the right side, along a line beside both, and into the right side. */
function around(from, to) {
  const [x1, y1, x2, y2] = [from.x + from.width, middleY(from), to.x + to.width, middleY(to)];
  const side = Math.max(x1, x2) + 22;
  const turn = Math.sign(y2 - y1) * Math.min(10, Math.abs(y2 - y1) / 2);
  const corner = (x, y, ...end) => curve(x, y, x, y, ...end);
  const path = move(x1, y1) + line(side - 10, y1) + corner(side, y1, side, y1 + turn) + line(side, y2 - turn) + corner(side, y2, side - 10, y2) + line(x2, y2);
  return { path, middle: { x: side, y: (y1 + y2) / 2 } };
}

function loop(box) {
  const [x, y] = [box.x + box.width, middleY(box)];
  const reach = Math.min(box.height * 0.3, 12);
  return { path: move(x, y + reach) + curve(x + 32, y + reach + 10, x + 32, y - reach - 10, x, y - reach),
    middle: { x: x + 26, y } };
}
