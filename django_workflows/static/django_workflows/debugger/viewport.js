// The part of a drawing that is seen: moved by dragging, scaled by wheel, pinch or call.

const [SMALLEST, LARGEST] = [0.15, 3];
// Px between a box that is shown and the edge.
const AROUND = 28;
const clamp = (value) => Math.min(LARGEST, Math.max(SMALLEST, value));

// How much smaller than asked for a drawing may become when all of it is in sight then.
const YIELD = 0.8;

/**
 * Make an SVG's layer movable. The edges beyond which there is more are named in the canvas's data-more.
 *
 * @param {SVGSVGElement} canvas
 * @param {SVGGElement} layer gets the transform
 * @param {() => {x, y, width, height}} bounds of what is drawn, in px of the layer
 * @returns {{fit, zoom, pan, reveal, lead, scale, destroy}}
 */
export function createViewport(canvas, layer, bounds) {
  let [x, y, scale] = [0, 0, 1];
  // Nothing can be fitted while the canvas is hidden; it is done when it appears.
  let fitted = false;
  let touched = false;
  let least = SMALLEST;
  let led = null;
  const pointers = new Map();

  function apply() {
    layer.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${scale.toFixed(3)})`);
    const box = bounds();
    const beyond = { left: -(box.x * scale + x), top: -(box.y * scale + y),
      right: (box.x + box.width) * scale + x - canvas.clientWidth, bottom: (box.y + box.height) * scale + y - canvas.clientHeight };
    canvas.dataset.more = Object.keys(beyond).filter((edge) => beyond[edge] > 1).join(" ");
  }

  /** Show all; or, where that would be much smaller than `smallest`, the upper part of it in this scale. */
  function fit(smallest = SMALLEST) {
    least = smallest;
    const { clientWidth: width, clientHeight: height } = canvas;
    const box = bounds();
    touched = false;
    fitted = width > 0 && height > 0 && box.width > 0;
    if (!fitted) return;
    const margin = 20;
    const whole = Math.min((width - 2 * margin) / box.width, (height - 2 * margin) / box.height, 1.1);
    scale = clamp(whole < least * YIELD ? least : whole);
    x = (width - box.width * scale) / 2 - box.x * scale;
    y = Math.max((height - box.height * scale) / 2, margin) - box.y * scale;
    apply();
    if (led && least > SMALLEST) reveal(led);
  }

  function zoom(factor, at = { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 }) {
    touched = true;
    const next = clamp(scale * factor);
    x = at.x - ((at.x - x) * next) / scale;
    y = at.y - ((at.y - y) * next) / scale;
    scale = next;
    apply();
  }

  function shift(dx, dy) {
    x += dx;
    y += dy;
    apply();
  }

  function pan(dx, dy) {
    touched = true;
    shift(dx, dy);
  }

  /** Move no further than it takes to see the box, and a little of what is around it. */
  function reveal(box) {
    const missing = (low, size, limit) => Math.max(AROUND - low, 0) || Math.min(limit - AROUND - low - size, 0);
    if (!canvas.clientWidth) return;
    shift(missing(box.x * scale + x, box.width * scale, canvas.clientWidth),
      missing(box.y * scale + y, box.height * scale, canvas.clientHeight));
  }

  /** Keep a box in sight, or none, until the reader has chosen a view. */
  function lead(box) {
    led = box;
    if (box && !touched) reveal(box);
  }

  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  };

  function onWheel(event) {
    event.preventDefault();
    if (event.shiftKey) pan(-(event.deltaX || event.deltaY), 0);
    else zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), place(event));
  }

  function onDown(event) {
    if (event.button === 0) pointers.set(event.pointerId, place(event));
  }

  function onMove(event) {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    pointers.set(event.pointerId, now);
    if (pointers.size === 1) {
      if (!canvas.hasPointerCapture(event.pointerId)) canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("is-panning");
      pan(now.x - before.x, now.y - before.y);
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) || 1;
      pan((now.x - before.x) / 2, (now.y - before.y) / 2);
      zoom(distance(now, other) / distance(before, other), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    }
  }

  function onUp(event) {
    pointers.delete(event.pointerId);
    if (!pointers.size) canvas.classList.remove("is-panning");
  }

  const listeners = { wheel: onWheel, pointerdown: onDown, pointermove: onMove, pointerup: onUp, pointercancel: onUp, lostpointercapture: onUp };
  for (const [name, listener] of Object.entries(listeners)) canvas.addEventListener(name, listener, { passive: false });
  // A panel that grows keeps the whole graph in sight, until its reader has chosen a view.
  const observer = new ResizeObserver(() => { if (!fitted || !touched) fit(least); });
  observer.observe(canvas);

  return { fit, zoom, pan, reveal, lead, scale: () => scale, destroy: () => observer.disconnect() };
}
