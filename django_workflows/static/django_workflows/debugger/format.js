// Times and ids as people read them. Pure.

/** A length of time in milliseconds: "340 ms", "2.4 s", "3 min 05 s", "2 h 10 min", "4 d 3 h". */
export function duration(milliseconds) {
  if (!(milliseconds >= 0)) return "–";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const [minutes, hours, days] = [Math.floor(seconds / 60), Math.floor(seconds / 3600), Math.floor(seconds / 86400)];
  if (hours < 1) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  if (days < 1) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${days} d ${hours % 24} h`;
}

const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** A time of day in the reader's own time, "20:00:08": alike in all places, and in columns one below the other. */
export const clock = (date) => date.toTimeString().slice(0, 8);

/** A moment in the reader's own time; its date only when that is not today. */
export function moment(iso, now = new Date()) {
  if (!iso) return "–";
  const date = new Date(iso);
  return date.toDateString() === now.toDateString() ? clock(date) : `${day.format(date)}, ${clock(date)}`;
}

/** The number of milliseconds that a run has taken, until now when it has not ended. */
export function elapsed(handler, now = Date.now()) {
  return (handler.completed_at ? Date.parse(handler.completed_at) : now) - Date.parse(handler.started_at);
}

/** An id in few letters: its beginning and its end. */
export const short = (id) => (id.length > 14 ? `${id.slice(0, 6)}…${id.slice(-4)}` : id);
